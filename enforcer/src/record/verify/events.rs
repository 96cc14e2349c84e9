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
        // The last flow that was read or tried: past damage it only ever moves on.
        let mut at = None;
        loop {
            let damage = match rows.next_row() {
                Ok(Some((row, value))) => {
                    let Some((flow, seq)) = key::parse_event(row) else {
                        let what = format!("key {} is of no kind", hex::encode(row));
                        report.note("events", what);
                        continue;
                    };
                    if current.as_ref().is_none_or(|current| current.id != flow) {
                        if let Some(done) = current.take() {
                            self.flow_done(done, report)?;
                        }
                        at = at.max(Some(flow));
                        current = Some(self.flow_begin(flow));
                    }
                    if let Some(current) = &mut current {
                        current.add(seq, value);
                    }
                    continue;
                }
                Ok(None) => None,
                Err(error) => Some(error.to_string()),
            };
            match (&mut current, &damage, at) {
                (Some(current), Some(error), _) => {
                    let seq = current.check.events();
                    report.of("events", current.id, Some(seq), error);
                    current.check.set_broken();
                }
                (None, Some(error), Some(flow)) => report.of("events", flow, Some(0), error),
                (None, Some(error), None) => report.note("events", error),
                (_, None, _) => {}
            }
            if let Some(done) = current.take() {
                self.flow_done(done, report)?;
            }
            if damage.is_none() || !self.skip(&mut rows, &mut at, report)? {
                return Ok(());
            }
        }
    }

    /// Past damage, goes on at the next flow that `flows` knows.
    fn skip(
        &mut self,
        rows: &mut Rows<'_>,
        at: &mut Option<FlowId>,
        report: &mut Report,
    ) -> Result<bool, RecordError> {
        self.damaged = true;
        let from = at.map(|flow| [flow.as_bytes().as_slice(), &[0]].concat());
        let mut flows = self.store.rows(Cf::Flows, &from.unwrap_or_default())?;
        let next = match flows.next_row() {
            Ok(row) => row.and_then(|(row, _)| key::parse_flow(row)),
            Err(error) => {
                report.note("flows", error.to_string());
                None
            }
        };
        if let Some(flow) = next {
            rows.seek(&key::event(flow, 0));
            *at = Some(flow);
        }
        Ok(next.is_some())
    }

    fn flow_begin(&self, flow: FlowId) -> FlowCheckOf {
        FlowCheckOf {
            id: flow,
            check: FlowCheck::new(flow),
            head: self.open.get(&flow).copied(),
            head_differs: false,
        }
    }

    fn flow_done(&mut self, done: FlowCheckOf, report: &mut Report) -> Result<(), RecordError> {
        let FlowCheckOf { id, mut check, head, head_differs } = done;
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
                        report.of("sessions", id, None, "is open and its session does not know it");
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
                report.of(cf.name(), id, None, "a row that its events ask for is missing");
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

impl FlowCheckOf {
    fn add(&mut self, seq: u64, value: &[u8]) {
        self.check.add(seq, value);
        if let Some((events, last)) = &self.head
            && seq.saturating_add(1) == *events
            && self.check.last() != last
        {
            self.head_differs = true;
        }
    }
}
