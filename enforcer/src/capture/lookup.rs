//! Looks at processes in `/proc`, never for long.
//!
//! The executable, or the memory that holds the arguments, may lie on a file system that does not
//! answer (FUSE, NFS). So each look is taken off the loops, has a time limit, and takes one of its
//! agent's few slots until it really ends: an agent that makes looks hang has none left, and the
//! others notice nothing. What is not seen in time is unknown, and policy denies what asks for it.

use super::exe::Hashes;
use super::process;
use crate::principal::{AgentName, Principal, Process};
use enforcer_common::flow::FlowEntry;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Looks at once, of one agent and in all.
const PER_AGENT: usize = 4;
const IN_ALL: usize = 128;
/// Agents that are remembered, before those without a look under way are forgotten.
const AGENTS: usize = 1024;

/// How a look stands.
const RUNNING: u8 = 0;
const GIVEN_UP: u8 = 1;
const ENDED: u8 = 2;

/// What looks share.
#[derive(Debug)]
pub(super) struct Lookups {
    hashes: Arc<Hashes>,
    all: Arc<Semaphore>,
    agents: Mutex<HashMap<AgentName, Arc<Slots>>>,
}

/// The slots of one agent.
#[derive(Debug)]
struct Slots {
    free: Arc<Semaphore>,
    /// Looks that were given up and still hang.
    hanging: AtomicUsize,
}

impl Default for Lookups {
    fn default() -> Self {
        Self {
            hashes: Arc::default(),
            all: Arc::new(Semaphore::new(IN_ALL)),
            agents: Mutex::default(),
        }
    }
}

impl Lookups {
    /// The process behind a call; what the kernel recorded alone when it cannot be looked at
    /// within `patience`.
    pub(super) async fn process(
        &self,
        principal: &Principal,
        entry: &FlowEntry,
        patience: Duration,
    ) -> Process {
        let hashes = Arc::clone(&self.hashes);
        let (call, cgroup) = (*entry, principal.cgroup.clone());
        let look = move || process::read(&call, &cgroup, &hashes);
        match self.within(&principal.agent, patience, look).await {
            Some(process) => process,
            None => {
                tracing::warn!(
                    target: "audit",
                    agent = %principal.agent,
                    pid = entry.tgid,
                    "a process could not be looked at in time; its executable is unknown"
                );
                process::recorded(entry)
            }
        }
    }

    /// Runs `look` on a thread of its own; `None` when it does not end within `patience`.
    async fn within<T: Send + 'static>(
        &self,
        agent: &AgentName,
        patience: Duration,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let deadline = tokio::time::Instant::now() + patience;
        let slots = self.slots(agent);
        if slots.hanging.load(SeqCst) >= PER_AGENT {
            return None;
        }
        let both = async {
            let own = Arc::clone(&slots.free).acquire_owned().await.ok()?;
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some((own, all))
        };
        let taken = tokio::time::timeout_at(deadline, both).await.ok()??;
        let state = Arc::new(AtomicU8::new(RUNNING));
        let (ended, of) = (Arc::clone(&state), Arc::clone(&slots));
        let looking = tokio::task::spawn_blocking(move || {
            let seen = look();
            if ended.swap(ENDED, SeqCst) == GIVEN_UP {
                of.hanging.fetch_sub(1, SeqCst);
            }
            drop(taken);
            seen
        });
        match tokio::time::timeout_at(deadline, looking).await {
            Ok(seen) => seen.ok(),
            Err(_) => {
                // Counted before it is given up, so that the count is never below nothing.
                slots.hanging.fetch_add(1, SeqCst);
                if state.compare_exchange(RUNNING, GIVEN_UP, SeqCst, SeqCst).is_err() {
                    slots.hanging.fetch_sub(1, SeqCst);
                }
                None
            }
        }
    }

    fn slots(&self, agent: &AgentName) -> Arc<Slots> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= AGENTS && !agents.contains_key(agent) {
            // Whoever looks holds a reference.
            agents.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        let new = || {
            Arc::new(Slots {
                free: Arc::new(Semaphore::new(PER_AGENT)),
                hanging: AtomicUsize::new(0),
            })
        };
        Arc::clone(agents.entry(agent.clone()).or_insert_with(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_millis(50);
    const LATER: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn looks_that_hang_cost_their_own_agent_alone() {
        let lookups = Lookups::default();
        let (a, b) = (AgentName::parse("a").unwrap(), AgentName::parse("b").unwrap());
        let mut held = Vec::new();
        for _ in 0..PER_AGENT {
            let (release, wait) = mpsc::channel::<()>();
            let hang = move || {
                let _ = wait.recv();
            };
            assert_eq!(lookups.within(&a, SOON, hang).await, None, "it is given up");
            held.push(release);
        }
        let asked = std::time::Instant::now();
        assert_eq!(lookups.within(&a, LATER, || 1).await, None, "none is left");
        assert!(asked.elapsed() < LATER, "and nobody waits for one");
        assert_eq!(lookups.within(&b, LATER, || 2).await, Some(2));
        drop(held);
        let deadline = std::time::Instant::now() + LATER;
        while lookups.within(&a, LATER, || 3).await != Some(3) {
            assert!(std::time::Instant::now() < deadline, "the slots never came back");
            tokio::time::sleep(SOON).await;
        }
        assert_eq!(lookups.slots(&a).hanging.load(SeqCst), 0);
    }

    #[tokio::test]
    async fn a_process_that_can_be_looked_at_is() {
        let own = std::process::id().cast_signed();
        let cgroup = crate::run::cgroup::of_process(own).unwrap();
        let principal = Principal {
            host: "h".into(),
            agent: AgentName::parse("a").unwrap(),
            task: None,
            cgroup,
            process: Process::default(),
        };
        let entry = FlowEntry {
            cookie: 1,
            cgroup: 2,
            boot_ns: super::super::sys::boottime_ns(),
            orig_addr: [0; 16],
            orig_port: 443,
            tgid: std::process::id(),
            tid: 0,
            uid: 5,
            gid: 6,
            image: 0,
            comm: [0; 16],
        };
        let process = Lookups::default().process(&principal, &entry, LATER).await;
        assert_eq!(process.uid, 5);
        assert!(process.exe.is_some());
    }
}
