//! All events, flow by flow, with what the rest of the store says of each flow.

use super::super::error::RecordError;
use super::super::key;
use super::super::store::{Cf, Rows};
use super::super::{FlowId, chain};
use super::flow::FlowCheck;
use super::{Check, Report};
use enforcer_proto::v1;
use prost::Message as _;

impl Check<'_> {
    pub(super) fn events(&mut self, report: &mut Report) -> Result<(), RecordError> {
        let store = self.store;
        let mut rows = store.rows(Cf::Events, b"")?;
        let mut current: Option<FlowCheckOf> = None;
        loop {
            let step = match rows.next_row() {
                Ok(Some((row, value))) => match key::parse_event(row) {
                    Some((flow, seq)) => {
                        if current.as_ref().is_none_or(|current| current.id != flow) {
                            if let Some(done) = current.take() {
                                self.flow_done(done, report)?;
                            }
                            current = Some(self.flow_begin(flow));
                        }
                        if let Some(current) = &mut current {
                            self.head_seen(current, seq, value);
                        }
                        continue;
                    }
                    None => {
                        let what = format!("key {} is of no kind", hex::encode(row));
                        report.note("events", what);
                        continue;
                    }
                },
                Ok(None) => None,
                Err(error) => Some(error),
            };
            let at = current.as_ref().map(|current| current.id);
            if let Some(mut done) = current.take() {
                if let Some(error) = &step {
                    let seq = done.check.events();
                    report.of("events", done.id, Some(seq), error.to_string());
                    done.check.set_broken();
                }
                self.flow_done(done, report)?;
            } else if let Some(error) = &step {
                report.note("events", error.to_string());
            }
            if step.is_none() || !self.skip(&mut rows, at, report)? {
                return Ok(());
            }
        }
    }

    /// Past damage, goes on at the next flow that `flows` knows.
    fn skip(
        &mut self,
        rows: &mut Rows<'_>,
        after: Option<FlowId>,
        report: &mut Report,
    ) -> Result<bool, RecordError> {
        self.damaged = true;
        let mut from = after
            .map(|flow| flow.as_bytes().to_vec())
            .unwrap_or_default();
        from.push(0);
        let mut flows = self.store.rows(Cf::Flows, &from)?;
        match flows.next_row() {
            Ok(Some((row, _))) => {
                // Without a flow to start from, the first one's events are where the damage is.
                match key::parse_flow(row) {
                    Some(flow) if after.is_some() => rows.seek(&key::event(flow, 0)),
                    Some(flow) => {
                        let next = flow.0.as_u128().saturating_add(1).to_be_bytes();
                        rows.seek(&next);
                        let what = "its events cannot be read";
                        report.of("events", flow, Some(0), what);
                        return self.skip_first(rows, flow);
                    }
                    None => return Ok(false),
                }
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => {
                report.note("flows", error.to_string());
                Ok(false)
            }
        }
    }

    fn skip_first(&self, rows: &mut Rows<'_>, first: FlowId) -> Result<bool, RecordError> {
        let from = [first.as_bytes().as_slice(), &[0]].concat();
        let mut flows = self.store.rows(Cf::Flows, &from)?;
        if let Some((row, _)) = flows.next_row()?
            && let Some(flow) = key::parse_flow(row)
        {
            rows.seek(&key::event(flow, 0));
            return Ok(true);
        }
        Ok(false)
    }

    fn flow_begin(&self, flow: FlowId) -> FlowCheckOf {
        FlowCheckOf {
            id: flow,
            check: FlowCheck::new(flow),
            head: self.open.get(&flow).copied(),
            head_differs: false,
        }
    }

    fn head_seen(&self, current: &mut FlowCheckOf, seq: u64, value: &[u8]) {
        current.check.add(seq, value);
        if let Some((events, last)) = &current.head
            && seq.saturating_add(1) == *events
            && current.check.last() != last
        {
            current.head_differs = true;
        }
    }

    fn flow_done(&mut self, done: FlowCheckOf, report: &mut Report) -> Result<(), RecordError> {
        let FlowCheckOf {
            id,
            mut check,
            head,
            head_differs,
        } = done;
        report.flows += 1;
        report.events += check.events();
        report.operations += check.operations;
        let row = match self.store.get(Cf::Flows, id.as_bytes()) {
            Ok(row) => row,
            Err(error) => {
                report.of("flows", id, None, error.to_string());
                check.set_broken();
                self.damaged = true;
                None
            }
        };
        let record = row.map(|row| (v1::FlowRecord::decode(row.as_slice()).ok(), row));
        match record {
            None => report.of("flows", id, None, "has events and no row"),
            Some((None, _)) => report.of("flows", id, None, "its row cannot be read"),
            Some((Some(record), row)) => {
                if record.encode_to_vec() != row {
                    report.of("flows", id, None, "its row is not stored as it was written");
                }
                let sealed = match &record.seal {
                    Some(seal) => self.sealed(seal.leaf)?,
                    None => None,
                };
                let sealed = sealed.filter(|sealed| sealed.flow == id.as_bytes());
                check.finish(&record, sealed.as_ref(), head.as_ref());
                if record.seal.is_none() {
                    report.open_flows += 1;
                    let marker = [record.session.as_slice(), id.as_bytes()].concat();
                    if self.store.get(Cf::Sessions, &marker)?.is_none() {
                        report.of(
                            "sessions",
                            id,
                            None,
                            "is open and its session does not know it",
                        );
                    }
                }
            }
        }
        let differs = head_differs && check.faults.is_empty();
        for (seq, what) in check.faults.drain(..) {
            report.of("events", id, seq, what);
        }
        if differs && let Some((events, _)) = head {
            let what = "is not what a signed head saw";
            report.of("events", id, events.checked_sub(1), what);
        }
        self.damaged |= check.broken();
        for (cf, row) in &check.index {
            *self.expected.entry(*cf).or_default() += 1;
            if self.store.get(*cf, row)?.is_none() && !check.broken() {
                report.of(
                    cf.name(),
                    id,
                    None,
                    "a row that its events ask for is missing",
                );
            }
        }
        Ok(())
    }
}

/// A flow while its events are read.
struct FlowCheckOf {
    id: FlowId,
    check: FlowCheck,
    /// What the newest signed head that saw it open says.
    head: Option<(u64, chain::Hash)>,
    head_differs: bool,
}
