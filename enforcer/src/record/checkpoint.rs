//! The log of sealed flows, and its signed heads.
//!
//! Owns the order of entries: an index is given out once, and the frontier that
//! stands in `meta` is always that of the entries in the same write.

use super::chain::{self, Hash};
use super::error::RecordError;
use super::keys::HostKeys;
use super::merkle::Frontier;
use super::store::{Cf, Store, meta};
use super::{FlowId, key};
use enforcer_proto::v1;
use prost::Message as _;
use rocksdb::WriteBatch;

/// The end of the log, as the writer holds it.
pub(super) struct Log {
    frontier: Frontier,
    /// The next checkpoint's number, and the hash of the one before.
    number: u64,
    prev: Vec<u8>,
    /// Entries that no checkpoint covers yet.
    uncovered: bool,
}

impl Log {
    /// Reads the log's end; of a new store the empty log.
    pub(super) fn load(store: &Store) -> Result<Self, RecordError> {
        let frontier = match store.get(Cf::Meta, meta::FRONTIER)? {
            Some(bytes) => v1::Frontier::decode(bytes.as_slice())
                .ok()
                .and_then(|proto| Frontier::from_proto(&proto))
                .ok_or_else(|| RecordError::Damaged("the log's frontier cannot be read".into()))?,
            None => Frontier::default(),
        };
        let mut rows = store.rows_back(Cf::Checkpoints, None)?;
        let last = match rows.next_row()?.and_then(|(key, _)| key::parse_log(key)) {
            Some(key::LogKey::Leaf(index)) => index + 1,
            _ => 0,
        };
        if last != frontier.size() {
            return Err(RecordError::Damaged(format!(
                "the log has {last} entries, its frontier {}",
                frontier.size()
            )));
        }
        let (number, prev) = match store.get(Cf::Meta, meta::CHECKPOINT)? {
            Some(bytes) => {
                let number = key::parse_number(&bytes).ok_or_else(|| {
                    RecordError::Damaged("meta has a bad checkpoint number".into())
                })?;
                let signed = store
                    .get(Cf::Checkpoints, &key::checkpoint(number))?
                    .and_then(|row| v1::SignedCheckpoint::decode(row.as_slice()).ok())
                    .ok_or_else(|| {
                        RecordError::Damaged(format!("checkpoint {number} cannot be read"))
                    })?;
                (number + 1, chain::hash(&signed.checkpoint).to_vec())
            }
            None => (0, Vec::new()),
        };
        Ok(Self { uncovered: frontier.size() > 0, frontier, number, prev })
    }

    /// Whether there are entries that no checkpoint covers.
    pub(super) fn uncovered(&self) -> bool {
        self.uncovered
    }

    /// How many entries there are.
    pub(super) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Adds an entry to a write and gives its index.
    pub(super) fn append(
        &mut self,
        store: &Store,
        batch: &mut WriteBatch,
        unix_ns: i64,
        kind: v1::leaf::Kind,
    ) -> Result<u64, RecordError> {
        let leaf = v1::Leaf { unix_ns, kind: Some(kind) }.encode_to_vec();
        let index = self.frontier.size();
        batch.put_cf(store.cf(Cf::Checkpoints)?, key::leaf(index), &leaf);
        self.frontier.push(&leaf);
        self.uncovered = true;
        Ok(index)
    }

    /// Adds the frontier to a write; once, after its entries.
    pub(super) fn save(&self, store: &Store, batch: &mut WriteBatch) -> Result<(), RecordError> {
        let frontier = self.frontier.to_proto().encode_to_vec();
        batch.put_cf(store.cf(Cf::Meta)?, meta::FRONTIER, frontier);
        Ok(())
    }

    /// Adds a signed head to a write.
    pub(super) fn checkpoint(
        &mut self,
        store: &Store,
        batch: &mut WriteBatch,
        keys: &HostKeys,
        unix_ns: i64,
        open: Vec<v1::OpenFlow>,
    ) -> Result<(), RecordError> {
        let checkpoint = v1::Checkpoint {
            number: self.number,
            tree_size: self.frontier.size(),
            root: self.frontier.root().to_vec(),
            unix_ns,
            prev: std::mem::take(&mut self.prev),
            open,
        }
        .encode_to_vec();
        self.prev = chain::hash(&checkpoint).to_vec();
        let signed = v1::SignedCheckpoint { signature: keys.sign(&checkpoint), checkpoint };
        let row = key::checkpoint(self.number);
        batch.put_cf(store.cf(Cf::Checkpoints)?, row, signed.encode_to_vec());
        let number = self.number.to_be_bytes();
        batch.put_cf(store.cf(Cf::Meta)?, meta::CHECKPOINT, number);
        self.number += 1;
        self.uncovered = false;
        Ok(())
    }
}

/// The entry of a sealed flow.
pub(super) fn sealed(flow: FlowId, events: u64, last: &Hash, session: &[u8]) -> v1::leaf::Kind {
    v1::leaf::Kind::Sealed(v1::SealedLeaf {
        flow: flow.as_bytes().to_vec(),
        events,
        last: last.to_vec(),
        session: session.to_vec(),
    })
}
