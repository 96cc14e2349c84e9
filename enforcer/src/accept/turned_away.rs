//! Connections that found no place: counted by agent and reason, and recorded once a second, so
//! that each connect is in a transcript and a flood of them is a few rows.

use crate::capture::Captured;
use crate::flow::{Destination, Inputs};
use crate::principal::AgentName;
use crate::record::{ACCEPT, now_ns};
use enforcer_proto::v1;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What was turned away and is not yet recorded, by agent and reason.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(Mutex<HashMap<(AgentName, &'static str), Alike>>);

/// Connections of one kind.
#[derive(Debug)]
struct Alike {
    first: Captured,
    count: u64,
    first_ns: i64,
    last_ns: i64,
}

impl TurnedAway {
    /// Counts one; the first of its agent and reason stands for those that follow it.
    pub(super) fn note(&self, captured: Captured, reason: &'static str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let agent = captured.principal.agent.clone();
        let now = now_ns();
        let alike = seen.entry((agent, reason)).or_insert_with(|| Alike {
            first: captured,
            count: 0,
            first_ns: now,
            last_ns: now,
        });
        alike.count += 1;
        alike.last_ns = now;
        if alike.count == 1 {
            tracing::warn!(
                target: "audit",
                agent = %alike.first.principal.agent,
                reason,
                "connections past the limits are closed"
            );
        }
    }

    /// Records what was counted since the last time.
    pub(super) async fn write_out(&self, inputs: &Inputs) {
        let seen = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for ((_, reason), alike) in seen {
            let destination = Destination::find(&inputs.names, &alike.first);
            let start = inputs.flow_start(&alike.first, &destination);
            let name = if start.name.is_empty() { &start.orig_addr } else { &start.name };
            let refusal = v1::KernelRefusal {
                hook: ACCEPT.to_owned(),
                reason: reason.to_owned(),
                count: alike.count,
                first_unix_ns: alike.first_ns,
                last_unix_ns: alike.last_ns,
                destinations: vec![format!("{name}:{}", start.orig_port)],
            };
            let start = v1::FlowStart { refusal: Some(refusal), ..start };
            let end = v1::FlowEnd {
                outcome: "refused".to_owned(),
                error: reason.to_owned(),
                operations: 0,
            };
            if let Err(error) = inputs.recorder.whole_flow(start, Vec::new(), end).await {
                tracing::error!(
                    target: "audit",
                    %error,
                    count = alike.count,
                    "connections past the limits could not be recorded"
                );
            }
        }
    }
}
