//! `cgroup/sock_release`: forgets a closed socket.
//!
//! The flow of a datagram socket goes with it. That of a stream socket stays:
//! the proxy may not have accepted the connection yet, and takes it when it does.
//! Only one that is closed before it was a connection takes its flow along.

use crate::ctx::field;
use crate::maps::{FLOWS, SOCKETS};
use crate::refuse::count_unconnected;
use crate::{ALLOW, share};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use enforcer_common::matching::UDP;
use enforcer_common::socket::{KEYED, SYN_SENT};

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    let state = field!(ctx.sock, state);
    // SAFETY: the helper takes the unmodified context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if let Some(entry) = SOCKETS.get_ptr(cookie) {
        // SAFETY: a live map value; the socket is being released, nobody else writes it.
        let entry = unsafe { &*entry };
        let stream = entry.protocol != UDP;
        if entry.state == KEYED && (!stream || state == SYN_SENT) {
            let key = entry.key;
            let _gone = FLOWS.remove(key);
            if stream {
                count_unconnected(entry.flow.cgroup);
            }
        }
        let agent = entry.agent;
        let _gone = SOCKETS.remove(cookie);
        share::give_back(agent);
    }
    ALLOW
}
