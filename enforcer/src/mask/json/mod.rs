//! Masks values by JSON path in a stream of JSON texts, over any chunk boundary.
//!
//! A strict RFC 8259 reader: what another parser might read differently
//! (comments, trailing commas, bad escapes, bad UTF-8) is an error, so that no
//! value hides behind a disagreement. Several texts in a row are accepted: NDJSON,
//! concatenated JSON, RFC 7464 sequences. Output bytes are spliced: everything
//! that is not replaced stays as it came. Nothing is held but a value that is
//! being replaced and whose end or hash is to be kept ([`MAX_VALUE`]).
//!
//! Must never: emit a byte of a selected value, or go on after an error.

mod lex;
#[cfg(test)]
mod tests;

use super::path::{Edge, MAX_KEY, PathState, Paths};
use super::replace::{Replacement, TOKEN, json_escape};
use super::{Report, Unmaskable};
use lex::{Number, StringLexer, StringStep, WORDS};
pub(super) use lex::{hex_digit, is_number};
use std::sync::Arc;

/// Deepest nesting that is read.
pub(super) const MAX_DEPTH: usize = 512;
/// Longest value, in decoded bytes, of which a part or a hash is kept; a longer
/// one is redacted whole.
pub(super) const MAX_VALUE: usize = 64 * 1024;

/// The paths and replacements that a [`JsonMasker`] works by.
pub(super) struct JsonRules {
    pub(super) paths: Paths,
    /// Name and replacement of each rule, by rule number.
    pub(super) rules: Arc<Vec<(String, Replacement)>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between texts at the top level.
    Top,
    /// A value must follow.
    Value,
    /// A value or `]`: just after `[`.
    ValueOrEnd,
    /// A key or `}`: just after `{`.
    KeyOrEnd,
    /// A key: after a comma in an object.
    Key,
    Colon,
    /// After a value inside an object or array.
    CommaOrEnd,
    String,
    Number(Number),
    /// Inside `true`, `false` or `null`: which, and bytes read.
    Word(u8, u8),
    Failed,
}

struct Frame {
    is_object: bool,
    /// Where the container's path states begin in the flat list.
    states: usize,
    /// Next element's index.
    index: u64,
}

/// What is done with the scalar that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scalar {
    /// An object's key: passed on, and read if paths could match it.
    Key,
    Plain,
    /// Replaced by this rule.
    Masked(usize),
}

/// Masks one body of JSON texts.
pub(super) struct JsonMasker {
    rules: Arc<JsonRules>,
    state: State,
    scalar: Scalar,
    lexer: StringLexer,
    stack: Vec<Frame>,
    states: Vec<PathState>,
    /// The key in front of the value to come, decoded; `None` when too long.
    key: Option<Vec<u8>>,
    /// The value being replaced, decoded; `None` when too long to keep.
    value: Option<Vec<u8>>,
    /// The stack's height outside a container that is being dropped.
    dropping: Option<usize>,
    at: u64,
    /// Objects read to their end.
    objects: u64,
    /// A path led to a value.
    selected: bool,
    /// A `)` behind the texts ends them.
    in_call: bool,
    /// It was read.
    closed: bool,
}

impl JsonMasker {
    pub(super) fn new(rules: Arc<JsonRules>) -> Self {
        Self {
            rules,
            state: State::Top,
            scalar: Scalar::Plain,
            lexer: StringLexer::default(),
            stack: Vec::new(),
            states: Vec::new(),
            key: None,
            value: None,
            dropping: None,
            at: 0,
            objects: 0,
            selected: false,
            in_call: false,
            closed: false,
        }
    }

    /// For texts that are the argument of a call.
    pub(super) fn in_call(rules: Arc<JsonRules>) -> Self {
        Self { in_call: true, ..Self::new(rules) }
    }

    /// Whether the bracket that ends the call was met; it is not taken, and nothing behind it is.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether an object was read or a path led to a value: from then on an error means
    /// damaged JSON. Before, it may mean that this never was JSON but text that
    /// begins like it (`[1] a note`, `[DONE]`).
    pub(super) fn has_committed(&self) -> bool {
        self.objects > 0 || self.selected
    }

    /// Masks the next bytes. After an error nothing more is accepted. On an
    /// error everything read and to be kept before it has been written; the
    /// number of bytes taken is in `taken`.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
        taken: &mut usize,
    ) -> Result<(), Unmaskable> {
        let mut run = Run { input, at: 0, keep_from: 0, silent: self.is_silent() };
        let result = self.run(&mut run, out, report);
        if !run.silent {
            out.extend_from_slice(&input[run.keep_from..run.at]);
        }
        *taken = run.at;
        self.at += run.at as u64;
        result.map_err(|why| {
            self.state = State::Failed;
            Unmaskable::Json { at: self.at, why }
        })
    }

    /// The body ends here.
    pub(super) fn finish(
        &mut self,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        let mut why = match self.state {
            State::Number(number) if !number.is_complete() => Some("a number is cut short"),
            State::Number(_) => {
                self.end_scalar(out, report);
                None
            }
            State::Top => None,
            State::Failed => Some("an earlier error"),
            _ => Some("the content ends inside a value"),
        };
        if why.is_none() && !self.stack.is_empty() {
            why = Some("the content ends inside an object or array");
        }
        why.map_or(Ok(()), |why| Err(Unmaskable::Json { at: self.at, why }))
    }

    fn is_silent(&self) -> bool {
        self.dropping.is_some() || matches!(self.scalar, Scalar::Masked(_))
    }

    fn run(
        &mut self,
        run: &mut Run<'_>,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), &'static str> {
        while let Some(&byte) = run.input.get(run.at).filter(|_| !self.closed) {
            match self.state {
                State::String => self.string(run, out, report)?,
                State::Number(number) => match number.next(byte) {
                    Some(next) => {
                        self.keep_value(&[byte]);
                        self.state = State::Number(next);
                        run.at += 1;
                    }
                    None if number.is_complete() => {
                        run.end_scalar(self, out, report);
                    }
                    None => return Err("a number is malformed"),
                },
                State::Word(word, seen) => {
                    let text = WORDS[usize::from(word)];
                    if text.get(usize::from(seen)) != Some(&byte) {
                        return Err("expected true, false or null");
                    }
                    run.at += 1;
                    if usize::from(seen) + 1 < text.len() {
                        self.state = State::Word(word, seen + 1);
                        continue;
                    }
                    run.end_scalar(self, out, report);
                }
                _ if matches!(byte, b' ' | b'\t' | b'\r' | b'\n') => run.at += 1,
                State::Top if byte == 0x1E => run.at += 1,
                State::Top if byte == b')' && self.in_call => self.closed = true,
                State::Top | State::Value => self.value(byte, run, out, report)?,
                State::ValueOrEnd if byte == b']' => self.close(run),
                State::ValueOrEnd => self.value(byte, run, out, report)?,
                State::KeyOrEnd if byte == b'}' => self.close(run),
                State::KeyOrEnd | State::Key => {
                    if byte != b'"' {
                        return Err("expected a key in quotes");
                    }
                    self.scalar = Scalar::Key;
                    self.key = Some(Vec::new());
                    self.lexer = StringLexer::default();
                    self.state = State::String;
                    run.at += 1;
                }
                State::Colon => {
                    if byte != b':' {
                        return Err("expected `:` after a key");
                    }
                    self.state = State::Value;
                    run.at += 1;
                }
                State::CommaOrEnd => {
                    let is_object = self.stack.last().is_some_and(|frame| frame.is_object);
                    match (byte, is_object) {
                        (b',', true) => self.state = State::Key,
                        (b',', false) => self.state = State::Value,
                        (b'}', true) | (b']', false) => {
                            self.close(run);
                            continue;
                        }
                        _ => return Err("expected `,` or the end of the object or array"),
                    }
                    run.at += 1;
                }
                State::Failed => return Err("an earlier error"),
            }
        }
        Ok(())
    }

    /// The first byte of a value.
    fn value(
        &mut self,
        byte: u8,
        run: &mut Run<'_>,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), &'static str> {
        let next = match byte {
            b'"' => State::String,
            b'{' => State::KeyOrEnd,
            b'[' => State::ValueOrEnd,
            b't' => State::Word(0, 1),
            b'f' => State::Word(1, 1),
            b'n' => State::Word(2, 1),
            byte => State::Number(Number::first(byte).ok_or("expected a value")?),
        };
        let base = self.states.len();
        let selected = self.select();
        self.selected |= selected.is_some();
        let opens = matches!(next, State::KeyOrEnd | State::ValueOrEnd);
        if opens {
            if self.stack.len() >= MAX_DEPTH {
                return Err("objects and arrays are nested too deep");
            }
            if let Some(rule) = selected {
                // Emptied whole: a part of what the rule names must not show,
                // not even the keys or the number of elements.
                run.silence(out);
                out.extend_from_slice(if byte == b'{' { b"{}" } else { b"[]" });
                self.dropping = Some(self.stack.len());
                self.count(rule, report);
            }
            self.stack.push(Frame { is_object: byte == b'{', states: base, index: 0 });
        } else {
            self.states.truncate(base);
            self.scalar = selected.map_or(Scalar::Plain, Scalar::Masked);
            if let Some(rule) = selected {
                run.silence(out);
                let needs = self.rules.rules[rule].1.needs_value();
                self.value = needs.then(Vec::new);
            }
            if next == State::String {
                self.lexer = StringLexer::default();
            } else {
                self.keep_value(&[byte]);
            }
        }
        self.state = next;
        run.at += 1;
        Ok(())
    }

    /// Pushes the path states of the value that begins; the rule that selects it.
    fn select(&mut self) -> Option<usize> {
        if self.dropping.is_some() {
            return None;
        }
        let end = self.states.len();
        let Some(parent) = self.stack.last_mut() else {
            self.states.clear();
            return self.rules.paths.root(&mut self.states);
        };
        let edge = if parent.is_object {
            Edge::Key(self.key.as_deref())
        } else {
            parent.index += 1;
            Edge::Index(parent.index - 1)
        };
        self.rules.paths.child(parent.states..end, edge, &mut self.states)
    }

    fn string(
        &mut self,
        run: &mut Run<'_>,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), &'static str> {
        let wanted = match self.scalar {
            Scalar::Key => self.dropping.is_none(),
            Scalar::Plain => false,
            Scalar::Masked(_) => self.value.is_some(),
        };
        let rest = &run.input[run.at..];
        let mut sink = Sink {
            to: match self.scalar {
                Scalar::Key => &mut self.key,
                _ => &mut self.value,
            },
            limit: if self.scalar == Scalar::Key { MAX_KEY } else { MAX_VALUE },
            wanted,
        };
        let (step, used) = self.lexer.read(rest, &mut |bytes| sink.take(bytes))?;
        run.at += used;
        if step == StringStep::More {
            return Ok(());
        }
        if self.scalar == Scalar::Key {
            self.state = State::Colon;
            self.scalar = Scalar::Plain;
        } else {
            run.end_scalar(self, out, report);
        }
        Ok(())
    }

    fn keep_value(&mut self, bytes: &[u8]) {
        if matches!(self.scalar, Scalar::Masked(_)) {
            Sink { to: &mut self.value, limit: MAX_VALUE, wanted: true }.take(bytes);
        }
    }

    /// Closes the innermost container at the byte under the cursor.
    fn close(&mut self, run: &mut Run<'_>) {
        run.at += 1;
        if let Some(frame) = self.stack.pop() {
            self.states.truncate(frame.states);
            self.objects += u64::from(frame.is_object);
        }
        if self.dropping == Some(self.stack.len()) {
            self.dropping = None;
            run.resume();
        }
        self.after_value();
    }

    fn after_value(&mut self) {
        self.state = if self.stack.is_empty() { State::Top } else { State::CommaOrEnd };
    }

    fn count(&self, rule: usize, report: &mut Report) {
        report.add(&self.rules.rules[rule].0, 1);
    }

    /// Writes what stands for a scalar that ends here.
    fn end_scalar(&mut self, out: &mut Vec<u8>, report: &mut Report) {
        if let Scalar::Masked(rule) = self.scalar {
            let is_null = matches!(self.state, State::Word(2, _));
            if is_null {
                out.extend_from_slice(b"null");
            } else {
                self.replace(rule, out);
                self.count(rule, report);
            }
        }
        self.scalar = Scalar::Plain;
        self.value = None;
        self.after_value();
    }

    fn replace(&mut self, rule: usize, out: &mut Vec<u8>) {
        let rules = Arc::clone(&self.rules);
        let replacement = &rules.rules[rule].1;
        let value = match (self.state, self.value.take()) {
            (State::Word(word, _), Some(_)) => Some(WORDS[usize::from(word)].to_vec()),
            (_, value) => value,
        };
        match value {
            Some(value) if replacement.needs_value() => {
                out.push(b'"');
                json_escape(&replacement.apply(&value), out);
                out.push(b'"');
            }
            _ if self.state == State::String => {
                out.push(b'"');
                out.extend_from_slice(TOKEN.as_bytes());
                out.push(b'"');
            }
            _ => out.extend_from_slice(b"null"),
        }
    }
}

/// Collects decoded bytes up to a limit; past it the whole is given up.
struct Sink<'a> {
    to: &'a mut Option<Vec<u8>>,
    limit: usize,
    wanted: bool,
}

impl Sink<'_> {
    fn take(&mut self, bytes: &[u8]) {
        if !self.wanted {
            return;
        }
        match self.to.as_mut() {
            Some(kept) if kept.len() + bytes.len() <= self.limit => kept.extend_from_slice(bytes),
            _ => *self.to = None,
        }
    }
}

/// One chunk on its way: what of it has been written already.
struct Run<'a> {
    input: &'a [u8],
    at: usize,
    /// Everything from here to `at` is still to be copied, unless silent.
    keep_from: usize,
    silent: bool,
}

impl Run<'_> {
    /// Copies what came before the cursor and copies nothing from here on.
    fn silence(&mut self, out: &mut Vec<u8>) {
        if !self.silent {
            out.extend_from_slice(&self.input[self.keep_from..self.at]);
            self.silent = true;
        }
    }

    /// Copies again from the cursor on.
    fn resume(&mut self) {
        self.keep_from = self.at;
        self.silent = false;
    }

    fn end_scalar(&mut self, masker: &mut JsonMasker, out: &mut Vec<u8>, report: &mut Report) {
        let masked = matches!(masker.scalar, Scalar::Masked(_));
        masker.end_scalar(out, report);
        if masked {
            self.resume();
        }
    }
}
