//! The harness: a host and "the rest of the world" as two network namespaces
//! joined by one wire, a governed cgroup tree, real servers and clients from
//! packages, and a sniffer on the wire between. The demo and the suites share it.
//!
//! Nothing here touches the machine's own network or cgroups: each [`world::World`]
//! makes what it needs under names of its own and removes it when dropped.

pub mod agents;
pub mod console;
pub mod daemon;
pub mod docker;
pub mod fixture;
pub mod har;
pub mod manager;
pub mod origin;
pub mod postgres;
pub mod probe;
pub mod servers;
pub mod storm;
pub mod systemd;
pub mod wait;
pub mod world;
