//! Ways out, one row each: none leaves the host when governed, each does when not.

use enforcer_tests::probe::{Bench, PROXY, RESOLVER, gate, said, wire::Wire};
use std::sync::Arc;

/// Frames that show a datagram to 127.0.0.1 on its way out of the wire: an ARP request for it.
pub(super) const ARP_LOOPBACK: &[u8] = &[0, 0, 0, 0, 0, 0, 127, 0, 0, 1];

/// One way out.
pub(super) struct Way {
    /// Its row in the threat model.
    pub(super) name: &'static str,
    /// A program that sends `TOKEN`.
    code: &'static str,
    /// What the governed program gets told; several answers are separated by `|`.
    pub(super) told: &'static str,
}

const fn way(name: &'static str, told: &'static str, code: &'static str) -> Way {
    Way { name, code, told }
}

pub(super) const TCP: &[Way] = &[
    way("tcp4_connect", "ok", "s = socket(); s.connect((FAR4, FAR_PORT)); s.sendall(TOKEN)"),
    way(
        "tcp6_connect",
        "ok",
        "s = socket(AF_INET6); s.connect((FAR6, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "tcp6_v4mapped",
        "ok",
        "s = socket(AF_INET6); s.connect(('::ffff:' + FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "tcp4_nonblock",
        "ok",
        "s = socket(); s.setblocking(False); s.connect_ex((FAR4, FAR_PORT)); select.select([], [s], [], 3); s.send(TOKEN)",
    ),
    way(
        "tfo_sendto",
        "ok",
        "s = socket(); s.settimeout(None); s.sendto(TOKEN, 0x20000000, (FAR4, FAR_PORT)); s.shutdown(SHUT_WR); s.recv(9)",
    ),
    way(
        "tfo_connect",
        "ok",
        "s = socket(); s.setsockopt(6, 30, 1); s.connect((FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "mptcp_connect",
        "ok",
        "s = socket(AF_INET, SOCK_STREAM, 262); s.connect((FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "mptcp6_connect",
        "ok",
        "s = socket(AF_INET6, SOCK_STREAM, 262); s.connect((FAR6, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "tcp4_unspec_reconnect",
        "ok",
        "s = socket(); s.connect((FAR4, FAR_PORT)); checked(libc.connect(s.fileno(), bytes(16), 16)); s.connect((FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "tcp4_bindtodevice",
        "EPERM",
        "s = socket(); s.setsockopt(1, 25, b'wire'); s.connect((FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "tcp6_mapped_bindtodevice",
        "EPERM",
        "s = socket(AF_INET6); s.setsockopt(1, 25, b'wire'); s.connect(('::ffff:' + FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
    way(
        "tcp4_bind_wire_address",
        "EPERM",
        "s = socket(); s.bind((NEAR4, 0)); s.connect((FAR4, FAR_PORT)); s.sendall(TOKEN)",
    ),
];

pub(super) const UDP: &[Way] = &[
    way("udp4_sendto", "EPERM", "socket(AF_INET, SOCK_DGRAM).sendto(TOKEN, (FAR4, 9))"),
    way(
        "udp4_connect",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.connect((FAR4, 9)); s.send(TOKEN)",
    ),
    way("udp4_port443", "EPERM", "socket(AF_INET, SOCK_DGRAM).sendto(TOKEN, (FAR4, 443))"),
    way("udp4_port53", "ok", "socket(AF_INET, SOCK_DGRAM).sendto(TOKEN, (FAR4, 53))"),
    way(
        "udp4_sendto_unspec",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); checked(libc.sendto(s.fileno(), TOKEN, len(TOKEN), 0, sockaddr(0, FAR4, 9), 16))",
    ),
    way(
        "udp4_sendto_unspec_port53",
        "ok",
        "s = socket(AF_INET, SOCK_DGRAM); checked(libc.sendto(s.fileno(), TOKEN, len(TOKEN), 0, sockaddr(0, FAR4, 53), 16))",
    ),
    way(
        "udp4_connected_other_dst",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.connect((FAR4, 53)); s.sendto(TOKEN, (FAR4, 9))",
    ),
    way("udp6_sendto", "EPERM", "socket(AF_INET6, SOCK_DGRAM).sendto(TOKEN, (FAR6, 9))"),
    way(
        "udp6_connect",
        "EPERM",
        "s = socket(AF_INET6, SOCK_DGRAM); s.connect((FAR6, 9)); s.send(TOKEN)",
    ),
    way(
        "udp6_v4mapped",
        "EPERM",
        "socket(AF_INET6, SOCK_DGRAM).sendto(TOKEN, ('::ffff:' + FAR4, 9))",
    ),
    way(
        "udp6_v4mapped_port53",
        "ok",
        "socket(AF_INET6, SOCK_DGRAM).sendto(TOKEN, ('::ffff:' + FAR4, 53))",
    ),
    way(
        "udp6_v4mapped_connect",
        "EPERM",
        "s = socket(AF_INET6, SOCK_DGRAM); s.connect(('::ffff:' + FAR4, 9)); s.send(TOKEN)",
    ),
    way(
        "udp6sock_af_inet",
        "EPERM",
        "s = socket(AF_INET6, SOCK_DGRAM); checked(libc.sendto(s.fileno(), TOKEN, len(TOKEN), 0, sockaddr(2, FAR4, 9), 16))",
    ),
    way(
        "udp4_broadcast",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(1, 6, 1); s.sendto(TOKEN, ('10.77.0.255', 9))",
    ),
    way("udp4_multicast", "EPERM", "socket(AF_INET, SOCK_DGRAM).sendto(TOKEN, ('239.1.2.3', 9))"),
    way(
        "udp6_multicast",
        "EPERM",
        "socket(AF_INET6, SOCK_DGRAM).sendto(TOKEN, ('ff02::1', 9, 0, wire()))",
    ),
    way(
        "udp4_zerocopy",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(1, 60, 1); s.sendto(TOKEN, 0x4000000, (FAR4, 9))",
    ),
    way(
        "udp4_sendmmsg",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); sendmmsg(s, [(b'q', (FAR4, 53)), (TOKEN, (FAR4, 9))])",
    ),
    way(
        "daemonize_send",
        "ok",
        "daemonized(lambda: socket(AF_INET, SOCK_DGRAM).sendto(TOKEN, (FAR4, 9)))",
    ),
    way(
        "udplite_connect",
        "EPERM|EPROTONOSUPPORT",
        "s = socket(AF_INET, SOCK_DGRAM, 136); s.connect((FAR4, 9)); s.send(TOKEN)",
    ),
    way(
        "udplite_sendto",
        "EPERM|EPROTONOSUPPORT",
        "socket(AF_INET, SOCK_DGRAM, 136).sendto(TOKEN, (FAR4, 9))",
    ),
    way(
        "udplite6_connect",
        "EPERM|EPROTONOSUPPORT",
        "s = socket(AF_INET6, SOCK_DGRAM, 136); s.connect((FAR6, 9)); s.send(TOKEN)",
    ),
];

/// Where BPF LSM refuses rings, no ring is made; elsewhere its calls run the same hooks.
pub(super) const RINGS: &[Way] = &[
    way(
        "iouring_connect",
        "ok|EPERM",
        "s = socket(); ring(16, s.fileno(), 16, kept(sockaddr(2, FAR4, FAR_PORT)), 0); s.sendall(TOKEN)",
    ),
    way(
        "iouring_sendmsg",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); ring(9, s.fileno(), 0, kept(header(TOKEN, (FAR4, 9))), 1)",
    ),
];

pub(super) const STEERED: &[Way] = &[
    way(
        "udp4_bindtodevice",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(1, 25, b'wire'); s.sendto(TOKEN, (FAR4, 53))",
    ),
    way(
        "udp4_bindtoifindex",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(1, 62, wire()); s.sendto(TOKEN, (FAR4, 53))",
    ),
    way(
        "udp4_unicast_if",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(0, 50, struct.pack('!I', wire())); s.sendto(TOKEN, (FAR4, 53))",
    ),
    way(
        "udp4_pktinfo",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.sendmsg([TOKEN], [(0, 8, struct.pack('=III', wire(), 0, 0))], 0, (FAR4, 53))",
    ),
    way(
        "udp6_mapped_pktinfo",
        "EPERM",
        "s = socket(AF_INET6, SOCK_DGRAM); s.sendmsg([TOKEN], [(41, 50, inet_pton(AF_INET6, '::ffff:0.0.0.0') + struct.pack('=I', wire()))], 0, ('::ffff:' + FAR4, 53))",
    ),
    way(
        "udp6_srh",
        "EPERM",
        "s = socket(AF_INET6, SOCK_DGRAM); s.setsockopt(41, 57, bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + inet_pton(AF_INET6, FAR6)); s.sendto(TOKEN, ('fd99::1', 53))",
    ),
    way(
        "udp6_srh_connected",
        "EPERM",
        "s = socket(AF_INET6, SOCK_DGRAM); s.connect(('fd99::1', 53)); s.setsockopt(41, 57, bytes([0, 4, 4, 1, 1, 0, 0, 0]) + bytes(16) + inet_pton(AF_INET6, FAR6)); s.send(TOKEN)",
    ),
    way(
        "udp4_lsrr",
        "EPERM",
        "s = socket(AF_INET, SOCK_DGRAM); s.setsockopt(0, 4, bytes([131, 7, 4]) + inet_aton(FAR4) + b'\\0'); s.sendto(TOKEN, (FAR4, 53))",
    ),
];

pub(super) const RAW: &[Way] = &[
    way(
        "icmp_dgram_sendto",
        "EPERM",
        "socket(AF_INET, SOCK_DGRAM, 1).sendto(bytes([8, 0, 0, 0, 0, 0, 0, 0]) + TOKEN, (FAR4, 0))",
    ),
    way(
        "icmp6_dgram_sendto",
        "EPERM",
        "socket(AF_INET6, SOCK_DGRAM, 58).sendto(bytes([128, 0, 0, 0, 0, 0, 0, 0]) + TOKEN, (FAR6, 0))",
    ),
    way("raw_icmp", "EPERM", "socket(AF_INET, SOCK_RAW, 1).sendto(bytes(8) + TOKEN, (FAR4, 0))"),
    way("raw_tcp", "EPERM", "socket(AF_INET, SOCK_RAW, 6).sendto(bytes(20) + TOKEN, (FAR4, 0))"),
    way(
        "raw_connect",
        "EPERM",
        "s = socket(AF_INET, SOCK_RAW, 253); s.connect((FAR4, 0)); s.send(TOKEN)",
    ),
    way(
        "raw_hdrincl",
        "EPERM",
        "socket(AF_INET, SOCK_RAW, 255).sendto(bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 253, 0, 0]) + inet_aton(NEAR4) + inet_aton(FAR4) + TOKEN, (FAR4, 0))",
    ),
    way("raw6", "EPERM", "socket(AF_INET6, SOCK_RAW, 253).sendto(TOKEN, (FAR6, 0))"),
];

/// These need no socket on the packet: the address of the group is the message.
pub(super) const GROUPS: &[Way] = &[
    way(
        "igmp_join",
        "EPERM",
        "socket(AF_INET, SOCK_DGRAM).setsockopt(0, 35, b'\\xef' + TOKEN[-3:] + inet_aton(NEAR4))",
    ),
    way(
        "mld_join",
        "EPERM",
        "socket(AF_INET6, SOCK_DGRAM).setsockopt(41, 20, b'\\xff\\x05' + TOKEN[-14:] + struct.pack('=I', wire()))",
    ),
    way(
        "mld_join_source",
        "EPERM",
        "socket(AF_INET6, SOCK_DGRAM).setsockopt(41, 46, struct.pack('=II', wire(), 0) + struct.pack('=HHI', 10, 0, 0) + b'\\xff\\x05' + bytes(13) + b'\\7' + bytes(104) + struct.pack('=HHI', 10, 0, 0) + b'\\x20\\x01' + TOKEN[-14:] + bytes(104))",
    ),
];

/// What some ways use.
const HELPERS: &str = r#"
alive = []
def kept(data):
    alive.append(ctypes.create_string_buffer(data, len(data)))
    return ctypes.addressof(alive[-1])
def header(data, to):
    # struct msghdr: name, one vector, nothing else
    vector = kept(struct.pack('=QQ', kept(data), len(data)))
    return struct.pack('=QIxxxxQQQQIxxxx', kept(sockaddr(2, *to)), 16, vector, 1, 0, 0, 0)
def sendmmsg(s, messages):
    # Stops at the first that fails, and then says how many went.
    all = b''.join(header(data, to) + bytes(8) for data, to in messages)
    if checked(libc.sendmmsg(s.fileno(), ctypes.c_void_p(kept(all)), len(messages), 0)) < len(messages):
        raise OSError(errno.EPERM, 'the rest')
def daemonized(send):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: attempt(send)
        else: os.wait()
        os._exit(0)
    os.wait()
def ring(operation, fd, offset, address, count):
    # One request: struct io_uring_params, the two rings, the array of requests.
    import mmap
    p = ctypes.create_string_buffer(120)
    r = checked(libc.syscall(425, 4, p))
    w = struct.unpack('=30I', p.raw)
    sq, cq = mmap.mmap(r, w[16] + 4 * w[0]), mmap.mmap(r, w[25] + 16 * w[1], offset=0x8000000)
    requests = mmap.mmap(r, 64 * w[0], offset=0x10000000)
    requests[0:64] = struct.pack('=BBHiQQIIQ', operation, 0, 0, fd, offset, address, count, 0, 7) + bytes(24)
    sq[w[16]:w[16] + 4], sq[w[11]:w[11] + 4] = bytes(4), struct.pack('=I', 1)
    checked(libc.syscall(426, r, 1, 1, 1, None, 0))
    done, = struct.unpack('=i', cq[w[25] + 8:w[25] + 12])
    if done < 0: raise OSError(-done, 'ring')
"#;

/// One program that goes every way, each in a process of its own, and prints what it was told.
/// The token's end tells the ways apart: a group's address holds nothing else.
fn program(ways: &[Way], token: impl Fn(usize) -> String) -> String {
    let ways: Vec<&Way> = ways.iter().collect();
    processes(&ways, token, 100, "os.wait()")
}

/// The same. A way may take so many seconds; `then` is what follows its start, in Python.
pub(super) fn processes(
    ways: &[&Way],
    token: impl Fn(usize) -> String,
    seconds: u32,
    then: &str,
) -> String {
    let mut code = HELPERS.to_owned();
    for (number, way) in ways.iter().enumerate() {
        let lines = way.code.replace("; ", "\n    ");
        code.push_str(&format!(
            "if os.fork() == 0:
  libc.alarm({seconds})
  TOKEN = {:?}.encode()
  def go():
    global s
    {lines}
  print(attempt(go), flush=True)
  os._exit(0)
{then}
",
            token(number)
        ));
    }
    code
}

/// Goes every way governed, then free; the second shows that the first was a real attempt.
fn none_gets_out(ways: &[Way], shown: usize) {
    let bench = Bench::new();
    let wire = Wire::tap(&bench);
    let capture = Arc::new(bench.install());
    let _arrivals = gate::open(&capture, PROXY, RESOLVER);
    capture.beat();
    let token = |who: &str, number: usize| format!("token-of-a-probe-{who}{number:02}");
    let tail = |token: &str| token.as_bytes()[token.len() - shown.min(token.len())..].to_vec();
    let told = said(&mut bench.governed("agent", &program(ways, |number| token("g", number))));
    wire.settle();
    let mut wrong = Vec::new();
    if wire.saw(ARP_LOOPBACK) {
        wrong.push("127.0.0.1 was asked for on the wire".to_owned());
    }
    for (number, way) in ways.iter().enumerate() {
        if wire.saw(&tail(&token("g", number))) {
            wrong.push(format!("{}: got out", way.name));
        }
    }
    let expected: Vec<&str> = ways.iter().map(|way| way.told).collect();
    let told: Vec<&str> = told.lines().collect();
    let names = ways.iter().map(|way| way.name);
    for (name, (told, expected)) in names.zip(told.iter().zip(&expected)) {
        if !expected.split('|').any(|answer| answer == *told) {
            wrong.push(format!("{name}: was told {told}, not {expected}"));
        }
    }
    assert_eq!(told.len(), ways.len(), "{told:?}");
    let control = said(&mut bench.free(&program(ways, |number| token("f", number))));
    for ((number, way), told) in ways.iter().enumerate().zip(control.lines()) {
        // Newer kernels have no UDP-Lite at all, governed or not.
        if told == "EPROTONOSUPPORT" && way.told.contains(told) {
            continue;
        }
        if !wire.waits_for(&tail(&token("f", number))) {
            wrong.push(format!("{}: no proof, it did not get out free: {told}", way.name));
        }
    }
    capture.verify_attached().expect("the guards are still there");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tcp_goes_nowhere_but_to_the_proxy() {
    none_gets_out(TCP, 64);
}

#[test]
fn udp_goes_nowhere_but_to_the_resolver() {
    none_gets_out(UDP, 64);
}

#[test]
fn rings_go_nowhere_either() {
    none_gets_out(RINGS, 64);
}

#[test]
fn options_and_control_messages_do_not_steer_past_the_redirect() {
    none_gets_out(STEERED, 64);
}

#[test]
fn raw_and_ping_sockets_do_not_exist() {
    none_gets_out(RAW, 64);
}

#[test]
fn the_kernel_does_not_announce_groups_for_an_agent() {
    none_gets_out(GROUPS, 3);
}
