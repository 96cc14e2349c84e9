//! `/v1/tasks`: agents declare what they are about to do, and see what became of it.

use super::{JSON, LOOKS_EVERY, body, deadline, json_answer, problem};
use crate::approval::ApprovalError;
use crate::flow::Flow;
use crate::protocol::http::body::Out;
use crate::protocol::http::refuse::answer;
use crate::task::{self, Declaration, Refused};
use enforcer_proto::v1;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Seconds until an agent that asks too often may ask again.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// Takes a declaration.
pub(super) async fn declare(flow: &Flow, request: Request<Incoming>) -> Response<Out> {
    let kind = request.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_json = kind.is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
    });
    if !is_json {
        let why = "a task is declared as JSON (Content-Type: application/json)";
        return problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    let limits = &flow.inputs.config.limits;
    let agent = &flow.principal.agent;
    let holds = flow.inputs.decider.holds();
    if !holds.declarations.allows(agent) {
        return refused(&Refused::Often);
    }
    let Some(_room) = holds.try_room(agent, limits.approval_body) else {
        return refused(&Refused::Often);
    };
    let mut incoming = request.into_body();
    let patience = Duration::from_millis(limits.handshake_ms);
    let read = body::read_whole(&mut incoming, limits.approval_body, patience).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(error) => return problem(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
    };
    let declared: Declaration = match serde_json::from_slice(&bytes) {
        Ok(declared) => declared,
        Err(error) => {
            return problem(StatusCode::BAD_REQUEST, &format!("this is no task: {error}"));
        }
    };
    match Box::pin(task::declare(flow, declared)).await {
        Ok(declared) => answer(StatusCode::CREATED, JSON, task::shown(&declared).to_string()),
        Err(why) => refused(&why),
    }
}

/// The agent's tasks.
pub(super) async fn list(flow: &Flow) -> Response<Out> {
    match listed(flow).await {
        Ok(value) => json_answer(&value),
        Err(why) => refused(&why),
    }
}

/// The same for whoever asks.
pub(super) async fn listed(flow: &Flow) -> Result<Value, Refused> {
    let decider = &flow.inputs.decider;
    if !decider.holds().declarations.allows(&flow.principal.agent) {
        return Err(Refused::Often);
    }
    Ok(task::list(&decider.approvals().tasks(&flow.principal).await?))
}

/// One task, at once or when a step of it changes.
pub(super) async fn show(flow: &Flow, id: &str, query: Option<&str>) -> Response<Out> {
    match looked(flow, id, deadline(query)).await {
        Ok(value) => json_answer(&value),
        Err(why) => refused(&why),
    }
}

/// The same for whoever asks.
pub(super) async fn looked(flow: &Flow, id: &str, deadline: Instant) -> Result<Value, Refused> {
    let decider = &flow.inputs.decider;
    if !decider.holds().declarations.allows(&flow.principal.agent) {
        return Err(Refused::Often);
    }
    let _held = flow.activity.hold();
    let mut before: Option<Vec<i32>> = None;
    loop {
        let found = decider.approvals().task(&flow.principal, id.to_owned()).await?;
        let states = states(&found);
        let now = Instant::now();
        let waits = states.contains(&v1::State::Pending.into())
            && before.get_or_insert_with(|| states.clone()) == &states;
        if !waits || now >= deadline || flow.inputs.draining.is_cancelled() {
            return Ok(task::shown(&found));
        }
        tokio::time::sleep((LOOKS_EVERY * 2).min(deadline - now)).await;
    }
}

fn states(task: &v1::Task) -> Vec<i32> {
    let approvals = task.steps.iter().filter_map(|step| step.approval.as_ref());
    approvals.map(|approval| approval.state).collect()
}

fn refused(why: &Refused) -> Response<Out> {
    let status = match why {
        Refused::Bad { .. } => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Often => StatusCode::TOO_MANY_REQUESTS,
        Refused::Server(ApprovalError::Unknown) => {
            return problem(StatusCode::NOT_FOUND, "no task of this agent has that id");
        }
        Refused::Server(ApprovalError::Refused(_)) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Server(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = problem(status, &why.to_string());
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(RETRY_AFTER, AGAIN);
    }
    response
}
