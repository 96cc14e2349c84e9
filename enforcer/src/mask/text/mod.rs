//! Runs the detectors over a stream of text and splices what they find.
//!
//! Holds what may be the start of a match and nothing else: a trailing word, a
//! candidate that the text cut short, at most [`MAX_PENDING`] bytes. The output
//! is the same for every way to cut the input into chunks.
//!
//! In JSON a hit inside a string is replaced inside the string; a number that is
//! hit is replaced whole, so that the text stays JSON.

#[cfg(test)]
mod tests;

use super::detect::{CONTEXT, Carry, Detectors, Hit, MAX_MATCH, Scan, Swallow};
use super::escape::{Escaping, View};
use super::json::is_number;
use super::replace::{Replacement, TOKEN};
use super::{Report, Unmaskable};
use memchr::{memchr, memchr_iter, memchr2, memrchr};
use std::sync::Arc;

/// Input is searched in blocks of this size, so that it stays in the cache.
const BLOCK: usize = 16 * 1024;
/// Held text beyond this is searched again only once it has grown by an eighth,
/// so that tiny chunks cannot make the work quadratic.
const EAGER: usize = 2048;
/// Longest number of JSON that is replaced whole; one that is longer is not what a
/// detector looks for.
const MAX_NUMBER: usize = 64;
/// Most bytes that unfinished matches may hold.
const MAX_PENDING: usize = 4 * MAX_MATCH;

/// What a [`TextMasker`] works by.
pub(super) struct TextRules {
    pub(super) detectors: Detectors,
    /// Name and replacement of each rule, by rule number.
    pub(super) rules: Arc<Vec<(String, Replacement)>>,
}

/// Masks one text.
pub(super) struct TextMasker {
    rules: Arc<TextRules>,
    escaping: Escaping,
    /// The last decoded bytes that were let go, then what is still held, raw.
    buffer: Vec<u8>,
    /// How many bytes of `buffer` were let go already.
    context: usize,
    /// Hits that reach into what is held.
    carry: Carry,
    /// Decoded bytes before this (counted from the start of `buffer`) are masked.
    masked_until: usize,
    swallow: Option<Swallow>,
    /// Inside a JSON string, where the held part begins.
    in_string: bool,
    /// How much was held after the last search.
    held: usize,
    /// Raw bytes taken so far.
    taken: u64,
    /// From this raw byte on the text is known not to be JSON.
    plain_from: u64,
    scan: Scan,
    view: View,
}

impl TextMasker {
    pub(super) fn new(rules: Arc<TextRules>, escaping: Escaping) -> Self {
        Self {
            rules,
            escaping,
            buffer: Vec::new(),
            context: 0,
            carry: Carry::new(),
            masked_until: 0,
            swallow: None,
            in_string: false,
            held: 0,
            taken: 0,
            plain_from: u64::MAX,
            scan: Scan::default(),
            view: View::default(),
        }
    }

    /// Masks the next bytes.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        for block in input.chunks(BLOCK) {
            self.taken += block.len() as u64;
            self.buffer.extend_from_slice(block);
            let pending = self.buffer.len() - self.context;
            if pending > EAGER && pending < self.held + self.held / 8 {
                continue;
            }
            self.run(false, out, report)?;
        }
        Ok(())
    }

    /// What was pushed so far looked like JSON; what comes is not, so numbers in
    /// it are replaced as text is.
    pub(super) fn plain_from_here(&mut self) {
        self.plain_from = self.taken;
    }

    /// Whether the raw byte at `at` in the buffer stands outside JSON strings.
    fn is_bare(&self, at: usize, in_string: bool) -> bool {
        let absolute = self.taken - (self.buffer.len() - at) as u64;
        self.escaping == Escaping::Json && !in_string && absolute < self.plain_from
    }

    /// The text ends here; afterwards the masker is ready for another text.
    pub(super) fn finish(
        &mut self,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        self.run(true, out, report)?;
        self.restart(self.escaping);
        Ok(())
    }

    /// Forgets the text so far and begins another.
    pub(super) fn restart(&mut self, escaping: Escaping) {
        self.escaping = escaping;
        self.buffer.clear();
        self.carry.clear();
        (self.context, self.masked_until, self.held) = (0, 0, 0);
        (self.taken, self.plain_from) = (0, u64::MAX);
        (self.swallow, self.in_string) = (None, false);
    }

    fn run(&mut self, eof: bool, out: &mut Vec<u8>, report: &mut Report) -> Result<(), Unmaskable> {
        while self.buffer.len() > self.context {
            self.view.build(&self.buffer, self.context, self.escaping, eof);
            if let Some(swallow) = &mut self.swallow {
                let text = self.view.text(&self.buffer);
                let (eaten, ended) = swallow.eat(&text[self.context..]);
                self.let_go(self.context + eaten);
                if !ended {
                    break;
                }
                self.swallow = None;
                continue;
            }
            let text = self.view.text(&self.buffer);
            self.scan.run(&self.rules.detectors, text, self.context, eof, &self.carry);
            let cut = self.cut(eof);
            if !self.commit(cut, out, report) {
                break;
            }
        }
        self.held = self.buffer.len() - self.context;
        if self.held > MAX_PENDING {
            return Err(Unmaskable::TooLong { what: "an unfinished match", limit: MAX_PENDING });
        }
        Ok(())
    }

    /// How far the text can be let go: no hit may be parted from what is masked
    /// of it. Numbers of JSON that are hit are widened to the whole number.
    fn cut(&mut self, eof: bool) -> usize {
        let text = self.view.text(&self.buffer);
        let mut cut = self.scan.hold;
        if self.escaping == Escaping::Json {
            let (mut at, mut in_string) = (self.context, self.in_string);
            let mut hits = std::mem::take(&mut self.scan.hits);
            for hit in &mut hits {
                let start = self.view.raw_start(hit.part.start);
                in_string = quotes(&self.buffer[at.min(start)..start], in_string);
                at = start;
                if !self.is_bare(start, in_string) || hit.swallow.is_some() {
                    continue;
                }
                if let Some(open) = widen(hit, text, self.context, eof) {
                    cut = cut.min(open);
                }
            }
            self.scan.hits = hits;
        }
        loop {
            let parted = |hit: &&Hit| {
                let first = hit.found.start.min(hit.part.start);
                first < cut && (hit.part.start >= cut || hit.found.start >= cut)
            };
            match self.scan.hits.iter().find(parted) {
                Some(hit) => cut = hit.found.start.min(hit.part.start),
                None => return cut,
            }
        }
    }

    /// Writes everything before `cut`; whether there is more to do.
    fn commit(&mut self, cut: usize, out: &mut Vec<u8>, report: &mut Report) -> bool {
        let hits = std::mem::take(&mut self.scan.hits);
        let text = self.view.text(&self.buffer);
        let mut at = self.masked_until.max(self.context);
        let mut end = cut;
        let mut swallowing = None;
        let (mut quoted_at, mut in_string) = (self.context, self.in_string);
        self.carry.retain(|(_, end)| *end > cut);
        for hit in hits.iter().filter(|hit| hit.found.start < cut) {
            let rules = &self.rules;
            let rule = rules.detectors.owner(hit.row);
            let (name, replacement) = &rules.rules[rule];
            report.add(&format!("{name}/{}", Detectors::name(hit.row)), 1);
            self.carry.push((hit.row, hit.found.end));
            if hit.part.start >= at {
                let (from, to) = (self.view.raw_end(at), self.view.raw_start(hit.part.start));
                out.extend_from_slice(&self.buffer[from..to]);
                in_string = quotes(&self.buffer[quoted_at.min(to)..to], in_string);
                quoted_at = to;
                let value = &text[hit.part.clone()];
                let bare = self.is_bare(to, in_string);
                put(replacement, value, hit.swallow.is_some(), bare, self.escaping, out);
            }
            at = at.max(hit.part.end);
            if hit.swallow.is_some() {
                (end, swallowing) = (hit.found.end, hit.swallow);
                break;
            }
        }
        if end > at {
            let (from, to) = (self.view.raw_end(at), self.view.raw_start(end));
            out.extend_from_slice(&self.buffer[from..to]);
        }
        self.masked_until = at;
        self.scan.hits = hits;
        self.let_go(end);
        self.swallow = swallowing;
        swallowing.is_some()
    }

    /// Forgets the decoded bytes before `cut`, a few for context aside.
    fn let_go(&mut self, cut: usize) {
        let raw = self.view.raw_start(cut);
        self.in_string = quotes(&self.buffer[self.context..raw], self.in_string);
        let text = self.view.text(&self.buffer);
        let context = cut.min(CONTEXT);
        let mut kept = [0; CONTEXT];
        kept[..context].copy_from_slice(&text[cut - context..cut]);
        // An escape is never shorter than what it stands for, so there is room.
        self.buffer[raw - context..raw].copy_from_slice(&kept[..context]);
        self.buffer.drain(..raw - context);
        let shift = cut - context;
        self.context = context;
        self.masked_until = self.masked_until.saturating_sub(shift);
        self.carry.retain_mut(|(_, end)| {
            *end = end.saturating_sub(shift);
            *end > context
        });
    }
}

/// Writes what stands for `value`.
fn put(
    replacement: &Replacement,
    value: &[u8],
    goes_on: bool,
    bare: bool,
    escaping: Escaping,
    out: &mut Vec<u8>,
) {
    let bare = bare && is_number(value);
    // What is swallowed is not known whole, so no part or hash of it is kept.
    if goes_on || !replacement.needs_value() {
        let token = if bare { "null" } else { TOKEN };
        return out.extend_from_slice(token.as_bytes());
    }
    if bare {
        out.push(b'"');
    }
    escaping.write(&replacement.apply(value), out);
    if bare {
        out.push(b'"');
    }
}

/// Widens a hit outside JSON strings to the number that it is part of. Says from
/// where to hold when the number may go on. What was let go is still looked at: text that begins
/// there is no number, or it would have been held.
fn widen(hit: &mut Hit, text: &[u8], context: usize, eof: bool) -> Option<usize> {
    let of_number = |b: &&u8| b.is_ascii_digit() || b"+-.eE".contains(b);
    let before = text[..hit.part.start].iter().rev().take(MAX_NUMBER).take_while(of_number).count();
    let after = text[hit.part.end..].iter().take(MAX_NUMBER).take_while(of_number).count();
    let number = hit.part.start - before..hit.part.end + after;
    if number.len() > MAX_NUMBER || number.start < context {
        return None;
    }
    if number.end == text.len() && !eof {
        return Some(number.start);
    }
    if is_number(&text[number.clone()]) {
        hit.part = number;
    }
    None
}

/// Whether the place after `raw` is inside a JSON string. A line end never is.
fn quotes(raw: &[u8], in_string: bool) -> bool {
    let (mut raw, mut inside) = match memrchr(b'\n', raw) {
        Some(at) => (&raw[at + 1..], false),
        None => (raw, in_string),
    };
    if memchr(b'\\', raw).is_none() {
        return inside ^ (memchr_iter(b'"', raw).count() % 2 == 1);
    }
    while let Some(at) = memchr2(b'"', b'\\', raw) {
        let skip = if raw[at] == b'"' {
            inside = !inside;
            1
        } else {
            2
        };
        raw = raw.get(at + skip..).unwrap_or_default();
    }
    inside
}
