//! Masks named fields of `application/x-www-form-urlencoded` content (WHATWG URL
//! section 5.1) in a stream. Holds a value only to keep its end or its hash.

use super::Report;
use super::escape::{Escaping, View};
use super::json::MAX_VALUE;
use super::path::MAX_KEY;
use super::replace::{Replacement, TOKEN};
use std::collections::HashMap;
use std::sync::Arc;

/// The fields and replacements that a [`FormMasker`] works by.
pub(super) struct FormRules {
    /// Decoded field name to rule number.
    pub(super) fields: HashMap<Vec<u8>, usize>,
    /// Name and replacement of each rule, by rule number.
    pub(super) rules: Arc<Vec<(String, Replacement)>>,
}

enum State {
    /// In a name: its raw bytes, `None` when longer than any rule's.
    Name(Option<Vec<u8>>),
    Plain,
    /// In a value that is replaced: the rule, and its raw bytes if they are needed.
    Masked(usize, Option<Vec<u8>>),
}

/// Masks one form.
pub(super) struct FormMasker {
    rules: Arc<FormRules>,
    state: State,
    view: View,
}

impl FormMasker {
    pub(super) fn new(rules: Arc<FormRules>) -> Self {
        Self { rules, state: State::Name(Some(Vec::new())), view: View::default() }
    }

    /// Masks the next bytes.
    pub(super) fn push(&mut self, input: &[u8], out: &mut Vec<u8>, report: &mut Report) {
        let mut rest = input;
        while !rest.is_empty() {
            let stop = |b: &u8| *b == b'&' || *b == b'=' && matches!(self.state, State::Name(_));
            let end = rest.iter().position(stop).unwrap_or(rest.len());
            let (run, after) = rest.split_at(end);
            self.take(run, out);
            let Some((&sign, after)) = after.split_first() else {
                return;
            };
            if sign == b'=' {
                self.begin_value();
            } else {
                self.end_field(out, report);
            }
            out.push(sign);
            rest = after;
        }
    }

    /// The form ends here.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>, report: &mut Report) {
        self.end_field(out, report);
    }

    fn take(&mut self, run: &[u8], out: &mut Vec<u8>) {
        // Raw bytes may be three times as many as what they stand for.
        let keep = |kept: &mut Option<Vec<u8>>, limit: usize| match kept {
            Some(bytes) if bytes.len() + run.len() <= 3 * limit => bytes.extend_from_slice(run),
            kept => *kept = None,
        };
        match &mut self.state {
            State::Name(name) => {
                keep(name, MAX_KEY);
                out.extend_from_slice(run);
            }
            State::Plain => out.extend_from_slice(run),
            State::Masked(_, value) => keep(value, MAX_VALUE),
        }
    }

    fn begin_value(&mut self) {
        let State::Name(name) = std::mem::replace(&mut self.state, State::Plain) else {
            return;
        };
        let Some(name) = name else { return };
        let name = self.decode(&name);
        if let Some(rule) = self.rules.fields.get(&name) {
            let needs = self.rules.rules[*rule].1.needs_value();
            self.state = State::Masked(*rule, needs.then(Vec::new));
        }
    }

    fn end_field(&mut self, out: &mut Vec<u8>, report: &mut Report) {
        let state = std::mem::replace(&mut self.state, State::Name(Some(Vec::new())));
        let State::Masked(rule, value) = state else {
            return;
        };
        let (name, replacement) = &self.rules.rules[rule];
        report.add(name, 1);
        let text = match value {
            Some(value) => {
                let replacement = replacement.clone();
                replacement.apply(&self.decode(&value))
            }
            None => TOKEN.as_bytes().to_vec(),
        };
        Escaping::Form.write(&text, out);
    }

    fn decode(&mut self, raw: &[u8]) -> Vec<u8> {
        self.view.build(raw, 0, Escaping::Form, true);
        self.view.text(raw).to_vec()
    }
}
