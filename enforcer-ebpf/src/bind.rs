//! `cgroup/bind4`, `bind6`, `post_bind4` and `post_bind6`: local addresses
//! only, never the daemon's ports. `post_bind` looks at what was really bound,
//! so that a port that the kernel picked is checked too.

use crate::caller;
use crate::ctx::{self, Endpoint, Family, field};
use crate::gate;
use crate::refuse::{Refused, refuse};
use crate::remember::verdict;
use crate::{ALLOW, DENY};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::{bind_allowed, mapped};

#[cgroup_sock_addr(bind4)]
pub fn bind4(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V4, Hook::Bind4, try_bind(&ctx, Family::V4))
}

#[cgroup_sock_addr(bind6)]
pub fn bind6(ctx: SockAddrContext) -> i32 {
    verdict(&ctx, Family::V6, Hook::Bind6, try_bind(&ctx, Family::V6))
}

#[cgroup_sock(post_bind4)]
pub fn post_bind4(ctx: SockContext) -> i32 {
    let addr = mapped(field!(ctx.sock, src_ip4));
    post_bind(&ctx, Hook::Bind4, addr)
}

#[cgroup_sock(post_bind6)]
pub fn post_bind6(ctx: SockContext) -> i32 {
    let addr = [
        field!(ctx.sock, src_ip6[0]),
        field!(ctx.sock, src_ip6[1]),
        field!(ctx.sock, src_ip6[2]),
        field!(ctx.sock, src_ip6[3]),
    ];
    post_bind(&ctx, Hook::Bind6, addr)
}

#[inline(always)]
fn try_bind(ctx: &SockAddrContext, family: Family) -> Result<(), Reason> {
    check(ctx.as_ptr(), ctx::endpoint(ctx, family))
}

#[inline(always)]
fn check(ctx: *mut aya_ebpf::cty::c_void, at: Endpoint) -> Result<(), Reason> {
    let settings = gate::here(ctx)?;
    if bind_allowed(settings, &at.addr, at.port) { Ok(()) } else { Err(Reason::Bind) }
}

#[inline(always)]
fn post_bind(ctx: &SockContext, hook: Hook, addr: [u32; 4]) -> i32 {
    let port = field!(ctx.sock, src_port);
    let Err(reason) = check(ctx.as_ptr(), Endpoint { addr, port }) else {
        return ALLOW;
    };
    refuse(
        &caller::current(),
        &Refused {
            hook,
            reason,
            cookie: 0,
            addr,
            port,
            protocol: field!(ctx.sock, protocol),
            detail: field!(ctx.sock, type_),
        },
    );
    DENY
}
