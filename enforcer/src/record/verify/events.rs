//! All events, flow by flow, with what the rest of the store says of each flow.

use super::super::error::RecordError;
use super::super::key;
use super::super::store::Cf;
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
        // The last key before damage, until a row is read behind it.
        let mut unread: Option<Vec<u8>> = None;
        loop {
            match rows.next_row() {
                Ok(Some((row, value))) => {
                    let after = unread.take();
                    if let Some(from) = &after {
                        self.unread.push((from.clone(), row.to_vec()));
                    }
                    let Some((flow, seq)) = key::parse_event(row) else {
                        let what = format!("key {} is of no kind", hex::encode(row));
                        report.note("events", what);
                        continue;
                    };
                    if current.as_ref().is_none_or(|current| current.id != flow) {
                        if let Some(done) = current.take() {
                            self.flow_done(done, report);
                        }
                        current = Some(self.flow_begin(flow));
                    }
                    if let Some(current) = &mut current {
                        if after.is_some() {
                            current.check.set_unread();
                        }
                        current.add(seq, value);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    if let Some(current) = &mut current {
                        current.check.set_unread();
                    }
                    self.damage("events", &error, report);
                    unread.get_or_insert_with(|| rows.at().to_vec());
                }
            }
        }
        if let Some(from) = unread {
            self.unread.push((from, vec![0xff; 25]));
        }
        if let Some(done) = current.take() {
            self.flow_done(done, report);
        }
        Ok(())
    }

    fn flow_begin(&self, flow: FlowId) -> FlowCheckOf {
        FlowCheckOf {
            id: flow,
            check: FlowCheck::new(flow),
            head: self.open.get(&flow).copied(),
            head_differs: false,
        }
    }

    fn flow_done(&mut self, done: FlowCheckOf, report: &mut Report) {
        let FlowCheckOf { id, mut check, head, head_differs } = done;
        report.flows += 1;
        report.events += check.events();
        report.operations += check.operations;
        let record = self
            .row(Cf::Flows, id.as_bytes(), report)
            .map(|row| (v1::FlowRecord::decode(row.as_slice()).ok(), row));
        match record {
            None if self.damaged => {
                report.of(
                    "flows",
                    id,
                    None,
                    "has events, and its row cannot be read or is missing",
                );
            }
            None => report.of("flows", id, None, "has events and no row"),
            Some((None, _)) => report.of("flows", id, None, "its row cannot be read"),
            Some((Some(record), row)) => {
                if record.encode_to_vec() != row {
                    report.of("flows", id, None, "its row is not stored as it was written");
                }
                let sealed = record.seal.as_ref().and_then(|seal| self.sealed(seal.leaf, report));
                let sealed = sealed.filter(|sealed| sealed.flow == id.as_bytes());
                check.finish(&record, sealed.as_ref(), head.as_ref());
                if record.seal.is_none() {
                    report.open_flows += 1;
                    let marker = [record.session.as_slice(), id.as_bytes()].concat();
                    if self.row(Cf::Sessions, &marker, report).is_none() {
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
            if self.row(*cf, row, report).is_none() && !check.broken() {
                report.of(cf.name(), id, None, "a row that its events ask for is missing");
            }
        }
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
