//! `sockops`: enters a connection into the table of flows before its SYN
//! leaves, when the local port is known and the cookie is still connect's.

use crate::ALLOW;
use crate::caller;
use crate::ctx::field;
use crate::maps::{FLOWS, SOCKETS};
use crate::refuse::{Refused, count_tcp, count_unconnected, refuse};
use crate::task;
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_NOEXIST, BPF_SOCK_OPS_STATE_CB, BPF_SOCK_OPS_STATE_CB_FLAG, BPF_SOCK_OPS_TCP_CONNECT_CB,
    bpf_sock_ops,
};
use aya_ebpf::helpers::bpf_get_socket_cookie;
use aya_ebpf::macros::sock_ops;
use aya_ebpf::programs::SockOpsContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::flow::FlowKey;
use enforcer_common::matching::{AF_INET, TCP, Words, bytes, mapped, words};
use enforcer_common::socket::{CLOSE, KEYED, REFUSED, SYN_SENT, SocketEntry, UNKEYED};

#[sock_ops]
pub fn sock_ops(ctx: SockOpsContext) -> u32 {
    match ctx.op() {
        BPF_SOCK_OPS_TCP_CONNECT_CB => enter(&ctx),
        BPF_SOCK_OPS_STATE_CB => leave(&ctx),
        _ => {}
    }
    ALLOW as u32
}

#[inline(always)]
fn entry(ctx: &SockOpsContext) -> Option<(u64, *mut SocketEntry)> {
    // SAFETY: the helper takes the unmodified context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    Some((cookie, SOCKETS.get_ptr_mut(cookie)?))
}

/// The connection's own end. Both forms are read before one is chosen: reads in the two arms of
/// a branch become one read through a computed pointer, which the verifier refuses.
#[inline(always)]
fn local(ops: *mut bpf_sock_ops) -> (Words, u32) {
    let ip4 = field!(ops, local_ip4);
    let ip6 = [
        field!(ops, local_ip6[0]),
        field!(ops, local_ip6[1]),
        field!(ops, local_ip6[2]),
        field!(ops, local_ip6[3]),
    ];
    let addr = if field!(ops, family) == AF_INET { mapped(ip4) } else { ip6 };
    (addr, field!(ops, local_port))
}

/// Before the SYN. Without a socket entry there is nothing to enter, and the proxy closes what
/// it cannot find; with one that cannot be entered, `egress` keeps the SYN.
#[inline(always)]
fn enter(ctx: &SockOpsContext) {
    let Some((cookie, entry)) = entry(ctx) else {
        return;
    };
    let (addr, port) = local(ctx.ops);
    // SAFETY: a live map value; connect wrote it just now, on this socket, in this call.
    let entry = unsafe { &mut *entry };
    let key = FlowKey { netns: entry.key.netns, addr: bytes(&addr), port, protocol: TCP };
    // The caller is in connect, and can exec as soon as that returns.
    if let Some(image) = task::offsets().and_then(task::current_image) {
        entry.flow.image = image;
    }
    // An entry that is there belongs to a connection that the proxy has not accepted: overwriting
    // it would give that connection's bytes to this caller.
    #[expect(clippy::needless_borrows_for_generic_args, reason = "a copy would take stack")]
    let entered = FLOWS.insert(key, &entry.flow, u64::from(BPF_NOEXIST));
    if entered.is_err() {
        entry.state = REFUSED;
        let refused = Refused {
            hook: Hook::SockOps,
            reason: Reason::PortBusy,
            cookie,
            addr: words(&entry.flow.orig_addr),
            port: entry.flow.orig_port,
            protocol: TCP,
            detail: port,
        };
        refuse(&caller::nobody(entry.flow.cgroup), &refused);
        return;
    }
    entry.key = key;
    entry.state = KEYED;
    count_tcp(entry.flow.cgroup);
    let flags = ctx.cb_flags() | BPF_SOCK_OPS_STATE_CB_FLAG;
    // Without the callback an entry of a failed connect waits for the daemon's sweep.
    let _set = ctx.set_cb_flags(flags as i32);
}

/// A connection that never came to be gives its entry back; one that did keeps it until the
/// proxy takes it.
#[inline(always)]
fn leave(ctx: &SockOpsContext) {
    if ctx.arg(0) != SYN_SENT || ctx.arg(1) != CLOSE {
        return;
    }
    let Some((_, entry)) = entry(ctx) else { return };
    // SAFETY: a live map value of this socket, which is being closed.
    let entry = unsafe { &mut *entry };
    if entry.state == KEYED {
        let key = entry.key;
        let _gone = FLOWS.remove(key);
        entry.state = UNKEYED;
        count_unconnected(entry.flow.cgroup);
    }
}
