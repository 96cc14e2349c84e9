//! What an earlier run left open is sealed when the store is opened.
//!
//! A flow without an end gets one with outcome `recovered`, chained to its last
//! event that was on disk. Nothing that is there is changed.

use super::chain::{self, Hash};
use super::checkpoint::{self, Log};
use super::error::RecordError;
use super::store::{Cf, Store};
use super::summary::Summary;
use super::{FlowId, index, key, now_ns};
use enforcer_proto::v1::{self, event::Kind};
use prost::Message as _;
use rocksdb::{WriteBatch, WriteOptions};

/// Seals all flows that are open; gives their number.
pub(super) fn run(store: &Store, log: &mut Log) -> Result<u64, RecordError> {
    let mut open = Vec::new();
    let mut rows = store.rows(Cf::Sessions, b"")?;
    while let Some((row, _)) = rows.next_row()? {
        match key::parse_session(row) {
            Some((_, None)) => {}
            Some((_, Some(flow))) => open.push((row.to_vec(), flow)),
            None => return Err(RecordError::Damaged("sessions has a key of no kind".into())),
        }
    }
    drop(rows);
    for (marker, flow) in &open {
        let mut batch = WriteBatch::default();
        seal(store, log, &mut batch, *flow)?;
        batch.delete_cf(store.cf(Cf::Sessions)?, marker);
        log.save(store, &mut batch)?;
        let mut options = WriteOptions::default();
        options.set_sync(true);
        store.db().write_opt(batch, &options).map_err(|error| store.error("write", &error))?;
    }
    Ok(open.len() as u64)
}

fn seal(
    store: &Store,
    log: &mut Log,
    batch: &mut WriteBatch,
    flow: FlowId,
) -> Result<(), RecordError> {
    let damaged = |what: &str| RecordError::Damaged(format!("flow {flow}: {what}"));
    let (mut summary, last) = read(store, flow)?;
    let row = store
        .get(Cf::Flows, flow.as_bytes())?
        .ok_or_else(|| damaged("is open and has no row in flows"))?;
    let mut record = v1::FlowRecord::decode(row.as_slice())
        .map_err(|_| damaged("its row in flows cannot be read"))?;
    let event = v1::Event {
        seq: summary.counts().events,
        unix_ns: now_ns(),
        prev: last.to_vec(),
        operation: Vec::new(),
        kind: Some(Kind::FlowEnd(v1::FlowEnd {
            outcome: "recovered".to_owned(),
            error: "the daemon ended before the flow did".to_owned(),
            operations: summary.operations(),
        })),
    };
    let value = event.encode_to_vec();
    let hash = chain::hash(&value);
    summary.add(&event);
    let events = summary.counts().events;
    let leaf = checkpoint::sealed(flow, events, &hash, &record.session);
    let leaf = log.append(store, batch, event.unix_ns, leaf)?;
    for (cf, row) in index::rows(flow, record.started_unix_ns, &event) {
        batch.put_cf(store.cf(cf)?, row, b"");
    }
    batch.put_cf(store.cf(Cf::Events)?, key::event(flow, event.seq), value);
    record.seal = Some(summary.seal(&hash, leaf));
    batch.put_cf(store.cf(Cf::Flows)?, flow.as_bytes(), record.encode_to_vec());
    Ok(())
}

/// Counts over the events that are there, and the hash of the last one.
fn read(store: &Store, flow: FlowId) -> Result<(Summary, Hash), RecordError> {
    let damaged = |what: String| RecordError::Damaged(format!("flow {flow}: {what}"));
    let mut summary = Summary::default();
    let mut last = chain::start(flow);
    let mut rows = store.rows(Cf::Events, &key::event(flow, 0))?;
    while let Some((row, value)) = rows.next_row()? {
        let Some((of, seq)) = key::parse_event(row) else {
            return Err(damaged("a key of events is of no kind".into()));
        };
        if of != flow {
            break;
        }
        if seq != summary.counts().events {
            return Err(damaged(format!("event {} is missing", summary.counts().events)));
        }
        let event =
            v1::Event::decode(value).map_err(|_| damaged(format!("event {seq} cannot be read")))?;
        last = chain::hash(value);
        summary.add(&event);
    }
    Ok((summary, last))
}
