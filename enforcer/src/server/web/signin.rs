//! Signing in and out.

use super::guard::{self, Posted, SESSION, cookie, local, set_cookie, with};
use super::{Web, page, text};
use crate::approval::identity::{Role, Subject};
use crate::server::audit::{Code, Entry};
use crate::server::core::block;
use crate::server::people::{self, LOCAL, Proven, oidc, session, setup as secret};
use axum::Form;
use axum::extract::{Query, State};
use axum::response::Response;
use http::request::Parts;
use maud::html;
use page::Page;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;
use tonic::Status;

/// The cookie of somebody who is on the way to the provider and back: `<random>.<path>`.
const ASKED: &str = "__Host-enforcer-signin";

/// How long that way may take. Seconds.
const WAY: i64 = 600;

/// Where to go afterwards.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct To {
    to: String,
}

/// The sign-in page.
pub(super) async fn page(State(web): State<Arc<Web>>, Query(To { to }): Query<To>) -> Response {
    sign_in(&web, &local(&to), None)
}

fn sign_in(web: &Web, to: &str, why: Option<&str>) -> Response {
    let body = html! {
        section.signin {
            h1 { "Sign in" }
            p.hint { "Approvals of " strong { (web.core.config.names.first().map_or("this server", String::as_str)) } }
            @if let Some(why) = why { p.note.bad role="alert" { (text::line(why)) } }
            @if let Some(oidc) = &web.oidc {
                p { a.button.primary href={ "/signin/provider?to=" (to) } { "Sign in with " (oidc.name()) } }
            }
            details open[web.oidc.is_none()] {
                summary { "First start: the setup secret" }
                form method="post" action="/signin/setup" {
                    label { "Secret" input type="password" name="secret" autocomplete="off" required; }
                    p.hint { "Printed once by " code { "enforcer server init" } " or " code { "enforcer server setup" } "." }
                    button type="submit" { "Sign in as local admin" }
                }
            }
        }
    };
    let page = Page { title: "Sign in", here: "", signed: None, live: String::new(), body };
    let mut response = page.response();
    if why.is_some() {
        *response.status_mut() = http::StatusCode::FORBIDDEN;
    }
    response
}

fn random() -> Option<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).ok().map(|()| hex::encode(bytes))
}

/// Whether that address may try now.
fn paced(web: &Web, from: Option<IpAddr>) -> Result<IpAddr, Box<Response>> {
    let from = from.filter(|from| web.tries.allows(block(*from), web.core.clock.steady()));
    from.ok_or_else(|| {
        web.core.metrics.limited.inc();
        let status = Status::resource_exhausted("too many tries to sign in; wait a little");
        Box::new(page::failed(None, &status))
    })
}

/// On the way to the provider.
pub(super) async fn provider(
    State(web): State<Arc<Web>>,
    Query(To { to }): Query<To>,
    parts: Parts,
) -> Response {
    if let Err(response) = paced(&web, guard::from(&parts)) {
        return *response;
    }
    let asked = random().zip(web.oidc.as_ref());
    let way = asked.and_then(|(random, oidc)| Some((oidc.way(&random)?, random)));
    match way {
        Some((url, random)) => {
            let value = format!("{random}.{}", local(&to));
            // Lax: the provider's page leads back here.
            with(page::see(&url), &[set_cookie(ASKED, &value, "Lax", WAY)])
        }
        None => sign_in(
            &web,
            &local(&to),
            Some("the identity provider cannot be reached; try again later"),
        ),
    }
}

/// What the provider sends the browser back with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer {
    code: String,
    state: String,
    error: String,
}

/// Back from the provider.
pub(super) async fn callback(
    State(web): State<Arc<Web>>,
    Query(answer): Query<Answer>,
    parts: Parts,
) -> Response {
    let from = match paced(&web, guard::from(&parts)) {
        Ok(from) => from,
        Err(response) => return *response,
    };
    let forget = set_cookie(ASKED, "", "Lax", 0);
    let asked = cookie(&parts.headers, ASKED);
    let (random, to) = asked.as_deref().and_then(|value| value.split_once('.')).unwrap_or_default();
    let to = local(to);
    let done = match &web.oidc {
        Some(oidc) => back(&web, oidc, random, &answer).await,
        None => Err(Why::Told("no identity provider is configured".to_owned())),
    };
    let response = match done {
        Ok(proven) => enter(&web, &proven, from, &to).await,
        Err(why) => refuse(&web, from, &to, why).await,
    };
    with(response, &[forget])
}

/// Why somebody is not let in.
enum Why {
    /// What the person is told, and what goes on record.
    Told(String),
    Failed(Status),
}

async fn back(
    web: &Web,
    provider: &oidc::Oidc,
    random: &str,
    answer: &Answer,
) -> Result<Proven, Why> {
    let told = |why: &str| Why::Told(why.to_owned());
    if random.len() != 64 {
        return Err(told("this browser has not asked to sign in, or too long ago: begin again"));
    }
    // Both are hashes of the same random bits, so a timing tells nothing.
    if answer.state != oidc::state(random) {
        return Err(told("the answer is not for what this browser asked: begin again"));
    }
    if !answer.error.is_empty() {
        let error: String = answer.error.chars().take(100).collect();
        return Err(Why::Told(format!("the identity provider said: {error}")));
    }
    let proven = provider.who(random, &answer.code).await;
    let proven = proven.map_err(|why| Why::Told(why.to_string()))?;
    let now = web.core.clock.now();
    match session::once(&web.core, &format!("signin {random}"), now).await {
        Ok(true) => Ok(proven),
        Ok(false) => Err(told("this answer was used already: begin again")),
        Err(error) => Err(Why::Failed(error.into())),
    }
}

/// Begins a session for who proved to be someone.
async fn enter(web: &Web, proven: &Proven, from: IpAddr, to: &str) -> Response {
    let begun = match people::admit(&web.core, proven).await {
        Ok(Ok(())) => session::begin(&web.core, proven).await,
        Ok(Err(why)) => {
            let why = format!("{}: {why}", proven.subject.name());
            return refuse(web, from, to, Why::Told(why)).await;
        }
        Err(error) => Err(error),
    };
    match begun {
        Ok(secret) => {
            let seconds = web.core.config.console.limits().0 / 1000;
            // Led on by a page and not by a redirect: a strict cookie goes only where our page leads.
            with(page::onward(to), &[set_cookie(SESSION, &secret, "Strict", seconds)])
        }
        Err(error) => page::failed(None, &error.into()),
    }
}

async fn refuse(web: &Web, from: IpAddr, to: &str, why: Why) -> Response {
    let why = match why {
        Why::Told(why) => why,
        Why::Failed(status) => return page::failed(None, &status),
    };
    let entry = Entry::new(Code::SignInRefused, "unknown", from, why.clone());
    match web.core.note(entry).await {
        Ok(()) => sign_in(web, to, Some(&why)),
        Err(error) => page::failed(None, &error.into()),
    }
}

/// The form with the setup secret.
#[derive(Debug, Deserialize)]
pub(super) struct Setup {
    secret: String,
}

/// Signs the local admin in with the setup secret.
pub(super) async fn setup(
    State(web): State<Arc<Web>>,
    parts: Parts,
    Form(form): Form<Setup>,
) -> Response {
    let from = match paced(&web, guard::from(&parts)) {
        Ok(from) => from,
        Err(response) => return *response,
    };
    let told = |why: &str| Why::Told(why.to_owned());
    if !guard::ours(&web, &parts.headers, &parts.uri) {
        return refuse(&web, from, "/", told("the form is not from this page")).await;
    }
    let now = web.core.clock.now();
    let path = web.core.config.console.setup_file.clone();
    let given = form.secret.trim().to_owned();
    // Long enough for every secret, short enough for every hash.
    let until = (given.len() <= 128).then(|| secret::check(&path, &given, now)).flatten();
    let bad =
        "the secret is wrong, was used, or is too old: `enforcer server setup` makes a new one";
    let Some(until) = until else { return refuse(&web, from, "/", told(bad)).await };
    match session::once(&web.core, &format!("setup {given}"), until).await {
        Ok(true) => {}
        Ok(false) => return refuse(&web, from, "/", told(bad)).await,
        Err(error) => return page::failed(None, &error.into()),
    }
    let Some(subject) = Subject::new(Role::Admin, LOCAL) else {
        return page::failed(None, &Status::internal("no name for the local admin"));
    };
    let shown = "the setup secret".to_owned();
    let proven = Proven { subject, groups: Vec::new(), account: None, shown };
    enter(&web, &proven, from, "/").await
}

/// Ends the own session.
pub(super) async fn sign_out(State(web): State<Arc<Web>>, posted: Posted) -> Response {
    let actor = posted.signed.caller.subject.to_string();
    match session::end(&web.core, &actor, &posted.signed.key, "signed out").await {
        Ok(_) => with(page::see("/signin"), &[set_cookie(SESSION, "", "Strict", 0)]),
        Err(error) => page::failed(Some(&posted.signed), &error.into()),
    }
}
