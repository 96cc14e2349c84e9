//! Masks values of a database: columns by name, and what detectors find in the others.
//!
//! Owns which rule a column has ([`ColumnRules`]) and what stands in the place of one value
//! ([`mask_value`], [`detect_value`]). Knows the types of PostgreSQL's own catalog by their
//! fixed oids ([`types`]) and their two formats, text (0) and binary (1).
//!
//! Must never: give back a byte of a value that a rule names (of `keep_last` those that it
//! keeps aside), or a value that is not valid for its type. What a type cannot hold becomes
//! NULL; so does every type that is not known here.

mod array;
mod pattern;
mod types;
mod value;

#[cfg(test)]
mod tests;

pub use pattern::ColumnPattern;
pub use types::{element_of, is_text, printed};
pub use value::{detect_value, mask_value};

use super::json::JsonRules;
use super::replace::Replacement;
use super::text::{TextMasker, TextRules};
use super::{Report, Unmaskable};
use std::sync::Arc;

/// What is masked in the rows of one target. Immutable and shared.
#[derive(Default)]
pub struct ColumnRules {
    patterns: Vec<(ColumnPattern, usize)>,
    /// By rule number; those that no pattern refers to are there too.
    rules: Vec<Rule>,
    detectors: Option<Arc<TextRules>>,
    /// Bytes that cannot be read as text are delivered.
    pass_other: bool,
}

/// What stands in the place of a column's values.
#[derive(Clone)]
pub struct Rule {
    name: Arc<str>,
    replacement: Replacement,
    /// What of a JSON value is masked; `None`: all of it.
    inside: Option<Arc<JsonRules>>,
}

impl std::fmt::Debug for ColumnRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ColumnRules").field("patterns", &self.patterns).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rule").field(&self.name).finish()
    }
}

impl Rule {
    /// The rule's name in `masks.toml`, under which a [`Report`] counts it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same rule for what was made of a column (a part of it, a sum): nothing of such a
    /// value is kept, since many different parts of one value would add up to it.
    pub fn derived(&self) -> Self {
        Self { name: Arc::clone(&self.name), replacement: Replacement::Redact, inside: None }
    }

    /// Whether it masks only a part of a JSON value, so that detectors look at the rest.
    pub fn is_partial(&self) -> bool {
        self.inside.is_some()
    }

    /// Counts one masked value.
    pub fn count(&self, report: &mut Report) {
        report.add(&self.name, 1);
    }
}

impl ColumnRules {
    pub(super) fn new(
        patterns: Vec<(ColumnPattern, usize)>,
        rules: &[(String, Replacement)],
        inside: Vec<Option<Arc<JsonRules>>>,
        detectors: Option<Arc<TextRules>>,
        pass_other: bool,
    ) -> Self {
        let rules = rules
            .iter()
            .zip(inside)
            .map(|((name, replacement), inside)| Rule {
                name: name.as_str().into(),
                replacement: replacement.clone(),
                inside,
            })
            .collect();
        Self { patterns, rules, detectors, pass_other }
    }

    /// Whether a rule names columns. Then a statement whose output cannot be followed to
    /// columns is refused, unless the target says otherwise.
    pub fn any(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Whether detectors look at values.
    pub fn detects(&self) -> bool {
        self.detectors.is_some()
    }

    /// Whether rows can be delivered as they are: nothing is masked and nothing looked for.
    pub fn is_empty(&self) -> bool {
        !self.any() && !self.detects()
    }

    /// The rule of a column, names as in the catalog; the first in the file that means it.
    pub fn rule(&self, schema: &str, table: &str, column: &str) -> Option<&Rule> {
        let (_, number) =
            self.patterns.iter().find(|(pattern, _)| pattern.means(schema, table, column))?;
        self.rules.get(*number)
    }

    /// Whether some column of a table may be named, so that the table as a whole needs care.
    pub fn names_table(&self, schema: &str, table: &str) -> bool {
        self.patterns.iter().any(|(pattern, _)| pattern.means_table(schema, table))
    }

    /// The rule of an output that depends on these columns (schema, table, column); `None`
    /// when none of them is named. `unchanged`: each value is that of one of them as it is.
    /// What was made of a named column, or comes of columns with different rules, is redacted.
    pub fn rule_of<'a>(
        &self,
        columns: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>,
        unchanged: bool,
    ) -> Option<Rule> {
        let mut found: Option<&Rule> = None;
        let mut same = unchanged;
        for (schema, table, column) in columns {
            match (self.rule(schema, table, column), found) {
                (None, _) => {}
                (Some(rule), Some(other)) => same &= rule.name == other.name,
                (Some(rule), None) => found = Some(rule),
            }
        }
        let found = found?;
        Some(if same { found.clone() } else { found.derived() })
    }

    /// What detectors leave of a text for people (an error's message, a notice); `None` when
    /// it stays as it is.
    ///
    /// # Errors
    /// When the text cannot be read by them.
    pub fn detect_text(
        &self,
        text: &[u8],
        report: &mut Report,
    ) -> Result<Option<Vec<u8>>, Unmaskable> {
        self.scan(text, super::escape::Escaping::None, report)
    }

    /// What detectors leave of a text; `None` when it stays as it is.
    fn scan(
        &self,
        text: &[u8],
        escaping: super::escape::Escaping,
        report: &mut Report,
    ) -> Result<Option<Vec<u8>>, Unmaskable> {
        let Some(rules) = &self.detectors else {
            return Ok(None);
        };
        if rules.rules.iter().any(|(_, replacement)| !replacement.is_ready()) {
            return Err(Unmaskable::NoKey);
        }
        let mut masker = TextMasker::new(Arc::clone(rules), escaping);
        let mut out = Vec::with_capacity(text.len());
        masker.push(text, &mut out, report)?;
        masker.finish(&mut out, report)?;
        Ok((out != text).then_some(out))
    }
}
