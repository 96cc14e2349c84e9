//! What a refusal leaves behind: places that differ since something was not made or changed, or
//! since the transaction has failed, established from the statements themselves.

use super::compare::{Place, Reason};
use std::collections::BTreeSet;

/// What the server says of every statement after a refusal in a transaction.
const FAILED: &str = "current transaction is aborted";

/// Words before the name of what a statement makes or changes.
const MAKES: &[&str] = &[
    "table",
    "view",
    "into",
    "update",
    "function",
    "procedure",
    "aggregate",
    "type",
    "domain",
    "index",
    "schema",
    "role",
    "user",
    "sequence",
    "trigger",
    "rule",
    "policy",
    "statistics",
    "copy",
    "prepare",
    "declare",
    "cast",
    "operator",
    "server",
    "wrapper",
    "extension",
    "database",
    "publication",
    "subscription",
    "collation",
    "conversion",
    "language",
];

/// Words between such a word and the name.
const BETWEEN: &[&str] = &["if", "not", "exists", "only", "concurrently", "unlogged", "temp"];

/// What refusals left so far.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Names of what refused statements, and those that failed for them, make or change.
    names: BTreeSet<String>,
}

impl Left {
    /// Finds which places of one file follow from refusals, in it or in files before it.
    pub(super) fn file(&mut self, source: &str, gated: &str, places: &mut [Place]) {
        let statements = statements(source, gated);
        let lines: Vec<&str> = gated.lines().collect();
        let (mut refused, mut setting) = (false, false);
        for place in places {
            let (first, last) = place.at;
            // Where lines are missing it is the statement before them.
            let lines_met = if last < first { last..=last } else { first..=last };
            let met: Vec<&str> = lines_met
                .filter_map(|line| statements.get(line.checked_sub(1)?).map(String::as_str))
                .collect();
            let said: Vec<&str> = lines.get(first.saturating_sub(1)..last).unwrap_or(&[]).to_vec();
            let mut lost = false;
            for reason in &mut place.reasons {
                match reason {
                    Reason::Refused(code) => {
                        lost = true;
                        if code == "unreadable-setting" {
                            setting = true;
                            let set = met.iter().flat_map(|text| words(text).nth(1));
                            self.names.extend(set);
                        }
                    }
                    Reason::Also(code) => lost |= code == "order-dependent",
                    Reason::Other => {
                        let errors: Vec<&&str> =
                            said.iter().filter(|line| line.contains("ERROR:  ")).collect();
                        let failed = refused
                            && !errors.is_empty()
                            && errors.iter().all(|line| line.contains(FAILED));
                        // A text is read as before a setting that was refused.
                        let other =
                            setting && met.iter().chain(&said).any(|text| text.contains('\\'));
                        if failed
                            || other
                            || met.iter().chain(&said).any(|text| self.names_one(text))
                        {
                            *reason = Reason::Follows;
                            lost |= !errors.is_empty();
                        }
                    }
                    _ => {}
                }
            }
            refused |= lost;
            if lost {
                self.names.extend(met.iter().flat_map(|statement| made(statement)));
            }
        }
    }

    fn names_one(&self, text: &str) -> bool {
        words(text).any(|word| self.names.contains(&word))
    }
}

/// The statement of the file that psql had met last at each line of what it said.
fn statements(source: &str, gated: &str) -> Vec<String> {
    let source: Vec<&str> = source.lines().collect();
    let (mut next, mut reader, mut found) = (0, Reader::default(), Vec::new());
    for line in gated.lines() {
        if reader.copies && source.get(next) != Some(&line) {
            // The data that psql sends is not echoed.
            while source.get(next).is_some_and(|data| *data != "\\.") {
                next += 1;
            }
            next += 1;
        }
        reader.copies = false;
        // psql echoes an empty line only within quotes.
        while reader.quote.is_none() && source.get(next) == Some(&"") {
            next += 1;
        }
        // After output without an end of line the echo stands in the same one.
        let open = reader.last.starts_with("\\echo -n");
        let echoed = |text: &&&str| line == **text || open && line.ends_with(**text);
        if let Some(text) = source.get(next).filter(echoed) {
            next += 1;
            reader.line(text);
            if text.trim_start().starts_with("\\set ECHO ") && !text.ends_with(" all") {
                // Nothing is echoed until it says so again.
                let again = |line: &&str| line.trim() == "\\set ECHO all";
                next += source[next..].iter().position(again).map_or(0, |at| at + 1);
            }
        }
        found.push(reader.last.clone());
    }
    found
}

/// Tells statements apart as psql does, as far as that is needed: by semicolons outside of quotes
/// and parentheses.
#[derive(Default)]
struct Reader {
    /// What was read since the last statement ended.
    open: String,
    /// The last statement that ended.
    last: String,
    /// The quote that is open.
    quote: Option<String>,
    depth: usize,
    /// The last statement is a COPY whose data follow.
    copies: bool,
}

impl Reader {
    fn line(&mut self, line: &str) {
        if self.quote.is_none() && line.trim_start().starts_with('\\') {
            self.last = format!("{}{line}", std::mem::take(&mut self.open));
            return;
        }
        let mut rest = line;
        while let Some(letter) = rest.chars().next() {
            let mut took = letter.len_utf8();
            match &self.quote {
                Some(quote) => {
                    if rest.starts_with(quote.as_str()) {
                        took = quote.len();
                        self.quote = None;
                    }
                }
                None if rest.starts_with("--") => break,
                None if rest.starts_with("/*") => {
                    took = 2;
                    self.quote = Some("*/".to_owned());
                }
                None => match letter {
                    '\'' | '"' => self.quote = Some(letter.to_string()),
                    '$' => {
                        let tag = rest[1..].find('$').map(|end| &rest[..end + 2]);
                        let is_word = |c: char| c.is_alphanumeric() || c == '_';
                        if let Some(tag) = tag.filter(|tag| {
                            let name = &tag[1..tag.len() - 1];
                            name.chars().all(is_word)
                                && !name.starts_with(|c: char| c.is_ascii_digit())
                        }) {
                            self.quote = Some(tag.to_owned());
                            took = tag.len();
                        }
                    }
                    '(' => self.depth += 1,
                    ')' => self.depth = self.depth.saturating_sub(1),
                    ';' if self.depth == 0 && !self.open.ends_with('\\') => {
                        self.end();
                        rest = &rest[1..];
                        continue;
                    }
                    _ => {}
                },
            }
            self.open.push_str(&rest[..took]);
            rest = &rest[took..];
        }
        // psql's own at the end of a line: \gset, \gexec and the like.
        match self.open.rfind('\\').filter(|_| self.quote.is_none()) {
            Some(at) if !self.open[at..].starts_with("\\;") => self.end(),
            _ => self.open.push('\n'),
        }
    }

    fn end(&mut self) {
        self.last = std::mem::take(&mut self.open);
        self.depth = 0;
        let lower = self.last.to_lowercase();
        self.copies = lower.contains("copy") && lower.contains("stdin");
    }
}

/// The words and names of a text, as PostgreSQL folds them.
fn words(text: &str) -> impl Iterator<Item = String> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let words = text.split(move |c: char| !is_word(c)).filter(|word| !word.is_empty());
    words.map(str::to_lowercase)
}

/// Names of what a statement makes or changes.
fn made(statement: &str) -> Vec<String> {
    let words: Vec<String> = words(statement).collect();
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let deletes = word == "from" && at > 0 && words[at - 1] == "delete";
        if !deletes && !MAKES.contains(&word.as_str()) {
            continue;
        }
        let mut names = words[at + 1..].iter().filter(|word| !BETWEEN.contains(&word.as_str()));
        if let Some(name) = names.next() {
            found.push(name.clone());
            // A schema comes first.
            if statement.to_lowercase().contains(&format!("{name}.")) {
                found.extend(names.next().cloned());
            }
        }
    }
    found
}

#[test]
fn what_a_refusal_left_is_found_and_nothing_else() {
    let source = "CREATE FUNCTION f() RETURNS int AS $$\nSELECT 1;\n$$ LANGUAGE sql;\n\nSELECT 2;\n\
                  SELECT f();\nSELECT 3;\nBEGIN;\nCOPY t FROM stdin;\n1\n\\.\nSELECT 4;\n";
    let gated = "CREATE FUNCTION f() RETURNS int AS $$\nSELECT 1;\n$$ LANGUAGE sql;\nERROR: no\n\
                 SELECT 2;\nSELECT f();\nERROR:  function f() does not exist\nSELECT 3;\n 9\n\
                 BEGIN;\nCOPY t FROM stdin;\nSELECT 4;\nERROR:  current transaction is aborted\n";
    let place = |at, reason| Place { at: (at, at), reasons: vec![reason], text: String::new() };
    let mut places = [
        place(4, Reason::Refused("untraceable".into())),
        place(7, Reason::Other),
        place(9, Reason::Other),
        place(13, Reason::Other),
    ];
    let mut left = Left::default();
    left.file(source, gated, &mut places);
    let reasons: Vec<_> = places.iter().map(|place| place.reasons[0].clone()).collect();
    let want =
        [Reason::Refused("untraceable".into()), Reason::Follows, Reason::Other, Reason::Follows];
    assert_eq!(reasons, want);
    assert!(left.names.contains("f") && !left.names.contains("t"), "{left:?}");
    // The next file knows.
    let mut next = [place(2, Reason::Other), place(3, Reason::Other)];
    left.file("SELECT f();\n", "SELECT f();\n 1\n", &mut next[..1]);
    assert_eq!(next[0].reasons, [Reason::Follows]);
    // Lines that are missing are those of the statement before.
    let mut missing = [Place { at: (3, 2), ..place(3, Reason::Other) }];
    left.file("SELECT f();\nSELECT 3;\n", "SELECT f();\n a\nSELECT 3;\n", &mut missing);
    assert_eq!(missing[0].reasons, [Reason::Follows]);
    // Without a refusal nothing follows.
    Left::default().file(source, gated, &mut next[1..]);
    assert_eq!(next[1].reasons, [Reason::Other]);
}
