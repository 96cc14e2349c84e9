//! Room for connections: so many in all, and so many for each who might take it from the others.

use super::core::block;
use crate::approval::identity::Subject;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Handshakes at once: those that nobody vouches for yet.
const HANDSHAKES: usize = 512;

/// Handshakes at once from one address.
const HANDSHAKES_OF_ONE: usize = 64;

/// Connections of one certificate holder. A daemon needs one, or two for a moment.
const OF_ONE_HOLDER: usize = 64;

/// The part of all connections that may be without a certificate: they come to join.
const WITHOUT: usize = 4;

/// The room there is.
#[derive(Clone, Debug)]
pub struct Room {
    all: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    without: Arc<Semaphore>,
    shaking: Counts<IpAddr>,
    holders: Counts<Subject>,
}

/// Room for a connection, and for its handshake.
#[derive(Debug)]
pub struct Shaking {
    connection: OwnedSemaphorePermit,
    _handshake: OwnedSemaphorePermit,
    _address: Counted<IpAddr>,
}

/// Room for a connection that is there.
#[derive(Debug)]
pub struct Seat {
    _connection: OwnedSemaphorePermit,
    _of: Of,
}

#[derive(Debug)]
enum Of {
    Holder { _counted: Counted<Subject> },
    Nobody { _permit: OwnedSemaphorePermit },
}

impl Room {
    /// Room for so many connections.
    pub fn new(connections: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(connections)),
            handshakes: Arc::new(Semaphore::new(HANDSHAKES)),
            without: Arc::new(Semaphore::new((connections / WITHOUT).max(1))),
            shaking: Counts::default(),
            holders: Counts::default(),
        }
    }

    /// Room for a new connection from that address.
    pub fn shake(&self, from: IpAddr) -> Option<Shaking> {
        Some(Shaking {
            _address: self.shaking.take(block(from), HANDSHAKES_OF_ONE)?,
            _handshake: Arc::clone(&self.handshakes).try_acquire_owned().ok()?,
            connection: Arc::clone(&self.all).try_acquire_owned().ok()?,
        })
    }

    /// Room for it after its handshake: a certificate's holder, or nobody that is known.
    pub fn seat(&self, shaken: Shaking, holder: Option<Subject>) -> Option<Seat> {
        let of = match holder {
            Some(holder) => Of::Holder { _counted: self.holders.take(holder, OF_ONE_HOLDER)? },
            None => Of::Nobody { _permit: Arc::clone(&self.without).try_acquire_owned().ok()? },
        };
        Some(Seat { _connection: shaken.connection, _of: of })
    }
}

/// How many each has.
#[derive(Debug)]
struct Counts<K>(Arc<Mutex<HashMap<K, usize>>>);

impl<K> Clone for Counts<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Clone + Eq + Hash> Counts<K> {
    fn take(&self, key: K, most: usize) -> Option<Counted<K>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Counted { counts: self.clone(), key })
    }
}

/// One that is counted while it lives.
#[derive(Debug)]
struct Counted<K: Clone + Eq + Hash> {
    counts: Counts<K>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Counted<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::identity::Role;

    fn from(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn one_address_or_holder_leaves_room_for_others() {
        let room = Room::new(400);
        let shaking: Vec<_> =
            (0..HANDSHAKES_OF_ONE).map(|_| room.shake(from(1)).unwrap()).collect();
        assert!(room.shake(from(1)).is_none());
        assert!(room.shake(from(2)).is_some());
        drop(shaking);
        let holder = |name| Subject::new(Role::Daemon, name);
        let seat = |holder| room.seat(room.shake(from(1))?, holder);
        let seats: Vec<_> = (0..OF_ONE_HOLDER).map(|_| seat(holder("a")).unwrap()).collect();
        assert!(seat(holder("a")).is_none());
        assert!(seat(holder("b")).is_some());
        drop(seats);
        assert!(seat(holder("a")).is_some());
        assert!(
            room.shaking.0.lock().unwrap().is_empty() && room.holders.0.lock().unwrap().is_empty()
        );
    }

    #[test]
    fn who_has_no_certificate_takes_a_part_only() {
        let room = Room::new(8);
        let seat = |holder| room.seat(room.shake(from(1))?, holder);
        let nobody: Vec<_> = (0..2).map(|_| seat(None).unwrap()).collect();
        assert!(seat(None).is_none());
        let known: Vec<_> =
            (0..6).map(|_| seat(Subject::new(Role::Daemon, "a")).unwrap()).collect();
        assert!(room.shake(from(2)).is_none(), "all is taken");
        drop((nobody, known));
        assert!(seat(None).is_some());
    }
}
