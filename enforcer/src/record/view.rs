//! The events of a flow put together again: one [`Exchange`] for each operation.
//!
//! Sans-io, and takes any events in any order without a panic: what does not fit
//! is left out of the exchange, and `verify` is who complains.

use enforcer_proto::v1::{self, event::Kind};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// A body as far as it was recorded.
#[derive(Clone, Debug, Default)]
pub struct BodyView {
    /// The bytes that were kept.
    pub data: Vec<u8>,
    /// Length and SHA-256 of the whole body, when its end was recorded.
    pub whole: Option<(u64, Vec<u8>)>,
    /// Set when bytes were left out because of the transcript's limits.
    pub truncated: bool,
    /// When the last piece was recorded (ns since the Unix epoch).
    pub last_ns: Option<i64>,
}

impl BodyView {
    /// Length of the whole body, or of what is there.
    pub fn length(&self) -> u64 {
        let whole = self.whole.as_ref().map(|(length, _)| *length);
        whole.unwrap_or(self.data.len() as u64)
    }

    /// Whether all bytes are there and hash to what was recorded.
    pub fn complete(&self) -> bool {
        self.whole.as_ref().is_some_and(|(length, hash)| {
            *length == self.data.len() as u64 && Sha256::digest(&self.data)[..] == hash[..]
        })
    }

    fn add(&mut self, body: v1::Body, unix_ns: i64) {
        self.data.extend_from_slice(&body.data);
        self.truncated |= body.truncated;
        self.last_ns = Some(unix_ns);
        if body.last {
            self.whole = Some((body.length, body.sha256));
        }
    }
}

/// One operation with all that was recorded of it; times are ns since the Unix epoch.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// The operation's id, 16 bytes.
    pub id: Vec<u8>,
    /// When the first event was recorded.
    pub first_ns: i64,
    /// What was asked.
    pub asked: Option<v1::OperationAsked>,
    /// What was decided, and when.
    pub decisions: Vec<(i64, v1::Decision)>,
    /// When it left, and where to.
    pub forwarded: Option<(i64, v1::Forwarded)>,
    /// The request's body.
    pub request: BodyView,
    /// The answer's head.
    pub head: Option<(i64, v1::ResponseHead)>,
    /// The answer's body, as delivered.
    pub response: BodyView,
    /// How it ended.
    pub end: Option<(i64, v1::OperationEnd)>,
}

impl Exchange {
    /// The fact of that name as text.
    pub fn fact(&self, name: &str) -> Option<String> {
        let facts = &self.asked.as_ref()?.facts;
        facts.iter().find(|fact| fact.name == name).map(fact_text)
    }

    /// The id as text.
    pub fn id_text(&self) -> String {
        match uuid::Uuid::from_slice(&self.id) {
            Ok(id) => id.to_string(),
            Err(_) => hex::encode(&self.id),
        }
    }

    fn add(&mut self, event: v1::Event) {
        let at = event.unix_ns;
        match event.kind {
            Some(Kind::OperationAsked(asked)) => self.asked = Some(asked),
            Some(Kind::RequestBody(body)) => self.request.add(body, at),
            Some(Kind::Decision(decision)) => self.decisions.push((at, decision)),
            Some(Kind::Forwarded(forwarded)) => self.forwarded = Some((at, forwarded)),
            Some(Kind::ResponseHead(head)) => self.head = Some((at, head)),
            Some(Kind::ResponseBody(body)) => self.response.add(body, at),
            Some(Kind::OperationEnd(end)) => self.end = Some((at, end)),
            Some(Kind::FlowStart(_) | Kind::FlowEnd(_)) | None => {}
        }
    }
}

/// A fact's value as text; a list's items on lines of their own.
pub fn fact_text(fact: &v1::Fact) -> String {
    use v1::fact::Value;
    match &fact.value {
        Some(Value::Text(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Flag(flag)) => flag.to_string(),
        Some(Value::List(list)) => list.items.join("\n"),
        None => String::new(),
    }
}

/// A stored event; `None` when the bytes are none.
pub fn decode(event: &[u8]) -> Option<v1::Event> {
    v1::Event::decode(event).ok()
}

/// Puts exchanges together while events come in; holds those that have not ended.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The flow's first event, once seen.
    pub start: Option<(i64, v1::FlowStart)>,
    /// The flow's end, once seen.
    pub end: Option<(i64, v1::FlowEnd)>,
    live: Vec<Exchange>,
}

impl Assembler {
    /// Takes an event in; gives the exchange that it ended.
    pub fn add(&mut self, event: v1::Event) -> Option<Exchange> {
        match event.kind {
            Some(Kind::FlowStart(start)) => {
                self.start = Some((event.unix_ns, start));
                return None;
            }
            Some(Kind::FlowEnd(end)) => {
                self.end = Some((event.unix_ns, end));
                return None;
            }
            _ => {}
        }
        let known = self.live.iter().position(|live| live.id == event.operation);
        let at = known.unwrap_or_else(|| {
            self.live.push(Exchange {
                id: event.operation.clone(),
                first_ns: event.unix_ns,
                ..Exchange::default()
            });
            self.live.len() - 1
        });
        let ended = matches!(event.kind, Some(Kind::OperationEnd(_)));
        self.live[at].add(event);
        ended.then(|| self.live.remove(at))
    }

    /// The exchanges that never ended.
    pub fn rest(&mut self) -> Vec<Exchange> {
        std::mem::take(&mut self.live)
    }
}
