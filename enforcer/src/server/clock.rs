//! The server's time: goes on with the monotonic clock, and follows the wall clock only where
//! that can be trusted.
//!
//! A wall clock set back would keep grants alive, one set forward would end everything and then
//! stick. So a step of the wall clock beyond [`BOUND`] is not followed: time goes on as before,
//! and nothing is granted ([`Clock::doubt`]) until the wall clock is back, or has kept its new
//! time for [`SETTLE`]; then it is believed. Believed backwards, everything that was timed by the
//! old time ends ([`News::Believed`] with `by` below 0).

use super::model::Millis;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How far the wall clock may be off and still be followed forwards. Milliseconds.
pub const BOUND: Millis = 120_000;

/// How long a stepped wall clock has to keep its new time to be believed. Milliseconds.
pub const SETTLE: Millis = 600_000;

/// Where time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The system's clocks.
    System(Arc<System>),
    /// Set by a test.
    Manual(Arc<AtomicI64>),
}

/// Two clocks of the system and what is made of them.
#[derive(Debug)]
pub struct System {
    source: Source,
    keeper: Mutex<Keeper>,
}

#[derive(Debug)]
enum Source {
    /// The monotonic clock since then, and the wall clock. (Linux stops the monotonic clock while
    /// the machine sleeps: what wakes up has a stepped wall clock.)
    Kernel(Instant),
    /// Both in a test's hands: monotonic, wall.
    #[cfg(test)]
    Test(Arc<[AtomicI64; 2]>),
}

impl Source {
    fn read(&self) -> (Millis, Millis) {
        match self {
            Self::Kernel(start) => {
                let steady = Millis::try_from(start.elapsed().as_millis()).unwrap_or(Millis::MAX);
                (steady, wall())
            }
            #[cfg(test)]
            Self::Test(clocks) => {
                (clocks[0].load(Ordering::Relaxed), clocks[1].load(Ordering::Relaxed))
            }
        }
    }
}

/// What happened to the wall clock. `by`: how far it is from the time that goes on, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It was stepped.
    Doubted {
        /// How far.
        by: Millis,
    },
    /// It came back.
    Restored,
    /// It kept its new time, which is the time from now on.
    Believed {
        /// How far the time was moved.
        by: Millis,
    },
}

impl Clock {
    /// The system's time. `floor` is the last time on record: a wall clock before it was put back
    /// while the server was away.
    pub fn system(floor: Millis) -> Self {
        Self::of(Source::Kernel(Instant::now()), floor)
    }

    /// Monotonic and wall clock in a test's hands.
    #[cfg(test)]
    pub(super) fn test(clocks: Arc<[AtomicI64; 2]>, floor: Millis) -> Self {
        Self::of(Source::Test(clocks), floor)
    }

    fn of(source: Source, floor: Millis) -> Self {
        let (steady, wall) = source.read();
        let keeper = Keeper::new(steady, wall.max(floor));
        let clock = Self::System(Arc::new(System { source, keeper: Mutex::new(keeper) }));
        clock.now();
        clock
    }

    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> Millis {
        match self {
            Self::System(system) => system.look(|keeper, steady| keeper.time(steady)),
            Self::Manual(time) => time.load(Ordering::Relaxed),
        }
    }

    /// Milliseconds since any moment: never steps, for pacing.
    pub fn steady(&self) -> Millis {
        match self {
            Self::System(system) => system.source.read().0,
            Self::Manual(time) => time.load(Ordering::Relaxed),
        }
    }

    /// How far the wall clock is off while it is in doubt. Milliseconds.
    pub fn doubt(&self) -> Option<Millis> {
        match self {
            Self::System(system) => system.look(|keeper, _| keeper.doubt.map(|doubt| doubt.by)),
            Self::Manual(_) => None,
        }
    }

    /// How far the time that goes on is ahead of the wall clock. Milliseconds.
    pub fn off(&self) -> Millis {
        match self {
            Self::System(system) => system
                .look(|keeper, steady| keeper.time(steady).saturating_sub(system.source.read().1)),
            Self::Manual(_) => 0,
        }
    }

    /// What happened to the wall clock since the last call.
    pub fn news(&self) -> Vec<News> {
        match self {
            Self::System(system) => system.look(|keeper, _| std::mem::take(&mut keeper.news)),
            Self::Manual(_) => Vec::new(),
        }
    }
}

impl System {
    fn look<T>(&self, what: impl FnOnce(&mut Keeper, Millis) -> T) -> T {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let (steady, wall) = self.source.read();
        keeper.observe(steady, wall);
        what(&mut keeper, steady)
    }
}

/// The rule, over readings of both clocks.
#[derive(Debug)]
struct Keeper {
    /// The time at `at` of the monotonic clock.
    base: Millis,
    at: Millis,
    doubt: Option<Doubt>,
    news: Vec<News>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// Monotonic.
    since: Millis,
    /// How far the wall clock was off then.
    by: Millis,
}

impl Keeper {
    fn new(steady: Millis, time: Millis) -> Self {
        Self { base: time, at: steady, doubt: None, news: Vec::new() }
    }

    fn time(&self, steady: Millis) -> Millis {
        self.base.saturating_add(steady.saturating_sub(self.at))
    }

    fn observe(&mut self, steady: Millis, wall: Millis) {
        let by = wall.saturating_sub(self.time(steady));
        if by.saturating_abs() <= BOUND {
            if self.doubt.take().is_some() {
                self.news.push(News::Restored);
            }
            if by > 0 {
                (self.base, self.at) = (wall, steady);
            }
            return;
        }
        match self.doubt {
            Some(doubt) if by.saturating_sub(doubt.by).saturating_abs() <= BOUND => {
                if steady.saturating_sub(doubt.since) >= SETTLE {
                    (self.base, self.at, self.doubt) = (wall, steady, None);
                    self.news.push(News::Believed { by });
                }
            }
            // The first step, or another one: the wait starts anew.
            _ => {
                self.doubt = Some(Doubt { since: steady, by });
                self.news.push(News::Doubted { by });
            }
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

    const HOUR: Millis = 3_600_000;
    const T: Millis = 1_000 * HOUR;

    /// A keeper at `T`, and a look at it: seconds of the monotonic clock, milliseconds that the
    /// wall clock is off from where it should be; gives how far the time is off.
    struct Rig(Keeper);

    impl Rig {
        fn new() -> Self {
            Self(Keeper::new(0, T))
        }

        fn look(&mut self, second: Millis, off: Millis) -> Millis {
            let steady = second * 1000;
            self.0.observe(steady, T + steady + off);
            self.0.time(steady) - T - steady
        }

        fn news(&mut self) -> Vec<News> {
            std::mem::take(&mut self.0.news)
        }
    }

    #[test]
    fn small_steps_forward_are_followed_and_none_backward() {
        let mut rig = Rig::new();
        assert_eq!(rig.look(1, 5_000), 5_000);
        assert_eq!(rig.look(2, -5_000), 5_000, "it never goes back");
        assert_eq!(rig.look(3, BOUND + 5_000), BOUND + 5_000);
        assert!(rig.news().is_empty() && rig.0.doubt.is_none());
    }

    #[test]
    fn a_jump_is_noticed_not_followed_and_forgotten_when_it_is_undone() {
        let mut rig = Rig::new();
        for jump in [24 * HOUR, -24 * HOUR, i64::MAX / 2, -T] {
            assert_eq!(rig.look(10, jump), 0, "{jump}");
            assert_eq!(rig.look(300, jump), 0, "time goes on by the monotonic clock");
            assert!(rig.0.doubt.is_some());
            assert_eq!(rig.look(301, 0), 0);
            assert!(rig.0.doubt.is_none());
            assert_eq!(rig.news(), [News::Doubted { by: jump }, News::Restored]);
        }
    }

    #[test]
    fn a_step_that_stays_is_believed_after_a_while_either_way() {
        for by in [2 * HOUR, -2 * HOUR] {
            let mut rig = Rig::new();
            assert_eq!(rig.look(1, by), 0);
            assert_eq!(rig.look(SETTLE / 1000, by), 0, "not yet");
            assert_eq!(rig.look(SETTLE / 1000 + 1, by), by);
            assert!(rig.0.doubt.is_none());
            assert_eq!(rig.news(), [News::Doubted { by }, News::Believed { by }]);
        }
    }

    #[test]
    fn a_clock_that_keeps_stepping_is_not_believed() {
        let mut rig = Rig::new();
        for step in 1..50 {
            assert_eq!(rig.look(step * 300, step * HOUR), 0);
            assert!(rig.0.doubt.is_some());
        }
    }

    #[test]
    fn starts_no_earlier_than_the_record() {
        let clocks = Arc::new([AtomicI64::new(0), AtomicI64::new(T)]);
        let clock = Clock::test(Arc::clone(&clocks), T + HOUR);
        assert_eq!((clock.now(), clock.doubt()), (T + HOUR, Some(-HOUR)));
        assert_eq!(clock.off(), HOUR);
        // The record was right, and the clock is put right.
        clocks[1].store(T + HOUR + 500, Ordering::Relaxed);
        clocks[0].store(500, Ordering::Relaxed);
        assert_eq!((clock.now(), clock.doubt()), (T + HOUR + 500, None));
        let system = Clock::system(wall() + 1_000);
        assert!(system.now() >= wall() + 500 && system.doubt().is_none());
    }
}
