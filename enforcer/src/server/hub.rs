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

/// What a listener hears.
#[derive(Clone, Debug)]
pub enum Change {
    /// A record as it is now.
    Record(Arc<Record>),
    /// Some changes were missed, made by another replica.
    Missed,
}

/// Passes changes on.
#[derive(Debug)]
pub struct Hub {
    members: Sender<Option<Subject>>,
    all: Sender<Change>,
    hosts: Mutex<HashMap<String, Sender<Change>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { members: Sender::new(MEMBERS), all: Sender::new(BACKLOG), hosts: Mutex::default() }
    }
}

impl Hub {
    /// Every member that is removed, or joins again; `None`: any may have been.
    pub fn watch_members(&self) -> Receiver<Option<Subject>> {
        self.members.subscribe()
    }

    /// Makes the streams of a member look at its right again.
    pub fn member(&self, subject: &Subject) {
        let _ = self.members.send(Some(subject.clone()));
    }

    /// Every change.
    pub fn watch(&self) -> Receiver<Change> {
        self.all.subscribe()
    }

    /// Every change of one host's approvals.
    pub fn watch_host(&self, host: &str) -> Receiver<Change> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = hosts.entry(host.to_owned()).or_insert_with(|| Sender::new(BACKLOG));
        sender.subscribe()
    }

    /// Passes a change on.
    pub fn publish(&self, record: &Arc<Record>) {
        let _ = self.all.send(Change::Record(Arc::clone(record)));
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match hosts.get(&record.host) {
            Some(sender) => sender.send(Change::Record(Arc::clone(record))).is_ok(),
            None => true,
        };
        if !heard {
            hosts.remove(&record.host);
        }
    }

    /// Makes everybody look at the present state again.
    pub fn missed(&self) {
        let _ = self.all.send(Change::Missed);
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, sender| sender.send(Change::Missed).is_ok());
        drop(hosts);
        let _ = self.members.send(None);
    }
}
