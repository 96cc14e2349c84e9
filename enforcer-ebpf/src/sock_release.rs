//! `cgroup/sock_release`: forgets a closed socket.
//!
//! The flow of a datagram socket goes with it. That of a stream socket stays:
//! the proxy may not have accepted the connection yet, and takes it when it does.

use crate::ALLOW;
use crate::maps::{FLOWS, SOCKETS};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use enforcer_common::matching::UDP;
use enforcer_common::socket::KEYED;

#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    // SAFETY: the helper takes the unmodified context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if let Some(entry) = SOCKETS.get_ptr(cookie) {
        // SAFETY: a live map value; the socket is being released, nobody else writes it.
        let entry = unsafe { &*entry };
        if entry.protocol == UDP && entry.state == KEYED {
            let key = entry.key;
            let _gone = FLOWS.remove(key);
        }
        let _gone = SOCKETS.remove(cookie);
    }
    ALLOW
}
