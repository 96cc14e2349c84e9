//! What waits for people, and what is granted now.

use super::guard::Person;
use super::{Web, page, text};
use crate::approval::convert::voters;
use crate::server::people::session::Signed;
use crate::server::service::review;
use axum::extract::State;
use axum::response::Response;
use enforcer_proto::v1;
use maud::{Markup, html};
use page::Page;
use std::sync::Arc;

/// How far an action reaches, by its name: for the eye only, nothing is decided by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Reads.
    Low,
    /// Changes something.
    Medium,
    /// Removes, grants or runs something.
    High,
}

impl Reach {
    /// Of an action such as `http.post` or `sql.delete`.
    pub(super) fn of(action: &str) -> Self {
        let reads = ["get", "head", "options", "select", "list", "watch", "show", "read"];
        let removes = [
            "delete", "drop", "truncate", "exec", "execute", "grant", "revoke", "alter", "call",
            "copy", "do", "connect", "attach", "shell", "ddl",
        ];
        let words = || action.split(['.', '_', '-']);
        if words().any(|word| removes.contains(&word)) {
            Self::High
        } else if words().any(|word| reads.contains(&word)) {
            Self::Low
        } else {
            Self::Medium
        }
    }

    /// Its word, for the eye that sees no colour.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Low => "reads",
            Self::Medium => "changes",
            Self::High => "high impact",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// The badge of an action's reach.
pub(super) fn reach(action: &str) -> Markup {
    let reach = Reach::of(action);
    html! { span class={ "reach " (reach.class()) } { (reach.as_str()) } }
}

/// The badge of a state.
pub(super) fn state(approval: &v1::Approval) -> Markup {
    let state = crate::server::wire::phase(approval.state).map_or("unknown", |p| p.as_str());
    html! { span class={ "state " (state) } { (state) } }
}

/// The queue.
pub(super) async fn page(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    let wanted = v1::ListRequest {
        states: vec![v1::State::Pending.into(), v1::State::Approved.into()],
        ..v1::ListRequest::default()
    };
    let open = v1::ListRequest { unreviewed: true, ..v1::ListRequest::default() };
    let found = review::list(&web.core, &signed.caller, wanted).await;
    let broken = review::list(&web.core, &signed.caller, open).await;
    let (found, broken) = match (found, broken) {
        (Ok(found), Ok(broken)) => (found.approvals, broken.approvals),
        (Err(status), _) | (_, Err(status)) => return page::failed(Some(&signed), &status),
    };
    let now = web.core.clock.now();
    let (mut waiting, granted): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|approval| approval.state() == v1::State::Pending);
    // What runs out first comes first.
    waiting.sort_by_key(|approval| approval.expires_unix_ms);
    let body = html! {
        div #live {
            div.headline {
                h1 { "Waiting for people" }
                span.count { (waiting.len()) }
            }
            @if waiting.is_empty() {
                p.empty { "Nothing waits" @if mine(&signed) { " for you" } "." }
            } @else { (rows(&waiting, now)) }
            @if !broken.is_empty() {
                h2 { "Glass broken, not reviewed" }
                (rows(&broken, now))
            }
            @if !granted.is_empty() {
                h2 { "Granted now" }
                (rows(&granted, now))
            }
        }
    };
    let live = "list".to_owned();
    Page { title: "Queue", here: "/", signed: Some(&signed), live, body }.response()
}

fn mine(signed: &Signed) -> bool {
    signed.caller.subject.role() == crate::approval::identity::Role::Reviewer
}

/// Approvals, one below the other. Milliseconds since the Unix epoch.
pub(super) fn rows(approvals: &[v1::Approval], now: i64) -> Markup {
    html! { ol.rows { @for approval in approvals { (row(approval, now)) } } }
}

fn row(approval: &v1::Approval, now: i64) -> Markup {
    let request = approval.request.clone().unwrap_or_default();
    let step = request
        .step
        .as_ref()
        .map(|step| (format!("step {} of {}", step.number, step.of), crate::task::words(&request)));
    let operation = request.operation.unwrap_or_default();
    let (action, what) =
        step.unwrap_or_else(|| (operation.action.clone(), operation.resource.clone()));
    let agent = request.principal.map(|principal| principal.agent).unwrap_or_default();
    let quorum = request.scopes.iter().map(|scope| scope.quorum).max().unwrap_or(1);
    let (yes, no) = (voters(approval, true).len(), voters(approval, false).len());
    let live = matches!(approval.state(), v1::State::Pending | v1::State::Approved);
    let class = Reach::of(&operation.action).class();
    html! {
        li class={ "row " (class) } {
            a.open data-row href={ "/approvals/" (approval.id) } {
                span.what {
                    span.action { (text::short(&action, 40)) }
                    " " span.resource { (text::short(&what, 160)) }
                }
                span.by {
                    (text::short(&approval.host, 40)) "/" (text::short(&agent, 40))
                    " → " (text::short(&operation.target, 40))
                }
            }
            div.side {
                span.badges {
                    (state(approval))
                    (reach(&operation.action))
                    @if !approval.task_id.is_empty() {
                        a.scope href={ "/tasks/" (approval.task_id) } { "whole task" }
                    }
                    @for scope in &request.scopes {
                        span.scope { (text::short(&scope.name, 30)) }
                    }
                    @if !approval.escalated.is_empty() { span.flag { "escalated" } }
                    @if approval.unreviewed { span.flag.bad { "glass broken" } }
                    @if approval.asked > 1 { span.flag { "asked " (approval.asked) " times" } }
                }
                span.times {
                    span.votes { (yes) " of " (quorum) " yes" @if no > 0 { ", " (no) " no" } }
                    span { (page::age(approval.created_unix_ms, now)) " old" }
                    @if live { span { (page::left(approval.expires_unix_ms, now)) " left" } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reach_is_by_name() {
        let cases = [
            ("http.get", Reach::Low),
            ("http.post", Reach::Medium),
            ("http.delete", Reach::High),
            ("sql.select", Reach::Low),
            ("sql.drop_table", Reach::High),
            ("k8s.pods.exec", Reach::High),
            ("", Reach::Medium),
        ];
        for (action, reach) in cases {
            assert_eq!(Reach::of(action), reach, "{action}");
        }
    }
}
