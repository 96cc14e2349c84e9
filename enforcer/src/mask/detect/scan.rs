//! Finds every hit in a stretch of text, and how far the text can be let go.
//!
//! Candidates come from a vectorised literal search and from byte searches
//! ('@', '.', '-', ':', '+', '_', '~', runs of upper-case letters and digits);
//! each is tried with the one pattern that it can begin. Per detector the hits
//! are those of a leftmost, non-overlapping search, whatever the chunks.

use super::anchors::fold;
use super::table::TABLE;
use super::verify::{Outcome, Verifier};
use super::{Detectors, MAX_MATCH, Swallow, part_of};
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

    fn ssn(&mut self, row: usize, at: usize) {
        let area = at.checked_sub(3).map(|start| &self.text[start..at]);
        if area.is_some_and(|area| area.iter().all(u8::is_ascii_digit))
            && self.may_be(at + 3, |b| b == b'-')
            && self.is_boundary(at - 3)
        {
            self.attempt(row, at - 3);
        }
    }

    fn dot(&mut self, at: usize) {
        let detectors = self.detectors;
        let anchors = &detectors.anchors;
        let Some(before) = self.byte_before(at, 1) else { return };
        for (want, back, row) in &anchors.dots {
            if before == *want && at >= *back {
                self.attempt(*row, at - back);
            }
        }
        if let Some(row) = anchors.ipv4
            && before.is_ascii_digit()
            && self.may_be(at + 1, |b| b.is_ascii_digit())
        {
            let start = self.run_back(at, 4, |b| b.is_ascii_digit());
            let dot = (at + 2..at + 5).any(|next| self.may_be(next, |b| b == b'.'));
            if dot && at - start < 4 {
                self.attempt(row, start);
            }
        }
        if let Some(row) = anchors.jwt
            && is_base64url(before)
            && self.may_be(at + 1, |b| is_base64url(b) || b == b'/')
        {
            self.jwt(row, at);
        }
    }

    /// Six pairs have a colon in every third place: of three bytes in a row inside
    /// them one is a colon, and another one is three bytes on. Colons are frequent
    /// in JSON, such pairs of them are not.
    fn macs(&mut self, row: usize) {
        const STRIDE: usize = 12;
        let text = self.text;
        let mut done = 0;
        for at in (self.from..text.len()).step_by(STRIDE) {
            let colon = |byte: u8| byte == b':';
            if let Some(six) = text.get(at..at + 6)
                && !(colon(six[0]) & colon(six[3])
                    | colon(six[1]) & colon(six[4])
                    | colon(six[2]) & colon(six[5]))
            {
                continue;
            }
            let three = &text[at..text.len().min(at + 3)];
            for colon in (at..at + three.len()).filter(|place| colon(text[*place])) {
                // It may be any of the five; the first pair is two before the first.
                for first in (0..5).rev().filter_map(|pairs| colon.checked_sub(2 + 3 * pairs)) {
                    if first >= done && self.may_be(first + 2, |b| b == b':') {
                        self.attempt(row, first);
                        done = first + 1;
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
            if !is_upper(byte) || !self.may_be_run(probe, !anchors.groups.is_empty()) {
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

    /// A quick look around a probe: in a run of nine there are four more on one
    /// side of it, in groups another group is five away.
    fn may_be_run(&self, probe: usize, groups: bool) -> bool {
        let Some(around) = probe.checked_sub(5).and_then(|start| self.text.get(start..start + 11))
        else {
            return true;
        };
        let upper = |at: usize| is_upper(around[at]);
        let run = (upper(1) & upper(2) & upper(3) & upper(4))
            | (upper(6) & upper(7) & upper(8) & upper(9));
        run | (groups & (upper(0) | upper(10)))
    }

    fn long_run(&mut self, start: usize, end: usize) {
        let after = self.byte(end);
        if self.byte_before(start, 1).is_some_and(is_word) || after.is_some_and(is_word) {
            return;
        }
        let detectors = self.detectors;
        let digit = self.text[start].is_ascii_digit();
        // At the end of the text the run may go on, so any length is possible.
        let open = after.is_none() && !self.eof;
        for (with_digit, lengths, row) in &detectors.anchors.runs {
            if digit == *with_digit && (open || lengths.contains(&(end - start))) {
                self.attempt(*row, start);
            }
        }
    }

    /// Groups parted by a blank or hyphen, from the first one on.
    fn grouped(&mut self, start: usize, end: usize) {
        let is_gap = |b: u8| matches!(b, b' ' | b'-');
        let gap_before = self.byte_before(start, 1).is_some_and(is_gap);
        if !gap_before && !self.may_be(end, is_gap) {
            return;
        }
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
            self.group(*start);
        }
    }

    /// A first group of four and a second one; what is shorter at the end of the
    /// text is held by [`Self::hold_groups`].
    fn group(&mut self, start: usize) {
        let text = self.text;
        let Some(head) = text.get(start..start + 9) else { return };
        if !matches!(head[4], b' ' | b'-') || !head[5..].iter().all(|b| is_upper(*b)) {
            return;
        }
        let digits = matches!(head[0], b'2'..=b'6') && head[..4].iter().all(u8::is_ascii_digit);
        let iban = head[..2].iter().all(u8::is_ascii_uppercase)
            && head[2..4].iter().all(u8::is_ascii_digit);
        let detectors = self.detectors;
        for (with_digits, row) in &detectors.anchors.groups {
            if if *with_digits { digits } else { iban } {
                self.attempt(*row, start);
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
