//! A record that is a step of a task: what it lets through, and the claim that looks at it.

use super::{Claimed, Millis, Phase, Record, Rule};
use crate::approval::NotGranted;
use crate::approval::step::What;
use crate::operation::{Digest, Operation};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The step of a task that a record is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOf {
    /// The declared task.
    pub declared: Uuid,
    /// Its place in it, from 1.
    pub number: u32,
    /// The task of the agent's cgroup; empty when it has none.
    pub task: String,
    /// How many operations it lets through.
    pub uses: u32,
    /// Which.
    pub what: What,
}

/// An operation that wants to use a step's grant, with the agent and task of its cgroup.
#[derive(Clone, Copy, Debug)]
pub struct Using<'a> {
    /// The host that asks.
    pub host: &'a str,
    /// The agent.
    pub agent: &'a str,
    /// The task of its cgroup; empty when it has none.
    pub task: &'a str,
    /// The operation as the proxy read it.
    pub operation: &'a Operation,
    /// Its digest for that agent and task.
    pub digest: &'a Digest,
}

impl Record {
    /// Whether it is a step of this owner that lets the operation through.
    pub fn fits(&self, using: &Using<'_>) -> bool {
        let Some(step) = &self.step else {
            return false;
        };
        self.host == using.host
            && self.agent == using.agent
            && step.task == using.task
            && step.what.fits(using.operation, using.digest)
    }

    /// Whether every one of these rules is among those that it is approved by.
    pub fn covers(&self, rules: &[Rule]) -> bool {
        !rules.is_empty() && rules.iter().all(|rule| self.rules.contains(rule))
    }

    /// Spends one use of a step for an operation that fits it. Idempotent by operation.
    pub fn claim_step(
        &self,
        (operation, claim): (Uuid, Uuid),
        digest: &str,
        using: &Using<'_>,
        now: Millis,
    ) -> Claimed {
        if digest != self.digest || !self.fits(using) {
            return Claimed::Refused(NotGranted::Mismatch);
        }
        self.spend(operation, claim, now)
    }
}

/// The step that an operation uses or waits for: one that is approved before one that waits, one
/// that is exact before a pattern, then in their order.
pub fn choose<'r>(
    steps: &'r [Record],
    using: &Using<'_>,
    rules: &[Rule],
    now: Millis,
) -> Option<&'r Record> {
    let rank = |record: &Record| {
        let step = record.step.as_ref()?;
        let pattern = matches!(step.what, What::Pattern(_));
        match record.at(now).phase {
            Phase::Approved => Some((0, pattern, record.id)),
            Phase::Pending => Some((1, pattern, record.id)),
            _ => None,
        }
    };
    let fitting = steps.iter().filter(|record| record.fits(using) && record.covers(rules));
    let ranked = fitting.filter_map(|record| Some((rank(record)?, record)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, record)| record)
}
