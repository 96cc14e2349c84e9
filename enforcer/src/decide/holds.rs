//! How many operations are held, how many bytes of bodies wait for a decision, and which agent
//! asked for which approval.
//!
//! Holds and rooms are guards: dropping one gives its place back, however the operation ends.

use crate::approval::ApprovalId;
use crate::config::Limits;
use crate::principal::AgentName;
use crate::task::Rate;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Approvals whose asker is remembered; the oldest is forgotten first, and then its agent can no
/// longer look it up.
const REMEMBERED: usize = 16_384;

/// Of the room for bodies one agent has at most one in so many parts.
const SHARE: u32 = 4;
/// Agents whose room is remembered, before those that use none are forgotten.
const ROOMS: usize = 1024;

/// The places for held operations.
#[derive(Debug)]
pub struct Holds {
    max: usize,
    max_per_agent: usize,
    max_bytes: usize,
    /// Bytes of bodies that may be in memory before their decision, of all agents.
    room: Arc<Semaphore>,
    /// The same, of one agent.
    share: u32,
    state: Mutex<State>,
    /// How often agents may declare tasks and look at them.
    pub(crate) declarations: Rate,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    bytes: usize,
    per_agent: HashMap<AgentName, usize>,
    askers: HashMap<ApprovalId, AgentName>,
    order: VecDeque<ApprovalId>,
    rooms: HashMap<AgentName, Arc<Semaphore>>,
}

impl Holds {
    /// As many places as the configuration gives.
    pub fn new(limits: &Limits) -> Arc<Self> {
        let room = u32::try_from(limits.held_bytes).unwrap_or(u32::MAX);
        Arc::new(Self {
            max: limits.held,
            max_per_agent: limits.held_per_agent,
            max_bytes: limits.held_bytes,
            room: Arc::new(Semaphore::new(room as usize)),
            share: (room / SHARE).max(1),
            state: Mutex::default(),
            declarations: Rate::default(),
        })
    }

    /// Waits for room to read a body of `bytes` before its decision; the caller bounds the wait.
    /// A body larger than an agent's share takes all of it.
    pub async fn room(&self, agent: &AgentName, bytes: usize) -> Result<Room, AcquireError> {
        let bytes = self.share_of(bytes);
        let own = self.room_of(agent).acquire_many_owned(bytes).await?;
        let all = Arc::clone(&self.room).acquire_many_owned(bytes).await?;
        Ok(Room { _own: own, _all: all })
    }

    /// Takes room when there is some now.
    pub fn try_room(&self, agent: &AgentName, bytes: usize) -> Option<Room> {
        let bytes = self.share_of(bytes);
        let own = self.room_of(agent).try_acquire_many_owned(bytes).ok()?;
        let all = Arc::clone(&self.room).try_acquire_many_owned(bytes).ok()?;
        Some(Room { _own: own, _all: all })
    }

    fn share_of(&self, bytes: usize) -> u32 {
        u32::try_from(bytes).unwrap_or(u32::MAX).min(self.share)
    }

    fn room_of(&self, agent: &AgentName) -> Arc<Semaphore> {
        let mut state = self.lock();
        if state.rooms.len() >= ROOMS && !state.rooms.contains_key(agent) {
            // Whoever has or waits for room holds a reference.
            state.rooms.retain(|_, room| Arc::strong_count(room) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.share as usize));
        Arc::clone(state.rooms.entry(agent.clone()).or_insert_with(new))
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

/// Room for one body.
#[derive(Debug)]
pub struct Room {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn an_agent_fills_its_share_and_no_more() {
        let holds = Holds::new(&Limits { held_bytes: 400, ..Limits::default() });
        let (a, b) = (AgentName::parse("a").unwrap(), AgentName::parse("b").unwrap());
        let whole = holds.room(&a, 10_000).await.unwrap();
        assert!(holds.try_room(&a, 1).is_none());
        let wait = tokio::time::timeout(Duration::from_secs(1), holds.room(&a, 1)).await;
        assert!(wait.is_err());
        let other = holds.try_room(&b, 100).unwrap();
        drop(whole);
        assert!(holds.try_room(&a, 100).is_some());
        drop(other);
        assert_eq!(holds.room.available_permits(), 400);
    }
}
