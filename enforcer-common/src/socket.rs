//! What the kernel half remembers of one redirected socket, by its cookie.

use crate::flow::{FlowEntry, FlowKey};

/// The socket's flow is not in the table of flows yet (or not any more).
pub const UNKEYED: u32 = 0;
/// The socket's flow is in the table of flows, under [`SocketEntry::key`].
pub const KEYED: u32 = 1;
/// The flow could not be entered: nothing of it may leave.
pub const REFUSED: u32 = 2;

/// TCP states, include/net/tcp_states.h.
pub const SYN_SENT: u32 = 2;
/// The same: closed.
pub const CLOSE: u32 = 7;

/// One redirected socket; made at connect or send, removed when the socket is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SocketEntry {
    /// The caller and the destination that it asked for last.
    pub flow: FlowEntry,
    /// The agent in whose share it counts; 0 where it counts in none.
    pub agent: u64,
    /// Where the flow lies in the table of flows, when `state` is [`KEYED`].
    pub key: FlowKey,
    /// IPPROTO_TCP (6) or IPPROTO_UDP (17).
    pub protocol: u32,
    /// [`UNKEYED`], [`KEYED`] or [`REFUSED`].
    pub state: u32,
}

const _: () = assert!(size_of::<SocketEntry>() == 128);
