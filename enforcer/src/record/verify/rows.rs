//! The rows that follow from others: flows without events, indexes, sessions.

use super::super::error::RecordError;
use super::super::key;
use super::super::store::{Cf, Store};
use super::super::{FlowId, index};
use super::{Check, Report};
use enforcer_proto::v1;
use prost::Message as _;
use std::collections::HashSet;

impl Check<'_> {
    /// Rows of `flows` whose events are gone.
    pub(super) fn flow_rows(&mut self, report: &mut Report) -> Result<(), RecordError> {
        let mut rows = self.store.rows(Cf::Flows, b"")?;
        loop {
            match rows.next_row() {
                Ok(Some((row, _))) => {
                    let Some(flow) = key::parse_flow(row) else {
                        let what = format!("key {} is of no kind", hex::encode(row));
                        report.note("flows", what);
                        continue;
                    };
                    let mut events = self.store.rows(Cf::Events, &key::event(flow, 0))?;
                    // Damage itself was reported where events are read; here, whose they are.
                    let found = events.next_row();
                    let none = found.as_ref().is_ok_and(|found| {
                        !found.is_some_and(|(row, _)| row.starts_with(flow.as_bytes()))
                    });
                    if found.is_err() || self.passed_over(flow) {
                        report.of("events", flow, None, "some or all of its events cannot be read");
                    } else if none {
                        let gone = match self.damaged {
                            false => "and all after are missing",
                            true => "and all after are missing, or were in what cannot be read",
                        };
                        report.of("events", flow, Some(0), gone);
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => self.damage("flows", &error, report),
            }
        }
    }

    /// Whether a flow's events begin where none could be read.
    fn passed_over(&self, flow: FlowId) -> bool {
        let first = key::event(flow, 0);
        self.unread
            .iter()
            .any(|(from, to)| from.as_slice() < &first[..] && &first[..] < to.as_slice())
    }

    /// Rows of the indexes that no event asks for. Those that are missing were found with the events.
    pub(super) fn index_rows(&mut self, report: &mut Report) -> Result<(), RecordError> {
        for cf in Cf::INDEXES {
            let mut rows = self.store.rows(cf, b"")?;
            let mut count = 0;
            loop {
                match rows.next_row() {
                    Ok(Some((row, value))) => {
                        count += 1;
                        if key::index_flow(cf, row).is_none() {
                            let what = format!("key {} is of no kind", hex::encode(row));
                            report.note(cf.name(), what);
                        }
                        if !value.is_empty() {
                            let what = format!("row {} has a value", hex::encode(row));
                            report.note(cf.name(), what);
                        }
                    }
                    Ok(None) => break,
                    Err(error) => self.damage(cf.name(), &error, report),
                }
            }
            if count != self.expected.get(&cf).copied().unwrap_or(0) && !self.damaged {
                extra(self.store, cf, report)?;
            }
        }
        Ok(())
    }

    pub(super) fn session_rows(&mut self, report: &mut Report) -> Result<(), RecordError> {
        let mut rows = self.store.rows(Cf::Sessions, b"")?;
        loop {
            let (row, value) = match rows.next_row() {
                Ok(Some(row)) => row,
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.damage("sessions", &error, report);
                    continue;
                }
            };
            match key::parse_session(row) {
                Some((id, None)) => {
                    let leaf = key::parse_number(value).map(key::leaf);
                    let leaf = leaf.and_then(|leaf| self.row(Cf::Checkpoints, &leaf, report));
                    let leaf = leaf.and_then(|leaf| v1::Leaf::decode(leaf.as_slice()).ok());
                    let started = matches!(
                        leaf.and_then(|leaf| leaf.kind),
                        Some(v1::leaf::Kind::Session(s)) if !s.end && s.session == id.as_bytes()
                    );
                    if !started {
                        let what = format!("session {id} has no entry in the log");
                        report.note("sessions", what);
                    }
                }
                Some((id, Some(flow))) => {
                    let record = self.row(Cf::Flows, flow.as_bytes(), report);
                    let record = record.and_then(|row| v1::FlowRecord::decode(row.as_slice()).ok());
                    let open =
                        record.is_some_and(|r| r.seal.is_none() && r.session == id.as_bytes());
                    if !open || !value.is_empty() {
                        let what = format!("session {id} has it as open, and it is not");
                        report.of("sessions", flow, None, what);
                    }
                }
                None => {
                    let what = format!("key {} is of no kind", hex::encode(row));
                    report.note("sessions", what);
                }
            }
        }
    }
}

/// Names the rows of an index that do not follow from an event.
fn extra(store: &Store, cf: Cf, report: &mut Report) -> Result<(), RecordError> {
    let mut known: (Option<FlowId>, HashSet<Vec<u8>>) = (None, HashSet::new());
    let mut rows = store.rows(cf, b"")?;
    while let Some((row, _)) = rows.next_row()? {
        let Some(flow) = key::index_flow(cf, row) else {
            continue;
        };
        if known.0 != Some(flow) {
            known = (Some(flow), asked_for(store, cf, flow)?);
        }
        if !known.1.contains(row) {
            let what = format!("row {} follows from no event", hex::encode(row));
            report.of(cf.name(), flow, None, what);
        }
    }
    Ok(())
}

fn asked_for(store: &Store, cf: Cf, flow: FlowId) -> Result<HashSet<Vec<u8>>, RecordError> {
    let mut rows = store.rows(Cf::Events, &key::event(flow, 0))?;
    let mut all = HashSet::new();
    let mut started = 0;
    while let Some((row, value)) = rows.next_row()? {
        if !row.starts_with(flow.as_bytes()) {
            break;
        }
        if let Ok(event) = v1::Event::decode(value) {
            if event.seq == 0 {
                started = event.unix_ns;
            }
            let rows = index::rows(flow, started, &event);
            all.extend(rows.into_iter().filter(|(of, _)| *of == cf).map(|(_, row)| row));
        }
    }
    Ok(all)
}
