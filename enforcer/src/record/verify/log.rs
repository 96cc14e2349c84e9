//! The log of sealed flows and its signed heads.

use super::super::chain::{self, Hash};
use super::super::error::RecordError;
use super::super::key::{self, LogKey};
use super::super::keys::signed_by;
use super::super::merkle::Frontier;
use super::super::rows::Rows;
use super::super::store::{Cf, meta};
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
            next: 0,
            missing: Vec::new(),
            damaged: false,
        };
        let mut prev = Vec::new();
        let mut next = 0;
        let mut first = true;
        // Damage was met behind the last head that was read.
        let mut unread = false;
        loop {
            let row = match heads.next_row() {
                Ok(row) => row,
                Err(error) => {
                    self.damage(&format!("checkpoint {next}"), &error, report);
                    unread = true;
                    continue;
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
                let what = if unread { "cannot be read" } else { "is missing" };
                let last = number.saturating_sub(1);
                let up_to =
                    if last > next { format!(" and all up to {last}") } else { String::new() };
                report.note(format!("checkpoint {next}{up_to}"), what);
            }
            if std::mem::take(&mut unread) {
                prev.clear();
                first = false;
            }
            next = number.saturating_add(1);
            let Some((head, bytes)) = self.head(value, &place, report) else {
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
            self.read_entries(&mut entries, Some(head.tree_size), report);
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
        let signed = entries.next;
        self.read_entries(&mut entries, None, report);
        report.log_entries = entries.next;
        report.unsigned_entries = report.log_entries.saturating_sub(signed);
        self.damaged |= entries.damaged;
        if !self.damaged {
            self.ends(&entries.tree, next, report);
        }
        for (index, flow) in entries.missing {
            if !self.retired.contains(&index) {
                let gone =
                    if self.damaged { "cannot be read or is not there" } else { "is not there" };
                let what = format!("was sealed (log entry {index}) and {gone}");
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
    ) -> Option<(v1::Checkpoint, Vec<u8>)> {
        let Ok(signed) = v1::SignedCheckpoint::decode(value) else {
            report.note(place, "cannot be read");
            return None;
        };
        if signed.encode_to_vec() != value {
            report.note(place, "is not stored as it was written");
        }
        // A key that cannot be read is reported once, with `meta`.
        if let Some(key) = &self.host_key
            && !signed_by(key, &signed.checkpoint, &signed.signature)
        {
            report.note(place, "is not signed by the host key");
            return None;
        }
        let Ok(head) = v1::Checkpoint::decode(signed.checkpoint.as_slice()) else {
            report.note(place, "what is signed cannot be read");
            return None;
        };
        Some((head, signed.checkpoint))
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
    fn read_entries(&mut self, entries: &mut Entries<'_>, size: Option<u64>, report: &mut Report) {
        while size.is_none_or(|size| entries.next < size) {
            let at = entries.next;
            let place = format!("log entry {at}");
            let (row, value) = match entries.rows.next_row() {
                Ok(Some((row, value))) => (key::parse_log(row), value.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    self.damage(&place, &error, report);
                    entries.damaged = true;
                    continue;
                }
            };
            let index = match row {
                Some(LogKey::Leaf(index)) => index,
                _ => {
                    report.note("checkpoints", "a key is of no kind");
                    continue;
                }
            };
            // Of a store that is damaged elsewhere, what lacks was lost with that.
            entries.damaged |= index != at && self.damaged;
            if index != at && entries.damaged {
                let what = format!(
                    "and all up to {} cannot be read: the roots of later heads are not checked",
                    index.saturating_sub(1)
                );
                report.note(&place, what);
            } else if index != at {
                report.note(&place, format!("is missing (entry {index} follows)"));
            }
            entries.tree.push(&value);
            // Without damage the tree goes on as if nothing were missing, and its root tells.
            entries.next = if entries.damaged { index } else { at }.saturating_add(1);
            self.entry(&value, entries.next - 1, entries, report);
        }
    }

    fn entry(&mut self, value: &[u8], at: u64, entries: &mut Entries<'_>, report: &mut Report) {
        let place = format!("log entry {at}");
        let place = place.as_str();
        let leaf = v1::Leaf::decode(value).ok().and_then(|leaf| leaf.kind);
        match leaf {
            Some(Kind::Sealed(sealed)) => match key::parse_flow(&sealed.flow) {
                Some(flow) => {
                    if self.row(Cf::Flows, flow.as_bytes(), report).is_none() {
                        entries.missing.push((at, flow));
                    }
                }
                None => report.note(place, "names no flow"),
            },
            Some(Kind::Retired(retired)) => {
                let of = self.sealed(retired.leaf, report);
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
                    && self.row(Cf::Flows, flow.as_bytes(), report).is_some()
                {
                    report.of("flows", flow, None, "was retired and is still there");
                }
            }
            Some(Kind::Session(session)) => {
                let Ok(id) = Uuid::from_slice(&session.session) else {
                    report.note(place, "names no session");
                    return;
                };
                let row = self.row(Cf::Sessions, id.as_bytes(), report);
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
    }

    /// What `meta` says of the log's end.
    fn ends(&mut self, tree: &Frontier, heads: u64, report: &mut Report) {
        let frontier = self.row(Cf::Meta, meta::FRONTIER, report);
        let expected = (tree.size() > 0).then(|| tree.to_proto().encode_to_vec());
        if frontier != expected {
            report.note("meta", "the frontier is not that of the log's entries");
        }
        let last = self.row(Cf::Meta, meta::CHECKPOINT, report);
        let expected = heads.checked_sub(1).map(|last| last.to_be_bytes().to_vec());
        if last != expected {
            let what = "the number of the last checkpoint is not that of the last one there";
            report.note("meta", what);
        }
    }
}

/// The entries of the log as far as they were read.
struct Entries<'a> {
    rows: Rows<'a>,
    tree: Frontier,
    /// The index of the next entry: the tree's size while nothing is damaged.
    next: u64,
    /// Sealed flows without a row, with the index of their entry.
    missing: Vec<(u64, super::FlowId)>,
    /// One could not be read, so that no later root can be computed.
    damaged: bool,
}
