//! One rule of `masks.toml` as written. Owns the file's vocabulary only: nothing
//! is checked here beyond its shape; [`super::MaskPlan::compile`] does that.

use serde::{Deserialize, Serialize};

/// One mask rule: which targets, which parts of a response, what instead.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaskRule {
    /// Names the rule in reports, metrics and errors; unique in a bundle.
    pub name: String,
    /// Targets by name that the rule applies to. Read by policy, not by masking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<String>,
    /// Targets by tag that the rule applies to. Read by policy, not by masking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// JSON paths (`$.users[*].email`) whose values are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub json: Vec<String>,
    /// Response headers whose values are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Fields of `application/x-www-form-urlencoded` content that are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub form: Vec<String>,
    /// Columns of a database (`public.users.email`, `*.*.ssn`) whose values are masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// JSON paths inside those columns: of a `json` or `jsonb` column that is shown as it is
    /// stored, only what they lead to is masked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Detectors or groups of them that look for values which nobody tagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detectors: Option<DetectorChoice>,
    /// What stands in the place of a masked value.
    #[serde(default)]
    pub replace: Replace,
    /// What happens to content that cannot be read (archives, PDF, protobuf, ...).
    #[serde(default)]
    pub other: OtherContent,
}

/// `detectors = "all"`, `detectors = "secrets"` or `detectors = ["email", "jwt"]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum DetectorChoice {
    /// One detector or group; `all` is the group of every detector.
    One(String),
    /// Several detectors or groups.
    Many(Vec<String>),
}

impl DetectorChoice {
    /// The names as written.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// What stands in the place of a masked value.
///
/// A string becomes a string. A number or boolean has no spare value that could
/// not be mistaken for a real one, so it becomes `null` when redacted, and a
/// string when a part or a hash of it is kept. An object or array under a path
/// becomes `{}` or `[]` whatever is chosen, `null` stays `null`.
///
/// In a database's columns the value stays valid for its type ([`super::column`]): text,
/// JSON, XML and bytes are replaced, an array is emptied, and everything else (numbers,
/// dates, UUIDs) becomes NULL, also where a part or a hash was to be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Replace {
    /// `***`
    #[default]
    Redact,
    /// `***` and the last n characters (1 to 16). A value shorter than twice that
    /// is redacted whole, so that never more than half of it shows.
    KeepLast(usize),
    /// `hmac:` and 32 hexadecimal digits under the host's key: equal values stay
    /// equal, so rows can still be joined.
    Hash,
}

/// What happens to content that a rule with `json`, `form` or `detectors` meets
/// and that cannot be read: archives, PDF, protobuf, gRPC, unknown types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OtherContent {
    /// It is not delivered.
    #[default]
    Block,
    /// It is delivered uninspected.
    Pass,
}
