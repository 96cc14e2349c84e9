//! An HTTP request before it is sent: the operation that it will be, for a step of a task.
//!
//! It goes the way of a request that came: the same reading, the same facts, so the same digest.

use super::authority;
use super::operation::{self, Where};
use crate::approval::step::{Kind, Pattern};
use crate::flow::{Asked, Flow};
use crate::operation::Protocol;
use crate::policy::Bundle;
use crate::protocol::Hash;
use crate::record::convert;
use crate::task::{HttpStep, place};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// The parts of a URL that say where it leads.
struct Split<'u> {
    tls: bool,
    host: String,
    port: u16,
    authority: &'u str,
    /// Path and query, as written.
    target: &'u str,
}

/// Takes a URL apart as it is written: nothing in it is encoded, resolved or left out.
fn split(url: &str) -> Result<Split<'_>, String> {
    let (scheme, rest) = url.split_once("://").ok_or("a URL begins with http:// or https://")?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return Err("a URL begins with http:// or https://".to_owned()),
    };
    if url.contains('#') {
        return Err("a URL that is sent has no fragment (`#`)".to_owned());
    }
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    if !target.starts_with('/') {
        return Err("the URL has no path: `/` is the shortest".to_owned());
    }
    if authority.contains('@') {
        return Err("credentials do not belong in a URL".to_owned());
    }
    let read = authority::parse(authority).map_err(|error| error.to_string())?;
    let port = read.port.unwrap_or(if tls { 443 } else { 80 });
    Ok(Split { tls, host: read.host, port, authority, target })
}

/// The operation that a request will be.
pub(crate) fn operation(flow: &Flow, step: &HttpStep) -> Result<Asked, String> {
    let url = split(&step.url)?;
    let bundle = flow.inputs.decider.bundle();
    let (place, target) = place(&bundle, &url.host, url.port, Protocol::Http)?;
    let request = request(step, &url)?;
    let injected: Vec<HeaderName> =
        target.inject.iter().map(|header| header.name.clone()).collect();
    let at = Where {
        target: &target.name,
        name: &place.name,
        port: place.port,
        tls: url.tls,
        grpc: target.grpc,
        ignored: &target.ignore_headers,
        injected: &injected,
    };
    let hash = Hash::new(&flow.inputs.recorder);
    let (parts, body) = request.into_parts();
    if body.len() > flow.inputs.config.limits.approval_body {
        return Err("people cannot be shown so large a body".to_owned());
    }
    let (read, flaw) = operation::read(&parts, at, &|secret| hash.of(secret));
    if let Some(flaw) = flaw {
        return Err(format!("{} ({})", flaw.detail, flaw.code));
    }
    let notes = read.notes.iter().map(|(name, value)| convert::fact(name, value)).collect();
    let (mut operation, mut readings) = (read.operation, read.readings);
    operation.with_body(body.clone());
    readings.iter_mut().for_each(|reading| reading.with_body(body.clone()));
    Ok(Asked::new(operation, readings, notes, &flow.principal))
}

fn request(step: &HttpStep, url: &Split<'_>) -> Result<Request<Bytes>, String> {
    let body = match (&step.body, &step.body_base64) {
        (Some(_), Some(_)) => return Err("it has `body` or `body_base64`, not both".to_owned()),
        (Some(text), None) => Bytes::from(text.clone()),
        (None, Some(coded)) => coded.bytes()?.into(),
        (None, None) => Bytes::new(),
    };
    let method = Method::from_bytes(step.method.as_bytes());
    let method = method.map_err(|_| format!("{:?} is no method", step.method))?;
    let uri: Uri = url.target.parse().map_err(|error| format!("the URL: {error}"))?;
    let mut headers = HeaderMap::new();
    for (name, values) in &step.headers {
        let bad = || format!("{name:?} is no header");
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        for value in values.iter() {
            headers.append(&name, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
    }
    if !headers.contains_key(HOST) {
        let host = HeaderValue::from_str(url.authority).map_err(|error| error.to_string())?;
        headers.insert(HOST, host);
    }
    let grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.to_str().is_ok_and(|kind| kind.starts_with("application/grpc")));
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    *request.version_mut() = if grpc { Version::HTTP_2 } else { Version::HTTP_11 };
    Ok(request)
}

/// The pattern of a method and a URL with `*` and `**` in its path and query.
pub(crate) fn pattern(bundle: &Bundle, method: &str, url: &str) -> Result<Pattern, String> {
    let split = split(url)?;
    let (_, target) = place(bundle, &split.host, split.port, Protocol::Http)?;
    let scheme = if split.tls { "https" } else { "http" };
    let read = authority::parse(split.authority).map_err(|error| error.to_string())?;
    let (path, query) = split.target.split_once('?').unwrap_or((split.target, ""));
    Ok(Pattern {
        target: target.name.clone(),
        kind: Kind::Http {
            method: method.to_owned(),
            origin: format!("{scheme}://{}", operation::written(&read, scheme)),
            path: path.to_owned(),
            query: query.to_owned(),
        },
    })
}
