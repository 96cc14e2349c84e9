//! How much of the store is whose: what one agent records must not stop the others.
//!
//! An agent's part of the bytes on disk is its part of the bytes that were stored, since
//! tables are compressed and shared. What was stored is counted as events are queued, and
//! read from the flows' rows at the start.

use super::error::RecordError;
use super::store::{Cf, Store};
use enforcer_proto::v1;
use prost::Message as _;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// What an event takes beside its bytes: its key and its rows in the indexes.
pub(super) const EVENT_ROWS: u64 = 160;
/// What a flow takes beside its events: its row, its entry in the log, its rows in the indexes.
pub(super) const FLOW_ROWS: u64 = 480;

/// The stored bytes of every agent.
#[derive(Debug, Default)]
pub(super) struct Usage {
    agents: Mutex<HashMap<String, Arc<AtomicU64>>>,
    total: Arc<Total>,
}

/// What all agents stored.
#[derive(Debug, Default)]
struct Total {
    bytes: AtomicU64,
    /// What earlier runs stored is in it. Parts of this run alone would make a small one of the
    /// large and a large one of the small.
    loaded: AtomicBool,
}

/// The stored bytes of one agent, as its flows hold it.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) agent: Arc<str>,
    bytes: Arc<AtomicU64>,
    total: Arc<Total>,
}

impl Usage {
    pub(super) fn of(&self, agent: &str) -> Own {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = Arc::clone(agents.entry(agent.to_owned()).or_default());
        Own { agent: agent.into(), bytes, total: Arc::clone(&self.total) }
    }

    /// A flow was removed.
    pub(super) fn retired(&self, record: &v1::FlowRecord) {
        let own = self.of(&record.agent);
        let weight = record.seal.as_ref().map_or(0, weight);
        for count in [&*own.bytes, &own.total.bytes] {
            let less = |bytes: u64| Some(bytes.saturating_sub(weight));
            // The closure always gives a value.
            let _ = count.fetch_update(Relaxed, Relaxed, less);
        }
    }

    /// Adds what earlier runs stored; what `session` stores is counted as it is written.
    pub(super) fn load(&self, store: &Store, session: Uuid) -> Result<(), RecordError> {
        let mut rows = store.rows(Cf::Flows, b"")?;
        while let Some((_, row)) = rows.next_row()? {
            if let Ok(record) = v1::FlowRecord::decode(row)
                && record.session != session.as_bytes()
                && let Some(seal) = &record.seal
            {
                self.of(&record.agent).add(weight(seal));
            }
        }
        self.total.loaded.store(true, Relaxed);
        Ok(())
    }

    /// Whether what earlier runs stored is known, and so whose the bytes are.
    #[cfg(test)]
    pub(super) fn is_loaded(&self) -> bool {
        self.total.loaded.load(Relaxed)
    }
}

impl Own {
    pub(super) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.total.bytes.fetch_add(bytes, Relaxed);
    }

    /// The agent's part of `used` bytes on disk; none while that is not known.
    pub(super) fn part(&self, used: u64) -> u64 {
        if !self.total.loaded.load(Relaxed) {
            return 0;
        }
        let total = u128::from(self.total.bytes.load(Relaxed).max(1));
        let own = u128::from(self.bytes.load(Relaxed));
        u64::try_from(u128::from(used) * own.min(total) / total).unwrap_or(u64::MAX)
    }
}

/// What a sealed flow takes. Rows of earlier versions do not say how many bytes they stand for.
fn weight(seal: &v1::FlowSeal) -> u64 {
    let stored = match seal.stored_bytes {
        0 => seal.request_bytes.saturating_add(seal.response_bytes),
        stored => stored,
    };
    let rows = seal.events.saturating_mul(EVENT_ROWS).saturating_add(FLOW_ROWS);
    stored.saturating_add(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_that_of_what_was_stored() {
        let usage = Usage::default();
        let (a, b) = (usage.of("a"), usage.of("b"));
        assert_eq!(a.part(1_000), 0);
        a.add(300);
        b.add(100);
        assert_eq!(a.part(1_000), 0, "not known yet");
        usage.total.loaded.store(true, Relaxed);
        assert_eq!((a.part(1_000), usage.of("b").part(1_000)), (750, 250));
        let seal = v1::FlowSeal { events: 0, stored_bytes: 1, ..v1::FlowSeal::default() };
        let record =
            v1::FlowRecord { agent: "a".into(), seal: Some(seal), ..v1::FlowRecord::default() };
        usage.retired(&record);
        assert_eq!(a.part(1_000), 0, "never below nothing");
    }
}
