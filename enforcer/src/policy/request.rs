//! Turns a principal and an operation into what Cedar judges: entities and context.
//!
//! Only facts enter; a fact that is missing or of another kind than expected is
//! an error, and the operation is denied.

use super::schema::{DNS, GRPC, OPAQUE, Types, uid};
use super::sql;
use crate::operation::{Fact, Operation, Protocol};
use crate::principal::Principal;
use cedar_policy::{Context, Entity, RestrictedExpression as Value};
use std::collections::{HashMap, HashSet};

/// The id of the entity that carries an operation's headers.
const HEADERS: &str = "request";

/// The facts' prefix for headers.
pub(super) const HEADER: &str = "http.header.";

/// Why an operation cannot be judged.
pub(super) type Unjudgeable = String;

/// The principal's entity.
pub(super) fn agent(principal: &Principal, types: &Types) -> Result<Entity, Unjudgeable> {
    let text = |text: &str| Value::new_string(text.to_owned());
    let mut attrs = HashMap::with_capacity(6);
    attrs.insert("agent".to_owned(), text(principal.agent.as_str()));
    attrs.insert("host".to_owned(), text(&principal.host));
    let uid_value = Value::new_long(i64::from(principal.process.uid));
    attrs.insert("uid".to_owned(), uid_value);
    if let Some(task) = &principal.task {
        attrs.insert("task".to_owned(), text(task));
    }
    // A path that is not text can match no rule, and so can only lose permits.
    if let Some(exe) = principal.process.exe.as_deref().and_then(|p| p.to_str()) {
        attrs.insert("exe".to_owned(), text(exe));
    }
    if let Some(hash) = &principal.process.exe_sha256 {
        attrs.insert("exe_sha256".to_owned(), text(hash));
    }
    Entity::new(uid(&types.agent, principal.agent.as_str()), attrs, HashSet::new())
        .map_err(|e| format!("the principal cannot be judged: {e}"))
}

/// The entity that carries the headers.
pub(super) fn headers(op: &Operation, types: &Types) -> Result<Entity, Unjudgeable> {
    let tags: Vec<(String, Value)> = op
        .facts()
        .iter()
        .filter_map(|(name, value)| {
            let value = match value {
                Fact::Text(text) => text.clone(),
                Fact::List(items) => items.join(", "),
                Fact::Number(number) => number.to_string(),
                Fact::Flag(flag) => flag.to_string(),
            };
            Some((name.strip_prefix(HEADER)?.to_owned(), Value::new_string(value)))
        })
        .collect();
    Entity::new_with_tags(uid(&types.headers, HEADERS), [], [], tags)
        .map_err(|e| format!("the headers cannot be judged: {e}"))
}

/// The context of an operation with this action.
pub(super) fn context(op: &Operation, types: &Types) -> Result<Context, Unjudgeable> {
    let mut pairs = Vec::with_capacity(16);
    pairs.push(("host".to_owned(), Value::new_string(op.name.clone())));
    pairs.push(("port".to_owned(), Value::new_long(i64::from(op.port))));
    match op.action.as_str() {
        OPAQUE => {}
        DNS => {
            if op.get("dns.type").is_some() {
                pairs.push(("record_type".to_owned(), text(op, "dns.type")?));
            }
        }
        _ if op.protocol == Protocol::Postgres => sql::context(op, types, &mut pairs)?,
        _ => http(op, types, &mut pairs)?,
    }
    Context::from_pairs(pairs).map_err(|e| format!("the operation cannot be judged: {e}"))
}

fn http(
    op: &Operation,
    types: &Types,
    pairs: &mut Vec<(String, Value)>,
) -> Result<(), Unjudgeable> {
    for (attr, fact) in [
        ("method", "http.method"),
        ("scheme", "http.scheme"),
        ("authority", "http.authority"),
        ("path", "http.path"),
    ] {
        pairs.push((attr.to_owned(), text(op, fact)?));
    }
    if let Some(Fact::Text(path)) = op.get("http.path")
        && ambiguous(path)
    {
        return Err(format!(
            "the path {path:?} has dot segments or encoded letters, so what it means is up to the server"
        ));
    }
    let query = match op.get("http.query") {
        Some(_) => text(op, "http.query")?,
        None => Value::new_string(String::new()),
    };
    pairs.push(("query".to_owned(), query));
    let headers = Value::new_entity_uid(uid(&types.headers, HEADERS));
    pairs.push(("headers".to_owned(), headers));
    match op.get("body.length") {
        Some(Fact::Number(length)) => {
            pairs.push(("body_length".to_owned(), Value::new_long(*length)));
        }
        Some(_) => return Err("the fact `body.length` is not a number".to_owned()),
        None => {}
    }
    if op.get("body.sha256").is_some() {
        pairs.push(("body_sha256".to_owned(), text(op, "body.sha256")?));
    }
    if op.action == GRPC {
        pairs.push(("grpc_service".to_owned(), text(op, "grpc.service")?));
        pairs.push(("grpc_method".to_owned(), text(op, "grpc.method")?));
    }
    Ok(())
}

/// A fact that is a text.
pub(super) fn text(op: &Operation, fact: &str) -> Result<Value, Unjudgeable> {
    match op.get(fact) {
        Some(Fact::Text(text)) => Ok(Value::new_string(text.clone())),
        Some(_) => Err(format!("the fact `{fact}` is not a text")),
        None => Err(format!("the fact `{fact}` is missing")),
    }
}

/// Whether servers disagree on what a path means, so that a rule on `/public/*` would let
/// `/public/..%2fadmin` through, or one on `/secrets` would miss `/%73ecrets`: a `.` or `..`
/// segment, also percent-encoded, cut off by `\` or followed by `;` parameters, and letters
/// or digits that are percent-encoded, which no client needs to do (RFC 3986 sections 2.3 and
/// 5.2.4). Encoding is taken off layer by layer, as some servers do.
fn ambiguous(path: &str) -> bool {
    if !path.contains(['.', '%']) {
        return false;
    }
    let mut decoded = path.as_bytes().to_vec();
    // A path with more layers than these is nobody's.
    for _ in 0..4 {
        let dotted = decoded
            .split(|b| matches!(b, b'/' | b'\\'))
            .map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default())
            .any(|segment| segment == b"." || segment == b"..");
        if dotted {
            return true;
        }
        match percent_decode(&decoded) {
            None => return true,
            Some(next) if next == decoded => return false,
            Some(next) => decoded = next,
        }
    }
    true
}

/// Takes one layer of percent-encoding off; `None` when a letter or digit was encoded.
fn percent_decode(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, tail)) = rest.split_first() {
        let digits = (*first == b'%').then(|| tail.get(..2)).flatten();
        let mut byte = [0];
        match digits.filter(|digits| hex::decode_to_slice(digits, &mut byte).is_ok()) {
            Some(_) if byte[0].is_ascii_alphanumeric() => return None,
            Some(digits) => {
                out.push(byte[0]);
                rest = tail.get(digits.len()..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/repos/a/b", false)]
    #[case("/a.b/..c/d..", false)]
    #[case("/", false)]
    #[case("*", false)]
    #[case("/group%2Fproject", false)]
    #[case("/100%", false)]
    #[case("/%zz", false)]
    #[case("/.well-known/x", false)]
    #[case("/lib%2Fclass%2Erb", false)]
    #[case("/~user/%7Euser", false)]
    #[case("/%E4%B8%AD", false)]
    #[case("/%73ecrets", true)]
    #[case("/%2573ecrets", true)]
    #[case("/a/../b", true)]
    #[case("/a/./b", true)]
    #[case("/a/..", true)]
    #[case("/a/%2e%2E/b", true)]
    #[case("/a/.%2e/b", true)]
    #[case("/a/..%2fb", true)]
    #[case("/a%2f..%2fb", true)]
    #[case("/a/..%5cb", true)]
    #[case("/a\\..\\b", true)]
    #[case("/a/..;x=1/b", true)]
    #[case("/a/%252e%252e/b", true)]
    #[case("/a/%2525252525252561", true)]
    fn paths_that_servers_read_differently(#[case] path: &str, #[case] yes: bool) {
        assert_eq!(ambiguous(path), yes, "{path}");
    }
}
