//! Puts on record, and tells waiters, that a time is over.
//!
//! Nothing depends on it for safety: every transition looks at the time itself.

use super::audit::{Code, Entry};
use super::core::Core;
use super::model::{Millis, Phase, Record};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The longest sleep: the wall clock may jump forwards.
const LONGEST: Millis = 1_000;

/// What is due when.
#[derive(Debug, Default)]
pub struct Expiry {
    due: Mutex<BTreeSet<(Millis, Uuid)>>,
    sooner: Notify,
}

impl Expiry {
    /// Sees to it that the record's end is noticed.
    pub fn schedule(&self, record: &Record) {
        if record.phase.live() {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            due.insert((record.expires(), record.id));
            drop(due);
            self.sooner.notify_one();
        }
    }

    /// Looks at the time again (a test moved it).
    pub fn look(&self) {
        self.sooner.notify_one();
    }

    fn take(&self, now: Millis) -> Vec<Uuid> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let later = due.split_off(&(now.saturating_add(1), Uuid::nil()));
        let over = std::mem::replace(&mut *due, later);
        over.into_iter().map(|(_, id)| id).collect()
    }

    fn wait(&self, now: Millis) -> Duration {
        let due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = due.first().map_or(LONGEST, |(at, _)| at.saturating_sub(now));
        Duration::from_millis(next.clamp(1, LONGEST).unsigned_abs())
    }
}

/// Runs until the server stops.
pub async fn run(core: Arc<Core>, stop: CancellationToken) {
    loop {
        for id in core.expiry.take(core.clock.now()) {
            let over = core.transition(id, |record, now| {
                let next = record.at(now);
                if next.revision == record.revision {
                    return Ok((None, ()));
                }
                let code = match record.phase {
                    Phase::Pending => Code::ApprovalExpired,
                    _ => Code::GrantExpired,
                };
                let entry = Entry::new(code, "server", id, "");
                Ok((Some((next, vec![entry])), ()))
            });
            if let Err(status) = over.await {
                tracing::error!(approval = %id, status = status.message(), "its end was not put on record");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.expiry.sooner.notified() => {}
            () = tokio::time::sleep(core.expiry.wait(core.clock.now())) => {}
        }
    }
}
