//! The few bytes of an IP packet that the backstop looks at.
//!
//! Anything unusual (fragments, IPv6 extension headers but the jumbo payload's,
//! other protocols, truncated packets) is `None`: the caller drops it.

use crate::ctx::field;
use aya_ebpf::helpers::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;
use core::mem::MaybeUninit;
use enforcer_common::matching::{TCP, UDP, Words, mapped};

/// IPPROTO_HOPOPTS: RFC 8200 section 4.3.
const HOP_BY_HOP: u32 = 0;
/// The Jumbo Payload option: RFC 2675 section 2.
const JUMBO_PAYLOAD: u8 = 0xc2;

/// One end of a packet.
#[derive(Clone, Copy)]
pub struct End {
    pub addr: Words,
    pub port: u32,
}

/// What was read.
#[derive(Clone, Copy)]
pub struct Packet {
    pub protocol: u32,
    pub source: End,
    pub destination: End,
    /// The first packet of a connection.
    pub opens: bool,
}

/// The index of the interface that the packet is on.
#[inline(always)]
pub fn interface(ctx: &SkBuffContext) -> u32 {
    field!(ctx.skb.skb, ifindex)
}

/// Reads the packet, which starts at its IP header.
#[inline(always)]
pub fn read(ctx: &SkBuffContext) -> Option<Packet> {
    let [first]: [u8; 1] = load(ctx, 0)?;
    match first >> 4 {
        4 => {
            let ip: [u32; 5] = load(ctx, 0)?;
            let bytes = ip[1].to_ne_bytes();
            // More-fragments flag or an offset: RFC 791 section 3.1.
            if u16::from_be_bytes([bytes[2], bytes[3]]) & 0x3fff != 0 {
                return None;
            }
            let protocol = u32::from(ip[2].to_ne_bytes()[1]);
            let at = u32::from(first & 15) * 4;
            if at < 20 {
                return None;
            }
            transport(ctx, at, protocol, mapped(ip[3]), mapped(ip[4]))
        }
        6 => {
            let ip: [u32; 10] = load(ctx, 0)?;
            let protocol = u32::from(ip[1].to_ne_bytes()[2]);
            let source = [ip[2], ip[3], ip[4], ip[5]];
            let destination = [ip[6], ip[7], ip[8], ip[9]];
            if protocol != HOP_BY_HOP {
                return transport(ctx, 40, protocol, source, destination);
            }
            // What the kernel itself puts before a segment above 64 KiB on a device with large
            // offloads (ip6_xmit, "BIG TCP"): eight bytes, and nothing in them but the length.
            let [next, more, option, length]: [u8; 4] = load(ctx, 40)?;
            if more != 0 || option != JUMBO_PAYLOAD || length != 4 {
                return None;
            }
            transport(ctx, 48, u32::from(next), source, destination)
        }
        _ => None,
    }
}

#[inline(always)]
fn transport(
    ctx: &SkBuffContext,
    at: u32,
    protocol: u32,
    source: Words,
    destination: Words,
) -> Option<Packet> {
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let ports: [u8; 4] = load(ctx, at)?;
    let opens = if protocol == TCP {
        let [flags]: [u8; 1] = load(ctx, at + 13)?;
        // SYN without ACK: RFC 9293 section 3.1.
        flags & 0x12 == 0x02
    } else {
        false
    };
    Some(Packet {
        protocol,
        source: End { addr: source, port: u32::from(u16::from_be_bytes([ports[0], ports[1]])) },
        destination: End {
            addr: destination,
            port: u32::from(u16::from_be_bytes([ports[2], ports[3]])),
        },
        opens,
    })
}

#[inline(always)]
fn load<T>(ctx: &SkBuffContext, at: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the buffer is exactly `T`, an array of integers, and is read only when the helper
    // filled it.
    unsafe {
        let done = bpf_skb_load_bytes(
            ctx.skb.skb.cast(),
            at,
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
        );
        (done == 0).then(|| value.assume_init())
    }
}
