//! Held, decided, bound to the exact operation, used once.

use enforcer_tests::fixture::{Fixture, text};
use std::process::{Child, Stdio};

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
    enforcer_tests::wait::eventually(
        "the request is cancelled",
        std::time::Duration::from_secs(15),
        || {
            text(&all.deployment.review("alice", &["show", &id, "--json"]))
                .contains("cancelled")
                .then_some(())
        },
    );
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
