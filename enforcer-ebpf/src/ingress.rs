//! `cgroup_skb/ingress`: a governed socket receives only on the loopback
//! interface and only from the proxy or the resolver, so nobody outside can
//! fetch from a listener of an agent.

use crate::egress::drop_packet;
use crate::packet::{self, Packet};
use crate::{ALLOW, gate};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::is_gate;
use enforcer_common::names::LOOPBACK_IFINDEX;

#[cgroup_skb(ingress)]
pub fn ingress(ctx: SkBuffContext) -> i32 {
    let packet = packet::read(&ctx);
    let Err(reason) = try_ingress(&ctx, packet) else {
        return ALLOW;
    };
    drop_packet(&ctx, Hook::Ingress, reason, packet, |packet| packet.source)
}

#[inline(always)]
fn try_ingress(ctx: &SkBuffContext, packet: Option<Packet>) -> Result<(), Reason> {
    let settings = gate::settings()?;
    let packet = packet.ok_or(Reason::PacketIn)?;
    let from = packet.source;
    if packet::interface(ctx) == LOOPBACK_IFINDEX
        && is_gate(settings, packet.protocol, &from.addr, from.port)
    {
        Ok(())
    } else {
        Err(Reason::PacketIn)
    }
}
