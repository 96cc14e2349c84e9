//! `cgroup/sendmsg4` and `sendmsg6`: a datagram with a destination of its own
//! goes to the resolver when it is a DNS query, and nowhere otherwise.

use crate::caller;
use crate::ctx::{self, Family};
use crate::gate;
use crate::maps::SOCKETS;
use crate::refuse::count_dns;
use crate::remember::{remember, verdict};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::{UDP, is_gate, is_mapped, redirect};

#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V4, Hook::Sendmsg4, try_sendmsg(&ctx, Family::V4))
}

#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V6, Hook::Sendmsg6, try_sendmsg(&ctx, Family::V6))
}

#[inline(always)]
fn try_sendmsg(ctx: &SockAddrContext, family: Family) -> Result<(), Reason> {
    let settings = gate::open(ctx.as_ptr())?;
    let (kind, protocol) = ctx::kind(ctx);
    let to = ctx::endpoint(ctx, family);
    if protocol != UDP {
        return Err(Reason::Protocol);
    }
    // A connected socket with a mapped peer sends as if it named that peer each time, and that
    // is the resolver since connect (udpv6_sendmsg). Without a connect, nothing is known of the
    // socket, and this is a destination like any other.
    if is_gate(settings, protocol, &to.addr, to.port) && SOCKETS.get_ptr(ctx::cookie(ctx)).is_some()
    {
        return Ok(());
    }
    // The kernel runs sendmsg4 for mapped addresses and cannot send to one after this hook
    // (udpv6_sendmsg answers ENOTSUPP).
    if family == Family::V6 && is_mapped(&to.addr) {
        return Err(Reason::Address);
    }
    let port = redirect(settings, kind, protocol, to.port).ok_or(Reason::Protocol)?;
    let caller = caller::current();
    remember(ctx, settings, &caller, to, protocol)?;
    ctx::redirect(ctx, family, &to.addr, port);
    count_dns(caller.cgroup);
    Ok(())
}
