//! A task as a whole, and deciding on its steps: one, several, or none.
//!
//! Each step is an approval and is voted on as one. The form names the digest of each step that was
//! shown, and has the proof that it was shown whole only where nothing was left out.

use super::approval::{self, AT_ONCE, Wanted, covered, rules, seen, votes};
use super::guard::{Person, Posted, local};
use super::queue::state as badge;
use super::{Web, page, text};
use crate::approval::convert;
use crate::server::people::session::Signed;
use crate::server::service::{review, tasks};
use crate::task::{impact, request, state, words};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use enforcer_proto::v1;
use maud::{Markup, html};
use page::Page;
use std::sync::Arc;
use tonic::Status;

/// The page.
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Person(signed): Person,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let found = async {
        let task = tasks::show(&web.core, &signed.caller, &id).await?;
        let own = tasks::own_steps(&web.core, &signed.caller, &task).await?;
        Ok::<_, Status>((task, own))
    };
    match found.await {
        Ok((task, own)) => shown(&task, &own, &signed, wanted.whole.is_some()),
        Err(status) => page::failed(Some(&signed), &status),
    }
}

/// Counts the votes of a form. All of it is checked before the first vote counts.
pub(super) async fn decide(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    match counted(&web, &id, &posted).await {
        Ok(()) => page::see(&local(&format!("/tasks/{id}"))),
        Err(status) => page::failed(Some(&posted.signed), &status),
    }
}

async fn counted(web: &Web, id: &str, posted: &Posted) -> Result<(), Status> {
    let refused = |why: String| Status::invalid_argument(why);
    let approve = match posted.field("vote") {
        "approve" => true,
        "deny" => false,
        _ => return Err(refused("say whether you approve or deny".to_owned())),
    };
    let caller = &posted.signed.caller;
    let task = tasks::show(&web.core, caller, id).await?;
    let reason = posted.field("reason").replace("\r\n", "\n");
    let mut votes = Vec::new();
    for (number, step) in (1_u32..).zip(task.steps) {
        if posted.field(&format!("step-{number}")) != "yes" {
            continue;
        }
        let asked = step.approval.ok_or_else(|| {
            refused(format!("step {number}: policy allows it as it is, so nobody decides"))
        })?;
        let digest = posted.field(&format!("digest-{number}")).to_owned();
        if approve
            && posted.field(&format!("seen-{number}")) != seen(&posted.signed, &asked.id, &digest)
        {
            return Err(refused(format!(
                "step {number}: this page has not shown you all of it: look at it whole"
            )));
        }
        let reason = reason.clone();
        let vote = v1::DecideRequest { id: asked.id, approve, reason, digest, break_glass: false };
        votes.push((number, vote));
    }
    if votes.is_empty() {
        return Err(refused("choose the steps that you decide on".to_owned()));
    }
    if approve && posted.field("read") != "yes" {
        return Err(refused("say that you have read them".to_owned()));
    }
    for (number, vote) in &votes {
        let counts = review::would_count(&web.core, caller, vote).await;
        counts.map_err(|status| at_step(*number, &status))?;
    }
    let mut done: Vec<String> = Vec::new();
    for (number, vote) in votes {
        // What would have counted a moment ago may not any more.
        if let Err(status) = review::decide(&web.core, caller, vote).await {
            let status = at_step(number, &status);
            let before = match done.as_slice() {
                [] => String::new(),
                done => format!(" (your votes on step {} count)", done.join(", ")),
            };
            return Err(Status::new(status.code(), format!("{}{before}", status.message())));
        }
        done.push(number.to_string());
    }
    Ok(())
}

fn at_step(number: u32, status: &Status) -> Status {
    Status::new(status.code(), format!("step {number}: {}", status.message()))
}

fn shown(task: &v1::Task, own: &[u32], signed: &Signed, whole: bool) -> Response {
    let owner = task.owner.clone().unwrap_or_default();
    let approvals = || task.steps.iter().filter_map(|step| step.approval.as_ref());
    let name = signed.caller.subject.name();
    // Those that this person can vote on now.
    let open: Vec<u32> = (1..)
        .zip(&task.steps)
        .filter(|(number, step)| {
            let waits = step.approval.as_ref().is_some_and(|approval| {
                approval.state() == v1::State::Pending
                    && !approval.votes.iter().any(|vote| vote.person == name)
            });
            waits && own.contains(number)
        })
        .map(|(number, _)| number)
        .collect();
    let body = html! {
        article.approval {
            div.headline {
                h1 { "Task" }
                span.badges { span.count { (task.steps.len()) " steps" } }
            }
            p.times { "declared " (page::when(task.created_unix_ms)) }
            dl {
                (approval::field("objective", text::block(&task.objective)))
                (approval::field("host", text::line(&task.host)))
                (approval::field("agent", text::line(&owner.agent)))
                @if !owner.task.is_empty() {
                    (approval::field("agent's task", text::line(&owner.task)))
                }
            }
            form.decide method="post" action={ "/tasks/" (task.id) "/decide" } {
                (page::csrf(signed))
                @for (number, step) in (1..).zip(&task.steps) {
                    (self::step(task, number, step, open.contains(&number), signed, whole))
                }
                @if !open.is_empty() { (decision(task, &open)) }
            }
        }
    };
    let live = approvals().map(|one| format!(" {}:{}", one.id, one.revision)).collect::<String>();
    let live = format!("read{live}");
    Page { title: "Task", here: "", signed: Some(signed), live, body }.response()
}

/// One step, with everything that its digest covers, and the tick that chooses it.
fn step(
    task: &v1::Task,
    number: u32,
    step: &v1::TaskStep,
    open: bool,
    signed: &Signed,
    whole: bool,
) -> Markup {
    let asked = request(step);
    let checked = convert::checked(&asked);
    let operation = asked.operation.clone().unwrap_or_default();
    let all = whole || asked.body.len() <= AT_ONCE;
    let page = format!("/tasks/{}", task.id);
    html! {
        section.step #{ "step-" (number) } {
            div.headline {
                h2 { "Step " (number) " of " (task.steps.len()) }
                span.badges {
                    @match &step.approval {
                        Some(approval) => (badge(approval)),
                        None => span.state { (state(step)) },
                    }
                    span.reach { (impact(&asked)) }
                }
            }
            p.resource { (text::line(&words(&asked))) }
            @if let Some(approval) = &step.approval {
                p { a href={ "/approvals/" (approval.id) } { "This step on its own page" } }
                (covered(&asked, &operation, &checked))
                (approval::content(&asked.body, all, &format!("body-{number}"), &page))
                (rules(&asked, approval))
                (votes(approval))
                @if open {
                    input type="hidden" name={ "digest-" (number) } value=(asked.digest);
                    @if checked.is_ok() && all {
                        input type="hidden" name={ "seen-" (number) }
                            value=(seen(signed, &approval.id, &asked.digest));
                    } @else {
                        p.hint { "It cannot be approved from here: it is not shown whole." }
                    }
                    label.tick {
                        input type="checkbox" name={ "step-" (number) } value="yes";
                        " Decide on step " (number)
                    }
                }
            } @else {
                p.hint { "Nobody is asked: policy allows it as it is." }
                (covered(&asked, &operation, &checked))
                (approval::content(&asked.body, all, &format!("body-{number}"), &page))
            }
        }
    }
}

fn decision(task: &v1::Task, open: &[u32]) -> Markup {
    let scopes = || {
        let steps = (1_u32..).zip(&task.steps).filter(|(number, _)| open.contains(number));
        steps.flat_map(|(_, step)| request(step).scopes)
    };
    let needed = scopes().any(|scope| scope.reason_required);
    html! {
        section aria-label="Decide" {
            h2 { "Decide on the chosen steps" }
            label {
                "Reason" @if needed { " " small { "needed by a step" } }
                textarea name="reason" rows="3" maxlength="4096" {}
            }
            label.tick {
                input type="checkbox" name="read" value="yes";
                " I have read all that the digests of the chosen steps cover"
            }
            div.buttons {
                button.approve type="submit" name="vote" value="approve" data-key="approve" {
                    "Approve exactly the chosen steps"
                }
                button.deny type="submit" name="vote" value="deny" data-key="deny" {
                    "Deny the chosen steps"
                }
            }
        }
    }
}
