//! How often somebody may call: token buckets, with time passed in.

use super::model::Millis;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Callers remembered at once; one more is refused while all of them are active.
const CALLERS: usize = 16_384;

/// A bucket for each caller.
#[derive(Debug)]
pub struct Rate<K> {
    per_second: f64,
    burst: f64,
    callers: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Millis,
}

impl<K: Eq + Hash> Rate<K> {
    /// So many calls a second on average, and so many at once.
    pub fn new(per_second: u32, burst: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(burst),
            callers: Mutex::default(),
        }
    }

    /// Whether this call is within the caller's rate; counts it when it is.
    pub fn allows(&self, caller: K, now: Millis) -> bool {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS && !callers.contains_key(&caller) {
            callers.retain(|_, bucket| self.filled(*bucket, now).tokens < self.burst);
            if callers.len() >= CALLERS {
                return false;
            }
        }
        let full = Bucket { tokens: self.burst, at: now };
        let bucket = callers.entry(caller).or_insert(full);
        *bucket = self.filled(*bucket, now);
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }

    fn filled(&self, bucket: Bucket, now: Millis) -> Bucket {
        #[expect(clippy::cast_precision_loss, reason = "a few milliseconds in 300,000 years")]
        let seconds = now.saturating_sub(bucket.at).max(0) as f64 / 1000.0;
        Bucket {
            tokens: (bucket.tokens + seconds * self.per_second).min(self.burst),
            at: now.max(bucket.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_then_paces() {
        let rate = Rate::new(10, 3);
        let allowed = |now| rate.allows("a", now);
        assert_eq!([0, 0, 0, 0].map(allowed), [true, true, true, false]);
        assert!(!allowed(99));
        assert!(allowed(101));
        assert!(!allowed(50), "time that runs back fills nothing");
        assert!(rate.allows("b", 101), "each caller has its own");
    }

    #[test]
    fn bounded() {
        let rate = Rate::new(1, 2);
        for caller in 0..CALLERS {
            assert!(rate.allows(caller, 0));
        }
        assert!(!rate.allows(CALLERS, 0));
        assert!(rate.allows(CALLERS, 5_000), "idle callers make room");
    }
}
