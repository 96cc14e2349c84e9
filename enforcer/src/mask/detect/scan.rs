//! Finds every hit in a stretch of text, and how far the text can be let go.
//!
//! Candidates come from a vectorised literal search and from byte searches
//! ('@', '.', '-', ':', '+', '_', '~', runs of upper-case letters and digits);
//! each is tried with the one pattern that it can begin. Per detector the hits
//! are those of a leftmost, non-overlapping search, whatever the chunks.

use super::table::TABLE;
use super::verify::{Outcome, Verifier};
use super::{Detectors, MAX_MATCH, Swallow, part_of};
use memchr::{memchr3_iter, memmem};
use std::ops::Range;

/// A string of these may be the start of a match whose anchor is still to come.
/// No pattern has more than [`MAX_BEFORE_ANCHOR`] of them before its anchor, a
/// token (see [`Scan::hold_token`]) aside.
fn is_open(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-~:/".contains(&byte)
}

const MAX_BEFORE_ANCHOR: usize = 66;
/// Longest text of grouped digits and letters (an IBAN of 34 in groups of four).
const MAX_GROUPED: usize = 48;
/// Runs shorter than this are found by no [`super::table::Anchor::Run`] pattern.
const SHORTEST_RUN: usize = 9;

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_upper(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase()
}

fn is_email_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte)
}

fn is_base64url(byte: u8) -> bool {
    is_word(byte) || byte == b'-'
}

/// What one detector found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mask) struct Hit {
    /// Row of the detector table.
    pub(in crate::mask) row: usize,
    /// The whole match.
    pub(in crate::mask) found: Range<usize>,
    /// The part that is masked.
    pub(in crate::mask) part: Range<usize>,
    /// What goes on after it.
    pub(in crate::mask) swallow: Option<Swallow>,
}

/// Ends of hits that reach beyond what was let go, relative to the next text.
pub(in crate::mask) type Carry = Vec<(usize, usize)>;

/// One search, with its scratch memory. Reusable.
#[derive(Default)]
pub(in crate::mask) struct Scan {
    pub(in crate::mask) hits: Vec<Hit>,
    /// Everything before this can be let go.
    pub(in crate::mask) hold: usize,
    lower: Vec<u8>,
    last_end: Vec<usize>,
}

/// One search over one text.
struct Search<'a> {
    detectors: &'a Detectors,
    text: &'a [u8],
    /// Matches start here or later; what is before is context.
    from: usize,
    eof: bool,
    verifier: Verifier,
    hits: &'a mut Vec<Hit>,
    last_end: &'a mut [usize],
    hold: usize,
}

impl Scan {
    /// Searches `text` from `from` on; `carry` are ends of earlier hits.
    pub(in crate::mask) fn run(
        &mut self,
        detectors: &Detectors,
        text: &[u8],
        from: usize,
        eof: bool,
        carry: &Carry,
    ) {
        self.hits.clear();
        self.last_end.clear();
        self.last_end.resize(TABLE.len(), 0);
        for (row, end) in carry {
            self.last_end[*row] = *end;
        }
        let mut search = Search {
            detectors,
            text,
            from,
            eof,
            verifier: Verifier::default(),
            hits: &mut self.hits,
            last_end: &mut self.last_end,
            hold: text.len(),
        };
        search.literals(&mut self.lower);
        search.bytes();
        search.runs();
        if !eof {
            search.hold_open();
            search.hold_token();
            search.hold_groups();
        }
        self.hold = search.hold;
        self.hits.sort_by_key(|hit| (hit.part.start, std::cmp::Reverse(hit.part.end), hit.row));
    }
}

impl Search<'_> {
    /// Tries a row's pattern at `start`.
    fn attempt(&mut self, row: usize, start: usize) {
        if start < self.from || start < self.last_end[row] {
            return;
        }
        let (mut end, long) = match self.verifier.run(row, self.text, start, self.eof) {
            Outcome::No => return,
            Outcome::More => return self.hold = self.hold.min(start),
            Outcome::Match(end) => (end, false),
            Outcome::Long(end) => (end, true),
        };
        let detector = &TABLE[row];
        if let Some(check) = detector.check.filter(|_| self.detectors.checked && !long) {
            match check(self.text, start, end) {
                Some(checked) => end = checked,
                None => return,
            }
        }
        self.last_end[row] = end;
        let (part, swallow) = if long {
            (start..end, Some(Swallow::Token))
        } else {
            let part = part_of(detector.part, &self.text[start..end]);
            (start + part.start..start + part.end, Swallow::of(detector.tail))
        };
        self.hits.push(Hit { row, found: start..end, part, swallow });
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    fn byte_before(&self, at: usize, back: usize) -> Option<u8> {
        at.checked_sub(back).map(|at| self.text[at])
    }

    /// Whether the byte at `at` is what `test` wants, or is still to come.
    fn may_be(&self, at: usize, test: impl Fn(u8) -> bool) -> bool {
        self.byte(at).map_or(!self.eof, test)
    }

    fn is_boundary(&self, at: usize) -> bool {
        self.byte_before(at, 1).is_some_and(is_word) != self.byte(at).is_some_and(is_word)
    }

    fn literals(&mut self, lower: &mut Vec<u8>) {
        let detectors = self.detectors;
        let Some(literals) = &detectors.anchors.literals else {
            return;
        };
        lower.clear();
        lower.extend(self.text.iter().map(u8::to_ascii_lowercase));
        let mut at = self.from;
        while let Some((found, start, row)) = literals.next(lower, at) {
            if let Some(start) = start {
                self.attempt(row, start);
            }
            at = found + 1;
        }
    }

    fn bytes(&mut self) {
        let detectors = self.detectors;
        let anchors = &detectors.anchors;
        let (text, from) = (self.text, self.from);
        let tail = &text[from..];
        if anchors.at.is_some() || anchors.hf.is_some() || anchors.tilde.is_some() {
            for at in memchr3_iter(b'@', b'_', b'~', tail) {
                self.sign(from + at);
            }
        }
        let dotted = anchors.jwt.is_some() || anchors.ipv4.is_some() || !anchors.dots.is_empty();
        if dotted || anchors.ssn.is_some() || anchors.mac.is_some() || anchors.telegram.is_some() {
            for at in memchr3_iter(b'.', b'-', b':', tail) {
                self.punctuation(from + at);
            }
        }
        if !anchors.plus.is_empty() {
            for at in memchr::memchr_iter(b'+', tail) {
                let digit = |b: u8| b.is_ascii_digit();
                if self.may_be(from + at + 1, |b| digit(b) && b != b'0') {
                    for row in &anchors.plus {
                        self.attempt(*row, from + at);
                    }
                }
            }
        }
        if let Some(row) = anchors.sk {
            for at in memmem::find_iter(tail, b"SK") {
                if self.may_be(from + at + 2, |b| b.is_ascii_hexdigit()) {
                    self.attempt(row, from + at);
                }
            }
        }
    }

    fn sign(&mut self, at: usize) {
        let anchors = &self.detectors.anchors;
        match self.text[at] {
            b'@' => {
                if let Some(row) = anchors.at {
                    self.email(row, at);
                }
            }
            b'_' => {
                if let (Some(row), true) = (anchors.hf, self.text[..at].ends_with(b"hf")) {
                    self.attempt(row, at - 2);
                }
            }
            _ => {
                if let (Some(row), true, Some(start)) =
                    (anchors.tilde, self.text[..at].ends_with(b"Q"), at.checked_sub(5))
                {
                    self.attempt(row, start);
                }
            }
        }
    }

    /// The leftmost place in the local part where a word begins or ends.
    fn email(&mut self, row: usize, at: usize) {
        let low = at.saturating_sub(64).max(self.from).max(self.last_end[row]);
        let mut run = at;
        while run > low && is_email_local(self.text[run - 1]) {
            run -= 1;
        }
        if let Some(start) = (run..at).find(|start| self.is_boundary(*start)) {
            self.attempt(row, start);
        }
    }

    fn punctuation(&mut self, at: usize) {
        let detectors = self.detectors;
        let anchors = &detectors.anchors;
        let before = self.byte_before(at, 1);
        match self.text[at] {
            b'-' => {
                let Some(row) = anchors.ssn else { return };
                let digit = before.is_some_and(|b| b.is_ascii_digit());
                if digit && self.may_be(at + 3, |b| b == b'-') && at >= 3 {
                    self.attempt(row, at - 3);
                }
            }
            b':' => {
                if let Some(row) = anchors.mac {
                    let pair = before.is_some_and(|b| b.is_ascii_hexdigit());
                    if pair && self.may_be(at + 3, |b| b == b':') && at >= 2 {
                        self.attempt(row, at - 2);
                    }
                }
                if let Some(row) = anchors.telegram {
                    if before.is_some_and(|b| b.is_ascii_digit())
                        && self.may_be(at + 1, |b| b == b'A')
                    {
                        let run = self.run_back(at, 11, |b| b.is_ascii_digit());
                        self.attempt(row, run);
                    }
                }
            }
            _ => {
                let Some(before) = before else { return };
                for (want, back, row) in &anchors.dots {
                    if before == *want && at >= *back {
                        self.attempt(*row, at - back);
                    }
                }
                if let Some(row) = anchors.ipv4 {
                    if before.is_ascii_digit() && self.may_be(at + 1, |b| b.is_ascii_digit()) {
                        let start = self.run_back(at, 4, |b| b.is_ascii_digit());
                        self.attempt(row, start);
                    }
                }
                if let Some(row) = anchors.jwt {
                    let open = is_base64url(before)
                        && self.may_be(at + 1, |b| is_base64url(b) || b == b'/');
                    if open {
                        self.jwt(row, at);
                    }
                }
            }
        }
    }

    fn run_back(&self, at: usize, most: usize, test: impl Fn(u8) -> bool) -> usize {
        let mut start = at;
        while start > 0 && at - start < most && test(self.text[start - 1]) {
            start -= 1;
        }
        start
    }

    fn jwt(&mut self, row: usize, dot: usize) {
        let run = self.run_back(dot, MAX_MATCH - 1, is_base64url);
        let low = run.max(self.from).max(self.last_end[row]);
        if let Some(start) = self.token_start(low, dot) {
            self.attempt(row, start);
        }
    }

    /// The first `ey` at a word's edge.
    fn token_start(&self, from: usize, to: usize) -> Option<usize> {
        (from..to).find(|at| {
            self.text[*at] == b'e' && self.may_be(*at + 1, |b| b == b'y') && self.is_boundary(*at)
        })
    }

    /// Runs of upper-case letters and digits: every run of at least
    /// [`SHORTEST_RUN`] covers one of the probed places.
    fn runs(&mut self) {
        let detectors = self.detectors;
        let anchors = &detectors.anchors;
        if anchors.runs.is_empty() && anchors.groups.is_empty() {
            return;
        }
        let text = self.text;
        let mut probe = self.from + SHORTEST_RUN - 1;
        while let Some(&byte) = text.get(probe) {
            if !is_upper(byte) {
                probe += SHORTEST_RUN;
                continue;
            }
            let mut start = probe;
            while start > 0 && is_upper(text[start - 1]) {
                start -= 1;
            }
            let mut end = probe + 1;
            while end < text.len() && is_upper(text[end]) {
                end += 1;
            }
            if end - start >= SHORTEST_RUN {
                self.long_run(start, end);
            } else if !anchors.groups.is_empty() {
                self.grouped(start, end);
            }
            probe = end + SHORTEST_RUN;
        }
    }

    fn long_run(&mut self, start: usize, end: usize) {
        let glued =
            self.byte_before(start, 1).is_some_and(is_word) || self.byte(end).is_some_and(is_word);
        if glued || end - start > 34 {
            return;
        }
        let detectors = self.detectors;
        for row in &detectors.anchors.runs {
            self.attempt(*row, start);
        }
    }

    /// Groups parted by a blank or hyphen, from the first one on.
    fn grouped(&mut self, start: usize, end: usize) {
        let is_gap = |b: u8| matches!(b, b' ' | b'-');
        let text = self.text;
        let gap_before = self.byte_before(start, 1).is_some_and(is_gap);
        if !gap_before && !self.may_be(end, is_gap) {
            return;
        }
        let detectors = self.detectors;
        let mut first = start;
        let mut starts = [start; 12];
        let mut count = 1;
        while count < starts.len() && self.byte_before(first, 1).is_some_and(is_gap) {
            let gap = first - 1;
            let run = self.run_back(gap, 7, is_upper);
            if !matches!(gap - run, 4..=6) {
                break;
            }
            first = run;
            starts[count] = run;
            count += 1;
        }
        for start in starts[..count].iter().rev() {
            let Some(head) = text.get(*start..*start + 4) else {
                continue;
            };
            let card = head.iter().all(u8::is_ascii_digit);
            let iban = head[..2].iter().all(u8::is_ascii_uppercase)
                && head[2..].iter().all(u8::is_ascii_digit);
            if card || iban {
                for row in &detectors.anchors.groups {
                    self.attempt(*row, *start);
                }
            }
        }
    }

    fn hold_from(&mut self, at: usize) {
        self.hold = self.hold.min(at.max(self.from));
    }

    /// The open end: a word that may go on, with a quote before it if that may
    /// be the start of `"type"`.
    fn hold_open(&mut self) {
        let end = self.text.len();
        let mut start = self.run_back(end, MAX_BEFORE_ANCHOR, is_open);
        if self.byte_before(start, 1) == Some(b'"')
            && b"\"type\"".starts_with(&self.text[start - 1..])
        {
            start -= 1;
        }
        self.hold_from(start);
    }

    /// A token whose first dot is still to come.
    fn hold_token(&mut self) {
        let Some(row) = self.detectors.anchors.jwt else {
            return;
        };
        let end = self.text.len();
        let run = self.run_back(end, MAX_MATCH, is_base64url);
        if end - run <= MAX_BEFORE_ANCHOR {
            return;
        }
        let low = run.max(self.from).max(self.last_end[row]);
        if let Some(start) = self.token_start(low, end) {
            self.hold_from(start);
        }
    }

    /// Groups that may go on.
    fn hold_groups(&mut self) {
        if self.detectors.anchors.groups.is_empty() {
            return;
        }
        let end = self.text.len();
        let start = self.run_back(end, MAX_GROUPED, |b| is_upper(b) || matches!(b, b' ' | b'-'));
        // Blanks before the first group belong to no match.
        let blanks = self.text[start..].iter().take_while(|b| matches!(b, b' ' | b'-')).count();
        self.hold_from(start + blanks);
    }
}
