//! What was asked before, by state and text.

use super::guard::Person;
use super::queue::rows;
use super::{Web, page};
use crate::server::service::review;
use axum::extract::{Query, State};
use axum::response::Response;
use enforcer_proto::v1;
use maud::html;
use page::Page;
use serde::Deserialize;
use std::sync::Arc;
use url::form_urlencoded::Serializer;

/// Approvals on one page.
const SHOWN: u32 = 50;

const STATES: [v1::State; 7] = [
    v1::State::Pending,
    v1::State::Approved,
    v1::State::Denied,
    v1::State::Expired,
    v1::State::Cancelled,
    v1::State::Spent,
    v1::State::Revoked,
];

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    q: String,
    state: String,
    before: String,
}

fn word(state: v1::State) -> &'static str {
    crate::server::wire::phase(state.into()).map_or("unknown", |phase| phase.as_str())
}

/// The page.
pub(super) async fn page(
    State(web): State<Arc<Web>>,
    Person(signed): Person,
    Query(wanted): Query<Wanted>,
) -> Response {
    let states = STATES.into_iter().filter(|state| word(*state) == wanted.state);
    let ask = v1::ListRequest {
        states: states.map(Into::into).collect(),
        limit: SHOWN,
        search: wanted.q.trim().to_owned(),
        before: wanted.before.clone(),
        ..v1::ListRequest::default()
    };
    let found = match review::list(&web.core, &signed.caller, ask).await {
        Ok(found) => found.approvals,
        Err(status) => return page::failed(Some(&signed), &status),
    };
    let more = found.last().filter(|_| found.len() == SHOWN as usize);
    let older = more.map(|last| {
        let mut query = Serializer::new(String::new());
        query.append_pair("q", &wanted.q).append_pair("state", &wanted.state);
        format!("/history?{}", query.append_pair("before", &last.id).finish())
    });
    let body = html! {
        div.headline { h1 { "History" } }
        form.search method="get" action="/history" role="search" {
            label { "Text" input type="search" name="q" value=(wanted.q) placeholder="host, agent, resource, person, reason, id"; }
            label { "State"
                select name="state" {
                    option value="" { "any" }
                    @for state in STATES {
                        option value=(word(state)) selected[word(state) == wanted.state] { (word(state)) }
                    }
                }
            }
            button type="submit" { "Search" }
        }
        @if found.is_empty() { p.empty { "Nothing found." } }
        @else { (rows(&found, web.core.clock.now())) }
        @if let Some(older) = older { p { a.button href=(older) { "Older" } } }
    };
    Page { title: "History", here: "/history", signed: Some(&signed), live: String::new(), body }
        .response()
}
