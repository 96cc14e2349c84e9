//! What changes is found, what stays is not told, and what cannot be compared is counted.

use super::*;
use crate::config::Transcript;
use crate::operation::{Fact, Operation, Protocol};
use crate::record::{Durability, Recorder, store_dir};
use enforcer_proto::v1::event::Kind;
use std::path::Path;

const TARGETS: &str = "[[target]]\nname = \"api\"\nnames = [\"api.test\"]\nports = [443]\n";

fn bundle(rules: &str, scopes: &str) -> Bundle {
    let files = [
        ("targets.toml", TARGETS),
        ("rules.cedar", rules),
        ("scopes.toml", scopes),
        ("masks.toml", ""),
    ];
    let files = files.map(|(file, text)| (file.to_owned(), text.to_owned())).into();
    Bundle::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"))
}

fn request(method: &str, path: &str) -> Operation {
    let action = if method == "GET" { "http.get" } else { "http.post" };
    let url = format!("https://api.test{path}");
    let mut op = Operation::new("api", "api.test", 443, Protocol::Http, action, url);
    for (name, value) in [
        ("http.method", method),
        ("http.scheme", "https"),
        ("http.authority", "api.test"),
        ("http.path", path),
    ] {
        op.fact(name, value);
    }
    op
}

fn decision(verdict: v1::Verdict, reason: &str, scope: &str) -> v1::Decision {
    v1::Decision {
        verdict: verdict.into(),
        reason: reason.to_owned(),
        scope: scope.to_owned(),
        ..v1::Decision::default()
    }
}

/// A store with these operations and their decisions.
async fn store(dir: &Path, all: Vec<(Operation, v1::Decision)>) -> Transcripts {
    let cfg = Transcript::default();
    let recorder = Recorder::open(&cfg, dir).unwrap();
    let who = v1::Principal { host: "h".into(), agent: "ci".into(), ..v1::Principal::default() };
    let start = v1::FlowStart { principal: Some(who.clone()), ..v1::FlowStart::default() };
    let log = recorder.open_flow(start).await.unwrap();
    for (op, decision) in all {
        let mut asked = v1::OperationAsked::from(&op);
        asked.digest = convert::digest(&asked, &who).unwrap().to_string();
        let end = v1::OperationEnd { outcome: "complete".into(), ..v1::OperationEnd::default() };
        let kinds =
            [Kind::OperationAsked(asked), Kind::Decision(decision), Kind::OperationEnd(end)];
        let events = kinds.map(|kind| (Some(op.id), kind)).into();
        log.append_all(events, Durability::Logged).await.unwrap();
    }
    log.end(v1::FlowEnd { outcome: "complete".into(), ..v1::FlowEnd::default() }).await.unwrap();
    recorder.shutdown().await;
    Transcripts::open(&store_dir(&cfg, dir)).unwrap()
}

fn filter(line: &[&str]) -> FilterArgs {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        filter: FilterArgs,
    }
    let line = [&["simulate"], line].concat();
    <Cli as clap::Parser>::try_parse_from(line).unwrap().filter
}

const OPEN: &str = "@id(\"all\") permit (principal, action, resource);";
const ASKS: &str = "@id(\"reads\") permit (principal, action in Action::\"read\", resource);\n\
                    @id(\"posts\") @approval(\"ops\")\n\
                    permit (principal, action in Action::\"write\", resource);\n\
                    @id(\"secret\") forbid (principal, action in Action::\"http.read\", resource)\n\
                    when { context.path like \"/secret*\" };";
const SCOPE: &str = "[[scope]]\nname = \"ops\"\n";

#[tokio::test]
async fn what_would_change_is_grouped_with_its_rules() {
    let dir = tempfile::tempdir().unwrap();
    let allowed = || decision(v1::Verdict::Allow, "policy", "");
    let all = vec![
        (request("GET", "/a"), allowed()),
        (request("GET", "/secret"), allowed()),
        // A server may read this as /secret, too.
        (request("GET", "//secret"), allowed()),
        (request("POST", "/b"), allowed()),
        (request("POST", "/b"), decision(v1::Verdict::Deny, "policy", "")),
        (request("POST", "/c"), decision(v1::Verdict::Allow, "approved", "ops")),
        (request("POST", "/c"), decision(v1::Verdict::Deny, "approval-denied", "ops")),
        (request("GET", "/d"), decision(v1::Verdict::Deny, "transcript-full", "")),
    ];
    let all = store(dir.path(), all).await;
    let found = simulate(&all, &filter(&[]), &bundle(ASKS, SCOPE)).unwrap();
    assert_eq!((found.operations, found.not_compared, found.changed()), (8, 1, 4));
    let shown = json_of(&bundle(ASKS, SCOPE), &found);
    let rows: Vec<_> = shown["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let text = |key: &str| change[key].as_str().unwrap().to_owned();
            (
                text("from"),
                text("to"),
                change["count"].as_u64().unwrap(),
                change["rules"][0].clone(),
            )
        })
        .collect();
    let row = |from: &str, to: &str, count, rule: &str| {
        (from.to_owned(), to.to_owned(), count, json!(rule))
    };
    assert_eq!(
        rows,
        [
            row("allow", "deny", 2, "secret"),
            row("deny", "needs-approval(ops)", 1, "posts"),
            row("allow", "needs-approval(ops)", 1, "posts"),
        ]
    );
    // The same records under what allows all.
    let found = simulate(&all, &filter(&[]), &bundle(OPEN, "")).unwrap();
    assert_eq!(found.changed(), 3, "one that was denied, and two that people were asked about");
    // And with nobody who is meant.
    let found = simulate(&all, &filter(&["--agent", "other"]), &bundle(ASKS, SCOPE)).unwrap();
    assert_eq!(found.operations, 0);
    let found = simulate(&all, &filter(&["--until", "1h"]), &bundle(ASKS, SCOPE)).unwrap();
    assert_eq!(found.operations, 0);
}

#[tokio::test]
async fn a_target_that_is_gone_and_facts_that_are_missing_are_denials() {
    let dir = tempfile::tempdir().unwrap();
    let allowed = || decision(v1::Verdict::Allow, "policy", "");
    let mut elsewhere = request("GET", "/a");
    elsewhere.name = "old.test".to_owned();
    let mut odd = request("GET", "/a");
    odd.fact("http.path", Fact::Number(3));
    let all = store(dir.path(), vec![(elsewhere, allowed()), (odd, allowed())]).await;
    let found = simulate(&all, &filter(&[]), &bundle(OPEN, "")).unwrap();
    assert_eq!((found.changed(), found.not_compared), (2, 0));
    assert!(found.changes.keys().all(|group| group.to == Becomes::Deny));
}

#[test]
fn scopes_are_compared_as_a_set() {
    let then = |scope| became(&decision(v1::Verdict::Allow, "approved", scope));
    assert_eq!(then("b,a"), then("a,b"));
    assert_ne!(then("a"), then("a,b"));
    assert_eq!(became(&decision(v1::Verdict::Deny, "body-too-large", "")), None);
    assert_eq!(became(&decision(v1::Verdict::Deny, "unknown-target", "")), Some(Becomes::Deny));
}
