//! What the kernel half decides from plain numbers. Pure, without allocation
//! or loops, so that the verifier takes it and the host tests it.
//!
//! Every answer that is not a clear yes is a no, except for socket options,
//! where a deny-list is the only list that programs can live with.

use crate::settings::Settings;

/// AF_INET.
pub const AF_INET: u32 = 2;
/// AF_INET6.
pub const AF_INET6: u32 = 10;
/// SOCK_STREAM.
pub const SOCK_STREAM: u32 = 1;
/// SOCK_DGRAM.
pub const SOCK_DGRAM: u32 = 2;
/// IPPROTO_TCP.
pub const TCP: u32 = 6;
/// IPPROTO_UDP.
pub const UDP: u32 = 17;
/// IPPROTO_MPTCP.
pub const MPTCP: u32 = 262;
/// The port of DNS, over UDP and TCP.
pub const DNS_PORT: u32 = 53;

/// An IPv6 address as four words in memory order, as BPF contexts show it. IPv4 is mapped.
pub type Words = [u32; 4];

/// Third word of a mapped address (`::ffff:0:0/96`).
const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
/// 127.0.0.1 in memory order.
pub const LOOPBACK4: u32 = u32::from_ne_bytes([127, 0, 0, 1]);
/// 127.0.0.1 in mapped form.
pub const LOOPBACK_MAPPED: Words = mapped(LOOPBACK4);
/// `::1`.
pub const LOOPBACK6: Words = [0, 0, 0, u32::from_ne_bytes([0, 0, 0, 1])];

/// The mapped form of an IPv4 address in memory order.
#[inline(always)]
pub const fn mapped(ip4: u32) -> Words {
    [0, 0, MAPPED, ip4]
}

/// Whether the address is IPv4 in mapped form.
#[inline(always)]
pub const fn is_mapped(addr: &Words) -> bool {
    addr[0] == 0 && addr[1] == 0 && addr[2] == MAPPED
}

/// Whether two addresses are equal (word by word: an array comparison becomes a call that BPF
/// does not have).
#[inline(always)]
pub const fn same(a: &Words, b: &Words) -> bool {
    a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3]
}

/// The address as bytes, for a record.
#[inline(always)]
pub const fn bytes(addr: &Words) -> [u8; 16] {
    let [a, b, c, d] = *addr;
    let [a, b, c, d] = [a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes()];
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
}

/// The address of a record, as words.
#[inline(always)]
pub const fn words(addr: &[u8; 16]) -> Words {
    let a = addr;
    [
        u32::from_ne_bytes([a[0], a[1], a[2], a[3]]),
        u32::from_ne_bytes([a[4], a[5], a[6], a[7]]),
        u32::from_ne_bytes([a[8], a[9], a[10], a[11]]),
        u32::from_ne_bytes([a[12], a[13], a[14], a[15]]),
    ]
}

/// Whether an inet socket of this type and protocol may exist.
///
/// MPTCP may: its first subflow is redirected like any TCP socket, the proxy answers without
/// MPTCP and the connection goes on as plain TCP. Refusing it would break programs that were
/// started under `mptcpize` or ask for it without a fallback. What it costs: `getpeername` of such
/// a socket shows the proxy, since the hook sees a cookie that connect never saw.
#[inline(always)]
pub const fn socket_allowed(family: u32, kind: u32, protocol: u32) -> bool {
    let inet = family == AF_INET || family == AF_INET6;
    let stream = kind == SOCK_STREAM && (protocol == 0 || protocol == TCP || protocol == MPTCP);
    let datagram = kind == SOCK_DGRAM && (protocol == 0 || protocol == UDP);
    inet && (stream || datagram)
}

/// Whether a governed process may have a socket of this family at all: unix and inet, which have
/// guards of their own, and routing netlink, of which only look-ups pass.
#[inline(always)]
pub const fn family_allowed(family: u32, protocol: u32) -> bool {
    match family {
        1 | AF_INET | AF_INET6 => true,
        // AF_NETLINK with NETLINK_ROUTE
        16 => protocol == 0,
        _ => false,
    }
}

/// Whether a routing message asks and changes nothing: the last two bits of its type say what it
/// does (include/uapi/linux/rtnetlink.h: new, delete, get, set), and types below 16 are control
/// messages.
#[inline(always)]
pub const fn route_look_up(kind: u16) -> bool {
    kind < 16 || kind & 3 == 2
}

/// The local port that a connect or send goes to instead; `None`: refused.
#[inline(always)]
pub const fn redirect(settings: &Settings, kind: u32, protocol: u32, port: u32) -> Option<u32> {
    let tcp = kind == SOCK_STREAM && (protocol == TCP || protocol == MPTCP);
    let udp = kind == SOCK_DGRAM && protocol == UDP;
    if (tcp || udp) && port == DNS_PORT {
        Some(settings.dns_port)
    } else if tcp {
        Some(settings.proxy_port)
    } else {
        None
    }
}

/// Whether an address and port are one of the daemon's listeners for this protocol.
#[inline(always)]
pub const fn is_gate(settings: &Settings, protocol: u32, addr: &Words, port: u32) -> bool {
    let local = same(addr, &LOOPBACK_MAPPED) || same(addr, &LOOPBACK6);
    let tcp = protocol == TCP && (port == settings.proxy_port || port == settings.dns_port);
    let udp = protocol == UDP && port == settings.dns_port;
    local && (tcp || udp)
}

/// Whether a governed process may bind this address and port (0: the kernel picks).
///
/// Loopback, and the wildcard: many clients bind it, and it reaches no further, because every
/// socket is bound to the loopback interface. Never one of the daemon's ports.
#[inline(always)]
pub const fn bind_allowed(settings: &Settings, addr: &Words, port: u32) -> bool {
    let [a, b, c, d] = *addr;
    let wildcard = (a | b | c | d) == 0 || same(addr, &mapped(0));
    let loopback = same(addr, &LOOPBACK6) || (is_mapped(addr) && d.to_ne_bytes()[0] == 127);
    let gate = port != 0 && (port == settings.proxy_port || port == settings.dns_port);
    (wildcard || loopback) && !gate
}

/// Whether a socket option is refused: it binds to a device, joins a group (the kernel then
/// sends reports whose content the caller chose), or adds a route or options to packets.
///
/// Numbers: include/uapi/asm-generic/socket.h, linux/in.h, linux/in6.h, linux/tcp.h.
#[inline(always)]
pub const fn sockopt_denied(level: i32, option: i32) -> bool {
    match level {
        // SOL_SOCKET: DONTROUTE, BINDTODEVICE, MARK, BINDTOIFINDEX
        1 => matches!(option, 5 | 25 | 36 | 62),
        // SOL_IP: HDRINCL, OPTIONS, ROUTER_ALERT, TRANSPARENT, MULTICAST_IF, group joins and
        // filters, UNICAST_IF. MULTICAST_{TTL,LOOP,ALL} send nothing, and Java sets the last one
        // on every datagram socket.
        0 => matches!(option, 3..=5 | 19 | 32 | 35..=48 | 50),
        // SOL_IPV6: 2292 packet options; MULTICAST_IF, joins, ROUTER_ALERT, anycast; HDRINCL;
        // group joins and filters; PKTINFO, HOPOPTS, RTHDRDSTOPTS, RTHDR, DSTOPTS;
        // TRANSPARENT, UNICAST_IF
        41 => matches!(
            option,
            2..=6 | 17 | 20..=22 | 27 | 28 | 36 | 42..=48 | 50 | 54 | 55 | 57 | 59 | 75 | 76
        ),
        // SOL_TCP: REPAIR (sets addresses and ports without a connect)
        6 => option == 19,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
