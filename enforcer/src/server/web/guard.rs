//! What each request goes through: who it is from, whether its form is ours, and the headers that
//! tell the browser what a page may do.

use super::serve::From as Address;
use super::{Web, page};
use crate::server::audit::{Code, Entry};
use crate::server::people::session::{self, Signed};
use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tonic::Status;

/// The session's cookie. The prefix makes browsers take it over TLS only, from this host only.
pub(super) const SESSION: &str = "__Host-enforcer";

/// Nothing but our own files; no frame around it; forms to ourselves only.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                   connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every answer. Of addresses nothing is told to others; `same-origin` and not
/// `no-referrer`, with which browsers send forms with `Origin: null`
/// (<https://fetch.spec.whatwg.org/#append-a-request-origin-header>).
pub(super) async fn headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        ("content-security-policy", CSP),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=()"),
        ("strict-transport-security", "max-age=31536000"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// One cookie of a request; `None` when it is there twice.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut found = all
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned());
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// A cookie to set, or to forget when its value is empty.
pub(super) fn set_cookie(name: &str, value: &str, same_site: &str, seconds: i64) -> HeaderValue {
    let seconds = if value.is_empty() { 0 } else { seconds };
    let text = format!(
        "{name}={value}; Path=/; Secure; HttpOnly; SameSite={same_site}; Max-Age={seconds}"
    );
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// Where a request comes from.
pub(super) fn from(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Address>().map(|from| from.0)
}

/// Somebody who is signed in.
pub(super) struct Person(pub(super) Signed);

impl FromRequestParts<Arc<Web>> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Arc<Web>) -> Result<Self, Response> {
        let found = match cookie(&parts.headers, SESSION) {
            Some(secret) => session::find(&web.core, &secret).await,
            None => Ok(None),
        };
        match found {
            Ok(Some(signed)) => {
                web.core.paced(&signed.caller.subject).map_err(|s| page::failed(None, &s))?;
                Ok(Self(signed))
            }
            Ok(None) => Err(unknown(parts)),
            Err(error) => Err(page::failed(None, &Status::from(error))),
        }
    }
}

/// The answer to nobody: the way to sign in, or, for a link from elsewhere, the same page once
/// more, because a browser sends a strict cookie only where a page of ours leads.
fn unknown(parts: &Parts) -> Response {
    let path = parts.uri.path();
    if parts.method != Method::GET || path == "/live" {
        let status =
            Status::unauthenticated("you are not signed in any more: sign in, and try again");
        return page::failed(None, &status);
    }
    let site = parts.headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    if site == Some("cross-site") {
        return page::onward(&local(parts.uri.path_and_query().map_or("/", |p| p.as_str())));
    }
    let to = match local(path).as_str() {
        "/" => "/signin".to_owned(),
        path => format!("/signin?to={path}"),
    };
    page::see(&to)
}

/// A path of ours to lead to: an approval's or a task's, else the queue.
pub(super) fn local(path: &str) -> String {
    for place in ["/approvals/", "/tasks/"] {
        let id = path.strip_prefix(place).and_then(|id| uuid::Uuid::try_parse(id).ok());
        if let Some(id) = id {
            return format!("{place}{id}");
        }
    }
    "/".to_owned()
}

/// A form that somebody who is signed in sent from a page of theirs.
pub(super) struct Posted {
    /// Who.
    pub(super) signed: Signed,
    fields: HashMap<String, String>,
}

impl Posted {
    /// A field; empty when it is not there.
    pub(super) fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }
}

/// Whether a form was sent by a page of ours, as far as the browser says.
pub(super) fn ours(web: &Web, headers: &HeaderMap, uri: &http::Uri) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = uri.authority().map(http::uri::Authority::as_str).or_else(|| text("host"));
    let wanted =
        web.core.config.console.origin().or_else(|| host.map(|host| format!("https://{host}")));
    let site = text("sec-fetch-site").is_none_or(|site| site == "same-origin");
    site && wanted.is_some_and(|wanted| text("origin") == Some(wanted.as_str()))
}

impl FromRequest<Arc<Web>> for Posted {
    type Rejection = Response;

    async fn from_request(request: Request, web: &Arc<Web>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let Person(signed) = Person::from_request_parts(&mut parts, web).await?;
        let ours = ours(web, &parts.headers, &parts.uri);
        let form =
            Form::<HashMap<String, String>>::from_request(Request::from_parts(parts, body), web)
                .await;
        let Form(fields) = form.map_err(axum::response::IntoResponse::into_response)?;
        let token = fields.get("csrf").is_some_and(|csrf| *csrf == signed.csrf);
        if ours && token {
            return Ok(Self { signed, fields });
        }
        let why = if ours { "csrf" } else { "origin" };
        let actor = signed.caller.subject.to_string();
        let noted = web.core.note(Entry::new(Code::AccessRefused, actor, "", why)).await;
        let status = match noted {
            Ok(()) => Status::permission_denied("this form is not from a page of this session"),
            Err(error) => Status::from(error),
        };
        Err(page::failed(Some(&signed), &status))
    }
}

/// The HTTP status for what the services say.
pub(super) fn status(of: &Status) -> StatusCode {
    use tonic::Code as C;
    match of.code() {
        C::NotFound => StatusCode::NOT_FOUND,
        C::PermissionDenied => StatusCode::FORBIDDEN,
        C::Unauthenticated => StatusCode::UNAUTHORIZED,
        C::InvalidArgument => StatusCode::BAD_REQUEST,
        C::FailedPrecondition | C::Aborted => StatusCode::CONFLICT,
        C::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// An answer with one more header.
pub(super) fn with(response: Response, cookies: &[HeaderValue]) -> Response {
    let mut response = response.into_response();
    for cookie in cookies {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    response
}
