//! The record of one operation, and its counts, which outlive whatever is cut.

use crate::operation::OperationId;
use crate::record::{Durability, FlowLog, RecordError};
use enforcer_proto::v1::{self, event::Kind};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// How an operation or a flow ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `complete`, `refused`, `failed`, `cut` or `cancelled`.
    pub word: &'static str,
    /// The stable code of what went wrong, empty when nothing did.
    pub code: &'static str,
    /// What went wrong, for the transcript.
    pub error: String,
}

impl Outcome {
    /// All of it was done.
    pub fn complete() -> Self {
        Self { word: "complete", code: "", error: String::new() }
    }

    /// It was refused, and the client was told.
    pub fn refused(code: &'static str) -> Self {
        Self { word: "refused", code, error: code.to_owned() }
    }

    /// It was begun, and something broke.
    pub fn failed(code: &'static str, error: impl std::fmt::Display) -> Self {
        Self { word: "failed", code, error: format!("{code}: {error}") }
    }

    /// It was running, and the daemon ended it.
    pub fn cut(code: &'static str, why: impl std::fmt::Display) -> Self {
        Self { word: "cut", code, error: format!("{code}: {why}") }
    }

    /// The client went away.
    pub fn cancelled() -> Self {
        Self {
            word: "cancelled",
            code: "cancelled",
            error: "the client closed its connection".to_owned(),
        }
    }
}

impl From<Outcome> for v1::FlowEnd {
    fn from(outcome: Outcome) -> Self {
        Self { outcome: outcome.word.to_owned(), error: outcome.error, operations: 0 }
    }
}

/// The record of one operation. The spine holds it, so that a cut loses nothing of it.
pub struct Ledger {
    log: FlowLog,
    operation: OperationId,
    noted: Vec<(Option<OperationId>, Kind)>,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    after: Mutex<After>,
}

#[derive(Debug, Default)]
struct After {
    masked: BTreeMap<String, u64>,
    trailers: Vec<v1::Header>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("operation", &self.operation).finish_non_exhaustive()
    }
}

impl Ledger {
    pub(super) fn new(log: FlowLog, operation: OperationId) -> Self {
        Self {
            log,
            operation,
            noted: Vec::new(),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
            after: Mutex::default(),
        }
    }

    /// The operation.
    pub fn operation(&self) -> OperationId {
        self.operation
    }

    /// Puts an event down for the next write.
    pub fn note(&mut self, kind: Kind) {
        self.noted.push((Some(self.operation), kind));
    }

    /// Writes what was noted; when it returns it is in the log.
    pub async fn write(&mut self) -> Result<(), RecordError> {
        self.write_as(Durability::Logged).await
    }

    /// Writes what was noted, as durable as asked.
    pub async fn write_as(&mut self, durability: Durability) -> Result<(), RecordError> {
        let noted = std::mem::take(&mut self.noted);
        if noted.is_empty() {
            return Ok(());
        }
        self.log.append_all(noted, durability).await.map(drop)
    }

    /// Writes events now.
    pub async fn append(
        &self,
        kinds: impl IntoIterator<Item = Kind> + Send,
    ) -> Result<(), RecordError> {
        let events: Vec<_> = kinds.into_iter().map(|kind| (Some(self.operation), kind)).collect();
        self.log.append_all(events, Durability::Logged).await.map(drop)
    }

    /// Counts request bytes that were sent.
    pub fn sent(&self, bytes: usize) {
        self.request_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Counts response bytes that were delivered.
    pub fn delivered(&self, bytes: usize) {
        self.response_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes sent and delivered so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.request_bytes.load(Relaxed), self.response_bytes.load(Relaxed))
    }

    /// Adds to the counts of what was masked.
    pub fn masked(&self, counts: &BTreeMap<String, u64>) {
        let mut after = self.after.lock().unwrap_or_else(PoisonError::into_inner);
        for (rule, count) in counts {
            *after.masked.entry(rule.clone()).or_default() += count;
        }
    }

    /// How many values were masked so far.
    pub fn masked_total(&self) -> u64 {
        self.after.lock().unwrap_or_else(PoisonError::into_inner).masked.values().sum()
    }

    /// Sets the trailers as delivered.
    pub fn trailers(&self, trailers: Vec<v1::Header>) {
        self.after.lock().unwrap_or_else(PoisonError::into_inner).trailers = trailers;
    }

    /// Records the operation's end, with what was noted before it and not yet written.
    pub async fn end(&mut self, outcome: &Outcome) -> Result<(), RecordError> {
        let after = std::mem::take(&mut *self.after.lock().unwrap_or_else(PoisonError::into_inner));
        let (request_bytes, response_bytes) = self.bytes();
        self.note(Kind::OperationEnd(v1::OperationEnd {
            outcome: outcome.word.to_owned(),
            error: outcome.error.clone(),
            request_bytes,
            response_bytes,
            masked: after
                .masked
                .into_iter()
                .map(|(rule, count)| v1::MaskCount { rule, count })
                .collect(),
            trailers: after.trailers,
        }));
        self.write().await
    }
}
