//! How many connections there may be.

use crate::config::Limits;
use crate::principal::AgentName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The connections that there may be.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    max_per_agent: usize,
    taken: Mutex<(usize, HashMap<AgentName, usize>)>,
}

impl Places {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max: limits.connections,
            max_per_agent: limits.connections_per_agent,
            taken: Mutex::default(),
        })
    }

    /// A place, or the limit that leaves none.
    pub(super) fn take(self: &Arc<Self>, agent: &AgentName) -> Result<Place, &'static str> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, agents) = &mut *taken;
        let of_agent = agents.get(agent).copied().unwrap_or_default();
        if of_agent >= self.max_per_agent {
            return Err("connections-per-agent");
        }
        if *all >= self.max {
            return Err("connections");
        }
        *all += 1;
        agents.insert(agent.clone(), of_agent + 1);
        Ok(Place { places: Arc::clone(self), agent: agent.clone() })
    }
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    agent: AgentName,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, agents) = &mut *taken;
        *all = all.saturating_sub(1);
        if let Some(count) = agents.get_mut(&self.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                agents.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_per_daemon_and_per_agent() {
        let limits = Limits { connections: 3, connections_per_agent: 2, ..Limits::default() };
        let places = Places::new(&limits);
        let (a, b) = (AgentName::parse("a").unwrap(), AgentName::parse("b").unwrap());
        let first = places.take(&a).unwrap();
        let _second = places.take(&a).unwrap();
        assert_eq!(places.take(&a).unwrap_err(), "connections-per-agent");
        let _third = places.take(&b).unwrap();
        assert_eq!(places.take(&b).unwrap_err(), "connections");
        drop(first);
        assert!(places.take(&b).is_ok());
    }
}
