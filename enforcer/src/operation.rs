//! One complete thing asked of a target: what is decided, approved and recorded.
//!
//! An [`Operation`] carries everything that changes its effect as ordered
//! [`Fact`]s. The same facts are hashed into the [`Digest`], shown to a
//! reviewer, judged by policy and written to the transcript, so that the four
//! can never speak of different things. Secrets enter as keyed hashes.

use crate::principal::Principal;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// Domain and version of the canonical form; a change of the form changes this.
const DOMAIN: &[u8] = b"enforcer operation v1\0";

/// Room for the facts of most operations.
const FACTS: usize = 20;

/// Identifies one operation on this host (UUIDv7, so ids sort by time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperationId(pub Uuid);

impl OperationId {
    /// A new id.
    #[expect(clippy::new_without_default, reason = "each value is new, so there is no default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 over an operation's canonical bytes; printed as `v1:` and 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v1:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text was not `v1:` and 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `v1:` followed by 64 hexadecimal digits")]
pub struct BadDigest;

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let mut bytes = [0; 32];
        let hex = text.strip_prefix("v1:").ok_or(BadDigest)?;
        hex::decode_to_slice(hex, &mut bytes).map_err(|_| BadDigest)?;
        Ok(Self(bytes))
    }
}

/// The protocols that a target can speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A DNS question to the proxy's resolver.
    Dns,
    /// HTTP/1.1 and HTTP/2, plain or over TLS.
    Http,
    /// PostgreSQL's frontend/backend protocol, plain or over TLS.
    Postgres,
    /// Uninspected bytes; only where a target says so.
    Opaque,
}

impl Protocol {
    /// Every protocol.
    pub const ALL: [Self; 4] = [Self::Dns, Self::Http, Self::Postgres, Self::Opaque];

    /// The protocol of that name, as [`Protocol::as_str`] gives it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.as_str() == name)
    }

    /// The name used in policy, digests, transcripts and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Http => "http",
            Self::Postgres => "postgres",
            Self::Opaque => "opaque",
        }
    }
}

/// One thing that changes an operation's effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Fact {
    /// A count, size or port.
    Number(i64),
    /// A yes or no.
    Flag(bool),
    /// Text.
    Text(String),
    /// Several texts, order kept (a repeated header).
    List(Vec<String>),
}

impl From<&str> for Fact {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Fact {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Fact {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Fact {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// One complete thing asked of a target in its protocol.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Its id; not part of the digest.
    pub id: OperationId,
    /// The target that policy knows it by.
    pub target: String,
    /// The verified name: host name in lower case without a trailing dot, or an address literal.
    pub name: String,
    /// The port at the target.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The action in policy's hierarchy, for example `http.get`.
    pub action: String,
    /// What it acts on, for people: for HTTP the URL without query.
    pub resource: String,
    /// Everything that changes its effect, names unique and in ascending order
    /// (kept so by [`Operation::fact`]).
    facts: Vec<(Cow<'static, str>, Fact)>,
    /// The whole request body when it was read before the decision; its hash is
    /// then a fact. `None` when the body streams (only where no approval is needed).
    pub body: Option<Bytes>,
}

impl Operation {
    /// An operation without facts.
    pub fn new(
        target: &str,
        name: &str,
        port: u16,
        protocol: Protocol,
        action: &str,
        resource: String,
    ) -> Self {
        Self {
            id: OperationId::new(),
            target: target.to_owned(),
            name: name.to_owned(),
            port,
            protocol,
            action: action.to_owned(),
            resource,
            facts: Vec::with_capacity(FACTS),
            body: None,
        }
    }

    /// Sets a fact; a second value under the same name replaces the first.
    pub fn fact(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Fact>) {
        let name = name.into();
        match self.facts.binary_search_by(|(n, _)| n.cmp(&name)) {
            Ok(at) => self.facts[at].1 = value.into(),
            Err(at) => self.facts.insert(at, (name, value.into())),
        }
    }

    /// Sets the body, and its length and SHA-256 as facts `body.length` and `body.sha256`.
    pub fn with_body(&mut self, body: Bytes) {
        self.fact("body.length", i64::try_from(body.len()).unwrap_or(i64::MAX));
        self.fact("body.sha256", hex::encode(Sha256::digest(&body)));
        self.body = Some(body);
    }

    /// All facts, by name in ascending order.
    pub fn facts(&self) -> &[(Cow<'static, str>, Fact)] {
        &self.facts
    }

    /// The fact of that name.
    pub fn get(&self, name: &str) -> Option<&Fact> {
        self.facts.binary_search_by(|(n, _)| (**n).cmp(name)).ok().map(|at| &self.facts[at].1)
    }

    /// The digest that binds a decision to this operation by this principal.
    pub fn digest(&self, principal: &Principal) -> Digest {
        digest(principal.agent.as_str(), principal.task.as_deref(), self)
    }
}

/// The digest for an agent and task; `verify` uses this form with recorded names.
pub fn digest(agent: &str, task: Option<&str>, op: &Operation) -> Digest {
    let mut sink = Canonical(Vec::with_capacity(1024));
    sink.0.extend_from_slice(DOMAIN);
    sink.text(agent);
    match task {
        Some(task) => {
            sink.tag(1);
            sink.text(task);
        }
        None => sink.tag(0),
    }
    sink.text(&op.target);
    sink.text(&op.name);
    sink.number(i64::from(op.port));
    sink.text(op.protocol.as_str());
    sink.text(&op.action);
    sink.text(&op.resource);
    sink.length(op.facts.len());
    for (name, value) in &op.facts {
        sink.text(name);
        match value {
            Fact::Number(n) => {
                sink.tag(b'n');
                sink.number(*n);
            }
            Fact::Flag(flag) => {
                sink.tag(b'f');
                sink.tag(u8::from(*flag));
            }
            Fact::Text(text) => {
                sink.tag(b't');
                sink.text(text);
            }
            Fact::List(items) => {
                sink.tag(b'l');
                sink.length(items.len());
                for item in items {
                    sink.text(item);
                }
            }
        }
    }
    Digest(Sha256::digest(&sink.0).into())
}

/// Length-prefixed, tagged input to the hash: no two operations share a form.
struct Canonical(Vec<u8>);

impl Canonical {
    fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn length(&mut self, length: usize) {
        self.0.extend_from_slice(&(length as u64).to_be_bytes());
    }

    fn number(&mut self, number: i64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
}
