//! Quota, body limit and retention.

use super::{body, config, end, exchange, fill, start, store, verify};
use crate::config::{AtQuota, Transcript};
use crate::record::read::Transcripts;
use crate::record::view::Assembler;
use crate::record::{Counters, Durability, RecordError, Recorder, convert};
use enforcer_proto::v1::{self, event::Kind};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

#[tokio::test]
async fn at_the_quota_nothing_goes_on_and_what_ends_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript { quota_bytes: 2 << 20, ..config() };
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    let log = recorder.open_flow(start()).await.unwrap();
    let mut refused = None;
    for n in 0..200 {
        for (op, kind) in exchange(&format!("/{n}"), &[b'{'; 40_000], b"") {
            if let Err(error) = log.append(op, kind, Durability::Logged).await {
                refused = Some(error);
                break;
            }
        }
        if refused.is_some() {
            break;
        }
    }
    assert!(matches!(refused, Some(RecordError::Full { .. })), "{refused:?}");
    assert!(recorder.open_flow(start()).await.is_err());
    let deny = v1::Decision {
        verdict: v1::Verdict::Deny.into(),
        reason: "record-failed".into(),
        ..v1::Decision::default()
    };
    log.append(None, Kind::Decision(deny), Durability::Logged).await.unwrap();
    log.end(end()).await.unwrap();
    recorder.shutdown().await;
    assert_eq!(verify(dir.path()).findings, []);
}

/// Fills the store as `agent` until that is refused, `most` exchanges at most.
async fn flood(recorder: &Recorder, agent: &str, most: usize) -> Option<RecordError> {
    let mut start = start();
    start.principal.as_mut().unwrap().agent = agent.into();
    for n in 0..most {
        let log = match recorder.open_flow(start.clone()).await {
            Ok(log) => log,
            Err(error) => return Some(error),
        };
        let mut events = exchange(&format!("/{n}"), &[b'{'; 20_000], b"");
        for (_, kind) in &mut events {
            if let Kind::OperationAsked(asked) = kind {
                let digest = convert::digest(asked, start.principal.as_ref().unwrap());
                asked.digest = digest.unwrap().to_string();
            }
        }
        if let Err(error) = log.append_all(events, Durability::Logged).await {
            return Some(error);
        }
        log.end(end()).await.unwrap();
    }
    None
}

/// Waits until it is known whose the bytes are.
async fn known(recorder: &Recorder) {
    let until = Instant::now() + Duration::from_secs(60);
    while !recorder.0.usage.is_loaded() {
        assert!(Instant::now() < until, "what earlier runs stored is not read");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_agent_at_its_share_stops_and_the_others_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript { quota_bytes: 4 << 20, agent_share: 50, ..config() };
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    known(&recorder).await;
    assert!(flood(&recorder, "quiet", 3).await.is_none());
    let refused = flood(&recorder, "loud", 1_000).await;
    assert!(
        matches!(&refused, Some(RecordError::Share { agent, .. }) if agent == "loud"),
        "{refused:?}"
    );
    assert_eq!(refused.unwrap().code(), "transcript-share");
    assert!(recorder.stats().disk_bytes < 3 << 20, "{:?}", recorder.stats());
    assert!(flood(&recorder, "quiet", 20).await.is_none(), "another agent still works");
    // What the kernel refused the loud one is still recorded.
    let mut start = start();
    start.principal.as_mut().unwrap().agent = "loud".into();
    start.refusal = Some(v1::KernelRefusal { count: 3, ..v1::KernelRefusal::default() });
    recorder.whole_flow(start, Vec::new(), end()).await.unwrap();
    recorder.shutdown().await;
    assert_eq!(verify(dir.path()).findings, []);
    // The next run knows whose the bytes are.
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    known(&recorder).await;
    let refused = flood(&recorder, "loud", 1_000).await;
    assert!(matches!(&refused, Some(RecordError::Share { .. })), "{refused:?}");
    assert!(flood(&recorder, "quiet", 3).await.is_none());
    recorder.shutdown().await;
}

#[test]
fn what_is_on_disk_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("table"), [0; 1_000]).unwrap();
    let counters = Counters::default();
    counters.bytes.store(900, Relaxed);
    counters.measure(dir.path());
    assert_eq!(counters.used(), 1_000);
    counters.bytes.fetch_add(50, Relaxed);
    assert_eq!(counters.used(), 1_050, "what was written since is growth");
    counters.measure(dir.path());
    assert_eq!(counters.used(), 1_000);
}

#[tokio::test]
async fn with_the_whole_quota_as_its_share_one_agent_may_fill_it() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript { quota_bytes: 2 << 20, agent_share: 100, ..config() };
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    let refused = flood(&recorder, "only", 1_000).await;
    assert!(matches!(refused, Some(RecordError::Full { .. })), "{refused:?}");
    recorder.shutdown().await;
}

#[tokio::test]
async fn at_the_quota_truncate_leaves_bodies_out_and_keeps_length_and_hash() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript { quota_bytes: 1 << 20, at_quota: AtQuota::Truncate, ..config() };
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    let log = recorder.open_flow(start()).await.unwrap();
    for n in 0..40 {
        let events = exchange(&format!("/{n}"), &[b'{'; 40_000], b"answer");
        log.append_all(events, Durability::Logged).await.unwrap();
    }
    log.end(end()).await.unwrap();
    recorder.shutdown().await;
    assert_eq!(verify(dir.path()).findings, []);
    let all = Transcripts::open(&store(dir.path())).unwrap();
    let mut assembler = Assembler::default();
    let mut last = None;
    all.events(log.id(), |event| {
        last = assembler.add(event).or_else(|| last.take());
        Ok(true)
    })
    .unwrap();
    let last = last.unwrap();
    assert!(last.request.truncated && last.request.data.is_empty());
    assert_eq!(last.request.length(), 40_000);
}

#[tokio::test]
async fn a_body_past_its_limit_is_cut_and_says_its_length() {
    let dir = tempfile::tempdir().unwrap();
    let cfg = Transcript { body_limit: 1_000, ..config() };
    let recorder = Recorder::open(&cfg, dir.path()).unwrap();
    let log = recorder.open_flow(start()).await.unwrap();
    let events = exchange("/", b"{}", &[b'y'; 5_000]);
    let op = events[0].0;
    log.append_all(events, Durability::Logged).await.unwrap();
    for n in 0..5 {
        let piece = Kind::ResponseBody(body(&[b'z'; 400], n == 4));
        log.append(op, piece, Durability::Logged).await.unwrap();
    }
    log.end(end()).await.unwrap();
    recorder.shutdown().await;
    let report = verify(dir.path());
    assert_eq!(report.findings, []);
    // Of the five pieces the fourth left nothing.
    assert_eq!(report.events, 1 + 8 + 4 + 1);
}

#[tokio::test]
async fn what_retention_removes_stays_proved() {
    let dir = tempfile::tempdir().unwrap();
    let keep = super::open(dir.path());
    for _ in 0..3 {
        let log = keep.open_flow(start()).await.unwrap();
        fill(&log, "/old").await;
        log.end(end()).await.unwrap();
    }
    keep.shutdown().await;
    // The same store, looked at as it will be in 31 days.
    let store_path = store(dir.path());
    let later = crate::record::now_ns() + 1;
    let recorder = super::open(dir.path());
    let open = recorder.open_flow(start()).await.unwrap();
    recorder.retire_before(later).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while recorder.stats().retired < 3 {
        assert!(Instant::now() < until, "{:?}", recorder.stats());
        tokio::task::yield_now().await;
    }
    open.end(end()).await.unwrap();
    recorder.shutdown().await;
    let report = crate::record::verify::verify(&store_path, None).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.retired, report.flows), (3, 1));
    let all = Transcripts::open(&store_path).unwrap();
    let mut left = 0;
    all.flows(&Default::default(), |_| {
        left += 1;
        Ok(true)
    })
    .unwrap();
    assert_eq!(left, 1);
}
