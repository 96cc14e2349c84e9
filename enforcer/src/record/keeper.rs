//! Retention: the thread that looks at the store from beside the writer.
//!
//! It reads; what is to be removed it hands to the writer.

use super::error::RecordError;
use super::line::{Line, Message};
use super::store::{Cf, Store};
use super::usage::Usage;
use super::writer::Retire;
use super::{Counters, FlowId, index, key, now_ns};
use enforcer_proto::v1;
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use uuid::Uuid;

const RETIRE_EVERY: Duration = Duration::from_secs(60);

/// The thread's state.
pub(super) struct Keeper {
    pub(super) store: Arc<Store>,
    pub(super) counters: Arc<Counters>,
    pub(super) line: Arc<Line>,
    /// Nanoseconds that a sealed flow is kept; `None` keeps all.
    pub(super) retention_ns: Option<i64>,
    /// How much of the store is whose.
    pub(super) usage: Arc<Usage>,
    /// This run of the daemon.
    pub(super) session: Uuid,
    /// What it is told while it rests.
    pub(super) orders: Receiver<Order>,
}

/// What the keeper is told.
pub(super) enum Order {
    /// Remove what was sealed before this moment (ns since the Unix epoch) now.
    Retire(i64),
    Stop,
}

impl Keeper {
    /// Runs until told to stop.
    pub(super) fn run(self) {
        // Beside the writer: it reads every flow's row. Until it has, the quota of all holds alone.
        if let Err(error) = self.usage.load(&self.store, self.session) {
            tracing::error!(%error, "what each agent's transcripts take could not be read");
        }
        let mut rest = Duration::ZERO;
        loop {
            match self.orders.recv_timeout(rest) {
                Err(RecvTimeoutError::Timeout) => {
                    rest = RETIRE_EVERY;
                    if let Some(keep) = self.retention_ns {
                        self.retire_logged(now_ns().saturating_sub(keep));
                    }
                }
                Ok(Order::Retire(cutoff)) => self.retire_logged(cutoff),
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn retire_logged(&self, cutoff: i64) {
        if let Err(error) = self.retire(cutoff) {
            tracing::error!(%error, "old transcripts could not be removed");
        }
    }

    /// Removes the flows that were sealed before `cutoff`.
    fn retire(&self, cutoff: i64) -> Result<(), RecordError> {
        let mut rows = self.store.rows(Cf::IndexTime, b"")?;
        let mut flushed = false;
        while let Some((row, _)) = rows.next_row()? {
            if row > key::nanos(cutoff).as_slice() {
                break;
            }
            let Some(flow) = key::index_flow(Cf::IndexTime, row) else {
                return Err(RecordError::Damaged("index_time has a key of no kind".into()));
            };
            let Some(record) = self.record(flow)? else {
                continue;
            };
            let Some(seal) = record.seal.as_ref().filter(|seal| seal.ended_unix_ns < cutoff) else {
                continue;
            };
            if !std::mem::replace(&mut flushed, true) {
                self.store.flush_events()?;
            }
            let (done, wait) = channel();
            let retire = Retire {
                flow,
                leaf: seal.leaf,
                index: self.index(flow, record.started_unix_ns)?,
                done,
            };
            // One at a time: the writer's own work goes first.
            if self.line.push(Message::Retire(retire)).is_err() || wait.recv().is_err() {
                return Ok(());
            }
            self.counters.retired.fetch_add(1, Relaxed);
            self.usage.retired(&record);
        }
        Ok(())
    }

    fn record(&self, flow: FlowId) -> Result<Option<v1::FlowRecord>, RecordError> {
        let row = self.store.get(Cf::Flows, flow.as_bytes())?;
        Ok(row.and_then(|row| v1::FlowRecord::decode(row.as_slice()).ok()))
    }

    fn index(&self, flow: FlowId, started: i64) -> Result<Vec<(Cf, Vec<u8>)>, RecordError> {
        let mut index = Vec::new();
        let mut rows = self.store.rows(Cf::Events, &key::event(flow, 0))?;
        while let Some((row, value)) = rows.next_row()? {
            if !row.starts_with(flow.as_bytes()) {
                break;
            }
            if let Ok(event) = v1::Event::decode(value) {
                index.extend(index::rows(flow, started, &event));
            }
        }
        Ok(index)
    }
}
