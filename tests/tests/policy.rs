//! Policy through the server: pushed, in force without a restart, rolled back, kept.

use enforcer_tests::fixture::{Fixture, MASKS, RULES, SCOPES, TARGETS, text};
use enforcer_tests::wait::eventually;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const ECHO: &str = "http://api.test:8080/echo";

fn bundle(all: &Fixture, name: &str, rules: &str) -> PathBuf {
    let dir = all.world.path(name);
    fs::create_dir_all(&dir).expect("made");
    for (file, content) in [
        ("targets.toml", TARGETS),
        ("rules.cedar", rules),
        ("scopes.toml", SCOPES),
        ("masks.toml", MASKS),
    ] {
        fs::write(dir.join(file), content).expect("written");
    }
    dir
}

fn push(all: &Fixture, who: &str, dir: &PathBuf) -> Output {
    let mut command = all.deployment.as_person(who, &["policy", "push", "--note", "a test"]);
    command.arg(dir).output().expect("starts")
}

fn ends_with(all: &Fixture, code: &str) {
    eventually(&format!("a request ends with {code}"), LIMIT, || {
        all.curl(&[ECHO]).ends_with(code).then_some(())
    });
}

/// A server on the far side that sends a line each moment, to whoever connects.
fn talker(all: &Fixture) -> std::process::Child {
    let script = "import socket, threading, time\n\
        listener = socket.create_server(('0.0.0.0', 9000))\n\
        def talk(peer):\n\
        \x20   try:\n\
        \x20       while True:\n\
        \x20           peer.sendall(b'still here\\n')\n\
        \x20           time.sleep(0.2)\n\
        \x20   except OSError:\n\
        \x20       pass\n\
        while True:\n\
        \x20   threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()\n";
    let mut python: Command = all.world.far.command("/usr/bin/python3");
    python.args(["-c", script]).stdin(Stdio::null()).spawn().expect("starts")
}

#[test]
fn a_pushed_version_is_in_force_at_once_and_a_rollback_too() {
    let mut all = Fixture::start();
    all.deployment.join_as("policy-admin", "pat");
    let mut talker = talker(&all);
    let local = format!("[policy]\ndir = {:?}\n", all.deployment.policy);
    all.deployment.restart_with(&local, "[policy]\nsource = \"server\"\n");

    // Before the first version everything is denied, and everybody is told why.
    assert!(!all.curl(&[ECHO]).ends_with(" 200"));
    let status = text(&all.deployment.status());
    assert!(status.contains("NONE: everything is denied"), "{status}");
    let denied = text(&all.deployment.transcripts(&["grep", "policy-missing"]));
    assert!(denied.contains("policy-missing"), "{denied}");

    let open = bundle(&all, "open", RULES);
    let refused = push(&all, "alice", &open);
    assert_eq!(refused.status.code(), Some(3), "a reviewer: {}", text(&refused));
    let pushed = push(&all, "pat", &open);
    assert!(pushed.status.success(), "{}", text(&pushed));
    ends_with(&all, " 200");
    let status = text(&all.deployment.status());
    assert!(status.contains("version 1 of the server"), "{status}");
    let sent = all.origin.seen().len();

    // A connection that lives long, and an answer that does.
    let mut raw = all
        .deployment
        .agent("probe", "timeout")
        .args(["110", "bash", "-c", "exec 3<>/dev/tcp/raw.test/9000; cat <&3"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    eventually("the connection is open", LIMIT, || {
        let list = text(&all.deployment.transcripts(&["list", "--outcome", "open"]));
        list.contains("raw").then_some(())
    });
    let closed = format!(
        "{RULES}\n@id(\"no-echo\")\nforbid (principal, action in Action::\"http.read\", resource)\n\
         when {{ context.path like \"/echo*\" }};\n\
         @id(\"no-raw\")\nforbid (principal, action == Action::\"opaque.connect\", resource);\n"
    );
    let closed = bundle(&all, "closed", &closed);

    // What it would change is said before.
    let simulated = all
        .deployment
        .enforcer()
        .args(["policy", "simulate", "--json", "--store"])
        .arg(&all.deployment.store)
        .arg("--policy")
        .arg(&closed)
        .output()
        .expect("starts");
    assert!(simulated.status.success(), "{}", text(&simulated));
    let simulated: serde_json::Value = serde_json::from_slice(&simulated.stdout).expect("JSON");
    let changes = simulated["changes"].as_array().expect("changes");
    let echo = changes.iter().find(|change| change["rules"][0] == "no-echo").expect("found");
    assert_eq!((&echo["from"], &echo["to"]), (&"allow".into(), &"deny".into()), "{simulated}");

    let pushed = push(&all, "pat", &closed);
    assert!(pushed.status.success(), "{}", text(&pushed));
    ends_with(&all, " 403");
    assert!(all.curl(&["http://api.test:8080/other"]).ends_with(" 200"), "the rest goes on");
    raw.wait().expect("ends");
    let cut = text(&all.deployment.transcripts(&["grep", "policy changed"]));
    assert!(cut.contains("policy changed and no longer allows"), "{cut}");

    // What cannot be used changes nothing.
    let broken = bundle(&all, "broken", "permit (principal, action, resource);");
    let refused = push(&all, "pat", &broken);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("rules.cedar"), "{}", text(&refused));
    assert!(all.curl(&[ECHO]).ends_with(" 403"));

    let back = all.deployment.as_person("pat", &["policy", "rollback", "1"]).output();
    let back = back.expect("starts");
    assert!(back.status.success(), "{}", text(&back));
    ends_with(&all, " 200");
    let versions = all.deployment.as_person("pat", &["policy", "versions"]).output();
    let versions = text(&versions.expect("starts"));
    assert!(versions.contains("policy-admin/pat, as version 1"), "{versions}");
    assert!(all.origin.seen().len() > sent);

    // Without its server a daemon starts with what it kept.
    all.deployment.kill_server();
    all.deployment.kill_daemon();
    all.deployment.start_daemon();
    assert!(all.curl(&[ECHO]).ends_with(" 200"));
    let status = text(&all.deployment.status());
    assert!(status.contains("version 3 of the server"), "{status}");
    talker.kill().expect("killed");
    talker.wait().expect("ended");
    all.verify();
}
