//! Bounds on `rules.cedar`, held before Cedar's parser sees it.
//!
//! Cedar's parser, and the release of what it made, recurse once for each level of
//! nesting and each link of a chain (`a && b && ...`), and end the process when the
//! stack is full. The bounds leave more than half of a 2 MiB stack, without
//! optimisation, and are far beyond what people write.

use crate::policy::problem::{Problems, Source};
use std::ops::Range;

/// Brackets within brackets.
const DEPTH: usize = 32;

/// Words and operators in one rule; texts, numbers and commas do not count.
const LINKS: usize = 2_000;

/// Reports what is past the bounds; `false` when something is.
pub(super) fn hold(source: &Source<'_>, problems: &mut Problems) -> bool {
    let mut depth = 0_usize;
    let mut links = 0_usize;
    let mut held = true;
    for token in Tokens::new(source.text) {
        match token.kind {
            Kind::Open => depth += 1,
            Kind::Close => depth = depth.saturating_sub(1),
            Kind::Link => links += 1,
            Kind::End => {
                depth = 0;
                links = 0;
            }
        }
        if depth == DEPTH + 1 && token.kind == Kind::Open {
            held = false;
            problems.error(
                (source, &token.span),
                format!("more than {DEPTH} brackets within each other"),
                "write it flatter, or as several rules",
            );
        }
        if links == LINKS + 1 && token.kind == Kind::Link {
            held = false;
            problems.error(
                (source, &token.span),
                format!("a rule of more than {LINKS} words and operators"),
                "split it into several rules, or put texts into a set: [\"a\", \"b\"].contains(...)",
            );
        }
    }
    held
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    /// A word or an operator.
    Link,
    /// The `;` behind a rule.
    End,
}

struct Token {
    kind: Kind,
    span: Range<usize>,
}

/// The tokens that count; texts and comments are skipped.
struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    /// Moves past all that fits from here on.
    fn skip(&mut self, fits: impl Fn(u8) -> bool) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += rest.iter().take_while(|byte| fits(**byte)).count();
    }

    /// Moves behind a text whose opening quote was taken.
    fn skip_text(&mut self) {
        while let Some(byte) = self.text.get(self.at) {
            self.at += 1;
            match byte {
                b'"' => return,
                b'\\' => self.at += 1,
                _ => {}
            }
        }
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            let start = self.at;
            let byte = *self.text.get(start)?;
            self.at += 1;
            let kind = match byte {
                b'"' => {
                    self.skip_text();
                    continue;
                }
                b'/' if self.text.get(self.at) == Some(&b'/') => {
                    self.skip(|byte| byte != b'\n');
                    continue;
                }
                b'(' | b'[' | b'{' => Kind::Open,
                b')' | b']' | b'}' => Kind::Close,
                b';' => Kind::End,
                b'&' | b'|' | b'=' | b'<' | b'>' => {
                    self.skip(|byte| matches!(byte, b'&' | b'|' | b'=' | b'<' | b'>'));
                    Kind::Link
                }
                b'.' | b'+' | b'-' | b'*' | b'!' | b':' | b'@' | b'?' => Kind::Link,
                byte if byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80 => {
                    self.skip(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80);
                    Kind::Link
                }
                _ => continue,
            };
            let span = start..self.at;
            return Some(Token { kind, span });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn held(text: &str) -> bool {
        let source = Source { file: "rules.cedar", text };
        let mut problems = Problems::default();
        let held = hold(&source, &mut problems);
        assert_eq!(held, problems.is_empty());
        assert!(problems.len() <= 2, "{problems}");
        held
    }

    #[rstest]
    #[case("(", DEPTH, DEPTH + 1)]
    #[case("[", DEPTH, DEPTH + 1)]
    #[case("{a:", DEPTH, DEPTH + 1)]
    #[case("!", LINKS, LINKS + 1)]
    #[case("a &&", LINKS / 2, LINKS / 2 + 1)]
    #[case("1 + ", LINKS, LINKS + 1)]
    #[case(".é", LINKS / 2, LINKS / 2 + 1)]
    #[case("if a then b else ", LINKS / 5, LINKS / 5 + 1)]
    #[case("} when { ", LINKS, LINKS + 1)]
    fn bounds(#[case] piece: &str, #[case] fits: usize, #[case] too_many: usize) {
        assert!(held(&piece.repeat(fits)));
        assert!(!held(&piece.repeat(too_many)));
    }

    #[test]
    fn texts_comments_and_other_rules_do_not_count() {
        assert!(held(&"\"a\", ".repeat(10_000)));
        assert!(held(&format!("\"{}\\\"{}\"", "(".repeat(99), "(".repeat(99))));
        assert!(held(&format!("// {}\n", "(".repeat(99))));
        assert!(held(&"permit (principal, action, resource);\n".repeat(1_000)));
        assert!(held("\"\\"));
    }
}
