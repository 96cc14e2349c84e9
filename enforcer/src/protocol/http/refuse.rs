//! Answers that the daemon makes itself: refusals and failures, in HTTP's and gRPC's own words.

use super::body::Out;
use super::operation::is_grpc;
use super::reasons::is_known;
use crate::decide::Denial;
use crate::flow::Asked;
use crate::protocol::Hash;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use serde_json::json;

/// Media type of a problem (RFC 9457 section 6.1).
pub const PROBLEM: &str = "application/problem+json";
/// When a client may ask again for a pending approval. Seconds.
const RETRY_SECONDS: &str = "5";
/// gRPC status codes (grpc/grpc `doc/statuscodes.md`).
const GRPC_PERMISSION_DENIED: &str = "7";
const GRPC_UNAVAILABLE: &str = "14";

/// What is kept of a request to answer it in its own way.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    grpc: bool,
}

impl Manner {
    /// Of a request.
    pub fn of(parts: &Parts) -> Self {
        Self { grpc: is_grpc(parts) }
    }
}

/// The answer to a denied operation.
pub fn denied(manner: Manner, denial: &Denial, asked: &Asked) -> Response<Out> {
    debug_assert!(is_known(denial.code), "the manifest does not explain {}", denial.code);
    let status = match denial.code {
        code if code.starts_with("record") || code.starts_with("transcript") => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::FORBIDDEN,
    };
    if manner.grpc {
        let message = match denial.approval {
            Some(id) => format!("{}: {} (approval {id})", denial.code, denial.detail),
            None => format!("{}: {}", denial.code, denial.detail),
        };
        return grpc(GRPC_PERMISSION_DENIED, &message);
    }
    let approval = denial.approval.map(|id| id.to_string());
    let status_url = approval.as_ref().map(|id| status_url(id));
    let problem = json!({
        "type": "http://enforcer.internal/v1/manifest#refused",
        "title": "Refused by Enforcer",
        "status": status.as_u16(),
        "detail": denial.detail,
        "enforcer": {
            "decision": "deny",
            "reason": denial.code,
            "rule": denial.rules.first(),
            "operation": asked.operation.id.to_string(),
            "digest": asked.digest.to_string(),
            "approval": approval,
            "status_url": status_url,
        },
    });
    let mut response = answer(status, PROBLEM, problem.to_string());
    if denial.pending {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
    }
    response
}

/// The answer when an allowed operation could not be done.
pub fn failed(manner: Manner, code: &str, detail: &str, asked: &Asked) -> Response<Out> {
    debug_assert!(is_known(code), "the manifest does not explain {code}");
    if manner.grpc {
        return grpc(GRPC_UNAVAILABLE, &format!("{code}: {detail}"));
    }
    let status = match code {
        "dial-timeout" | "upstream-timeout" => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::BAD_GATEWAY,
    };
    let problem = json!({
        "type": "http://enforcer.internal/v1/manifest#failed",
        "title": "Enforcer could not forward the request",
        "status": status.as_u16(),
        "detail": detail,
        "enforcer": {
            "decision": "allow",
            "reason": code,
            "operation": asked.operation.id.to_string(),
            "digest": asked.digest.to_string(),
        },
    });
    answer(status, PROBLEM, problem.to_string())
}

/// Where an agent can follow an approval.
pub fn status_url(approval: &str) -> String {
    format!("http://{}/v1/approvals/{approval}", crate::protocol::dns::names::INTERNAL_NAME)
}

/// An answer that no one may keep.
pub fn answer(status: StatusCode, media_type: &'static str, text: String) -> Response<Out> {
    let length = text.len() as u64;
    let mut response = Response::new(Out::whole(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    set_length(headers, length);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Trailers alone (gRPC over HTTP/2, "Responses"): the status stands in the head.
fn grpc(status: &'static str, message: &str) -> Response<Out> {
    let mut response = Response::new(Out::Whole(None));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    if let Ok(message) = HeaderValue::from_str(&percent(message)) {
        headers.insert("grpc-message", message);
    }
    response
}

/// gRPC's percent-encoding of a message: all but printable ASCII, and `%` itself.
fn percent(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Says how long a body is, as hyper would, so that the head is recorded as it is sent.
pub fn set_length(headers: &mut HeaderMap, length: u64) {
    headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
}

/// The head of an answer, as it is recorded.
pub fn recorded(
    response: &http::response::Parts,
    version: Version,
    synthetic: bool,
    hash: &Hash,
) -> enforcer_proto::v1::ResponseHead {
    enforcer_proto::v1::ResponseHead {
        status: u32::from(response.status.as_u16()),
        headers: recorded_headers(&response.headers, hash),
        version: match version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
        .to_owned(),
        synthetic,
    }
}

/// Headers as they are recorded: secrets as keyed hashes.
pub fn recorded_headers(headers: &HeaderMap, hash: &Hash) -> Vec<enforcer_proto::v1::Header> {
    headers
        .iter()
        .map(|(name, value)| enforcer_proto::v1::Header {
            name: name.as_str().to_owned(),
            value: match super::headers::is_secret(name) {
                true => hash.of(value.as_bytes()),
                false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
            },
        })
        .collect()
}
