//! Moments as people write and read them.

use time::format_description::well_known::Rfc3339;
use time::{Date, OffsetDateTime, macros::format_description};

/// Nanoseconds since the Unix epoch from a date, an RFC 3339 time, or a time ago.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    let nanos = |at: OffsetDateTime| i64::try_from(at.unix_timestamp_nanos()).unwrap_or(i64::MAX);
    if let Ok(at) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(nanos(at));
    }
    if let Ok(day) = Date::parse(text, format_description!("[year]-[month]-[day]")) {
        return Ok(nanos(day.midnight().assume_utc()));
    }
    let bad = || {
        format!("{text:?} is no time: write 2026-01-31, 2026-01-31T08:00:00Z, 90s, 15m, 2h or 7d")
    };
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(bad()),
    };
    let count: i64 = text
        .strip_suffix(unit)
        .and_then(|count| count.parse().ok())
        .filter(|count| *count >= 0)
        .ok_or_else(bad)?;
    let ago = count
        .checked_mul(seconds)
        .and_then(|ago| ago.checked_mul(1_000_000_000))
        .ok_or_else(bad)?;
    Ok(nanos(OffsetDateTime::now_utc()).saturating_sub(ago))
}

/// RFC 3339 in UTC with milliseconds.
pub(super) fn show(unix_ns: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ns))
        .ok()
        .and_then(|at| at.format(&format).ok())
        .unwrap_or_else(|| format!("{unix_ns} ns"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        assert_eq!(parse("1970-01-02"), Ok(86_400_000_000_000));
        assert_eq!(parse("1970-01-01T01:00:00+01:00"), Ok(0));
        assert_eq!(show(1_500_000_000), "1970-01-01T00:00:01.500Z");
        let hour = parse("0s").unwrap() - parse("1h").unwrap();
        assert!((3_599_000_000_000..3_601_000_000_000).contains(&hour));
        for bad in ["", "h", "-1h", "1w", "2026-13-01", "99999999999999d", "5é"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        show(i64::MIN);
        show(i64::MAX);
    }
}
