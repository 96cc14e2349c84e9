//! The daemon's own address for agents: `http://enforcer.internal/`.
//!
//! An agent learns here who it is, what a refusal means and how its approvals
//! stand. It can ask; nothing here decides, and nothing here speaks of another
//! agent's affairs.

use super::body::{self, CutOff, Out};
use super::reasons::REASONS;
use super::refuse::{PROBLEM, answer};
use super::serve::{Speaks, connection};
use super::{authority, refuse};
use crate::approval::step::{STEPS, TEXT};
use crate::approval::{ApprovalId, View};
use crate::flow::{Flow, Outcome};
use crate::protocol::dns::names::INTERNAL_NAME;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

mod mcp;
mod tasks;

/// The longest that a look at an approval waits for a change. Seconds.
const MAX_WAIT: u64 = 55;
/// How often a waiting look asks.
const LOOKS_EVERY: Duration = Duration::from_secs(1);
const JSON: &str = "application/json";

/// Serves an agent that speaks to the daemon itself.
pub async fn serve<T>(flow: &Arc<Flow>, speaks: Speaks, io: T) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handle = move |request: Request<Incoming>| {
        let flow = Arc::clone(flow);
        async move {
            let _running = flow.activity.operation();
            Ok::<_, CutOff>(respond(&flow, request).await)
        }
    };
    connection(flow, speaks, io, handle).await
}

async fn respond(flow: &Arc<Flow>, request: Request<Incoming>) -> Response<Out> {
    let for_us = authority::of_request(request.uri(), request.headers())
        .is_ok_and(|authority| authority.host == INTERNAL_NAME);
    if !for_us {
        return problem(StatusCode::MISDIRECTED_REQUEST, "this address is enforcer.internal alone");
    }
    let path = request.uri().path().to_owned();
    let path = path.as_str();
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    match path {
        "/v1/whoami" if get => json_answer(&whoami(flow)),
        "/v1/manifest" if get => json_answer(&manifest()),
        "/ca.pem" if get => {
            let pem = flow.inputs.interceptor.ca().ca_pem().to_owned();
            answer(StatusCode::OK, "application/x-pem-file", pem)
        }
        "/mcp" => mcp::serve(flow, request).await,
        "/v1/tasks" if get => tasks::list(flow).await,
        "/v1/tasks" if request.method() == Method::POST => tasks::declare(flow, request).await,
        _ => match (path.strip_prefix("/v1/approvals/"), path.strip_prefix("/v1/tasks/")) {
            (Some(id), _) if get => approval(flow, id, request.uri().query()).await,
            (_, Some(id)) if get => tasks::show(flow, id, request.uri().query()).await,
            _ => problem(StatusCode::NOT_FOUND, "there is nothing here; see /v1/manifest"),
        },
    }
}

fn whoami(flow: &Flow) -> Value {
    let principal = &flow.principal;
    json!({
        "host": principal.host,
        "agent": principal.agent.as_str(),
        "task": principal.task,
        "process": {
            "pid": principal.process.pid,
            "uid": principal.process.uid,
            "exe": principal.process.exe,
        },
        "policy": flow.inputs.decider.bundle().version(),
    })
}

/// What refusals mean, for an agent that reads one.
fn manifest() -> Value {
    json!({
        "about": "Every connection from here passes Enforcer. Each operation is allowed by policy, \
                  approved by people, or refused; a refusal says why.",
        "refusal": {
            "http": "403 application/problem+json (RFC 9457) with the member `enforcer`",
            "grpc": "status 7 PERMISSION_DENIED",
            "dns": "REFUSED with an extended error (RFC 8914)",
        },
        "reasons": REASONS.iter().copied().collect::<BTreeMap<_, _>>(),
        "approvals": format!("http://{INTERNAL_NAME}/v1/approvals/{{id}}?wait=30"),
        "tasks": {
            "url": format!("http://{INTERNAL_NAME}/v1/tasks"),
            "about": "POST an objective and its steps to have them approved ahead of time.",
            "mcp": format!("http://{INTERNAL_NAME}/mcp"),
            "limits": { "steps": STEPS, "text_bytes": TEXT },
        },
        "ca": format!("http://{INTERNAL_NAME}/ca.pem"),
    })
}

/// One approval of this agent, at once or when it changes.
async fn approval(flow: &Flow, id: &str, query: Option<&str>) -> Response<Out> {
    match looked_up(flow, id, deadline(query)).await {
        Ok(value) => json_answer(&value),
        Err((status, why)) => problem(status, &why),
    }
}

/// The same for whoever asks; or the status and the reason.
async fn looked_up(
    flow: &Flow,
    id: &str,
    deadline: Instant,
) -> Result<Value, (StatusCode, String)> {
    let decider = &flow.inputs.decider;
    let unknown =
        || Err((StatusCode::NOT_FOUND, "no approval of this agent has that id".to_owned()));
    let Ok(id) = id.parse::<ApprovalId>() else {
        return unknown();
    };
    if !decider.holds().is_asker(&id, &flow.principal.agent) {
        return unknown();
    }
    let _held = flow.activity.hold();
    loop {
        match decider.approvals().status(&id).await {
            Ok(view) => {
                let now = Instant::now();
                let pending = view.state == crate::approval::State::Pending;
                if !pending || now >= deadline || flow.inputs.draining.is_cancelled() {
                    return Ok(state(&view));
                }
                tokio::time::sleep(LOOKS_EVERY.min(deadline - now)).await;
            }
            Err(crate::approval::ApprovalError::Unknown) => return unknown(),
            Err(error) => return Err((StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        }
    }
}

/// Until when a look waits: `?wait=SECONDS`.
fn deadline(query: Option<&str>) -> Instant {
    let wait = query.and_then(|query| {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(name, _)| name == "wait")
            .and_then(|(_, seconds)| seconds.parse::<u64>().ok())
    });
    Instant::now() + Duration::from_secs(wait.unwrap_or(0).min(MAX_WAIT))
}

fn state(view: &View) -> Value {
    use crate::approval::State;
    let reason = match &view.state {
        State::Denied { reason, .. } => Some(reason.as_str()),
        _ => None,
    };
    json!({
        "approval": view.id.to_string(),
        "state": view.state.as_str(),
        "reason": reason,
        "digest": view.digest.to_string(),
        "created_unix_ms": view.created_unix_ms,
        "expires_unix_ms": view.expires_unix_ms,
        "uses_left": view.uses_left,
        "status_url": refuse::status_url(&view.id.to_string()),
    })
}

fn json_answer(value: &Value) -> Response<Out> {
    answer(StatusCode::OK, JSON, value.to_string())
}

fn problem(status: StatusCode, detail: &str) -> Response<Out> {
    let title = status.canonical_reason().unwrap_or("Problem");
    let problem = json!({
        "type": "about:blank",
        "title": title,
        "status": status.as_u16(),
        "detail": detail,
    });
    answer(status, PROBLEM, problem.to_string())
}
