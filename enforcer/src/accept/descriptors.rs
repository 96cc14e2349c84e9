//! As many connections as the process may have descriptors for.
//!
//! Without one left nothing can be accepted, of any agent; so the bound lies below that, and each
//! agent's share of it with it.

use crate::config::Limits;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Of a connection: the client's, the upstream's.
const EACH: u64 = 2;
/// The store, the kernel half, listeners, look-ups and upstream connections that are kept.
const OTHERS: u64 = 256;

/// Takes as many descriptors as the system gives, and lowers the limits to what they suffice for.
pub fn fit(limits: &mut Limits) {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let files = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(_) => soft,
    };
    if lower(limits, files) {
        tracing::warn!(
            files,
            connections = limits.connections,
            connections_per_agent = limits.connections_per_agent,
            "too few descriptors for limits.connections, which is lowered; raise LimitNOFILE"
        );
    }
}

/// Whether the limits had to be lowered. Agents keep their share.
fn lower(limits: &mut Limits, files: u64) -> bool {
    // A small limit is divided, so that there is always a place.
    let usable = files.saturating_sub(OTHERS).max(files / 2) / EACH;
    let usable = usize::try_from(usable).unwrap_or(usize::MAX).max(1);
    if limits.connections <= usable {
        return false;
    }
    let share = limits.connections.div_ceil(limits.connections_per_agent.max(1)).max(2);
    limits.connections = usable;
    limits.connections_per_agent = limits.connections_per_agent.min((usable / share).max(1));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_keeps_its_share_of_what_there_is() {
        let mut limits = Limits::default();
        assert!(!lower(&mut limits, 1 << 20));
        assert_eq!((limits.connections, limits.connections_per_agent), (8_192, 1_024));
        assert!(lower(&mut limits, 1_024));
        assert_eq!((limits.connections, limits.connections_per_agent), (384, 48));
        // One agent that may have all: not when there is too little.
        let mut limits =
            Limits { connections: 100, connections_per_agent: 100, ..Limits::default() };
        assert!(lower(&mut limits, 100));
        assert_eq!((limits.connections, limits.connections_per_agent), (25, 12));
    }
}
