//! What is wrong with a bundle: where, what, and what to do about it.
//!
//! Loading collects every problem instead of stopping at the first, so that one
//! `enforcer policy check` shows all that has to be mended. Owns no rules about
//! what a bundle may say; those are beside the thing they check.

use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// Whether a bundle can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The bundle is not used.
    Error,
    /// The bundle is used; someone should look.
    Warning,
}

/// One thing wrong with a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The file, relative to the bundle.
    pub file: String,
    /// Line, from 1; `None` when it concerns the whole file.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {severity}: {}", self.what)?;
        if !self.help.is_empty() {
            write!(f, "\n    {}", self.help)?;
        }
        Ok(())
    }
}

/// Everything wrong with a bundle, by file and line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// All of them, by file, line and column.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether one of them keeps the bundle from being used.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|p| p.severity == Severity::Error)
    }

    /// A problem with a whole file.
    pub(super) fn file(&mut self, file: &str, what: impl Into<String>, help: impl Into<String>) {
        self.0.push(Problem {
            severity: Severity::Error,
            file: file.to_owned(),
            line: None,
            column: None,
            what: what.into(),
            help: help.into(),
        });
    }

    /// An error at a place.
    pub(super) fn error(
        &mut self,
        (source, span): (&Source<'_>, &Range<usize>),
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Error, source, span.start, what.into(), help.into());
    }

    /// A warning at a place.
    pub(super) fn warning(
        &mut self,
        (source, span): (&Source<'_>, &Range<usize>),
        what: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Severity::Warning, source, span.start, what.into(), help.into());
    }

    fn push(
        &mut self,
        severity: Severity,
        source: &Source<'_>,
        at: usize,
        what: String,
        help: String,
    ) {
        let (line, column) = source.line_column(at);
        self.0.push(Problem {
            severity,
            file: source.file.to_owned(),
            line: Some(line),
            column: Some(column),
            what,
            help,
        });
    }

    /// Orders by file and place, so that the output does not depend on the order of checks.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|a, b| {
            (&a.file, a.line, a.column, a.severity, &a.what)
                .cmp(&(&b.file, b.line, b.column, b.severity, &b.what))
        });
        self.0.dedup();
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// One file of a bundle, for turning offsets into lines.
pub(super) struct Source<'a> {
    pub(super) file: &'a str,
    pub(super) text: &'a str,
}

impl Source<'_> {
    /// Line and column in characters, both from 1, of a byte offset.
    fn line_column(&self, at: usize) -> (usize, usize) {
        let bytes = self.text.as_bytes();
        let before = bytes.get(..at).unwrap_or(bytes);
        let start = memchr::memrchr(b'\n', before).map_or(0, |newline| newline + 1);
        let line = memchr::memchr_iter(b'\n', before).count() + 1;
        // Count the first byte of each character: an offset inside one is no panic.
        let column = before[start..].iter().filter(|byte| (**byte & 0xC0) != 0x80).count() + 1;
        (line, column)
    }
}

/// The known word nearest to a mistyped one, when it is near enough to be meant.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    known
        .into_iter()
        .map(|k| (distance(word, k), k))
        .min()
        .filter(|(d, k)| *d <= 1 + k.len() / 4)
        .map(|(_, k)| k)
}

/// Levenshtein distance over bytes; long words are not compared.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let source = Source { file: "f", text: "é = 1\nab\n" };
        assert_eq!(source.line_column(0), (1, 1));
        assert_eq!(source.line_column(2), (1, 2));
        assert_eq!(source.line_column(7), (2, 1));
        assert_eq!(source.line_column(9), (2, 3));
        assert_eq!(source.line_column(99), (3, 1));
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["hold", "names", "ports"];
        assert_eq!(nearest("hodl", known), Some("hold"));
        assert_eq!(nearest("port", known), Some("ports"));
        assert_eq!(nearest("credentials", known), None);
    }
}
