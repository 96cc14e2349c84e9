//! The log of sealed flows and its signed heads.

use super::super::chain::{self, Hash};
use super::super::error::RecordError;
use super::super::key::{self, LogKey};
use super::super::keys::signed_by;
use super::super::merkle::Frontier;
use super::super::store::{Cf, Rows, meta};
use super::{Check, Report};
use enforcer_proto::v1::{self, leaf::Kind};
use prost::Message as _;
use uuid::Uuid;

impl Check<'_> {
    /// Walks heads and entries side by side: at each head the root over the entries so far must
    /// be the signed one.
    pub(super) fn log(&mut self, report: &mut Report) -> Result<(), RecordError> {
        let store = self.store;
        let mut heads = store.rows(Cf::Checkpoints, &key::checkpoint(0))?;
        let mut entries = Entries {
            rows: store.rows(Cf::Checkpoints, &key::leaf(0))?,
            tree: Frontier::default(),
            missing: Vec::new(),
            damaged: false,
        };
        let mut prev = Vec::new();
        let mut next = 0;
        let mut first = true;
        loop {
            let row = match heads.next_row() {
                Ok(row) => row,
                Err(error) => {
                    report.note(format!("checkpoint {next}"), error.to_string());
                    self.damaged = true;
                    break;
                }
            };
            let Some((row, value)) = row else { break };
            let number = match key::parse_log(row) {
                Some(LogKey::Checkpoint(number)) => number,
                Some(LogKey::Leaf(_)) => break,
                None => {
                    report.note("checkpoints", format!("key {} is of no kind", hex::encode(row)));
                    continue;
                }
            };
            let place = format!("checkpoint {number}");
            if number != next {
                report.note(format!("checkpoint {next}"), "is missing");
            }
            next = number.saturating_add(1);
            let Some((head, bytes)) = self.head(value, &place, report)? else {
                prev.clear();
                first = false;
                continue;
            };
            if head.number != number {
                report.note(&place, format!("is signed as number {}", head.number));
            } else if head.prev != prev && (first || !prev.is_empty()) {
                report.note(&place, "does not follow the checkpoint before it");
            }
            first = false;
            prev = chain::hash(&bytes).to_vec();
            self.read_entries(&mut entries, Some(head.tree_size), report)?;
            if entries.damaged {
                // Nothing can be said of its root.
            } else if entries.tree.size() != head.tree_size {
                let size = entries.tree.size();
                let what = format!("covers {} entries, the log has {size}", head.tree_size);
                report.note(&place, what);
            } else if entries.tree.root()[..] != head.root[..] {
                report.note(&place, "its signed root is not that of the log's entries");
            }
            self.note_open(&head, &place, report);
            report.signed_unix_ns = Some(head.unix_ns);
            report.checkpoints += 1;
        }
        let signed = entries.tree.size();
        self.read_entries(&mut entries, None, report)?;
        report.log_entries = entries.tree.size();
        report.unsigned_entries = report.log_entries.saturating_sub(signed);
        self.damaged |= entries.damaged;
        if !self.damaged {
            self.ends(&entries.tree, next, report)?;
        }
        for (index, flow) in entries.missing {
            if !self.retired.contains(&index) {
                let what = format!("was sealed (log entry {index}) and is not there");
                report.of("flows", flow, None, what);
            }
        }
        report.retired = self.retired.len() as u64;
        Ok(())
    }

    /// A head that is signed by the host key, with the bytes that were signed.
    fn head(
        &self,
        value: &[u8],
        place: &str,
        report: &mut Report,
    ) -> Result<Option<(v1::Checkpoint, Vec<u8>)>, RecordError> {
        let key = self.store.get(Cf::Meta, meta::KEY)?.unwrap_or_default();
        let Ok(signed) = v1::SignedCheckpoint::decode(value) else {
            report.note(place, "cannot be read");
            return Ok(None);
        };
        if signed.encode_to_vec() != value {
            report.note(place, "is not stored as it was written");
        }
        if !signed_by(&key, &signed.checkpoint, &signed.signature) {
            report.note(place, "is not signed by the host key");
            return Ok(None);
        }
        let Ok(head) = v1::Checkpoint::decode(signed.checkpoint.as_slice()) else {
            report.note(place, "what is signed cannot be read");
            return Ok(None);
        };
        Ok(Some((head, signed.checkpoint)))
    }

    fn note_open(&mut self, head: &v1::Checkpoint, place: &str, report: &mut Report) {
        for open in &head.open {
            let last = Hash::try_from(open.last.as_slice()).ok();
            match (key::parse_flow(&open.flow), last) {
                (Some(flow), Some(last)) => {
                    self.open.insert(flow, (open.events, last));
                }
                _ => report.note(place, "an open flow in it cannot be read"),
            }
        }
    }

    /// Takes entries in up to a size; all when `None`.
    fn read_entries(
        &mut self,
        entries: &mut Entries<'_>,
        size: Option<u64>,
        report: &mut Report,
    ) -> Result<(), RecordError> {
        while !entries.damaged && size.is_none_or(|size| entries.tree.size() < size) {
            let at = entries.tree.size();
            let place = format!("log entry {at}");
            let row = match entries.rows.next_row() {
                Ok(Some((row, value))) => Some((key::parse_log(row), value.to_vec())),
                Ok(None) => None,
                Err(error) => {
                    report.note(&place, error.to_string());
                    entries.damaged = true;
                    None
                }
            };
            let Some((row, value)) = row else { break };
            match row {
                Some(LogKey::Leaf(index)) if index == at => {}
                Some(LogKey::Leaf(index)) => {
                    report.note(&place, format!("is missing (entry {index} follows)"));
                }
                _ => {
                    report.note("checkpoints", "a key is of no kind");
                    continue;
                }
            }
            entries.tree.push(&value);
            self.entry(&value, at, &place, entries, report)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        value: &[u8],
        at: u64,
        place: &str,
        entries: &mut Entries<'_>,
        report: &mut Report,
    ) -> Result<(), RecordError> {
        let leaf = v1::Leaf::decode(value).ok().and_then(|leaf| leaf.kind);
        match leaf {
            Some(Kind::Sealed(sealed)) => match key::parse_flow(&sealed.flow) {
                Some(flow) => {
                    if self.store.get(Cf::Flows, flow.as_bytes())?.is_none() {
                        entries.missing.push((at, flow));
                    }
                }
                None => report.note(place, "names no flow"),
            },
            Some(Kind::Retired(retired)) => {
                let of = self.sealed(retired.leaf)?;
                if of.is_none_or(|sealed| sealed.flow != retired.flow) || retired.leaf >= at {
                    report.note(
                        place,
                        format!(
                            "retires log entry {}, which is not that flow's seal",
                            retired.leaf
                        ),
                    );
                }
                self.retired.insert(retired.leaf);
                if let Some(flow) = key::parse_flow(&retired.flow)
                    && self.store.get(Cf::Flows, flow.as_bytes())?.is_some()
                {
                    report.of("flows", flow, None, "was retired and is still there");
                }
            }
            Some(Kind::Session(session)) => {
                let Ok(id) = Uuid::from_slice(&session.session) else {
                    report.note(place, "names no session");
                    return Ok(());
                };
                let row = self.store.get(Cf::Sessions, id.as_bytes())?;
                if !session.end {
                    report.sessions += 1;
                    if row.and_then(|row| key::parse_number(&row)) != Some(at) {
                        report.note(
                            "sessions",
                            format!("session {id} does not point to log entry {at}"),
                        );
                    }
                }
            }
            None => report.note(place, "cannot be read"),
        }
        Ok(())
    }

    /// What `meta` says of the log's end.
    fn ends(&self, tree: &Frontier, heads: u64, report: &mut Report) -> Result<(), RecordError> {
        let frontier = self.store.get(Cf::Meta, meta::FRONTIER)?;
        let expected = (tree.size() > 0).then(|| tree.to_proto().encode_to_vec());
        if frontier != expected {
            report.note("meta", "the frontier is not that of the log's entries");
        }
        let last = self.store.get(Cf::Meta, meta::CHECKPOINT)?;
        let expected = heads.checked_sub(1).map(|last| last.to_be_bytes().to_vec());
        if last != expected {
            let what = "the number of the last checkpoint is not that of the last one there";
            report.note("meta", what);
        }
        Ok(())
    }
}

/// The entries of the log as far as they were read.
struct Entries<'a> {
    rows: Rows<'a>,
    tree: Frontier,
    /// Sealed flows without a row, with the index of their entry.
    missing: Vec<(u64, super::FlowId)>,
    /// One could not be read; what follows it is out of reach.
    damaged: bool,
}
