//! How many operations are held, and which agent asked for which approval.
//!
//! A hold is a guard: dropping it gives its place back, however the operation ends.

use crate::approval::ApprovalId;
use crate::config::Limits;
use crate::principal::AgentName;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Approvals whose asker is remembered; the oldest is forgotten first, and then its agent can no
/// longer look it up.
const REMEMBERED: usize = 16_384;

/// The places for held operations.
#[derive(Debug)]
pub struct Holds {
    max: usize,
    max_per_agent: usize,
    max_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    bytes: usize,
    per_agent: HashMap<AgentName, usize>,
    askers: HashMap<ApprovalId, AgentName>,
    order: VecDeque<ApprovalId>,
}

impl Holds {
    /// As many places as the configuration gives.
    pub fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max: limits.held,
            max_per_agent: limits.held_per_agent,
            max_bytes: limits.held_bytes,
            state: Mutex::default(),
        })
    }

    /// Takes a place for an operation with a body of `bytes`; `None` when there is none.
    pub(super) fn enter(self: &Arc<Self>, agent: &AgentName, bytes: usize) -> Option<Hold> {
        let mut state = self.lock();
        let of_agent = state.per_agent.get(agent).copied().unwrap_or_default();
        let total = state.bytes.checked_add(bytes)?;
        if state.held >= self.max || of_agent >= self.max_per_agent || total > self.max_bytes {
            return None;
        }
        state.held += 1;
        state.bytes = total;
        state.per_agent.insert(agent.clone(), of_agent + 1);
        Some(Hold { holds: Arc::clone(self), agent: agent.clone(), bytes })
    }

    /// Operations that are held now.
    pub fn held(&self) -> usize {
        self.lock().held
    }

    /// Remembers who asked.
    pub(super) fn asked(&self, id: ApprovalId, agent: &AgentName) {
        let mut state = self.lock();
        if state.askers.insert(id, agent.clone()).is_some() {
            return;
        }
        state.order.push_back(id);
        if state.order.len() > REMEMBERED
            && let Some(oldest) = state.order.pop_front()
        {
            state.askers.remove(&oldest);
        }
    }

    /// Whether this agent asked for that approval.
    pub fn is_asker(&self, id: &ApprovalId, agent: &AgentName) -> bool {
        self.lock().askers.get(id) == Some(agent)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One held operation's place.
#[derive(Debug)]
pub(super) struct Hold {
    holds: Arc<Holds>,
    agent: AgentName,
    bytes: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holds.lock();
        state.held = state.held.saturating_sub(1);
        state.bytes = state.bytes.saturating_sub(self.bytes);
        if let Some(count) = state.per_agent.get_mut(&self.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.per_agent.remove(&self.agent);
            }
        }
    }
}
