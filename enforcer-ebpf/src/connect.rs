//! `cgroup/connect4` and `connect6`: every destination, loopback and own
//! addresses too, goes to the proxy or the resolver, or is refused at once.

use crate::caller;
use crate::ctx::{self, Family};
use crate::gate;
use crate::refuse::count_dns;
use crate::remember::{remember, verdict};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::{UDP, redirect};

#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V4, Hook::Connect4, try_connect(&ctx, Family::V4))
}

#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V6, Hook::Connect6, try_connect(&ctx, Family::V6))
}

#[inline(always)]
fn try_connect(ctx: &SockAddrContext, family: Family) -> Result<(), Reason> {
    let settings = gate::open(ctx.as_ptr())?;
    let (kind, protocol) = ctx::kind(ctx);
    let to = ctx::endpoint(ctx, family);
    let port = redirect(settings, kind, protocol, to.port).ok_or(Reason::Protocol)?;
    let caller = caller::current();
    remember(ctx, settings, &caller, to, protocol)?;
    ctx::redirect(ctx, family, &to.addr, port);
    // A stream is counted when it has a port and its SYN leaves (`sock_ops`): before that it can
    // still fail without a trace.
    if protocol == UDP {
        count_dns(caller.cgroup);
    }
    Ok(())
}
