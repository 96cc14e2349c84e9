//! The handle that a flow's work holds: gives each event its place in the chain.
//!
//! Sequence, `prev` and hash are made here, in the caller, under the flow's own
//! lock, and the event is queued before the lock is let go; so the writer never
//! hashes, and the queue has each flow's events in order.
//! What is appended together is written together.

use super::body::Bodies;
use super::chain::{self, Hash};
use super::error::RecordError;
use super::line::Message;
use super::store::Cf;
use super::summary::{self, Summary};
use super::usage::{EVENT_ROWS, FLOW_ROWS, Own};
use super::writer::{Ack, Append, Row};
use super::{Durability, FlowId, Shared, index, now_ns};
use crate::operation::OperationId;
use enforcer_proto::v1::{self, event::Kind};
use prost::Message as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// The transcript of one flow. Clones are the same transcript; streams of one
/// connection append at the same time.
#[derive(Clone)]
pub struct FlowLog(Arc<Inner>);

struct Inner {
    id: FlowId,
    recorder: Arc<Shared>,
    usage: Own,
    state: Mutex<State>,
}

struct State {
    next: u64,
    prev: Hash,
    bodies: Bodies,
    summary: Summary,
    record: v1::FlowRecord,
    ended: bool,
}

impl FlowLog {
    pub(super) fn new(recorder: Arc<Shared>, usage: Own) -> Self {
        let id = FlowId::new();
        Self(Arc::new(Inner {
            id,
            recorder,
            usage,
            state: Mutex::new(State {
                next: 0,
                prev: chain::start(id),
                bodies: Bodies::default(),
                summary: Summary::default(),
                record: v1::FlowRecord::default(),
                ended: false,
            }),
        }))
    }

    /// The flow's id.
    pub fn id(&self) -> FlowId {
        self.0.id
    }

    /// Records an event and gives its sequence number, once it is in the log (and, for
    /// [`Durability::Synced`], on disk as the configuration says).
    ///
    /// The recorder keeps count of bodies: of a [`v1::Body`] only `data` and `last` are the
    /// caller's; pieces of one body must come in order. A piece past `body_limit` is counted
    /// and hashed and leaves no event of its own.
    ///
    /// Dropping the future takes nothing back: an event that was queued is recorded.
    /// Every error means that the flow must stop.
    pub async fn append(
        &self,
        operation: Option<OperationId>,
        kind: Kind,
        durability: Durability,
    ) -> Result<u64, RecordError> {
        self.append_all(vec![(operation, kind)], durability).await
    }

    /// Records several events in order and waits once; gives the last one's sequence number.
    pub async fn append_all(
        &self,
        events: Vec<(Option<OperationId>, Kind)>,
        durability: Durability,
    ) -> Result<u64, RecordError> {
        let bytes = events.iter().map(|(_, kind)| kind.encoded_len()).sum();
        let room = self.0.recorder.room(bytes, events.len()).await?;
        let sync = self.0.recorder.sync(durability);
        let (ack, written) = oneshot::channel();
        let queued = self.0.queue(events, sync, ack, Some(room));
        self.0.recorder.written_together().await;
        let seq = queued?;
        written.await.map_err(|_| RecordError::Closed)??;
        Ok(seq)
    }

    /// Seals the flow: nothing can be added after. The number of operations is filled in here.
    pub async fn end(&self, end: v1::FlowEnd) -> Result<(), RecordError> {
        self.append(None, Kind::FlowEnd(end), Durability::Logged).await.map(|_| ())
    }
}

impl Inner {
    /// Puts events in the line, as one. Where one is not taken, those before it are recorded and
    /// those behind it are not. Gives the last one's sequence number.
    fn queue(
        &self,
        events: Vec<(Option<OperationId>, Kind)>,
        sync: bool,
        ack: Ack,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<u64, RecordError> {
        let mut rows = Vec::with_capacity(events.len());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = Ok(());
        for (operation, kind) in events {
            match self.row(&mut state, operation, kind) {
                Ok(row) => rows.extend(row),
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            }
        }
        if rows.is_empty() {
            // All that waits for it is told so by the error, or there was nothing to record.
            let _ = ack.send(Ok(()));
        } else {
            let bytes = rows.iter().map(|row| row.value.len()).sum();
            let append = Append { flow: self.id, events: rows, bytes, sync, ack, room };
            self.recorder.line.push(Message::Append(append))?;
        }
        taken.map(|()| state.next.saturating_sub(1))
    }

    /// Gives an event its place in the chain. `None`: a piece of a body past the limit.
    fn row(
        &self,
        state: &mut State,
        operation: Option<OperationId>,
        kind: Kind,
    ) -> Result<Option<Row>, RecordError> {
        let limit = self.recorder.admit(&kind, &self.usage)?;
        if state.ended || (state.next == 0) != matches!(kind, Kind::FlowStart(_)) {
            return Err(RecordError::Ended);
        }
        let operation = operation.map(|id| id.0.as_bytes().to_vec());
        let operation = operation.unwrap_or_default();
        let Some(mut kind) = state.bodies.admit(&operation, kind, limit) else {
            return Ok(None);
        };
        if let Kind::FlowEnd(end) = &mut kind {
            end.operations = state.summary.operations();
        }
        let event = v1::Event {
            seq: state.next,
            unix_ns: now_ns(),
            prev: state.prev.to_vec(),
            operation,
            kind: Some(kind),
        };
        let value = event.encode_to_vec();
        let hash = chain::hash(&value);
        let first = if event.seq == 0 { FLOW_ROWS } else { 0 };
        self.usage.add(value.len() as u64 + EVENT_ROWS + first);
        let started = match &event.kind {
            Some(Kind::FlowStart(_)) => event.unix_ns,
            _ => state.record.started_unix_ns,
        };
        let mut index = index::rows(self.id, started, &event);
        if let Some(Kind::OperationAsked(asked)) = &event.kind
            && state.summary.names(&asked.target)
        {
            // The same row is there since the first operation on the target.
            index.retain(|(cf, _)| *cf != Cf::IndexTarget);
        }
        state.summary.add_stored(&event, value.len());
        let record = match &event.kind {
            Some(Kind::FlowStart(start)) => {
                let session = self.recorder.session.as_bytes();
                state.record = summary::open_record(start, event.unix_ns, session);
                Some(Box::new(state.record.clone()))
            }
            Some(Kind::FlowEnd(_)) => {
                state.ended = true;
                let seal = Some(state.summary.seal(&hash, 0));
                Some(Box::new(v1::FlowRecord { seal, ..state.record.clone() }))
            }
            _ => None,
        };
        state.next += 1;
        state.prev = hash;
        Ok(Some(Row { seq: event.seq, hash, value, index, record }))
    }
}

impl Drop for Inner {
    /// Work that was dropped or panicked leaves a sealed flow that says so.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.ended || state.next == 0 {
            return;
        }
        let end = Kind::FlowEnd(v1::FlowEnd {
            outcome: "cut".to_owned(),
            error: "the daemon dropped the flow without closing its record".to_owned(),
            operations: 0,
        });
        // Nobody is left to tell; a store that cannot be written recovers the flow when opened.
        let _ = self.queue(vec![(None, end)], false, oneshot::channel().0, None);
        self.recorder.line.wake();
    }
}
