//! The whole battery, four times in each state of the daemon: alive, dead, stopped, restarting.
//! It goes every way as root, without the floor of `enforcer run`.

use super::escapes::{ARP_LOOPBACK, GROUPS, RAW, RINGS, STEERED, TCP, UDP, Way, processes};
use enforcer_tests::fixture::Fixture;
use enforcer_tests::probe::with_prelude;
use enforcer_tests::storm::stray;
use enforcer_tests::world::Packet;
use nix::sys::signal::Signal;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How often in each state.
const ROUNDS: usize = 4;
/// What one way may take, seconds: some wait for an answer, which only a daemon that works gives.
const SECONDS: u32 = 8;
/// TCP, IP protocol number.
const STREAM: u8 = 6;

/// Every way out.
fn battery() -> Vec<&'static Way> {
    [TCP, UDP, RINGS, STEERED, RAW, GROUPS].into_iter().flatten().collect()
}

/// The token of a way: what it is told apart by on the wire comes last.
fn token(who: &str, number: usize) -> String {
    format!("token-of-a-probe-{who}{number:02}")
}

/// All ways at once, each in a process of its own.
fn program(who: &str) -> String {
    let mut code = processes(&battery(), |number| token(who, number), SECONDS, "");
    code.push_str("\ntry:\n  while True: os.wait()\nexcept ChildProcessError: pass\n");
    with_prelude(&code)
}

fn start(command: &mut Command, who: &str) -> Child {
    command.args(["-I", "-S", "-c", &program(who)]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the battery starts")
}

/// The ways of which these packets show something.
fn seen(packets: &[Packet], who: &str) -> Vec<&'static str> {
    let shown = |way: &Way, number: usize| {
        let token = token(who, number).into_bytes();
        // A group's address holds three bytes of it; in what a stream carries those are anything.
        let group = GROUPS.iter().any(|group| group.name == way.name);
        let tail = &token[if group { token.len() - 3 } else { 0 }..];
        packets.iter().any(|packet| !(group && is_stream(packet)) && packet.has(tail))
    };
    battery()
        .iter()
        .enumerate()
        .filter(|(number, way)| shown(way, *number))
        .map(|(_, w)| w.name)
        .collect()
}

fn is_stream(packet: &Packet) -> bool {
    let at = if packet.ethertype() == 0x86dd { 14 + 6 } else { 14 + 9 };
    packet.bytes.get(at) == Some(&STREAM)
}

#[test]
fn nothing_gets_out_alive_dead_stopped_or_restarting() {
    let mut all = Fixture::start();
    let sysctl = "net.ipv4.ping_group_range=0 2147483647";
    let set = all.world.host.command("sysctl").args(["-qw", sysctl]).status().expect("sysctl");
    assert!(set.success());
    let mut wrong = Vec::new();
    let mut restarts = 0;
    for state in ["alive", "dead", "stopped", "restarting"] {
        match state {
            "dead" => all.deployment.kill_daemon(),
            "stopped" => {
                all.deployment.start_daemon();
                all.deployment.signal_daemon(Signal::SIGSTOP);
            }
            "restarting" => all.deployment.signal_daemon(Signal::SIGCONT),
            _ => {}
        }
        for round in 0..ROUNDS {
            let who = format!("{}{round}-", &state[..2]);
            let sniffer = all.world.sniff_host();
            let mut child = start(&mut all.deployment.governed("agent", "/usr/bin/python3"), &who);
            while state == "restarting" && child.try_wait().expect("it runs").is_none() {
                if restarts % 2 == 0 {
                    all.deployment.kill_daemon();
                } else {
                    all.deployment.stop_daemon();
                }
                all.deployment.start_daemon();
                restarts += 1;
            }
            assert!(child.wait().expect("it ends").success(), "{state}: the battery failed");
            let packets = sniffer.stop();
            wrong.extend(seen(&packets, &who).iter().map(|way| format!("{state}: {way} got out")));
            if packets.iter().any(|packet| packet.has(ARP_LOOPBACK)) {
                wrong.push(format!("{state}: 127.0.0.1 was asked for on the wire"));
            }
            // The daemon says nothing upstream for any of them, either.
            let stray = packets.iter().find(|packet| stray(packet, &[]));
            wrong
                .extend(stray.map(|packet| format!("{state}: on the wire: {:02x?}", packet.bytes)));
        }
    }
    assert!(restarts >= ROUNDS, "{restarts} restarts");
    assert!(all.curl(&["http://api.test:8080/echo"]).ends_with(" 200"), "it serves again");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let mut missing: Vec<&str> = battery().iter().map(|way| way.name).collect();
    for _ in 0..3 {
        // The first datagrams wait for the neighbour's address, and not all of them come through.
        let sniffer = all.world.sniff_host();
        let mut child = start(&mut all.world.host.command("/usr/bin/python3"), "free-");
        assert!(child.wait().expect("it ends").success());
        std::thread::sleep(Duration::from_millis(200));
        let packets = sniffer.stop();
        let seen = seen(&packets, "free-");
        missing.retain(|name| !seen.contains(name));
        if missing.is_empty() {
            break;
        }
    }
    // Newer kernels have no UDP-Lite at all, governed or not.
    let gone =
        |name: &str| battery().iter().any(|w| w.name == name && w.told.contains("EPROTONOSUPPORT"));
    missing.retain(|name| !gone(name));
    assert!(missing.is_empty(), "no proof, these did not get out free: {missing:?}");
}
