//! Finds comparisons that type-check and can still never be true.
//!
//! Works on Cedar's JSON form of a rule, where every comparison has a known shape.

use super::Rule;
use crate::policy::problem::{Problems, Source};
use crate::protocol::postgres::sql::flags;
use cedar_policy::{Effect, Policy};
use serde_json::Value;

/// What costs something to know, or differs from operation to operation.
const COSTLY: [&str; 9] = [
    "body_length",
    "body_sha256",
    "headers",
    "exe",
    "exe_sha256",
    "columns",
    "looked_at",
    "parameters",
    "statement",
];

/// The names of all attributes that a rule's conditions mention.
pub(super) fn attributes(policy: &Policy) -> Vec<String> {
    let all = || COSTLY.map(str::to_owned).to_vec();
    // A rule that Cedar cannot print is taken to mention all.
    let Ok(json) = policy.to_json() else {
        return all();
    };
    let mut names = Vec::new();
    let (mut looks, mut of_attributes) = (0, 0);
    let context = |node: &Value| node.get("Var").and_then(Value::as_str) == Some("context");
    walk(&json, &mut |node| {
        if let Some(name) = node.get("attr").and_then(Value::as_str) {
            names.push(name.to_owned());
            of_attributes += usize::from(node.get("left").is_some_and(context));
        }
        looks += usize::from(context(node));
    });
    if looks != of_attributes {
        // It asks for the context as a whole.
        names.extend(all());
    }
    names
}

/// Reports comparisons of `rule` that can never be true.
pub(super) fn check(source: &Source<'_>, rule: &Rule, problems: &mut Problems) {
    let Ok(json) = rule.policy.to_json() else {
        return;
    };
    walk(&json, &mut |node| {
        if let Some((what, help)) = fault(node).or_else(|| sql(node)) {
            problems.error((source, &rule.span), format!("rule `{}`: {what}", rule.id), help);
        }
    });
    if by_text(rule, &json) {
        problems.warning(
            (source, &rule.span),
            format!("rule `{}` refuses statements by their text", rule.id),
            "the same statement has many texts (comments, quotes, escapes): look at the action, \
             `tables_written`, `functions` and `flags`, or name the texts that are meant",
        );
    }
}

/// Whether a statement's text is looked at to refuse it: in the `when` of a forbid, or the
/// `unless` of a permit. The other way round it is a list of what is meant.
fn by_text(rule: &Rule, json: &Value) -> bool {
    let refuses = match rule.effect {
        Effect::Forbid => "when",
        Effect::Permit => "unless",
    };
    let conditions = json.get("conditions").and_then(Value::as_array).into_iter().flatten();
    let mut found = false;
    for condition in conditions.filter(|c| c.get("kind").and_then(Value::as_str) == Some(refuses)) {
        walk(condition, &mut |node| found |= attribute(node) == Some("statement"));
    }
    found
}

/// What can never be in a set of names.
fn sql(node: &Value) -> Option<(String, &'static str)> {
    let asked = ["contains", "containsAny", "containsAll"].iter().find_map(|op| node.get(op))?;
    let of = attribute(asked.get("left")?)?;
    let right = asked.get("right")?;
    let one = text(right);
    let several = right.get("Set").and_then(Value::as_array).into_iter().flatten();
    let mut values = one.into_iter().chain(several.filter_map(text));
    let (dots, help) = match of {
        "tables_read" | "tables_written" => (1, "tables are \"schema.table\""),
        "functions" => {
            (1, "functions are \"schema.function\", those of PostgreSQL \"pg_catalog.\"")
        }
        "flags" => {
            let never = values.find(|value| !flags::ALL.contains(value))?;
            return Some((
                format!("no statement has the flag {never:?}"),
                "the guide on PostgreSQL lists the flags",
            ));
        }
        "columns" | "looked_at" => (2, "columns are \"schema.table.column\""),
        _ => return None,
    };
    let never = values.find(|value| value.matches('.').count() < dots)?;
    Some((format!("`{of}` never has {never:?}"), help))
}

fn walk(node: &Value, see: &mut impl FnMut(&Value)) {
    see(node);
    match node {
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        Value::Object(fields) => fields.values().for_each(|value| walk(value, see)),
        _ => {}
    }
}

/// What can never be true about one node, and what to write instead.
fn fault(node: &Value) -> Option<(String, &'static str)> {
    for operator in ["hasTag", "getTag"] {
        if let Some(name) = node.get(operator).and_then(|n| text(n.get("right")?))
            && name.bytes().any(|b| b.is_ascii_uppercase())
        {
            return Some((
                format!("no header is named {name:?}"),
                "write header names in lower case",
            ));
        }
    }
    let equal = node.get("==").or_else(|| node.get("!="))?;
    let (left, right) = (equal.get("left")?, equal.get("right")?);
    let (attribute, value) = match (attribute(left), text(right)) {
        (Some(attribute), Some(value)) => (attribute, value),
        _ => (attribute(right)?, text(left)?),
    };
    let upper = value.bytes().any(|b| b.is_ascii_uppercase());
    let lower = value.bytes().any(|b| b.is_ascii_lowercase());
    let (never, help) = match attribute {
        "method" => (lower, "write methods in capitals"),
        "scheme" => (!["http", "https"].contains(&value), "a scheme is \"http\" or \"https\""),
        "host" => (upper, "write host names in lower case"),
        "protocol" => {
            let known = ["http", "postgres", "opaque"].contains(&value);
            (!known, "a protocol is \"http\", \"postgres\" or \"opaque\"")
        }
        "path" => (!value.starts_with('/') && value != "*", "a path begins with `/`"),
        "exe" => (!value.starts_with('/'), "an executable's path begins with `/`"),
        "exe_sha256" | "body_sha256" => (
            value.len() != 64 || upper || hex::decode(value).is_err(),
            "a SHA-256 is 64 hexadecimal digits in lower case",
        ),
        _ => return None,
    };
    never.then(|| (format!("`{attribute}` is never {value:?}"), help))
}

/// The attribute that a node takes of the context, principal or resource.
///
/// The agent's `host` is the configured name, which is not lower-cased, so only
/// the context's counts.
fn attribute(node: &Value) -> Option<&str> {
    let access = node.get(".")?;
    let name = access.get("attr")?.as_str()?;
    let of = access.get("left")?.get("Var")?.as_str()?;
    (name != "host" || of == "context").then_some(name)
}

/// The text of a literal.
fn text(node: &Value) -> Option<&str> {
    node.get("Value")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_all_of_the_context_asks_for_each_of_it() {
        let attributes = |condition: &str| {
            let text = format!("permit (principal, action, resource) when {{ {condition} }};");
            attributes(&text.parse::<Policy>().unwrap())
        };
        let asks = |condition: &str| attributes(condition).iter().any(|name| name == "statement");
        assert!(!asks("context.path like \"/a*\" && context has headers"));
        assert!(asks("context has statement"));
        assert!(asks("context == {a: 1}"));
        assert!(asks("[context].contains(context) && context.path == \"/\""));
    }
}
