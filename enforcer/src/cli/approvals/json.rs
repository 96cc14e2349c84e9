//! Approvals as JSON. The keys are an interface.

use super::show;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enforcer_proto::v1;
use serde_json::{Map, Value, json};

/// For people and programs: indented, and no character that acts on a terminal.
pub(in crate::cli) fn pretty(value: &impl serde::Serialize) -> String {
    let plain = serde_json::to_string_pretty(value).unwrap_or_default();
    plain.split('\n').map(crate::cli::transcripts::text::escaped).collect::<Vec<_>>().join("\n")
}

/// One approval; `body` is left out where there is none or the server did not send it.
pub(super) fn approval(approval: &v1::Approval) -> Value {
    let request = approval.request.clone().unwrap_or_default();
    let (words, impact) = (crate::task::words(&request), crate::task::impact(&request));
    let principal = request.principal.unwrap_or_default();
    let operation = request.operation.unwrap_or_default();
    let mut value = json!({
        "id": approval.id,
        "state": show::state(approval),
        "host": approval.host,
        "digest": request.digest,
        "policy": request.policy,
        "created_unix_ms": approval.created_unix_ms,
        "expires_unix_ms": approval.expires_unix_ms,
        "decided_unix_ms": approval.decided_unix_ms,
        "uses_left": approval.uses_left,
        "asked": approval.asked,
        "revision": approval.revision,
        "principal": {
            "agent": principal.agent,
            "task": principal.task,
            "cgroup": principal.cgroup,
            "pid": principal.pid,
            "uid": principal.uid,
            "gid": principal.gid,
            "comm": principal.comm,
            "exe": principal.exe,
            "exe_inside": principal.exe_inside,
            "exe_sha256": principal.exe_sha256,
            "argv": principal.argv,
        },
        "operation": {
            "target": operation.target,
            "name": operation.name,
            "port": operation.port,
            "protocol": operation.protocol,
            "action": operation.action,
            "resource": operation.resource,
            "facts": facts(&operation.facts),
            "notes": facts(&operation.notes),
        },
        "scopes": request.scopes.iter().map(scope).collect::<Vec<_>>(),
        "votes": approval.votes.iter().map(vote).collect::<Vec<_>>(),
        "escalated": approval.escalated,
        "unreviewed": approval.unreviewed,
    });
    if let Some(step) = &request.step {
        value["task_id"] = json!(approval.task_id);
        value["step"] = json!({
            "objective": step.objective,
            "number": step.number,
            "of": step.of,
            "justification": step.justification,
            "uses": step.uses,
            "tags": step.tags,
            "what": words,
            "impact": impact,
        });
    }
    if let Some(v1::GlassReview { person, note, unix_ms }) = &approval.review {
        value["review"] = json!({ "person": person, "note": note, "unix_ms": unix_ms });
    }
    if !request.body.is_empty() {
        value["body"] = body(&request.body);
    }
    value
}

fn body(body: &[u8]) -> Value {
    match std::str::from_utf8(body) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({ "base64": STANDARD.encode(body) }),
    }
}

fn facts(facts: &[v1::Fact]) -> Value {
    use v1::fact::Value as F;
    let value = |fact: &v1::Fact| match &fact.value {
        None => Value::Null,
        Some(F::Text(text)) => json!(text),
        Some(F::Number(number)) => json!(number),
        Some(F::Flag(flag)) => json!(flag),
        Some(F::List(list)) => json!(list.items),
    };
    Value::Object(facts.iter().map(|fact| (fact.name.clone(), value(fact))).collect::<Map<_, _>>())
}

fn scope(scope: &v1::Scope) -> Value {
    json!({
        "name": scope.name,
        "reviewers": scope.reviewers,
        "quorum": scope.quorum,
        "deny_threshold": scope.deny_threshold,
        "request_ttl_seconds": scope.request_ttl_seconds,
        "grant_ttl_seconds": scope.grant_ttl_seconds,
        "uses": scope.uses,
        "reason_required": scope.reason_required,
        "reason_pattern": scope.reason_pattern,
        "hours": scope.hours,
        "escalate_after_seconds": scope.escalate_after_seconds,
        "escalate_to": scope.escalate_to,
        "break_glass": scope.break_glass,
        "patterns": scope.patterns,
    })
}

/// A vote, as approvals and transcripts show it.
pub(crate) fn vote(vote: &v1::Vote) -> Value {
    json!({
        "person": vote.person,
        "approve": vote.approve,
        "reason": vote.reason,
        "unix_ms": vote.unix_ms,
        "scope": vote.scope,
        "break_glass": vote.break_glass,
    })
}
