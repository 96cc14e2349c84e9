//! Tasks for those who decide: objective, steps in order, what each may change; and votes on
//! several steps at once.

use super::{Channel, Told, json, show, text};
use crate::approval::tls;
use crate::task::{impact, request, state, words};
use enforcer_proto::v1;
use enforcer_proto::v1::task_review_client::TaskReviewClient;
use serde_json::json;
use std::fmt::Write as _;
use std::io::{self, Write as _};

fn client(channel: &Channel) -> TaskReviewClient<Channel> {
    TaskReviewClient::new(channel.clone()).max_decoding_message_size(tls::MAX_ANSWER)
}

/// Prints the tasks that the caller may see.
pub(super) async fn list(channel: &Channel, limit: u32, as_json: bool) -> anyhow::Result<()> {
    let ask = v1::ListTasksRequest { limit, owner: None };
    let tasks = client(channel).list(ask).await.map_err(Told)?.into_inner().tasks;
    let mut out = io::stdout().lock();
    if as_json {
        let all: Vec<_> = tasks.iter().map(value).collect();
        writeln!(out, "{}", json::pretty(&all))?;
        return Ok(());
    }
    for task in &tasks {
        let owner = task.owner.clone().unwrap_or_default();
        let states: Vec<&str> = task.steps.iter().map(state).collect();
        let who = format!("{}/{}", text::short(&task.host, 40), text::short(&owner.agent, 40));
        let objective = text::short(&task.objective, 80);
        writeln!(out, "{}  {who}  {}  {objective}", text::line(&task.id), states.join(","))?;
    }
    Ok(())
}

/// Prints one task.
pub(super) async fn print(channel: &Channel, id: String, as_json: bool) -> anyhow::Result<()> {
    let task = fetch(channel, id).await?;
    let shown = match as_json {
        true => format!("{}\n", json::pretty(&value(&task))),
        false => page(&task),
    };
    io::stdout().write_all(shown.as_bytes())?;
    Ok(())
}

/// The approvals of these steps of a task.
pub(super) async fn steps(
    channel: &Channel,
    id: String,
    wanted: &[usize],
) -> anyhow::Result<Vec<String>> {
    let task = fetch(channel, id).await?;
    let mut found = Vec::new();
    for number in wanted {
        let step = number.checked_sub(1).and_then(|at| task.steps.get(at));
        let approval = step.and_then(|step| step.approval.as_ref());
        match (step, approval) {
            (None, _) => {
                anyhow::bail!("the task has {} steps, and no step {number}", task.steps.len())
            }
            (_, None) => anyhow::bail!("step {number} needs nobody: policy allows it as it is"),
            (_, Some(approval)) => found.push(approval.id.clone()),
        }
    }
    Ok(found)
}

async fn fetch(channel: &Channel, id: String) -> anyhow::Result<v1::Task> {
    Ok(client(channel).show(v1::GetRequest { id }).await.map_err(Told)?.into_inner())
}

fn value(task: &v1::Task) -> serde_json::Value {
    let owner = task.owner.clone().unwrap_or_default();
    let steps = (1..).zip(&task.steps).map(|(number, step): (u32, _)| {
        let asked = request(step);
        let said = asked.step.clone().unwrap_or_default();
        json!({
            "step": number,
            "state": state(step),
            "operation": words(&asked),
            "impact": impact(&asked),
            "tags": said.tags,
            "uses": said.uses,
            "justification": said.justification,
            "approval": step.approval.as_ref().map(json::approval),
        })
    });
    json!({
        "task": task.id,
        "host": task.host,
        "agent": owner.agent,
        "agent_task": owner.task,
        "objective": task.objective,
        "created_unix_ms": task.created_unix_ms,
        "steps": steps.collect::<Vec<_>>(),
    })
}

fn page(task: &v1::Task) -> String {
    let owner = task.owner.clone().unwrap_or_default();
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = writeln!(out, "task       {}", text::line(&task.id));
    let who = format!("{}/{}", text::line(&task.host), text::line(&owner.agent));
    field(&mut out, "agent     ", &who);
    let name = if owner.task.is_empty() { "(none)".to_owned() } else { text::line(&owner.task) };
    field(&mut out, "its task  ", &name);
    let _ = writeln!(out, "declared   {}", text::time(task.created_unix_ms));
    out.push_str("objective\n");
    out.push_str(&text::block(&task.objective, "    "));
    for (number, step) in (1..).zip(&task.steps) {
        out.push_str(&one(number, step));
    }
    out.push_str("\nEverything that a step's digest covers: enforcer approvals show APPROVAL\n");
    out
}

/// A name of ours and shown text of others; longer text goes below, so that no line wraps.
fn field(out: &mut String, name: &str, shown: &str) {
    if text::room(name) + 1 + text::room(shown) <= 80 {
        let _ = writeln!(out, "{name} {shown}");
    } else {
        let _ = writeln!(out, "{}", name.trim_end());
        out.push_str(&text::folded(shown, "    "));
    }
}

fn one(number: u32, step: &v1::TaskStep) -> String {
    let asked = request(step);
    let said = asked.step.clone().unwrap_or_default();
    let mut out = format!("\nStep {number}: {}\n", state(step));
    out.push_str(&text::wrapped(&words(&asked), "    "));
    let tags: Vec<String> = said.tags.iter().map(|tag| text::word(tag)).collect();
    let tags = if tags.is_empty() { "no tags".to_owned() } else { tags.join(", ") };
    let times = if said.uses == 1 { "once".to_owned() } else { format!("{} times", said.uses) };
    field(&mut out, "  impact  ", &format!("{} {times}; {tags}", impact(&asked)));
    let scopes: Vec<String> = asked.scopes.iter().map(|scope| text::word(&scope.name)).collect();
    match &step.approval {
        Some(approval) => {
            field(&mut out, "  scopes  ", &scopes.join(", "));
            let _ = writeln!(
                out,
                "  approval {} ({})",
                text::line(&approval.id),
                show::state(approval)
            );
        }
        None => out.push_str("  nobody is asked: policy allows it as it is\n"),
    }
    out.push_str("  why\n");
    out.push_str(&text::block(&said.justification, "    "));
    out
}
