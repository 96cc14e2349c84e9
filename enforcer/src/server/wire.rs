//! Records as the API shows them.

use super::model::{Looked, Phase, Record, Rule};
use enforcer_proto::v1;

/// The wire's state.
pub fn state(phase: Phase) -> v1::State {
    match phase {
        Phase::Pending => v1::State::Pending,
        Phase::Approved => v1::State::Approved,
        Phase::Denied => v1::State::Denied,
        Phase::Expired => v1::State::Expired,
        Phase::Cancelled => v1::State::Cancelled,
        Phase::Spent => v1::State::Spent,
        Phase::Revoked => v1::State::Revoked,
    }
}

/// The phase of a wire state; `None` when it is unknown.
pub fn phase(state: i32) -> Option<Phase> {
    match v1::State::try_from(state).ok()? {
        v1::State::Unspecified => None,
        v1::State::Pending => Some(Phase::Pending),
        v1::State::Approved => Some(Phase::Approved),
        v1::State::Denied => Some(Phase::Denied),
        v1::State::Expired => Some(Phase::Expired),
        v1::State::Cancelled => Some(Phase::Cancelled),
        v1::State::Spent => Some(Phase::Spent),
        v1::State::Revoked => Some(Phase::Revoked),
    }
}

/// What a daemon needs to know: it has the request itself.
pub fn brief(record: &Record) -> v1::Approval {
    let request = v1::ApprovalRequest {
        digest: record.digest.clone(),
        scopes: record.rules.iter().map(scope).collect(),
        ..v1::ApprovalRequest::default()
    };
    approval(record, request)
}

/// A record with what was asked.
pub fn approval(record: &Record, request: v1::ApprovalRequest) -> v1::Approval {
    v1::Approval {
        id: record.id.to_string(),
        state: state(record.phase).into(),
        request: Some(request),
        host: record.host.clone(),
        created_unix_ms: record.created,
        expires_unix_ms: record.expires(),
        decided_unix_ms: record.decided,
        votes: record.votes.iter().flat_map(votes).collect(),
        uses_left: record.uses_left(),
        revision: record.revision,
        asked: record.asked,
        escalated: record.escalated.clone(),
        unreviewed: record.unreviewed(),
        task_id: record.step.as_ref().map(|s| s.declared.to_string()).unwrap_or_default(),
        review: record.review.clone().map(|Looked { person, note, at }| v1::GlassReview {
            person,
            note,
            unix_ms: at,
        }),
    }
}

fn votes(vote: &super::model::Vote) -> impl Iterator<Item = v1::Vote> + '_ {
    vote.scopes.iter().map(|scope| v1::Vote {
        person: vote.person.clone(),
        approve: vote.approve,
        reason: vote.reason.clone(),
        unix_ms: vote.at,
        scope: scope.clone(),
        break_glass: vote.broke.contains(scope),
    })
}

fn scope(rule: &Rule) -> v1::Scope {
    v1::Scope {
        name: rule.scope.clone(),
        reviewers: rule.reviewers.clone(),
        quorum: rule.quorum,
        deny_threshold: rule.deny_threshold,
        request_ttl_seconds: rule.request_ttl.unsigned_abs() / 1000,
        grant_ttl_seconds: rule.grant_ttl.unsigned_abs() / 1000,
        uses: rule.uses,
        reason_required: rule.reason_required,
        reason_pattern: rule.reason_pattern.clone(),
        hours: rule.hours.clone(),
        escalate_after_seconds: rule.escalate_after.unsigned_abs() / 1000,
        escalate_to: rule.escalate_to.clone(),
        break_glass: rule.break_glass.clone(),
        patterns: rule.patterns,
    }
}
