//! The time between two events, as it is played.

use std::time::Duration;

/// Fastest and slowest: past these a speed is a slip of the keyboard.
const SPEEDS: std::ops::RangeInclusive<f64> = 0.001..=1_000_000.0;
/// Longest `--max-pause`, in seconds.
const MOST_SECONDS: f64 = 86_400.0;

/// Turns moments into pauses.
pub(super) struct Pace {
    speed: f64,
    most: Option<Duration>,
    /// The event before (ns since the Unix epoch).
    before: Option<i64>,
}

impl Pace {
    pub(super) fn new(speed: f64, most: Option<Duration>) -> Self {
        Self { speed, most, before: None }
    }

    /// How long to wait before an event of that moment (ns since the Unix epoch). None before the
    /// first, and none where the clock went back.
    pub(super) fn pause(&mut self, at: i64) -> Duration {
        let before = self.before.replace(at).unwrap_or(at);
        let nanos = u64::try_from(at.saturating_sub(before)).unwrap_or_default();
        let real = Duration::from_nanos(nanos).as_secs_f64();
        let played = Duration::try_from_secs_f64(real / self.speed).unwrap_or(Duration::MAX);
        self.most.map_or(played, |most| played.min(most))
    }
}

/// Reads `--speed`.
pub(super) fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok().filter(|speed| SPEEDS.contains(speed));
    speed.ok_or_else(|| {
        format!("{text:?} is no speed: give a number from {} to {}", SPEEDS.start(), SPEEDS.end())
    })
}

/// Reads `--max-pause`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=MOST_SECONDS).contains(seconds));
    let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("{text:?} is no number of seconds from 0 to {MOST_SECONDS}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_that_were_made_faster_slower_or_cut() {
        const SECOND: i64 = 1_000_000_000;
        let pauses = |speed: f64, most: Option<u64>| {
            let mut pace = Pace::new(speed, most.map(Duration::from_secs));
            let moments = [5 * SECOND, 6 * SECOND, 16 * SECOND, 12 * SECOND, 12 * SECOND];
            moments.map(|at| pace.pause(at).as_millis())
        };
        assert_eq!(pauses(1.0, None), [0, 1_000, 10_000, 0, 0]);
        assert_eq!(pauses(4.0, None), [0, 250, 2_500, 0, 0]);
        assert_eq!(pauses(0.5, None), [0, 2_000, 20_000, 0, 0]);
        assert_eq!(pauses(1.0, Some(3)), [0, 1_000, 3_000, 0, 0]);
        let mut pace = Pace::new(0.001, None);
        pace.pause(i64::MIN);
        assert!(pace.pause(i64::MAX) > Duration::from_secs(1), "no overflow");
    }

    #[test]
    fn numbers_that_mean_nothing_are_refused() {
        assert_eq!((speed("2"), speed("0.25")), (Ok(2.0), Ok(0.25)));
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1_500)));
        for bad in ["", "0", "-1", "NaN", "inf", "1e300", "fast"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
        for bad in ["", "-1", "NaN", "inf", "1e300"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
