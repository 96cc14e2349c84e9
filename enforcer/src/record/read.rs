//! Reading transcripts: flows by time, agent and target; the events of one; what an id names.
//!
//! Never writes. What cannot be read is noted ([`Transcripts::damage`]), with its file or its
//! flow and event, and the rest is given.

use super::error::RecordError;
use super::store::{Cf, Store};
use super::summary::{MAX_TARGETS, Summary};
use super::{FlowId, key};
use crate::operation::Digest;
use enforcer_proto::v1;
use prost::Message as _;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use uuid::Uuid;

/// A store opened to read, as it was at that moment.
pub struct Transcripts {
    store: Store,
    damage: RefCell<Vec<String>>,
}

/// How many notes of damage are kept.
const MAX_DAMAGE: usize = 1_000;

/// Which flows are wanted; empty fields want all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only of this agent.
    pub agent: Option<String>,
    /// Only flows with this target.
    pub target: Option<String>,
    /// Only flows that started at this moment or later (ns since the Unix epoch).
    pub since: Option<i64>,
    /// Only flows that started before this moment.
    pub until: Option<i64>,
    /// Only flows with this outcome; `open` for those without an end.
    pub outcome: Option<String>,
    /// Only flows with a denied operation, and what the kernel refused.
    pub denied: bool,
}

impl Filter {
    fn takes(&self, flow: &Flow) -> bool {
        let (record, counts) = (&flow.record, &flow.counts);
        let started = record.started_unix_ns;
        self.agent.as_ref().is_none_or(|agent| *agent == record.agent)
            // A row names its first targets; what came by the index of one is not asked again.
            && self.target.as_ref().is_none_or(|target| {
                counts.targets.contains(target) || counts.targets.len() >= MAX_TARGETS
            })
            && self.since.is_none_or(|since| started >= since)
            && self.until.is_none_or(|until| started < until)
            && self.outcome.as_deref().is_none_or(|outcome| outcome == flow.outcome())
            && (!self.denied || flow.denied())
    }
}

/// One flow as a listing shows it.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Its id.
    pub id: FlowId,
    /// Its row.
    pub record: v1::FlowRecord,
    /// Its counts: the seal's, or those so far.
    pub counts: v1::FlowSeal,
}

impl Flow {
    /// The recorded outcome, or `open`.
    pub fn outcome(&self) -> &str {
        match &self.record.seal {
            Some(seal) => &seal.outcome,
            None => "open",
        }
    }

    /// Whether an operation in it was denied, or the kernel refused it.
    pub fn denied(&self) -> bool {
        self.counts.denied > 0 || self.outcome() == "kernel-refused"
    }
}

/// What an id named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The flow.
    pub flow: FlowId,
    /// The operation in it, when one was named.
    pub operation: Option<Uuid>,
}

impl Transcripts {
    /// Opens a store directory, also one that a daemon is writing, or a copy; a damaged one as
    /// far as it can be read.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        let (store, lacks) = Store::open_damaged(path)?;
        Ok(Self { store, damage: RefCell::new(lacks) })
    }

    /// What could not be read so far; empty for a good store.
    pub fn damage(&self) -> Vec<String> {
        self.damage.borrow().clone()
    }

    fn note(&self, what: impl Into<String>) {
        let what = what.into();
        let mut damage = self.damage.borrow_mut();
        if damage.len() < MAX_DAMAGE && !damage.contains(&what) {
            damage.push(what);
        }
    }

    fn get(&self, cf: Cf, key: &[u8]) -> Option<Vec<u8>> {
        self.store.get(cf, key).unwrap_or_else(|error| {
            self.note(error.to_string());
            None
        })
    }

    /// The store itself.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Flows that fit, newest first, until `each` gives false.
    pub fn flows(
        &self,
        filter: &Filter,
        mut each: impl FnMut(Flow) -> Result<bool, RecordError>,
    ) -> Result<(), RecordError> {
        // The narrowest index: all three end in start time and flow.
        let (cf, prefix) = match (&filter.target, &filter.agent) {
            (Some(target), _) => (Cf::IndexTarget, key::text_prefix(target)),
            (None, Some(agent)) => (Cf::IndexAgent, key::text_prefix(agent)),
            (None, None) => (Cf::IndexTime, Vec::new()),
        };
        let until = filter.until.map_or([0xff; 8], key::nanos);
        let from = [prefix.as_slice(), &until].concat();
        let since = [prefix.as_slice(), &key::nanos(filter.since.unwrap_or(0))].concat();
        let mut rows = self.store.rows_back(cf, Some(&from))?;
        let mut seen = HashSet::new();
        // An index with a hole is not trusted to name every flow.
        let mut holes = self.store.damaged();
        loop {
            let row = match rows.next_row() {
                Ok(Some((row, _))) => row,
                Ok(None) => break,
                Err(error) => {
                    self.note(error.to_string());
                    holes = true;
                    continue;
                }
            };
            if !row.starts_with(&prefix) || row < since.as_slice() {
                break;
            }
            let Some(id) = key::index_flow(cf, row) else {
                self.note(format!("{} has a bad key", cf.name()));
                continue;
            };
            seen.insert(id);
            let Some(flow) = self.flow(id)? else {
                self.note(format!("flow {id}: its row cannot be read"));
                continue;
            };
            if filter.takes(&flow) && !each(flow)? {
                return Ok(());
            }
        }
        if !holes {
            return Ok(());
        }
        // Forwards: what ends at damage begins behind it, and ids are in the order of time.
        let mut rows = self.store.rows(Cf::Flows, b"")?;
        let mut rest = Vec::new();
        loop {
            match rows.next_row() {
                Ok(Some((row, _))) => {
                    rest.extend(key::parse_flow(row).filter(|id| !seen.contains(id)));
                }
                Ok(None) => break,
                Err(error) => self.note(error.to_string()),
            }
        }
        for id in rest.into_iter().rev() {
            let Some(flow) = self.flow(id)? else { continue };
            if filter.takes(&flow) && !each(flow)? {
                break;
            }
        }
        Ok(())
    }

    /// One flow's row with its counts; `None` when there is none, or none that can be read.
    pub fn flow(&self, id: FlowId) -> Result<Option<Flow>, RecordError> {
        let Some(row) = self.get(Cf::Flows, id.as_bytes()) else {
            return Ok(None);
        };
        let Ok(record) = v1::FlowRecord::decode(row.as_slice()) else {
            self.note(format!("flow {id}: its row cannot be read"));
            return Ok(None);
        };
        let counts = match &record.seal {
            Some(seal) => seal.clone(),
            None => {
                let mut summary = Summary::default();
                self.events(id, |event| {
                    summary.add(&event);
                    Ok(true)
                })?;
                summary.counts().clone()
            }
        };
        Ok(Some(Flow { id, record, counts }))
    }

    /// The events of a flow in order, until `each` gives false. Those that cannot be read are left
    /// out and noted.
    pub fn events(
        &self,
        flow: FlowId,
        mut each: impl FnMut(v1::Event) -> Result<bool, RecordError>,
    ) -> Result<(), RecordError> {
        let mut rows = self.store.rows(Cf::Events, &key::event(flow, 0))?;
        let mut next = 0_u64;
        loop {
            let row = match rows.next_row() {
                Ok(row) => row,
                Err(error) => {
                    self.note(format!("flow {flow} from event {next} on: {error}"));
                    continue;
                }
            };
            let Some((row, value)) = row.filter(|(row, _)| row.starts_with(flow.as_bytes())) else {
                return Ok(());
            };
            let Some((_, seq)) = key::parse_event(row) else {
                self.note(format!("flow {flow}: a key of events is of no kind"));
                continue;
            };
            if seq > next {
                self.note(format!("flow {flow}: events {next} to {} are not there", seq - 1));
            }
            next = seq.saturating_add(1);
            let Ok(event) = v1::Event::decode(value) else {
                self.note(format!("flow {flow}: event {seq} cannot be read"));
                continue;
            };
            if !each(event)? {
                return Ok(());
            }
        }
    }

    /// What the text names: a flow, an operation, an approval, or a digest (`v1:...`). Newest last.
    pub fn find(&self, text: &str) -> Result<Vec<Found>, RecordError> {
        if let Ok(id) = text.parse::<Uuid>() {
            let flow = FlowId(id);
            if self.get(Cf::Flows, id.as_bytes()).is_some() {
                return Ok(vec![Found { flow, operation: None }]);
            }
            let found = self.named(Cf::IndexOperation, id.as_bytes())?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if let Ok(digest) = text.parse::<Digest>() {
            return self.named(Cf::IndexDigest, &digest.0);
        }
        self.named(Cf::IndexApproval, &key::text_prefix(text))
    }

    fn named(&self, cf: Cf, prefix: &[u8]) -> Result<Vec<Found>, RecordError> {
        let mut found = BTreeSet::new();
        let mut rows = self.store.rows(cf, prefix)?;
        loop {
            let row = match rows.next_row() {
                Ok(Some((row, _))) => row,
                Ok(None) => break,
                Err(error) => {
                    self.note(error.to_string());
                    continue;
                }
            };
            let Some(rest) = row.strip_prefix(prefix) else {
                break;
            };
            match key::parse_event(rest) {
                Some(place) => drop(found.insert(place)),
                None => self.note(format!("{} has a bad key", cf.name())),
            }
        }
        drop(rows);
        let mut all = Vec::new();
        for (flow, seq) in found {
            let row = self.get(Cf::Events, &key::event(flow, seq));
            let event = row.and_then(|row| v1::Event::decode(row.as_slice()).ok());
            let operation = event.and_then(|event| Uuid::from_slice(&event.operation).ok());
            let one = Found { flow, operation };
            if !all.contains(&one) {
                all.push(one);
            }
        }
        Ok(all)
    }
}
