//! A declaration as agents write it: the JSON of `POST /v1/tasks` and of the MCP tool.

use super::{Refused, bad};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rmcp::schemars;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A task: what is to be reached, and how.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// What is to be reached, in words for the people who decide.
    pub objective: String,
    /// The steps in the order in which they will be taken.
    pub steps: Vec<Step>,
}

/// One step: exactly one operation (`http` or `sql`), or a `pattern`.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Why this step is needed, in words for the people who decide.
    pub justification: String,
    /// How many times it will be done; the scope says how many it gives at most.
    #[serde(default = "one")]
    pub uses: u32,
    /// Exactly this HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpStep>,
    /// Exactly this SQL statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlStep>,
    /// Any operation that fits; only under scopes that take patterns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<Pattern>,
}

fn one() -> u32 {
    1
}

/// An HTTP request, as it will be sent.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct HttpStep {
    /// The method, in capitals.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Every header that the client will send, but for those of the connection (Host,
    /// Content-Length, Connection) and those that are not part of the digest (Accept-Encoding,
    /// Date, ids of traces).
    #[serde(default)]
    pub headers: BTreeMap<String, Values>,
    /// The body, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body, in base64, where it is no text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<Bytes64>,
}

/// One value, or several of a repeated header.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(String),
    /// Several, in their order.
    Several(Vec<String>),
}

impl Values {
    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(value) => std::slice::from_ref(value).iter().map(String::as_str),
            Self::Several(values) => values.as_slice().iter().map(String::as_str),
        }
    }
}

/// Bytes in base64.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(transparent)]
pub struct Bytes64(String);

impl Bytes64 {
    /// The bytes.
    ///
    /// # Errors
    /// When it is no base64.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        STANDARD.decode(&self.0).map_err(|error| format!("that is no base64: {error}"))
    }
}

/// An SQL statement, and the state of the session that it will run in. In another state, or when
/// the tables were changed meanwhile, it is another operation and is asked about anew.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct SqlStep {
    /// `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// The statement's text, exactly: one statement, with `$1` and so on where its parameters are.
    pub statement: String,
    /// What is bound to its parameters, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<SqlParameter>,
    /// Whether a transaction will be open.
    #[serde(default)]
    pub in_transaction: bool,
    /// The schemas in force, as `current_schemas(true)` gives them.
    #[serde(default = "usual_path")]
    pub search_path: Vec<String>,
    /// The role in force; left out: the one that policy maps the user to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// A parameter as the client will bind it; without a value it is NULL.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct SqlParameter {
    /// Its type, as the server has it for the statement: `integer`, `text`, ..., or the type's
    /// number (`pg_type.oid`).
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether the client sends it in the binary format (`true`) or as text.
    #[serde(default)]
    pub binary: bool,
    /// The value as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The value's bytes, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_base64: Option<Bytes64>,
}

fn usual_path() -> Vec<String> {
    ["pg_catalog", "public"].map(str::to_owned).to_vec()
}

/// Operations that people can approve without seeing each: HTTP requests (`method`, `url`) with
/// any headers and body, or SQL statements (`sql`).
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// The scopes that it is asked under; every scope that policy will ask for must be among them.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// The method, in capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The URL; in its path `*` is any characters but `/` and `**` any characters, in its query
    /// the same with `&`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Statements that do nothing but this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlPattern>,
}

/// SQL statements with any text and parameters that do nothing but this.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
#[serde(deny_unknown_fields)]
pub struct SqlPattern {
    /// `postgres://user@host:port/database`, without a password.
    pub url: String,
    /// What they may do, as policy calls it: `sql.select`, `sql.insert`.
    pub actions: Vec<String>,
    /// The tables that they may touch, with their schema; `*` is any characters but `.`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// The functions that they may call, with their schema.
    #[serde(default)]
    pub functions: Vec<String>,
    /// The flags that they may have.
    #[serde(default)]
    pub flags: Vec<String>,
}

/// The one thing that a step is about.
pub(super) enum What {
    Http(HttpStep),
    Sql(SqlStep),
    Pattern(Pattern),
}

impl Step {
    pub(super) fn what(self, at: &str) -> Result<What, Refused> {
        match (self.http, self.sql, self.pattern) {
            (Some(http), None, None) => Ok(What::Http(http)),
            (None, Some(sql), None) => Ok(What::Sql(sql)),
            (None, None, Some(pattern)) => Ok(What::Pattern(pattern)),
            _ => Err(bad(at, "it has one of `http`, `sql` and `pattern`")),
        }
    }
}
