//! The daemon and the approval server are killed, stopped and restarted at random while
//! governed clients work and probes try to get out. Afterwards every request on the wire has
//! a decision that was recorded before it, and no probe was on the wire.
//!
//! `ENFORCER_CYCLES` says how often (`cargo xtask soak --cycles N`), `ENFORCER_SEED` repeats a
//! run's choices.

use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::origin::{HTTP, HTTPS};
use enforcer_tests::storm::{self, Clients, Evidence, Probes, Way};
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is done without a word: about a minute.
const CYCLES: u64 = 30;

const CLOSE: &[&str] = &["-H", "connection: close"];
const WAYS: &[Way] = &[
    Way { name: "address", agent: "one", url: "http://{far}:8080/echo", args: CLOSE },
    Way { name: "name", agent: "one", url: "http://twin.test:8080/echo", args: &[] },
    Way { name: "tls-name", agent: "two", url: "https://api.test:8443/echo", args: CLOSE },
    Way {
        name: "tls-address",
        agent: "two",
        url: "https://api.test:8443/echo",
        args: &["--resolve", "api.test:8443:10.77.0.2"],
    },
    Way { name: "post", agent: "three", url: "http://plain.test:8080/echo", args: &["-d", "x=1"] },
    Way { name: "six", agent: "three", url: "http://[fd77::2]:8080/echo", args: CLOSE },
    Way {
        name: "held",
        agent: "payer",
        url: "https://api.test:8443/payments",
        args: &["-d", "amount=1"],
    },
];

/// xorshift64* (Vigna, "An experimental exploration of Marsaglia's xorshift generators").
struct Choice(u64);

impl Choice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end
    }

    fn sleep(&mut self, most_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.below(most_ms + 1)));
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// One thing that happens; gives its name.
fn cycle(all: &mut Fixture, choice: &mut Choice) -> &'static str {
    let daemon = &mut all.deployment;
    match choice.below(100) {
        0..=59 => {
            daemon.kill_daemon();
            choice.sleep(30);
            daemon.start_daemon();
            "kill"
        }
        60..=69 => {
            // Before it is ready, wherever it just was.
            daemon.kill_daemon();
            daemon.spawn_daemon();
            choice.sleep(400);
            daemon.kill_daemon();
            daemon.start_daemon();
            "kill while it starts"
        }
        70..=77 => {
            daemon.stop_daemon();
            choice.sleep(30);
            daemon.start_daemon();
            "orderly"
        }
        78..=87 => {
            daemon.signal_daemon(SIGSTOP);
            // Now and then longer than the heartbeat's limit.
            let most = if choice.below(4) == 0 { 3_000 } else { 500 };
            choice.sleep(most);
            daemon.signal_daemon(SIGCONT);
            "stop and go on"
        }
        88..=91 => {
            daemon.signal_daemon(SIGSTOP);
            choice.sleep(100);
            daemon.kill_daemon();
            daemon.start_daemon();
            "kill while stopped"
        }
        92..=94 => {
            daemon.kill_server();
            choice.sleep(100);
            daemon.start_server(&all.world);
            "server"
        }
        95 => {
            daemon.kill_daemon();
            daemon.kill_server();
            daemon.start_server(&all.world);
            daemon.start_daemon();
            "both"
        }
        _ => {
            approve(all);
            "approval"
        }
    }
}

/// Approves one payment that waits, if one does.
fn approve(all: &Fixture) {
    let out = all.deployment.review("alice", &["list", "--json"]);
    let Ok(list) = serde_json::from_slice::<serde_json::Value>(&out.stdout) else { return };
    let waiting = list.as_array().into_iter().flatten().find(|a| a["state"] == "pending");
    if let Some(id) = waiting.and_then(|asked| asked["id"].as_str()) {
        // It may have ended meanwhile.
        all.deployment.review("alice", &["approve", id, "--reason", "soak", "--yes"]);
    }
}

#[test]
fn nothing_gets_out_whatever_is_killed() {
    let cycles = number("ENFORCER_CYCLES").unwrap_or(CYCLES);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = number("ENFORCER_SEED").unwrap_or(now.as_nanos() as u64) | 1;
    println!("ENFORCER_SEED={seed} ENFORCER_CYCLES={cycles}");
    let mut choice = Choice(seed);
    let mut all = Fixture::start();
    let sniffer = all.world.sniff_host();
    let mut clients = Clients::start(&all.world, &all.deployment, WAYS);
    let mut probes = Probes::start(&all.world, &all.deployment, &["rogue", "one"]);
    let begun = Instant::now();
    let mut done: std::collections::BTreeMap<&str, (u32, Duration)> = Default::default();
    for n in 0..cycles {
        if n == cycles / 2 {
            // The second half under a service manager that keeps the sockets.
            all.deployment.manage();
        }
        let started = Instant::now();
        let what = cycle(&mut all, &mut choice);
        let sum = done.entry(what).or_default();
        *sum = (sum.0 + 1, sum.1 + started.elapsed());
        choice.sleep(150);
        if (n + 1) % 50 == 0 {
            println!("{} cycles in {:?}: {:?}", n + 1, begun.elapsed(), clients.answers("200"));
        }
    }
    approve(&all);
    clients.stop();
    let (rounds, worked) = probes.stop();
    let took = begun.elapsed();
    all.deployment.stop_daemon();
    let packets = sniffer.stop();
    let seen = all.origin.seen();

    // A control: the same battery, governed by nothing, is all over the wire.
    let sniffer = all.world.sniff_host();
    storm::control(&all.world);
    let free = sniffer.stop();
    let strays = free.iter().filter(|packet| storm::stray(packet, &[HTTP, HTTPS])).count();
    assert!(strays >= 8, "the control's packets: {strays}");
    assert!(free.iter().any(|packet| packet.has(storm::CONTROL.as_bytes())));

    assert_eq!(worked, Vec::<String>::new(), "probes that did what they should not");
    let stray = packets.iter().find(|packet| storm::stray(packet, &[HTTP, HTTPS]));
    assert!(stray.is_none(), "on the wire: {stray:02x?}");
    let marked = packets.iter().find(|packet| packet.has(storm::MARK.as_bytes()));
    assert!(marked.is_none(), "a probe on the wire: {marked:02x?}");
    assert!(!seen.iter().any(|seen| seen.path.contains(storm::MARK)));

    let mut evidence = Evidence::default();
    evidence.wire(&packets);
    let in_clear = evidence.seen.len();
    evidence.origin(&seen);
    evidence.transcripts(&all.deployment.store);
    let answers = clients.answers("200");
    println!(
        "{cycles} cycles in {took:?}: {done:?}; {} packets, {in_clear} requests in clear, {} in \
         all, {} allowed, answers {answers:?}, {rounds} rounds of probes",
        packets.len(),
        evidence.seen.len(),
        evidence.allowed.len(),
    );
    assert_eq!(evidence.unexplained(), Vec::<String>::new());
    let out = all.deployment.transcripts(&["verify"]);
    assert!(out.status.success(), "verify: {}", text(&out));
    println!("verify: {}", text(&out));

    // It was no dead calm.
    for (way, answers) in WAYS.iter().zip(&answers) {
        assert!(way.name == "held" || *answers as u64 >= cycles / 4, "{way:?}: {answers}");
    }
    assert!(in_clear as u64 >= cycles && rounds as u64 >= cycles / 10);
}
