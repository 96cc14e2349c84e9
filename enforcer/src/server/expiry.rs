//! Puts on record, and tells waiters, that a time is over: a request's, a grant's, or the time
//! until more people may decide.
//!
//! Nothing depends on it for safety: every transition looks at the time itself.

use super::audit::{Code, Entry};
use super::clock::News;
use super::core::Core;
use super::model::{Millis, Phase, Record};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

/// The longest sleep: the wall clock may jump forwards.
const LONGEST: Millis = 1_000;

/// The pause before what could not be put on record is tried again.
const AGAIN: Millis = 5_000;

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
            due.extend(record.escalation().map(|at| (at, record.id)));
            drop(due);
            self.sooner.notify_one();
        }
    }

    fn again(&self, id: Uuid, at: Millis) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert((at, id));
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

/// Puts on record what happened to the wall clock, and ends what was timed by a time that is
/// not the time any more.
async fn clock(core: &Core, news: News) -> Result<(), Status> {
    let entry = |code, detail: String| Entry::new(code, "server", "clock", detail);
    match news {
        News::Doubted { by } => {
            tracing::error!(
                seconds = by / 1000,
                "the wall clock was stepped: nothing is granted until it is put right, or has kept \
                 its new time for ten minutes"
            );
            core.note(entry(Code::ClockDoubted, format!("by={}s", by / 1000))).await?;
        }
        News::Restored => {
            tracing::warn!("the wall clock is right again; grants go on");
            core.note(entry(Code::ClockRestored, String::new())).await?;
        }
        News::Believed { by } => {
            tracing::warn!(
                seconds = by / 1000,
                "the wall clock kept its new time, which holds now"
            );
            let entry = entry(Code::ClockBelieved, format!("by={}s", by / 1000));
            core.reissue.notify_one();
            if by >= 0 {
                core.note(entry).await?;
                return Ok(());
            }
            core.metrics.event(Code::ClockBelieved);
            core.store.forget_tokens(entry, core.clock.now()).await?;
            for record in core.store.live(None).await? {
                core.transition(record.id, None, |record, now| {
                    let (over, code) = match record.phase {
                        Phase::Pending => (record.lapse(now), Code::ApprovalExpired),
                        Phase::Approved => (record.lapse(now), Code::GrantExpired),
                        _ => return Ok((None, ())),
                    };
                    let why = "the clock was put back";
                    Ok((Some((over, vec![Entry::new(code, "server", record.id, why)])), ()))
                })
                .await?;
            }
        }
    }
    Ok(())
}

/// The audit records of an escalation in these scopes.
pub(super) fn escalated(record: &Record, scopes: &[String]) -> Vec<Entry> {
    let groups = |scope: &String| {
        let rule = record.rules.iter().find(|rule| rule.scope == *scope);
        rule.map(|rule| rule.escalate_to.join(",")).unwrap_or_default()
    };
    let detail = |scope| format!("scope={scope} to={}", groups(scope));
    let entry = |scope| Entry::new(Code::ApprovalEscalated, "server", record.id, detail(scope));
    scopes.iter().map(entry).collect()
}

/// Runs until the server stops.
pub async fn run(core: Arc<Core>, stop: CancellationToken) {
    let mut steps: VecDeque<News> = VecDeque::new();
    loop {
        steps.extend(core.clock.news());
        if core.apart() {
            // What other servers on the same store keep does not end by this one's time.
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(LONGEST.unsigned_abs())) => continue,
            }
        }
        while let Some(news) = steps.front() {
            // A database that is away is back some time, and then it is done.
            if let Err(status) = clock(&core, *news).await {
                tracing::error!(
                    status = status.message(),
                    "the clock's step was not put on record; trying again"
                );
                break;
            }
            steps.pop_front();
        }
        for id in core.expiry.take(core.clock.now()) {
            let over = core.transition(id, None, |record, now| {
                let next = record.at(now);
                if next.revision == record.revision {
                    let Some((next, scopes)) = record.escalate(now) else {
                        return Ok((None, ()));
                    };
                    return Ok((Some((next, escalated(record, &scopes))), ()));
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
                if status.code() != tonic::Code::NotFound {
                    core.expiry.again(id, core.clock.now().saturating_add(AGAIN));
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = core.expiry.sooner.notified() => {}
            () = tokio::time::sleep(core.expiry.wait(core.clock.now())) => {}
        }
    }
}
