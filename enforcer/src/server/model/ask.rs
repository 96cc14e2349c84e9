//! A new request: its rules, its times, and whether one that is there answers it.

use super::{Millis, Phase, Record};
use crate::policy::{Hours, Scope, open_until};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use uuid::Uuid;

/// A scope's rule, as it was asked under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rule {
    /// The scope's name.
    pub scope: String,
    /// Groups that may decide; empty: any reviewer.
    pub reviewers: Vec<String>,
    /// Distinct people that must approve; at least 1.
    pub quorum: u32,
    /// Distinct people that must deny to deny; at least 1.
    pub deny_threshold: u32,
    /// How long a request waits. Milliseconds.
    pub request_ttl: Millis,
    /// How long a grant is good. Milliseconds.
    pub grant_ttl: Millis,
    /// How many uses a grant has; at least 1.
    pub uses: u32,
    /// Whether a vote must say why.
    pub reason_required: bool,
    /// What the reason of a vote for it must match somewhere; empty: nothing.
    pub reason_pattern: String,
    /// When people may approve, as [`Hours`]; empty: at any time.
    pub hours: Vec<String>,
    /// After how long without a decision `escalate_to` may decide too; 0: never. Milliseconds.
    pub escalate_after: Millis,
    /// Groups that may decide then.
    pub escalate_to: Vec<String>,
    /// Groups of whom one person alone may approve.
    pub break_glass: Vec<String>,
    /// Whether a step may ask for a pattern under it.
    pub patterns: bool,
}

impl Rule {
    /// The scope as policy has it; `None` when its hours cannot be read.
    pub fn as_scope(&self) -> Option<Scope> {
        let hours: Result<Vec<Hours>, _> = self.hours.iter().map(|text| text.parse()).collect();
        let time = |ms: Millis| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        Some(Scope {
            name: self.scope.clone(),
            reviewers: self.reviewers.clone(),
            quorum: self.quorum,
            deny_threshold: self.deny_threshold,
            request_ttl: time(self.request_ttl),
            grant_ttl: time(self.grant_ttl),
            uses: self.uses,
            reason_required: self.reason_required,
            reason_pattern: Some(self.reason_pattern.clone()).filter(|text| !text.is_empty()),
            hours: hours.ok()?,
            escalate_after: Some(time(self.escalate_after)).filter(|after| !after.is_zero()),
            escalate_to: self.escalate_to.clone(),
            break_glass: self.break_glass.clone(),
            patterns: self.patterns,
        })
    }

    /// Until when it may be approved at that time; `None` when it may not be. Hours that cannot
    /// be read are never.
    pub fn open_until(&self, now: Millis) -> Option<Millis> {
        let hours: Result<Vec<Hours>, _> = self.hours.iter().map(|text| text.parse()).collect();
        open_until(&hours.ok()?, now)
    }
}

/// Identical requests have the same key: host, digest and rules. The rules are part of it so
/// that a grant given under weaker ones never answers a request under stricter ones.
pub fn fold_key(host: &str, digest: &str, rules: &[Rule]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"enforcer approval fold v2\0");
    let mut text = |part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    text(host);
    text(digest);
    for rule in rules {
        let Rule { quorum, deny_threshold, request_ttl, grant_ttl, uses, .. } = rule;
        let Rule { scope, reason_required, reason_pattern, escalate_after, .. } = rule;
        text(scope);
        for list in [&rule.reviewers, &rule.hours, &rule.escalate_to, &rule.break_glass] {
            text(&list.len().to_string());
            list.iter().for_each(|item| text(item));
        }
        text(&format!("{quorum} {deny_threshold} {request_ttl} {grant_ttl} {uses}"));
        text(&format!(
            "{reason_required} {escalate_after}{}",
            if rule.patterns { " p" } else { "" }
        ));
        text(reason_pattern);
    }
    hash.finalize().into()
}

/// What a request finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A pending one takes it in: the record to keep.
    Folded(Box<Record>),
    /// A grant with uses left, or a denial that still stands: nothing to keep.
    Found,
    /// Nothing: a new one is needed.
    None,
}

impl Record {
    /// A new pending request under at least one rule.
    pub fn new(
        id: Uuid,
        (host, agent): (&str, &str),
        digest: &str,
        rules: Vec<Rule>,
        excluded: Vec<String>,
        now: Millis,
    ) -> Self {
        let ttl = rules.iter().map(|rule| rule.request_ttl).min().unwrap_or(0);
        Self {
            id,
            host: host.to_owned(),
            agent: agent.to_owned(),
            digest: digest.to_owned(),
            rules,
            excluded,
            phase: Phase::Pending,
            created: now,
            pending_until: now.saturating_add(ttl),
            decided: 0,
            grant_until: 0,
            ended: 0,
            votes: Vec::new(),
            uses: Vec::new(),
            revoked_by: None,
            revision: 1,
            asked: 1,
            escalated: Vec::new(),
            review: None,
            step: None,
        }
    }

    /// Whether this record (found under the same fold key) answers another request. A denial
    /// stands for `denied_for`, so that asking again at once does not wear people down.
    pub fn answers(&self, denied_for: Millis, now: Millis) -> Answer {
        let current = self.at(now);
        match current.phase {
            Phase::Pending => {
                let mut next = current;
                next.asked = next.asked.saturating_add(1);
                next.revision += 1;
                Answer::Folded(Box::new(next))
            }
            Phase::Approved => Answer::Found,
            Phase::Denied if now < current.ended.saturating_add(denied_for) => Answer::Found,
            _ => Answer::None,
        }
    }
}
