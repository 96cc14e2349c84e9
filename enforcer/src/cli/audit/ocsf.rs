//! A record as an event of OCSF 1.4 (<https://schema.ocsf.io/1.4.0>).
//!
//! Sign-ins are Authentication, what is done to members and their tokens and certificates is Entity
//! Management, everything else that people and daemons call is API Activity.

use enforcer_proto::v1;
use serde_json::{Value, json};

/// The schema's version.
const VERSION: &str = "1.4.0";

/// A class, in its category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// <https://schema.ocsf.io/1.4.0/classes/authentication>
    Authentication,
    /// <https://schema.ocsf.io/1.4.0/classes/entity_management>
    EntityManagement,
    /// <https://schema.ocsf.io/1.4.0/classes/api_activity>
    ApiActivity,
}

impl Class {
    fn of(code: &str) -> Self {
        match code.split_once('.').map_or(code, |(kind, _)| kind) {
            "signin" | "session" => Self::Authentication,
            "token" | "join" | "certificate" | "member" => Self::EntityManagement,
            _ => Self::ApiActivity,
        }
    }

    fn uid(self) -> u64 {
        match self {
            Self::Authentication => 3002,
            Self::EntityManagement => 3004,
            Self::ApiActivity => 6003,
        }
    }

    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Authentication => ("Identity & Access Management", "Authentication"),
            Self::EntityManagement => ("Identity & Access Management", "Entity Management"),
            Self::ApiActivity => ("Application Activity", "API Activity"),
        }
    }
}

/// The activity's number in its class, and its name.
fn activity(class: Class, code: &str) -> (u64, &'static str) {
    match (class, code) {
        (Class::Authentication, "session.ended") => (2, "Logoff"),
        (Class::Authentication, _) => (1, "Logon"),
        (_, "token.created" | "join.accepted" | "join.refused" | "approval.requested")
        | (_, "task.declared") => (1, "Create"),
        (_, "member.removed" | "grant.revoked" | "approval.cancelled" | "vote.withdrawn") => {
            (4, "Delete")
        }
        (_, code) if code.starts_with("clock.") || code.ends_with(".refused") => (99, "Other"),
        _ => (3, "Update"),
    }
}

/// Informational, Medium, or High.
fn severity(code: &str) -> (u64, &'static str) {
    match code {
        "glass.broken" | "clock.doubted" => (4, "High"),
        code if code.ends_with(".refused") => (3, "Medium"),
        _ => (1, "Informational"),
    }
}

/// A user of `role/name`: User, Admin, or System.
fn user(who: &str) -> Value {
    let (role, name) = who.split_once('/').unwrap_or(("server", who));
    let kind = match role {
        "reviewer" | "viewer" | "policy-admin" => 1,
        "admin" | "local" => 2,
        _ => 3,
    };
    let name = if name.is_empty() { "unknown" } else { name };
    json!({ "name": name, "uid": who, "type_id": kind })
}

/// Where it was done, as far as it is known: a person's machine is not.
fn machine(who: &str) -> &str {
    match who.split_once('/') {
        Some(("daemon", host)) if !host.is_empty() => host,
        None if who == "server" => "enforcer server",
        Some(("local", _)) => "enforcer server",
        _ => "unknown",
    }
}

/// The event of a record. Times are milliseconds since the Unix epoch.
pub(super) fn event(record: &v1::AuditRecord) -> Value {
    let v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, prev } = record;
    let class = Class::of(code);
    let (category_name, class_name) = class.names();
    let (activity_id, activity_name) = activity(class, code);
    let (severity_id, severity) = severity(code);
    let (status_id, status) =
        if code.ends_with(".refused") { (2, "Failure") } else { (1, "Success") };
    let mut event = json!({
        "category_uid": class.uid() / 1000,
        "category_name": category_name,
        "class_uid": class.uid(),
        "class_name": class_name,
        "activity_id": activity_id,
        "activity_name": activity_name,
        "type_uid": class.uid() * 100 + activity_id,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "time": unix_ms,
        "message": detail,
        "actor": { "user": user(actor) },
        "metadata": {
            "version": VERSION,
            "product": {
                "name": "Enforcer",
                "vendor_name": "Enforcer",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": seq.to_string(),
            "sequence": seq,
            "event_code": code,
        },
        "unmapped": { "prev": hex::encode(prev), "hash": super::hash_of(record) },
    });
    match class {
        Class::Authentication => {
            let whom = if code == "session.ended" { subject } else { actor };
            event["user"] = user(whom);
            event["service"] = json!({ "name": "enforcer console" });
            if code == "signin.refused" && !subject.is_empty() {
                event["src_endpoint"] = json!({ "ip": subject });
            }
        }
        Class::EntityManagement => {
            let kind = code.split_once('.').map_or(code.as_str(), |(kind, _)| kind);
            let kind = if kind == "join" { "member" } else { kind };
            // A token that could not be read has no id.
            let uid = if subject.is_empty() { "unknown" } else { subject };
            event["entity"] = json!({ "name": uid, "uid": uid, "type": kind });
            event["comment"] = json!(detail);
        }
        Class::ApiActivity => {
            event["api"] = json!({ "operation": code, "service": { "name": "enforcer server" } });
            event["src_endpoint"] = json!({ "name": machine(actor) });
            event["resources"] = json!([{ "uid": subject }]);
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::audit::Code;

    fn record(code: Code, actor: &str, subject: &str) -> v1::AuditRecord {
        v1::AuditRecord {
            seq: 7,
            unix_ms: 5,
            code: code.as_str().to_owned(),
            actor: actor.to_owned(),
            subject: subject.to_owned(),
            detail: "d".to_owned(),
            prev: vec![1; 32],
        }
    }

    /// Whether a value has one of these keys with something in it.
    fn one_of(value: &Value, keys: &[&str]) -> bool {
        keys.iter().any(|key| value[key].as_str().is_some_and(|text| !text.is_empty()))
    }

    /// What is missing or wrong by the schema: the base event, each class's required attributes, and
    /// the constraints of the objects in them.
    fn faults(event: &Value) -> Vec<String> {
        let mut faults = Vec::new();
        let mut need = |good: bool, what: &str| {
            if !good {
                faults.push(what.to_owned());
            }
        };
        for key in ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid"] {
            need(event[key].is_i64() || event[key].is_u64(), key);
        }
        let number = |key: &str| event[key].as_u64().unwrap_or(u64::MAX / 200);
        need(number("type_uid") == number("class_uid") * 100 + number("activity_id"), "type");
        need(number("category_uid") == number("class_uid") / 1000, "category");
        need(event["metadata"]["version"] == VERSION, "metadata.version");
        need(one_of(&event["metadata"]["product"], &["vendor_name"]), "product.vendor_name");
        let endpoint = |value: &Value| one_of(value, &["ip", "uid", "name", "hostname", "domain"]);
        need(one_of(&event["actor"]["user"], &["name", "uid"]), "actor");
        if !event["src_endpoint"].is_null() {
            need(endpoint(&event["src_endpoint"]), "src_endpoint");
        }
        let activities: &[u64] = match number("class_uid") {
            3002 => {
                need(one_of(&event["user"], &["name", "uid"]), "user");
                need(one_of(&event["service"], &["name", "uid"]), "service");
                &[1, 2]
            }
            3004 => {
                need(one_of(&event["entity"], &["name", "uid"]), "entity");
                &[1, 3, 4]
            }
            6003 => {
                need(one_of(&event["api"], &["operation"]), "api.operation");
                need(event["src_endpoint"].is_object(), "src_endpoint is required");
                &[1, 3, 4, 99]
            }
            _ => &[],
        };
        need(activities.contains(&number("activity_id")), "activity");
        let base = "activity_id activity_name actor category_name category_uid class_name \
                    class_uid message metadata severity severity_id src_endpoint status \
                    status_detail status_id time type_name type_uid unmapped";
        let more = match number("class_uid") {
            3002 => "dst_endpoint service session user",
            3004 => "comment entity entity_result",
            6003 => "api dst_endpoint http_request http_response resources",
            _ => "",
        };
        for key in event.as_object().unwrap().keys() {
            let mut known = base.split_whitespace().chain(more.split_whitespace());
            need(known.any(|known| known == key), key);
        }
        faults
    }

    #[test]
    fn every_code_has_what_its_class_requires() {
        for code in Code::ALL.iter().copied() {
            for (actor, subject) in
                [("reviewer/ann", "id"), ("", ""), ("server", "clock"), ("unknown", "192.0.2.1")]
            {
                let event = event(&record(code, actor, subject));
                assert_eq!(faults(&event), [""; 0], "{event:#}");
            }
        }
        // What is missing is found.
        let mut event = event(&record(Code::ApprovalVoted, "reviewer/ann", "id"));
        event.as_object_mut().unwrap().remove("api");
        event["type_uid"] = json!(1);
        event["entity"] = json!({ "name": "x" });
        assert_eq!(faults(&event), ["type", "api.operation", "entity"]);
    }

    #[test]
    fn a_person_is_no_machine() {
        for (actor, name) in [
            ("reviewer/ann", "unknown"),
            ("admin/olaf", "unknown"),
            ("daemon/build-7", "build-7"),
            ("daemon/", "unknown"),
            ("local/0", "enforcer server"),
            ("server", "enforcer server"),
            ("", "unknown"),
        ] {
            let event = event(&record(Code::ApprovalVoted, actor, "id"));
            assert_eq!(event["src_endpoint"]["name"], name, "{actor}");
        }
    }

    #[test]
    fn codes_have_their_class_activity_and_severity() {
        let of = |code| {
            let event = event(&record(code, "reviewer/ann", "daemon/h1"));
            ["type_uid", "status_id", "severity_id"].map(|key| event[key].as_u64().unwrap())
        };
        assert_eq!(of(Code::SignedIn), [300_201, 1, 1]);
        assert_eq!(of(Code::SignInRefused), [300_201, 2, 3]);
        assert_eq!(of(Code::SessionEnded), [300_202, 1, 1]);
        assert_eq!(of(Code::JoinRefused), [300_401, 2, 3]);
        assert_eq!(of(Code::MemberRemoved), [300_404, 1, 1]);
        assert_eq!(of(Code::CertificateRenewed), [300_403, 1, 1]);
        assert_eq!(of(Code::ApprovalRequested), [600_301, 1, 1]);
        assert_eq!(of(Code::VoteRefused), [600_399, 2, 3]);
        assert_eq!(of(Code::GlassBroken), [600_303, 1, 4]);
        assert_eq!(of(Code::ClockDoubted), [600_399, 1, 4]);
        let ended = event(&record(Code::SessionEnded, "admin/olaf", "reviewer/ann"));
        assert_eq!(ended["user"]["name"], "ann");
        assert_eq!(ended["actor"]["user"]["name"], "olaf");
    }
}
