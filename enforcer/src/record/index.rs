//! Which index rows an event has. Pure: written beside the event, derived again by `verify`.

use super::store::Cf;
use super::{FlowId, key};
use crate::operation::Digest;
use enforcer_proto::v1::{self, event::Kind};
use uuid::Uuid;

/// The rows that `event` of a flow that started at `started_unix_ns` has; their values are empty.
pub fn rows(flow: FlowId, started_unix_ns: i64, event: &v1::Event) -> Vec<(Cf, Vec<u8>)> {
    let mut rows = Vec::new();
    let target = |target: &str| (Cf::IndexTarget, key::text_time(target, started_unix_ns, flow));
    match &event.kind {
        Some(Kind::FlowStart(start)) => {
            rows.push((Cf::IndexTime, key::time(started_unix_ns, flow)));
            if let Some(principal) = &start.principal {
                let row = key::text_time(&principal.agent, started_unix_ns, flow);
                rows.push((Cf::IndexAgent, row));
            }
            if !start.target.is_empty() {
                rows.push(target(&start.target));
            }
        }
        Some(Kind::OperationAsked(asked)) => {
            if !asked.target.is_empty() {
                rows.push(target(&asked.target));
            }
            if let Ok(digest) = asked.digest.parse::<Digest>() {
                let row = key::digest_event(&digest.0, flow, event.seq);
                rows.push((Cf::IndexDigest, row));
            }
            if let Ok(id) = Uuid::from_slice(&event.operation) {
                let row = key::operation_event(id, flow, event.seq);
                rows.push((Cf::IndexOperation, row));
            }
        }
        Some(Kind::Decision(decision)) if !decision.approval.is_empty() => {
            let row = key::text_event(&decision.approval, flow, event.seq);
            rows.push((Cf::IndexApproval, row));
        }
        _ => {}
    }
    rows
}
