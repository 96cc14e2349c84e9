//! Cancel requests: which session an agent's own cancel key means.
//!
//! An agent gets the process number of its backend, which SQL tells it anyway and which drivers
//! compare with what SQL tells, and never the upstream's key. The key is ours: only the agent's
//! own connections can use it, and it ends a statement that is held as well as one that runs.

use crate::principal::AgentName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Bytes of a cancel key in protocol 3.0.
const SHORT: usize = 4;
/// Bytes of a cancel key from 3.2 on.
const LONG: usize = 32;
/// How often a key is drawn until none of the same process number has it.
const DRAWS: usize = 64;

/// The sessions that can be cancelled, by their process numbers; backends of several upstreams
/// can have the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancels(Arc<Mutex<HashMap<u32, Vec<Known>>>>);

struct Known {
    agent: AgentName,
    key: Vec<u8>,
    asked: watch::Sender<u64>,
    passed: watch::Receiver<u64>,
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
    /// Counts those of them that were passed on.
    pub(super) passed: watch::Sender<u64>,
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Passing {
    count: u64,
    passed: watch::Receiver<u64>,
}

impl Passing {
    /// Ends when the backend has got it, or the session is over: whoever asked may send its next
    /// statement then, and it does not meet that one.
    pub(super) async fn passed(mut self) {
        let _ = self.passed.wait_for(|passed| *passed >= self.count).await;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut known = self.cancels.lock();
        if let Some(sessions) = known.get_mut(&self.process) {
            sessions.retain(|session| session.key != self.key);
            if sessions.is_empty() {
                known.remove(&self.process);
            }
        }
    }
}

impl Cancels {
    /// A new key for a session of `agent` whose backend has this process number; one is drawn for
    /// a backend that did not say. `None` when the system has no randomness or no key is free.
    pub(super) fn register(
        &self,
        agent: &AgentName,
        backend: Option<u32>,
        long: bool,
    ) -> Option<Registered> {
        let mut key = vec![0; if long { LONG } else { SHORT }];
        let (asked, news) = watch::channel(0);
        let (passed, passing) = watch::channel(0);
        let mut known = self.lock();
        for _ in 0..DRAWS {
            getrandom::fill(&mut key).ok()?;
            let process = match backend {
                Some(process) => process,
                // Clients read it as a signed number and print it.
                None => getrandom::u32().ok()? >> 1,
            };
            let sessions = known.entry(process).or_default();
            if sessions.iter().all(|session| session.key != key) {
                let agent = agent.clone();
                sessions.push(Known { agent, key: key.clone(), asked, passed: passing });
                drop(known);
                let cancels = self.clone();
                return Some(Registered { cancels, process, key, asked: news, passed });
            }
        }
        None
    }

    /// Cancels what a session of `agent` runs; `None` when there is no such session.
    pub(super) fn cancel(&self, agent: &AgentName, process: u32, key: &[u8]) -> Option<Passing> {
        let known = self.lock();
        let sessions = known.get(&process).into_iter().flatten();
        let mut found = sessions.filter(|session| {
            let same = aws_lc_rs::constant_time::verify_slices_are_equal(&session.key, key).is_ok();
            same && session.agent == *agent
        });
        let session = found.next()?;
        session.asked.send_modify(|count| *count += 1);
        let count = *session.asked.borrow();
        Some(Passing { count, passed: session.passed.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Vec<Known>>> {
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
        let mine = cancels.register(&a, None, false).unwrap();
        let long = cancels.register(&a, None, true).unwrap();
        assert_eq!((mine.key.len(), long.key.len()), (4, 32));
        assert!(cancels.cancel(&b, mine.process, &mine.key).is_none(), "another agent's");
        assert!(cancels.cancel(&a, mine.process, &long.key).is_none(), "another key");
        assert!(cancels.cancel(&a, mine.process, &[]).is_none(), "no key");
        assert_eq!(*mine.asked.borrow(), 0);
        assert!(cancels.cancel(&a, mine.process, &mine.key).is_some());
        assert_eq!((*mine.asked.borrow(), *long.asked.borrow()), (1, 0));
        let (process, key) = (mine.process, mine.key.clone());
        drop(mine);
        assert!(cancels.cancel(&a, process, &key).is_none(), "it is over");
    }

    #[test]
    fn sessions_of_one_process_number_are_told_apart() {
        let cancels = Cancels::default();
        let a = AgentName::parse("a").unwrap();
        let one = cancels.register(&a, Some(77), false).unwrap();
        let other = cancels.register(&a, Some(77), false).unwrap();
        assert_eq!((one.process, other.process), (77, 77));
        assert!(cancels.cancel(&a, 77, &other.key).is_some());
        assert_eq!((*one.asked.borrow(), *other.asked.borrow()), (0, 1));
        let key = other.key.clone();
        drop(other);
        assert!(cancels.cancel(&a, 77, &key).is_none(), "it is over");
        assert!(cancels.cancel(&a, 77, &one.key).is_some(), "the other is not");
        drop(one);
        assert!(cancels.lock().is_empty());
    }

    #[tokio::test]
    async fn a_request_is_waited_for_until_it_was_passed_on() {
        let cancels = Cancels::default();
        let a = AgentName::parse("a").unwrap();
        let session = cancels.register(&a, Some(1), false).unwrap();
        let first = cancels.cancel(&a, 1, &session.key).unwrap();
        let second = cancels.cancel(&a, 1, &session.key).unwrap();
        session.passed.send_replace(1);
        first.passed().await;
        let mut second = Box::pin(second.passed());
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, &mut second).await.is_err());
        drop(session);
        second.await;
    }
}
