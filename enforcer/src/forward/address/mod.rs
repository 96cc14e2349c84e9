//! Which addresses may be dialled: a pure decision on the address itself.
//!
//! Global unicast addresses may. Every special one (this host, private, link-local
//! and metadata, multicast, embedded IPv4, reserved) may only when the target names
//! it with a block that lies inside the special range: `10.0.0.0/8` names a private
//! address, `0.0.0.0/0` does not. An address that carries an IPv4 address inside must
//! pass for both.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Why an address is special.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// All zeroes, or "this network".
    Unspecified,
    /// The local host.
    Loopback,
    /// An address of one of this host's interfaces.
    OwnInterface,
    /// RFC 1918, or an IPv6 unique local address.
    Private,
    /// Carrier-grade NAT (RFC 6598).
    SharedSpace,
    /// Link-local; cloud metadata services live there.
    LinkLocal,
    /// A cloud provider's metadata or host service outside the link-local block.
    Metadata,
    /// Multicast.
    Multicast,
    /// Broadcast.
    Broadcast,
    /// Documentation.
    Documentation,
    /// Benchmarking (RFC 2544), where synthetic addresses lie by default.
    Benchmarking,
    /// One of this daemon's synthetic blocks.
    Synthetic,
    /// IPv4 inside IPv6: mapped, compatible, translated.
    EmbeddedV4,
    /// NAT64 (RFC 6052, RFC 8215).
    Nat64,
    /// 6to4 (RFC 3056) and its relays.
    SixToFour,
    /// Teredo (RFC 4380).
    Teredo,
    /// Reserved, protocol assignments, or no global unicast space.
    Reserved,
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "an unspecified address",
            Self::Loopback => "a loopback address",
            Self::OwnInterface => "an address of this host itself",
            Self::Private => "a private address",
            Self::SharedSpace => "a carrier-grade NAT address",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
            Self::Documentation => "a documentation address",
            Self::Benchmarking => "a benchmarking address",
            Self::Synthetic => "one of the daemon's synthetic addresses",
            Self::EmbeddedV4 => "an IPv6 address with an IPv4 address inside",
            Self::Nat64 => "a NAT64 address",
            Self::SixToFour => "a 6to4 address",
            Self::Teredo => "a Teredo address",
            Self::Reserved => "a reserved address",
        })
    }
}

/// An address that may not be dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {special}, which may be dialled only when the target's addresses name it")]
pub struct Forbidden {
    /// The address.
    pub address: IpAddr,
    /// What is special about it (for an embedded IPv4 address, about that).
    pub special: Special,
}

/// Decides whether `ip` may be dialled for a target that names `named`.
///
/// `own` are the addresses of this host's interfaces, `synthetic` the resolver's blocks.
pub fn check(
    ip: IpAddr,
    named: &[IpNet],
    own: &[IpAddr],
    synthetic: &[IpNet],
) -> Result<(), Forbidden> {
    let forbid = |special| Err(Forbidden { address: ip, special });
    if synthetic.iter().any(|net| net.contains(&ip)) {
        return forbid(Special::Synthetic);
    }
    let special = special_range(ip);
    if let Some((range, special)) = special {
        let is_named = named.iter().any(|net| net.contains(&ip) && range.contains(net));
        if !is_named {
            return forbid(special);
        }
    }
    let loopback = matches!(special, Some((_, Special::Loopback)));
    if own.contains(&ip) && !loopback && !named.iter().any(|n| n.contains(&ip) && is_narrow(n)) {
        return forbid(Special::OwnInterface);
    }
    match embedded_v4(ip) {
        Some(inner) => check(inner.into(), named, own, synthetic)
            .map_err(|inner| Forbidden { address: ip, special: inner.special }),
        None => Ok(()),
    }
}

/// A block that can mean one organisation's network, and not just "anywhere".
fn is_narrow(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => net.prefix_len() >= 8,
        IpNet::V6(net) => net.prefix_len() >= 32,
    }
}

/// The special range that an address lies in; `None` for global unicast.
pub fn special_range(ip: IpAddr) -> Option<(IpNet, Special)> {
    match ip {
        IpAddr::V4(ip) => V4
            .iter()
            .map(|(octets, len, special)| {
                (Ipv4Net::new_assert(Ipv4Addr::from_octets(*octets), *len), *special)
            })
            .find(|(net, _)| net.contains(&ip))
            .map(|(net, special)| (net.into(), special)),
        IpAddr::V6(ip) => V6
            .iter()
            .map(|(segments, len, special)| {
                (Ipv6Net::new_assert(Ipv6Addr::from_segments(*segments), *len), *special)
            })
            .find(|(net, _)| net.contains(&ip))
            .or_else(|| {
                // Only 2000::/3 is global unicast (RFC 4291, IANA's IPv6 address space).
                let outside = ip.segments()[0] & 0xe000 != 0x2000;
                // Not ::/0 as the range: a block that wide names nothing.
                outside.then(|| (Ipv6Net::new_assert(ip, 16).trunc(), Special::Reserved))
            })
            .map(|(net, special)| (net.into(), special)),
    }
}

/// The IPv4 address that a packet to this IPv6 address can end at.
fn embedded_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else {
        return None;
    };
    let segments = ip.segments();
    let pair = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match segments {
        // ::a.b.c.d, ::ffff:a.b.c.d, ::ffff:0:a.b.c.d; `::` and `::1` are no embedded addresses.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => {
            Some(pair(high, low))
        }
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(pair(high, low)),
        // RFC 8215 lets an operator choose the prefix length; /96 is what is used.
        [0x64, 0xff9b, 1, _, _, _, high, low] => Some(pair(high, low)),
        [0x2002, high, low, ..] => Some(pair(high, low)),
        // Teredo keeps the client's address inverted (RFC 4380, 4).
        [0x2001, 0, _, _, _, _, high, low] => Some(pair(!high, !low)),
        _ => None,
    }
}

/// IANA's IPv4 special-purpose registry, multicast, and metadata services at public addresses.
/// The first match counts, so narrow ranges stand before those around them.
const V4: &[([u8; 4], u8, Special)] = &[
    ([0, 0, 0, 0], 8, Special::Unspecified),
    ([10, 0, 0, 0], 8, Special::Private),
    // Alibaba Cloud's metadata service, inside the shared space.
    ([100, 100, 100, 200], 32, Special::Metadata),
    ([100, 64, 0, 0], 10, Special::SharedSpace),
    ([127, 0, 0, 0], 8, Special::Loopback),
    // Azure's host services, at a public address.
    ([168, 63, 129, 16], 32, Special::Metadata),
    ([169, 254, 0, 0], 16, Special::LinkLocal),
    ([172, 16, 0, 0], 12, Special::Private),
    // Oracle Cloud's metadata service (classic), inside the protocol assignments.
    ([192, 0, 0, 192], 32, Special::Metadata),
    ([192, 0, 0, 0], 24, Special::Reserved),
    ([192, 0, 2, 0], 24, Special::Documentation),
    ([192, 31, 196, 0], 24, Special::Reserved),
    ([192, 52, 193, 0], 24, Special::Reserved),
    ([192, 88, 99, 0], 24, Special::SixToFour),
    ([192, 168, 0, 0], 16, Special::Private),
    ([192, 175, 48, 0], 24, Special::Reserved),
    ([198, 18, 0, 0], 15, Special::Benchmarking),
    ([198, 51, 100, 0], 24, Special::Documentation),
    ([203, 0, 113, 0], 24, Special::Documentation),
    ([224, 0, 0, 0], 4, Special::Multicast),
    ([255, 255, 255, 255], 32, Special::Broadcast),
    ([240, 0, 0, 0], 4, Special::Reserved),
];

/// IANA's IPv6 special-purpose registry, and ranges that were given back.
const V6: &[([u16; 8], u8, Special)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 0], 128, Special::Unspecified),
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Special::Loopback),
    ([0, 0, 0, 0, 0, 0, 0, 0], 96, Special::EmbeddedV4),
    ([0, 0, 0, 0, 0, 0xffff, 0, 0], 96, Special::EmbeddedV4),
    ([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, Special::EmbeddedV4),
    ([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96, Special::Nat64),
    ([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, Special::Nat64),
    ([0x100, 0, 0, 0, 0, 0, 0, 0], 63, Special::Reserved),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, Special::Teredo),
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Special::Reserved),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Special::Documentation),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16, Special::SixToFour),
    ([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48, Special::Reserved),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Special::Documentation),
    ([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16, Special::Reserved),
    // Amazon's metadata and name services over IPv6, inside the unique local block.
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, Special::Metadata),
    // Google Cloud's metadata service over IPv6.
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 64, Special::Metadata),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Special::Private),
    ([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, Special::LinkLocal),
    ([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, Special::Reserved),
    ([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, Special::Multicast),
];

#[cfg(test)]
mod tests;
