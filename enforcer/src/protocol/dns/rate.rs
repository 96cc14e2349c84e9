//! How fast one agent may ask: names are a tunnel, however narrow.
//!
//! Pure: time is passed in. An agent over its rate is refused, and of the refused
//! questions one a second is recorded with the number of those that were not.

use crate::principal::AgentName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Agents that are remembered; those that were quiet are forgotten first.
const MAX_AGENTS: usize = 4_096;
/// Of the refused questions of one agent, one in this time is recorded.
const RECORD_EVERY: Duration = Duration::from_secs(1);

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may be answered.
    Admitted,
    /// Too fast; recorded, with so many refused before it that were not recorded.
    RefusedAndRecorded(u64),
    /// Too fast; counted into the next record.
    Refused,
}

/// A token bucket for each agent.
#[derive(Debug)]
pub struct Rate {
    per_second: f64,
    burst: f64,
    agents: Mutex<HashMap<AgentName, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    recorded: Option<Instant>,
    unrecorded: u64,
}

impl Rate {
    /// So many questions a second, and twice as many at once after a pause.
    pub fn new(per_second: u32) -> Self {
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(per_second) * 2.0,
            agents: Mutex::default(),
        }
    }

    /// Counts a question.
    pub fn admit(&self, agent: &AgentName, now: Instant) -> Admission {
        // Each bucket is whole at any time, so a poisoned lock hides nothing.
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if agents.len() >= MAX_AGENTS && !agents.contains_key(agent) {
            agents.retain(|_, bucket| self.tokens(bucket, now) < self.burst);
            if agents.len() >= MAX_AGENTS {
                return Admission::Refused;
            }
        }
        let bucket = agents.entry(agent.clone()).or_insert_with(|| Bucket {
            tokens: self.burst,
            filled: now,
            recorded: None,
            unrecorded: 0,
        });
        bucket.tokens = self.tokens(bucket, now);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Admission::Admitted;
        }
        let due =
            bucket.recorded.is_none_or(|at| now.saturating_duration_since(at) >= RECORD_EVERY);
        if due {
            bucket.recorded = Some(now);
            return Admission::RefusedAndRecorded(std::mem::take(&mut bucket.unrecorded));
        }
        bucket.unrecorded += 1;
        Admission::Refused
    }

    fn tokens(&self, bucket: &Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.filled).as_secs_f64();
        (bucket.tokens + since * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_others_are_not_slowed() {
        let rate = Rate::new(10);
        let (a, b) = (AgentName::parse("a").unwrap(), AgentName::parse("b").unwrap());
        let start = Instant::now();
        for _ in 0..20 {
            assert_eq!(rate.admit(&a, start), Admission::Admitted);
        }
        assert_eq!(rate.admit(&a, start), Admission::RefusedAndRecorded(0));
        for _ in 0..5 {
            assert_eq!(rate.admit(&a, start), Admission::Refused);
        }
        assert_eq!(rate.admit(&b, start), Admission::Admitted);
        let later = start + Duration::from_secs(1);
        for _ in 0..10 {
            assert_eq!(rate.admit(&a, later), Admission::Admitted);
        }
        assert_eq!(rate.admit(&a, later), Admission::RefusedAndRecorded(5));
    }

    #[test]
    fn the_number_of_agents_is_bounded_and_quiet_ones_make_room() {
        let rate = Rate::new(1);
        let start = Instant::now();
        for i in 0..MAX_AGENTS {
            let agent = AgentName::parse(&format!("a{i}")).unwrap();
            assert_eq!(rate.admit(&agent, start), Admission::Admitted);
        }
        let more = AgentName::parse("more").unwrap();
        assert_eq!(rate.admit(&more, start), Admission::Refused);
        let later = start + Duration::from_secs(10);
        assert_eq!(rate.admit(&more, later), Admission::Admitted);
    }
}
