//! The table itself: numbered slots, each free, given to a name of an agent, or in quarantine.
//!
//! Pure: time is passed in, and a slot's address is the caller's arithmetic.

use super::{Name, QUARANTINE, UNUSED};
use crate::principal::AgentName;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// The slot of the daemon's own name; slot 0 would be the block's network address.
pub(super) const INTERNAL_SLOT: u32 = 1;
const FIRST: u32 = 2;
/// A search for entries to drop over all agents walks the table; it is not done more often.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Table {
    entries: HashMap<u32, Entry>,
    agents: HashMap<AgentName, Agent>,
    per_agent: usize,
    /// Slots are numbered below this; the last of a block (broadcast) is not used.
    end: u32,
    /// The next slot that was never given out.
    next: u32,
    /// How many were never given out.
    fresh: u32,
    /// Slots ahead of `next` that an earlier run gave out.
    restored: HashSet<u32>,
    /// Dropped slots, longest free first.
    quarantine: VecDeque<(Instant, u32)>,
    sweep_after: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    agent: AgentName,
    name: Name,
    used: Instant,
}

#[derive(Debug, Default)]
struct Agent {
    slots: HashMap<Name, u32>,
    /// No entry of the agent can be old enough to drop before this.
    full_until: Option<Instant>,
}

impl Table {
    pub(super) fn new(slots: u32, per_agent: usize, start: u32) -> Self {
        let usable = slots.saturating_sub(FIRST);
        Self {
            entries: HashMap::new(),
            agents: HashMap::new(),
            per_agent,
            end: FIRST + usable,
            next: if usable == 0 { FIRST } else { FIRST + start % usable },
            fresh: usable,
            restored: HashSet::new(),
            quarantine: VecDeque::new(),
            sweep_after: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The slot that the agent has for the name.
    pub(super) fn find(&mut self, agent: &AgentName, name: &Name, now: Instant) -> Option<u32> {
        let slot = *self.agents.get(agent)?.slots.get(name)?;
        self.entries.get_mut(&slot)?.used = now;
        Some(slot)
    }

    /// The name that a slot stands for, when it is this agent's.
    pub(super) fn name_at(&mut self, slot: u32, agent: &AgentName, now: Instant) -> Option<Name> {
        let entry = self.entries.get_mut(&slot)?;
        if entry.agent != *agent {
            return None;
        }
        entry.used = now;
        Some(entry.name.clone())
    }

    /// Gives the agent a slot for a name that it has none for.
    pub(super) fn insert(&mut self, agent: &AgentName, name: &Name, now: Instant) -> Option<u32> {
        let held = self.agents.get(agent).map_or(0, |a| a.slots.len());
        if held >= self.per_agent && !self.drop_oldest(agent, now) {
            return None;
        }
        let slot = self.take_slot(now)?;
        self.put(slot, agent, name.clone(), now);
        Some(slot)
    }

    /// Puts back an entry of an earlier run; one that does not fit is left out.
    pub(super) fn restore(&mut self, slot: u32, agent: &AgentName, name: Name, now: Instant) {
        let fits = (FIRST..self.end).contains(&slot)
            && !self.entries.contains_key(&slot)
            && self
                .agents
                .get(agent)
                .is_none_or(|a| a.slots.len() < self.per_agent && !a.slots.contains_key(&name));
        if fits {
            self.put(slot, agent, name, now);
            self.restored.insert(slot);
            self.fresh = self.fresh.saturating_sub(1);
        }
    }

    /// Drops an entry; its slot goes into quarantine.
    pub(super) fn remove(&mut self, slot: u32, now: Instant) {
        let Some(entry) = self.entries.remove(&slot) else {
            return;
        };
        if let Some(agent) = self.agents.get_mut(&entry.agent) {
            agent.slots.remove(&entry.name);
            if agent.slots.is_empty() {
                self.agents.remove(&entry.agent);
            }
        }
        self.quarantine.push_back((now, slot));
    }

    /// All entries, for the journal.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, &AgentName, &Name)> {
        self.entries.iter().map(|(slot, entry)| (*slot, &entry.agent, &entry.name))
    }

    fn put(&mut self, slot: u32, agent: &AgentName, name: Name, now: Instant) {
        self.agents.entry(agent.clone()).or_default().slots.insert(name.clone(), slot);
        let agent = agent.clone();
        let used = now;
        self.entries.insert(slot, Entry { agent, name, used });
    }

    fn take_slot(&mut self, now: Instant) -> Option<u32> {
        if let Some(slot) = self.fresh_slot() {
            return Some(slot);
        }
        if let Some(slot) = self.rested_slot(now) {
            return Some(slot);
        }
        if self.sweep_after.is_none_or(|after| now >= after) {
            self.sweep_after = Some(now + SWEEP_EVERY);
            self.drop_unused(now);
        }
        self.rested_slot(now)
    }

    fn fresh_slot(&mut self) -> Option<u32> {
        while self.fresh > 0 {
            let slot = self.next;
            self.next = if slot + 1 >= self.end { FIRST } else { slot + 1 };
            // Not "has no entry": a restored one may be in quarantine by now.
            if !self.restored.remove(&slot) {
                self.fresh -= 1;
                return Some(slot);
            }
        }
        None
    }

    fn rested_slot(&mut self, now: Instant) -> Option<u32> {
        let (freed, slot) = *self.quarantine.front()?;
        if now.saturating_duration_since(freed) < QUARANTINE {
            return None;
        }
        self.quarantine.pop_front();
        Some(slot)
    }

    /// Drops the agent's longest unused entry when it is old enough.
    fn drop_oldest(&mut self, agent: &AgentName, now: Instant) -> bool {
        let Some(state) = self.agents.get_mut(agent) else {
            return false;
        };
        if state.full_until.is_some_and(|until| now < until) {
            return false;
        }
        let oldest = state
            .slots
            .values()
            .filter_map(|slot| Some((self.entries.get(slot)?.used, *slot)))
            .min();
        let Some((used, slot)) = oldest else {
            return false;
        };
        if now.saturating_duration_since(used) < UNUSED {
            // Uses only move forward, so the search need not be made again until then.
            state.full_until = Some(used + UNUSED);
            return false;
        }
        self.remove(slot, now);
        true
    }

    fn drop_unused(&mut self, now: Instant) {
        let old: Vec<u32> = self
            .entries
            .iter()
            .filter(|(_, entry)| now.saturating_duration_since(entry.used) >= UNUSED)
            .map(|(slot, _)| *slot)
            .collect();
        for slot in old {
            self.remove(slot, now);
        }
    }
}
