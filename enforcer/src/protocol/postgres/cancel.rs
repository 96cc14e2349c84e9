//! Cancel requests: which session an agent's own cancel key means.
//!
//! An agent never learns the upstream's process or key. It gets ours, which only its own
//! connections can use, and which end a statement that is held as well as one that runs.

use crate::principal::AgentName;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Bytes of a cancel key in protocol 3.0.
const SHORT: usize = 4;
/// Bytes of a cancel key from 3.2 on.
const LONG: usize = 32;
/// How often a process number is drawn until one is free.
const DRAWS: usize = 64;

/// The sessions that can be cancelled.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancels(Arc<Mutex<HashMap<u32, Known>>>);

struct Known {
    agent: AgentName,
    key: Vec<u8>,
    asked: watch::Sender<u64>,
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("agent", &self.agent).finish_non_exhaustive()
    }
}

/// A session's own key; it means nothing once this is dropped.
#[derive(Debug)]
pub(super) struct Registered {
    cancels: Cancels,
    pub(super) process: u32,
    pub(super) key: Vec<u8>,
    /// Counts the requests.
    pub(super) asked: watch::Receiver<u64>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.cancels.lock().remove(&self.process);
    }
}

impl Cancels {
    /// A new key for a session of `agent`; `None` when the system has no randomness or no
    /// process number is free.
    pub(super) fn register(&self, agent: &AgentName, long: bool) -> Option<Registered> {
        let mut key = vec![0; if long { LONG } else { SHORT }];
        getrandom::fill(&mut key).ok()?;
        let (asked, news) = watch::channel(0);
        let mut known = self.lock();
        for _ in 0..DRAWS {
            // Clients read it as a signed number and print it.
            let process = getrandom::u32().ok()? >> 1;
            if process == 0 {
                continue;
            }
            if let Entry::Vacant(free) = known.entry(process) {
                free.insert(Known { agent: agent.clone(), key: key.clone(), asked });
                drop(known);
                return Some(Registered { cancels: self.clone(), process, key, asked: news });
            }
        }
        None
    }

    /// Cancels what a session of `agent` runs; whether there is such a session.
    pub(super) fn cancel(&self, agent: &AgentName, process: u32, key: &[u8]) -> bool {
        let known = self.lock();
        let Some(session) = known.get(&process) else {
            return false;
        };
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&session.key, key).is_ok();
        if !same || session.agent != *agent {
            return false;
        }
        session.asked.send_modify(|count| *count += 1);
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_its_session_to_its_agent_while_it_lasts() {
        let cancels = Cancels::default();
        let (a, b) = (AgentName::parse("a").unwrap(), AgentName::parse("b").unwrap());
        let mine = cancels.register(&a, false).unwrap();
        let long = cancels.register(&a, true).unwrap();
        assert_eq!((mine.key.len(), long.key.len()), (4, 32));
        assert!(!cancels.cancel(&b, mine.process, &mine.key), "another agent's");
        assert!(!cancels.cancel(&a, mine.process, &long.key), "another key");
        assert!(!cancels.cancel(&a, mine.process, &[]), "no key");
        assert_eq!(*mine.asked.borrow(), 0);
        assert!(cancels.cancel(&a, mine.process, &mine.key));
        assert_eq!((*mine.asked.borrow(), *long.asked.borrow()), (1, 0));
        let (process, key) = (mine.process, mine.key.clone());
        drop(mine);
        assert!(!cancels.cancel(&a, process, &key), "it is over");
    }
}
