//! Between the wire's messages and our own types.
//!
//! A missing field or an unknown enum value is an error, never a default. The
//! one check that server, daemon and reviewer's tool share is here:
//! [`checked_operation`] rebuilds the operation from what is shown, checks its
//! body and recomputes the digest.

use super::{ApprovalId, Ask, Scope, State, StepRequest, View, step};
use crate::operation::{self, Digest, Fact, Operation, Protocol};
use crate::principal::{AgentName, Principal};
use bytes::Bytes;
use enforcer_proto::v1;
use sha2::{Digest as _, Sha256};
use std::str::FromStr;

/// A message that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// A field is not there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has a value that means nothing here.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// The facts are not in ascending order by name, each once.
    #[error("the facts are not in order, or one is there twice")]
    FactOrder,
    /// The body is not the one that the facts speak of.
    #[error("the body does not have the length and hash that the facts state")]
    Body,
    /// The body was not read before the decision.
    #[error("an operation whose body streams cannot be approved: nobody can see it whole")]
    Streamed,
    /// The digest is not that of the facts.
    #[error("the digest is not the one of the facts shown")]
    Digest,
}

/// The message that puts an operation before people.
pub fn request(ask: Ask) -> v1::ApprovalRequest {
    let digest = ask.digest.to_string();
    v1::ApprovalRequest {
        principal: Some((&ask.principal).into()),
        operation: Some(operation(&ask.operation, &digest)),
        digest,
        scopes: ask.scopes.iter().map(scope).collect(),
        policy: ask.policy,
        body: ask.operation.body.unwrap_or_default(),
        step: None,
    }
}

fn scope(scope: &Scope) -> v1::Scope {
    v1::Scope {
        name: scope.name.clone(),
        reviewers: scope.reviewers.clone(),
        quorum: scope.quorum,
        deny_threshold: scope.deny_threshold,
        request_ttl_seconds: scope.request_ttl.as_secs(),
        grant_ttl_seconds: scope.grant_ttl.as_secs(),
        uses: scope.uses,
        reason_required: scope.reason_required,
        reason_pattern: scope.reason_pattern.clone().unwrap_or_default(),
        hours: scope.hours.iter().map(ToString::to_string).collect(),
        escalate_after_seconds: scope.escalate_after.map_or(0, |after| after.as_secs()),
        escalate_to: scope.escalate_to.clone(),
        break_glass: scope.break_glass.clone(),
        patterns: scope.patterns,
    }
}

/// Whether the server keeps the scopes that it was asked under: one of an older version drops
/// what it does not know of, and would count by weaker rules.
pub fn same_scopes(asked: &[v1::Scope], kept: &[v1::Scope]) -> bool {
    fold_scopes(asked) == fold_scopes(kept)
}

/// Whether all the scopes that are asked for are among others, each with the same rules.
pub fn covers(others: &[v1::Scope], asked: &[v1::Scope]) -> bool {
    let others = fold_scopes(others);
    fold_scopes(asked).iter().all(|scope| others.contains(scope))
}

/// Scopes in one form: in order of their names, and their lists in order, each item once.
pub fn fold_scopes(scopes: &[v1::Scope]) -> Vec<v1::Scope> {
    let mut scopes = scopes.to_vec();
    for scope in &mut scopes {
        let v1::Scope { reviewers, hours, escalate_to, break_glass, .. } = scope;
        for list in [reviewers, hours, escalate_to, break_glass] {
            list.sort();
            list.dedup();
        }
    }
    scopes.sort_by(|a, b| a.name.cmp(&b.name));
    scopes
}

/// The message of one step of a task. Its digest is the step's.
///
/// # Errors
/// When it is out of its bounds.
pub fn step_request(ask: StepRequest) -> Result<v1::ApprovalRequest, ConvertError> {
    let mut request = v1::ApprovalRequest {
        principal: Some((&ask.principal).into()),
        scopes: ask.scopes.iter().map(scope).collect(),
        policy: ask.policy,
        step: Some(ask.step),
        ..v1::ApprovalRequest::default()
    };
    if let Some(asked) = ask.operation {
        let digest = asked.digest(&ask.principal).to_string();
        request.operation = Some(operation(&asked, &digest));
        request.body = asked.body.unwrap_or_default();
    }
    request.digest = checked_step(&request)?.digest.to_string();
    Ok(request)
}

/// A step's request with everything in it that has to belong together, but for the digest that
/// it states.
///
/// # Errors
/// When a part is missing, out of its range, or the operation is not the one it is exact about.
pub fn checked_step(request: &v1::ApprovalRequest) -> Result<step::Checked, ConvertError> {
    let asked = request.step.as_ref().ok_or(ConvertError::Missing("step"))?;
    let checked = step::check(request, asked)?;
    if let step::What::Exact(exact) = &checked.what {
        let (_, digest) = shown_operation(request)?;
        if digest.to_string() != *exact {
            return Err(ConvertError::Digest);
        }
    }
    Ok(checked)
}

/// The digest that people decide on, recomputed from everything that the request shows: of the
/// operation, or of the step.
///
/// # Errors
/// When a part is missing, or the parts do not belong together.
pub fn checked(request: &v1::ApprovalRequest) -> Result<Digest, ConvertError> {
    if request.step.is_none() {
        return checked_operation(request).map(|(_, digest)| digest);
    }
    let digest = checked_step(request)?.digest;
    match digest.to_string() == request.digest {
        true => Ok(digest),
        false => Err(ConvertError::Digest),
    }
}

/// An operation that wants to use a step's grant, as the server sees it: without its body, of
/// which the facts have the hash.
pub fn step_use(principal: &Principal, op: &Operation, digest: &Digest) -> v1::StepUse {
    v1::StepUse {
        agent: principal.agent.as_str().to_owned(),
        task: principal.task.clone().unwrap_or_default(),
        operation: Some(operation(op, &digest.to_string())),
    }
}

/// The operation of a use and its digest, recomputed for that agent and task.
///
/// # Errors
/// When a part is missing, or the digest is not that of the facts.
pub fn used_operation(used: &v1::StepUse) -> Result<(Operation, Digest), ConvertError> {
    let asked = used.operation.as_ref().ok_or(ConvertError::Missing("step.operation"))?;
    let agent = AgentName::parse(&used.agent).ok_or(ConvertError::Invalid("step.agent"))?;
    let op = facts_of(asked)?;
    let digest = operation::digest(agent.as_str(), task_of(&used.task), &op);
    match digest.to_string() == asked.digest {
        true => Ok((op, digest)),
        false => Err(ConvertError::Digest),
    }
}

/// Checks that a step which the server answers with is one that lets the operation through.
///
/// # Errors
/// When it is not, or is not what people decided on.
pub fn step_answers(answer: &v1::Approval, ask: &Ask) -> Result<(), ConvertError> {
    let mut request = answer.request.clone().ok_or(ConvertError::Missing("approval.request"))?;
    if !covers(&request.scopes, &ask.scopes.iter().map(scope).collect::<Vec<_>>()) {
        return Err(ConvertError::Invalid("scopes"));
    }
    request.principal = Some((&ask.principal).into());
    let step = request.step.clone().ok_or(ConvertError::Missing("step"))?;
    let checked = step::check(&request, &step)?;
    match checked.digest.to_string() == request.digest
        && checked.what.fits(&ask.operation, &ask.digest)
    {
        true => Ok(()),
        false => Err(ConvertError::Digest),
    }
}

fn task_of(task: &str) -> Option<&str> {
    (!task.is_empty()).then_some(task)
}

fn operation(op: &Operation, digest: &str) -> v1::OperationAsked {
    v1::OperationAsked { digest: digest.to_owned(), ..op.into() }
}

/// The operation and its digest, recomputed from everything that the request shows.
///
/// # Errors
/// When a part is missing, or body, facts and digest do not belong together.
pub fn checked_operation(
    request: &v1::ApprovalRequest,
) -> Result<(Operation, Digest), ConvertError> {
    let (op, computed) = shown_operation(request)?;
    let stated = Digest::from_str(&request.digest).map_err(|_| ConvertError::Invalid("digest"))?;
    if computed != stated {
        return Err(ConvertError::Digest);
    }
    Ok((op, computed))
}

/// The operation that a request shows, and its digest, which is the one that is stated with it.
fn shown_operation(request: &v1::ApprovalRequest) -> Result<(Operation, Digest), ConvertError> {
    let asked = request.operation.as_ref().ok_or(ConvertError::Missing("operation"))?;
    let principal = request.principal.as_ref().ok_or(ConvertError::Missing("principal"))?;
    let agent =
        AgentName::parse(&principal.agent).ok_or(ConvertError::Invalid("principal.agent"))?;
    let op = operation_from(asked, request.body.clone())?;
    let computed = operation::digest(agent.as_str(), task_of(&principal.task), &op);
    if computed.to_string() != asked.digest {
        return Err(ConvertError::Digest);
    }
    Ok((op, computed))
}

fn operation_from(asked: &v1::OperationAsked, body: Bytes) -> Result<Operation, ConvertError> {
    let mut op = facts_of(asked)?;
    check_body(&op, &body)?;
    if op.get("body.sha256").is_some() {
        op.body = Some(body);
    }
    Ok(op)
}

fn facts_of(asked: &v1::OperationAsked) -> Result<Operation, ConvertError> {
    let protocol = protocol_from(&asked.protocol)?;
    let port = u16::try_from(asked.port).map_err(|_| ConvertError::Invalid("operation.port"))?;
    let resource = asked.resource.clone();
    let mut op =
        Operation::new(&asked.target, &asked.name, port, protocol, &asked.action, resource);
    if !asked.facts.is_sorted_by(|a, b| a.name < b.name) {
        return Err(ConvertError::FactOrder);
    }
    for fact in &asked.facts {
        op.fact(fact.name.clone(), fact_from(fact)?);
    }
    if op.get("http.body").is_some_and(|body| *body == Fact::from("streamed")) {
        return Err(ConvertError::Streamed);
    }
    Ok(op)
}

fn check_body(op: &Operation, body: &Bytes) -> Result<(), ConvertError> {
    let length = i64::try_from(body.len()).map_err(|_| ConvertError::Body)?;
    let fits = match (op.get("body.length"), op.get("body.sha256")) {
        (None, None) => body.is_empty(),
        (Some(Fact::Number(stated)), Some(Fact::Text(hash))) => {
            *stated == length && *hash == hex::encode(Sha256::digest(body))
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(ConvertError::Body) }
}

fn protocol_from(name: &str) -> Result<Protocol, ConvertError> {
    Protocol::named(name).ok_or(ConvertError::Invalid("operation.protocol"))
}

fn fact_from(fact: &v1::Fact) -> Result<Fact, ConvertError> {
    fact.value.clone().map(Fact::from).ok_or(ConvertError::Missing("a fact's value"))
}

/// The daemon's view of an approval that the server sent.
///
/// # Errors
/// When an id, a digest or the state means nothing here.
pub fn view(approval: &v1::Approval) -> Result<View, ConvertError> {
    let id =
        ApprovalId::from_str(&approval.id).map_err(|_| ConvertError::Invalid("approval.id"))?;
    let request = approval.request.as_ref().ok_or(ConvertError::Missing("approval.request"))?;
    let digest = Digest::from_str(&request.digest)
        .map_err(|_| ConvertError::Invalid("approval.request.digest"))?;
    Ok(View {
        id,
        state: state(approval)?,
        digest,
        created_unix_ms: approval.created_unix_ms,
        expires_unix_ms: approval.expires_unix_ms,
        uses_left: approval.uses_left,
        revision: approval.revision,
        of_step: !approval.task_id.is_empty(),
    })
}

fn state(approval: &v1::Approval) -> Result<State, ConvertError> {
    let state =
        v1::State::try_from(approval.state).map_err(|_| ConvertError::Invalid("approval.state"))?;
    match state {
        v1::State::Unspecified => Err(ConvertError::Missing("approval.state")),
        v1::State::Pending => Ok(State::Pending),
        v1::State::Approved => Ok(State::Approved { by: voters(approval, true) }),
        v1::State::Denied => {
            let votes = votes(approval);
            let by = voters(approval, false);
            Ok(State::Denied { by, reason: reasons(&votes), votes })
        }
        v1::State::Expired => Ok(State::Expired),
        v1::State::Cancelled => Ok(State::Cancelled),
        v1::State::Spent => Ok(State::Spent),
        v1::State::Revoked => Ok(State::Revoked),
    }
}

/// The distinct people that voted that way, in the order of their votes.
pub fn voters(approval: &v1::Approval, approve: bool) -> Vec<String> {
    let mut people: Vec<String> = Vec::new();
    for vote in approval.votes.iter().filter(|vote| vote.approve == approve) {
        if !people.contains(&vote.person) {
            people.push(vote.person.clone());
        }
    }
    people
}

/// The votes as this host may keep and pass them on: a reason is free text, and credentials in
/// it stay at the server.
pub fn votes(approval: &v1::Approval) -> Vec<v1::Vote> {
    let concealed = |vote: &v1::Vote| v1::Vote {
        reason: crate::capture::argv::one(&vote.reason),
        ..vote.clone()
    };
    approval.votes.iter().map(concealed).collect()
}

fn reasons(votes: &[v1::Vote]) -> String {
    let mut reasons: Vec<&str> = Vec::new();
    for vote in votes.iter().filter(|vote| !vote.approve) {
        if !vote.reason.is_empty() && !reasons.contains(&vote.reason.as_str()) {
            reasons.push(&vote.reason);
        }
    }
    reasons.join("; ")
}

#[cfg(test)]
mod tests;
