//! What is changed behind the recorder's back is found and named.

use super::{sample, store, verify};
use crate::record::read::{Filter, Transcripts};
use crate::record::store::{Cf, Store};
use crate::record::verify::{Report, verify_store};
use crate::record::{FlowId, key};
use std::path::Path;

/// The ids of the flows, oldest first.
fn flows(dir: &Path) -> Vec<FlowId> {
    let all = Transcripts::open(&store(dir)).unwrap();
    let mut ids = Vec::new();
    all.flows(&Filter::default(), |flow| {
        ids.push(flow.id);
        Ok(true)
    })
    .unwrap();
    ids.reverse();
    ids
}

fn rows(store: &Store, cf: Cf) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = store.rows(cf, b"").unwrap();
    let mut all = Vec::new();
    while let Some((key, value)) = rows.next_row().unwrap() {
        all.push((key.to_vec(), value.to_vec()));
    }
    all
}

fn change(dir: &Path, change: impl FnOnce(&Store)) -> Report {
    let writable = Store::open(&store(dir)).unwrap();
    change(&writable);
    drop(writable);
    verify(dir)
}

fn delete(store: &Store, cf: Cf, key: &[u8]) {
    store.db().delete_cf(store.cf(cf).unwrap(), key).unwrap();
}

fn named(report: &Report, flow: FlowId, seq: u64) -> bool {
    let first = &report.findings[0];
    first.flow == Some(flow.to_string()) && first.seq == Some(seq)
}

#[tokio::test]
async fn an_event_altered_dropped_or_swapped_is_named() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    assert!(verify(dir.path()).good, "control");
    let flow = flows(dir.path())[1];
    let count = 18;
    for seq in 0..count {
        let at = key::event(flow, seq);
        let mut original = Vec::new();
        let report = change(dir.path(), |store| {
            original = store.get(Cf::Events, &at).unwrap().unwrap();
            let mut altered = original.clone();
            // A byte of the time: still an event, with the sequence that it should have.
            let byte = altered.iter().position(|b| *b == 0x10).unwrap() + 2;
            altered[byte] ^= 1;
            store.put(Cf::Events, &at, &altered).unwrap();
        });
        assert!(!report.good);
        assert!(named(&report, flow, seq), "altered {seq}: {:?}", report.findings);

        let report = change(dir.path(), |store| delete(store, Cf::Events, &at));
        assert!(named(&report, flow, seq), "dropped {seq}: {:?}", report.findings);

        let report = change(dir.path(), |store| {
            store.put(Cf::Events, &at, &original).unwrap();
        });
        assert!(report.good, "control after {seq}: {:?}", report.findings);
    }
    for seq in 0..count - 1 {
        let swap = |store: &Store| {
            let (a, b) = (key::event(flow, seq), key::event(flow, seq + 1));
            let first = store.get(Cf::Events, &a).unwrap().unwrap();
            let second = store.get(Cf::Events, &b).unwrap().unwrap();
            store.put(Cf::Events, &a, &second).unwrap();
            store.put(Cf::Events, &b, &first).unwrap();
        };
        let report = change(dir.path(), swap);
        assert!(named(&report, flow, seq), "swapped {seq}: {:?}", report.findings);
        assert!(change(dir.path(), swap).good, "control");
    }
}

#[tokio::test]
async fn one_flipped_bit_in_any_byte_of_any_row_is_found() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let writable = Store::open(&store(dir.path())).unwrap();
    let good = || verify_store(&writable, None).good;
    for cf in Cf::ALL {
        let all = rows(&writable, cf);
        assert!(!all.is_empty(), "{cf:?} has rows");
        for (n, (key, value)) in all.iter().enumerate() {
            // Every byte of the first rows, then a sample that differs from row to row.
            let (from, step) = if n < 2 { (0, 1) } else { (n % 61, 61) };
            for at in (from..value.len()).step_by(step) {
                let mut other = value.clone();
                other[at] ^= 1 << (at % 8);
                writable.put(cf, key, &other).unwrap();
                assert!(!good(), "{cf:?} row {n} value byte {at}");
            }
            writable.put(cf, key, value).unwrap();
            for at in (from % 7..key.len()).step_by(if n < 2 { 1 } else { 7 }) {
                let mut other = key.clone();
                other[at] ^= 1 << (at % 8);
                delete(&writable, cf, key);
                writable.put(cf, &other, value).unwrap();
                assert!(!good(), "{cf:?} row {n} key byte {at}");
                // The other key may be that of a row of its own.
                match all.iter().find(|(key, _)| *key == other) {
                    Some((key, value)) => writable.put(cf, key, value).unwrap(),
                    None => delete(&writable, cf, &other),
                }
                writable.put(cf, key, value).unwrap();
            }
        }
        assert!(good(), "control after {cf:?}");
    }
}

#[tokio::test]
async fn a_dropped_flow_a_cut_tail_and_a_forged_row_are_named() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let flow = flows(dir.path())[2];
    let path = store(dir.path());
    let saved = Cf::ALL.map(|cf| rows(&Store::open(&path).unwrap(), cf));
    let put_back = |store: &Store| {
        for (cf, rows) in Cf::ALL.iter().zip(&saved) {
            for (key, value) in rows {
                store.put(*cf, key, value).unwrap();
            }
        }
    };
    let drop_flow = |store: &Store| {
        for cf in Cf::ALL {
            for (key, _) in rows(store, cf) {
                let of =
                    key.starts_with(flow.as_bytes()) || key::index_flow(cf, &key) == Some(flow);
                if of {
                    delete(store, cf, &key);
                }
            }
        }
    };
    // The whole flow with all its traces but the log.
    let report = change(dir.path(), drop_flow);
    assert_eq!(report.findings[0].flow, Some(flow.to_string()));
    assert!(report.findings[0].what.contains("was sealed"), "{report:?}");
    assert!(change(dir.path(), put_back).good, "control");

    // With its entry of the log, too.
    let report = change(dir.path(), |store| {
        drop_flow(store);
        for (key, value) in rows(store, Cf::Checkpoints) {
            if key[0] == b'l' && value.windows(16).any(|part| part == flow.as_bytes()) {
                delete(store, Cf::Checkpoints, &key);
            }
        }
    });
    assert!(!report.good);
    assert!(report.findings[0].what.contains("missing"), "{report:?}");
    assert!(change(dir.path(), put_back).good, "control");

    // The tail: the last three events.
    let report = change(dir.path(), |store| {
        for seq in 15..18 {
            delete(store, Cf::Events, &key::event(flow, seq));
        }
    });
    assert!(named(&report, flow, 15), "{report:?}");
    assert!(change(dir.path(), put_back).good, "control");

    // An event added behind the end.
    let report = change(dir.path(), |store| {
        let last = store.get(Cf::Events, &key::event(flow, 17)).unwrap().unwrap();
        store.put(Cf::Events, &key::event(flow, 18), &last).unwrap();
    });
    assert!(report.findings.iter().any(|f| f.seq == Some(18)), "{report:?}");
    let report = change(dir.path(), |store| delete(store, Cf::Events, &key::event(flow, 18)));
    assert!(report.good, "control");

    // A checkpoint dropped.
    let report = change(dir.path(), |store| {
        delete(store, Cf::Checkpoints, &key::checkpoint(0));
    });
    assert!(report.findings[0].place.contains("checkpoint 0"), "{report:?}");
    assert!(change(dir.path(), put_back).good, "control");
    let known = verify(dir.path()).host_key;
    assert!(crate::record::verify::verify(&path, Some(&known)).unwrap().good);
    assert!(!crate::record::verify::verify(&path, Some(&"00".repeat(32))).unwrap().good);
}

#[tokio::test]
async fn a_flow_that_a_signed_head_saw_open_cannot_lose_its_tail() {
    use super::{fill, open, start};
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path());
    let log = recorder.open_flow(start()).await.unwrap();
    fill(&log, "/open").await;
    recorder.shutdown().await;
    let report = verify(dir.path());
    assert!(report.good && report.open_flows == 1, "control: {report:?}");
    let report = change(dir.path(), |store| {
        delete(store, Cf::Events, &key::event(log.id(), 8));
    });
    assert!(named(&report, log.id(), 8), "{report:?}");
}

/// Copies a directory of files.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_flipped_byte_in_a_file_is_a_finding_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path()).await;
    let path = store(dir.path());
    // Once with all in the write-ahead log, once in table files.
    for flushed in [false, true] {
        if flushed {
            let writable = Store::open(&path).unwrap();
            for cf in Cf::ALL {
                writable.db().flush_cf(writable.cf(cf).unwrap()).unwrap();
            }
        }
        let kind = if flushed { "sst" } else { "log" };
        let files: Vec<_> = std::fs::read_dir(&path)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|file| file.extension().is_some_and(|found| found == kind))
            .filter(|file| file.metadata().unwrap().len() > 0)
            .collect();
        assert!(!files.is_empty());
        for file in files {
            let bytes = std::fs::read(&file).unwrap();
            // The beginning of a file holds rows; of the log all of it does.
            let places = [20, bytes.len() / 3, bytes.len() / 2, bytes.len() * 9 / 10];
            for at in places.into_iter().take(if flushed { 1 } else { 4 }) {
                let scratch = tempfile::tempdir().unwrap();
                let other = scratch.path().join("copy");
                copy(&path, &other);
                let name = file.file_name().unwrap();
                let mut flipped = bytes.clone();
                flipped[at] ^= 0x10;
                std::fs::write(other.join(name), flipped).unwrap();
                let report = crate::record::verify::verify(&other, None).unwrap();
                assert!(!report.good, "{} byte {at}", file.display());
                let all = format!("{:?}", report.findings);
                assert!(all.contains("orruption"), "{all}");
                assert!(all.contains(name.to_str().unwrap()), "the file is named: {all}");
                if !flushed {
                    // RocksDB gives up the block that the damage is in: here that is the whole
                    // second run, and what is left is what the first had written.
                    assert!(all.contains(" at byte "), "and the place: {all}");
                    assert!(Store::open(&other).is_err());
                }
            }
        }
    }
}
