//! Ways out that `enforcer doctor` tries, and the canary that sees what got out.
//!
//! [`probe`] sends a word by each way, as a process of its own; [`canary`]
//! listens on this host outside the governed tree. The verdict is the canary's
//! alone: what a probe believes does not count.

pub mod canary;
pub mod probe;

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// Where the canary listens, as the probes are told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Targets {
    /// An address of this host, not a loopback one where there is another.
    pub v4: Ipv4Addr,
    /// An IPv6 address of this host, likewise.
    pub v6: Ipv6Addr,
    /// TCP over IPv4.
    pub tcp4: u16,
    /// TCP over IPv6.
    pub tcp6: u16,
    /// UDP over IPv4.
    pub udp4: u16,
    /// UDP over IPv6.
    pub udp6: u16,
    /// UDP-Lite over IPv4; 0 without one.
    pub udplite: u16,
    /// An own loopback address with a listener on UDP 53, where one could be made.
    pub dns: Option<Ipv4Addr>,
    /// Whether a raw socket listens.
    pub raw: bool,
    /// A stream listener in the file system.
    pub unix_stream: PathBuf,
    /// A datagram socket in the file system.
    pub unix_datagram: PathBuf,
    /// A stream listener in the abstract namespace.
    pub unix_abstract: String,
}

/// IANA's number for experiments (RFC 3692), for the raw socket.
pub const RAW_PROTOCOL: i32 = 253;

/// One way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Its name; where there is one, the threat model's.
    pub name: &'static str,
    /// The layer that closes it.
    pub closed_by: &'static str,
}

/// Every way that is tried.
pub const WAYS: [Way; 17] = [
    ip("tcp4_connect"),
    ip("tcp4_loopback"),
    ip("tcp6_connect"),
    ip("tcp6_v4mapped"),
    ip("tfo_sendto"),
    ip("mptcp_connect"),
    ip("udp4_sendto"),
    ip("udp4_connect_send"),
    ip("udp4_port53"),
    ip("udp6_sendto"),
    ip("udp6_v4mapped"),
    ip("udplite_connect"),
    ip("raw_ipproto"),
    Way { name: "unix_path_stream", closed_by: "unix" },
    Way { name: "unix_path_dgram", closed_by: "unix" },
    Way { name: "unix_abstract", closed_by: "unix" },
    // Last: whoever got out of the cgroup stays out.
    Way { name: "cg_procs_escape", closed_by: "lsm" },
];

const fn ip(name: &'static str) -> Way {
    Way { name, closed_by: "cgroup" }
}
