//! Proves a store, or names what is wrong with it: `enforcer transcripts verify`.
//!
//! Reads every row of every column family. Whatever is in the store is told of
//! twice (an event by the next one and by the seal, a seal by the log, the log by
//! its signed heads, a row by the events that it follows from), so that a change
//! in one place is a contradiction with another. Damage that RocksDB finds is a
//! finding too, and the rest is still looked at.

use super::error::RecordError;
use super::key;
use super::store::{Cf, Store, meta};
use super::{FlowId, chain};
use enforcer_proto::v1;
use prost::Message as _;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::Path;

mod events;
pub mod flow;
mod log;
mod rows;

/// How many findings a report holds; more are counted.
const MAX_FINDINGS: usize = 1_000;

/// One thing that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where: a column family, `log entry N`, `checkpoint N`, `store`.
    pub place: String,
    /// The flow, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// The event in the flow, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place)?;
        if let Some(flow) = &self.flow {
            write!(f, ", flow {flow}")?;
        }
        if let Some(seq) = self.seq {
            write!(f, ", event {seq}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What was looked at and what was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether all is as it was written.
    pub good: bool,
    /// Flows with events.
    pub flows: u64,
    /// Of them not sealed (the daemon runs, or was killed and has not started again).
    pub open_flows: u64,
    /// Events.
    pub events: u64,
    /// Operations, each with its digest computed again.
    pub operations: u64,
    /// Entries of the log.
    pub log_entries: u64,
    /// Entries after the last signed head: nothing vouches for their order yet.
    pub unsigned_entries: u64,
    /// Signed heads.
    pub checkpoints: u64,
    /// Flows that retention removed.
    pub retired: u64,
    /// Runs of the daemon.
    pub sessions: u64,
    /// The public key that signs the heads, hex.
    pub host_key: String,
    /// When the last head was signed (ns since the Unix epoch).
    pub signed_unix_ns: Option<i64>,
    /// What is wrong, in the order in which it was found.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub findings_total: u64,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        self.findings_total += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    fn note(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.add(Finding { place: place.into(), flow: None, seq: None, what: what.into() });
    }

    fn of(&mut self, place: &str, flow: FlowId, seq: Option<u64>, what: impl Into<String>) {
        self.add(Finding {
            place: place.to_owned(),
            flow: Some(flow.to_string()),
            seq,
            what: what.into(),
        });
    }
}

/// Verifies the store at `path`. `key` is the host's public key as it is known from elsewhere
/// (hex): without it a store whose key was replaced too, and all heads signed again, is not told
/// from a good one. `Err` only when nothing can be read at all for a reason that is not damage.
pub fn verify(path: &Path, key: Option<&str>) -> Result<Report, RecordError> {
    let mut report = Report::default();
    match Store::open_damaged(path) {
        Ok((store, lacks)) => {
            for lack in lacks {
                report.note("store", lack);
            }
            run(&store, key, &mut report);
        }
        Err(error @ (RecordError::Store { .. } | RecordError::Damaged(_))) => {
            report.note("store", error.to_string());
        }
        Err(error) => return Err(error),
    }
    Ok(report)
}

/// Verifies an open store.
pub fn verify_store(store: &Store, key: Option<&str>) -> Report {
    let mut report = Report::default();
    run(store, key, &mut report);
    report
}

fn run(store: &Store, key: Option<&str>, report: &mut Report) {
    let mut check = Check::new(store);
    check.meta(report, key);
    type Pass<'a> = fn(&mut Check<'a>, &mut Report) -> Result<(), RecordError>;
    let passes: [Pass<'_>; 5] =
        [Check::log, Check::events, Check::flow_rows, Check::index_rows, Check::session_rows];
    for pass in passes {
        // What stops one pass stops no other.
        if let Err(error) = pass(&mut check, report) {
            check.damage("store", &error, report);
        }
    }
    report.good = report.findings_total == 0;
}

/// What one pass leaves for the next.
struct Check<'a> {
    store: &'a Store,
    /// Log entries that a later entry says were retired.
    retired: HashSet<u64>,
    /// The newest signed word on flows that were open then.
    open: HashMap<FlowId, (u64, chain::Hash)>,
    /// How many rows each index must have.
    expected: HashMap<Cf, u64>,
    /// Something could not be read, so that counts prove nothing.
    damaged: bool,
    /// Damage that was reported already: one bad block is met many times.
    known: HashSet<String>,
    /// Where events could not be read: after this key and before that one.
    unread: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the heads are signed with; `None` when it cannot be read.
    host_key: Option<Vec<u8>>,
}

impl<'a> Check<'a> {
    fn new(store: &'a Store) -> Self {
        Self {
            store,
            retired: HashSet::new(),
            open: HashMap::new(),
            expected: HashMap::new(),
            damaged: store.damaged(),
            known: HashSet::new(),
            unread: Vec::new(),
            host_key: None,
        }
    }

    /// Reports damage once, with the file and the place that RocksDB names.
    fn damage(&mut self, place: &str, error: &RecordError, report: &mut Report) {
        self.damaged = true;
        let what = error.to_string();
        if !self.known.contains(&what) {
            report.note(place, what.clone());
            self.known.insert(what);
        }
    }

    /// One row; damage is reported, and then it is as if there were none: `self.damaged` says that
    /// absence proves nothing.
    fn row(&mut self, cf: Cf, key: &[u8], report: &mut Report) -> Option<Vec<u8>> {
        self.store.get(cf, key).unwrap_or_else(|error| {
            self.damage(cf.name(), &error, report);
            None
        })
    }

    fn meta(&mut self, report: &mut Report, key: Option<&str>) {
        match self.store.rows(Cf::Meta, b"") {
            Ok(mut rows) => loop {
                match rows.next_row() {
                    Ok(Some((row, _))) => {
                        let known = [meta::FORMAT, meta::KEY, meta::FRONTIER, meta::CHECKPOINT];
                        if !known.contains(&row) {
                            let row = String::from_utf8_lossy(row).into_owned();
                            let what = format!("key {row:?} is none that this format has");
                            report.note("meta", what);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => self.damage("meta", &error, report),
                }
            },
            Err(error) => self.damage("meta", &error, report),
        }
        let format = self.row(Cf::Meta, meta::FORMAT, report);
        if format.as_deref() != Some(super::store::FORMAT) && !self.damaged {
            report.note("meta", "the format version is not the one that this version reads");
        }
        self.host_key = self.row(Cf::Meta, meta::KEY, report);
        let given = || key.and_then(|key| hex::decode(key).ok());
        match &self.host_key {
            None if self.damaged => {
                self.host_key = given();
                let with =
                    if key.is_some() { "the given one" } else { "none (name it with --key)" };
                report.note(
                    "meta",
                    format!("the host key cannot be read; heads are checked with {with}"),
                );
            }
            Some(key) if key.len() == 32 => {}
            _ => report.note("meta", "the host key is not 32 bytes"),
        }
        report.host_key = self.host_key.as_ref().map(hex::encode).unwrap_or_default();
        if let Some(key) = key
            && !key.eq_ignore_ascii_case(&report.host_key)
        {
            report.note("meta", format!("the host key is not {key}"));
        }
    }

    /// The sealed entry at an index of the log.
    fn sealed(&mut self, index: u64, report: &mut Report) -> Option<v1::SealedLeaf> {
        let row = self.row(Cf::Checkpoints, &key::leaf(index), report)?;
        match v1::Leaf::decode(row.as_slice()).ok()?.kind {
            Some(v1::leaf::Kind::Sealed(sealed)) => Some(sealed),
            _ => None,
        }
    }
}
