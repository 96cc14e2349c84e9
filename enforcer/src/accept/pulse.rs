//! When each accept loop last came round.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The accept loops, each with a pulse of its own: one that is stuck cannot hide behind another.
#[derive(Debug, Default)]
pub struct Pulses(Mutex<Vec<Arc<Pulse>>>);

/// One accept loop.
#[derive(Debug)]
pub struct Pulse {
    /// What it is called when it is stuck.
    name: String,
    since: Instant,
    /// Milliseconds from `since` to the last beat.
    last: AtomicU64,
}

impl Pulses {
    /// A loop that has to beat from now on.
    pub fn add(&self, name: impl Into<String>) -> Arc<Pulse> {
        let pulse =
            Arc::new(Pulse { name: name.into(), since: Instant::now(), last: AtomicU64::new(0) });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&pulse));
        pulse
    }

    /// The first loop that did not beat for `limit`, if one did not.
    pub fn stuck(&self, limit: Duration) -> Option<String> {
        let pulses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pulses.iter().find(|pulse| pulse.age() >= limit).map(|pulse| pulse.name.clone())
    }
}

impl Pulse {
    /// The loop came round.
    pub fn beat(&self) {
        self.last.store(millis(self.since.elapsed()), Relaxed);
    }

    fn age(&self) -> Duration {
        self.since.elapsed().saturating_sub(Duration::from_millis(self.last.load(Relaxed)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stuck_loop_is_not_hidden_by_one_that_lives() {
        let limit = Duration::from_millis(50);
        let pulses = Pulses::default();
        let (first, second) = (pulses.add("first"), pulses.add("second"));
        assert_eq!(pulses.stuck(limit), None);
        std::thread::sleep(limit * 2);
        first.beat();
        assert_eq!(pulses.stuck(limit).as_deref(), Some("second"));
        second.beat();
        assert_eq!(pulses.stuck(limit), None);
    }
}
