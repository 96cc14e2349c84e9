//! What operations came to: the same one by the same principal comes to the same again.
//!
//! A judgement depends on the bundle, which holds the memo, on the principal and on the
//! operation's facts; not on those that no rule asks for. The whole of what it depends on is the
//! key, so that nothing is taken for something else.

use super::Judgement;
use super::sql;
use crate::operation::{Fact, Operation};
use crate::principal::Principal;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Judgements in each of the two generations.
const MOST: usize = 1024;
/// A longer key is not kept, bytes: such an operation is rare, and seldom the same twice.
const LONGEST: usize = 4096;

/// What at least one rule of the bundle asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reads {
    pub(super) headers: bool,
    pub(super) parameters: bool,
    pub(super) statement: bool,
}

/// Judgements of one bundle.
#[derive(Default)]
pub(super) struct Memo {
    reads: Reads,
    kept: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Box<[u8]>, Arc<Judgement>>,
    old: HashMap<Box<[u8]>, Arc<Judgement>>,
}

impl Memo {
    pub(super) fn new(reads: Reads) -> Self {
        Self { reads, kept: Mutex::default() }
    }

    /// The judgement on an operation on the target at position `at`, made by `judge` unless it is
    /// known.
    pub(super) fn judge(
        &self,
        at: usize,
        principal: &Principal,
        op: &Operation,
        judge: impl FnOnce() -> Judgement,
    ) -> Arc<Judgement> {
        let key = self.key(at, principal, op);
        if key.len() > LONGEST {
            return Arc::new(judge());
        }
        if let Some(known) = self.kept().find(&key) {
            return known;
        }
        let judgement = Arc::new(judge());
        self.kept().keep(key.into(), Arc::clone(&judgement));
        judgement
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that a judgement depends on. Each part says its length, or is of a fixed one, so that
    /// no two operations share a key.
    fn key(&self, at: usize, principal: &Principal, op: &Operation) -> Vec<u8> {
        let mut key = Key(Vec::with_capacity(512));
        key.number(at as u64);
        key.text(&principal.host);
        key.text(principal.agent.as_str());
        key.maybe(principal.task.as_deref());
        key.number(principal.process.uid.into());
        key.maybe(principal.process.exe.as_deref().and_then(std::path::Path::to_str));
        key.maybe(principal.process.exe_sha256.as_deref());
        key.text(&op.target);
        key.text(&op.name);
        key.number(op.port.into());
        key.text(op.protocol.as_str());
        key.text(&op.action);
        key.text(&op.resource);
        for (name, value) in op.facts() {
            let left_out = match &**name {
                sql::STATEMENT => !self.reads.statement,
                name if name.starts_with(sql::PARAMETERS) => !self.reads.parameters,
                name if name.starts_with(super::request::HEADER) => !self.reads.headers,
                _ => false,
            };
            key.text(name);
            match value {
                // That it is there, and of its kind, still counts.
                Fact::Text(_) if left_out => key.number(0),
                Fact::Text(text) => {
                    key.number(1);
                    key.text(text);
                }
                Fact::Number(number) => {
                    key.number(2);
                    key.number(number.cast_unsigned());
                }
                Fact::Flag(flag) => {
                    key.number(3);
                    key.number(u64::from(*flag));
                }
                Fact::List(items) => {
                    key.number(4);
                    key.number(items.len() as u64);
                    items.iter().for_each(|item| key.text(item));
                }
            }
        }
        key.0
    }
}

struct Key(Vec<u8>);

impl Key {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn maybe(&mut self, text: Option<&str>) {
        match text {
            None => self.number(u64::MAX),
            Some(text) => self.text(text),
        }
    }
}

impl Generations {
    fn find(&mut self, key: &[u8]) -> Option<Arc<Judgement>> {
        if let Some(found) = self.young.get(key) {
            return Some(Arc::clone(found));
        }
        let (key, found) = self.old.remove_entry(key)?;
        self.keep(key, Arc::clone(&found));
        Some(found)
    }

    fn keep(&mut self, key: Box<[u8]>, judgement: Arc<Judgement>) {
        if self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, judgement);
    }
}
