//! Bad habits in how people decide.

use super::guard::Person;
use super::{Web, page, text};
use crate::server::service::review;
use axum::extract::State;
use axum::response::Response;
use enforcer_proto::v1;
use maud::html;
use page::Page;
use std::sync::Arc;

/// What was asked in so many milliseconds.
const SINCE: i64 = 30 * 86_400_000;

/// The page.
pub(super) async fn page(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    let since_unix_ms = web.core.clock.now().saturating_sub(SINCE);
    let ask = v1::ReportRequest { since_unix_ms };
    let report = match review::report(&web.core, &signed.caller, ask).await {
        Ok(report) => report,
        Err(status) => return page::failed(Some(&signed), &status),
    };
    let body = html! {
        div.headline { h1 { "Habits" } span.count { (report.findings.len()) } }
        p.hint {
            (report.approvals) " approvals of the last 30 days"
            @if report.more { " (the newest: there are more)" }
            ". A finding is a question to ask, not a proof."
        }
        @if report.findings.is_empty() { p.empty { "Nothing found." } }
        @for found in &report.findings {
            section.card {
                h2 { (text::line(&found.code)) " " small { (found.count) " of " (found.of) } }
                p {
                    @if !found.person.is_empty() { "by " (text::line(&found.person)) " " }
                    @if !found.scope.is_empty() { "in " (text::line(&found.scope)) }
                }
                p.hint { (text::line(&found.detail)) }
                ul.plain {
                    @for id in &found.approvals {
                        li { a.digest href={ "/approvals/" (id) } { (id) } }
                    }
                }
            }
        }
    };
    Page { title: "Habits", here: "/report", signed: Some(&signed), live: String::new(), body }
        .response()
}
