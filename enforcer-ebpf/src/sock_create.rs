//! `cgroup/sock_create`: which inet sockets may exist, and that they are bound
//! to the loopback interface: a second layer that holds without a packet
//! program. Runs for AF_INET and AF_INET6 only.

use crate::caller;
use crate::ctx::{field, set_field};
use crate::gate;
use crate::refuse::{Refused, refuse};
use crate::{ALLOW, DENY};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::socket_allowed;
use enforcer_common::names::LOOPBACK_IFINDEX;

#[cgroup_sock(sock_create)]
pub fn sock_create(ctx: SockContext) -> i32 {
    let Err(reason) = try_sock_create(&ctx) else {
        return ALLOW;
    };
    refuse(
        &caller::current(),
        &Refused {
            hook: Hook::SockCreate,
            reason,
            cookie: 0,
            addr: [0; 4],
            port: 0,
            protocol: field!(ctx.sock, protocol),
            detail: field!(ctx.sock, type_),
        },
    );
    DENY
}

#[inline(always)]
fn try_sock_create(ctx: &SockContext) -> Result<(), Reason> {
    gate::here(ctx.as_ptr())?;
    let family = field!(ctx.sock, family);
    let kind = field!(ctx.sock, type_);
    let protocol = field!(ctx.sock, protocol);
    if !socket_allowed(family, kind, protocol) {
        return Err(Reason::SocketType);
    }
    set_field!(ctx.sock, bound_dev_if)(LOOPBACK_IFINDEX);
    Ok(())
}
