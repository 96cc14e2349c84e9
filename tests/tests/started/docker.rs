//! Docker's containers under a governed root (`--cgroup-parent`).

use super::{FIRST, done, to_nowhere};
use enforcer_tests::docker::{Docker, View};
use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::wait::eventually;
use std::process::Command;
use std::time::Duration;

/// Ungoverned containers get out; those under the governed root do what policy says, are the
/// agent that their parent cgroup names, and not one packet of theirs is on the wire.
fn governed_from_the_first_packet(view: View) {
    let all = Fixture::start();
    let docker = Docker::start(&all.world, view);
    let parent = format!("{}/coder", all.deployment.governed);

    let sniffer = all.world.sniff();
    let said = done(docker.run(docker.free(), "host", "python3").args(["-c", FIRST]));
    assert!(said.contains(" ok"), "{said}");
    let out = sniffer.stop().iter().filter(|packet| to_nowhere(packet)).count();
    assert!(out >= 2, "control: a SYN and a datagram of an ungoverned container get out");

    let sniffer = all.world.sniff();
    let said = done(docker.run(&parent, "host", "python3").args(["-c", FIRST]));
    assert_eq!(said.trim(), "ok PermissionError", "taken by the proxy, and refused");
    let curl = |args: &[&str]| {
        let mut curl = docker.run(&parent, "host", "curl");
        done(curl.args(["-sS", "-m", "20", "-w", " %{http_code}"]).args(args))
    };
    let people = curl(&["http://api.test:8080/people"]);
    assert!(people.ends_with(" 200") && !people.contains("ada@example.com"), "{people}");
    assert!(curl(&["-X", "DELETE", "http://api.test:8080/people"]).ends_with(" 403"));
    assert_eq!(sniffer.stop().iter().filter(|packet| to_nowhere(packet)).count(), 0);
    assert!(all.origin.seen().iter().all(|seen| seen.method != "DELETE"));

    // The container is in the record: by its cgroup, and by the program that the kernel saw.
    let pid = docker.stay(&parent, "host", "longer");
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::")).expect("cgroup2");
    assert!(own.starts_with(&format!("{parent}/")), "{cgroups}");
    let fetch = "import urllib.request as u; print(u.urlopen('http://api.test:8080/echo').status)";
    let said = done(docker.client(&["exec", "longer", "python3", "-c"]).arg(fetch));
    assert_eq!(said.trim(), "200");
    let shown = newest(&all, "coder");
    assert!(shown.contains(own) && shown.contains("/usr/bin/python3"), "not by {own}: {shown}");
    all.verify();
}

/// The last flow of an agent, as the record shows it; empty when there is none.
fn newest(all: &Fixture, agent: &str) -> String {
    let list = all.deployment.transcripts(&["list", "--json", "--agent", agent]);
    let flows: serde_json::Value = serde_json::from_slice(&list.stdout).expect("JSON");
    let Some(flow) = flows[0]["flow"].as_str() else { return String::new() };
    text(&all.deployment.transcripts(&["show", flow]))
}

#[test]
fn a_container_is_governed_from_its_first_packet() {
    governed_from_the_first_packet(View::Unified);
}

#[test]
fn so_it_is_as_this_machine_mounts_its_cgroups() {
    governed_from_the_first_packet(View::Host);
}

/// A container with a network of its own, as a bridge gives it: the proxy is not in there. The
/// governed one gets no socket, and the refusal says why.
#[test]
fn a_container_with_its_own_network_is_refused_and_says_why() {
    let all = Fixture::start();
    let docker = Docker::start(&all.world, View::Unified);
    let parent = format!("{}/bridged", all.deployment.governed);
    let attempt = "
from socket import *
try: s = create_connection(('10.79.0.2', 8080), 5); s.sendall(b'GET /out HTTP/1.0\\r\\n\\r\\n'); print(s.recv(12))
except OSError as e: print(type(e).__name__)
";
    for (parent, name, said) in
        [(docker.free(), "free", "b'HTTP/1.1 200'"), (&parent, "governed", "PermissionError")]
    {
        let pid = docker.stay(parent, "none", name);
        // What a bridge would do: one end in the container, the other where the servers are.
        all.world.far.ip(&["link", "add", name, "type", "veth", "peer", "eth0", "netns", &pid]);
        all.world.far.ip(&["addr", "add", "10.79.0.2/24", "dev", name]);
        all.world.far.ip(&["link", "set", name, "up"]);
        for args in
            [&["addr", "add", "10.79.0.1/24", "dev", "eth0"][..], &["link", "set", "eth0", "up"]]
        {
            done(Command::new("nsenter").args(["-t", &pid, "-n", "ip"]).args(args));
        }
        let out = done(docker.client(&["exec", name, "python3", "-c"]).arg(attempt));
        assert_eq!(out.trim(), said, "{name}");
        all.world.far.ip(&["link", "del", name]);
    }
    assert_eq!(all.origin.seen().iter().filter(|seen| seen.path == "/out").count(), 1);
    eventually("the refusal is recorded", Duration::from_secs(90), || {
        newest(&all, "bridged").contains("other-network-namespace").then_some(())
    });
    all.verify();
}
