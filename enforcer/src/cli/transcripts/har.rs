//! HTTP exchanges as HAR 1.2 (http://www.softwareishard.com/blog/har-12-spec/).
//!
//! Every field that the format asks for is there; what HAR has no field for has a
//! name that begins with an underscore. Secrets are the keyed hashes that were recorded.

use super::when;
use crate::mask;
use crate::record::FlowId;
use crate::record::view::{BodyView, Exchange};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enforcer_proto::v1::{self, fact::Value as FactValue};
use serde_json::{Value, json};

/// What begins the file, up to the entries.
pub fn begin() -> String {
    let creator = json!({"name": "enforcer", "version": env!("CARGO_PKG_VERSION")});
    format!("{{\"log\":{{\"version\":\"1.2\",\"creator\":{creator},\"pages\":[],\"entries\":[\n")
}

/// What ends the file.
pub const END: &str = "\n]}}\n";

/// The entry of an exchange; `None` when it is not HTTP.
pub fn entry(flow: FlowId, start: Option<&v1::FlowStart>, exchange: &Exchange) -> Option<Value> {
    let asked = exchange.asked.as_ref()?;
    if asked.protocol != "http" {
        return None;
    }
    let timings = Timings::of(exchange);
    let decision = exchange.decisions.last().map(|(_, decision)| decision);
    let agent = start.and_then(|start| start.principal.as_ref());
    let end = exchange.end.as_ref().map(|(_, end)| end);
    let masked =
        end.map_or(0, |end| end.masked.iter().map(|m| m.count).fold(0, u64::saturating_add));
    let mut entry = json!({
        "startedDateTime": when::show(exchange.first_ns),
        "time": timings.total(),
        "request": request(asked, exchange),
        "response": response(exchange),
        "cache": {},
        "timings": timings.json(),
        "connection": flow.to_string(),
        "_flow": flow.to_string(),
        "_operation": exchange.id_text(),
        "_digest": asked.digest,
        "_target": asked.target,
        "_agent": agent.map(|agent| &agent.agent),
        "_task": agent.map(|agent| &agent.task),
        "_verdict": decision.map(super::json::verdict),
        "_reason": decision.map(|decision| &decision.reason),
        "_rules": decision.map(|decision| &decision.rules),
        "_approval": decision.map(|decision| &decision.approval),
        "_decidedBy": decision.map(|decision| &decision.decided_by),
        "_votes": decision.map(super::json::votes),
        "_outcome": end.map(|end| &end.outcome),
        "_masked": masked,
    });
    if let Some(said) = decision.map(comment).filter(|said| !said.is_empty()) {
        entry["comment"] = json!(said);
    }
    if let Some((_, forwarded)) = &exchange.forwarded {
        // The address alone: readers parse this field.
        let address = forwarded.upstream.parse::<std::net::SocketAddr>();
        if let Ok(address) = address {
            entry["serverIPAddress"] = json!(address.ip().to_string());
        }
        entry["_uninspected"] = json!(forwarded.uninspected);
    }
    Some(entry)
}

/// What people said, for tools that show the format's own field only.
fn comment(decision: &v1::Decision) -> String {
    let one = |vote: &v1::Vote| {
        let word = match (vote.approve, vote.break_glass) {
            (true, true) => "approved alone, the glass broken,",
            (true, false) => "approved",
            (false, _) => "denied",
        };
        match vote.reason.as_str() {
            "" => format!("{word} by {}", vote.person),
            reason => format!("{word} by {}: {reason}", vote.person),
        }
    };
    let mut said: Vec<String> = decision.votes.iter().map(one).collect();
    // A vote that counts in several scopes is there once for each.
    said.dedup();
    said.join("\n")
}

fn request(asked: &v1::OperationAsked, exchange: &Exchange) -> Value {
    let fact = |name: &str| exchange.fact(name).unwrap_or_default();
    let query = fact("http.query");
    let query = query.strip_prefix('?').unwrap_or(&query);
    let mut url =
        format!("{}://{}{}", fact("http.scheme"), fact("http.authority"), fact("http.path"));
    if !query.is_empty() {
        url = format!("{url}?{query}");
    }
    let headers = request_headers(asked);
    let mut request = json!({
        "method": fact("http.method"),
        "url": url,
        "httpVersion": version(exchange),
        "cookies": [],
        "headers": headers.iter().map(|(n, v)| json!({"name": n, "value": v})).collect::<Vec<_>>(),
        "queryString": query_string(query),
        "headersSize": -1,
        "bodySize": size(&exchange.request),
    });
    if !exchange.request.data.is_empty() {
        let kind = headers.iter().find(|(name, _)| name == "content-type");
        // Without `params`: it and `text` exclude each other.
        let mut data =
            json!({"mimeType": kind.map_or("application/octet-stream", |(_, value)| value)});
        put_text(&mut data, &exchange.request.data, "_encoding");
        if exchange.request.truncated {
            data["_truncated"] = json!(true);
        }
        request["postData"] = data;
    }
    request
}

/// Headers are facts, or notes when policy leaves them out of the digest.
fn request_headers(asked: &v1::OperationAsked) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for fact in asked.facts.iter().chain(&asked.notes) {
        let Some(name) = fact.name.strip_prefix("http.header.") else {
            continue;
        };
        match &fact.value {
            Some(FactValue::List(list)) => {
                headers.extend(list.items.iter().map(|item| (name.to_owned(), item.clone())));
            }
            _ => headers.push((name.to_owned(), crate::record::view::fact_text(fact))),
        }
    }
    headers
}

fn query_string(query: &str) -> Value {
    // HAR wants names and values decoded; the URL keeps them as they were.
    url::form_urlencoded::parse(query.as_bytes())
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn response(exchange: &Exchange) -> Value {
    let head = exchange.head.as_ref().map(|(_, head)| head);
    let headers: &[v1::Header] = head.map_or(&[], |head| &head.headers);
    let find = |name: &str| {
        let found = headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found.map_or("", |header| header.value.as_str())
    };
    let status = head.map_or(0, |head| head.status);
    let words = u16::try_from(status)
        .ok()
        .and_then(|status| http::StatusCode::from_u16(status).ok())
        .and_then(|status| status.canonical_reason());
    let kind = find("content-type");
    let mut content = json!({
        "size": exchange.response.length(),
        "mimeType": if kind.is_empty() { "x-unknown" } else { kind },
    });
    if !exchange.response.data.is_empty() {
        let body = &exchange.response;
        // HAR wants the text decoded, and says how much the encoding saved.
        match decoded(body, find("content-encoding")) {
            Some(plain) => {
                content["size"] = json!(plain.len());
                content["compression"] = json!(plain.len() as i64 - body.data.len() as i64);
                put_text(&mut content, &plain, "encoding");
            }
            None => put_text(&mut content, &body.data, "encoding"),
        }
        if body.truncated {
            content["_truncated"] = json!(true);
        }
    }
    json!({
        "status": status,
        "statusText": words.unwrap_or_default(),
        "httpVersion": version(exchange),
        "cookies": [],
        "headers": headers.iter().map(|h| json!({"name": h.name, "value": h.value})).collect::<Vec<_>>(),
        "content": content,
        "redirectURL": find("location"),
        "headersSize": -1,
        "bodySize": size(&exchange.response),
        "_synthetic": head.is_some_and(|head| head.synthetic),
    })
}

fn version(exchange: &Exchange) -> &str {
    match &exchange.head {
        Some((_, head)) if !head.version.is_empty() => &head.version,
        _ => "HTTP/1.1",
    }
}

/// -1 where the end of the body is not known.
fn size(body: &BodyView) -> i64 {
    match &body.whole {
        Some((length, _)) => i64::try_from(*length).unwrap_or(-1),
        None if body.data.is_empty() => 0,
        None => -1,
    }
}

/// The most bytes of one decoded body.
const MOST: usize = 64 << 20;

/// A body whose content encoding can be undone.
fn decoded(body: &BodyView, encoding: &str) -> Option<Vec<u8>> {
    if encoding.is_empty() || body.truncated {
        return None;
    }
    mask::decode_whole(encoding, &body.data, MOST)
}

fn put_text(object: &mut Value, bytes: &[u8], encoding: &str) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object["text"] = json!(text),
        Err(_) => {
            object["text"] = json!(STANDARD.encode(bytes));
            object[encoding] = json!("base64");
        }
    }
}

/// Milliseconds of each phase. Deciding and holding is what HAR calls blocked; names and
/// connections are not timed apart from it.
struct Timings {
    blocked: f64,
    send: f64,
    wait: f64,
    receive: f64,
}

impl Timings {
    fn of(exchange: &Exchange) -> Self {
        let asked = exchange.first_ns;
        let decided = exchange.decisions.last().map(|(at, _)| *at);
        let left = exchange.forwarded.as_ref().map(|(at, _)| *at);
        let left = left.or(decided).unwrap_or(asked).max(asked);
        // A body that streams is recorded while it is sent.
        let sent = exchange.request.last_ns.unwrap_or(left).max(left);
        let head = exchange.head.as_ref().map_or(sent, |(at, _)| *at).max(left);
        let sent = sent.min(head);
        let last = exchange.response.last_ns;
        let last = last.or_else(|| exchange.end.as_ref().map(|(at, _)| *at));
        let last = last.unwrap_or(head).max(head);
        Self {
            blocked: ms(asked, left),
            send: ms(left, sent),
            wait: ms(sent, head),
            receive: ms(head, last),
        }
    }

    fn total(&self) -> f64 {
        self.blocked + self.send + self.wait + self.receive
    }

    fn json(&self) -> Value {
        json!({
            "blocked": self.blocked,
            "dns": -1,
            "connect": -1,
            "ssl": -1,
            "send": self.send,
            "wait": self.wait,
            "receive": self.receive,
        })
    }
}

fn ms(from: i64, to: i64) -> f64 {
    let micros = to.saturating_sub(from).max(0) / 1_000;
    micros as f64 / 1_000.0
}
