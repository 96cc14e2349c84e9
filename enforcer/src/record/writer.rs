//! The one writer: makes one batch of what stood in the line, writes it, acks it.
//!
//! Order in the line is order on disk, and a batch is whole or not there, so a
//! flow never has a gap. After a write or a sync that failed nothing more is
//! written: what is on disk is then unknown until the store is opened again.

use super::chain::Hash;
use super::checkpoint::{self, Log};
use super::error::RecordError;
use super::keys::HostKeys;
use super::store::{Cf, Store};
use super::sync::Sync;
use super::{Counters, FlowId, key, now_ns};
use enforcer_proto::v1;
use prost::Message as _;
use rocksdb::{ErrorKind, WriteBatch, WriteOptions};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

/// How often the store's files are measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// How often the log's head is signed while it changes.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// Room for an event's key and index rows, bytes.
const ROWS: usize = 256;

/// What waits to hear that an event is recorded.
pub(super) type Ack = oneshot::Sender<Result<(), RecordError>>;

/// Events of one flow that are written together, in order.
pub(super) struct Append {
    pub(super) flow: FlowId,
    pub(super) events: Vec<Row>,
    /// How many bytes the events have.
    pub(super) bytes: usize,
    pub(super) sync: bool,
    pub(super) ack: Ack,
    /// Their share of the queue, given back when they are written.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// One event, ready to be written.
pub(super) struct Row {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    pub(super) value: Vec<u8>,
    pub(super) index: Vec<(Cf, Vec<u8>)>,
    /// The flow's row, with its first event (open) and its last (sealed, place in the log unset).
    pub(super) record: Option<Box<v1::FlowRecord>>,
}

/// A sealed flow whose time is over.
pub(super) struct Retire {
    pub(super) flow: FlowId,
    pub(super) leaf: u64,
    pub(super) index: Vec<(Cf, Vec<u8>)>,
    pub(super) done: std::sync::mpsc::Sender<()>,
}

/// How far a flow that is not sealed has come.
struct Head {
    events: u64,
    last: Hash,
    grown: bool,
}

/// Its state.
pub(super) struct Writer {
    pub(super) store: Arc<Store>,
    pub(super) keys: HostKeys,
    pub(super) log: Log,
    pub(super) session: Uuid,
    pub(super) counters: Arc<Counters>,
    pub(super) sync: Sync,
    open: HashMap<FlowId, Head>,
    measured: Instant,
    checkpointed: Instant,
}

impl Writer {
    pub(super) fn new(
        store: Arc<Store>,
        keys: HostKeys,
        log: Log,
        session: Uuid,
        counters: Arc<Counters>,
        sync: Sync,
    ) -> Self {
        Self {
            store,
            keys,
            log,
            session,
            counters,
            sync,
            open: HashMap::new(),
            measured: Instant::now(),
            checkpointed: Instant::now(),
        }
    }

    /// How long nothing needs to be done.
    pub(super) fn rest(&self) -> Duration {
        let measure = self.measured + MEASURE_EVERY;
        let head = self.changed().then(|| self.checkpointed + CHECKPOINT_EVERY);
        let next = head.map_or(measure, |head| head.min(measure));
        next.saturating_duration_since(Instant::now())
    }

    fn changed(&self) -> bool {
        self.counters.failure().is_none()
            && (self.log.uncovered() || self.open.values().any(|head| head.grown))
    }

    /// Does what is due by time.
    pub(super) fn tick(&mut self) {
        if self.changed() && self.checkpointed.elapsed() >= CHECKPOINT_EVERY {
            self.sign(false);
        }
        // Here nothing is written meanwhile, so nothing is counted twice.
        if self.measured.elapsed() >= MEASURE_EVERY {
            self.measured = Instant::now();
            self.counters.measure(self.store.path());
        }
    }

    /// Writes it all as one batch, and says so to whoever waits. In `passing` the caller is about
    /// other work: where the store would have it wait, that is told to the runtime.
    pub(super) fn commit(&mut self, mut appends: Vec<Append>, retired: &[Retire], passing: bool) {
        if appends.is_empty() && retired.is_empty() {
            return;
        }
        let sync = appends.iter().any(|append| append.sync);
        let events: usize = appends.iter().map(|append| append.events.len()).sum();
        let result = match self.counters.failure() {
            Some(failure) => Err(RecordError::Failed(failure)),
            None => {
                let batch = self.batch(&mut appends, retired);
                batch.and_then(|batch| match passing {
                    true => self.write_passing(batch),
                    false => self.write(batch, sync),
                })
            }
        };
        if let Err(error) = &result {
            self.counters.fail(error);
        } else {
            self.counters.events.fetch_add(events as u64, Relaxed);
        }
        self.counters.open.store(self.open.len() as u64, Relaxed);
        self.counters.log.store(self.log.size(), Relaxed);
        for append in appends {
            drop(append.room);
            // Nobody waits when the flow was dropped meanwhile; the event is recorded all the same.
            let _ = append.ack.send(result.clone());
        }
        for retire in retired {
            let _ = retire.done.send(());
        }
    }

    fn batch(
        &mut self,
        appends: &mut [Append],
        retired: &[Retire],
    ) -> Result<WriteBatch, RecordError> {
        let store = Arc::clone(&self.store);
        let bytes: usize = appends.iter().map(|append| append.bytes).sum();
        let rows: usize = appends.iter().map(|append| append.events.len()).sum();
        let mut batch = WriteBatch::with_capacity_bytes(bytes + rows * ROWS);
        let events = store.cf(Cf::Events)?;
        let before = self.log.size();
        for append in appends.iter_mut() {
            let last = append.events.len().saturating_sub(1);
            for (at, row) in std::mem::take(&mut append.events).into_iter().enumerate() {
                batch.put_cf(events, key::event(append.flow, row.seq), &row.value);
                for (cf, row) in &row.index {
                    batch.put_cf(store.cf(*cf)?, row, b"");
                }
                if at == last || row.record.is_some() {
                    let head = Head { events: row.seq + 1, last: row.hash, grown: true };
                    self.follow(&mut batch, append.flow, head, row.record)?;
                }
            }
        }
        for retire in retired {
            self.retire(&mut batch, retire)?;
        }
        if self.log.size() != before {
            self.log.save(&store, &mut batch)?;
        }
        Ok(batch)
    }

    /// Keeps a flow's row, and that it is open, as its last event left it.
    fn follow(
        &mut self,
        batch: &mut WriteBatch,
        flow: FlowId,
        head: Head,
        record: Option<Box<v1::FlowRecord>>,
    ) -> Result<(), RecordError> {
        let Some(mut record) = record else {
            self.open.insert(flow, head);
            return Ok(());
        };
        let store = Arc::clone(&self.store);
        let marker = key::open_flow(self.session, flow);
        if let Some(seal) = &mut record.seal {
            let leaf = checkpoint::sealed(flow, seal.events, &head.last, &record.session);
            seal.leaf = self.log.append(&store, batch, seal.ended_unix_ns, leaf)?;
            batch.delete_cf(store.cf(Cf::Sessions)?, marker);
            self.open.remove(&flow);
        } else {
            batch.put_cf(store.cf(Cf::Sessions)?, marker, b"");
            self.open.insert(flow, head);
        }
        batch.put_cf(store.cf(Cf::Flows)?, flow.as_bytes(), record.encode_to_vec());
        Ok(())
    }

    fn retire(&mut self, batch: &mut WriteBatch, retire: &Retire) -> Result<(), RecordError> {
        let leaf = v1::leaf::Kind::Retired(v1::RetiredLeaf {
            flow: retire.flow.as_bytes().to_vec(),
            leaf: retire.leaf,
        });
        self.log.append(&self.store, batch, now_ns(), leaf)?;
        batch.delete_cf(self.store.cf(Cf::Flows)?, retire.flow.as_bytes());
        for (cf, row) in &retire.index {
            batch.delete_cf(self.store.cf(*cf)?, row);
        }
        let from = key::event(retire.flow, 0);
        let last = key::event(retire.flow, u64::MAX);
        let events = self.store.cf(Cf::Events)?;
        batch.delete_range_cf(events, from.as_slice(), last.as_slice());
        Ok(())
    }

    fn write(&mut self, batch: WriteBatch, sync: bool) -> Result<(), RecordError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let bytes = batch.size_in_bytes() as u64;
        let written = self.store.db().write_opt(batch, &options);
        written.map_err(|error| self.store.error("write", &error))?;
        self.written(bytes, sync);
        Ok(())
    }

    /// Writes without waiting for tables to be flushed; where that is needed, the runtime is told
    /// that this thread is away.
    fn write_passing(&mut self, batch: WriteBatch) -> Result<(), RecordError> {
        let mut options = WriteOptions::default();
        options.set_no_slowdown(true);
        let bytes = batch.size_in_bytes() as u64;
        let copy = WriteBatch::from_data(batch.data());
        match self.store.db().write_opt(batch, &options) {
            Ok(()) => {
                self.written(bytes, false);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Incomplete => {
                let runtime = Handle::try_current().map(|runtime| runtime.runtime_flavor());
                match runtime {
                    Ok(RuntimeFlavor::MultiThread) => {
                        tokio::task::block_in_place(|| self.write(copy, false))
                    }
                    _ => self.write(copy, false),
                }
            }
            Err(error) => Err(self.store.error("write", &error)),
        }
    }

    fn written(&self, bytes: u64, sync: bool) {
        self.counters.batches.fetch_add(1, Relaxed);
        self.counters.bytes.fetch_add(bytes, Relaxed);
        if sync {
            self.counters.synced();
        } else {
            self.sync.written();
        }
    }

    /// Signs the head of the log, with the open flows that grew; `end` closes the session first.
    fn sign(&mut self, end: bool) {
        self.checkpointed = Instant::now();
        if let Err(error) = self.try_sign(end) {
            self.counters.fail(&error);
        }
    }

    fn try_sign(&mut self, end: bool) -> Result<(), RecordError> {
        let store = Arc::clone(&self.store);
        let mut batch = WriteBatch::default();
        if end {
            let leaf = session_leaf(self.session, true);
            self.log.append(&store, &mut batch, now_ns(), leaf)?;
            self.log.save(&store, &mut batch)?;
        }
        let mut open = Vec::new();
        for (flow, head) in self.open.iter_mut().filter(|(_, head)| head.grown) {
            head.grown = false;
            open.push(v1::OpenFlow {
                flow: flow.as_bytes().to_vec(),
                events: head.events,
                last: head.last.to_vec(),
            });
        }
        self.log.checkpoint(&store, &mut batch, &self.keys, now_ns(), open)?;
        self.write(batch, true)?;
        self.counters.checkpoints.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Signs the head for the last time.
    pub(super) fn close(&mut self) {
        if self.counters.failure().is_none() {
            self.sign(true);
        }
    }
}

/// The entry of a daemon's start or end.
pub(super) fn session_leaf(session: Uuid, end: bool) -> v1::leaf::Kind {
    v1::leaf::Kind::Session(v1::SessionLeaf {
        session: session.as_bytes().to_vec(),
        end,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
