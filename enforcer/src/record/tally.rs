//! What was recorded since the start, to be held against the kernel's own counters.

use enforcer_proto::v1;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The hook of a refusal that is none of the kernel's: connections past a limit.
pub const ACCEPT: &str = "accept";

/// Counts of what the transcripts hold since the recorder was opened, by agent (empty: none).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Connections that the kernel redirected, served or turned away.
    pub tcp: BTreeMap<String, u64>,
    /// Refusals in the kernel, by agent and reason.
    pub refused: BTreeMap<(String, String), u64>,
}

#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Recorded>);

/// What a flow adds to the tally, taken from its start.
pub(super) enum Counts {
    Nothing,
    Tcp(String, u64),
    Refused(String, String, u64),
}

impl Counts {
    pub(super) fn of(start: &v1::FlowStart) -> Self {
        let agent = start.principal.as_ref().map(|who| who.agent.clone()).unwrap_or_default();
        match &start.refusal {
            // Redirected by the kernel and turned away when it was accepted.
            Some(refusal) if refusal.hook == ACCEPT => Self::Tcp(agent, refusal.count),
            Some(refusal) => Self::Refused(agent, refusal.reason.clone(), refusal.count),
            None if start.transport == "tcp" => Self::Tcp(agent, 1),
            None => Self::Nothing,
        }
    }
}

impl Tally {
    pub(super) fn add(&self, counts: Counts) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts {
            Counts::Nothing => {}
            Counts::Tcp(agent, count) => *all.tcp.entry(agent).or_default() += count,
            Counts::Refused(agent, reason, count) => {
                *all.refused.entry((agent, reason)).or_default() += count;
            }
        }
    }

    pub(super) fn read(&self) -> Recorded {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
