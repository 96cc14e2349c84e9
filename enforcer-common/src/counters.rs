//! What the kernel half counts per cgroup.

use crate::event::REASONS;

/// Counts of one cgroup since its row was made; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// TCP connects whose SYN was sent to the proxy.
    pub tcp: u64,
    /// Of them those that ended before they were connections: nobody can accept them.
    pub unconnected: u64,
    /// UDP connects and sends that were sent to the resolver.
    pub dns: u64,
    /// Refusals, by [`crate::event::Reason`].
    pub refused: [u64; REASONS],
}

const _: () = assert!(size_of::<Counters>() == 24 + 8 * REASONS);

/// The row that counts for cgroups that found no row of their own.
pub const OTHERS: u64 = 0;
