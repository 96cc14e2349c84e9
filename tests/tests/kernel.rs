//! The kernel half on a real kernel: what is redirected arrives with the right
//! name on it, and nothing else leaves.
//!
//! Needs root, python3 and iproute2. Each test has its own network namespaces,
//! cgroup and pins; each probe that must not get out is first shown to get out
//! when nothing governs it.

use enforcer_tests::probe::{Bench, OUTSIDE4, gate, said, wire::Wire};
use std::sync::Arc;

#[test]
fn a_connect_arrives_at_the_proxy_with_its_name_on_it() {
    let bench = Bench::new();
    let _wire = Wire::tap(&bench);
    let capture = Arc::new(bench.install());
    let arrivals = gate::open(&capture, 15_001, 15_053);
    capture.beat();
    let code = format!(
        "s = create_connection(('{OUTSIDE4}', 8080)); print(s.getpeername(), s.recv(9), os.getpid())"
    );
    let said = said(&bench.governed("coder/task-fix/run-1", &code));
    let pid = said.rsplit(' ').next().unwrap().to_owned();
    assert_eq!(said, format!("('{OUTSIDE4}', 8080) b'gate' {pid}"));
    let arrival = arrivals.recv().unwrap();
    let captured = arrival.captured.expect("an entry");
    assert_eq!(captured.orig, format!("{OUTSIDE4}:8080").parse().unwrap());
    let principal = captured.principal;
    assert_eq!(principal.host, "bench");
    assert_eq!(principal.agent.as_str(), "coder");
    assert_eq!(principal.task.as_deref(), Some("fix"));
    assert_eq!(principal.process.pid.to_string(), pid);
    assert_eq!(principal.process.uid, 0);
}
