//! The kernel's own counters beside what the transcripts hold.
//!
//! "Every connect has a record" is checked here: the kernel counts what it redirected and
//! refused before anything in user space hears of it. What it counted and no record stands
//! for is a difference, and is shown; it is never explained away.

use crate::capture::{self, Capture, CounterRow};
use crate::record::Recorder;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What the kernel counts as sent to the proxy and connected; every other name is a reason of a
/// refusal.
pub const REDIRECTED: &str = "redirected";
/// How often the counters are read again until two readings are the same.
const TRIES: usize = 100;

/// An agent (empty: none), and what happened.
type Key = (String, String);

/// One count since the daemon's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The agent; empty for processes of none.
    pub agent: String,
    /// [`REDIRECTED`], or a reason of a refusal.
    pub what: String,
    /// What the kernel counted.
    pub kernel: u64,
    /// What the transcripts hold, with what waits to be written to them.
    pub recorded: u64,
}

impl Line {
    /// What the kernel counted and nothing else tells of.
    pub fn unexplained(&self) -> u64 {
        self.kernel.saturating_sub(self.recorded)
    }
}

/// Keeps the comparison.
pub struct Completeness {
    capture: Arc<Capture>,
    recorder: Recorder,
    /// The kernel's counts when this run began; its maps outlive the daemon.
    base: BTreeMap<Key, u64>,
    /// When that was: `CLOCK_BOOTTIME`, nanoseconds.
    since: u64,
    state: Mutex<State>,
}

impl std::fmt::Debug for Completeness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Completeness").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    /// Refusals that were read and not written yet.
    waiting: BTreeMap<Key, u64>,
    /// Read in this run, but refused before it.
    before: BTreeMap<Key, u64>,
}

impl Completeness {
    /// Begins to compare: before refusals are read and connections accepted.
    pub fn new(capture: Arc<Capture>, recorder: Recorder) -> Self {
        let mut rows = capture.counters();
        let mut since = 0;
        for _ in 0..TRIES {
            since = capture::boottime_ns();
            capture.begin();
            let now = capture.counters();
            // Nothing was counted meanwhile: so the moment, and what waits, divide exactly.
            if now == rows {
                break;
            }
            rows = now;
        }
        Self { capture, recorder, base: counts(rows), since, state: Mutex::default() }
    }

    /// A refusal of this moment (`CLOCK_BOOTTIME`, nanoseconds) was read. One of an earlier run is
    /// taken off from the first, not when it is written: till then it would hide others.
    pub(crate) fn read(&self, agent: &str, reason: &str, boot_ns: u64) {
        let mut state = self.state();
        let key = (agent.to_owned(), reason.to_owned());
        if boot_ns < self.since {
            *state.before.entry(key.clone()).or_default() += 1;
        }
        *state.waiting.entry(key).or_default() += 1;
    }

    /// Refusals were recorded.
    pub(crate) fn written(&self, agent: &str, reason: &str, count: u64) {
        let mut state = self.state();
        let waiting = state.waiting.entry((agent.to_owned(), reason.to_owned())).or_default();
        *waiting = waiting.saturating_sub(count);
    }

    /// Every count, by agent and name.
    pub fn lines(&self) -> Vec<Line> {
        // The kernel counts first. So its counters are read first, too: what happens meanwhile
        // makes no difference. (What is under way is one until the next reading.)
        let kernel = counts(self.capture.counters());
        let state = self.state();
        let recorded = self.recorder.recorded();
        let mut sums: BTreeMap<Key, (u64, u64)> = BTreeMap::new();
        for (key, count) in kernel {
            let base = self.base.get(&key).copied().unwrap_or(0);
            sums.entry(key).or_default().0 = count.saturating_sub(base);
        }
        for (agent, count) in recorded.tcp {
            sums.entry((agent, REDIRECTED.to_owned())).or_default().1 += count;
        }
        for (key, count) in recorded.refused.into_iter().chain(state.waiting.clone()) {
            sums.entry(key).or_default().1 += count;
        }
        // Connections that waited in the backlog for this run were counted in an earlier one.
        let waited = self.capture.earlier();
        let waited = waited.into_iter().map(|(agent, n)| ((agent, REDIRECTED.to_owned()), n));
        for (key, count) in state.before.clone().into_iter().chain(waited) {
            let sum = sums.entry(key).or_default();
            sum.1 = sum.1.saturating_sub(count);
        }
        let line = |((agent, what), (kernel, recorded))| Line { agent, what, kernel, recorded };
        sums.into_iter().map(line).filter(|line| (line.kernel, line.recorded) != (0, 0)).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn counts(rows: Vec<CounterRow>) -> BTreeMap<Key, u64> {
    let mut counts = BTreeMap::new();
    for row in rows {
        let agent = row.agent.as_ref().map_or_else(String::new, ToString::to_string);
        *counts.entry((agent.clone(), REDIRECTED.to_owned())).or_default() +=
            row.redirected.saturating_sub(row.unconnected);
        for (reason, count) in row.refused {
            *counts.entry((agent.clone(), reason.to_owned())).or_default() += count;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::fake::Fake;
    use crate::config::Transcript;
    use crate::principal::AgentName;
    use enforcer_proto::v1;

    fn row(redirected: u64, refused: u64) -> CounterRow {
        CounterRow {
            agent: AgentName::parse("a"),
            redirected,
            unconnected: 0,
            dns: 0,
            refused: BTreeMap::from([("protocol", refused)]),
        }
    }

    fn start(refused: Option<u64>) -> v1::FlowStart {
        v1::FlowStart {
            principal: Some(v1::Principal { agent: "a".into(), ..v1::Principal::default() }),
            transport: "tcp".into(),
            refusal: refused.map(|count| v1::KernelRefusal {
                reason: "protocol".into(),
                count,
                ..v1::KernelRefusal::default()
            }),
            ..v1::FlowStart::default()
        }
    }

    #[tokio::test]
    async fn what_no_record_stands_for_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&Transcript::default(), dir.path()).unwrap();
        let fake = Fake::default();
        // What an earlier run left in the kernel's maps is none of this one's.
        fake.count(vec![row(100, 50)]);
        let capture = Arc::new(Capture::Fake(fake));
        let all = Completeness::new(Arc::clone(&capture), recorder.clone());
        let set = |redirected, refused| match &*capture {
            Capture::Fake(fake) => fake.count(vec![row(redirected, refused)]),
            Capture::Kernel(_) => unreachable!(),
        };
        let line = |what: &str| all.lines().into_iter().find(|line| line.what == what);
        assert_eq!(line(REDIRECTED), None);
        set(102, 57);
        assert_eq!(line(REDIRECTED).unwrap().unexplained(), 2, "control");
        let log = recorder.open_flow(start(None)).await.unwrap();
        let second = recorder.open_flow(start(None)).await.unwrap();
        assert_eq!(line(REDIRECTED).unwrap().unexplained(), 0);
        assert_eq!(line("protocol").unwrap().unexplained(), 7);
        for _ in 0..7 {
            all.read("a", "protocol", u64::MAX);
        }
        assert_eq!(line("protocol").unwrap().unexplained(), 0, "read is not lost");
        // Three of an earlier run come with them; they stand for none of this one's.
        for _ in 0..3 {
            all.read("a", "protocol", 0);
        }
        assert_eq!(line("protocol").unwrap().recorded, 7);
        let end = v1::FlowEnd::default();
        recorder.whole_flow(start(Some(10)), Vec::new(), end).await.unwrap();
        all.written("a", "protocol", 10);
        let found = line("protocol").unwrap();
        assert_eq!((found.kernel, found.recorded), (7, 7));
        // One that waited in the backlog was counted before; it explains none of this run's.
        let third = recorder.open_flow(start(None)).await.unwrap();
        let Capture::Fake(fake) = &*capture else { unreachable!() };
        fake.waited("a");
        assert_eq!(line(REDIRECTED).unwrap().recorded, 2);
        drop(third);
        drop((log, second));
        recorder.shutdown().await;
    }
}
