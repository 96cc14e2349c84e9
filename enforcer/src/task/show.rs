//! Tasks as agents see them. The keys are an interface.

use crate::approval::convert;
use crate::approval::step::from_wire;
use crate::protocol::dns::names::INTERNAL_NAME;
use crate::protocol::http::refuse::status_url;
use enforcer_proto::v1;
use serde_json::{Value, json};

/// A task with its steps.
pub fn shown(task: &v1::Task) -> Value {
    let owner = task.owner.clone().unwrap_or_default();
    json!({
        "task": task.id,
        "objective": task.objective,
        "created_unix_ms": task.created_unix_ms,
        "owner": { "host": task.host, "agent": owner.agent, "task": owner.task },
        "steps": (1..).zip(&task.steps).map(|(at, one)| step(at, one)).collect::<Vec<_>>(),
        "url": format!("http://{INTERNAL_NAME}/v1/tasks/{}", task.id),
    })
}

/// Tasks in a line each.
pub fn list(tasks: &[v1::Task]) -> Value {
    let states = |task: &v1::Task| task.steps.iter().map(state).collect::<Vec<_>>();
    let one = |task: &v1::Task| {
        json!({
            "task": task.id,
            "objective": task.objective,
            "created_unix_ms": task.created_unix_ms,
            "steps": states(task),
        })
    };
    json!({ "tasks": tasks.iter().map(one).collect::<Vec<_>>() })
}

/// The stable word for where a step stands; `allowed` needs nobody.
pub(crate) fn state(step: &v1::TaskStep) -> &'static str {
    step.approval.as_ref().map_or("allowed", |approval| match approval.state() {
        v1::State::Unspecified => "unknown",
        v1::State::Pending => "pending",
        v1::State::Approved => "approved",
        v1::State::Denied => "denied",
        v1::State::Expired => "expired",
        v1::State::Cancelled => "cancelled",
        v1::State::Spent => "spent",
        v1::State::Revoked => "revoked",
    })
}

/// What a step asks for, in one line.
pub(crate) fn words(request: &v1::ApprovalRequest) -> String {
    let pattern = request.step.as_ref().and_then(|step| match step.what.as_ref() {
        Some(v1::step::What::Pattern(pattern)) => from_wire(pattern).ok(),
        _ => None,
    });
    let operation = request.operation.clone().unwrap_or_default();
    let text = |name: &str| {
        let fact = operation.facts.iter().find(|fact| fact.name == name);
        match fact.and_then(|fact| fact.value.clone()) {
            Some(v1::fact::Value::Text(text)) => Some(text),
            _ => None,
        }
    };
    match (pattern, text("sql.statement"), text("http.method")) {
        (Some(pattern), ..) => format!("any {}", pattern.words()),
        (None, Some(statement), _) => format!("{statement} in {}", operation.resource),
        (None, None, Some(method)) => {
            let query = text("http.query").map(|query| format!("?{query}")).unwrap_or_default();
            format!("{method} {}{query}", operation.resource)
        }
        _ => format!("{} {}", operation.action, operation.resource),
    }
}

/// What a step may change: nothing (`read`), data (`write`) or what data there is (`ddl`).
pub(crate) fn impact(request: &v1::ApprovalRequest) -> &'static str {
    let pattern = request.step.as_ref().and_then(|step| match step.what.as_ref() {
        Some(v1::step::What::Pattern(pattern)) => pattern.kind.clone(),
        _ => None,
    });
    let operation = request.operation.clone().unwrap_or_default();
    let actions = match pattern {
        Some(v1::pattern::Kind::Sql(sql)) => sql.actions,
        Some(v1::pattern::Kind::Http(http)) => {
            vec![format!("http.{}", http.method.to_ascii_lowercase())]
        }
        None => {
            let listed = operation.facts.into_iter().find(|fact| fact.name == "sql.actions");
            let mut actions = match listed.and_then(|fact| fact.value) {
                Some(v1::fact::Value::List(list)) => list.items,
                _ => Vec::new(),
            };
            actions.push(operation.action);
            actions
        }
    };
    let reads = ["http.get", "http.head", "http.options", "sql.select", "sql.show", "sql.explain"];
    if actions.iter().any(|action| action.starts_with("sql.ddl")) {
        "ddl"
    } else if actions.iter().all(|action| reads.contains(&action.as_str())) {
        "read"
    } else {
        "write"
    }
}

/// A step's request: its approval's, or its own where nobody is asked.
pub(crate) fn request(step: &v1::TaskStep) -> v1::ApprovalRequest {
    let approval = step.approval.as_ref().and_then(|approval| approval.request.clone());
    approval.or_else(|| step.request.clone()).unwrap_or_default()
}

fn step(number: u32, one: &v1::TaskStep) -> Value {
    let asked = request(one);
    let said = asked.step.clone().unwrap_or_default();
    let scopes: Vec<&str> = asked.scopes.iter().map(|scope| scope.name.as_str()).collect();
    let mut value = json!({
        "step": number,
        "state": state(one),
        "justification": said.justification,
        "operation": words(&asked),
        "impact": impact(&asked),
        "tags": said.tags,
        "uses": said.uses,
        "scopes": scopes,
        "digest": asked.digest,
    });
    if let Some(v1::step::What::Exact(digest)) = &said.what {
        value["operation_digest"] = json!(digest);
    }
    if let Some(approval) = &one.approval {
        value["approval"] = json!(approval.id);
        value["status_url"] = json!(status_url(&approval.id));
        value["uses_left"] = json!(approval.uses_left);
        value["expires_unix_ms"] = json!(approval.expires_unix_ms);
        if approval.state() == v1::State::Denied {
            let no = convert::votes(approval).into_iter().filter(|vote| !vote.approve);
            let reasons: Vec<String> = no.map(|vote| vote.reason).collect();
            value["reason"] = json!(reasons.join("; "));
        }
    }
    value
}
