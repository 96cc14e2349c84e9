//! The kernel half on a real kernel: what is redirected arrives with the right
//! name on it, and nothing else leaves.
//!
//! Needs root, python3 and iproute2. Each test has its own network namespaces,
//! cgroup and pins; each probe that must not get out is also shown to get out
//! when nothing governs it.

mod closed;
mod escapes;
mod identity;
mod inbound;
mod lsm;
mod names;
mod report;
mod states;
mod unix;
mod voices;
