//! The commands over a store that was written for the purpose.

use super::{Args, Command, StoreArgs, har, json, replay, show, text};
use crate::config::Transcript;
use crate::operation::{Operation, OperationId, Protocol};
use crate::record::read::Transcripts;
use crate::record::view::Assembler;
use crate::record::{Durability, FlowId, Recorder, convert, store_dir};
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use proptest::prelude::*;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn body(data: &[u8]) -> v1::Body {
    v1::Body { data: Bytes::copy_from_slice(data), last: true, ..v1::Body::default() }
}

/// A POST whose answer is not text, and whose peer tries to drive the terminal.
pub(super) fn events() -> Vec<(Option<OperationId>, Kind)> {
    let url = "https://api.test/v1/x".to_owned();
    let mut op = Operation::new("api", "api.test", 443, Protocol::Http, "http.post", url);
    op.fact("http.method", "POST");
    op.fact("http.scheme", "https");
    op.fact("http.authority", "api.test");
    op.fact("http.path", "/v1/x");
    op.fact("http.query", "a=1&b=two%20words");
    op.fact("http.header.content-type", "application/json");
    op.fact("http.header.authorization", "hmac:0011");
    op.with_body(Bytes::from_static(b"{\"needle\":\"in the request\"}"));
    let who = v1::Principal { agent: "builder".into(), ..v1::Principal::default() };
    let mut asked = v1::OperationAsked::from(&op);
    asked.digest = convert::digest(&asked, &who).unwrap().to_string();
    let header = |name: &str, value: &str| v1::Header { name: name.into(), value: value.into() };
    [
        Kind::OperationAsked(asked),
        Kind::RequestBody(body(b"{\"needle\":\"in the request\"}")),
        Kind::Decision(v1::Decision {
            verdict: v1::Verdict::Allow.into(),
            reason: "policy".into(),
            decided_by: vec!["alice".into()],
            votes: vec![v1::Vote {
                person: "alice".into(),
                approve: true,
                reason: "CHG-1234\u{1b}[2J".into(),
                unix_ms: 1_700_000_000_000,
                scope: "payments".into(),
                break_glass: false,
            }],
            ..v1::Decision::default()
        }),
        Kind::Forwarded(v1::Forwarded {
            upstream: "10.0.0.5:443".into(),
            ..v1::Forwarded::default()
        }),
        Kind::ResponseHead(v1::ResponseHead {
            status: 200,
            version: "HTTP/2".into(),
            headers: vec![
                header("content-type", "application/octet-stream"),
                header("x-title", "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}"),
            ],
            synthetic: false,
        }),
        Kind::ResponseBody(body(b"\xff\x00\x01\x1b[2J")),
        Kind::OperationEnd(v1::OperationEnd {
            outcome: "complete".into(),
            ..v1::OperationEnd::default()
        }),
    ]
    .map(|kind| (Some(op.id), kind))
    .into()
}

async fn sample(dir: &Path) -> (PathBuf, FlowId) {
    let cfg = Transcript::default();
    let recorder = Recorder::open(&cfg, dir).unwrap();
    let start = v1::FlowStart {
        principal: Some(v1::Principal { agent: "builder".into(), ..v1::Principal::default() }),
        orig_port: 443,
        ..v1::FlowStart::default()
    };
    let log = recorder.open_flow(start).await.unwrap();
    log.append_all(events(), Durability::Logged).await.unwrap();
    log.end(v1::FlowEnd { outcome: "complete".into(), ..v1::FlowEnd::default() }).await.unwrap();
    recorder.shutdown().await;
    (store_dir(&cfg, dir), log.id())
}

/// Parses as the program does.
fn parsed(store: &Path, line: &[&str]) -> Args {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
    let all = ["transcripts", "--store", store.to_str().unwrap()];
    let line = all.iter().chain(line);
    <Cli as clap::Parser>::try_parse_from(line).unwrap().args
}

/// Runs a command; what it writes.
fn execute(store: &Path, line: &[&str]) -> anyhow::Result<(ExitCode, String, String)> {
    let args = parsed(store, line);
    let dir = args.store.dir().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = super::execute(&dir, &args.command, &mut out, &mut err)?;
    Ok((code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap()))
}

fn outputs(store: &Path, line: &[&str]) -> (ExitCode, String, String) {
    execute(store, line).unwrap()
}

/// What it says of a store that is not damaged.
fn output(store: &Path, line: &[&str]) -> (ExitCode, String) {
    let (code, out, err) = outputs(store, line);
    assert_eq!(err, "", "{line:?}");
    (code, out)
}

#[tokio::test]
async fn every_command_says_what_is_there_and_nothing_drives_the_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (store, flow) = sample(dir.path()).await;
    let id = flow.to_string();
    let cases: [(&[&str], &str); 20] = [
        (&["list"], "builder"),
        (&["list", "--json", "--agent", "builder", "--since", "1h"], "\"operations\":1"),
        (&["list", "--target", "api", "--outcome", "complete"], "complete"),
        (&["show", &id], "http.post https://api.test/v1/x"),
        (&["show", &id], "by alice"),
        (&["show", &id], "vote yes by alice for payments at 2023-11-14"),
        (&["grep", "CHG-1234"], "vote: alice: CHG-1234"),
        (&["export", "--format", "har"], "\"comment\":\"approved by alice: CHG-1234"),
        (&["show", &id, "--json"], "\"base64\""),
        (&["grep", "n..dle"], "request body: {\"needle\""),
        (&["grep", "--json", "-i", "OWNED"], "response header"),
        (&["export", "--format", "jsonl"], "\"kind\":\"flow_end\""),
        (&["export", "--format", "har", "--flow", &id], "\"startedDateTime\""),
        (&["replay", "--no-wait", &id], "[1] > http.post https://api.test/v1/x\n"),
        (&["replay", &id], "[1] < x-title: \\u{1b}]0;owned\\u{7}\\u{9b}2J\\u{202e}\n"),
        (&["replay", "--no-wait", &id], "[1] - allow (policy), by alice\n"),
        (&["replay", "--no-wait", "--json", &id], "\"kind\":\"flow_end\""),
        (&["verify"], "good: 1 flows"),
        (&["verify", "--json"], "\"good\":true"),
        (&["stats"], "1 allowed, 0 denied"),
    ];
    for (line, expected) in cases {
        let (code, out) = output(&store, line);
        assert_eq!(code, ExitCode::SUCCESS, "{line:?}");
        assert!(out.contains(expected), "{line:?}: {out}");
        let bad = out.chars().find(|c| text::hostile(*c) && *c != '\n');
        assert_eq!(bad, None, "{line:?}");
        if line.contains(&"--json") && !["grep", "replay"].contains(&line[0]) {
            serde_json::from_str::<Value>(&out).unwrap();
        }
    }
    assert_eq!(output(&store, &["grep", "not there"]).0, ExitCode::FAILURE);
    let empty = output(&store, &["list", "--json", "--agent", "other"]).1;
    assert_eq!(serde_json::from_str::<Value>(&empty).unwrap(), serde_json::json!([]));
}

/// A statement with rows, an error and a cut line, as a database session has them.
fn database_events() -> Vec<(Option<OperationId>, Kind)> {
    use crate::protocol::postgres::codec::error_response::{self, Report};
    use crate::protocol::postgres::codec::{backend, data_row, row_description};
    let resource = "postgres://db.test:5432/shop".to_owned();
    let asked = |statement: &str| {
        let resource = resource.clone();
        let mut op =
            Operation::new("db", "db.test", 5432, Protocol::Postgres, "sql.select", resource);
        op.fact("sql.database", "shop");
        op.fact("sql.statement", statement);
        op.fact("sql.in_transaction", true);
        op.fact("sql.parameter.1", "42\u{1b}c");
        (op.id, Kind::OperationAsked(v1::OperationAsked::from(&op)))
    };
    let mut rows = bytes::BytesMut::new();
    let field = row_description::Field {
        name: "mail".to_owned(),
        table: 0,
        column: 0,
        kind: 25,
        size: -1,
        modifier: -1,
        format: 0,
    };
    row_description::write(&mut rows, &[field]);
    data_row::write(&mut rows, &[Some(&b"\x1b]0;owned\x07"[..])]);
    backend::put_complete(&mut rows, "SELECT 1");
    let rows = rows.freeze();
    let mut refusal = bytes::BytesMut::new();
    let report = Report::new("ERROR", "42501", "refused by enforcer: no rule");
    report.put(&mut refusal, error_response::ERROR);
    let (first, one) = asked("SELECT mail\nFROM people\rWHERE id = $1");
    let (second, two) = asked("DROP TABLE people");
    let piece =
        |data: Bytes, last| Kind::ResponseBody(v1::Body { data, last, ..v1::Body::default() });
    let end = |outcome: &str| {
        Kind::OperationEnd(v1::OperationEnd {
            outcome: outcome.into(),
            masked: vec![v1::MaskCount { rule: "people".into(), count: 1 }],
            ..v1::OperationEnd::default()
        })
    };
    let verdict = |verdict: v1::Verdict| {
        let verdict = verdict.into();
        Kind::Decision(v1::Decision { verdict, reason: "policy".into(), ..v1::Decision::default() })
    };
    vec![
        (Some(first), one),
        (Some(first), verdict(v1::Verdict::Allow)),
        (Some(first), piece(rows.slice(..20), false)),
        (Some(first), piece(rows.slice(20..), true)),
        (Some(first), end("complete")),
        (Some(second), two),
        (Some(second), verdict(v1::Verdict::Deny)),
        (Some(second), piece(refusal.freeze(), true)),
        (Some(second), end("refused")),
    ]
}

#[tokio::test]
async fn a_database_session_is_replayed_as_psql_shows_it() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript::default();
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    let log = recorder.open_flow(v1::FlowStart::default()).await.unwrap();
    for event in database_events() {
        log.append_all(vec![event], Durability::Logged).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    log.end(v1::FlowEnd { outcome: "complete".into(), ..v1::FlowEnd::default() }).await.unwrap();
    let id = log.id().to_string();
    recorder.shutdown().await;
    let store = store_dir(&cfg, dir.path());
    let (_, shown) = output(&store, &["replay", "--speed", "1000", &id]);
    let want = "shop=*> SELECT mail\nshop-*> FROM people\\rWHERE id = $1\n\
                -- $1 = 42\\u{1b}c\n mail\n---------------------\n \
                \\u{1b}]0;owned\\u{7}\n(1 row)\nSELECT 1\n-- masked 1 x people\n\
                shop=*> DROP TABLE people\n-- $1 = 42\\u{1b}c\n-- deny (policy)\n\
                ERROR:  42501: refused by enforcer: no rule\n-- masked 1 x people\n";
    let body: String = shown
        .lines()
        .filter(|line| !line.starts_with('#'))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(body, want, "{shown}");
    // The pauses are those between the events.
    let all = Transcripts::open(&store).unwrap();
    let mut moments = Vec::new();
    all.events(log.id(), |event| {
        moments.push(event.unix_ns);
        Ok(true)
    })
    .unwrap();
    let real = u128::try_from(moments.last().unwrap() - moments[0]).unwrap();
    for (more, least, most) in [
        (&[][..], real - 1_000, real + 1_000),
        (&["--speed", "2"], real / 2 - 1_000, real / 2 + 1_000),
        (&["--max-pause", "0.001"], 9_000_000, 10_000_000),
        (&["--no-wait"], 0, 0),
    ] {
        let args = parsed(&store, &[&["replay"], more, &[&id]].concat());
        let Command::Replay(args) = &*args.command else { unreachable!() };
        let mut waited = std::time::Duration::ZERO;
        let mut out = Vec::new();
        let mut wait = |pause| waited += pause;
        replay::play(&all, args, &mut out, &mut wait).unwrap();
        let waited = waited.as_nanos();
        assert!((least..=most).contains(&waited), "{more:?}: {waited} of {real}");
        assert!(String::from_utf8(out).unwrap().contains("(1 row)"));
    }
    assert!(execute(&store, &["replay", "no-such-flow"]).is_err());
}

#[tokio::test]
async fn what_the_kernel_refused_is_listed_as_denied_and_shown_as_a_flow() {
    let dir = tempfile::tempdir().unwrap();
    let (store, allowed) = sample(dir.path()).await;
    let recorder = Recorder::open(&Transcript::default(), dir.path()).unwrap();
    let start = v1::FlowStart {
        principal: Some(v1::Principal { agent: "builder".into(), ..v1::Principal::default() }),
        orig_addr: "198.18.0.9".into(),
        orig_port: 443,
        name: "quic.test".into(),
        transport: "udp".into(),
        refusal: Some(v1::KernelRefusal {
            hook: "connect4".into(),
            reason: "protocol".into(),
            count: 12,
            first_unix_ns: 1_000_000_000,
            last_unix_ns: 2_000_000_000,
            destinations: vec!["quic.test:443".into()],
        }),
        ..v1::FlowStart::default()
    };
    let end = v1::FlowEnd { outcome: "kernel-refused".into(), ..v1::FlowEnd::default() };
    let flow = recorder.whole_flow(start, Vec::new(), end).await.unwrap().to_string();
    recorder.shutdown().await;
    let (_, list) = output(&store, &["list", "--denied"]);
    assert!(list.contains(&flow) && !list.contains(&allowed.to_string()), "{list}");
    for part in ["PROTOCOL", "udp", "quic.test:443", "12  kernel-refused"] {
        assert!(list.contains(part), "{part}: {list}");
    }
    let (_, list) = output(&store, &["list"]);
    assert!(list.contains("  http      api  "), "{list}");
    let (_, shown) = output(&store, &["show", &flow]);
    assert!(shown.contains("(12 times, from 1970-01-01T00:00:01.000Z to"), "{shown}");
    let (_, shown) = output(&store, &["show", &flow, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown[0]["flow"], flow);
    assert_eq!(shown[0]["start"]["refusal"]["count"], 12);
    assert_eq!(shown[0]["end"]["outcome"], "kernel-refused");
    let (_, stats) = output(&store, &["stats"]);
    assert!(stats.contains("kernel     12 refused"), "{stats}");
    let (_, events) = output(&store, &["export", "--format", "ocsf"]);
    let events = events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut classes: Vec<_> = events.map(|event| event["class_uid"].as_u64()).collect();
    classes.sort_unstable();
    assert_eq!(classes, [Some(4001), Some(6003)], "the refusal, and the operation");
}

#[tokio::test]
async fn a_damaged_store_is_shown_as_far_as_it_goes_and_the_command_fails() {
    let dir = tempfile::tempdir().unwrap();
    let (store, flow) = sample(dir.path()).await;
    let manifest = std::fs::read_dir(&store).unwrap().map(|entry| entry.unwrap().path());
    let manifest =
        manifest.filter(|path| path.to_string_lossy().contains("MANIFEST-")).max().unwrap();
    let mut bytes = std::fs::read(&manifest).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&manifest, bytes).unwrap();
    let id = flow.to_string();
    let lines: [&[&str]; 4] =
        [&["list"], &["show", &id], &["export", "--format", "jsonl"], &["stats"]];
    for line in lines {
        let (code, out, err) = outputs(&store, line);
        assert_eq!(code, ExitCode::FAILURE, "{line:?}");
        assert!(out.contains("builder"), "{line:?}: {out}");
        let name = manifest.file_name().unwrap().to_str().unwrap();
        assert!(err.contains(name) && err.contains("damaged"), "{line:?}: {err}");
    }
    let (code, out, _) = outputs(&store, &["verify"]);
    assert_eq!(code, ExitCode::FAILURE);
    assert!(out.contains("NOT GOOD: 1 flows"), "{out}");
}

/// Operations of every kind that a HAR can hold.
pub(super) fn kinds() -> Vec<Vec<(Option<OperationId>, Kind)>> {
    let whole = events();
    let again = |keep: &dyn Fn(&Kind) -> bool, change: &dyn Fn(&mut Kind)| {
        let id = Some(OperationId::new());
        let kept = whole.iter().filter(|(_, kind)| keep(kind)).cloned();
        kept.map(|(_, mut kind)| {
            change(&mut kind);
            (id, kind)
        })
        .collect::<Vec<_>>()
    };
    let all = |_: &Kind| true;
    let same = |_: &mut Kind| {};
    let binary = |kind: &mut Kind| match kind {
        Kind::OperationAsked(asked) => {
            for fact in &mut asked.facts {
                if fact.name == "http.header.content-type" {
                    let grpc = v1::fact::Value::Text("application/grpc".into());
                    fact.value = Some(grpc);
                }
            }
        }
        Kind::RequestBody(sent) => *sent = body(b"\x00\x00\x00\x00\x02\xff\xfe"),
        _ => {}
    };
    let denied = |kind: &mut Kind| match kind {
        Kind::Decision(decision) => {
            decision.set_verdict(v1::Verdict::Deny);
            decision.reason = "policy".into();
        }
        Kind::ResponseHead(head) => {
            head.status = 403;
            head.synthetic = true;
            head.headers =
                vec![v1::Header { name: "location".into(), value: "https://other.test/".into() }];
        }
        Kind::ResponseBody(refusal) => *refusal = body(b"{\"status\":403}"),
        _ => {}
    };
    let long = |kind: &mut Kind| {
        if let Kind::RequestBody(sent) | Kind::ResponseBody(sent) = kind {
            *sent = body("\u{e9}".repeat(5_000).as_bytes());
        }
    };
    let packed = |kind: &mut Kind| match kind {
        Kind::ResponseHead(head) => {
            head.headers.push(v1::Header { name: "content-encoding".into(), value: "gzip".into() })
        }
        Kind::ResponseBody(sent) => {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut gzip, "plain ".repeat(50).as_bytes()).unwrap();
            *sent = body(&gzip.finish().unwrap());
        }
        _ => {}
    };
    let answer = |kind: &Kind| matches!(kind, Kind::ResponseHead(_) | Kind::ResponseBody(_));
    let begun = |kind: &mut Kind| {
        if let Kind::ResponseBody(sent) = kind {
            sent.last = false;
        }
    };
    let not_end = |kind: &Kind| !matches!(kind, Kind::OperationEnd(_));
    vec![
        again(&all, &same),
        again(&all, &binary),
        again(&all, &packed),
        again(&|kind| !matches!(kind, Kind::Forwarded(_)), &denied),
        again(&all, &long),
        again(&|kind| !answer(kind), &same),
        again(&not_end, &begun),
        again(&|kind| matches!(kind, Kind::OperationAsked(_)), &same),
    ]
}

#[path = "../../../../tests/src/har.rs"]
#[expect(unreachable_pub, reason = "the harness has the same file, and exports it")]
mod har_spec;

/// What the strict reader takes, which follows the format field by field.
#[tokio::test]
async fn the_har_of_every_kind_of_operation_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript { body_limit: 1_001, ..Transcript::default() };
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    let log = recorder.open_flow(v1::FlowStart::default()).await.unwrap();
    for events in kinds() {
        log.append_all(events, Durability::Logged).await.unwrap();
    }
    recorder.shutdown().await;
    let file = dir.path().join("out.har");
    let line = ["export", "--format", "har", "-o", file.to_str().unwrap()];
    let (_, out) = output(&store_dir(&cfg, dir.path()), &line);
    assert_eq!(out, "");
    let har: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(har_spec::check(&har), Ok(8), "{har:#}");
    let entries = &har["log"]["entries"];
    let first = &entries[0];
    assert_eq!(first["request"]["url"], "https://api.test/v1/x?a=1&b=two%20words");
    assert_eq!(first["request"]["queryString"][1]["value"], "two words");
    assert_eq!(first["response"]["content"]["encoding"], "base64");
    assert_eq!(first["response"]["content"]["size"], 7);
    assert_eq!(first["serverIPAddress"], "10.0.0.5");
    assert!(first["_digest"].is_string());
    let content = &entries[2]["response"]["content"];
    assert_eq!(content["text"], "plain ".repeat(50), "decoded, as the format wants it");
    assert_eq!(content["size"], 300);
    let sent = entries[2]["response"]["bodySize"].as_i64().unwrap();
    assert_eq!(content["compression"], 300 - sent);
    let of = |what: &dyn Fn(&Value) -> bool| {
        entries.as_array().unwrap().iter().filter(|e| what(e)).count()
    };
    assert_eq!(
        of(&|e| e["request"]["postData"]["_encoding"] == "base64"),
        2,
        "binary, and cut in a character"
    );
    assert_eq!(of(&|e| e["_verdict"] == "deny"), 1);
    assert_eq!(of(&|e| e["response"]["redirectURL"] == "https://other.test/"), 1);
    assert_eq!(of(&|e| e["response"]["content"]["_truncated"] == true), 1);
    assert_eq!(of(&|e| e["response"]["status"] == 0), 2);
}

#[test]
fn the_store_is_found_by_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("enforcer.toml");
    let place = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let args = StoreArgs { store: None, config: config.clone() };
        args.dir()
    };
    assert_eq!(place("").unwrap(), Path::new("/var/lib/enforcer/transcripts"));
    assert_eq!(place("[host]\ndata_dir = '/d'").unwrap(), Path::new("/d/transcripts"));
    assert_eq!(place("[transcript]\ndir = '/t'").unwrap(), Path::new("/t"));
    assert!(place("[transcript]\ndir = 7").is_err());
}

#[test]
fn hostile_text_is_escaped_and_lines_stay_in_blocks() {
    assert_eq!(text::Line("a\u{1b}[2Jb\r\n").to_string(), "a\\u{1b}[2Jb\\r\\n");
    assert_eq!(text::Block("a\n\tb\u{9b}").to_string(), "a\n\tb\\u{9b}");
    let json = text::json(&serde_json::json!("\u{7f}\u{202e}\u{e0041}é"));
    assert_eq!(json, "\"\\u007f\\u202e\\udb40\\udc41é\"");
    assert_eq!(text::head("äöü", 2), "äö");
}

proptest! {
    /// What is damaged can be printed in every form.
    #[test]
    fn any_event_is_shown_without_a_panic(cut in any::<usize>(), at in any::<usize>(), bit in 0..8_u32) {
        use prost::Message as _;
        let flow = FlowId::new();
        let mut seen = Assembler::default();
        let mut all = Vec::new();
        let mut scene = replay::Scene::new(false);
        for (n, (op, kind)) in events().into_iter().chain(database_events()).enumerate() {
            let event = v1::Event {
                seq: n as u64,
                operation: op.map(|id| id.0.as_bytes().to_vec()).unwrap_or_default(),
                kind: Some(kind),
                ..v1::Event::default()
            };
            let mut bytes = event.encode_to_vec();
            let place = at % bytes.len();
            bytes[place] ^= 1_u8 << bit;
            bytes.truncate(bytes.len() - cut % 3);
            if let Ok(event) = v1::Event::decode(bytes.as_slice()) {
                text::json(&json::event(flow, &event));
                let played = scene.event(event.clone());
                assert!(!played.chars().any(|c| text::hostile(c) && !matches!(c, '\n' | '\t')));
                all.extend(seen.add(event));
            }
        }
        scene.rest();
        all.extend(seen.rest());
        show::flow(flow, &seen, true);
        for exchange in &all {
            show::operation(exchange, 10);
            text::json(&json::exchange(flow, exchange));
            if let Some(entry) = har::entry(flow, None, exchange) {
                text::json(&entry);
            }
        }
    }
}
