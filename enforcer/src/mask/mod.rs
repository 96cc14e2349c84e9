//! Masking: takes sensitive values out of what an upstream answers.
//!
//! Owns the rules of `masks.toml` once parsed ([`MaskRule`]), their compiled form
//! ([`MaskPlan`]) and the machine that one response body runs through
//! ([`BodyMasker`]). Sans-io: bytes in, bytes out, no clock, no socket.
//!
//! What it must never do: pass on content that a rule applies to and that could
//! not be decoded and read ([`Unmaskable`] stops the body instead), hold more
//! than an unfinished match or token, or change a byte that no rule asked for.
//!
//! The way of a body: content decoding ([`decode`]) -> kind by content type and
//! first bytes ([`content`]) -> fields by path ([`json`], [`form`]) or by event
//! ([`sse`]) -> detectors ([`text`] drives [`detect`]) -> identity-coded output.
//!
//! Known limits: a secret that a stream splits over several server-sent events is
//! seen only in pieces, and so is one that is encoded a second time (base64,
//! JSON inside a JSON string). Images, audio, video and fonts are not read.

mod body;
pub mod column;
mod content;
pub mod copy;
mod decode;
mod detect;
mod escape;
mod form;
mod json;
mod path;
mod plan;
mod replace;
mod rule;
mod sse;
#[cfg(test)]
mod tests;
mod text;
mod wrapper;

pub use body::BodyMasker;
pub use decode::{ACCEPT_ENCODING, whole as decode_whole};
pub use detect::{DetectorInfo, detectors};
pub use plan::MaskPlan;
pub use rule::{DetectorChoice, MaskRule, OtherContent, Replace};

use std::collections::BTreeMap;

/// What was masked so far: how often each rule hit.
///
/// Keys are the rule's name for fields and headers, `rule/detector` for what a
/// detector found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Hits per rule, or per `rule/detector`.
    pub counts: BTreeMap<String, u64>,
}

impl Report {
    /// All hits together.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Adds another report's hits, for a caller that keeps one per exchange.
    pub fn merge(&mut self, other: &Self) {
        for (key, count) in &other.counts {
            self.add(key, *count);
        }
    }

    fn add(&mut self, key: &str, count: u64) {
        match self.counts.get_mut(key) {
            Some(known) => *known += count,
            None => {
                self.counts.insert(key.to_owned(), count);
            }
        }
    }
}

/// A mask rule that cannot work as written; found when the bundle is loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// The rule selects nothing in a response.
    #[error(
        "mask rule `{rule}` selects nothing: give it `json`, `headers`, `form`, `columns` or `detectors`"
    )]
    Empty {
        /// The rule's name.
        rule: String,
    },
    /// Two rules share a name, so a report could not tell them apart.
    #[error("two mask rules are called `{rule}`: give each its own name")]
    Duplicate {
        /// The name that is used twice.
        rule: String,
    },
    /// A JSON path that is not in the supported subset.
    #[error("mask rule `{rule}`: JSON path `{path}`: {why}")]
    Path {
        /// The rule's name.
        rule: String,
        /// The path as written.
        path: String,
        /// What is wrong and where.
        why: String,
    },
    /// JSON paths without the columns that they are inside of.
    #[error("mask rule `{rule}` has `paths` and no `columns` that they are inside of")]
    Paths {
        /// The rule's name.
        rule: String,
    },
    /// Not a column.
    #[error("mask rule `{rule}`: `columns` cannot have {column:?}: {why}")]
    Column {
        /// The rule's name.
        rule: String,
        /// The column as written.
        column: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Not a header name.
    #[error("mask rule `{rule}`: `{header}` is not a header name")]
    Header {
        /// The rule's name.
        rule: String,
        /// The name as written.
        header: String,
    },
    /// A detector or group that does not exist.
    #[error("mask rule `{rule}`: no detector or group is called `{detector}`; known: {known}")]
    Detector {
        /// The rule's name.
        rule: String,
        /// The name as written.
        detector: String,
        /// What could have been written.
        known: String,
    },
    /// A replacement that would mask nothing or everything.
    #[error("mask rule `{rule}`: {why}")]
    Replace {
        /// The rule's name.
        rule: String,
        /// What is wrong.
        why: String,
    },
    /// The detector table did not compile; a fault of this program.
    #[error("the detector table does not compile: {0}")]
    Table(String),
}

/// Why a body must not be delivered although policy allowed the operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unmaskable {
    /// The content encoding is not one that can be undone.
    #[error("content encoding `{0}` cannot be decoded, so the mask rules cannot be applied")]
    Encoding(String),
    /// The encoded content is damaged or ends early.
    #[error("the {coding} content is damaged or cut short: {why}")]
    Damaged {
        /// Which coding.
        coding: &'static str,
        /// What the decoder said.
        why: String,
    },
    /// The content grows beyond what is decoded for one response.
    #[error("the {coding} content grows beyond the bound ({why})")]
    Bomb {
        /// Which coding.
        coding: &'static str,
        /// Which bound.
        why: &'static str,
    },
    /// The content type cannot be read.
    #[error(
        "content type `{0}` cannot be read, so the mask rules cannot be applied; a rule with `other = \"pass\"` lets it through"
    )]
    Type(String),
    /// The character set cannot be read.
    #[error("character set `{0}` cannot be read, so the mask rules cannot be applied")]
    Charset(String),
    /// Part of a representation: a value may be cut at its edge.
    #[error(
        "a partial response (206, Content-Range, multipart) cannot be masked; ask for the whole"
    )]
    Partial,
    /// A JSON path rule applies and the content is not JSON.
    #[error("the content is not valid JSON at byte {at}: {why}")]
    Json {
        /// Offset in the decoded body.
        at: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// A path rule applies, and a script is no JSON in a wrapper.
    #[error(
        "the content is a script and not JSON in a call or behind a guard, so the path rules cannot be applied; a rule with `other = \"pass\"` lets it through"
    )]
    Script,
    /// A unit that has to be held whole is larger than the bound.
    #[error("{what} is longer than {limit} bytes and cannot be masked")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The bound in bytes.
        limit: usize,
    },
    /// A value of a database that is not in a format that is known.
    #[error("a value's format code is {0}, and only 0 (text) and 1 (binary) are known")]
    Format(i16),
    /// Data of COPY that is not as its format says.
    #[error("the data of COPY is not as its format says: {0}")]
    Copy(&'static str),
    /// A rule hashes and no key was given.
    #[error("a mask rule replaces by keyed hash and no key was given to the plan")]
    NoKey,
}
