//! A request head as an operation: what is judged, shown, hashed and recorded.
//!
//! Everything that is passed on and can change the request's effect is a fact;
//! what is sent upstream is made from the same head. A head that could be read
//! in two ways is a [`Flaw`], and never leaves.

use super::authority::{self, Authority};
use super::headers::{self, Part};
use super::path;
use crate::operation::{Fact, Operation, Protocol};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Uri, Version, header};

/// Why a request is refused before anyone judges it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The stable code.
    pub code: &'static str,
    /// The reason, for the agent.
    pub detail: String,
}

impl Flaw {
    /// A flaw with its reason.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// What is known of a request from outside its head.
#[derive(Clone, Copy, Debug)]
pub struct Where<'a> {
    /// The target's name; empty when policy knows none.
    pub target: &'a str,
    /// The flow's verified name or address literal.
    pub name: &'a str,
    /// The port at the target.
    pub port: u16,
    /// Whether it came over TLS.
    pub tls: bool,
    /// Whether the target declares gRPC.
    pub grpc: bool,
    /// The target's own headers that are not hashed.
    pub ignored: &'a [String],
    /// Headers that the proxy sets itself; the agent's own are not passed on.
    pub injected: &'a [HeaderName],
}

/// A request as an operation.
#[derive(Clone, Debug)]
pub struct Read {
    /// The operation, as far as the head says; body facts are added when it is known how the
    /// body is treated.
    pub operation: Operation,
    /// What is recorded beside it.
    pub notes: Vec<(String, Fact)>,
    /// The same operation as other servers would read it; each is judged too.
    pub readings: Vec<Operation>,
}

/// Whether a request has the form of a gRPC call (grpc/grpc `doc/PROTOCOL-HTTP2.md`): a POST over
/// HTTP/2 that takes trailers, of gRPC's content type. It is one only where the target declares
/// gRPC; what it calls itself decides nothing.
pub fn is_grpc(parts: &Parts) -> bool {
    let headers = &parts.headers;
    let mut kinds = headers.get_all(header::CONTENT_TYPE).iter();
    let grpc = kinds.next().and_then(|value| value.to_str().ok()).is_some_and(|kind| {
        kind.strip_prefix("application/grpc")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';']))
    });
    grpc && kinds.next().is_none()
        && parts.version == Version::HTTP_2
        && parts.method == Method::POST
        && headers::tokens(headers, &header::TE).any(|te| te.eq_ignore_ascii_case("trailers"))
}

/// Reads a head. The operation is always there, so that a refusal can be recorded; with a flaw
/// it says what could be read.
pub fn read(parts: &Parts, at: Where<'_>, hash: &dyn Fn(&[u8]) -> String) -> (Read, Option<Flaw>) {
    let (authority, mut flaw) = match authority::of_request(&parts.uri, &parts.headers) {
        Ok(authority) => {
            let flaw = check_authority(&authority, at);
            (Some(authority), flaw)
        }
        Err(error) => (None, Some(Flaw::new(error.code(), error.to_string()))),
    };
    flaw = check_method(parts).or(flaw).or_else(|| check_scheme(&parts.uri, at.tls));
    let path = parts.uri.path();
    let readings = match path::readings(path) {
        Ok(readings) => readings,
        Err(error) => {
            flaw = flaw.or_else(|| Some(Flaw::new(error.code(), error.to_string())));
            Vec::new()
        }
    };
    if let Some(Err(error)) = parts.uri.query().map(path::check_query) {
        flaw = flaw.or_else(|| Some(Flaw::new(error.code(), error.to_string())));
    }
    flaw = flaw.or_else(|| check_headers(&parts.headers, at.injected));

    let scheme = if at.tls { "https" } else { "http" };
    let authority = authority.map_or_else(String::new, |authority| written(&authority, scheme));
    let grpc = at.grpc && is_grpc(parts);
    let action = if grpc { "grpc.call" } else { action(&parts.method) };
    let resource = format!("{scheme}://{authority}{path}");
    let mut operation =
        Operation::new(at.target, at.name, at.port, Protocol::Http, action, resource);
    operation.fact("http.method", parts.method.as_str());
    operation.fact("http.scheme", scheme);
    operation.fact("http.authority", authority);
    operation.fact("http.path", path);
    if let Some(query) = parts.uri.query() {
        operation.fact("http.query", headers::without_secrets(query, hash));
    }
    if grpc {
        match grpc_call(path) {
            Some((service, method)) => {
                operation.fact("grpc.service", service);
                operation.fact("grpc.method", method);
            }
            None => {
                flaw = flaw.or_else(|| {
                    Some(Flaw::new("bad-grpc-path", "a gRPC path is /package.Service/Method"))
                });
            }
        }
    }
    let notes = add_headers(&mut operation, &parts.headers, at, hash);
    let readings = if flaw.is_some() { Vec::new() } else { path::as_read(&operation, readings) };
    (Read { operation, notes, readings }, flaw)
}

/// The `Host` or `:authority` that is sent upstream.
pub fn written(authority: &Authority, scheme: &str) -> String {
    let host = match authority.host.contains(':') {
        true => format!("[{}]", authority.host),
        false => authority.host.clone(),
    };
    match authority.port {
        Some(port) if authority::default_port(Some(scheme)) != Some(port) => {
            format!("{host}:{port}")
        }
        _ => host,
    }
}

fn action(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "http.get",
        "HEAD" => "http.head",
        "OPTIONS" => "http.options",
        "POST" => "http.post",
        "PUT" => "http.put",
        "PATCH" => "http.patch",
        "DELETE" => "http.delete",
        _ => "http.other",
    }
}

fn grpc_call(path: &str) -> Option<(&str, &str)> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let plain = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b))
    };
    (plain(service) && plain(method)).then_some((service, method))
}

fn check_authority(authority: &Authority, at: Where<'_>) -> Option<Flaw> {
    if authority.host != at.name {
        return Some(Flaw::new(
            "name-mismatch",
            format!(
                "the request is for {}, but the connection was made to {}",
                authority.host, at.name
            ),
        ));
    }
    // Without a port the scheme's is meant; clients that leave it out on another port exist, and
    // the flow's own port is where it goes in any case.
    if let Some(port) = authority.port
        && port != at.port
    {
        return Some(Flaw::new(
            "port-mismatch",
            format!(
                "the request names port {port}, but the connection was made to port {}",
                at.port
            ),
        ));
    }
    None
}

fn check_method(parts: &Parts) -> Option<Flaw> {
    if parts.extensions.get::<hyper::ext::Protocol>().is_some() {
        return Some(Flaw::new(
            "upgrade-refused",
            "extended CONNECT (WebSocket over HTTP/2) is refused: what follows it cannot be inspected",
        ));
    }
    match parts.method {
        Method::CONNECT => Some(Flaw::new(
            "connect-refused",
            "CONNECT is refused: a tunnel cannot be inspected. Connect to the target directly",
        )),
        Method::TRACE => {
            Some(Flaw::new("trace-refused", "TRACE is refused: it echoes credentials"))
        }
        _ if parts.uri.path() == "*" && parts.method != Method::OPTIONS => {
            Some(Flaw::new("path-form", "`*` can only be asked with OPTIONS"))
        }
        _ => None,
    }
}

fn check_scheme(uri: &Uri, tls: bool) -> Option<Flaw> {
    let want = if tls { "https" } else { "http" };
    match uri.scheme_str() {
        None => None,
        Some(scheme) if scheme.eq_ignore_ascii_case(want) => None,
        Some(scheme) => Some(Flaw::new(
            "scheme-mismatch",
            format!("the request says {scheme}, but the connection is {want}"),
        )),
    }
}

fn check_headers(headers: &HeaderMap, injected: &[HeaderName]) -> Option<Flaw> {
    // A server without HTTP/2 ignores `Upgrade: h2c`, and so may the proxy (RFC 9110 section 7.8).
    let upgrade =
        headers::tokens(headers, &header::UPGRADE).find(|token| !token.eq_ignore_ascii_case("h2c"));
    if let Some(protocol) = upgrade {
        return Some(Flaw::new(
            "upgrade-refused",
            format!("an upgrade to {protocol:?} is refused: what follows it cannot be inspected"),
        ));
    }
    if headers::connection_drops_facts(headers) {
        return Some(Flaw::new(
            "connection-names-header",
            "Connection names an end-to-end header, which a proxy would have to drop",
        ));
    }
    // They make a POST another method for some servers, past rules on methods.
    for name in ["x-http-method", "x-http-method-override", "x-method-override"] {
        if headers.contains_key(name) {
            return Some(Flaw::new(
                "method-override",
                format!("{name} is refused: send the method that is meant"),
            ));
        }
    }
    if let Some(name) = headers.keys().find(|name| headers::is_disguised(name, injected)) {
        return Some(Flaw::new(
            "header-underscore",
            format!("{name} is refused: some servers read `_` as `-`, and so as another header"),
        ));
    }
    let unreadable = headers.iter().find(|(_, value)| text(value.as_bytes()).is_none());
    unreadable.map(|(name, _)| {
        Flaw::new("header-character", format!("header {name} has bytes that are no text"))
    })
}

fn text(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.chars().any(|c| c.is_control() && c != '\t')).then_some(text)
}

/// Adds the headers as facts; gives those that are recorded but not hashed.
fn add_headers(
    operation: &mut Operation,
    headers: &HeaderMap,
    at: Where<'_>,
    hash: &dyn Fn(&[u8]) -> String,
) -> Vec<(String, Fact)> {
    let mut notes = Vec::new();
    for name in headers.keys() {
        let part = headers::part(name, at.ignored);
        if part == Part::Hop || at.injected.contains(name) {
            continue;
        }
        let mut values: Vec<String> = headers
            .get_all(name)
            .iter()
            .map(|value| match headers::is_secret(name) {
                true => hash(value.as_bytes()),
                false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            })
            .collect();
        let value = match values.len() {
            1 => Fact::Text(values.swap_remove(0)),
            _ => Fact::List(values),
        };
        let fact = format!("http.header.{name}");
        match part {
            Part::Fact => operation.fact(fact, value),
            _ => notes.push((fact, value)),
        }
    }
    // Framing is made anew for each connection, and the body's length is a fact of its own.
    if let Some(length) = headers.get(header::CONTENT_LENGTH) {
        let length = String::from_utf8_lossy(length.as_bytes()).into_owned();
        notes.push(("http.header.content-length".to_owned(), Fact::Text(length)));
    }
    notes.extend(
        at.injected.iter().map(|name| {
            (format!("http.header.{name}"), Fact::Text("(set by the proxy)".to_owned()))
        }),
    );
    notes
}
