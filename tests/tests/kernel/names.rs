//! What the proxy and the resolver learn of a flow, and what the program sees of it.

use enforcer_tests::probe::{Bench, PROXY, RESOLVER, gate, said, wire::Wire};
use std::sync::Arc;

/// A bench with a beating heart and a gate.
macro_rules! running {
    ($bench:ident, $capture:ident, $arrivals:ident) => {
        let $bench = Bench::new();
        let $capture = Arc::new($bench.install());
        let $arrivals = gate::open(&$capture, PROXY, RESOLVER);
        $capture.beat();
    };
}

#[test]
fn a_connect_arrives_with_its_name_on_it() {
    running!(bench, capture, arrivals);
    let code =
        "s = create_connection((FAR4, FAR_PORT)); print(s.getpeername(), s.recv(9), os.getpid())";
    let words = said(&mut bench.governed("coder/task-fix/run-1", code));
    let pid = words.rsplit(' ').next().unwrap();
    assert_eq!(words, format!("('10.77.0.2', 8080) b'gate' {pid}"));
    let arrival = arrivals.recv().unwrap();
    assert_eq!((arrival.port, arrival.transport), (PROXY, "tcp"));
    let captured = arrival.captured.expect("an entry");
    assert_eq!(captured.orig, "10.77.0.2:8080".parse().unwrap());
    assert_ne!(captured.cookie, 0);
    let principal = captured.principal;
    assert_eq!(principal.host, "bench");
    assert_eq!(principal.agent.as_str(), "coder");
    assert_eq!(principal.task.as_deref(), Some("fix"));
    assert!(principal.cgroup.ends_with("/coder/task-fix/run-1"), "{}", principal.cgroup);
    let process = principal.process;
    assert_eq!(process.pid.to_string(), pid);
    assert_eq!((process.uid, process.gid), (0, 0));
    assert!(process.comm.starts_with("python"), "{}", process.comm);
    drop(capture);
}

#[test]
fn every_form_of_an_address_arrives_as_what_it_means() {
    running!(bench, _capture, arrivals);
    for (family, host, port, orig, seen, gate_port) in [
        ("AF_INET6", "fd77::2", 8080, "[fd77::2]:8080", "fd77::2", PROXY),
        ("AF_INET6", "::ffff:10.77.0.2", 443, "10.77.0.2:443", "::ffff:10.77.0.2", PROXY),
        ("AF_INET", "10.77.0.2", 53, "10.77.0.2:53", "10.77.0.2", RESOLVER),
        ("AF_INET", "127.0.0.1", 5432, "127.0.0.1:5432", "127.0.0.1", PROXY),
        ("AF_INET", "0.0.0.0", 80, "0.0.0.0:80", "0.0.0.0", PROXY),
        ("AF_INET", "10.77.0.1", 22, "10.77.0.1:22", "10.77.0.1", PROXY),
        ("AF_INET6", "::1", 80, "[::1]:80", "::1", PROXY),
        ("AF_INET", "169.254.169.254", 80, "169.254.169.254:80", "169.254.169.254", PROXY),
        ("AF_INET", "127.0.0.1", PROXY, "127.0.0.1:15001", "127.0.0.1", PROXY),
    ] {
        let code = format!(
            "s = socket({family}); s.connect(({host:?}, {port})); print(s.getpeername()[:2], s.recv(9))"
        );
        assert_eq!(
            said(&mut bench.governed("a", &code)),
            format!("({:?}, {port}) b'gate'", seen).replace('"', "'")
        );
        let arrival = arrivals.recv().unwrap();
        assert_eq!(arrival.port, gate_port, "{host}");
        assert_eq!(arrival.captured.expect(host).orig, orig.parse().unwrap());
    }
}

#[test]
fn mptcp_goes_on_as_tcp() {
    running!(bench, _capture, arrivals);
    for (family, host, orig) in
        [("AF_INET", "10.77.0.2", "10.77.0.2:443"), ("AF_INET6", "fd77::2", "[fd77::2]:443")]
    {
        // The peer's name is not checked: only the subflow has a cookie that is known, so the
        // program sees the proxy's address.
        let code = format!(
            "s = socket({family}, SOCK_STREAM, 262); s.connect(({host:?}, 443)); print(s.recv(9))"
        );
        assert_eq!(said(&mut bench.governed("a", &code)), "b'gate'");
        let captured = arrivals.recv().unwrap().captured.expect(host);
        assert_eq!(captured.orig, orig.parse().unwrap());
        assert_eq!(captured.principal.agent.as_str(), "a");
    }
}

#[test]
fn a_query_comes_back_under_the_address_that_was_asked() {
    running!(bench, _capture, arrivals);
    for (family, host, orig, connected) in [
        ("AF_INET", "10.77.0.2", "10.77.0.2:53", false),
        ("AF_INET", "8.8.8.8", "8.8.8.8:53", true),
        ("AF_INET6", "fd77::2", "[fd77::2]:53", false),
        ("AF_INET6", "2001:db8::53", "[2001:db8::53]:53", true),
        ("AF_INET6", "::ffff:10.77.0.2", "10.77.0.2:53", false),
        ("AF_INET6", "::ffff:10.77.0.2", "10.77.0.2:53", true),
    ] {
        let send = if connected {
            format!(
                "s.connect(({host:?}, 53)); s.send(b'q'); assert s.getpeername()[:2] == ({host:?}, 53)"
            )
        } else {
            format!("s.sendto(b'q', ({host:?}, 53))")
        };
        let code = format!(
            "s = socket({family}, SOCK_DGRAM); {send}; data, source = s.recvfrom(99); print(data, source[:2])"
        );
        assert_eq!(
            said(&mut bench.governed("a/task-t", &code)),
            format!("b'gate' ({host:?}, 53)").replace('"', "'")
        );
        let arrival = arrivals.recv().unwrap();
        assert_eq!((arrival.port, arrival.transport), (RESOLVER, "udp"));
        let captured = arrival.captured.expect(host);
        assert_eq!(captured.orig, orig.parse().unwrap());
        assert_eq!(captured.principal.task.as_deref(), Some("t"));
    }
}

#[test]
fn a_flow_is_taken_once_and_a_stranger_has_none() {
    running!(bench, capture, arrivals);
    let direct = format!("s = create_connection(('127.0.0.1', {PROXY})); print(s.recv(9))");
    said(&mut bench.free(&direct));
    assert!(arrivals.recv().unwrap().captured.is_none(), "a stranger is nobody");
    // Taken by the gate; the same end has nothing left.
    let code = "s = create_connection((FAR4, 80)); print(s.getsockname()[1]); s.recv(9)";
    let port: u16 = said(&mut bench.governed("a", code)).parse().unwrap();
    assert!(arrivals.recv().unwrap().captured.is_some());
    assert!(capture.take_tcp(([127, 0, 0, 1], port).into()).is_none());
    // A process directly in the root belongs to no agent.
    said(&mut bench.governed(".", code));
    assert!(arrivals.recv().unwrap().captured.is_none());
}

#[test]
fn a_port_that_is_used_again_never_carries_the_name_before() {
    running!(bench, _capture, arrivals);
    for round in 0..20 {
        let agent = format!("agent-{round}");
        let code = format!(
            "s = socket(); s.setsockopt(1, 2, 1); s.bind(('127.0.0.1', 40404)); s.connect((FAR4, {})); s.recv(9); s.setsockopt(1, 13, struct.pack('ii', 1, 0)); s.close()",
            1000 + round
        );
        said(&mut bench.governed(&agent, &code));
        let captured = arrivals.recv().unwrap().captured.expect("an entry");
        assert_eq!(captured.principal.agent.as_str(), agent);
        assert_eq!(captured.orig.port(), 1000 + round);
    }
}

#[test]
fn two_sockets_on_one_udp_port_are_not_mixed_up() {
    running!(bench, _capture, arrivals);
    let code = "
def open():
    s = socket(AF_INET, SOCK_DGRAM)
    s.setsockopt(1, 15, 1)
    s.bind(('127.0.0.1', 40405))
    return s
one, two = open(), open()
print(attempt(lambda: one.sendto(b'q', (FAR4, 53))), attempt(lambda: two.sendto(b'q', (FAR4, 53))))
# Answered, whichever of the two the kernel picked: the resolver has looked the flow up.
select.select([one, two], [], [])
one.close()
print(attempt(lambda: two.sendto(b'q', (FAR4, 53))))
";
    assert_eq!(said(&mut bench.governed("a", code)), "ok EPERM\nok");
    assert!(arrivals.recv().unwrap().captured.is_some());
}

#[test]
fn free_programs_are_left_alone() {
    running!(bench, _capture, _arrivals);
    let _wire = Wire::tap(&bench);
    let code = "s = create_connection((FAR4, FAR_PORT)); print(s.getpeername()[0])";
    assert_eq!(said(&mut bench.free(code)), "10.77.0.2");
}
