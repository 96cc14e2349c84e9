//! The frame of every page, and the pages that say no.

use super::{assets, guard};
use crate::approval::identity::Role;
use crate::cli::approvals::text;
use crate::server::people::session::Signed;
use axum::response::{Html, IntoResponse as _, Response};
use http::{StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use tonic::Status;

/// One page.
pub(super) struct Page<'a> {
    /// Its title.
    pub(super) title: &'a str,
    /// Its place in the navigation; none when empty.
    pub(super) here: &'a str,
    /// Who looks at it.
    pub(super) signed: Option<&'a Signed>,
    /// What the script does when something changes: `list` shows the page anew, `read
    /// ID:REVISION ...` says that one of these approvals changed, nothing when empty.
    pub(super) live: String,
    /// What it says.
    pub(super) body: Markup,
}

impl Page<'_> {
    /// As an answer.
    pub(super) fn response(self) -> Response {
        let live = !self.live.is_empty();
        let list = self.live == "list";
        let markup = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (self.title) " · Enforcer" }
                    link rel="stylesheet" href=(assets::at("console.css"));
                    link rel="icon" href=(assets::at("icon.svg")) type="image/svg+xml";
                    @if list { noscript { meta http-equiv="refresh" content="10"; } }
                    script defer src=(assets::at("console.js")) {}
                }
                body data-live=[live.then_some(&self.live)] {
                    a.skip href="#main" { "Skip to content" }
                    (top(&self))
                    main #main tabindex="-1" { (self.body) }
                    @if self.signed.is_some() { (foot(live)) }
                }
            }
        };
        Html(markup.into_string()).into_response()
    }
}

fn top(page: &Page<'_>) -> Markup {
    let role = page.signed.map(|signed| signed.caller.subject.role());
    html! {
        header.top {
            a.brand href="/" { span.shield aria-hidden="true" {} "Enforcer" }
            @if let (Some(signed), Some(role)) = (page.signed, role) {
                nav aria-label="Pages" {
                    @for (path, name) in places(role) {
                        a href=(path) aria-current=[(path == page.here).then_some("page")] { (name) }
                    }
                }
                div.who {
                    span.name title=(signed.session.shown) {
                        (signed.caller.subject.name()) " " span.role { (role.as_str()) }
                    }
                    form method="post" action="/signout" {
                        (csrf(signed))
                        button.quiet type="submit" { "Sign out" }
                    }
                }
            }
        }
    }
}

/// The pages that a role can open.
fn places(role: Role) -> Vec<(&'static str, &'static str)> {
    let mut places = vec![
        ("/", "Queue"),
        ("/history", "History"),
        ("/hosts", "Hosts"),
        ("/policy", "Policy"),
        ("/report", "Habits"),
    ];
    if role == Role::Admin {
        places.extend([("/members", "Members"), ("/sessions", "Sessions"), ("/audit", "Audit")]);
    }
    places
}

fn foot(live: bool) -> Markup {
    html! {
        footer {
            @if live { span.dot #link data-state="off" { "not live" } }
            span.keys {
                kbd { "j" } " " kbd { "k" } " move, " kbd { "Enter" } " open, "
                kbd { "a" } " approve, " kbd { "d" } " deny, " kbd { "q" } " queue"
            }
        }
    }
}

/// What each form carries.
pub(super) fn csrf(signed: &Signed) -> Markup {
    html! { input type="hidden" name="csrf" value=(signed.csrf); }
}

/// The way to another page.
pub(super) fn see(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path.to_owned())]).into_response()
}

/// A page that leads on by itself: what the browser asks for next comes from a page of ours.
pub(super) fn onward(path: &str) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content={ "0; url=" (path) };
                title { "Enforcer" }
                link rel="icon" href=(assets::at("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::at("console.css"));
            }
            body { main.small { p { a href=(path) { "Go on" } } } }
        }
    };
    Html(markup.into_string()).into_response()
}

/// The page for what was refused, in the words of the services.
pub(super) fn failed(signed: Option<&Signed>, status: &Status) -> Response {
    let code = guard::status(status);
    let title = match code {
        StatusCode::NOT_FOUND => "Not there",
        StatusCode::SERVICE_UNAVAILABLE => "The server could not do it",
        StatusCode::UNAUTHORIZED => "Signed out",
        _ => "Refused",
    };
    let body = html! {
        section.note.bad role="alert" {
            h1 { (title) }
            p { (text::line(status.message())) }
            p { a.button href="/" { "To the queue" } }
        }
    };
    let page = Page { title, here: "", signed, live: String::new(), body };
    let mut response = page.response();
    *response.status_mut() = code;
    response
}

/// The page for an address that is none.
pub(super) async fn not_found() -> Response {
    failed(None, &Status::not_found("there is no such page"))
}

/// A time, in UTC, with its age beside it.
pub(super) fn when(unix_ms: i64) -> Markup {
    let shown = text::time(unix_ms);
    html! { time datetime=(shown) { (shown.replace('T', " ").replace('Z', " UTC")) } }
}

/// A time that runs: up from `since`, or down to `until`. Milliseconds since the Unix epoch.
pub(super) fn age(since: i64, now: i64) -> Markup {
    html! { span.clock data-since=(since) data-now=(now) { (text::span(now - since)) } }
}

/// See [`age`].
pub(super) fn left(until: i64, now: i64) -> Markup {
    let soon = until - now < 60_000;
    html! { span.clock.soon[soon] data-until=(until) data-now=(now) { (text::span(until - now)) } }
}
