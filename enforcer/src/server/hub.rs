//! Who hears of which change. A slow listener is told that it missed some and
//! starts over from the present state; it never holds anybody up.

use super::model::Record;
use crate::approval::identity::Subject;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::{Receiver, Sender};

/// Changes that a listener may fall behind by.
const BACKLOG: usize = 256;

/// Changed members that a listener may fall behind by.
const MEMBERS: usize = 64;

/// Passes changes on.
#[derive(Debug)]
pub struct Hub {
    members: Sender<Subject>,
    all: Sender<Arc<Record>>,
    hosts: Mutex<HashMap<String, Sender<Arc<Record>>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { members: Sender::new(MEMBERS), all: Sender::new(BACKLOG), hosts: Mutex::default() }
    }
}

impl Hub {
    /// Every member that is removed, or joins again.
    pub fn watch_members(&self) -> Receiver<Subject> {
        self.members.subscribe()
    }

    /// Makes the streams of a member look at its right again.
    pub fn member(&self, subject: &Subject) {
        let _ = self.members.send(subject.clone());
    }

    /// Every change.
    pub fn watch(&self) -> Receiver<Arc<Record>> {
        self.all.subscribe()
    }

    /// Every change of one host's approvals.
    pub fn watch_host(&self, host: &str) -> Receiver<Arc<Record>> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = hosts.entry(host.to_owned()).or_insert_with(|| Sender::new(BACKLOG));
        sender.subscribe()
    }

    /// Passes a change on.
    pub fn publish(&self, record: &Arc<Record>) {
        let _ = self.all.send(Arc::clone(record));
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match hosts.get(&record.host) {
            Some(sender) => sender.send(Arc::clone(record)).is_ok(),
            None => true,
        };
        if !heard {
            hosts.remove(&record.host);
        }
    }
}
