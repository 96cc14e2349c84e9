//! Fail closed: no daemon, a stuck one, a full table, another namespace, a port that is not
//! theirs, and what stays attached when.

use enforcer::capture;
use enforcer_tests::probe::{Bench, DEADLINE, PROXY, RESOLVER, gate, said, wire::Wire};
use enforcer_tests::wait::eventually;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const CONNECT: &str = "print(attempt(lambda: create_connection((FAR4, FAR_PORT))))";

/// Refusals of all agents by reason.
fn refused(capture: &capture::Capture) -> BTreeMap<&'static str, u64> {
    capture.counters().into_iter().flat_map(|row| row.refused).collect()
}

#[test]
fn nothing_goes_before_the_first_beat() {
    let bench = Bench::new();
    let capture = bench.install();
    assert_eq!(said(&mut bench.governed("a", CONNECT)), "EPERM");
    assert_eq!(refused(&capture), BTreeMap::from([("stale-heartbeat", 1)]));
}

#[test]
fn a_stuck_daemon_means_an_error_at_once() {
    let mut bench = Bench::new();
    bench.config.kernel.heartbeat_limit_ms = 1_500;
    let capture = Arc::new(bench.install());
    let _arrivals = gate::open(&capture, PROXY, RESOLVER);
    let heart = Heart::beats(&capture);
    assert_eq!(said(&mut bench.governed("a", CONNECT)), "ok");
    drop(heart);
    eventually("the beat is old", DEADLINE, || {
        (said(&mut bench.governed("a", CONNECT)) == "EPERM").then_some(())
    });
    let send = "print(attempt(lambda: socket(AF_INET, SOCK_DGRAM).sendto(b'q', (FAR4, 53))))";
    assert_eq!(said(&mut bench.governed("a", send)), "EPERM");
    let _heart = Heart::beats(&capture);
    assert_eq!(said(&mut bench.governed("a", CONNECT)), "ok");
}

/// Beats until it is dropped, however slow the machine is.
struct Heart {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Heart {
    fn beats(capture: &Arc<capture::Capture>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (capture, stopped) = (Arc::clone(capture), Arc::clone(&stop));
        capture.beat();
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                capture.beat();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the heart only beats");
        }
    }
}

#[test]
fn a_dead_daemon_leaves_the_host_closed_and_the_next_one_takes_over() {
    let bench = Bench::new();
    let wire = Wire::tap(&bench);
    let first = bench.install();
    first.beat();
    drop(first);
    let token = "token-after-death";
    let code = format!(
        "print(attempt(lambda: create_connection((FAR4, FAR_PORT)).sendall({token:?}.encode())))"
    );
    assert_eq!(said(&mut bench.governed("a", &code)), "ECONNREFUSED");
    let send = format!(
        "print(attempt(lambda: socket(AF_INET, SOCK_DGRAM).sendto({token:?}.encode(), (FAR4, 9))))"
    );
    assert_eq!(said(&mut bench.governed("a", &send)), "EPERM");
    let pins = links(&bench);
    let second = Arc::new(bench.install());
    assert_eq!(links(&bench), pins, "the same links, never detached");
    second.verify_attached().unwrap();
    second.beat();
    let arrivals = gate::open(&second, PROXY, RESOLVER);
    assert_eq!(said(&mut bench.governed("a", CONNECT)), "ok");
    assert!(arrivals.recv().unwrap().captured.is_some());
    wire.settle();
    assert!(!wire.saw(token.as_bytes()));
    capture::detach(&bench.config).unwrap();
    assert!(second.verify_attached().is_err());
    assert_eq!(said(&mut bench.governed("a", &code)), "ok", "only a detach opens");
    assert!(wire.waits_for(token.as_bytes()));
}

/// Names and inodes of the pinned links.
fn links(bench: &Bench) -> BTreeMap<String, u64> {
    use std::os::unix::fs::MetadataExt as _;
    let list = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).expect("a directory");
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let mut found = BTreeMap::new();
    for pin in list(&bench.config.kernel.pin_dir.join("links")).iter().flat_map(|dir| list(dir)) {
        let name = pin.file_name().expect("a name").to_string_lossy().into_owned();
        found.insert(name, fs::metadata(&pin).expect("a pin").ino());
    }
    found
}

/// Programs that only some kernels have.
fn of_a_layer(pin: &str) -> bool {
    pin.starts_with("lsm_") || pin.ends_with("_unix")
}

#[test]
fn a_flow_waits_for_the_next_daemon() {
    let bench = Bench::new();
    let first = bench.install();
    first.beat();
    let listener = std::net::TcpListener::bind(("127.0.0.1", PROXY)).unwrap();
    let mut client = bench
        .governed("a", "s = create_connection((FAR4, 4242)); print(s.recv(9))")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (stream, peer) = listener.accept().unwrap();
    drop(first);
    let second = bench.install();
    let captured = second.take_tcp(peer).expect("the entry is still there");
    assert_eq!(captured.orig.port(), 4242);
    drop(stream);
    client.wait().unwrap();
}

#[test]
fn pins_are_private_and_complete() {
    use std::os::unix::fs::PermissionsExt as _;
    let bench = Bench::new();
    let _capture = bench.install();
    let cgroup: Vec<String> = links(&bench).into_keys().filter(|name| !of_a_layer(name)).collect();
    assert_eq!(cgroup.len(), 18, "{cgroup:?}");
    let dir = &bench.config.kernel.pin_dir;
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    capture::detach(&bench.config).unwrap();
    assert!(!dir.exists());
    capture::detach(&bench.config).expect("twice is no error");
}

#[test]
fn a_root_that_was_removed_is_noticed_and_guarded_again() {
    let bench = Bench::new();
    let first = bench.install();
    let before = links(&bench).len();
    fs::remove_dir(bench.root()).unwrap();
    fs::create_dir(bench.root()).unwrap();
    let error = first.verify_attached().unwrap_err().to_string();
    assert!(error.contains("was removed"), "{error}");
    drop(first);
    let second = bench.install();
    second.verify_attached().unwrap();
    assert_eq!(links(&bench).len(), before, "the dead links are gone");
    assert_eq!(said(&mut bench.governed("a", CONNECT)), "EPERM");
}

#[test]
fn an_unpinned_link_is_noticed() {
    let bench = Bench::new();
    let capture = bench.install();
    let dirs = fs::read_dir(bench.config.kernel.pin_dir.join("links")).unwrap();
    let dir = dirs.map(|dir| dir.unwrap().path()).next().unwrap();
    fs::remove_file(dir.join("connect4")).unwrap();
    let error = capture.verify_attached().unwrap_err().to_string();
    assert!(error.contains("connect4"), "{error}");
}

#[test]
fn a_full_table_refuses_and_a_closed_socket_makes_room() {
    let mut bench = Bench::new();
    bench.config.kernel.max_flows = 4;
    bench.config.kernel.max_flows_per_agent = Some(5);
    let capture = Arc::new(bench.install());
    let _arrivals = gate::open(&capture, PROXY, RESOLVER);
    capture.beat();
    let code = "
held = []
def one(): held.append(create_connection((FAR4, FAR_PORT)))
print(*[attempt(one) for _ in range(6)])
held.pop().close()
print(attempt(one))
";
    assert_eq!(said(&mut bench.governed("a", code)), "ok ok ok ok EPERM EPERM\nok");
    let row = capture.counters().into_iter().find(|row| row.agent.is_some()).unwrap();
    assert_eq!(row.agent.unwrap().as_str(), "a");
    assert_eq!(row.redirected, 5);
    assert_eq!(row.refused, BTreeMap::from([("flow-table-full", 2)]));
}

/// An agent's share is one for all that it runs, and closing makes room in it. What a socket took
/// is given back once, however often it connects.
#[test]
fn an_agent_has_a_share_of_the_table_and_leaves_the_rest_to_others() {
    let mut bench = Bench::new();
    bench.config.kernel.max_flows = 64;
    bench.config.kernel.max_flows_per_agent = Some(4);
    let capture = Arc::new(bench.install());
    let _arrivals = gate::open(&capture, PROXY, RESOLVER);
    capture.beat();
    let held = "
held = []
def one(): held.append(create_connection((FAR4, FAR_PORT)))
print(*[attempt(one) for _ in range(6)])
";
    let again = "
for _ in range(3):
    s = held.pop(); s.close()
    s = socket(); s.setblocking(False)
    for port in (1, 2, 3): s.connect_ex((FAR4, port))
    s.close()
    print(attempt(one))
print('ready', flush=True)
sys.stdin.read()
";
    let mut holder = bench.governed("a/run-1", &format!("{held}{again}"));
    let mut holder = holder
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("starts");
    let mut lines = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    assert_eq!(next(), "ok ok ok ok EPERM EPERM");
    assert_eq!([next(), next(), next()], ["ok", "ok", "ok"]);
    assert_eq!(next(), "ready");
    // Another cgroup of the same agent, and another agent.
    assert_eq!(said(&mut bench.governed("a/run-2", CONNECT)), "EPERM");
    assert_eq!(said(&mut bench.governed("b", held)), "ok ok ok ok EPERM EPERM");
    drop(holder.stdin.take());
    let _ended = holder.wait().expect("it ends");
    eventually("what it held is free", DEADLINE, || {
        (said(&mut bench.governed("a/run-2", CONNECT)) == "ok").then_some(())
    });
    let rows = capture.counters();
    let refused: u64 = rows.iter().filter_map(|row| row.refused.get("agent-flows-full")).sum();
    assert!(refused >= 5, "{rows:?}");
    assert!(rows.iter().all(|row| !row.refused.contains_key("flow-table-full")), "{rows:?}");
}

#[test]
fn counts_outlive_their_cgroup() {
    let bench = Bench::new();
    let capture = bench.install();
    said(&mut bench.governed("a/run-1", CONNECT));
    assert_eq!(refused(&capture), BTreeMap::from([("stale-heartbeat", 1)]));
    fs::remove_dir(bench.cgroup("a/run-1")).unwrap();
    said(&mut bench.governed("a/run-2", CONNECT));
    for _ in 0..2 {
        let row = capture.counters().into_iter().find(|row| row.agent.is_some()).unwrap();
        assert_eq!(row.refused, BTreeMap::from([("stale-heartbeat", 2)]));
    }
}

#[test]
fn every_refusal_is_told() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    let code = "
print(attempt(lambda: socket(AF_INET, SOCK_DGRAM).sendto(b'q', (FAR4, 443))))
print(attempt(lambda: socket(AF_INET, SOCK_RAW, 1)))
print(attempt(lambda: socket().setsockopt(1, 25, b'wire')))
print(attempt(lambda: socket().bind((NEAR4, 0))))
";
    assert_eq!(said(&mut bench.governed("a/task-t", code)), "EPERM\nEPERM\nEPERM\nEPERM");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut seen = Vec::new();
    for _ in 0..4 {
        let next = async { tokio::time::timeout(DEADLINE, capture.next_refusal()).await };
        let refusal = runtime.block_on(next).expect("a refusal");
        let principal = refusal.principal.expect("a name");
        assert_eq!(principal.agent.as_str(), "a");
        assert_eq!(principal.task.as_deref(), Some("t"));
        assert!(principal.process.comm.starts_with("python"));
        assert_eq!(refusal.dropped, 0);
        let to = refusal.destination.map(|to| to.to_string());
        seen.push((refusal.hook, refusal.reason, refusal.protocol, to));
    }
    assert_eq!(
        seen,
        [
            ("sendmsg4", "protocol", 17, Some("10.77.0.2:443".to_owned())),
            ("sock_create", "socket-type", 1, None),
            ("setsockopt", "socket-option", 0, None),
            ("bind4", "bind", 6, Some("10.77.0.1:0".to_owned())),
        ]
    );
}

#[test]
fn the_daemons_ports_cannot_be_squatted() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    let code = format!(
        "
def bind(family, kind, host, port):
    s = socket(family, kind)
    s.setsockopt(1, 2, 1)
    s.setsockopt(1, 15, 1)
    s.bind((host, port))
for port in ({PROXY}, {RESOLVER}):
    for family, hosts in ((AF_INET, ('127.0.0.1', '0.0.0.0')), (AF_INET6, ('::1', '::', '::ffff:127.0.0.1'))):
        for kind in (SOCK_STREAM, SOCK_DGRAM):
            for host in hosts:
                print(attempt(lambda: bind(family, kind, host, port)))
"
    );
    let answers = said(&mut bench.governed("a", &code));
    assert_eq!(answers.lines().count(), 20);
    assert!(answers.lines().all(|answer| answer == "EPERM"), "{answers}");
    let usual = "
for family, host in ((AF_INET, '0.0.0.0'), (AF_INET, '127.0.0.1'), (AF_INET6, '::'), (AF_INET6, '::1')):
    for kind in (SOCK_STREAM, SOCK_DGRAM):
        print(attempt(lambda: socket(family, kind).bind((host, 0))))
";
    let answers = said(&mut bench.governed("a", usual));
    assert!(answers.lines().all(|answer| answer == "ok"), "{answers}");
}

#[test]
fn another_network_namespace_is_refused() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    let code = "
checked(libc.unshare(0x40000000))
print(attempt(lambda: socket()), attempt(lambda: socket(AF_INET6, SOCK_DGRAM)))
";
    assert_eq!(said(&mut bench.governed("a", code)), "EPERM EPERM");
    assert_eq!(refused(&capture), BTreeMap::from([("other-network-namespace", 2)]));
    assert_eq!(said(&mut bench.free(code)), "ok ok");
}

#[test]
fn a_missing_layer_that_is_required_keeps_it_from_starting() {
    let mut bench = Bench::new();
    let layers = bench.install().layers();
    for layer in layers.iter().filter(|layer| layer.name != "cgroup") {
        bench.config.kernel.require = vec![layer.name.into()];
        match capture::install(&bench.config) {
            Ok(_) => assert!(layer.holds, "{layer:?}"),
            Err(error) => {
                assert!(!layer.holds, "{layer:?}: {error}");
                // The reason comes before what stays open.
                let reason = layer.detail.split(';').next().unwrap();
                assert!(error.to_string().contains(reason), "{error} without {reason}");
            }
        }
    }
    bench.config.kernel.require.clear();
    bench.config.kernel.pin_dir = "/tmp/enforcer-not-bpffs".into();
    let error = capture::install(&bench.config).err().unwrap().to_string();
    assert!(error.contains("bpf file system"), "{error}");
    bench.config.kernel.pin_dir = "/sys/fs/bpf/never-made".into();
    let refused = |bench: &Bench| capture::install(&bench.config).err().unwrap().to_string();
    let root = bench.config.governed.clone();
    bench.config.governed[0].cgroup = "/".into();
    assert!(refused(&bench).contains("root of all cgroups"));
    bench.config.governed = root.clone();
    bench.config.governed.extend(root.clone());
    bench.config.governed[1].cgroup.push_str("/inner");
    assert!(refused(&bench).contains("or inside"));
    bench.config.governed.clear();
    assert!(refused(&bench).contains("at least one"));
    bench.config.governed = root;
}
