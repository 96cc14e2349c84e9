//! `cgroup/getpeername4` and `getpeername6`: a program sees the peer that it
//! asked for. Correctness, not containment; the kernel wants 1.

use crate::ALLOW;
use crate::ctx::{self, Family};
use crate::recvmsg::show_asked;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use enforcer_common::matching::{TCP, UDP};

#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    show(&ctx, Family::V4);
    ALLOW
}

#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    show(&ctx, Family::V6);
    ALLOW
}

#[inline(always)]
fn show(ctx: &SockAddrContext, family: Family) {
    let (_, protocol) = ctx::kind(ctx);
    show_asked(ctx, family, if protocol == UDP { UDP } else { TCP });
}
