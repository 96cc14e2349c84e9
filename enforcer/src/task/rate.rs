//! How often an agent may declare and look: what it asks of the approval server must not take the
//! host's room there from other agents.

use crate::principal::AgentName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// One more every so often.
const EVERY: Duration = Duration::from_millis(500);
/// So many at once.
const BURST: u32 = 20;
/// Agents that are remembered; those that asked for nothing lately are forgotten first.
const AGENTS: usize = 4096;

/// A bucket for each agent, kept as the time at which it is full again.
#[derive(Debug, Default)]
pub struct Rate(Mutex<HashMap<AgentName, Instant>>);

impl Rate {
    /// Whether the agent may ask now; counts it when it may.
    pub fn allows(&self, agent: &AgentName) -> bool {
        let now = Instant::now();
        let mut agents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= AGENTS && !agents.contains_key(agent) {
            agents.retain(|_, full| *full > now);
            if agents.len() >= AGENTS {
                return false;
            }
        }
        let full = agents.entry(agent.clone()).or_insert(now);
        let next = (*full).max(now) + EVERY;
        let allowed = next <= now + EVERY * BURST;
        if allowed {
            *full = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_stopped_and_others_are_not() {
        let rate = Rate::default();
        let (one, two) = (AgentName::parse("one").unwrap(), AgentName::parse("two").unwrap());
        assert_eq!((0..100).filter(|_| rate.allows(&one)).count(), BURST as usize);
        assert!(rate.allows(&two));
        tokio::time::advance(EVERY).await;
        assert!(rate.allows(&one) && !rate.allows(&one));
    }
}
