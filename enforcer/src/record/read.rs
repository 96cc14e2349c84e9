//! Reading transcripts: flows by time, agent and target; the events of one; what an id names.
//!
//! Never writes. What cannot be read is an error that names the flow and the event.

use super::error::RecordError;
use super::store::{Cf, Store};
use super::summary::Summary;
use super::{FlowId, key};
use crate::operation::Digest;
use enforcer_proto::v1;
use prost::Message as _;
use std::collections::BTreeSet;
use std::path::Path;
use uuid::Uuid;

/// A store opened to read, as it was at that moment.
pub struct Transcripts {
    store: Store,
}

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
    /// Only flows with a denied operation.
    pub denied: bool,
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
    /// Opens a store directory, also one that a daemon is writing, or a copy.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        Ok(Self { store: Store::open_read_only(path)? })
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
        while let Some((row, _)) = rows.next_row()? {
            if !row.starts_with(&prefix) || row < since.as_slice() {
                break;
            }
            let id = key::index_flow(cf, row)
                .ok_or_else(|| RecordError::Damaged(format!("{} has a bad key", cf.name())))?;
            let Some(flow) = self.flow(id)? else {
                return Err(RecordError::Damaged(format!("flow {id} is in an index only")));
            };
            let agent = filter.agent.as_ref().is_none_or(|a| *a == flow.record.agent);
            let outcome = filter.outcome.as_deref().is_none_or(|o| o == flow.outcome());
            let denied = !filter.denied || flow.counts.denied > 0;
            if agent && outcome && denied && !each(flow)? {
                break;
            }
        }
        Ok(())
    }

    /// One flow's row with its counts.
    pub fn flow(&self, id: FlowId) -> Result<Option<Flow>, RecordError> {
        let Some(row) = self.store.get(Cf::Flows, id.as_bytes())? else {
            return Ok(None);
        };
        let record = v1::FlowRecord::decode(row.as_slice())
            .map_err(|_| RecordError::Damaged(format!("flow {id}: its row cannot be read")))?;
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

    /// The events of a flow in order, until `each` gives false.
    pub fn events(
        &self,
        flow: FlowId,
        mut each: impl FnMut(v1::Event) -> Result<bool, RecordError>,
    ) -> Result<(), RecordError> {
        let mut rows = self.store.rows(Cf::Events, &key::event(flow, 0))?;
        let mut seq = 0_u64;
        loop {
            let row = rows.next_row().map_err(|error| {
                RecordError::Damaged(format!("flow {flow} event {seq}: {error}"))
            })?;
            let Some((row, value)) = row.filter(|(row, _)| row.starts_with(flow.as_bytes())) else {
                return Ok(());
            };
            if key::parse_event(row) != Some((flow, seq)) {
                return Err(RecordError::Damaged(format!("flow {flow}: event {seq} is missing")));
            }
            let event = v1::Event::decode(value).map_err(|_| {
                RecordError::Damaged(format!("flow {flow}: event {seq} cannot be read"))
            })?;
            if !each(event)? {
                return Ok(());
            }
            seq += 1;
        }
    }

    /// What the text names: a flow, an operation, an approval, or a digest (`v1:...`). Newest last.
    pub fn find(&self, text: &str) -> Result<Vec<Found>, RecordError> {
        if let Ok(id) = text.parse::<Uuid>() {
            let flow = FlowId(id);
            if self.store.get(Cf::Flows, id.as_bytes())?.is_some() {
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
        while let Some((row, _)) = rows.next_row()? {
            let Some(rest) = row.strip_prefix(prefix) else {
                break;
            };
            let (flow, seq) = key::parse_event(rest)
                .ok_or_else(|| RecordError::Damaged(format!("{} has a bad key", cf.name())))?;
            found.insert((flow, seq));
        }
        drop(rows);
        let mut all = Vec::new();
        for (flow, seq) in found {
            let row = self.store.get(Cf::Events, &key::event(flow, seq))?;
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
