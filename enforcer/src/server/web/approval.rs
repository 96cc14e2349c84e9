//! One approval in full, and deciding on it.
//!
//! What is hashed is what is shown: the digest is computed anew from what stands on the page, the
//! form names it, and it comes with the form only where nothing was left out.

use super::guard::{Person, Posted};
use super::queue::{reach, state};
use super::{Web, page, text};
use crate::approval::convert;
use crate::approval::identity::Role;
use crate::cli::approvals::text::span as spell;
use crate::server::people::session::{Signed, derived};
use crate::server::service::review;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use enforcer_proto::v1;
use maud::{Markup, html};
use page::Page;
use serde::Deserialize;
use std::sync::Arc;
use tonic::Status;

/// Bytes of a body that the page shows before it is asked for the whole.
pub(super) const AT_ONCE: usize = 16 << 10;

/// How much of it is wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    pub(super) whole: Option<String>,
}

/// The page.
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Person(signed): Person,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Response {
    match review::show(&web.core, &signed.caller, &id).await {
        Ok(approval) => {
            let now = web.core.clock.now();
            shown(&approval, &signed, wanted.whole.is_some(), now)
        }
        Err(status) => page::failed(Some(&signed), &status),
    }
}

/// What proves that this session was shown all of it.
pub(super) fn seen(signed: &Signed, id: &str, digest: &str) -> String {
    derived(&signed.csrf, &format!("seen {id} {digest}"))
}

/// Counts the vote of a form.
pub(super) async fn decide(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    let approve = match posted.field("vote") {
        "approve" => true,
        "deny" => false,
        _ => return refused(&posted, "say whether you approve or deny"),
    };
    let digest = posted.field("digest").to_owned();
    if approve {
        if posted.field("seen") != seen(&posted.signed, &id, &digest) {
            return refused(
                &posted,
                "this page has not shown you all of the request: look at it whole",
            );
        }
        if posted.field("read") != "yes" {
            return refused(&posted, "say that you have read it");
        }
    }
    let vote = v1::DecideRequest {
        id: id.clone(),
        approve,
        reason: posted.field("reason").replace("\r\n", "\n"),
        digest,
        break_glass: posted.field("glass") == "yes",
    };
    // What is over takes no vote: the answer to one that counted before would look like it.
    let open = review::show(&web.core, &posted.signed.caller, &id).await.and_then(undecided);
    let done = match open {
        Ok(()) => review::decide(&web.core, &posted.signed.caller, vote).await,
        Err(status) => Err(status),
    };
    answer(&posted, &id, done)
}

fn undecided(approval: v1::Approval) -> Result<(), Status> {
    match approval.state() {
        v1::State::Pending | v1::State::Approved => Ok(()),
        _ => Err(Status::failed_precondition("nothing can be decided on it any more")),
    }
}

/// Puts on record that a broken glass was looked at.
pub(super) async fn review(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    let note = posted.field("note").to_owned();
    let ask = v1::ReviewGlassRequest { id: id.clone(), note };
    let done = review::review_glass(&web.core, &posted.signed.caller, ask).await;
    answer(&posted, &id, done)
}

/// Takes a grant back.
pub(super) async fn revoke(
    State(web): State<Arc<Web>>,
    Path(id): Path<String>,
    posted: Posted,
) -> Response {
    let ask = v1::RevokeRequest { id: id.clone(), reason: posted.field("reason").to_owned() };
    let done = review::revoke(&web.core, &posted.signed.caller, ask).await;
    answer(&posted, &id, done)
}

fn answer(posted: &Posted, id: &str, done: Result<v1::Approval, Status>) -> Response {
    match done {
        Ok(_) => page::see(&super::guard::local(&format!("/approvals/{id}"))),
        Err(status) => page::failed(Some(&posted.signed), &status),
    }
}

fn refused(posted: &Posted, why: &str) -> Response {
    page::failed(Some(&posted.signed), &Status::invalid_argument(why))
}

fn shown(approval: &v1::Approval, signed: &Signed, whole: bool, now: i64) -> Response {
    let request = approval.request.clone().unwrap_or_default();
    let operation = request.operation.clone().unwrap_or_default();
    let checked = convert::checked(&request);
    let all = whole || request.body.len() <= AT_ONCE;
    let (action, what) = match &request.step {
        Some(_) => ("step of a task", crate::task::words(&request)),
        None => (operation.action.as_str(), operation.resource.clone()),
    };
    let body = html! {
        article.approval {
            div.headline {
                h1 { span.action { (text::line(action)) } }
                span.badges { (state(approval)) (reach(&operation.action)) }
            }
            p.resource.big { (text::line(&what)) }
            @if !approval.task_id.is_empty() {
                p { a href={ "/tasks/" (approval.task_id) } { "The whole task, with all of its steps" } }
            }
            p.times {
                "asked " (page::when(approval.created_unix_ms)) ", "
                (page::age(approval.created_unix_ms, now)) " ago"
                @if matches!(approval.state(), v1::State::Pending | v1::State::Approved) {
                    " · " strong { (page::left(approval.expires_unix_ms, now)) " left" }
                }
                @if approval.asked > 1 { " · asked " (approval.asked) " times" }
            }
            div.columns {
                div.reading {
                    (covered(&request, &operation, &checked))
                    (content(&request.body, all, "body", &format!("/approvals/{}", approval.id)))
                }
                div.deciding {
                    (decision(approval, &request, checked, all, signed))
                    (votes(approval))
                    (rules(&request, approval))
                    (asker(approval, &request))
                }
            }
        }
    };
    let live = format!("read {}:{}", approval.id, approval.revision);
    Page { title: "Approval", here: "", signed: Some(signed), live, body }.response()
}

pub(super) fn field(name: &str, value: Markup) -> Markup {
    html! { div.field { dt { (name) } dd { (value) } } }
}

pub(super) fn covered<T, E: std::fmt::Display>(
    request: &v1::ApprovalRequest,
    operation: &v1::OperationAsked,
    checked: &Result<T, E>,
) -> Markup {
    let principal = request.principal.clone().unwrap_or_default();
    let task = match principal.task.as_str() {
        "" => html! { i { "none" } },
        task => text::line(task),
    };
    html! {
        section {
            h2 { "What will run" }
            p.hint { "All of this, and nothing else, is covered by the digest." }
            dl {
                (field("digest", html! { span.digest { (text::line(&request.digest)) } }))
                (field("agent", text::line(&principal.agent)))
                (field("task", task))
                @if let Some(step) = &request.step { (super::step::fields(step)) }
                @if request.operation.is_some() {
                (field("target", text::line(&operation.target)))
                (field("verified name", text::line(&operation.name)))
                (field("port", html! { (operation.port) }))
                (field("protocol", text::line(&operation.protocol)))
                (field("action", text::line(&operation.action)))
                (field("resource", text::line(&operation.resource)))
                @for fact in &operation.facts { (self::fact(fact)) }
                }
            }
            @match checked {
                Ok(_) => p.check.good { "The digest is that of exactly this." },
                Err(error) => p.check.bad role="alert" {
                    "Cannot be approved: " (error.to_string())
                },
            }
        }
    }
}

/// A name and a value of others; what kind of value it is stands apart from the name.
fn fact(fact: &v1::Fact) -> Markup {
    use v1::fact::Value;
    let kind = match &fact.value {
        None => "no value",
        Some(Value::Text(_)) => "",
        Some(Value::Number(_)) => "number",
        Some(Value::Flag(_)) => "flag",
        Some(Value::List(_)) => "list",
    };
    html! {
        div.field {
            dt { (text::line(&fact.name)) @if !kind.is_empty() { " " small { (kind) } } }
            dd {
                @match &fact.value {
                    None => {},
                    Some(Value::Text(value)) => (text::line(value)),
                    Some(Value::Number(value)) => (value),
                    Some(Value::Flag(flag)) => @if *flag { "yes" } @else { "no" },
                    Some(Value::List(list)) => {
                        @if list.items.is_empty() { i { "empty" } }
                        ol.list { @for item in &list.items { li { (text::line(item)) } } }
                    },
                }
            }
        }
    }
}

/// A body, of a page that shows all of it when it is asked for the whole.
pub(super) fn content(body: &[u8], all: bool, anchor: &str, page: &str) -> Markup {
    if body.is_empty() {
        return html! { section { h2 { "Body" } p.hint { "The request has none." } } };
    }
    let readable = std::str::from_utf8(body).ok().filter(|body| !body.contains('\0'));
    let part = if all { body } else { body.get(..AT_ONCE).unwrap_or(body) };
    let shown = match readable {
        Some(whole) if all => text::block(whole),
        Some(_) => text::block(&String::from_utf8_lossy(part)),
        None => text::hex(part),
    };
    html! {
        section id=(anchor) {
            h2 { "Body" }
            p.hint {
                (if readable.is_some() { "Text" } else { "Binary" }) ", " (body.len()) " bytes"
                @if all { ", whole. Characters that do not show are marked." }
            }
            @if !all {
                div.note.warn role="alert" {
                    p { "Only the first " (AT_ONCE) " bytes are shown, so this page cannot approve it." }
                    a.button href={ (page) "?whole=1#" (anchor) } {
                        "Show all " (body.len()) " bytes"
                    }
                }
            }
            div.scroll tabindex="0" role="region" aria-label="The body" { (shown) }
        }
    }
}

fn decision<T, E>(
    approval: &v1::Approval,
    request: &v1::ApprovalRequest,
    checked: Result<T, E>,
    all: bool,
    signed: &Signed,
) -> Markup {
    let reviewer = signed.caller.subject.role() == Role::Reviewer;
    let name = signed.caller.subject.name();
    let voted = approval.votes.iter().find(|vote| vote.person == name);
    let groups = &signed.caller.groups;
    let glass = request.scopes.iter().flat_map(|s| &s.break_glass).any(|g| groups.contains(g));
    let granted = matches!(approval.state(), v1::State::Approved | v1::State::Spent);
    let takes_back = matches!(signed.caller.subject.role(), Role::Reviewer | Role::Admin);
    html! {
        @if reviewer && approval.unreviewed { (look(approval, signed)) }
        @if reviewer && approval.state() == v1::State::Pending {
            section.decide aria-label="Decide" {
                h2 { "Decide" }
                @if let Some(vote) = voted {
                    p.hint {
                        "You voted " strong { (if vote.approve { "yes" } else { "no" }) }
                        "; the first vote counts."
                    }
                } @else {
                    (form(approval, request, checked.is_ok() && all, false, signed))
                    @if glass && checked.is_ok() && all {
                        details.glass {
                            summary { "Emergency: break the glass" }
                            p.hint {
                                "You approve alone. It is loud, goes on record, and somebody else reviews it."
                            }
                            (form(approval, request, true, true, signed))
                        }
                    }
                }
            }
        } @else if !reviewer && approval.state() == v1::State::Pending {
            p.hint.aside { "You can look at this as " (signed.caller.subject.role().as_str()) "; reviewers decide." }
        }
        @if takes_back && granted {
            details.takeback {
                summary { "Take the grant back" }
                form method="post" action={ "/approvals/" (approval.id) "/revoke" } {
                    (page::csrf(signed))
                    label { "Why" textarea name="reason" rows="2" maxlength="4096" {} }
                    button.deny type="submit" { "Take it back" }
                }
            }
        }
    }
}

fn form(
    approval: &v1::Approval,
    request: &v1::ApprovalRequest,
    approvable: bool,
    glass: bool,
    signed: &Signed,
) -> Markup {
    let needed = glass || request.scopes.iter().any(|scope| scope.reason_required);
    let patterns = request.scopes.iter().filter(|scope| !scope.reason_pattern.is_empty());
    let (approve, deny) = ((!glass).then_some("approve"), (!glass).then_some("deny"));
    html! {
        form method="post" action={ "/approvals/" (approval.id) "/decide" } {
            (page::csrf(signed))
            input type="hidden" name="digest" value=(request.digest);
            @if glass { input type="hidden" name="glass" value="yes"; }
            label {
                "Reason" @if needed { " " small { "needed" } }
                textarea name="reason" rows="3" maxlength="4096" required[needed] {}
            }
            @if !glass {
                @for scope in patterns {
                    p.hint { (text::line(&scope.name)) " wants: " code { (text::line(&scope.reason_pattern)) } }
                }
            }
            @if approvable {
                input type="hidden" name="seen" value=(seen(signed, &approval.id, &request.digest));
                label.tick {
                    input type="checkbox" name="read" value="yes" required;
                    " I have read all that is covered by the digest"
                }
            } @else {
                p.hint { "It cannot be approved from here: it is not shown whole." }
            }
            div.buttons {
                @if approvable {
                    button.approve type="submit" name="vote" value="approve" data-key=[approve] {
                        (if glass { "Break the glass and approve" } else { "Approve exactly this" })
                    }
                }
                @if !glass {
                    button.deny type="submit" name="vote" value="deny" formnovalidate data-key=[deny] { "Deny" }
                }
            }
        }
    }
}

fn look(approval: &v1::Approval, signed: &Signed) -> Markup {
    html! {
        section.decide.glass {
            h2 { "The glass was broken" }
            p.hint { "Somebody approved this alone. Who was not involved says what was found." }
            form method="post" action={ "/approvals/" (approval.id) "/review" } {
                (page::csrf(signed))
                label { "What was found" textarea name="note" rows="3" maxlength="4096" required {} }
                button type="submit" { "Put the review on record" }
            }
        }
    }
}

pub(super) fn votes(approval: &v1::Approval) -> Markup {
    html! {
        section {
            h2 { "Votes" }
            @if approval.votes.is_empty() { p.hint { "None so far." } }
            ul.votes {
                @for vote in &approval.votes {
                    li class=(if vote.approve { "yes" } else { "no" }) {
                        strong { (if vote.approve { "yes" } else { "no" }) }
                        " by " (text::line(&vote.person)) " for " (text::line(&vote.scope))
                        @if vote.break_glass { " " span.flag.bad { "glass broken" } }
                        br; small { (page::when(vote.unix_ms)) }
                        @if !vote.reason.is_empty() { blockquote { (text::block(&vote.reason)) } }
                    }
                }
                @if let Some(v1::GlassReview { person, note, unix_ms }) = &approval.review {
                    li.yes {
                        "reviewed by " (text::line(person)) br;
                        small { (page::when(*unix_ms)) }
                        blockquote { (text::block(note)) }
                    }
                }
            }
        }
    }
}

pub(super) fn rules(request: &v1::ApprovalRequest, approval: &v1::Approval) -> Markup {
    let time =
        |seconds: u64| spell(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1000));
    html! {
        section {
            h2 { "Who decides" }
            p.hint {
                @if request.step.is_some() { "Covered by the digest of a step, too." }
                @else { "Not covered by the digest; the server counts by these rules." }
            }
            @for scope in &request.scopes {
                dl.rule {
                    (field("scope", text::line(&scope.name)))
                    (field("people", html! {
                        (scope.quorum) " of "
                        @if scope.reviewers.is_empty() { "any reviewer" }
                        @else { (text::line(&scope.reviewers.join(", "))) }
                        ", denied by " (scope.deny_threshold)
                    }))
                    (field("asks for", html! {
                        @if scope.reason_required { "a reason" } @else { "no reason" }
                        @if !scope.reason_pattern.is_empty() {
                            " that matches " (text::line(&scope.reason_pattern))
                        }
                        ", within " (time(scope.request_ttl_seconds))
                    }))
                    @if !scope.break_glass.is_empty() {
                        (field("in an emergency", html! {
                            "one of " (text::line(&scope.break_glass.join(", "))) " alone"
                        }))
                    }
                    @if scope.patterns { (field("patterns", html! { "may be asked for" })) }
                    @if !scope.hours.is_empty() {
                        (field("hours", text::line(&scope.hours.join("; "))))
                    }
                    @if scope.escalate_after_seconds > 0 {
                        (field("escalates", html! {
                            "after " (time(scope.escalate_after_seconds)) " to "
                            (text::line(&scope.escalate_to.join(", ")))
                            @if approval.escalated.contains(&scope.name) { " " span.flag { "escalated" } }
                        }))
                    }
                    (field("grant", html! {
                        (scope.uses) (if scope.uses == 1 { " use" } else { " uses" })
                        " within " (time(scope.grant_ttl_seconds))
                    }))
                }
            }
            @if approval.state() == v1::State::Approved {
                p.hint { (approval.uses_left) " uses left" }
            }
        }
    }
}

fn asker(approval: &v1::Approval, request: &v1::ApprovalRequest) -> Markup {
    let principal = request.principal.clone().unwrap_or_default();
    let operation = request.operation.clone().unwrap_or_default();
    let v1::Principal { pid, uid, gid, .. } = principal;
    html! {
        section {
            h2 { "Who asks" }
            p.hint { "Not covered by the digest; no other host can use the grant." }
            dl {
                (field("host", text::line(&approval.host)))
                (field("command", text::line(&principal.comm)))
                (field("executable", text::line(&principal.exe)))
                @if !principal.exe_inside.is_empty() {
                    (field("in its own mounts", text::line(&principal.exe_inside)))
                }
                (field("exe sha256", html! { span.digest { (text::line(&principal.exe_sha256)) } }))
                (field("arguments", html! {
                    ol.list { @for arg in &principal.argv { li { (text::line(arg)) } } }
                }))
                (field("process", html! { "pid " (pid) ", uid " (uid) ", gid " (gid) }))
                (field("cgroup", text::line(&principal.cgroup)))
                (field("policy", html! { span.digest { (text::line(&request.policy)) } }))
                (field("approval", html! { span.digest { (approval.id) } }))
            }
        }
        @if !operation.notes.is_empty() {
            section {
                h2 { "Notes" }
                p.hint { "Not covered by the digest, and not part of what is approved." }
                dl { @for note in &operation.notes { (fact(note)) } }
            }
        }
    }
}
