//! One agent attacks the daemon: it is refused or slowed, another agent keeps its share,
//! nothing opens, memory stays bounded, and the kernel's counters agree with the transcripts.

use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::origin::{HTTP, HTTPS};
use enforcer_tests::storm::{self, ATTACKS, attack, memory};
use enforcer_tests::wait::eventually;
use enforcer_tests::world::FAR_V4;
use std::process::Output;
use std::time::{Duration, Instant};

/// How long one attack goes on, seconds.
const SECONDS: u32 = 3;
/// What another agent's request may take meanwhile.
const SHARE: Duration = Duration::from_secs(8);
/// What all attacks together may add to the daemon's own memory.
const GROWTH: u64 = 192 << 20;

const LIMITS: &str = "[limits]\nconnections = 400\nconnections_per_agent = 200\nhandshake_ms = 2000\n\
     [metrics]\nlisten = \"127.0.0.1:9464\"\n";

/// Another agent's request, which must be served.
fn other(all: &Fixture, while_what: &str) -> Duration {
    let begun = Instant::now();
    let out = all
        .deployment
        .governed("calm", "curl")
        .args(["-sS", "-k", "-m", "20", "-w", " %{http_code}"])
        .arg("https://api.test:8443/echo/calm")
        .output()
        .expect("starts");
    let took = begun.elapsed();
    assert!(text(&out).ends_with(" 200"), "during {while_what}: {}", text(&out));
    assert!(took < SHARE, "during {while_what}: {took:?}");
    took
}

/// The counts that differ between the kernel and the transcripts.
fn differences(all: &Fixture) -> Vec<String> {
    let mut command = all.deployment.enforcer();
    let out = command.args(["status", "--json", "--config"]).arg(&all.deployment.config).output();
    let out = out.expect("starts");
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    let records = status["records"].as_array().expect("records");
    assert!(!records.is_empty());
    let differ = records.iter().filter(|r| r["kernel"] != r["recorded"]);
    differ.map(ToString::to_string).collect()
}

/// The counts agree as soon as what was counted is written; says when they do not.
fn complete(all: &Fixture) -> Duration {
    let begun = Instant::now();
    let mut last = Vec::new();
    while begun.elapsed() < Duration::from_secs(45) {
        last = differences(all);
        if last.is_empty() {
            return begun.elapsed();
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    panic!("the kernel counted what no transcript tells of: {last:#?}");
}

fn ended(what: &str, out: &Output) -> String {
    assert!(out.status.success(), "{what}: {}", text(out));
    text(out).trim().to_owned()
}

#[test]
fn floods_and_slow_clients_take_nothing_from_others() {
    let all = Fixture::start_with(LIMITS);
    let sniffer = all.world.sniff_host();
    other(&all, "calm");
    let before = memory(all.deployment.daemon_pid());
    for name in ATTACKS {
        let child = attack(&all.deployment, "attacker", name, SECONDS);
        std::thread::sleep(Duration::from_millis(1_000));
        let (first, second) = (other(&all, name), other(&all, name));
        let said = ended(name, &child.wait_with_output().expect("ends"));
        println!("{name}: tried, failed {said}; another agent {first:?}, {second:?}");
    }
    let after = memory(all.deployment.daemon_pid());
    println!("memory {} MB, then {} MB", before >> 20, after >> 20);
    assert!(after < before + GROWTH, "the daemon's memory: {before}, then {after}");
    println!("counters agree after {:?}", complete(&all));
    let out = all.deployment.status();
    assert!(out.status.success(), "{}", text(&out));
    let metrics =
        all.world.host.command("curl").args(["-s", "http://127.0.0.1:9464/metrics"]).output();
    let metrics = text(&metrics.expect("starts"));
    let mut unexplained =
        metrics.lines().filter(|l| l.starts_with("enforcer_unexplained{")).peekable();
    assert!(unexplained.peek().is_some(), "{metrics}");
    assert!(unexplained.all(|line| line.ends_with(" 0")), "{metrics}");
    let packets = sniffer.stop();
    let stray = packets.iter().find(|packet| storm::stray(packet, &[HTTP, HTTPS]));
    assert!(stray.is_none(), "on the wire: {stray:02x?}");
    all.verify();
}

#[test]
fn counters_agree_with_the_transcripts_through_restarts() {
    let mut all = Fixture::start_with(LIMITS);
    for managed in [false, true] {
        let children: Vec<_> =
            [("a", "resets"), ("b", "refused"), ("c", "forks"), ("d", "dns-tcp")]
                .into_iter()
                .map(|(agent, name)| (name, attack(&all.deployment, agent, name, 2 * SECONDS)))
                .collect();
        std::thread::sleep(Duration::from_millis(1_000));
        if managed {
            // What connects meanwhile waits for the next daemon.
            all.deployment.stop_daemon();
        } else {
            all.deployment.kill_daemon();
        }
        all.deployment.start_daemon();
        other(&all, "a restart");
        for (name, child) in children {
            let said = ended(name, &child.wait_with_output().expect("ends"));
            println!("{name}: tried, failed {said}");
        }
        println!("managed {managed}: counters agree after {:?}", complete(&all));
        if !managed {
            all.deployment.manage();
        }
    }
    all.verify();
}

#[test]
fn a_daemon_with_few_descriptors_serves_other_agents() {
    let mut all = Fixture::start();
    all.deployment.restart_with_files(640);
    for name in ["idle", "body", "dns-tcp"] {
        let child = attack(&all.deployment, "attacker", name, SECONDS);
        std::thread::sleep(Duration::from_millis(1_000));
        let took = other(&all, name);
        let files = std::fs::read_dir(format!("/proc/{}/fd", all.deployment.daemon_pid()));
        let said = ended(name, &child.wait_with_output().expect("ends"));
        println!(
            "{name}: tried, failed {said}; another agent {took:?}; {} of 640 descriptors",
            files.expect("it runs").count()
        );
    }
    let log = std::fs::read_to_string(all.deployment.log()).expect("the log");
    assert!(log.contains("too few descriptors"), "{log}");
    assert!(!log.contains("could not be accepted"), "{log}");
    complete(&all);
    all.verify();
}

/// One agent takes all of the table that it can get, another works on; then several take the whole
/// of it: everybody is refused until it has room.
#[test]
fn a_full_table_of_flows_refuses_and_frees_itself() {
    let mut all = Fixture::start();
    all.deployment.restart_with("[kernel]\n", "[kernel]\nmax_flows = 64\n");
    let sniffer = all.world.sniff_host();
    let child = attack(&all.deployment, "attacker", "idle", SECONDS);
    std::thread::sleep(Duration::from_millis(1_500));
    other(&all, "one agent's full share");
    println!("tried, failed {}", ended("idle", &child.wait_with_output().expect("ends")));
    let children: Vec<_> =
        (0..4).map(|n| attack(&all.deployment, &format!("a{n}"), "idle", SECONDS)).collect();
    std::thread::sleep(Duration::from_millis(1_500));
    let out = all
        .deployment
        .governed("calm", "curl")
        .args(["-sS", "-m", "5", &format!("http://{FAR_V4}:8080/echo")])
        .output()
        .expect("starts");
    assert!(!out.status.success(), "{}", text(&out));
    for child in children {
        println!("tried, failed {}", ended("idle", &child.wait_with_output().expect("ends")));
    }
    let packets = sniffer.stop();
    let stray = packets.iter().find(|packet| storm::stray(packet, &[HTTPS]));
    assert!(stray.is_none(), "something opened: {stray:02x?}");
    eventually("the table has room again", Duration::from_secs(5), || {
        all.curl(&["https://api.test:8443/people"]).ends_with(" 200").then_some(())
    });
    println!("counters agree after {:?}", complete(&all));
    all.verify();
}
