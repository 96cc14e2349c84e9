use super::*;

const SETTINGS: Settings = Settings {
    netns: 1,
    heartbeat_limit_ns: 1,
    proxy_port: 15_001,
    dns_port: 15_053,
    max_agent_flows: 1,
    agent_level: 0,
};

fn v6(text: &str) -> Words {
    let addr: core::net::Ipv6Addr = text.parse().unwrap();
    words(&addr.octets())
}

#[test]
fn addresses_keep_their_bytes() {
    for text in ["::", "::1", "::ffff:127.0.0.1", "2001:db8::1:2:3", "fe80::1"] {
        let addr: core::net::Ipv6Addr = text.parse().unwrap();
        assert_eq!(bytes(&words(&addr.octets())), addr.octets(), "{text}");
    }
    assert_eq!(v6("::1"), LOOPBACK6);
    assert_eq!(v6("::ffff:127.0.0.1"), LOOPBACK_MAPPED);
    assert!(is_mapped(&v6("::ffff:8.8.8.8")));
    assert!(!is_mapped(&v6("::8.8.8.8")), "compatible is not mapped");
    assert!(!is_mapped(&v6("64:ff9b::8.8.8.8")));
}

#[test]
fn only_tcp_mptcp_and_udp_sockets_may_exist() {
    let table = [
        (AF_INET, SOCK_STREAM, 0, true),
        (AF_INET, SOCK_STREAM, TCP, true),
        (AF_INET6, SOCK_STREAM, MPTCP, true),
        (AF_INET6, SOCK_DGRAM, UDP, true),
        (AF_INET, SOCK_DGRAM, 0, true),
        (AF_INET, SOCK_DGRAM, 1, false),    // ping
        (AF_INET6, SOCK_DGRAM, 58, false),  // ping, IPv6
        (AF_INET, SOCK_DGRAM, 136, false),  // UDP-Lite
        (AF_INET, SOCK_STREAM, 132, false), // SCTP
        (AF_INET, 5, 132, false),           // SCTP, SEQPACKET
        (AF_INET, 6, 33, false),            // DCCP
        (AF_INET, 3, 255, false),           // raw
        (AF_INET, 3, TCP, false),           // raw that calls itself TCP
        (AF_INET, SOCK_STREAM, 256, false), // SMC
        (1, SOCK_STREAM, 0, false),
        (AF_INET, SOCK_STREAM, UDP, false),
    ];
    for (family, kind, protocol, want) in table {
        assert_eq!(socket_allowed(family, kind, protocol), want, "{family} {kind} {protocol}");
    }
}

#[test]
fn tcp_goes_to_the_proxy_dns_to_the_resolver_and_nothing_else_anywhere() {
    let go = |kind, protocol, port| redirect(&SETTINGS, kind, protocol, port);
    assert_eq!(go(SOCK_STREAM, TCP, 443), Some(15_001));
    assert_eq!(go(SOCK_STREAM, MPTCP, 443), Some(15_001));
    assert_eq!(go(SOCK_STREAM, TCP, 0), Some(15_001));
    assert_eq!(go(SOCK_STREAM, TCP, 53), Some(15_053));
    assert_eq!(go(SOCK_DGRAM, UDP, 53), Some(15_053));
    assert_eq!(go(SOCK_DGRAM, UDP, 443), None);
    assert_eq!(go(SOCK_DGRAM, 136, 53), None);
    assert_eq!(go(SOCK_DGRAM, 1, 53), None);
    assert_eq!(go(3, TCP, 443), None);
}

#[test]
fn the_gate_is_loopback_and_port_and_protocol() {
    let gate = |protocol, addr: &str, port| is_gate(&SETTINGS, protocol, &v6(addr), port);
    assert!(gate(TCP, "::ffff:127.0.0.1", 15_001));
    assert!(gate(TCP, "::1", 15_053));
    assert!(gate(UDP, "::ffff:127.0.0.1", 15_053));
    assert!(!gate(UDP, "::ffff:127.0.0.1", 15_001));
    assert!(!gate(TCP, "::ffff:127.0.0.2", 15_001));
    assert!(!gate(TCP, "::ffff:10.0.0.1", 15_001));
    assert!(!gate(TCP, "::1", 15_002));
    assert!(!gate(136, "::1", 15_053));
}

#[test]
fn binding_is_local_and_never_on_the_daemons_ports() {
    let bind = |addr: &str, port| bind_allowed(&SETTINGS, &v6(addr), port);
    for addr in ["::", "::ffff:0.0.0.0", "::1", "::ffff:127.0.0.1", "::ffff:127.9.9.9"] {
        assert!(bind(addr, 0), "{addr}");
        assert!(bind(addr, 8080), "{addr}");
        assert!(!bind(addr, 15_001), "{addr}");
        assert!(!bind(addr, 15_053), "{addr}");
    }
    for addr in ["::ffff:10.0.0.1", "2001:db8::1", "fe80::1", "ff02::1", "::ffff:224.0.0.1", "::2"]
    {
        assert!(!bind(addr, 0), "{addr}");
    }
}

#[test]
fn options_that_send_or_steer_are_refused_and_usual_ones_are_not() {
    let denied = [
        (1, 25),
        (1, 62),
        (1, 36),
        (1, 5), // device, mark, direct route
        (0, 35),
        (0, 39),
        (0, 41),
        (0, 42),
        (0, 46),
        (0, 48), // IGMP joins and filters
        (0, 4),
        (0, 50),
        (0, 3),
        (0, 19), // options, interface, header, transparent
        (41, 20),
        (41, 27),
        (41, 42),
        (41, 46),
        (41, 48), // MLD joins and filters, anycast
        (41, 57),
        (41, 5),
        (41, 6),
        (41, 50),
        (41, 54),
        (41, 59),
        (41, 76), // headers, steering
        (6, 19),  // repair
    ];
    for (level, option) in denied {
        assert!(sockopt_denied(level, option), "{level} {option}");
    }
    let allowed = [
        (1, 2),
        (1, 9),
        (1, 15),
        (1, 20),
        (1, 7), // REUSEADDR, KEEPALIVE, REUSEPORT, RCVTIMEO, SNDBUF
        (6, 1),
        (6, 4),
        (6, 13),
        (6, 30),
        (6, 31),
        (6, 23), // NODELAY, KEEPIDLE, CONGESTION, ULP ...
        (0, 1),
        (0, 2),
        (0, 8),
        (0, 10),
        (0, 11), // TOS, TTL, PKTINFO (receive), MTU, RECVERR
        (0, 33),
        (0, 34),
        (0, 49),
        (41, 18), // MULTICAST_TTL, LOOP, ALL, HOPS
        (41, 26),
        (41, 49),
        (41, 67),
        (41, 23),
        (41, 25), // V6ONLY, RECVPKTINFO, TCLASS, MTU, RECVERR
        (17, 103),
        (282, 1), // UDP_SEGMENT, TLS
    ];
    for (level, option) in allowed {
        assert!(!sockopt_denied(level, option), "{level} {option}");
    }
}

#[test]
fn families_are_unix_inet_and_look_ups_of_routes() {
    for (family, protocol) in [(1, 0), (2, 6), (10, 17), (16, 0)] {
        assert!(family_allowed(family, protocol), "{family} {protocol}");
    }
    // Netlink but routes (audit, netfilter, generic); packet, vsock, xdp, smc, alg, tipc, rds.
    for (family, protocol) in
        [(16, 9), (16, 12), (16, 16), (17, 0), (40, 0), (44, 0), (43, 0), (38, 0), (30, 0), (21, 0)]
    {
        assert!(!family_allowed(family, protocol), "{family} {protocol}");
    }
}

#[test]
fn only_look_ups_of_routes_pass() {
    // RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, NLMSG_DONE
    for kind in [18, 22, 26, 30, 3] {
        assert!(route_look_up(kind), "{kind}");
    }
    // RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, RTM_NEWADDR, RTM_NEWROUTE, RTM_NEWNEIGH
    for kind in [16, 17, 19, 20, 24, 28] {
        assert!(!route_look_up(kind), "{kind}");
    }
}
