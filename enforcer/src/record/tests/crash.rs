//! The recorder killed at any moment: all that it acked is there, and the store verifies.

use super::{body, end, exchange, open, start, store, verify};
use crate::record::read::Transcripts;
use crate::record::{Durability, FlowId};
use enforcer_proto::v1::event::Kind;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "ENFORCER_TEST_CRASH_CHILD";

/// The process that is killed: says each event on its standard output after its ack.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let recorder = open(dir.as_ref());
        let mut work = tokio::task::JoinSet::new();
        for worker in 0..8 {
            let recorder = recorder.clone();
            work.spawn(async move {
                loop {
                    let log = recorder.open_flow(start()).await.unwrap();
                    acked(log.id(), 0);
                    for (op, kind) in exchange(&format!("/{worker}"), b"{}", &[b'x'; 3_000]) {
                        let seq = log.append(op, kind, Durability::Synced).await.unwrap();
                        acked(log.id(), seq);
                    }
                    log.end(end()).await.unwrap();
                    acked(log.id(), 9);
                }
            });
        }
        work.join_next().await;
    });
}

fn acked(flow: FlowId, seq: u64) {
    // One write, so that a line is whole or not there.
    let line = format!("\nacked {flow} {seq}\n");
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

#[test]
fn killed_at_random_every_acked_event_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked: HashMap<FlowId, u64> = HashMap::new();
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "record::tests::crash::child", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let (send, receive) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("acked ") {
                    let (flow, seq) = line.split_once(' ').unwrap();
                    let _ =
                        send.send((flow.parse::<FlowId>().unwrap(), seq.parse::<u64>().unwrap()));
                }
            }
        });
        // Kill after some acks, each round at another point of the work.
        for _ in 0..(40 + round * 97) {
            let (flow, seq) = receive.recv_timeout(Duration::from_secs(60)).unwrap();
            acked.insert(flow, seq.max(acked.get(&flow).copied().unwrap_or(0)));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        for (flow, seq) in receive.try_iter() {
            acked.insert(flow, seq.max(acked.get(&flow).copied().unwrap_or(0)));
        }
        let report = verify(dir.path());
        assert_eq!(report.findings, [], "dead, round {round}");
        let all = Transcripts::open(&store(dir.path())).unwrap();
        for (flow, seq) in &acked {
            let mut count = 0;
            all.events(*flow, |_| {
                count += 1;
                Ok(true)
            })
            .unwrap();
            assert!(count > *seq, "flow {flow}: {count} events, {seq} was acked");
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let recorder = open(dir.path());
        assert!(recorder.stats().recovered > 0);
        let log = recorder.open_flow(start()).await.unwrap();
        let kind = Kind::RequestBody(body(b"after", true));
        log.append(None, kind, Durability::Logged).await.unwrap();
        log.end(end()).await.unwrap();
        recorder.shutdown().await;
    });
    let report = verify(dir.path());
    assert_eq!(report.findings, []);
    assert_eq!((report.open_flows, report.unsigned_entries), (0, 0));
}
