//! Why an operation is not forwarded, in words for the agent and the transcript.
//!
//! What an agent may read is exactly what is here: the reason, the names of the
//! rules that decided and what to do next; never another agent's affairs, a
//! credential, or an internal error's text.

use super::Permit;
use crate::approval::{ApprovalError, ApprovalId};
use crate::flow::Place;
use crate::policy::{Absence, Bundle, Judgement};
use crate::record::RecordError;
use enforcer_proto::v1;
use std::time::Duration;

/// Why an operation is not forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The stable code, as in `Decision.reason`.
    pub code: &'static str,
    /// The reason, in a sentence.
    pub detail: String,
    /// The rules that decided.
    pub rules: Vec<String>,
    /// How policy came to it.
    pub trace: Vec<String>,
    /// The policy bundle's version.
    pub policy: String,
    /// The approval that was asked for.
    pub approval: Option<ApprovalId>,
    /// Whether that approval still waits, so that the same request may succeed later.
    pub pending: bool,
    /// The scopes that it was asked under.
    pub scope: String,
    /// Who denied.
    pub decided_by: Vec<String>,
    /// How people voted, and why.
    pub votes: Vec<v1::Vote>,
    /// How long it was held.
    pub held: Duration,
}

/// Why a running operation was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The stable code.
    pub code: &'static str,
    /// The reason, in a sentence.
    pub detail: String,
}

impl Denial {
    /// A denial before any judgement.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            rules: Vec::new(),
            trace: Vec::new(),
            policy: String::new(),
            approval: None,
            pending: false,
            scope: String::new(),
            decided_by: Vec::new(),
            votes: Vec::new(),
            held: Duration::ZERO,
        }
    }

    /// Nothing could be recorded, so nothing happens.
    pub fn unrecorded(error: &RecordError) -> Self {
        Self::new(
            error.code(),
            "the operation could not be recorded on this host, so it was not forwarded",
        )
    }

    /// The decision as it is recorded.
    pub fn record(&self) -> v1::Decision {
        v1::Decision {
            verdict: v1::Verdict::Deny.into(),
            reason: self.code.to_owned(),
            rules: self.rules.clone(),
            trace: match self.trace.is_empty() {
                true => vec![self.detail.clone()],
                false => self.trace.clone(),
            },
            policy: self.policy.clone(),
            approval: self.approval.map(|id| id.to_string()).unwrap_or_default(),
            scope: self.scope.clone(),
            decided_by: self.decided_by.clone(),
            votes: self.votes.clone(),
            claim: String::new(),
            held_ms: millis(self.held),
        }
    }

    /// The client left while it was asked or held.
    pub(super) fn cancelled(permit: &Permit, id: Option<ApprovalId>) -> Self {
        let denial =
            Self::by(permit, "cancelled", "the client closed its connection while it waited");
        match id {
            Some(id) => denial.on(id),
            None => denial,
        }
    }

    pub(super) fn unknown_target(place: &Place, bundle: &Bundle) -> Self {
        Self {
            policy: bundle.version().to_owned(),
            ..Self::new(
                "unknown-target",
                format!("policy names no target for {} port {}", place.name, place.port),
            )
        }
    }

    pub(crate) fn policy(judgement: &Judgement, bundle: &Bundle) -> Self {
        let detail = match judgement.rules.as_slice() {
            [] => "no rule allows this operation".to_owned(),
            rules => format!("refused by {}", rules.join(", ")),
        };
        Self {
            rules: judgement.rules.clone(),
            trace: judgement.trace.clone(),
            policy: bundle.version().to_owned(),
            ..Self::new("policy", detail)
        }
    }

    pub(super) fn absent(why: Absence) -> Self {
        Self::new(why.code(), why.detail())
    }

    pub(super) fn no_policy() -> Self {
        Self::new("no-policy", "the daemon is stopping")
    }

    pub(super) fn not_whole(permit: &Permit) -> Self {
        Self::by(
            permit,
            "body-not-read",
            "people must see the whole body, and it was already streaming when policy changed; \
             send the request again",
        )
    }

    pub(super) fn pending(permit: &Permit, id: ApprovalId, held: Duration, full: bool) -> Self {
        let (code, detail) = match full {
            false => (
                "approval-pending",
                "people have not decided yet; send the same request again later and it runs once \
                 they approve",
            ),
            true => (
                "held-limit",
                "too many operations wait for people, so this one was not held; send the same \
                 request again later and it runs once they approve",
            ),
        };
        Self { pending: true, held, ..Self::by(permit, code, detail).on(id) }
    }

    pub(super) fn denied(
        permit: &Permit,
        id: ApprovalId,
        (decided_by, votes): (Vec<String>, Vec<v1::Vote>),
        reason: &str,
    ) -> Self {
        let detail = match reason {
            "" => "people denied it".to_owned(),
            reason => format!("people denied it: {reason}"),
        };
        Self { decided_by, votes, ..Self::by(permit, "approval-denied", detail).on(id) }
    }

    pub(super) fn expired(permit: &Permit, id: ApprovalId) -> Self {
        let detail = "nobody decided in time; the same request asks anew";
        Self::by(permit, "approval-expired", detail).on(id)
    }

    pub(super) fn revoked(permit: &Permit, id: ApprovalId) -> Self {
        Self::by(permit, "approval-revoked", "the approval was taken back").on(id)
    }

    pub(super) fn approval(permit: &Permit, error: &ApprovalError) -> Self {
        let detail = match error {
            // The server's words may speak of others.
            ApprovalError::Protocol(_) => "the approval server's answer made no sense".to_owned(),
            error => error.to_string(),
        };
        Self::by(permit, error.code(), detail)
    }

    /// The approval that it is about.
    pub(super) fn on(self, id: ApprovalId) -> Self {
        Self { approval: Some(id), ..self }
    }

    fn by(permit: &Permit, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            rules: permit.judgement.rules.clone(),
            trace: permit.judgement.trace.clone(),
            policy: permit.bundle.version().to_owned(),
            scope: permit.standing.scope_names(),
            held: permit.held,
            ..Self::new(code, detail)
        }
    }
}

/// Whole milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
