//! What a flow's row says about its events. Pure: kept while recording, derived again by `verify`.

use super::chain::Hash;
use enforcer_proto::v1::{self, event::Kind};
use prost::Message as _;

/// How many targets a row names.
pub(super) const MAX_TARGETS: usize = 16;

/// The row of a flow that starts with `start`.
pub fn open_record(start: &v1::FlowStart, unix_ns: i64, session: &[u8]) -> v1::FlowRecord {
    let principal = start.principal.as_ref();
    v1::FlowRecord {
        started_unix_ns: unix_ns,
        agent: principal.map(|p| p.agent.clone()).unwrap_or_default(),
        task: principal.map(|p| p.task.clone()).unwrap_or_default(),
        name: start.name.clone(),
        orig_addr: start.orig_addr.clone(),
        orig_port: start.orig_port,
        transport: start.transport.clone(),
        session: session.to_vec(),
        seal: None,
    }
}

/// Counts over the events of one flow.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    seal: v1::FlowSeal,
}

impl Summary {
    /// Takes the next event in.
    pub fn add(&mut self, event: &v1::Event) {
        self.add_stored(event, event.encoded_len());
    }

    /// The same, of an event that takes so many bytes.
    pub fn add_stored(&mut self, event: &v1::Event, bytes: usize) {
        let seal = &mut self.seal;
        seal.events += 1;
        seal.stored_bytes += bytes as u64;
        match &event.kind {
            Some(Kind::FlowStart(start)) => {
                note_target(seal, &start.target);
                seal.refused = start.refusal.as_ref().map_or(0, |refusal| refusal.count);
            }
            Some(Kind::OperationAsked(asked)) => {
                seal.operations += 1;
                if !asked.protocol.is_empty() && !seal.protocols.contains(&asked.protocol) {
                    seal.protocols.push(asked.protocol.clone());
                }
                note_target(seal, &asked.target);
            }
            Some(Kind::Decision(decision)) => match decision.verdict() {
                v1::Verdict::Allow => seal.allowed += 1,
                v1::Verdict::Deny | v1::Verdict::Unspecified => seal.denied += 1,
            },
            Some(Kind::OperationEnd(end)) => {
                seal.request_bytes = seal.request_bytes.saturating_add(end.request_bytes);
                seal.response_bytes = seal.response_bytes.saturating_add(end.response_bytes);
            }
            Some(Kind::FlowEnd(end)) => {
                seal.ended_unix_ns = event.unix_ns;
                seal.outcome.clone_from(&end.outcome);
            }
            _ => {}
        }
    }

    /// Whether the row names this target already.
    pub fn names(&self, target: &str) -> bool {
        self.seal.targets.iter().any(|known| known == target)
    }

    /// How many operations were asked so far.
    pub fn operations(&self) -> u64 {
        self.seal.operations
    }

    /// The counts so far, without a place in the log.
    pub fn counts(&self) -> &v1::FlowSeal {
        &self.seal
    }

    /// The seal after the last event, whose hash is `last`.
    pub fn seal(&self, last: &Hash, leaf: u64) -> v1::FlowSeal {
        v1::FlowSeal { last: last.to_vec(), leaf, ..self.seal.clone() }
    }
}

fn note_target(seal: &mut v1::FlowSeal, target: &str) {
    let known = seal.targets.iter().any(|known| known == target);
    if !target.is_empty() && !known && seal.targets.len() < MAX_TARGETS {
        seal.targets.push(target.to_owned());
    }
}
