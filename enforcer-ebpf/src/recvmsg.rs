//! `cgroup/recvmsg4` and `recvmsg6`: an answer of the resolver carries the
//! address that was asked. The kernel ignores the verdict of these hooks and
//! wants 1.

use crate::ALLOW;
use crate::ctx::{self, Endpoint, Family};
use crate::gate;
use crate::maps::SOCKETS;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::matching::{TCP, UDP, is_gate, words};

#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    show_asked(&ctx, Family::V4, UDP);
    ALLOW
}

#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    show_asked(&ctx, Family::V6, UDP);
    ALLOW
}

/// Replaces the daemon's address by the one that the socket asked for; leaves any other alone.
#[inline(always)]
pub fn show_asked(ctx: &SockAddrContext, family: Family, protocol: u32) {
    let Ok(settings) = gate::settings() else {
        return;
    };
    let from = ctx::endpoint(ctx, family);
    if !is_gate(settings, protocol, &from.addr, from.port) {
        return;
    }
    let Some(entry) = SOCKETS.get_ptr(ctx::cookie(ctx)) else {
        return;
    };
    // SAFETY: a live map value; an entry that is removed meanwhile gives a stale address to a
    // socket that is being closed.
    let (known, addr, port) =
        unsafe { ((*entry).protocol, words(&(*entry).flow.orig_addr), (*entry).flow.orig_port) };
    if known == protocol && (protocol == TCP || protocol == UDP) {
        // An address that does not fit the hook's family is left as it was.
        let _fits = ctx::set_endpoint(ctx, family, Endpoint { addr, port });
    }
}
