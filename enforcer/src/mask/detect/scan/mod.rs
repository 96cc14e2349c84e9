//! Finds every hit in a stretch of text, and how far the text can be let go.
//!
//! Candidates come from a vectorised literal search and from byte searches
//! ('@', '.', '-', ':', '+', '_', '~', runs of upper-case letters and digits);
//! each is tried with the one pattern that it can begin. Per detector the hits
//! are those of a leftmost, non-overlapping search, whatever the chunks.

mod hold;
mod runs;
mod signs;

use super::anchors::fold;
use super::table::TABLE;
use super::verify::{Outcome, Verifier};
use super::{Detectors, Swallow, part_of};
use memchr::{memchr_iter, memchr2_iter, memchr3_iter, memmem};
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
    UPPER[usize::from(byte)]
}

/// A table is quicker than two comparisons where it is asked of every ninth byte.
static UPPER: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_digit() || byte.is_ascii_uppercase();
        byte += 1;
    }
    table
};

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
    folded: Vec<u8>,
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
        search.literals(&mut self.folded);
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

    fn literals(&mut self, folded: &mut Vec<u8>) {
        let detectors = self.detectors;
        let Some(literals) = &detectors.anchors.literals else {
            return;
        };
        // One bit makes letters lower case; what it does to other bytes is done to
        // the literals too, and the pattern decides.
        folded.clear();
        folded.extend(self.text.iter().map(|b| fold(*b)));
        let mut at = self.from;
        while let Some((found, start, row)) = literals.next(folded, at) {
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
        match (dotted, anchors.ssn) {
            (true, Some(row)) => memchr2_iter(b'.', b'-', tail).for_each(|at| {
                if tail[at] == b'-' { self.ssn(row, from + at) } else { self.dot(from + at) }
            }),
            (true, None) => memchr_iter(b'.', tail).for_each(|at| self.dot(from + at)),
            (false, Some(row)) => memchr_iter(b'-', tail).for_each(|at| self.ssn(row, from + at)),
            (false, None) => {}
        }
        if let Some(row) = anchors.mac {
            self.macs(row);
        }
        if let Some(row) = anchors.telegram {
            for at in memmem::find_iter(tail, b":AA") {
                let start = self.run_back(from + at, 11, |b| b.is_ascii_digit());
                self.attempt(row, start);
            }
        }
        if !anchors.plus.is_empty() {
            for at in memchr_iter(b'+', tail) {
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
}
