//! The server's time: never runs backwards, whatever is done to the wall clock.
//!
//! A wall clock set back would keep grants alive; so time goes on at least as
//! fast as the monotonic clock, from no earlier than the last thing on record.

use super::model::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's clocks.
    System {
        /// The time at `start`.
        base: Millis,
        /// When the server started.
        start: Instant,
        /// The latest time given out.
        latest: Arc<AtomicI64>,
    },
    /// Set by a test.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// The system's time, no earlier than `floor`.
    pub fn system(floor: Millis) -> Self {
        let base = wall().max(floor);
        Self::System { base, start: Instant::now(), latest: Arc::new(AtomicI64::new(base)) }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> Millis {
        match self {
            Self::System { base, start, latest } => {
                let elapsed = Millis::try_from(start.elapsed().as_millis()).unwrap_or(Millis::MAX);
                let now = base.saturating_add(elapsed).max(wall());
                latest.fetch_max(now, Ordering::Relaxed).max(now)
            }
            Self::Manual(time) => time.load(Ordering::Relaxed),
        }
    }
}

/// The wall clock; 0 when it is before 1970.
pub fn wall() -> Millis {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_no_earlier_than_the_record_and_never_goes_back() {
        let floor = wall() + 1_000_000;
        let clock = Clock::system(floor);
        let first = clock.now();
        assert!(first >= floor);
        assert!(clock.now() >= first);
    }
}
