//! Steps of tasks: what is approved ahead of time, what its digest covers, what it lets through.
//!
//! Pure, and the same for daemon, server and reviewer's tool. A step lets through exactly one
//! operation, by its digest, or every operation that a [`Pattern`] describes; a pattern never
//! matches what its own text does not show. Nothing that an agent claims about an operation
//! enters: only the operation as the proxy read it, and the agent and task of its cgroup.

use super::convert::{ConvertError, fold_scopes};
use crate::operation::{Digest, Fact, Operation, Protocol};
use crate::policy::sql;
use enforcer_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::str::FromStr as _;

/// Domain and version of a step's digest.
const DOMAIN: &[u8] = b"enforcer step v1\0";

/// Steps of one task.
pub const STEPS: usize = 32;
/// Bytes of an objective, and of a justification.
pub const TEXT: usize = 2048;
/// Bytes of one part of a pattern.
const PART: usize = 512;
/// Entries of one list of a pattern.
const ENTRIES: usize = 32;

/// Operations that people can approve without seeing each. Every part must fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pattern {
    /// The target's name in policy.
    pub target: String,
    /// The rest, by protocol.
    pub kind: Kind,
}

/// What a pattern says beside the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// HTTP requests with any headers and any body.
    Http {
        /// The method.
        method: String,
        /// Scheme and authority: `https://api.example`.
        origin: String,
        /// The path: `*` is any characters but `/`, `**` any characters.
        path: String,
        /// The same of the query, with `&` for `/`; empty: no query.
        query: String,
    },
    /// SQL statements with any text and parameters that do nothing but this.
    Sql {
        /// `postgres://host:port/database`.
        database: String,
        /// The role that they run as.
        role: String,
        /// Their actions.
        actions: Vec<String>,
        /// The tables that they read or write; `*` is any characters but `.`.
        tables: Vec<String>,
        /// The functions that they call, as tables.
        functions: Vec<String>,
        /// Their flags.
        flags: Vec<String>,
    },
}

/// What a step lets through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// The operation with this digest, as text.
    Exact(String),
    /// What the pattern describes.
    Pattern(Pattern),
}

impl What {
    /// Whether it lets this operation through; the digest is of the operation and its principal.
    pub fn fits(&self, operation: &Operation, digest: &Digest) -> bool {
        match self {
            Self::Exact(exact) => *exact == digest.to_string(),
            Self::Pattern(pattern) => pattern.fits(operation),
        }
    }
}

impl Pattern {
    /// Whether it describes the operation.
    pub fn fits(&self, operation: &Operation) -> bool {
        operation.target == self.target && self.kind.fits(operation)
    }

    /// One line for people.
    pub fn words(&self) -> String {
        match &self.kind {
            Kind::Http { method, origin, path, query } => {
                let sign = if query.is_empty() { "" } else { "?" };
                format!("{method} {origin}{path}{sign}{query}")
            }
            Kind::Sql { database, role, actions, tables, .. } => format!(
                "{} on {} in {database} as {role}",
                actions.join(", "),
                if tables.is_empty() { "no table".to_owned() } else { tables.join(", ") }
            ),
        }
    }

    fn check(&self) -> Result<(), ConvertError> {
        let text = |what: &'static str, text: &str| match text.len() <= PART
            && !text.chars().any(char::is_control)
        {
            true => Ok(()),
            false => Err(ConvertError::Invalid(what)),
        };
        let list = |what: &'static str, items: &[String]| {
            let fits = items.len() <= ENTRIES && items.iter().all(|item| !item.is_empty());
            if !fits {
                return Err(ConvertError::Invalid(what));
            }
            items.iter().try_for_each(|item| text(what, item))
        };
        text("pattern.target", &self.target)?;
        match &self.kind {
            Kind::Http { method, origin, path, query } => {
                text("pattern.method", method)?;
                text("pattern.origin", origin)?;
                text("pattern.path", path)?;
                text("pattern.query", query)?;
                let plain = !method.is_empty() && method.bytes().all(|b| b.is_ascii_uppercase());
                if !plain {
                    return Err(ConvertError::Invalid("pattern.method"));
                }
                if !path.starts_with('/') || two_ways(path) {
                    return Err(ConvertError::Invalid("pattern.path"));
                }
            }
            Kind::Sql { database, role, actions, tables, functions, flags } => {
                text("pattern.database", database)?;
                text("pattern.role", role)?;
                list("pattern.actions", actions)?;
                list("pattern.tables", tables)?;
                list("pattern.functions", functions)?;
                list("pattern.flags", flags)?;
                if actions.is_empty() || actions.iter().any(|action| action.contains('*')) {
                    return Err(ConvertError::Invalid("pattern.actions"));
                }
            }
        }
        Ok(())
    }
}

impl Kind {
    fn fits(&self, op: &Operation) -> bool {
        let is = |name: &str, want: &str| matches!(op.get(name), Some(Fact::Text(t)) if t == want);
        match self {
            Self::Http { method, origin, path, query } => {
                let (Some(Fact::Text(scheme)), Some(Fact::Text(authority))) =
                    (op.get("http.scheme"), op.get("http.authority"))
                else {
                    return false;
                };
                let Some(Fact::Text(asked)) = op.get("http.path") else {
                    return false;
                };
                let asked_query = match op.get("http.query") {
                    None => "",
                    // A `?` with nothing behind it is not what no query shows.
                    Some(Fact::Text(text)) if !text.is_empty() => text,
                    Some(_) => return false,
                };
                op.protocol == Protocol::Http
                    && is("http.method", method)
                    && format!("{scheme}://{authority}") == *origin
                    && !two_ways(asked)
                    && glob(path, asked, '/')
                    && (query.is_empty() == asked_query.is_empty())
                    && glob(query, asked_query, '&')
            }
            Self::Sql { database, role, actions, tables, functions, flags } => {
                // What is not known to be within does not match: also the start of a session,
                // which has none of these but settings that no pattern shows.
                let within = |name: &str, known: &[String]| match op.get(name) {
                    Some(Fact::List(items)) => items
                        .iter()
                        .all(|item| known.iter().any(|pattern| glob(pattern, item, '.'))),
                    _ => false,
                };
                op.protocol == Protocol::Postgres
                    && op.resource == *database
                    && is(sql::ROLE, role)
                    && op.get("sql.session_role").is_none()
                    && actions.contains(&op.action)
                    && within(sql::ACTIONS, actions)
                    && within(sql::TABLES_READ, tables)
                    && within(sql::TABLES_WRITTEN, tables)
                    && within(sql::FUNCTIONS, functions)
                    && within(sql::FLAGS, flags)
            }
        }
    }
}

/// Whether servers could read a path in more than one way: then what a pattern shows is not
/// what runs.
fn two_ways(path: &str) -> bool {
    path.contains(['%', '\\', ';'])
        || path.contains("//")
        || path.split('/').any(|segment| segment == "." || segment == "..")
}

/// Whether the whole text fits: `*` is any characters but the separator, `**` any characters.
fn glob(pattern: &str, text: &str, separator: char) -> bool {
    let text: Vec<char> = text.chars().collect();
    // Which beginnings of the text the pattern so far fits.
    let mut fits = vec![false; text.len() + 1];
    if let Some(first) = fits.first_mut() {
        *first = true;
    }
    let mut signs = pattern.chars().peekable();
    while let Some(sign) = signs.next() {
        let mut next = vec![false; fits.len()];
        if sign == '*' {
            let all = signs.next_if_eq(&'*').is_some();
            let mut open = false;
            for (at, fit) in fits.iter().enumerate() {
                let passed = at.checked_sub(1).and_then(|before| text.get(before));
                open = *fit || (open && passed.is_some_and(|c| all || *c != separator));
                next[at] = open;
            }
        } else {
            for (at, c) in text.iter().enumerate() {
                next[at + 1] = fits[at] && *c == sign;
            }
        }
        fits = next;
    }
    fits.last().copied().unwrap_or(false)
}

/// What a step's request says, checked but for its operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it lets through.
    pub what: What,
    /// How many operations.
    pub uses: u32,
    /// Its place in the task, from 1.
    pub number: u32,
    /// The digest that people decide on.
    pub digest: Digest,
}

/// Checks a step against its own bounds and scopes, and computes its digest.
///
/// # Errors
/// When a part is missing or out of its range.
pub fn check(request: &v1::ApprovalRequest, step: &v1::Step) -> Result<Checked, ConvertError> {
    let text = |what: &'static str, text: &str| match (1..=TEXT).contains(&text.trim().len())
        && text.len() <= TEXT
    {
        true => Ok(()),
        false => Err(ConvertError::Invalid(what)),
    };
    text("objective", &step.objective)?;
    text("justification", &step.justification)?;
    let in_order = step.number >= 1 && step.number <= step.of && step.of as usize <= STEPS;
    if !in_order {
        return Err(ConvertError::Invalid("step.number"));
    }
    let most = request.scopes.iter().map(|scope| scope.uses).min().unwrap_or(u32::MAX);
    if step.uses == 0 || step.uses > most {
        return Err(ConvertError::Invalid("step.uses"));
    }
    let what = match step.what.as_ref().ok_or(ConvertError::Missing("step.what"))? {
        v1::step::What::Exact(digest) => {
            Digest::from_str(digest).map_err(|_| ConvertError::Invalid("step.exact"))?;
            What::Exact(digest.clone())
        }
        v1::step::What::Pattern(pattern) => {
            if request.operation.is_some() || !request.body.is_empty() {
                return Err(ConvertError::Invalid("operation"));
            }
            if request.scopes.is_empty() || !request.scopes.iter().all(|scope| scope.patterns) {
                return Err(ConvertError::Invalid("step.pattern"));
            }
            let pattern = from_wire(pattern)?;
            pattern.check()?;
            What::Pattern(pattern)
        }
    };
    let (uses, number) = (step.uses, step.number);
    Ok(Checked { what, uses, number, digest: digest(request, step)? })
}

/// The digest of a step: principal's agent and task, objective, place, justification, uses, what
/// it lets through, and its scopes.
///
/// # Errors
/// When the principal or what it lets through is missing.
pub fn digest(request: &v1::ApprovalRequest, step: &v1::Step) -> Result<Digest, ConvertError> {
    let principal = request.principal.as_ref().ok_or(ConvertError::Missing("principal"))?;
    let mut hash = Sha256::new_with_prefix(DOMAIN);
    let mut text = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    text(principal.agent.as_bytes());
    text(principal.task.as_bytes());
    text(step.objective.as_bytes());
    text(step.justification.as_bytes());
    text(format!("{} {} {}", step.number, step.of, step.uses).as_bytes());
    // Protobuf's own encoding of what was checked: fields in order, nothing optional in them.
    match step.what.as_ref().ok_or(ConvertError::Missing("step.what"))? {
        v1::step::What::Exact(digest) => {
            text(b"exact");
            text(digest.as_bytes());
        }
        v1::step::What::Pattern(pattern) => {
            text(b"pattern");
            text(&pattern.encode_to_vec());
        }
    }
    text(step.tags.join("\0").as_bytes());
    for scope in fold_scopes(&request.scopes) {
        text(&scope.encode_to_vec());
    }
    Ok(Digest(hash.finalize().into()))
}

/// The pattern of a message.
///
/// # Errors
/// When its kind is missing.
pub fn from_wire(pattern: &v1::Pattern) -> Result<Pattern, ConvertError> {
    use v1::pattern::Kind as Wire;
    let kind = match pattern.kind.clone().ok_or(ConvertError::Missing("pattern.kind"))? {
        Wire::Http(v1::HttpPattern { method, origin, path, query }) => {
            Kind::Http { method, origin, path, query }
        }
        Wire::Sql(v1::SqlPattern { database, role, actions, tables, functions, flags }) => {
            Kind::Sql { database, role, actions, tables, functions, flags }
        }
    };
    Ok(Pattern { target: pattern.target.clone(), kind })
}

impl From<Pattern> for v1::Pattern {
    fn from(pattern: Pattern) -> Self {
        use v1::pattern::Kind as Wire;
        let kind = match pattern.kind {
            Kind::Http { method, origin, path, query } => {
                Wire::Http(v1::HttpPattern { method, origin, path, query })
            }
            Kind::Sql { database, role, actions, tables, functions, flags } => {
                Wire::Sql(v1::SqlPattern { database, role, actions, tables, functions, flags })
            }
        };
        Self { target: pattern.target, kind: Some(kind) }
    }
}

#[cfg(test)]
mod tests;
