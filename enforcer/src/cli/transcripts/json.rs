//! Events and exchanges as JSON: what `export --format jsonl` and `--json` write.

use super::when;
use crate::record::FlowId;
use crate::record::view::{Assembler, BodyView, Exchange};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enforcer_proto::v1::{self, event::Kind, fact::Value as FactValue};
use serde_json::{Map, Value, json};

/// One event of a flow.
pub fn event(flow: FlowId, event: &v1::Event) -> Value {
    let mut object = Map::new();
    object.insert("flow".into(), json!(flow.to_string()));
    object.insert("seq".into(), json!(event.seq));
    object.insert("time".into(), json!(when::show(event.unix_ns)));
    object.insert("unix_ns".into(), json!(event.unix_ns));
    object.insert("prev".into(), json!(hex::encode(&event.prev)));
    if let Ok(id) = uuid::Uuid::from_slice(&event.operation) {
        object.insert("operation".into(), json!(id.to_string()));
    }
    let (name, value) = match &event.kind {
        Some(Kind::FlowStart(start)) => ("flow_start", flow_start(start)),
        Some(Kind::OperationAsked(asked)) => ("operation_asked", operation(asked)),
        Some(Kind::RequestBody(body)) => ("request_body", piece(body)),
        Some(Kind::Decision(found)) => ("decision", decision(found)),
        Some(Kind::Forwarded(found)) => ("forwarded", forwarded(found)),
        Some(Kind::ResponseHead(found)) => ("response_head", head(found)),
        Some(Kind::ResponseBody(body)) => ("response_body", piece(body)),
        Some(Kind::OperationEnd(found)) => ("operation_end", operation_end(found)),
        Some(Kind::FlowEnd(end)) => ("flow_end", flow_end(end)),
        None => ("unknown", Value::Null),
    };
    object.insert("kind".into(), json!(name));
    object.insert(name.into(), value);
    Value::Object(object)
}

/// A flow's own events.
pub fn flow(flow: FlowId, seen: &Assembler) -> Value {
    json!({
        "flow": flow.to_string(),
        "time": seen.start.as_ref().map(|(at, _)| when::show(*at)),
        "start": seen.start.as_ref().map(|(_, start)| flow_start(start)),
        "ended": seen.end.as_ref().map(|(at, _)| when::show(*at)),
        "end": seen.end.as_ref().map(|(_, end)| flow_end(end)),
    })
}

fn flow_end(end: &v1::FlowEnd) -> Value {
    json!({"outcome": end.outcome, "error": end.error, "operations": end.operations})
}

/// The start of a flow.
pub fn flow_start(start: &v1::FlowStart) -> Value {
    let refusal = start.refusal.as_ref().map(|refusal| {
        let time = |unix_ns: i64| (unix_ns > 0).then(|| when::show(unix_ns));
        json!({
            "hook": refusal.hook,
            "reason": refusal.reason,
            "count": refusal.count,
            "first": time(refusal.first_unix_ns),
            "last": time(refusal.last_unix_ns),
            "destinations": refusal.destinations,
        })
    });
    json!({
        "principal": start.principal.as_ref().map(principal),
        "orig_addr": start.orig_addr,
        "orig_port": start.orig_port,
        "transport": start.transport,
        "name": start.name,
        "target": start.target,
        "version": start.version,
        "policy": start.policy,
        "layers": start.layers,
        "refusal": refusal,
    })
}

fn principal(p: &v1::Principal) -> Value {
    json!({
        "host": p.host,
        "agent": p.agent,
        "task": p.task,
        "cgroup": p.cgroup,
        "pid": p.pid,
        "uid": p.uid,
        "gid": p.gid,
        "start_ticks": p.start_ticks,
        "comm": p.comm,
        "exe": p.exe,
        "exe_inside": p.exe_inside,
        "exe_sha256": p.exe_sha256,
        "argv": p.argv,
    })
}

/// One operation with all that was recorded of it.
pub fn exchange(flow: FlowId, exchange: &Exchange) -> Value {
    json!({
        "flow": flow.to_string(),
        "operation": exchange.id_text(),
        "time": when::show(exchange.first_ns),
        "asked": exchange.asked.as_ref().map(operation),
        "request_body": body(&exchange.request),
        "decisions": exchange.decisions.iter().map(|(_, d)| decision(d)).collect::<Vec<_>>(),
        "forwarded": exchange.forwarded.as_ref().map(|(_, f)| forwarded(f)),
        "response_head": exchange.head.as_ref().map(|(_, h)| head(h)),
        "response_body": body(&exchange.response),
        "end": exchange.end.as_ref().map(|(_, e)| operation_end(e)),
    })
}

fn operation(asked: &v1::OperationAsked) -> Value {
    json!({
        "digest": asked.digest,
        "target": asked.target,
        "name": asked.name,
        "port": asked.port,
        "protocol": asked.protocol,
        "action": asked.action,
        "resource": asked.resource,
        "facts": facts(&asked.facts),
        "notes": facts(&asked.notes),
    })
}

/// An array of pairs: a damaged record may have a name twice, and that must show.
fn facts(facts: &[v1::Fact]) -> Value {
    let one = |fact: &v1::Fact| {
        let value = match &fact.value {
            Some(FactValue::Text(text)) => json!(text),
            Some(FactValue::Number(number)) => json!(number),
            Some(FactValue::Flag(flag)) => json!(flag),
            Some(FactValue::List(list)) => json!(list.items),
            None => Value::Null,
        };
        json!({"name": fact.name, "value": value})
    };
    facts.iter().map(one).collect()
}

fn decision(d: &v1::Decision) -> Value {
    json!({
        "verdict": verdict(d),
        "reason": d.reason,
        "rules": d.rules,
        "trace": d.trace,
        "policy": d.policy,
        "approval": d.approval,
        "scope": d.scope,
        "decided_by": d.decided_by,
        "claim": d.claim,
        "held_ms": d.held_ms,
        "votes": votes(d),
    })
}

/// Who voted, when and why.
pub fn votes(d: &v1::Decision) -> Value {
    d.votes.iter().map(crate::cli::approvals::json::vote).collect()
}

/// The verdict's word.
pub fn verdict(decision: &v1::Decision) -> &'static str {
    match decision.verdict() {
        v1::Verdict::Allow => "allow",
        v1::Verdict::Deny => "deny",
        v1::Verdict::Unspecified => "unknown",
    }
}

fn forwarded(f: &v1::Forwarded) -> Value {
    json!({
        "upstream": f.upstream,
        "tls_version": f.tls_version,
        "certificate_sha256": f.certificate_sha256,
        "alpn": f.alpn,
        "uninspected": f.uninspected,
    })
}

fn head(h: &v1::ResponseHead) -> Value {
    json!({
        "status": h.status,
        "version": h.version,
        "headers": headers(&h.headers),
        "synthetic": h.synthetic,
    })
}

fn headers(headers: &[v1::Header]) -> Value {
    let one = |header: &v1::Header| json!({"name": header.name, "value": header.value});
    headers.iter().map(one).collect()
}

fn operation_end(end: &v1::OperationEnd) -> Value {
    let masked = |m: &v1::MaskCount| json!({"rule": m.rule, "count": m.count});
    json!({
        "outcome": end.outcome,
        "error": end.error,
        "request_bytes": end.request_bytes,
        "response_bytes": end.response_bytes,
        "masked": end.masked.iter().map(masked).collect::<Vec<_>>(),
        "trailers": headers(&end.trailers),
    })
}

fn piece(body: &v1::Body) -> Value {
    let mut value = json!({
        "offset": body.offset,
        "last": body.last,
        "truncated": body.truncated,
    });
    put_bytes(&mut value, &body.data);
    if body.last {
        value["length"] = json!(body.length);
        value["sha256"] = json!(hex::encode(&body.sha256));
    }
    value
}

fn body(body: &BodyView) -> Value {
    let mut value = json!({
        "length": body.length(),
        "truncated": body.truncated,
        "complete": body.complete(),
    });
    put_bytes(&mut value, &body.data);
    if let Some((_, sha256)) = &body.whole {
        value["sha256"] = json!(hex::encode(sha256));
    }
    value
}

/// Bytes as `text` when they are UTF-8, as `base64` when they are not.
fn put_bytes(value: &mut Value, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) => value["text"] = json!(text),
        Err(_) => value["base64"] = json!(STANDARD.encode(data)),
    }
}
