//! Unix sockets by their owner: the agent's own, and those that the
//! configuration names. Here the peer is known, so its name is the one that it
//! was bound to, whatever path led to it.

use crate::task::{offsets, read, sock_agent};
use crate::unix::{Name, allowed, refuse_peer};
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::Hook;
use enforcer_common::kernel::Offsets;

#[lsm_cgroup(hook = "unix_stream_connect")]
pub fn lsm_unix_stream_connect(ctx: LsmContext) -> i32 {
    verdict(Hook::UnixConnect, ctx.arg(0), ctx.arg(1))
}

#[lsm_cgroup(hook = "unix_may_send")]
pub fn lsm_unix_may_send(ctx: LsmContext) -> i32 {
    let sock = |socket: u64| offsets().and_then(|o| read::<u64>(socket, o.socket_sk)).unwrap_or(0);
    verdict(Hook::UnixSend, sock(ctx.arg(0)), sock(ctx.arg(1)))
}

#[inline(always)]
fn verdict(hook: Hook, own: u64, other: u64) -> i32 {
    let mut name = Name::new();
    if try_peer(&mut name, own, other) == Some(true) {
        return ALLOW;
    }
    refuse_peer(hook, &name);
    DENY
}

#[inline(always)]
fn try_peer(name: &mut Name, own: u64, other: u64) -> Option<bool> {
    let o = offsets()?;
    let agent = sock_agent(o, own)?;
    if sock_agent(o, other) == Some(agent) {
        return Some(true);
    }
    bound_name(o, name, other)?;
    Some(allowed(name))
}

/// The name that a socket is bound to.
#[inline(always)]
fn bound_name(o: &Offsets, name: &mut Name, sock: u64) -> Option<()> {
    let address: u64 = read(sock, o.unix_address)?;
    let len: u32 = read(address, o.unix_address_len)?;
    name.fill(address.wrapping_add(u64::from(o.unix_address_name)), len)
}
