//! Suites over the whole store.

use super::{Durability, FlowLog, RecordError, Recorder};
use crate::config::Transcript;
use crate::operation::{Operation, OperationId, Protocol};
use crate::principal::{AgentName, Principal, Process};
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use futures_util::FutureExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

mod crash;
mod damage;
mod limits;
mod tamper;

/// The configuration of a store in `dir`.
fn config() -> Transcript {
    Transcript { quota_bytes: 1 << 40, agent_share: 100, ..Transcript::default() }
}

fn open(dir: &Path) -> Recorder {
    Recorder::open(&config(), dir).unwrap()
}

fn store(dir: &Path) -> PathBuf {
    super::store_dir(&config(), dir)
}

fn principal() -> Principal {
    Principal {
        host: "host-1".into(),
        agent: AgentName::parse("builder").unwrap(),
        task: Some("docs".into()),
        cgroup: "/agents.slice/builder/task-docs".into(),
        process: Process {
            pid: 42,
            comm: "curl".into(),
            argv: vec!["curl".into(), "https://api.test/".into()],
            ..Process::default()
        },
    }
}

fn start() -> v1::FlowStart {
    v1::FlowStart {
        principal: Some((&principal()).into()),
        orig_addr: "198.18.0.7".into(),
        orig_port: 443,
        transport: "tcp".into(),
        name: "api.test".into(),
        target: "api".into(),
        version: "test".into(),
        policy: "sha256:0123456789ab".into(),
        layers: vec!["cgroup".into()],
        refusal: None,
    }
}

fn end() -> v1::FlowEnd {
    v1::FlowEnd { outcome: "complete".into(), ..v1::FlowEnd::default() }
}

fn body(data: &[u8], last: bool) -> v1::Body {
    v1::Body { data: Bytes::copy_from_slice(data), last, ..v1::Body::default() }
}

/// The events of one POST that a person approved.
fn exchange(path: &str, sent: &[u8], answer: &[u8]) -> Vec<(Option<OperationId>, Kind)> {
    let url = format!("https://api.test{path}");
    let mut op = Operation::new("api", "api.test", 443, Protocol::Http, "http.post", url);
    op.fact("http.method", "POST");
    op.fact("http.scheme", "https");
    op.fact("http.authority", "api.test");
    op.fact("http.path", path);
    op.fact("http.query", "q=1&r=a%20b");
    op.fact("http.header.content-type", "application/json");
    op.with_body(Bytes::copy_from_slice(sent));
    let asked = super::convert::asked(&op, &op.digest(&principal()), Vec::new());
    let decision = v1::Decision {
        verdict: v1::Verdict::Allow.into(),
        reason: "policy".into(),
        rules: vec!["post-docs".into()],
        approval: "0192f0c1-0000-7000-8000-000000000001".into(),
        scope: "writes".into(),
        decided_by: vec!["alice".into()],
        held_ms: 1_200,
        ..v1::Decision::default()
    };
    let head = v1::ResponseHead {
        status: 200,
        headers: vec![v1::Header { name: "content-type".into(), value: "application/json".into() }],
        version: "HTTP/1.1".into(),
        synthetic: false,
    };
    let end = v1::OperationEnd {
        outcome: "complete".into(),
        request_bytes: sent.len() as u64,
        response_bytes: answer.len() as u64,
        masked: vec![v1::MaskCount { rule: "email".into(), count: 2 }],
        ..v1::OperationEnd::default()
    };
    let half = answer.len() / 2;
    [
        Kind::OperationAsked(asked),
        Kind::RequestBody(body(sent, true)),
        Kind::Decision(decision),
        Kind::Forwarded(v1::Forwarded {
            upstream: "10.0.0.5:443".into(),
            tls_version: "TLSv1.3".into(),
            alpn: "http/1.1".into(),
            ..v1::Forwarded::default()
        }),
        Kind::ResponseHead(head),
        Kind::ResponseBody(body(&answer[..half], false)),
        Kind::ResponseBody(body(&answer[half..], true)),
        Kind::OperationEnd(end),
    ]
    .map(|kind| (Some(op.id), kind))
    .into()
}

async fn fill(log: &FlowLog, path: &str) {
    let events = exchange(path, b"{\"a\":1}", b"{\"mail\":\"[masked]\"}");
    log.append_all(events, Durability::Synced).await.unwrap();
}

/// Three sealed flows, and one that an earlier run left open.
async fn sample(dir: &Path) {
    let recorder = open(dir);
    for n in 0..3 {
        let log = recorder.open_flow(start()).await.unwrap();
        fill(&log, &format!("/v1/docs/{n}")).await;
        fill(&log, &format!("/v1/more/{n}")).await;
        log.end(end()).await.unwrap();
    }
    let left = recorder.open_flow(start()).await.unwrap();
    fill(&left, "/v1/left").await;
    recorder.shutdown().await;
    drop(left);
    let recorder = open(dir);
    assert_eq!(recorder.stats().recovered, 1);
    recorder.shutdown().await;
}

fn verify(dir: &Path) -> super::verify::Report {
    super::verify::verify(&store(dir), None).unwrap()
}

#[tokio::test]
async fn a_store_that_was_only_written_verifies_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let report = verify(dir.path());
    assert_eq!(report.findings, []);
    assert!(report.good);
    assert_eq!((report.flows, report.open_flows), (4, 0));
    assert_eq!(report.operations, 7);
    assert_eq!(report.sessions, 2);
    assert_eq!(report.unsigned_entries, 0);
    let all = super::read::Transcripts::open(&store(dir.path())).unwrap();
    let mut outcomes = Vec::new();
    let filter = super::read::Filter {
        agent: Some("builder".into()),
        target: Some("api".into()),
        ..Default::default()
    };
    all.flows(&filter, |flow| {
        outcomes.push(flow.outcome().to_owned());
        Ok(true)
    })
    .unwrap();
    assert_eq!(outcomes, ["recovered", "complete", "complete", "complete"]);
    let found = all.find("0192f0c1-0000-7000-8000-000000000001").unwrap();
    assert_eq!(found.len(), 7);
    let operation = found[0].operation.unwrap().to_string();
    assert_eq!(all.find(&operation).unwrap(), [found[0].clone()]);
}

#[tokio::test]
async fn reading_changes_nothing_on_disk_and_works_beside_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let log = recorder.open_flow(start()).await.unwrap();
    fill(&log, "/live").await;
    let files = || {
        let mut all: Vec<_> = std::fs::read_dir(store(dir.path()))
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name(), entry.metadata().unwrap().len()))
            .collect();
        all.sort();
        all
    };
    let before = files();
    let report = verify(dir.path());
    assert_eq!(report.findings, []);
    assert_eq!((report.flows, report.open_flows, report.events), (1, 1, 9));
    assert_eq!(files(), before);
    log.end(end()).await.unwrap();
    assert!(log.end(end()).await.is_err());
    recorder.shutdown().await;
    assert!(recorder.open_flow(start()).await.is_err());
    assert!(verify(dir.path()).good);
}

#[tokio::test]
async fn a_flow_that_is_dropped_is_sealed_as_cut() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let log = recorder.open_flow(start()).await.unwrap();
    fill(&log, "/x").await;
    let id = log.id();
    drop(log);
    recorder.shutdown().await;
    let all = super::read::Transcripts::open(&store(dir.path())).unwrap();
    assert_eq!(all.flow(id).unwrap().unwrap().outcome(), "cut");
    assert!(verify(dir.path()).good);
}

/// It waits for others that are ready, with its event in the line already.
#[tokio::test]
async fn an_event_is_recorded_though_its_appender_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let log = recorder.open_flow(start()).await.unwrap();
    let other = recorder.open_flow(start()).await.unwrap();
    assert_eq!(recorder.stats().events, 2);
    let (op, kind) = exchange("/x", b"", &[]).remove(0);
    let appended = log.append(op, kind, Durability::Logged).now_or_never();
    assert!(appended.is_none(), "it waits");
    let recorded = async {
        while recorder.stats().events < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), recorded).await.unwrap();
    drop((log, other));
    recorder.shutdown().await;
    assert!(verify(dir.path()).good);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_one_flow_append_at_once_and_leave_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let log = recorder.open_flow(start()).await.unwrap();
    let mut streams = tokio::task::JoinSet::new();
    for n in 0..32 {
        let log = log.clone();
        streams.spawn(async move {
            for (op, kind) in exchange(&format!("/{n}"), b"{}", &[b'x'; 2_000]) {
                log.append(op, kind, Durability::Logged).await.unwrap();
            }
        });
    }
    while let Some(done) = streams.join_next().await {
        done.unwrap();
    }
    log.end(end()).await.unwrap();
    let stats = recorder.stats();
    assert_eq!(stats.events, 32 * 8 + 2);
    recorder.shutdown().await;
    let report = verify(dir.path());
    assert_eq!(report.findings, []);
    assert_eq!(report.operations, 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_writes_go_on_when_the_buffers_are_full() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let mut flows = tokio::task::JoinSet::new();
    for n in 0..8 {
        let recorder = recorder.clone();
        flows.spawn(async move {
            let log = recorder.open_flow(start()).await.unwrap();
            for m in 0..40 {
                let events = exchange(&format!("/{n}/{m}"), b"{}", &[b'x'; 200_000]);
                log.append_all(events, Durability::Logged).await.unwrap();
            }
            log.end(end()).await.unwrap();
        });
    }
    while let Some(done) = flows.join_next().await {
        done.unwrap();
    }
    // One that is synced, between others that are not.
    let log = recorder.open_flow(start()).await.unwrap();
    fill(&log, "/synced").await;
    log.end(end()).await.unwrap();
    assert_eq!(recorder.stats().events, 8 * (40 * 8 + 2) + 10);
    recorder.shutdown().await;
    assert!(matches!(recorder.open_flow(start()).await, Err(RecordError::Closed)));
    let report = verify(dir.path());
    assert_eq!(report.findings, []);
    assert_eq!(report.operations, 8 * 40 + 1);
}

#[tokio::test]
async fn a_store_of_another_format_or_key_or_owner_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let refused = || Recorder::open(&config(), dir.path()).err().unwrap().to_string();
    let key = dir.path().join("transcript.key");
    let aside = dir.path().join("aside");
    std::fs::rename(&key, &aside).unwrap();
    assert!(refused().contains("another host key"), "{}", refused());
    std::fs::rename(&aside, &key).unwrap();
    let held = open(dir.path());
    assert!(refused().contains("lock"), "{}", refused());
    held.shutdown().await;
    let writable = super::store::Store::open(&store(dir.path())).unwrap();
    let format = super::store::meta::FORMAT;
    writable.put(super::store::Cf::Meta, format, b"2").unwrap();
    drop(writable);
    assert!(refused().contains("format \"2\""), "{}", refused());
    assert!(super::verify::verify(&store(dir.path()), None).is_err());
    assert!(super::read::Transcripts::open(dir.path()).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_while_tables_are_flushed_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let path = store(dir.path());
    let (done, mut over) = tokio::sync::oneshot::channel::<()>();
    let reader = tokio::task::spawn_blocking(move || {
        let mut readings = 0;
        while over.try_recv().is_err() {
            let report = super::verify::verify(&path, None).unwrap();
            assert_eq!(report.findings, [], "reading {readings}");
            readings += 1;
        }
        readings
    });
    // More than the write buffers hold, so that tables are flushed and logs dropped meanwhile.
    for n in 0..24 {
        let log = recorder.open_flow(start()).await.unwrap();
        let events = exchange(&format!("/{n}"), b"{}", &vec![b'x'; 2 << 20]);
        log.append_all(events, Durability::Logged).await.unwrap();
        log.end(end()).await.unwrap();
    }
    done.send(()).unwrap();
    assert!(reader.await.unwrap() > 0);
    let tables = std::fs::read_dir(store(dir.path())).unwrap();
    let tables = tables.filter(|file| {
        let path = file.as_ref().unwrap().path();
        path.extension().is_some_and(|kind| kind == "sst")
    });
    assert!(tables.count() > 0, "control: tables were flushed");
    recorder.shutdown().await;
    assert!(verify(dir.path()).good);
}
