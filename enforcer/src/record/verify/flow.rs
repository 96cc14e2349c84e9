//! One flow's events: chain, order, digests, bodies, and that nothing left before it was allowed.
//!
//! Pure: is fed stored bytes and says what is wrong with which event.

use super::super::chain::{self, Hash};
use super::super::store::Cf;
use super::super::summary::{self, Summary};
use super::super::{FlowId, convert, index};
use crate::operation::Digest;
use enforcer_proto::v1::{self, event::Kind};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Something wrong with an event, or with the flow as a whole.
pub type Fault = (Option<u64>, String);

/// What is known of a flow while its events are read.
pub struct FlowCheck {
    flow: FlowId,
    next: u64,
    last: Hash,
    /// The event whose `prev` did not fit, until the one after it tells which of the two is wrong.
    suspect: Option<u64>,
    broken: bool,
    /// Damage was met behind the last event that was read.
    unread: bool,
    ended: bool,
    summary: Summary,
    record: v1::FlowRecord,
    principal: v1::Principal,
    bodies: HashMap<(Vec<u8>, bool), BodyCheck>,
    /// `body.sha256` and `body.length` of operations that have them.
    body_facts: HashMap<Vec<u8>, (Option<String>, Option<i64>)>,
    allowed: HashSet<Vec<u8>>,
    /// The rows that the flow must have in the indexes.
    pub index: BTreeSet<(Cf, Vec<u8>)>,
    /// What is wrong so far.
    pub faults: Vec<Fault>,
    /// How many operations had a digest to compute.
    pub operations: u64,
}

#[derive(Default)]
struct BodyCheck {
    seen: u64,
    hash: Sha256,
    cut: bool,
}

impl FlowCheck {
    /// Nothing read yet.
    pub fn new(flow: FlowId) -> Self {
        Self {
            flow,
            next: 0,
            last: chain::start(flow),
            suspect: None,
            broken: false,
            unread: false,
            ended: false,
            summary: Summary::default(),
            record: v1::FlowRecord::default(),
            principal: v1::Principal::default(),
            bodies: HashMap::new(),
            body_facts: HashMap::new(),
            allowed: HashSet::new(),
            index: BTreeSet::new(),
            faults: Vec::new(),
            operations: 0,
        }
    }

    /// How many events were read.
    pub fn events(&self) -> u64 {
        self.next
    }

    /// The hash of the last event read.
    pub fn last(&self) -> &Hash {
        &self.last
    }

    /// Whether some event could not be read, so that counts prove nothing.
    pub fn broken(&self) -> bool {
        self.broken
    }

    /// Says that the store is damaged behind the last event that was read.
    pub fn set_unread(&mut self) {
        self.broken = true;
        self.unread = true;
    }

    fn fault(&mut self, seq: u64, what: impl Into<String>) {
        self.faults.push((Some(seq), what.into()));
    }

    /// The next stored event, under the sequence number of its key.
    pub fn add(&mut self, seq: u64, value: &[u8]) {
        let gap = seq != self.next;
        if gap {
            let missing = self.next;
            let last = seq.saturating_sub(1);
            let what = match (self.unread, missing >= last) {
                (false, true) => "is missing".to_owned(),
                (false, false) => format!("and all up to {last} are missing"),
                (true, true) => "cannot be read".to_owned(),
                (true, false) => format!("and all up to {last} cannot be read"),
            };
            self.fault(missing, what);
            self.broken = true;
        }
        self.unread = false;
        self.next = seq.saturating_add(1);
        let hash = chain::hash(value);
        let Ok(event) = v1::Event::decode(value) else {
            self.fault(seq, "cannot be decoded");
            self.broken = true;
            self.settle(seq, true);
            self.suspect = Some(seq);
            self.last = hash;
            return;
        };
        let fits = gap || event.prev[..] == self.last[..];
        self.settle(seq, !fits);
        self.last = hash;
        if event.seq != seq {
            let what = format!("is stored in this place and says that it is event {}", event.seq);
            self.fault(seq, what);
        }
        self.content(seq, event);
    }

    /// With the link between `seq` and the event before it known: who was altered? An event whose
    /// own `prev` and whose successor's both fail is the one; one failed link alone blames the
    /// event that it should have led to.
    fn settle(&mut self, seq: u64, failed: bool) {
        match (self.suspect.take(), failed) {
            (Some(suspect), true) => self.altered(suspect),
            (Some(suspect), false) => self.altered(suspect.saturating_sub(1)),
            (None, true) => self.suspect = Some(seq),
            (None, false) => {}
        }
    }

    fn altered(&mut self, seq: u64) {
        self.fault(seq, "was altered: it does not hash to what the next one is chained to");
    }

    fn content(&mut self, seq: u64, event: v1::Event) {
        if self.ended {
            self.fault(seq, "comes after the flow's end");
        }
        let starts = matches!(event.kind, Some(Kind::FlowStart(_)));
        if starts != (seq == 0) {
            self.fault(seq, "is out of place: a flow begins with its start, once");
        }
        if let (Some(Kind::FlowStart(start)), 0) = (&event.kind, seq) {
            self.record = summary::open_record(start, event.unix_ns, &[]);
            self.principal = start.principal.clone().unwrap_or_default();
        }
        let rows = index::rows(self.flow, self.record.started_unix_ns, &event);
        self.index.extend(rows);
        self.summary.add(&event);
        match event.kind {
            Some(Kind::OperationAsked(asked)) => self.asked(seq, event.operation, &asked),
            Some(Kind::RequestBody(body)) => self.body(seq, event.operation, &body, true),
            Some(Kind::ResponseBody(body)) => self.body(seq, event.operation, &body, false),
            Some(Kind::Decision(decision)) => match decision.verdict() {
                v1::Verdict::Allow => {
                    self.allowed.insert(event.operation);
                }
                v1::Verdict::Deny | v1::Verdict::Unspecified => {
                    self.allowed.remove(&event.operation);
                }
            },
            Some(Kind::Forwarded(_)) if !self.allowed.contains(&event.operation) => {
                self.fault(seq, "was forwarded without a recorded decision that allows it");
            }
            Some(Kind::OperationEnd(_)) => {
                self.bodies.retain(|(id, _), _| *id != event.operation);
                self.body_facts.remove(&event.operation);
                self.allowed.remove(&event.operation);
            }
            Some(Kind::FlowEnd(end)) => {
                self.ended = true;
                if end.operations != self.summary.operations() {
                    let found = self.summary.operations();
                    let what = format!("says {} operations, there are {found}", end.operations);
                    self.fault(seq, what);
                }
            }
            None => self.fault(seq, "is of no kind that this version knows"),
            Some(Kind::FlowStart(_) | Kind::Forwarded(_) | Kind::ResponseHead(_)) => {}
        }
    }

    fn asked(&mut self, seq: u64, operation: Vec<u8>, asked: &v1::OperationAsked) {
        self.operations += 1;
        match (asked.digest.parse::<Digest>(), convert::digest(asked, &self.principal)) {
            (Ok(recorded), Ok(found)) if recorded == found => {}
            (Ok(_), Ok(found)) => {
                let what = format!("its recorded facts have digest {found}, not {}", asked.digest);
                self.fault(seq, what);
            }
            (Err(error), _) => self.fault(seq, format!("its digest cannot be read: {error}")),
            (_, Err(error)) => self.fault(seq, format!("its facts cannot be read: {error}")),
        }
        use v1::fact::Value;
        let find = |name: &str| asked.facts.iter().find(|fact| fact.name == name);
        let hash = match find("body.sha256").and_then(|fact| fact.value.as_ref()) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let length = match find("body.length").and_then(|fact| fact.value.as_ref()) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        };
        if hash.is_some() || length.is_some() {
            self.body_facts.insert(operation, (hash, length));
        }
    }

    fn body(&mut self, seq: u64, operation: Vec<u8>, body: &v1::Body, request: bool) {
        let facts = request.then(|| self.body_facts.get(&operation).cloned()).flatten();
        let at = (operation, request);
        let state = self.bodies.entry(at.clone()).or_default();
        let mut wrong = None;
        if !state.cut && body.offset != state.seen {
            wrong = Some(format!("starts at byte {}, not {}", body.offset, state.seen));
        }
        state.hash.update(&body.data);
        state.seen += body.data.len() as u64;
        state.cut |= body.truncated;
        if body.last {
            let whole =
                state.seen == body.length && state.hash.clone().finalize()[..] == body.sha256[..];
            if state.cut && body.length < state.seen {
                wrong = Some("a cut body is longer than the whole".to_owned());
            } else if !state.cut && !whole {
                wrong =
                    Some("the body's pieces do not have its recorded length and hash".to_owned());
            }
            if let Some((hash, length)) = facts {
                let other_hash = hash.is_some_and(|hash| hash != hex::encode(&body.sha256));
                let other_length =
                    length.is_some_and(|length| u64::try_from(length) != Ok(body.length));
                if other_hash || other_length {
                    wrong = Some("the body sent is not the one that was asked".to_owned());
                }
            }
            self.bodies.remove(&at);
        }
        if let Some(what) = wrong {
            self.fault(seq, what);
        }
    }

    /// The end of the events: `record` is the flow's row, `sealed` its entry in the log, and
    /// `open` what a signed head said of it while it was open.
    pub fn finish(
        &mut self,
        record: &v1::FlowRecord,
        sealed: Option<&v1::SealedLeaf>,
        open: Option<&(u64, Hash)>,
    ) {
        let last = self.next.saturating_sub(1);
        let expected = sealed.map(|sealed| (sealed.events, sealed.last.clone()));
        match (&expected, &record.seal) {
            (None, Some(_)) => {
                self.faults.push((None, "its row names no entry of the log that seals it".into()))
            }
            (Some((events, _)), _) if *events > self.next => {
                let are = if self.unread { "cannot be read" } else { "are missing" };
                let what = format!("and all after {are}: it was sealed with {events} events");
                self.fault(self.next, what);
                self.broken = true;
            }
            (Some((events, _)), _) if *events < self.next => {
                self.fault(*events, format!("was added: it was sealed with {events} events"));
            }
            (Some((_, hash)), _) => {
                let failed = hash[..] != self.last[..];
                match (self.suspect.take(), failed) {
                    (Some(suspect), true) => self.altered(suspect),
                    (Some(suspect), false) => self.altered(suspect.saturating_sub(1)),
                    (None, true) => self.altered(last),
                    (None, false) => {}
                }
            }
            (None, None) => {}
        }
        if let Some(suspect) = self.suspect.take() {
            self.fault(
                suspect,
                "is not chained to the event before it: one of the two was altered",
            );
        }
        if let Some((events, _)) = open
            && *events > self.next
        {
            let what = format!("and all up to {} are missing: a signed head saw them", events - 1);
            self.fault(self.next, what);
            self.broken = true;
        }
        if self.broken {
            return;
        }
        if self.ended != record.seal.is_some() {
            self.faults.push((None, "its row and its events differ on whether it ended".into()));
            return;
        }
        let mut derived = v1::FlowRecord {
            session: sealed.map_or(&record.session, |sealed| &sealed.session).clone(),
            ..self.record.clone()
        };
        if let Some(seal) = &record.seal {
            let mut found = self.summary.seal(&self.last, seal.leaf);
            if seal.stored_bytes == 0 {
                // The row of a version that counted less.
                (found.stored_bytes, found.refused) = (0, 0);
                found.protocols.clear();
            }
            derived.seal = Some(found);
        }
        if derived != *record {
            self.faults.push((None, "its row in flows does not follow from its events".into()));
        }
    }
}
