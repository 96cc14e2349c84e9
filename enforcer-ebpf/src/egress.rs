//! `cgroup_skb/egress`: the backstop. A packet of a governed socket leaves only
//! on the loopback interface and only to the proxy or the resolver; by interface
//! and address, never by address alone.

use crate::caller;
use crate::gate;
use crate::maps::{FLOWS, SOCKETS};
use crate::packet::{self, End, Packet};
use crate::refuse::{Refused, refuse};
use crate::{ALLOW, DENY};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::helpers::{bpf_get_socket_cookie, bpf_skb_cgroup_id};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::flow::FlowKey;
use enforcer_common::matching::{UDP, bytes, is_gate};
use enforcer_common::names::LOOPBACK_IFINDEX;
use enforcer_common::socket::{KEYED, REFUSED, SocketEntry};

#[cgroup_skb(egress)]
pub fn egress(ctx: SkBuffContext) -> i32 {
    let packet = packet::read(&ctx);
    let Err(reason) = try_egress(&ctx, packet) else {
        return ALLOW;
    };
    drop_packet(&ctx, Hook::Egress, reason, packet, |packet| packet.destination)
}

#[inline(always)]
fn try_egress(ctx: &SkBuffContext, packet: Option<Packet>) -> Result<(), Reason> {
    let settings = gate::settings()?;
    let packet = packet.ok_or(Reason::PacketOut)?;
    let End { addr, port } = packet.destination;
    if packet::interface(ctx) != LOOPBACK_IFINDEX
        || !is_gate(settings, packet.protocol, &addr, port)
    {
        return Err(Reason::PacketOut);
    }
    if packet.protocol == UDP {
        let (cookie, entry) = entry(ctx).ok_or(Reason::PacketOut)?;
        enter(cookie, entry, &packet)
    } else if packet.opens
        && let Some((_, entry)) = entry(ctx)
        // SAFETY: a live map value.
        && unsafe { (*entry).state } == REFUSED
    {
        Err(Reason::PortBusy)
    } else {
        Ok(())
    }
}

#[inline(always)]
fn entry(ctx: &SkBuffContext) -> Option<(u64, *mut SocketEntry)> {
    // SAFETY: the helper takes the unmodified context.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    Some((cookie, SOCKETS.get_ptr_mut(cookie)?))
}

/// Enters a datagram's flow under the source that it really has, so that the resolver finds it.
/// A source that belongs to another live socket (SO_REUSEPORT) is refused: the resolver could
/// not tell the two apart.
#[inline(always)]
fn enter(cookie: u64, entry: *mut SocketEntry, packet: &Packet) -> Result<(), Reason> {
    // SAFETY: a live map value; calls of this socket are the only writers.
    let entry = unsafe { &mut *entry };
    let key = FlowKey {
        netns: entry.key.netns,
        addr: bytes(&packet.source.addr),
        port: packet.source.port,
        protocol: UDP,
    };
    let flow = entry.flow;
    let Err(_) = FLOWS.insert(key, flow, u64::from(BPF_NOEXIST)) else {
        if entry.state == KEYED {
            let old = entry.key;
            let _gone = FLOWS.remove(old);
        }
        entry.key = key;
        entry.state = KEYED;
        return Ok(());
    };
    // SAFETY: a live map value.
    let owner = unsafe { FLOWS.get(key) }.ok_or(Reason::Full)?.cookie;
    if owner != cookie {
        return Err(Reason::PortBusy);
    }
    FLOWS.insert(key, flow, u64::from(BPF_ANY)).map_err(|_| Reason::Full)
}

/// Counts and reports a dropped packet.
#[inline(always)]
pub fn drop_packet(
    ctx: &SkBuffContext,
    hook: Hook,
    reason: Reason,
    packet: Option<Packet>,
    far: impl Fn(&Packet) -> End,
) -> i32 {
    // SAFETY: the helpers take the unmodified context.
    let (cgroup, cookie) =
        unsafe { (bpf_skb_cgroup_id(ctx.skb.skb), bpf_get_socket_cookie(ctx.as_ptr())) };
    let far_end = packet.as_ref().map(far);
    refuse(
        &caller::nobody(cgroup),
        &Refused {
            hook,
            reason,
            cookie,
            addr: far_end.map_or([0; 4], |end| end.addr),
            port: far_end.map_or(0, |end| end.port),
            protocol: packet.map_or(0, |packet| packet.protocol),
            detail: packet::interface(ctx),
        },
    );
    DENY
}
