//! The life of one approval, as pure transitions: state and time in, new state or refusal out.
//!
//! pending -> approved | denied | expired | cancelled; approved -> claimed (n
//! times) -> spent | revoked | expired. Nothing here reads a clock, a store or
//! the network. A transition never happens by itself: [`Record::at`] says what
//! time has made of a record, and every transition looks through it first, so
//! that no timer has to fire for an expired grant to be worthless.

use crate::approval::NotGranted;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

mod ask;
mod emergency;
mod step;
mod vote;

pub use ask::{Answer, Rule, fold_key};
pub use emergency::ReviewError;
pub use step::{StepOf, Using, choose};
pub use vote::{Ballot, Person, VoteError};

/// Milliseconds since the Unix epoch.
pub type Millis = i64;

/// Where an approval stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Waits for people.
    Pending,
    /// Granted; uses can be claimed.
    Approved,
    /// Denied.
    Denied,
    /// Not decided in time, or the grant ran out.
    Expired,
    /// Withdrawn by the daemon.
    Cancelled,
    /// Every use was claimed.
    Spent,
    /// Taken back.
    Revoked,
}

impl Phase {
    /// Whether something can still become of it by itself or by people's votes.
    pub fn live(self) -> bool {
        matches!(self, Self::Pending | Self::Approved)
    }

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Spent => "spent",
            Self::Revoked => "revoked",
        }
    }
}

/// One person's vote; it counts in every scope that the person may decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Who.
    pub person: String,
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Millis,
    /// The scopes that it counts in, in their order.
    pub scopes: Vec<String>,
    /// The scopes that it approves alone, because the person broke the glass.
    #[serde(default)]
    pub broke: Vec<String>,
}

/// Somebody looked afterwards at what was approved by breaking the glass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// Who.
    pub person: String,
    /// What they say about it.
    pub note: String,
    /// When.
    pub at: Millis,
}

/// One use of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The operation that runs on it.
    pub operation: Uuid,
    /// The claim's id.
    pub claim: Uuid,
    /// When.
    pub at: Millis,
}

/// One approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its id; ids sort by time.
    pub id: Uuid,
    /// The host that asked.
    pub host: String,
    /// The agent that asked.
    pub agent: String,
    /// What it is bound to, as text.
    pub digest: String,
    /// The scopes, all of which must approve.
    pub rules: Vec<Rule>,
    /// People who may not vote: the requester and its owners.
    pub excluded: Vec<String>,
    /// Where it stands.
    pub phase: Phase,
    /// When it was asked.
    pub created: Millis,
    /// Until when it waits for people.
    pub pending_until: Millis,
    /// When it was decided; 0 before.
    pub decided: Millis,
    /// Until when the grant is good; 0 before.
    pub grant_until: Millis,
    /// When it ended; 0 before.
    pub ended: Millis,
    /// The votes, in order; one a person.
    pub votes: Vec<Vote>,
    /// The uses claimed so far.
    pub uses: Vec<Use>,
    /// Who took it back and why.
    pub revoked_by: Option<(String, String)>,
    /// Counts up with each change.
    pub revision: u64,
    /// How many identical requests it stands for.
    pub asked: u32,
    /// The scopes whose escalation is on record.
    #[serde(default)]
    pub escalated: Vec<String>,
    /// Who looked at it after the glass was broken.
    #[serde(default)]
    pub review: Option<Looked>,
    /// The step of a task that it is.
    #[serde(default)]
    pub step: Option<StepOf>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// A new use was spent: the record to keep.
    New(Box<Record>, Uuid),
    /// This operation has its use already.
    Again(Uuid),
    /// No.
    Refused(NotGranted),
}

/// A transition that is not possible from where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the approval is {}, so nothing was changed", .0.as_str())]
pub struct NotNow(pub Phase);

impl Record {
    /// How many uses the grant has in all: the strictest scope's number, or the step's.
    pub fn uses_granted(&self) -> u32 {
        let step = self.step.as_ref().map(|step| step.uses);
        self.rules
            .iter()
            .map(|rule| rule.uses)
            .min()
            .map_or(0, |uses| step.map_or(uses, |step| step.min(uses)))
    }

    /// How many uses can still be claimed.
    pub fn uses_left(&self) -> u32 {
        let used = u32::try_from(self.uses.len()).unwrap_or(u32::MAX);
        match self.phase {
            Phase::Pending | Phase::Approved => self.uses_granted().saturating_sub(used),
            _ => 0,
        }
    }

    /// When it stops waiting, or its grant stops being good.
    pub fn expires(&self) -> Millis {
        match self.grant_until {
            0 => self.pending_until,
            until => until,
        }
    }

    /// What time has made of it: the record, expired when its time is over.
    #[must_use]
    pub fn at(&self, now: Millis) -> Self {
        if !self.phase.live() || now < self.expires() {
            return self.clone();
        }
        // It ended when its time was over, whenever that was noticed.
        self.ended_as(Phase::Expired, self.expires())
    }

    /// Ends it before its time: the time that it was given is not the time any more.
    #[must_use]
    pub fn lapse(&self, now: Millis) -> Self {
        self.ended_as(Phase::Expired, now)
    }

    fn ended_as(&self, phase: Phase, now: Millis) -> Self {
        let mut next = self.clone();
        next.phase = phase;
        next.ended = now;
        next.revision += 1;
        next
    }

    /// Spends one use for an operation. Idempotent by operation. A step's is spent by
    /// [`Record::claim_step`] alone.
    pub fn claim(&self, operation: Uuid, digest: &str, claim: Uuid, now: Millis) -> Claimed {
        if digest != self.digest || self.step.is_some() {
            return Claimed::Refused(NotGranted::Mismatch);
        }
        self.spend(operation, claim, now)
    }

    fn spend(&self, operation: Uuid, claim: Uuid, now: Millis) -> Claimed {
        let current = self.at(now);
        let mine = current.uses.iter().find(|u| u.operation == operation);
        if let (Phase::Approved | Phase::Spent, Some(mine)) = (current.phase, mine) {
            // A lost answer: the use was spent for this operation and nothing took it back.
            return if now < current.expires() {
                Claimed::Again(mine.claim)
            } else {
                Claimed::Refused(NotGranted::Expired)
            };
        }
        let refused = match current.phase {
            Phase::Approved => {
                let mut next = current;
                next.revision += 1;
                next.uses.push(Use { operation, claim, at: now });
                if next.uses_left() == 0 {
                    next.phase = Phase::Spent;
                    next.ended = now;
                }
                return Claimed::New(Box::new(next), claim);
            }
            Phase::Pending => NotGranted::Pending,
            Phase::Denied => NotGranted::Denied,
            Phase::Expired => NotGranted::Expired,
            Phase::Cancelled => NotGranted::Cancelled,
            Phase::Spent => NotGranted::Spent,
            Phase::Revoked => NotGranted::Revoked,
        };
        Claimed::Refused(refused)
    }

    /// Takes a grant back. One that is spent or ran out too, once it was used: its flows may
    /// still run and are cut.
    ///
    /// # Errors
    /// When there is no grant.
    pub fn revoke(&self, by: &str, reason: &str, now: Millis) -> Result<Self, NotNow> {
        let current = self.at(now);
        match current.phase {
            Phase::Expired if current.uses.is_empty() => Err(NotNow(Phase::Expired)),
            Phase::Approved | Phase::Spent | Phase::Expired => {
                let mut next = current.ended_as(Phase::Revoked, now);
                next.revoked_by = Some((by.to_owned(), reason.to_owned()));
                Ok(next)
            }
            other => Err(NotNow(other)),
        }
    }

    /// Withdraws a pending request.
    ///
    /// # Errors
    /// When it is not pending any more.
    pub fn cancel(&self, now: Millis) -> Result<Self, NotNow> {
        let current = self.at(now);
        match current.phase {
            Phase::Pending => Ok(current.ended_as(Phase::Cancelled, now)),
            other => Err(NotNow(other)),
        }
    }
}

#[cfg(test)]
mod tests;
