//! Connections that found no place: counted by agent and reason, and recorded once a second, so
//! that each connect is in a transcript and a flood of them is a few rows.

use crate::capture::Captured;
use crate::flow::{Destination, Inputs};
use crate::principal::AgentName;
use enforcer_proto::v1;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// What was turned away and is not yet recorded, by agent and reason.
#[derive(Debug, Default)]
pub(super) struct TurnedAway(Mutex<HashMap<(AgentName, &'static str), Alike>>);

/// The first connection of its kind, and how many there were.
type Alike = (Captured, u64);

impl TurnedAway {
    /// Counts one; the first of its agent and reason stands for those that follow it.
    pub(super) fn note(&self, captured: Captured, reason: &'static str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let agent = captured.principal.agent.clone();
        let (first, count) = seen.entry((agent, reason)).or_insert_with(|| (captured, 0));
        *count += 1;
        if *count == 1 {
            tracing::warn!(
                target: "audit",
                agent = %first.principal.agent,
                reason,
                "connections past the limits are closed"
            );
        }
    }

    /// Records what was counted since the last time.
    pub(super) async fn write_out(&self, inputs: &Inputs) {
        let seen = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for ((_, reason), (captured, count)) in seen {
            let destination = Destination::find(&inputs.names, &captured);
            let refusal =
                v1::KernelRefusal { hook: "accept".to_owned(), reason: reason.to_owned(), count };
            let start = v1::FlowStart {
                refusal: Some(refusal),
                ..inputs.flow_start(&captured, &destination)
            };
            let end = v1::FlowEnd {
                outcome: "refused".to_owned(),
                error: reason.to_owned(),
                operations: 0,
            };
            if let Err(error) = inputs.recorder.whole_flow(start, Vec::new(), end).await {
                tracing::error!(
                    target: "audit",
                    %error,
                    count,
                    "connections past the limits could not be recorded"
                );
            }
        }
    }
}
