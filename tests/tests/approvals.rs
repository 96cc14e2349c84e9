//! Held, decided, bound to the exact operation, used once.

use enforcer_tests::daemon::must;
use enforcer_tests::fixture::{Fixture, text};
use enforcer_tests::wait::eventually;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PAY: &str = "https://api.test:8443/payments";

fn pay(all: &Fixture, args: &[&str]) -> Child {
    all.deployment
        .agent("probe", "curl")
        .args(["-sS", "-m", "40", "-w", " %{http_code}"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

fn payments(all: &Fixture) -> usize {
    all.origin.seen().iter().filter(|seen| seen.path.starts_with("/payments")).count()
}

#[test]
fn approved_operation_runs_once_and_only_itself() {
    let all = Fixture::start();
    let held = pay(&all, &["-d", "amount=100", PAY]);
    let asked = all.deployment.pending("/payments");
    let id = asked["id"].as_str().expect("an id").to_owned();
    assert_eq!(payments(&all), 0, "held means that nothing left");
    let shown = text(&all.deployment.review("alice", &["show", &id]));
    assert!(shown.contains("amount=100") && shown.contains("/payments"), "{shown}");
    let out = all.deployment.review("alice", &["approve", &id, "--yes"]);
    assert!(!out.status.success(), "this scope wants a reason");
    let out = all.deployment.review("alice", &["approve", &id, "--reason", "invoice 1", "--yes"]);
    assert!(out.status.success(), "{}", text(&out));
    let out = held.wait_with_output().expect("ends");
    assert!(text(&out).ends_with(" 200"), "{}", text(&out));
    assert_eq!(payments(&all), 1);
    // The grant is spent: the same again is a new question.
    let again = pay(&all, &["-d", "amount=100", PAY]);
    let asked = all.deployment.pending("/payments");
    assert_ne!(asked["id"].as_str(), Some(id.as_str()));
    let second = asked["id"].as_str().expect("an id");
    let out = all.deployment.review("alice", &["deny", second, "--reason", "twice is too much"]);
    assert!(out.status.success(), "{}", text(&out));
    assert!(text(&again.wait_with_output().expect("ends")).ends_with(" 403"));
    assert_eq!(payments(&all), 1);
    let record = text(&all.deployment.transcripts(&["grep", "alice"]));
    assert!(record.contains("alice"), "the transcript says who decided: {record}");
    let shown = text(&all.deployment.transcripts(&["show", &id]));
    assert!(shown.contains("vote yes by alice") && shown.contains(": invoice 1"), "{shown}");
    let denied = text(&all.deployment.transcripts(&["grep", "twice is too much"]));
    assert!(denied.contains("alice"), "{denied}");
    all.verify();
}

#[test]
fn a_client_that_leaves_cancels() {
    let all = Fixture::start();
    let mut held = pay(&all, &["-d", "amount=5", PAY]);
    let asked = all.deployment.pending("/payments");
    let id = asked["id"].as_str().expect("an id").to_owned();
    held.kill().expect("killed");
    held.wait().expect("ended");
    eventually("the request is cancelled", Duration::from_secs(15), || {
        text(&all.deployment.review("alice", &["show", &id, "--json"]))
            .contains("cancelled")
            .then_some(())
    });
    let out = all.deployment.review("alice", &["approve", &id, "--reason", "too late", "--yes"]);
    assert!(!out.status.success(), "{}", text(&out));
    assert_eq!(payments(&all), 0);
}

#[test]
fn past_the_hold_the_same_operation_uses_the_grant() {
    let all = Fixture::start();
    let held = pay(&all, &["-d", "amount=6", PAY]);
    let asked = all.deployment.pending("/payments");
    let id = asked["id"].as_str().expect("an id").to_owned();
    let out = text(&held.wait_with_output().expect("ends"));
    assert!(out.ends_with(" 403") && out.contains(&id), "the refusal names the approval: {out}");
    let out = all.deployment.review("alice", &["approve", &id, "--reason", "go", "--yes"]);
    assert!(out.status.success(), "{}", text(&out));
    assert_eq!(payments(&all), 0, "a decision alone sends nothing");
    let other = pay(&all, &["-d", "amount=7", PAY]);
    let asked = all.deployment.pending("amount=7");
    assert_ne!(asked["id"].as_str(), Some(id.as_str()), "another body does not use the grant");
    let same = text(&pay(&all, &["-d", "amount=6", PAY]).wait_with_output().expect("ends"));
    assert!(same.ends_with(" 200"), "{same}");
    assert_eq!(payments(&all), 1);
    let deny = asked["id"].as_str().expect("an id");
    all.deployment.review("alice", &["deny", deny, "--reason", "no"]);
    assert!(text(&other.wait_with_output().expect("ends")).ends_with(" 403"));
}

#[test]
fn revoked_grant_is_worth_nothing() {
    let all = Fixture::start();
    let held = pay(&all, &["-d", "amount=8", PAY]);
    let asked = all.deployment.pending("/payments");
    let id = asked["id"].as_str().expect("an id").to_owned();
    assert!(text(&held.wait_with_output().expect("ends")).ends_with(" 403"));
    assert!(
        all.deployment
            .review("alice", &["approve", &id, "--reason", "go", "--yes"])
            .status
            .success()
    );
    let out = all.deployment.review("alice", &["revoke", &id, "--reason", "mistake"]);
    assert!(out.status.success(), "{}", text(&out));
    let again = pay(&all, &["-d", "amount=8", PAY]);
    let asked = all.deployment.pending("/payments");
    assert_ne!(asked["id"].as_str(), Some(id.as_str()));
    drop(again);
    assert_eq!(payments(&all), 0);
}

#[test]
fn too_large_to_be_shown_is_refused() {
    let all = Fixture::start();
    let big = all.world.path("big");
    std::fs::write(&big, vec![b'a'; 2 << 20]).expect("written");
    let out = text(
        &pay(&all, &["--data-binary", &format!("@{}", big.display()), PAY])
            .wait_with_output()
            .expect("ends"),
    );
    assert!(out.ends_with(" 403") && out.contains("body-too-large"), "{out}");
    assert_eq!(payments(&all), 0);
}

/// `enforcer approvals watch` on a terminal of its own.
struct Screen {
    socket: PathBuf,
}

impl Screen {
    /// Starts a command on 80 columns and 24 rows; how it ended stands on the screen after it.
    fn start(dir: &Path, command: &Command) -> Self {
        let screen = Self { socket: dir.join("tmux.sock") };
        let script = "\"$@\"; echo \"left with $?\"; exec sleep 600";
        let mut tmux = screen.tmux(&["new-session", "-d", "-x", "80", "-y", "24"]);
        for (name, value) in command.get_envs() {
            let value = value.unwrap_or_default().to_string_lossy();
            tmux.arg("-e").arg(format!("{}={value}", name.to_string_lossy()));
        }
        tmux.args(["--", "sh", "-c", script, "sh"]).arg(command.get_program());
        must(tmux.args(command.get_args()));
        screen
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut tmux = Command::new("tmux");
        // `-u`: UTF-8, whatever the environment says.
        tmux.arg("-u").arg("-S").arg(&self.socket).args(["-f", "/dev/null"]).args(args);
        tmux
    }

    fn keys(&self, keys: &[&str]) {
        must(&mut self.tmux(&[&["send-keys"], keys].concat()));
    }

    fn shown(&self) -> String {
        text(&must(&mut self.tmux(&["capture-pane", "-p"])))
    }

    /// Waits until something stands on the screen.
    fn shows(&self, what: &str) {
        let limit = Duration::from_secs(60);
        let last = std::cell::RefCell::new(String::new());
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            eventually(what, limit, || {
                *last.borrow_mut() = self.shown();
                last.borrow().contains(what).then_some(())
            });
        }));
        assert!(seen.is_ok(), "no {what:?} on the screen:\n{}", last.borrow());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}

#[test]
fn a_person_reads_and_decides_on_a_terminal() {
    let all = Fixture::start();
    let dir = tempfile::tempdir().expect("a directory");
    let screen = Screen::start(dir.path(), &all.deployment.reviewer("alice", &["watch"]));
    screen.shows("Nothing waits for you.");
    let held = pay(&all, &["-d", "amount=9", PAY]);
    screen.shows("1 waiting");
    screen.shows("/payments");
    screen.keys(&["Enter"]);
    screen.shows("What will run");
    screen.keys(&["a"]);
    screen.shows("read it to its end");
    assert_eq!(payments(&all), 0, "nothing is approved that was not read");
    must(&mut screen.tmux(&["resize-window", "-x", "40", "-y", "15"]));
    eventually("all of it was shown", Duration::from_secs(60), || {
        screen.keys(&["Space"]);
        screen.shown().contains("all of it was shown").then_some(())
    });
    screen.keys(&["a"]);
    screen.shows("Reason:");
    screen.keys(&["-l", "invoice 9"]);
    screen.keys(&["Enter"]);
    screen.shows("Type yes:");
    screen.keys(&["-l", "yes"]);
    screen.keys(&["Enter"]);
    screen.shows("0 waiting");
    let out = text(&held.wait_with_output().expect("ends"));
    assert!(out.ends_with(" 200"), "{out}");
    assert_eq!(payments(&all), 1);
    screen.keys(&["q"]);
    // The terminal is as it was.
    screen.shows("left with 0");
    let lines = text(&all.deployment.review("alice", &["list", "--json"]));
    assert!(lines.contains("invoice 9"), "{lines}");
}

#[test]
fn an_admin_takes_the_audit_away_and_a_reviewer_does_not() {
    let all = Fixture::start();
    all.deployment.join_as("admin", "olaf");
    let out = all.deployment.review("alice", &["audit"]);
    assert!(!out.status.success() && out.stdout.is_empty(), "{}", text(&out));
    let out = all.deployment.review("olaf", &["audit", "verify"]);
    assert!(out.status.success() && text(&out).contains("the chain holds"), "{}", text(&out));
    let lines = all.deployment.review("olaf", &["audit", "export"]).stdout;
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("audit.jsonl");
    let name = file.to_str().expect("text");
    std::fs::write(&file, &lines).expect("written");
    let out = all.deployment.review("olaf", &["audit", "verify", "--file", name]);
    assert!(out.status.success(), "{}", text(&out));
    let changed = String::from_utf8(lines).expect("text").replacen("olaf", "oleg", 1);
    std::fs::write(&file, changed).expect("written");
    let out = all.deployment.review("olaf", &["audit", "verify", "--file", name]);
    assert!(!out.status.success() && text(&out).contains("hash"), "{}", text(&out));
    let out = all.deployment.review("olaf", &["audit", "export", "--format", "ocsf"]);
    let events = String::from_utf8(out.stdout).expect("text");
    let class = |line: &str| {
        serde_json::from_str::<serde_json::Value>(line).expect("JSON")["class_uid"].as_u64()
    };
    let classes: Vec<_> = events.lines().map(class).collect();
    assert!(classes.contains(&Some(3004)), "the hosts and people that joined: {classes:?}");
}
