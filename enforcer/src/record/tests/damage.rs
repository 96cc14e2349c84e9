//! Damage of the store's own files: verify and the readers name the place and go on.

use super::{end, exchange, fill, open, start, store};
use crate::record::read::{Filter, Transcripts};
use crate::record::store::{Cf, Store};
use crate::record::verify::{Report, verify};
use crate::record::{Durability, FlowId};
use std::path::{Path, PathBuf};

/// Flows of which each fills tables of its own (the store is flushed between them), and one whose
/// events fill several blocks; the last two are in the write-ahead log only.
struct Sample {
    _dir: tempfile::TempDir,
    path: PathBuf,
    flows: Vec<FlowId>,
}

const FLUSHED: usize = 3;

async fn sample() -> Sample {
    let dir = tempfile::tempdir().unwrap();
    let path = store(dir.path());
    let mut flows = Vec::new();
    for n in 0..FLUSHED + 2 {
        let recorder = open(dir.path());
        let log = recorder.open_flow(start()).await.unwrap();
        fill(&log, &format!("/{n}")).await;
        for m in 0..6 {
            let large = vec![b'x'; 20_000];
            let events = exchange(&format!("/{n}/{m}"), b"{}", &large);
            log.append_all(events, Durability::Logged).await.unwrap();
        }
        log.end(end()).await.unwrap();
        flows.push(log.id());
        recorder.shutdown().await;
        if n < FLUSHED {
            let writable = Store::open(&path).unwrap();
            for cf in Cf::ALL {
                writable.db().flush_cf(writable.cf(cf).unwrap()).unwrap();
            }
        }
    }
    assert!(verify(&path, None).unwrap().good, "control");
    Sample { _dir: dir, path, flows }
}

/// The tables of a column family, oldest first.
fn tables(path: &Path, cf: Cf) -> Vec<String> {
    let store = Store::open_read_only(path).unwrap();
    let all = store.db().live_files().unwrap();
    let of = all.iter().filter(|file| file.column_family_name == cf.name());
    let mut names: Vec<_> = of.map(|file| file.name.trim_start_matches('/').to_owned()).collect();
    names.sort();
    names
}

fn file(path: &Path, begins: &str, ends: &str) -> String {
    let mut names: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.metadata().unwrap().len() > 0)
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name.starts_with(begins) && name.ends_with(ends))
        .collect();
    names.sort();
    names.pop().unwrap()
}

/// What every file holds, to see that nothing is changed.
fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<_> = std::fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect();
    all.sort();
    all
}

/// Damages a copy, and gives what verify says of it and which flows a listing still shows.
fn damage(sample: &Sample, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> (Report, Listed) {
    let scratch = tempfile::tempdir().unwrap();
    for (name, bytes) in contents(&sample.path) {
        std::fs::write(scratch.path().join(name), bytes).unwrap();
    }
    let file = scratch.path().join(name);
    let mut bytes = std::fs::read(&file).unwrap();
    change(&mut bytes);
    std::fs::write(&file, bytes).unwrap();
    let before = contents(scratch.path());
    let report = verify(scratch.path(), None).unwrap();
    let all = Transcripts::open(scratch.path()).unwrap();
    let mut listed = Listed::default();
    all.flows(&Filter::default(), |flow| {
        let mut events = 0;
        all.events(flow.id, |_| {
            events += 1;
            Ok(true)
        })?;
        listed.flows.push((flow.id, events));
        Ok(true)
    })
    .unwrap();
    listed.damage = all.damage();
    assert_eq!(contents(scratch.path()), before, "nothing is changed");
    assert!(!report.good, "{name}");
    let said = format!("{:?}", report.findings);
    assert!(said.contains(name), "verify names {name}: {said}");
    // A listing does not read every table.
    let lost = listed.flows.len() < sample.flows.len()
        || listed.flows.iter().any(|(_, events)| *events < EVENTS);
    listed.says = listed.damage.iter().any(|what| what.contains(name));
    assert!(listed.says || !lost, "{name}: {:?}", listed.damage);
    (report, listed)
}

type Change = fn(&mut Vec<u8>);

#[derive(Default)]
struct Listed {
    flows: Vec<(FlowId, u64)>,
    damage: Vec<String>,
    /// Whether it names the file.
    says: bool,
}

impl Listed {
    fn events(&self, flow: FlowId) -> Option<u64> {
        self.flows.iter().find(|(id, _)| *id == flow).map(|(_, events)| *events)
    }
}

fn names(report: &Report, flow: FlowId) -> bool {
    report.findings.iter().any(|finding| finding.flow == Some(flow.to_string()))
}

/// Events of one flow of the sample.
const EVENTS: u64 = 1 + 7 * 8 + 1;

#[tokio::test]
async fn a_damaged_block_of_events_costs_what_is_in_it() {
    let sample = sample().await;
    let table = &tables(&sample.path, Cf::Events)[1];
    // The second block, one in the middle, and one near the last.
    for at in [30_000, 60_000, 125_000] {
        let (report, listed) = damage(&sample, table, |bytes| bytes[at] ^= 4);
        for (n, flow) in sample.flows.iter().enumerate() {
            assert_eq!(names(&report, *flow), n == 1, "{at}: {:?}", report.findings);
            let events = listed.events(*flow).unwrap();
            assert!(if n == 1 { events < EVENTS } else { events == EVENTS }, "{at}: {events}");
            assert!(events > EVENTS / 2, "{at}: the rest of the flow is read: {events}");
        }
        assert_eq!(report.flows, 5, "{at}");
        let said = format!("{:?}", report.findings);
        assert!(said.contains("cannot be read") && said.contains("offset"), "{said}");
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_opened_costs_what_is_in_it() {
    let sample = sample().await;
    let table = &tables(&sample.path, Cf::Events)[1];
    let changes: [(&str, Change); 5] = [
        // Without it no table beside this one can be read from below.
        ("the first block", |bytes| bytes[100] ^= 1),
        ("the footer", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("an index block", |bytes| {
            let at = index_block(bytes);
            bytes[at] ^= 1;
        }),
        ("half of the file", |bytes| bytes.truncate(bytes.len() / 2)),
        ("the whole file", Vec::clear),
    ];
    for (what, change) in changes {
        let (report, listed) = damage(&sample, table, change);
        for (n, flow) in sample.flows.iter().enumerate() {
            assert_eq!(names(&report, *flow), n == 1, "{what}: {:?}", report.findings);
            let events = listed.events(*flow).unwrap();
            assert_eq!(events, if n == 1 { 0 } else { EVENTS }, "{what}");
        }
        assert_eq!(report.flows, 4, "{what}");
        assert_eq!(report.log_entries, 15, "{what}: the rest is checked");
    }
}

/// A byte of the index: it lies right before the properties.
fn index_block(bytes: &[u8]) -> usize {
    let name = b"rocksdb.block.based.table.index.type";
    let properties = bytes.windows(name.len()).position(|part| part == name).unwrap();
    properties - 40
}

#[tokio::test]
async fn every_family_of_tables_can_be_lost_without_losing_the_rest() {
    let sample = sample().await;
    let changes: [(&str, Change); 2] = [
        ("footer", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("first block", |bytes| bytes[3] ^= 1),
    ];
    for cf in Cf::ALL {
        for table in tables(&sample.path, cf) {
            for (what, change) in changes {
                let (report, listed) = damage(&sample, &table, change);
                assert!(report.flows >= 4, "{cf:?} {table}: {report:?}");
                assert!(listed.says || what == "first block", "{cf:?} {table}");
                assert!(listed.flows.len() >= 4, "{cf:?} {table}: {:?}", listed.flows);
            }
        }
    }
}

#[tokio::test]
async fn without_its_manifest_a_store_is_read_from_tables_and_log() {
    let sample = sample().await;
    let manifest = file(&sample.path, "MANIFEST-", "");
    let changes: [(&str, Change); 3] = [
        ("its beginning", |bytes| bytes[20] ^= 1),
        ("its middle", |bytes| {
            let at = bytes.len() / 2;
            bytes[at] ^= 1;
        }),
        ("all", Vec::clear),
    ];
    for (what, change) in changes {
        let (report, listed) = damage(&sample, &manifest, change);
        assert_eq!(report.flows, 5, "{what}: {:?}", report.findings);
        for flow in &sample.flows {
            assert_eq!(listed.events(*flow), Some(EVENTS), "{what}");
            assert!(!names(&report, *flow), "{what}: {:?}", report.findings);
        }
    }
    let change: [Change; 2] = [|bytes| bytes[3] ^= 1, Vec::clear];
    for change in change {
        let (report, listed) = damage(&sample, "CURRENT", change);
        assert_eq!(report.flows, 5, "{:?}", report.findings);
        assert_eq!(listed.flows.len(), 5);
        assert!(listed.flows.iter().all(|(_, events)| *events == EVENTS));
    }
}

#[tokio::test]
async fn a_damaged_write_ahead_log_costs_what_follows_in_its_block() {
    let sample = sample().await;
    let log = file(&sample.path, "", ".log");
    let (report, listed) = damage(&sample, &log, |bytes| {
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
    });
    let said = format!("{:?}", report.findings);
    assert!(said.contains(" at byte "), "{said}");
    for flow in &sample.flows[..FLUSHED] {
        assert_eq!(listed.events(*flow), Some(EVENTS));
        assert!(!names(&report, *flow), "{said}");
    }
}

#[tokio::test]
async fn a_directory_that_is_no_store_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    let error = verify(dir.path(), None).unwrap_err().to_string();
    assert!(error.contains("no transcript store"), "{error}");
    std::fs::write(dir.path().join("MANIFEST-000001"), b"nothing").unwrap();
    let report = verify(dir.path(), None).unwrap();
    assert!(!report.good && report.flows == 0);
}
