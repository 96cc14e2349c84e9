//! Operations and refusals in the kernel as events of OCSF 1.4 (<https://schema.ocsf.io/1.4.0>).
//!
//! An operation is API Activity, what the kernel refused is Network Activity, both with the profile
//! `security_control` for what was decided, the latter with `host` for who did it. Bodies and headers have no place there; `jsonl` has them.

use super::json::verdict;
use crate::record::FlowId;
use crate::record::view::Exchange;
use enforcer_proto::v1;
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The schema's version.
const VERSION: &str = "1.4.0";

/// Nanoseconds in a millisecond, which is what times are told in.
const MS: i64 = 1_000_000;

/// <https://schema.ocsf.io/1.4.0/classes/api_activity>
const API: Class = Class {
    category: (6, "Application Activity"),
    uid: 6003,
    name: "API Activity",
    profiles: &["security_control"],
};

/// <https://schema.ocsf.io/1.4.0/classes/network_activity>
const NETWORK: Class = Class {
    category: (4, "Network Activity"),
    uid: 4001,
    name: "Network Activity",
    // The class itself has no `actor`.
    profiles: &["host", "security_control"],
};

struct Class {
    category: (u64, &'static str),
    uid: u64,
    name: &'static str,
    profiles: &'static [&'static str],
}

/// The values that `http_request.http_method` can have.
const METHODS: [&str; 8] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE"];

/// What was decided, in the profile's numbers and words: action, and disposition.
#[derive(Clone, Copy)]
enum Decided {
    Allowed,
    Denied,
    Unknown,
}

impl Decided {
    fn put(self, event: &mut Value) {
        let (action, disposition) = match self {
            Self::Allowed => ((1, "Allowed"), (1, "Allowed")),
            Self::Denied => ((2, "Denied"), (2, "Blocked")),
            Self::Unknown => ((0, "Unknown"), (0, "Unknown")),
        };
        event["action_id"] = json!(action.0);
        event["action"] = json!(action.1);
        event["disposition_id"] = json!(disposition.0);
        event["disposition"] = json!(disposition.1);
        // Informational, or Medium for what was denied.
        let severity = match self {
            Self::Denied => (3, "Medium"),
            Self::Allowed | Self::Unknown => (1, "Informational"),
        };
        event["severity_id"] = json!(severity.0);
        event["severity"] = json!(severity.1);
    }
}

/// The activity of an action such as `http.post` or `sql.delete`.
fn activity(action: &str) -> (u64, &'static str) {
    let word = action.split(['.', '_', '-']).nth(1).unwrap_or(action);
    match word {
        "post" | "insert" | "create" => (1, "Create"),
        "get" | "head" | "options" | "select" | "list" | "read" | "show" | "watch" => (2, "Read"),
        "put" | "patch" | "update" | "alter" | "merge" => (3, "Update"),
        "delete" | "drop" | "truncate" => (4, "Delete"),
        _ => (99, "Other"),
    }
}

/// What every event has.
fn base(class: &Class, activity: (u64, &str), time: i64, start: Option<&v1::FlowStart>) -> Value {
    let who = start.and_then(|start| start.principal.clone()).unwrap_or_default();
    let task = if who.task.is_empty() { String::new() } else { format!("/{}", who.task) };
    let agent = if who.agent.is_empty() { "unknown" } else { &who.agent };
    let host = if who.host.is_empty() { "unknown" } else { &who.host };
    let mut process = json!({ "pid": who.pid, "name": who.comm, "cmd_line": who.argv.join(" ") });
    if let Some(name) = who.exe.rsplit('/').next().filter(|name| !name.is_empty()) {
        // Regular File.
        process["file"] = json!({ "name": name, "path": who.exe, "type_id": 1 });
    }
    json!({
        "category_uid": class.category.0,
        "category_name": class.category.1,
        "class_uid": class.uid,
        "class_name": class.name,
        "activity_id": activity.0,
        "activity_name": activity.1,
        "type_uid": class.uid * 100 + activity.0,
        "time": time / MS,
        "actor": {
            // System: an agent is no person.
            "user": { "name": agent, "uid": format!("{host}/{agent}{task}"), "type_id": 3 },
            "process": process,
        },
        "src_endpoint": { "name": host },
        "metadata": {
            "version": VERSION,
            "profiles": class.profiles,
            "product": {
                "name": "Enforcer",
                "vendor_name": "Enforcer",
                "version": env!("CARGO_PKG_VERSION"),
            },
        },
    })
}

/// Where something goes: a name when there is one, the address when it is known.
fn endpoint(name: &str, address: &str, port: u32) -> Value {
    let mut found = json!({ "port": port });
    if !name.is_empty() {
        found["hostname"] = json!(name);
    }
    if !address.is_empty() {
        found["ip"] = json!(address);
    }
    if name.is_empty() && address.is_empty() {
        found["name"] = json!("unknown");
    }
    found
}

/// The event of an operation. Times are milliseconds since the Unix epoch.
pub(super) fn operation(flow: FlowId, start: Option<&v1::FlowStart>, exchange: &Exchange) -> Value {
    let asked = exchange.asked.clone().unwrap_or_default();
    let mut event = base(&API, activity(&asked.action), exchange.first_ns, start);
    let decision = exchange.decisions.last().map(|(_, decision)| decision);
    let decided = match decision.map(verdict) {
        Some("allow") => Decided::Allowed,
        Some("deny") => Decided::Denied,
        _ => Decided::Unknown,
    };
    decided.put(&mut event);
    event["metadata"]["uid"] = json!(exchange.id_text());
    event["metadata"]["correlation_uid"] = json!(flow.to_string());
    let upstream = exchange.forwarded.as_ref().map_or("", |(_, left)| left.upstream.as_str());
    let address = upstream.parse::<SocketAddr>().map(|to| to.ip().to_string());
    event["dst_endpoint"] = endpoint(&asked.name, &address.unwrap_or_default(), asked.port);
    let action = if asked.action.is_empty() { "unknown" } else { &asked.action };
    let target = if asked.target.is_empty() { "unknown" } else { &asked.target };
    event["api"] = json!({ "operation": action, "service": { "name": target } });
    event["resources"] = json!([{ "name": asked.resource, "type": asked.protocol }]);
    let method = exchange.fact("http.method");
    if method.is_some() {
        event["http_request"] = json!({
            "url": {
                "url_string": asked.resource,
                "hostname": asked.name,
                "path": exchange.fact("http.path"),
                "scheme": exchange.fact("http.scheme"),
                "port": asked.port,
            },
        });
    }
    if let Some((_, head)) = exchange.head.as_ref().filter(|(_, head)| head.status > 0) {
        event["http_response"] = json!({ "code": head.status });
    }
    let outcome = exchange.end.as_ref().map_or("", |(_, end)| end.outcome.as_str());
    let status = match outcome {
        "complete" => (1, "Success"),
        "" => (0, "Unknown"),
        _ => (2, "Failure"),
    };
    event["status_id"] = json!(status.0);
    event["status"] = json!(status.1);
    event["status_detail"] = json!(outcome);
    event["start_time"] = json!(exchange.first_ns / MS);
    if let Some((at, _)) = &exchange.end {
        event["end_time"] = json!(at / MS);
    }
    event["unmapped"] = json!({ "digest": asked.digest, "flow": flow.to_string() });
    if let Some(method) = method {
        let place = if METHODS.contains(&method.as_str()) { "http_request" } else { "unmapped" };
        event[place]["http_method"] = json!(method);
    }
    if let Some(decision) = decision {
        event["policy"] = json!({ "uid": decision.policy, "name": decision.rules.join(", ") });
        let more = &mut event["unmapped"];
        more["reason"] = json!(decision.reason);
        more["approval"] = json!(decision.approval);
        more["scope"] = json!(decision.scope);
        more["decided_by"] = json!(decision.decided_by);
        more["held_ms"] = json!(decision.held_ms);
    }
    event
}

/// The event of what the kernel refused; `None` of a flow that it did not refuse.
pub(super) fn refusal(flow: FlowId, at: i64, start: &v1::FlowStart) -> Option<Value> {
    let refusal = start.refusal.as_ref()?;
    let time = if refusal.first_unix_ns > 0 { refusal.first_unix_ns } else { at };
    let mut event = base(&NETWORK, (5, "Refuse"), time, Some(start));
    Decided::Denied.put(&mut event);
    event["status_id"] = json!(2);
    event["status"] = json!("Failure");
    event["status_detail"] = json!(refusal.reason);
    event["metadata"]["uid"] = json!(flow.to_string());
    event["count"] = json!(refusal.count);
    event["start_time"] = json!(time / MS);
    event["end_time"] = json!(refusal.last_unix_ns.max(time) / MS);
    event["dst_endpoint"] = endpoint(&start.name, &start.orig_addr, start.orig_port);
    event["unmapped"] = json!({ "hook": refusal.hook, "destinations": refusal.destinations });
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{events, kinds};
    use super::*;
    use crate::operation::OperationId;
    use crate::record::view::Assembler;
    use enforcer_proto::v1::event::Kind;

    fn start() -> v1::FlowStart {
        let principal = v1::Principal {
            host: "build-7".to_owned(),
            agent: "ci".to_owned(),
            exe: "/usr/bin/curl".to_owned(),
            ..v1::Principal::default()
        };
        v1::FlowStart { principal: Some(principal), ..v1::FlowStart::default() }
    }

    fn exchanges(events: Vec<(Option<OperationId>, Kind)>) -> Vec<Exchange> {
        let mut seen = Assembler::default();
        let mut all = Vec::new();
        for (seq, (id, kind)) in (0..).zip(events) {
            let operation = id.map(|id| id.0.as_bytes().to_vec()).unwrap_or_default();
            let event =
                v1::Event { seq, unix_ns: 5 * MS, operation, kind: Some(kind), prev: vec![] };
            all.extend(seen.add(event));
        }
        all.extend(seen.rest());
        all
    }

    /// What is missing or wrong by the schema: the base event, each class's required attributes, and
    /// the constraints of the objects in them.
    fn faults(event: &Value) -> Vec<&'static str> {
        let mut faults = Vec::new();
        let mut need = |good: bool, what| {
            if !good {
                faults.push(what);
            }
        };
        let text = |value: &Value, keys: &[&str]| {
            keys.iter().any(|key| value[key].as_str().is_some_and(|text| !text.is_empty()))
        };
        for key in ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid"] {
            need(event[key].is_i64() || event[key].is_u64(), key);
        }
        let number = |key: &str| event[key].as_u64().unwrap_or(u64::MAX / 200);
        need(number("type_uid") == number("class_uid") * 100 + number("activity_id"), "type");
        need(number("category_uid") == number("class_uid") / 1000, "category");
        need(event["metadata"]["version"] == VERSION, "metadata.version");
        need(text(&event["metadata"]["product"], &["vendor_name"]), "product.vendor_name");
        need([0, 1, 2].contains(&number("action_id")), "action_id");
        need(text(&event["actor"]["user"], &["name", "uid"]), "actor");
        let file = &event["actor"]["process"]["file"];
        need(file.is_null() || (text(file, &["name"]) && file["type_id"].is_u64()), "file");
        for place in ["src_endpoint", "dst_endpoint"] {
            need(text(&event[place], &["ip", "name", "hostname"]), "endpoint");
        }
        if number("class_uid") == API.uid {
            need(text(&event["api"], &["operation"]), "api.operation");
        }
        let answer = &event["http_response"];
        need(answer.is_null() || answer["code"].is_u64(), "http_response.code");
        let method = event["http_request"]["http_method"].as_str();
        need(method.is_none_or(|method| METHODS.contains(&method)), "http_method");
        for key in event.as_object().into_iter().flat_map(|event| event.keys()) {
            need(known(event, key), "an unknown attribute");
        }
        faults
    }

    /// Whether the event's class has such an attribute, by itself or by a profile that the event
    /// names.
    fn known(event: &Value, key: &str) -> bool {
        let base = "activity_id activity_name category_name category_uid class_name class_uid count \
                    duration end_time message metadata severity severity_id start_time status \
                    status_code status_detail status_id time timezone_offset type_name type_uid \
                    unmapped";
        let class = match event["class_uid"].as_u64() {
            Some(6003) => {
                "actor api dst_endpoint http_request http_response resources src_endpoint"
            }
            Some(4001) => {
                "app_name connection_info dst_endpoint proxy src_endpoint tls traffic url"
            }
            _ => "",
        };
        let profiles = event["metadata"]["profiles"].as_array().into_iter().flatten();
        let profiles = profiles.map(|profile| match profile.as_str() {
            Some("host") => "actor device",
            Some("security_control") => {
                "action action_id disposition disposition_id firewall_rule is_alert policy"
            }
            _ => "",
        });
        let mut all = [base, class].into_iter().chain(profiles).flat_map(str::split_whitespace);
        all.any(|attribute| attribute == key)
    }

    #[test]
    fn every_kind_of_operation_has_what_its_class_requires() {
        let flow = FlowId::new();
        let all: Vec<Exchange> = kinds().into_iter().flat_map(exchanges).collect();
        assert_eq!(all.len(), 8);
        for exchange in &all {
            for start in [Some(&start()), Some(&v1::FlowStart::default()), None] {
                let event = operation(flow, start, exchange);
                assert_eq!(faults(&event), [""; 0], "{event:#}");
            }
        }
        assert_eq!(faults(&operation(flow, None, &Exchange::default())), [""; 0]);
        // What is missing is found.
        let mut event = operation(flow, None, &all[0]);
        event.as_object_mut().unwrap().remove("api");
        event["type_uid"] = json!(7);
        assert_eq!(faults(&event), ["type", "api.operation"]);
        let mut event = operation(flow, None, &all[0]);
        event["http_request"]["http_method"] = json!("PATCH");
        event["device"] = json!({});
        assert_eq!(faults(&event), ["http_method", "an unknown attribute"]);
    }

    #[test]
    fn only_methods_that_the_schema_names_stand_in_the_request() {
        for (method, named) in [("POST", true), ("PATCH", false), ("get", false)] {
            let mut all = events();
            for (_, kind) in &mut all {
                let Kind::OperationAsked(asked) = kind else { continue };
                let facts = asked.facts.iter_mut().filter(|fact| fact.name == "http.method");
                facts.for_each(|fact| {
                    fact.value = Some(v1::fact::Value::Text(method.into()));
                });
            }
            let event = operation(FlowId::new(), Some(&start()), &exchanges(all)[0]);
            assert_eq!(faults(&event), [""; 0], "{event:#}");
            let place = if named { "/http_request/http_method" } else { "/unmapped/http_method" };
            assert_eq!(event.pointer(place), Some(&json!(method)), "{event:#}");
        }
    }

    #[test]
    fn an_operation_says_who_did_what_where_and_what_was_decided() {
        let flow = FlowId::new();
        let event = operation(flow, Some(&start()), &exchanges(events())[0]);
        for (path, wanted) in [
            ("/type_uid", json!(600_301)),
            ("/time", json!(5)),
            ("/actor/user/uid", json!("build-7/ci")),
            ("/actor/process/file/name", json!("curl")),
            ("/dst_endpoint/ip", json!("10.0.0.5")),
            ("/dst_endpoint/hostname", json!("api.test")),
            ("/api/operation", json!("http.post")),
            ("/http_request/url/path", json!("/v1/x")),
            ("/http_response/code", json!(200)),
            ("/action", json!("Allowed")),
            ("/status_id", json!(1)),
            ("/unmapped/decided_by/0", json!("alice")),
            ("/metadata/correlation_uid", json!(flow.to_string())),
        ] {
            assert_eq!(event.pointer(path), Some(&wanted), "{path} in {event:#}");
        }
        let denied = &exchanges(kinds().swap_remove(3))[0];
        let event = operation(flow, Some(&start()), denied);
        assert_eq!((&event["disposition"], &event["severity_id"]), (&json!("Blocked"), &json!(3)));
        let cases =
            [("http.get", 2), ("sql.drop_table", 4), ("sql.update", 3), ("x", 99), ("", 99)];
        for (action, wanted) in cases {
            assert_eq!(activity(action).0, wanted, "{action}");
        }
    }

    #[test]
    fn what_the_kernel_refused_is_a_refused_connection() {
        let refused = v1::KernelRefusal {
            hook: "connect4".to_owned(),
            reason: "protocol".to_owned(),
            count: 12,
            first_unix_ns: 7 * MS,
            last_unix_ns: 9 * MS,
            destinations: vec!["quic.test:443".to_owned()],
        };
        assert_eq!(refusal(FlowId::new(), 5, &start()), None);
        let start = v1::FlowStart {
            name: "quic.test".to_owned(),
            orig_port: 443,
            refusal: Some(refused),
            ..start()
        };
        let event = refusal(FlowId::new(), 5 * MS, &start).unwrap();
        assert_eq!(faults(&event), [""; 0], "{event:#}");
        assert_eq!((&event["type_uid"], &event["count"]), (&json!(400_105), &json!(12)));
        assert_eq!((&event["start_time"], &event["end_time"]), (&json!(7), &json!(9)));
        assert_eq!(event["dst_endpoint"]["hostname"], "quic.test");
        // Who did it has a place there by a profile only.
        let mut event = event;
        event["metadata"]["profiles"] = json!(["security_control"]);
        assert_eq!(faults(&event), ["an unknown attribute"]);
    }
}
