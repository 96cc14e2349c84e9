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
    noted: Mutex<Vec<(Option<OperationId>, Kind)>>,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
    after: Mutex<After>,
}

#[derive(Default)]
struct After {
    masked: BTreeMap<String, u64>,
    trailers: Vec<v1::Header>,
    then: Option<Box<dyn FnOnce() + Send>>,
    /// Response bytes that are delivered by that.
    leaving: u64,
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
            noted: Mutex::default(),
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
    pub fn note(&self, kind: Kind) {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.push((Some(self.operation), kind));
    }

    /// Writes what was noted; when it returns it is in the log.
    pub async fn write(&self) -> Result<(), RecordError> {
        self.write_as(Durability::Logged).await
    }

    /// Writes what was noted, as durable as asked.
    pub async fn write_as(&self, durability: Durability) -> Result<(), RecordError> {
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
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

    /// Counts response bytes that are delivered once the end is recorded, and only then.
    pub fn leaving(&self, bytes: usize) {
        self.delivered(bytes);
        let mut after = self.after.lock().unwrap_or_else(PoisonError::into_inner);
        after.leaving += bytes as u64;
    }

    /// What is to be done once the end is recorded, and only then: what was noted before is
    /// delivered with it.
    pub fn then(&self, then: impl FnOnce() + Send + 'static) {
        let mut after = self.after.lock().unwrap_or_else(PoisonError::into_inner);
        after.then = Some(Box::new(then));
    }

    /// Records the operation's end, with what was noted before it and not yet written.
    ///
    /// # Errors
    /// When not all of it could be recorded: what was to be done then is not, and the end is
    /// recorded once more by itself, as that of an operation that was cut.
    pub async fn end(&self, outcome: &Outcome) -> Result<(), RecordError> {
        self.note(self.ending(outcome));
        let written = self.write().await;
        let (then, leaving) = {
            let mut after = self.after.lock().unwrap_or_else(PoisonError::into_inner);
            (after.then.take(), std::mem::take(&mut after.leaving))
        };
        match written {
            Ok(()) => {
                if let Some(then) = then {
                    then();
                }
                Ok(())
            }
            Err(error) => {
                drop(then);
                self.response_bytes.fetch_sub(leaving, Relaxed);
                self.note(self.ending(&Outcome::cut(error.code(), &error)));
                // Where nothing can be recorded any more this fails for the same reason.
                let _ = self.write().await;
                Err(error)
            }
        }
    }

    fn ending(&self, outcome: &Outcome) -> Kind {
        let after = self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let (request_bytes, response_bytes) = self.bytes();
        let masked = after.masked.iter();
        Kind::OperationEnd(v1::OperationEnd {
            outcome: outcome.word.to_owned(),
            error: outcome.error.clone(),
            request_bytes,
            response_bytes,
            masked: masked
                .map(|(rule, &count)| v1::MaskCount { rule: rule.clone(), count })
                .collect(),
            trailers: after.trailers.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transcript;
    use crate::record::read::Transcripts;
    use crate::record::{Recorder, store_dir};
    use tokio::sync::oneshot;

    fn answer(bytes: usize) -> Kind {
        Kind::ResponseBody(v1::Body {
            data: vec![b'x'; bytes].into(),
            last: true,
            ..v1::Body::default()
        })
    }

    #[tokio::test]
    async fn what_waits_for_the_end_is_done_only_when_all_of_it_is_recorded() {
        let dir = tempfile::tempdir().unwrap();
        let cfg = Transcript { quota_bytes: 2 << 20, agent_share: 100, ..Transcript::default() };
        let recorder = Recorder::open(&cfg, dir.path()).unwrap();
        let log = recorder.open_flow(v1::FlowStart::default()).await.unwrap();
        let asked = || Kind::OperationAsked(v1::OperationAsked::default());

        let good = Ledger::new(log.clone(), OperationId::new());
        let (done, mut told) = oneshot::channel();
        good.note(asked());
        good.note(answer(1_000));
        good.leaving(1_000);
        good.then(move || done.send(()).unwrap());
        good.end(&Outcome::complete()).await.unwrap();
        told.try_recv().unwrap();

        let late = Ledger::new(log.clone(), OperationId::new());
        late.note(asked());
        late.write().await.unwrap();
        let filler = OperationId::new();
        let mut filled = Ok(0);
        while filled.is_ok() {
            filled = log.append(Some(filler), answer(100_000), Durability::Logged).await;
        }
        assert!(matches!(filled, Err(RecordError::Full { .. })), "{filled:?}");
        let (done, mut told) = oneshot::channel();
        late.note(answer(1_000));
        late.delivered(10);
        late.leaving(1_000);
        late.then(move || done.send(()).unwrap());
        assert!(matches!(late.end(&Outcome::complete()).await, Err(RecordError::Full { .. })));
        assert!(told.try_recv().is_err(), "the answer was not recorded");

        let flow = log.id();
        log.end(Outcome::complete().into()).await.unwrap();
        drop((log, good, late));
        recorder.shutdown().await;
        let read = Transcripts::open(&store_dir(&cfg, dir.path())).unwrap();
        let mut ends = Vec::new();
        read.events(flow, |event| {
            if let Some(Kind::OperationEnd(end)) = event.kind {
                ends.push((end.outcome, end.response_bytes));
            }
            Ok(true)
        })
        .unwrap();
        assert_eq!(ends, [("complete".to_owned(), 1_000), ("cut".to_owned(), 10)]);
    }
}
