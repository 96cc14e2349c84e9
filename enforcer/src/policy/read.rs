//! Reads TOML tables key by key, so that every problem is found and has its line.
//!
//! serde stops at the first error; here each wrong value becomes a [`Problem`]
//! and reading goes on. A key that nobody asked for is an error.
//!
//! [`Problem`]: super::Problem

use super::problem::{Problems, Source, nearest};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value with where it was written.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// Parses a whole file. After a syntax error nothing of it is kept: what the rest seems to say
/// would only be reported as further mistakes.
pub(super) fn parse<'d>(source: &Source<'d>, problems: &mut Problems) -> Spanned<DeTable<'d>> {
    let (table, errors) = DeTable::parse_recoverable(source.text);
    if errors.is_empty() {
        return table;
    }
    for error in errors {
        problems.error(
            (source, &error.span().unwrap_or(0..0)),
            format!("not valid TOML: {}", error.message().trim().replace('\n', ", ")),
            "mend the syntax; strings are in quotes, lists in [], tables are [[name]]",
        );
    }
    Spanned::new(0..0, DeTable::new())
}

/// One table, read key by key.
pub(super) struct Fields<'d> {
    source: &'d Source<'d>,
    table: &'d DeTable<'d>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'d> Fields<'d> {
    /// Starts reading `table`, which was written at `span`.
    pub(super) fn new(source: &'d Source<'d>, table: &'d DeTable<'d>, span: Range<usize>) -> Self {
        Self { source, table, span, asked: Vec::new() }
    }

    /// Where the table begins.
    pub(super) fn place(&self) -> (&'d Source<'d>, &Range<usize>) {
        (self.source, &self.span)
    }

    /// The file that it is in.
    pub(super) fn source(&self) -> &'d Source<'d> {
        self.source
    }

    fn take(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, want: &str, problems: &mut Problems) {
        problems.error(
            (self.source, &value.span()),
            format!("`{key}` cannot be of type {}", value.get_ref().type_str()),
            format!("give {want}"),
        );
    }

    /// A text, when the key is there.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<&'d str>> {
        let value = self.take(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At { value: text, span: value.span() }),
            None => {
                self.wrong(key, value, "a text in quotes", problems);
                None
            }
        }
    }

    /// A text that has to be there and not be empty.
    pub(super) fn required(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Option<At<&'d str>> {
        let present = self.table.iter().any(|(name, _)| name.get_ref() == key);
        if !present {
            self.asked.push(key);
            problems.error(
                self.place(),
                format!("`{key}` is missing"),
                format!("add `{key} = \"...\"`"),
            );
            return None;
        }
        let text = self.text(key, problems)?;
        if text.value.trim().is_empty() {
            problems.error(
                (self.source, &text.span),
                format!("`{key}` is empty"),
                "give it a value",
            );
            return None;
        }
        Some(text)
    }

    /// One of the given words, when the key is there.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
        problems: &mut Problems,
    ) -> Option<At<T>> {
        let text = self.text(key, problems)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text.value) {
            return Some(At { value: *value, span: text.span });
        }
        let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        problems.error(
            (self.source, &text.span),
            format!("`{key}` cannot be \"{}\"", text.value),
            format!("give one of {}", known.join(", ")),
        );
        None
    }

    /// A list of texts; empty when the key is not there.
    pub(super) fn texts(&mut self, key: &'static str, problems: &mut Problems) -> Vec<At<&'d str>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of texts: [\"...\"]", problems);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(At { value: text, span: item.span() }),
                None => self.wrong(key, item, "a list of texts: [\"...\"]", problems),
            }
        }
        texts
    }

    /// Whether the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.iter().any(|(name, _)| name.get_ref() == key)
    }

    /// `true` or `false`, when the key is there.
    pub(super) fn flag(&mut self, key: &'static str, problems: &mut Problems) -> Option<bool> {
        let value = self.take(key)?;
        match value.get_ref().as_bool() {
            Some(flag) => Some(flag),
            None => {
                self.wrong(key, value, "true or false", problems);
                None
            }
        }
    }

    /// A whole number in a range, when the key is there.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        problems: &mut Problems,
    ) -> Option<At<i64>> {
        let value = self.take(key)?;
        self.in_range(key, value, range, problems)
    }

    /// A list of whole numbers in a range; empty when the key is not there.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
        problems: &mut Problems,
    ) -> Vec<At<i64>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list of numbers: [443]", problems);
            return Vec::new();
        };
        items.iter().filter_map(|item| self.in_range(key, item, range.clone(), problems)).collect()
    }

    fn in_range(
        &self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        range: RangeInclusive<i64>,
        problems: &mut Problems,
    ) -> Option<At<i64>> {
        let Some(integer) = value.get_ref().as_integer() else {
            self.wrong(key, value, "a whole number", problems);
            return None;
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) if range.contains(&number) => Some(At { value: number, span: value.span() }),
            _ => {
                problems.error(
                    (self.source, &value.span()),
                    format!("`{key}` cannot be {}", integer.as_str()),
                    format!("give a number from {} to {}", range.start(), range.end()),
                );
                None
            }
        }
    }

    /// A duration (`"90s"`, `"1h30m"`) in a range, when the key is there.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
        problems: &mut Problems,
    ) -> Option<Duration> {
        let text = self.text(key, problems)?;
        let help = format!(
            "give a duration from {} to {}, as in \"500ms\", \"90s\", \"15m\", \"1h30m\"",
            in_words(*range.start()),
            in_words(*range.end())
        );
        match parse_duration(text.value) {
            Some(duration) if range.contains(&duration) => Some(duration),
            Some(_) => {
                let what = format!("`{key}` cannot be \"{}\"", text.value);
                problems.error((self.source, &text.span), what, help);
                None
            }
            None => {
                let what = format!("`{key}`: \"{}\" is not a duration", text.value);
                problems.error((self.source, &text.span), what, help);
                None
            }
        }
    }

    /// Tables in a list (`[[key]]`, or inline); empty when the key is not there.
    pub(super) fn tables(&mut self, key: &'static str, problems: &mut Problems) -> Vec<Self> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, &format!("a list of tables: [[{key}]]"), problems);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Fields::new(self.source, table, item.span())),
                None => self.wrong(key, item, &format!("a list of tables: [[{key}]]"), problems),
            }
        }
        tables
    }

    /// A table, when the key is there.
    pub(super) fn table(&mut self, key: &'static str, problems: &mut Problems) -> Option<Self> {
        let value = self.take(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Fields::new(self.source, table, value.span())),
            None => {
                self.wrong(key, value, &format!("a table: [...{key}]"), problems);
                None
            }
        }
    }

    /// A table of texts (`{ name = "value" }`); empty when the key is not there.
    pub(super) fn text_map(
        &mut self,
        key: &'static str,
        problems: &mut Problems,
    ) -> Vec<(At<&'d str>, &'d str)> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table: { name = \"value\" }", problems);
            return Vec::new();
        };
        let mut texts = Vec::new();
        for (name, value) in table {
            match value.get_ref().as_str() {
                Some(text) => {
                    texts.push((At { value: name.get_ref().as_ref(), span: name.span() }, text))
                }
                None => self.wrong(name.get_ref(), value, "a text in quotes", problems),
            }
        }
        texts
    }

    /// Where the first key that `text` mentions in backquotes was written, for errors that
    /// another reader reports without a place.
    pub(super) fn key_in(&self, text: &str) -> Range<usize> {
        self.table
            .iter()
            .find(|(name, _)| text.contains(&format!("`{}`", name.get_ref())))
            .map_or_else(|| self.span.clone(), |(name, _)| name.span())
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (name, _) in self.table {
            let key = name.get_ref().as_ref();
            if self.asked.contains(&key) {
                continue;
            }
            let help = match nearest(key, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("keys here are: {}", self.asked.join(", ")),
            };
            problems.error((self.source, &name.span()), format!("unknown key `{key}`"), help);
        }
    }
}

/// Reads `500ms`, `90s`, `15m`, `2h`, `1d` and sums such as `1h30m`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let count: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match rest.get(..letters)? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        rest = rest.get(letters..)?;
        total = total.checked_add(Duration::from_millis(count.checked_mul(millis)?))?;
    }
    (!text.is_empty()).then_some(total)
}

/// A duration as people write it.
pub(super) fn in_words(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
        if millis >= unit && millis.is_multiple_of(unit) {
            return format!("{}{name}", millis / unit);
        }
    }
    if millis == 0 { "0s".to_owned() } else { format!("{millis}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("60s", Some(60_000))]
    #[case("500ms", Some(500))]
    #[case("1h30m", Some(5_400_000))]
    #[case("0s", Some(0))]
    #[case("", None)]
    #[case("60", None)]
    #[case("s", None)]
    #[case("-1s", None)]
    #[case("1 s", None)]
    #[case("1.5h", None)]
    #[case("18446744073709551615d", None)]
    #[case("99999999999999999999s", None)]
    fn durations(#[case] text: &str, #[case] millis: Option<u64>) {
        assert_eq!(parse_duration(text), millis.map(Duration::from_millis));
    }

    #[test]
    fn words() {
        for text in ["60s", "15m", "90s", "2h", "1d", "1500ms"] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(parse_duration(&in_words(duration)), Some(duration));
        }
        assert_eq!(in_words(Duration::from_secs(60)), "1m");
    }
}
