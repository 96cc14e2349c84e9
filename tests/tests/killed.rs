//! `kill -9` of the daemon, the server and both, while requests are held and while
//! bodies stream: nothing leaves, nothing is lost, the transcripts verify.

use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::wait::eventually;
use enforcer_tests::world::FAR_V4;
use std::process::{Child, Stdio};
use std::time::Duration;

const PAY: &str = "https://api.test:8443/payments";

fn pay(all: &Fixture, body: &str) -> Child {
    all.deployment
        .governed("probe", "curl")
        .args(["-sS", "-k", "-m", "40", "-w", " %{http_code}", "-d", body, PAY])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn payments(all: &Fixture) -> usize {
    all.origin.seen().iter().filter(|seen| seen.path == "/payments").count()
}

/// A governed connect must fail; the same, ungoverned, gets out.
fn closed(all: &Fixture) {
    let url = format!("http://{FAR_V4}:8080/echo");
    let before = all.origin.seen().len();
    let out = all
        .deployment
        .governed("probe", "curl")
        .args(["-sS", "-m", "5", &url])
        .output()
        .expect("starts");
    assert!(!out.status.success(), "egress is open: {}", text(&out));
    assert_eq!(all.origin.seen().len(), before);
    let control =
        all.world.host.command("curl").args(["-sS", "-m", "5", &url]).output().expect("starts");
    assert!(control.status.success(), "the control does not get out: {}", text(&control));
}

#[test]
fn daemon_killed_while_a_request_is_held() {
    let mut all = Fixture::start();
    let held = pay(&all, "amount=1");
    let asked = all.deployment.pending("/payments");
    let id = asked["id"].as_str().expect("an id").to_owned();
    all.deployment.kill_daemon();
    let out = held.wait_with_output().expect("ends");
    assert!(!text(&out).ends_with(" 200"), "{}", text(&out));
    closed(&all);
    all.verify();
    // A decision that comes late frees nothing by itself.
    let out = all.deployment.review("alice", &["approve", &id, "--reason", "late", "--yes"]);
    assert_eq!(payments(&all), 0, "{}", text(&out));
    all.deployment.start_daemon();
    all.verify();
    assert_eq!(payments(&all), 0);
}

#[test]
fn daemon_killed_while_a_body_streams() {
    let mut all = Fixture::start();
    let mut streaming = all
        .deployment
        .governed("probe", "curl")
        .args(["-sSN", "-k", "-m", "60", "https://api.test:8443/slow"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut first = [0; 2];
    std::io::Read::read_exact(streaming.stdout.as_mut().expect("piped"), &mut first)
        .expect("it streams");
    all.deployment.kill_daemon();
    let out = streaming.wait_with_output().expect("ends");
    assert!(!out.status.success(), "curl must see that the body was cut");
    closed(&all);
    all.verify();
    all.deployment.start_daemon();
    all.verify();
    let out = all.deployment.transcripts(&["list", "--json"]);
    assert!(text(&out).contains("recovered"), "the cut flow is marked: {}", text(&out));
}

#[test]
fn server_killed_while_a_request_is_held() {
    let mut all = Fixture::start();
    let held = pay(&all, "amount=2");
    let asked = all.deployment.pending("/payments");
    let id = asked["id"].as_str().expect("an id").to_owned();
    all.deployment.kill_server();
    let out = held.wait_with_output().expect("ends");
    assert!(text(&out).ends_with(" 403"), "{}", text(&out));
    assert_eq!(payments(&all), 0);
    // While it is gone, the rest goes on and what needs a person is refused.
    assert!(all.curl(&["https://api.test:8443/people"]).ends_with(" 200"));
    assert!(all.curl(&["-d", "amount=3", PAY]).ends_with(" 403"));
    all.deployment.start_server(&all.world);
    let out =
        all.deployment.review("alice", &["approve", &id, "--reason", "after the restart", "--yes"]);
    assert!(out.status.success(), "no decision is lost with the server: {}", text(&out));
    let paid = eventually("the daemon is back at the server", Duration::from_secs(30), || {
        let out = pay(&all, "amount=2").wait_with_output().expect("ends");
        text(&out).ends_with(" 200").then_some(out)
    });
    assert_eq!(payments(&all), 1, "{}", text(&paid));
    all.verify();
}

#[test]
fn both_killed_while_a_request_is_held() {
    let mut all = Fixture::start();
    let held = pay(&all, "amount=4");
    all.deployment.pending("/payments");
    all.deployment.kill_daemon();
    all.deployment.kill_server();
    let out = held.wait_with_output().expect("ends");
    assert!(!text(&out).ends_with(" 200"), "{}", text(&out));
    closed(&all);
    all.verify();
    all.deployment.start_server(&all.world);
    all.deployment.start_daemon();
    all.verify();
    assert_eq!(payments(&all), 0);
    assert!(all.curl(&["https://api.test:8443/people"]).ends_with(" 200"));
}

#[test]
fn stopped_daemon_is_noticed() {
    let mut all = Fixture::start();
    let inside = all.deployment.governed_status("probe");
    assert!(inside.status.success(), "{}", text(&inside));
    assert!(
        text(&inside).contains("agent     probe: this process is governed"),
        "{}",
        text(&inside)
    );
    all.deployment.signal_daemon(nix::sys::signal::Signal::SIGSTOP);
    let asked = std::time::Instant::now();
    let out = all.deployment.status();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains("does not answer within 2 s"), "{}", text(&out));
    // The heartbeat's limit in this configuration is two seconds.
    eventually("connect fails at once", Duration::from_secs(10), || {
        let out = all
            .deployment
            .governed("probe", "curl")
            .args(["-sS", "-m", "1", "-w", "%{errormsg}", &format!("http://{FAR_V4}:8080/echo")])
            .output()
            .expect("starts");
        (!out.status.success() && !text(&out).contains("timed out")).then_some(())
    });
    assert!(all.origin.seen().is_empty());
    all.deployment.signal_daemon(nix::sys::signal::Signal::SIGCONT);
    eventually("it serves again", Duration::from_secs(10), || {
        all.curl(&["https://api.test:8443/people"]).ends_with(" 200").then_some(())
    });
    assert!(all.deployment.status().status.success());
    all.deployment.kill_daemon();
    let out = all.deployment.status();
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out).contains("reach nothing until the daemon is back"), "{}", text(&out));
}

/// The proxy's TCP port, established, on this host.
fn queued(all: &Fixture) -> bool {
    let out = all.world.host.command("ss").args(["-Htn", "state", "established"]).output();
    text(&out.expect("ss(8) starts")).contains("127.0.0.1:15001")
}

#[test]
fn what_connects_while_no_daemon_runs_waits_for_the_next_one() {
    let mut all = Fixture::start();
    let kept = all.deployment.manage();
    let all_sockets =
        ["control", "dns-tcp4", "dns-tcp6", "dns-udp4", "dns-udp6", "proxy4", "proxy6"];
    assert_eq!(kept, all_sockets);
    all.deployment.kill_daemon();
    let waiting = |url: &str| {
        all.deployment
            .governed("probe", "curl")
            .args(["-sS", "-k", "-m", "60", "-w", " %{http_code}", url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    };
    let by_address = waiting(&format!("http://{FAR_V4}:8080/echo"));
    let by_name = waiting("https://api.test:8443/people");
    eventually("the connection is in the queue", Duration::from_secs(20), || {
        queued(&all).then_some(())
    });
    assert!(all.origin.seen().is_empty(), "nothing leaves while no daemon runs");
    all.deployment.start_daemon();
    for client in [by_address, by_name] {
        let out = client.wait_with_output().expect("ends");
        assert!(text(&out).ends_with(" 200"), "{}", text(&out));
    }
    all.verify();
}

#[test]
fn restarts_lose_no_operation() {
    const REQUESTS: usize = 600;
    let mut all = Fixture::start();
    all.deployment.manage();
    let url = format!("http://{FAR_V4}:8080/echo?[1-{REQUESTS}]");
    let mut busy = all
        .deployment
        .governed("probe", "curl")
        // A connection for each.
        .args(["-sS", "-m", "120", "-H", "connection: close", "-o", "/dev/null"])
        .args(["-w", "%{http_code} %{errormsg}\\n", &url])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    for _ in 0..3 {
        let before = all.origin.seen().len();
        eventually("it goes on", Duration::from_secs(30), || {
            (all.origin.seen().len() > before + 10).then_some(())
        });
        assert!(busy.try_wait().expect("wait").is_none(), "too few requests to restart under");
        all.deployment.stop_daemon();
        all.deployment.start_daemon();
    }
    let out = busy.wait_with_output().expect("ends");
    let said = text(&out);
    let good = said.lines().filter(|line| line.trim() == "200").count();
    assert_eq!(
        good,
        REQUESTS,
        "{}",
        said.lines().filter(|l| l.trim() != "200").collect::<String>()
    );
    assert_eq!(all.origin.seen().len(), REQUESTS, "each once");
    all.verify();
}
