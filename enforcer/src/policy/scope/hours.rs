//! Times of the week in which an approval can be given (`Mon-Fri 08:00-18:00 +02:00`).
//!
//! The zone is an offset from UTC, written out: a host and a server in different zones, and a
//! change to summer time, cannot move it.

use std::fmt;
use std::str::FromStr;

const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;

/// From Monday, as they are written.
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// One window, on some days of the week. A window that begins on such a day and goes past
/// midnight belongs to it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Hours {
    /// Bit 0 is Monday; at least one is set.
    days: u8,
    /// Minutes after midnight; below 1440.
    from: u16,
    /// Minutes after midnight, 1440 for its end; at or before `from`: on the next day.
    to: u16,
    /// Minutes east of UTC.
    offset: i16,
}

/// A text that is no [`Hours`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give days, times and offset, as in \"Mon-Fri 08:00-18:00 +02:00\" or \"22:00-06:00 UTC\"")]
pub struct BadHours;

impl Hours {
    /// When the window ends that is open at that time; `None` when none is. Milliseconds since
    /// the Unix epoch.
    pub fn open_until(&self, now: i64) -> Option<i64> {
        let shift = i64::from(self.offset) * MINUTE;
        let today = now.saturating_add(shift).div_euclid(DAY);
        // Yesterday's may go on past midnight.
        [today, today - 1].into_iter().find_map(|day| {
            let midnight = day.saturating_mul(DAY).saturating_sub(shift);
            let from = midnight.saturating_add(i64::from(self.from) * MINUTE);
            let next = if self.to <= self.from { DAY } else { 0 };
            let to = midnight.saturating_add(i64::from(self.to) * MINUTE + next);
            // 1970 began on a Thursday.
            let on = self.days & (1 << (day + 3).rem_euclid(7)) != 0;
            (on && (from..to).contains(&now)).then_some(to)
        })
    }
}

/// When the last of these windows ends that are open at that time: `None` when none is, the end
/// of time when there are no windows at all.
pub fn open_until(hours: &[Hours], now: i64) -> Option<i64> {
    if hours.is_empty() {
        return Some(i64::MAX);
    }
    hours.iter().filter_map(|hours| hours.open_until(now)).max()
}

impl FromStr for Hours {
    type Err = BadHours;

    fn from_str(text: &str) -> Result<Self, BadHours> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (days, times, offset) = match words.as_slice() {
            [times, offset] => (0b111_1111, times, offset),
            [days, times, offset] => (days_from(days).ok_or(BadHours)?, times, offset),
            _ => return Err(BadHours),
        };
        let (from, to) = times.split_once('-').ok_or(BadHours)?;
        let (from, to) = (clock(from).ok_or(BadHours)?, clock(to).ok_or(BadHours)?);
        let offset = offset_from(offset).ok_or(BadHours)?;
        if from == to || from == 1440 {
            return Err(BadHours);
        }
        Ok(Self { days, from, to, offset })
    }
}

fn days_from(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name);
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        days |= 1 << at;
        while at != last {
            at = (at + 1) % DAYS.len();
            days |= 1 << at;
        }
    }
    Some(days)
}

/// `HH:MM`, to 24:00. Minutes.
fn clock(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let at = hour * 60 + minute;
    (minute < 60 && at <= 1440).then_some(at)
}

/// `UTC`, or `+HH:MM` to 14 hours. Minutes.
fn offset_from(text: &str) -> Option<i16> {
    if text == "UTC" {
        return Some(0);
    }
    let (sign, rest) = match text.as_bytes().first()? {
        b'+' => (1, text.get(1..)?),
        b'-' => (-1, text.get(1..)?),
        _ => return None,
    };
    let minutes = i16::try_from(clock(rest)?).ok()?;
    (minutes <= 14 * 60).then_some(sign * minutes)
}

impl fmt::Display for Hours {
    /// One text for one meaning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 0b111_1111 {
            let days: Vec<&str> = DAYS
                .iter()
                .enumerate()
                .filter(|(at, _)| self.days & (1 << at) != 0)
                .map(|(_, day)| *day)
                .collect();
            write!(f, "{} ", days.join(","))?;
        }
        let clock = |at: u16| format!("{:02}:{:02}", at / 60, at % 60);
        write!(f, "{}-{} ", clock(self.from), clock(self.to))?;
        if self.offset == 0 {
            return f.write_str("UTC");
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        write!(f, "{sign}{}", clock(self.offset.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Monday 2024-01-01 00:00 UTC.
    const MONDAY: i64 = 1_704_067_200_000;
    const HOUR: i64 = 60 * MINUTE;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    #[test]
    fn windows_by_day_and_offset() {
        let work = hours("Mon-Fri 08:00-18:00 +02:00");
        let end = Some(MONDAY + 16 * HOUR);
        assert_eq!(work.open_until(MONDAY + 6 * HOUR - 1), None);
        assert_eq!(work.open_until(MONDAY + 6 * HOUR), end);
        assert_eq!(work.open_until(MONDAY + 16 * HOUR - 1), end);
        assert_eq!(work.open_until(MONDAY + 16 * HOUR), None);
        assert_eq!(
            work.open_until(MONDAY + 4 * DAY + 7 * HOUR),
            Some(MONDAY + 4 * DAY + 16 * HOUR)
        );
        assert_eq!(work.open_until(MONDAY + 5 * DAY + 7 * HOUR), None, "a Saturday");
    }

    #[test]
    fn a_night_belongs_to_the_day_that_it_begins_on() {
        let night = hours("Fri 22:00-06:00 UTC");
        let friday = MONDAY + 4 * DAY;
        let end = Some(friday + 30 * HOUR);
        assert_eq!(night.open_until(friday + 22 * HOUR), end);
        assert_eq!(night.open_until(friday + 29 * HOUR), end);
        assert_eq!(night.open_until(friday + 30 * HOUR), None);
        assert_eq!(night.open_until(friday + 5 * HOUR), None, "Thursday's night");
        assert_eq!(hours("00:00-24:00 UTC").open_until(MONDAY), Some(MONDAY + DAY));
        assert_eq!(hours("00:00-24:00 -05:30").open_until(MONDAY), Some(MONDAY + 330 * MINUTE));
    }

    #[test]
    fn several_windows() {
        assert_eq!(open_until(&[], 7), Some(i64::MAX));
        let two = [hours("08:00-12:00 UTC"), hours("11:00-18:00 UTC")];
        assert_eq!(open_until(&two, MONDAY + 11 * HOUR), Some(MONDAY + 18 * HOUR));
        assert_eq!(open_until(&two, MONDAY + 18 * HOUR), None);
    }

    #[test]
    fn one_text_for_one_meaning() {
        for (text, shown) in [
            ("Mon-Fri 08:00-18:00 +02:00", "Mon,Tue,Wed,Thu,Fri 08:00-18:00 +02:00"),
            ("Sat-Mon,Sat 08:00-18:00 +00:00", "Mon,Sat,Sun 08:00-18:00 UTC"),
            ("Mon-Sun  22:00-06:00 -05:30", "22:00-06:00 -05:30"),
        ] {
            assert_eq!(hours(text).to_string(), shown);
            assert_eq!(hours(shown), hours(text));
        }
        for bad in [
            "",
            "08:00-18:00",
            "8:00-18:00 UTC",
            "08:00-18:00 CET",
            "08:00-08:00 UTC",
            "24:00-08:00 UTC",
            "08:00-24:01 UTC",
            "08:60-09:00 UTC",
            "mon 08:00-18:00 UTC",
            "Mon- 08:00-18:00 UTC",
            "08:00-18:00 +15:00",
            "08:00-18:00 02:00",
            "a b c d",
            "08:00-18:00 +é:00",
            "08:00 - 18:00 UTC",
        ] {
            assert_eq!(bad.parse::<Hours>(), Err(BadHours), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_and_no_time_is_too_much(text in "\\PC{0,30}", now in any::<i64>()) {
            let _ = text.parse::<Hours>();
            for text in ["Mon-Fri 08:00-18:00 +02:00", "22:00-06:00 -14:00"] {
                if let Some(end) = hours(text).open_until(now) {
                    prop_assert!(end > now);
                }
            }
        }
    }
}
