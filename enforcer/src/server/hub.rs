//! Who hears of which change. A slow listener is told that it missed some and
//! starts over from the present state; it never holds anybody up.

use super::model::Record;
use crate::approval::identity::Subject;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast::{Receiver, Sender};

/// Changes that a listener may fall behind by.
const BACKLOG: usize = 256;

/// Changes of one member that a listener may fall behind by.
const MEMBERS: usize = 8;

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
    all: Sender<Change>,
    // One for each: a host that joins wakes its own streams, and not those of all the others.
    members: Mutex<HashMap<Subject, Sender<()>>>,
    hosts: Mutex<HashMap<String, Sender<Change>>>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { all: Sender::new(BACKLOG), members: Mutex::default(), hosts: Mutex::default() }
    }
}

impl Hub {
    /// Each time that this member is removed, or joins again, or may have.
    pub fn watch_member(&self, subject: &Subject) -> Receiver<()> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.entry(subject.clone()).or_insert_with(|| Sender::new(MEMBERS)).subscribe()
    }

    /// Makes the streams of a member look at its right again.
    pub fn member(&self, subject: &Subject) {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = match members.get(subject) {
            Some(sender) => sender.send(()).is_ok(),
            None => true,
        };
        if !heard {
            members.remove(subject);
        }
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
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members.retain(|_, sender| sender.send(()).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::identity::Role;
    use tokio::sync::broadcast::error::TryRecvError;

    #[test]
    fn a_member_that_changes_wakes_its_own_streams_only() {
        let hub = Hub::default();
        let host = |name| Subject::new(Role::Daemon, name).unwrap();
        let (mut first, mut other) = (hub.watch_member(&host("h1")), hub.watch_member(&host("h2")));
        let mut again = hub.watch_member(&host("h1"));
        hub.member(&host("h1"));
        assert_eq!(first.try_recv(), Ok(()));
        assert_eq!(again.try_recv(), Ok(()));
        assert_eq!(other.try_recv(), Err(TryRecvError::Empty));
        // What nobody listens to is forgotten, and listened to again.
        drop((first, again));
        hub.member(&host("h1"));
        assert!(!hub.members.lock().unwrap().contains_key(&host("h1")));
        let mut anew = hub.watch_member(&host("h1"));
        hub.member(&host("h1"));
        assert_eq!(anew.try_recv(), Ok(()));
    }
}
