//! Members, sessions and the audit: for admins.

use super::guard::{Person, Posted};
use super::{Web, page, text};
use crate::approval::identity::Role;
use crate::server::members;
use crate::server::people::session::Signed;
use crate::server::service::people;
use axum::extract::{Query, State};
use axum::response::Response;
use enforcer_proto::v1;
use maud::{Markup, html};
use page::Page;
use serde::Deserialize;
use std::sync::Arc;
use tonic::Status;

/// Audit records on one page.
const RECORDS: usize = 200;

const ADMIN: [Role; 1] = [Role::Admin];

/// Who has joined.
pub(super) async fn members(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    if let Err(status) = web.core.permit(&signed.caller, &ADMIN).await {
        return page::failed(Some(&signed), &status);
    }
    let all = match web.core.store.members().await {
        Ok(all) => all,
        Err(error) => return page::failed(Some(&signed), &error.into()),
    };
    let (gone, there): (Vec<_>, Vec<_>) = all.into_iter().partition(|member| member.removed);
    let row = |member: &crate::server::store::Member, action: &str, word: &str| -> Markup {
        html! {
            tr {
                td { (text::line(&member.name)) }
                td { (member.role.as_str()) }
                td { (text::line(&member.groups.join(", "))) }
                td { (page::when(member.joined)) }
                td {
                    form.inline method="post" action=(action) {
                        (page::csrf(&signed))
                        input type="hidden" name="role" value=(member.role.as_str());
                        input type="hidden" name="name" value=(member.name);
                        button.quiet type="submit" { (word) }
                    }
                }
            }
        }
    };
    let table = |rows: Markup| {
        html! {
            div.scroll { table {
                thead { tr { th { "Name" } th { "Role" } th { "Groups" } th { "Joined" } th { "" } } }
                tbody { (rows) }
            } }
        }
    };
    let body = html! {
        div.headline { h1 { "Members" } span.count { (there.len()) } }
        p.hint { "Removing holds at once: certificates, sessions and tokens are worth nothing." }
        (table(html! { @for m in &there { (row(m, "/members/remove", "Remove")) } }))
        @if !gone.is_empty() {
            h2 { "Removed" }
            (table(html! { @for m in &gone { (row(m, "/members/restore", "Restore")) } }))
        }
    };
    Page { title: "Members", here: "/members", signed: Some(&signed), live: String::new(), body }
        .response()
}

/// Takes a member's right away.
pub(super) async fn remove(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let role = Role::ALL.into_iter().find(|role| role.as_str() == posted.field("role"));
    let ask = v1::RemoveMemberRequest {
        role: role.map_or(0, |role| role.wire().into()),
        name: posted.field("name").to_owned(),
        reason: "at the console".to_owned(),
    };
    let actor = posted.signed.caller.subject.to_string();
    let done = match web.core.permit(&posted.signed.caller, &ADMIN).await {
        Ok(()) => members::remove(&web.core, &actor, ask).await.map(drop),
        Err(status) => Err(status),
    };
    answer(&posted, done, "/members")
}

/// Gives a member's right back.
pub(super) async fn restore(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let (role, name) = (posted.field("role").to_owned(), posted.field("name").to_owned());
    let ask = v1::RestoreMemberRequest { role, name };
    let actor = posted.signed.caller.subject.to_string();
    let done = match web.core.permit(&posted.signed.caller, &ADMIN).await {
        Ok(()) => people::restore(&web.core, &actor, &ask).await,
        Err(status) => Err(status),
    };
    answer(&posted, done, "/members")
}

/// Sessions that are good now.
pub(super) async fn sessions(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    let found = match web.core.permit(&signed.caller, &ADMIN).await {
        Ok(()) => people::list(&web.core).await,
        Err(status) => Err(status),
    };
    let sessions = match found {
        Ok(found) => found.sessions,
        Err(status) => return page::failed(Some(&signed), &status),
    };
    let body = html! {
        div.headline { h1 { "Sessions" } span.count { (sessions.len()) } }
        div.scroll { table {
            thead { tr { th { "Who" } th { "Account" } th { "Since" } th { "Seen" } th { "" } } }
            tbody {
                @for session in &sessions {
                    tr {
                        td { (text::line(&session.subject)) @if session.id == signed.key { " " small { "this one" } } }
                        td { (text::line(&session.shown)) }
                        td { (page::when(session.created_unix_ms)) }
                        td { (page::when(session.seen_unix_ms)) }
                        td { (ender(&signed, &session.id)) }
                    }
                }
            }
        } }
    };
    Page { title: "Sessions", here: "/sessions", signed: Some(&signed), live: String::new(), body }
        .response()
}

fn ender(signed: &Signed, id: &str) -> Markup {
    html! {
        form.inline method="post" action="/sessions/end" {
            (page::csrf(signed))
            input type="hidden" name="id" value=(id);
            button.quiet type="submit" { "End" }
        }
    }
}

/// Ends a session.
pub(super) async fn end(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let actor = posted.signed.caller.subject.to_string();
    let done = match web.core.permit(&posted.signed.caller, &ADMIN).await {
        Ok(()) => people::end(&web.core, &actor, posted.field("id")).await,
        Err(status) => Err(status),
    };
    answer(&posted, done, "/sessions")
}

fn answer(posted: &Posted, done: Result<(), Status>, to: &str) -> Response {
    match done {
        Ok(()) => page::see(to),
        Err(status) => page::failed(Some(&posted.signed), &status),
    }
}

/// Where in the audit.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct After {
    after: Option<u64>,
}

/// The audit, from a number on; the newest when none is said.
pub(super) async fn audit(
    State(web): State<Arc<Web>>,
    Person(signed): Person,
    Query(After { after }): Query<After>,
) -> Response {
    if let Err(status) = web.core.permit(&signed.caller, &ADMIN).await {
        return page::failed(Some(&signed), &status);
    }
    let found = match after {
        Some(after) => web.core.store.audit(after, RECORDS).await,
        None => newest(&web).await,
    };
    let records = match found {
        Ok(records) => records,
        Err(error) => return page::failed(Some(&signed), &error.into()),
    };
    let (first, last) = (records.first().map_or(0, |r| r.seq), records.last().map_or(0, |r| r.seq));
    let body = html! {
        div.headline { h1 { "Audit" } }
        p.hint { "Check its chain with " code { "enforcer server audit verify" } "." }
        div.scroll { table.audit {
            thead { tr { th { "No." } th { "Time" } th { "Code" } th { "Who" } th { "What" } th { "Detail" } } }
            tbody {
                @for record in &records {
                    tr {
                        td { (record.seq) }
                        td { (page::when(record.unix_ms)) }
                        td { code { (record.code) } }
                        td { (text::line(&record.actor)) }
                        td { (text::line(&record.subject)) }
                        td { (text::line(&record.detail)) }
                    }
                }
            }
        } }
        p.buttons {
            @if first > 1 {
                a.button href={ "/audit?after=" (first.saturating_sub(RECORDS as u64 + 1)) } { "Older" }
            }
            @if after.is_some() && records.len() == RECORDS {
                a.button href={ "/audit?after=" (last) } { "Newer" }
            }
        }
    };
    Page { title: "Audit", here: "/audit", signed: Some(&signed), live: String::new(), body }
        .response()
}

/// The last records: numbers have no gaps, so the last one's number says where they begin.
async fn newest(web: &Web) -> Result<Vec<v1::AuditRecord>, crate::server::store::StoreError> {
    let (mut low, mut high) = (0_u64, 1_u64);
    while !web.core.store.audit(high, 1).await?.is_empty() {
        low = high;
        high = high.saturating_mul(2);
    }
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        if web.core.store.audit(middle, 1).await?.is_empty() {
            high = middle;
        } else {
            low = middle;
        }
    }
    web.core.store.audit(high.saturating_sub(RECORDS as u64), RECORDS).await
}
