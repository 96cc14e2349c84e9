//! Text that others wrote, made safe to show: it cannot move the cursor, change
//! direction, hide, or pretend to be a line of ours.

use std::fmt::Write as _;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns of a line of foreign text; a terminal must not wrap it, or the rest would stand at
/// the margin like our own words.
const WIDTH: usize = 76;

/// Characters with no shape of their own, or that change how others show (Unicode categories
/// Cf, Zl, Zp, fillers, variation selectors, tags), besides the controls.
const HIDDEN: [(u32, u32); 19] = [
    (0x00ad, 0x00ad),
    (0x034f, 0x034f),
    (0x061c, 0x061c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xd800, 0xf8ff),
    (0xfe00, 0xfe0f),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1_bca0, 0x1_bca3),
    (0x1_d173, 0x1_d17a),
    (0xe_0000, 0xe_0fff),
    (0xf_0000, 0x10_ffff),
];

/// Marks that are drawn over the character before them (combining diacritics and their
/// supplements): stacked, they cover other lines.
const DRAWN_OVER: [(u32, u32); 6] = [
    (0x0300, 0x036f),
    (0x0483, 0x0489),
    (0x1ab0, 0x1aff),
    (0x1dc0, 0x1dff),
    (0x20d0, 0x20ff),
    (0xfe20, 0xfe2f),
];

/// Characters without a width of their own that may stand on another, as scripts need them.
const STACK: usize = 2;

/// Shows text character by character.
#[derive(Default)]
struct Shower {
    /// How many characters without a width stand on the last one.
    stack: usize,
}

impl Shower {
    fn push(&mut self, out: &mut String, c: char) {
        let within = |ranges: &[(u32, u32)]| {
            ranges.iter().any(|(from, to)| (*from..=*to).contains(&u32::from(c)))
        };
        self.stack = match c.width() {
            Some(1..) => 0,
            _ => self.stack + 1,
        };
        // The mark's own bracket too, so that a mark in the text cannot be forged.
        let marked = c.is_control()
            || c == '‹'
            || within(&HIDDEN)
            || within(&DRAWN_OVER)
            || self.stack > STACK;
        if marked {
            self.stack = 0;
            mark(out, c);
        } else {
            out.push(c);
        }
    }
}

fn mark(out: &mut String, c: char) {
    // Writing into a string does not fail.
    let _ = write!(out, "‹U+{:04X}›", u32::from(c));
}

/// One line: every control, line end and hidden character as a mark.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shower = Shower::default();
    text.chars().for_each(|c| shower.push(&mut out, c));
    out
}

/// One word: spaces and brackets are marks too, so that a name looks like no name with a remark.
pub fn word(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shower = Shower::default();
    for c in text.chars() {
        if c.is_whitespace() || "()[]".contains(c) {
            mark(&mut out, c);
        } else {
            shower.push(&mut out, c);
        }
    }
    out
}

/// One line of at most so many columns, for listings; a cut one ends in `…`.
pub fn short(text: &str, most: usize) -> String {
    let whole = line(text);
    if whole.width() <= most {
        return whole;
    }
    let mut cut = String::new();
    let mut columns = 0;
    for c in whole.chars() {
        columns += c.width().unwrap_or(0);
        if columns >= most {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

/// How many columns shown text takes.
pub fn columns(shown: &str) -> usize {
    shown.width()
}

/// Shown text, filled up with spaces to so many columns.
pub fn padded(shown: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(shown.width());
    format!("{shown}{:missing$}", "")
}

/// Several lines, each behind `margin`, none wider than the terminal. Line ends are kept, tabs
/// show as `‹tab›`, everything else that does not show is a mark.
pub fn block(text: &str, margin: &str) -> String {
    let mut out = String::new();
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        row(&mut out, line, margin, true);
    }
    out
}

/// One line that may be too long for the terminal, continued below; line ends and tabs are marks.
pub fn wrapped(text: &str, margin: &str) -> String {
    let mut out = String::new();
    row(&mut out, text, margin, false);
    out
}

fn row(out: &mut String, line: &str, margin: &str, tabs: bool) {
    out.push_str(margin);
    out.push_str("| ");
    let mut columns = 0;
    pieces(line, tabs, |shown| {
        // What is not ASCII is two columns wide on some terminals.
        let width: usize = shown.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
        if columns + width > WIDTH {
            out.push('\n');
            out.push_str(margin);
            out.push_str("> ");
            columns = 0;
        }
        out.push_str(shown);
        columns += width;
    });
    out.push('\n');
}

/// The lines of a text as [`block`] has them, for where lines wrap by themselves.
pub fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| {
        let mut out = String::with_capacity(line.len());
        pieces(line, true, |shown| out.push_str(shown));
        out
    })
}

/// One line, piece by piece: a character, or the mark in its place.
fn pieces(line: &str, tabs: bool, mut each: impl FnMut(&str)) {
    let mut shown = String::new();
    let mut shower = Shower::default();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        shown.clear();
        match c {
            '\t' if tabs => shown.push_str("‹tab›"),
            // A space at the end would not be seen.
            ' ' if rest.peek().is_none() => mark(&mut shown, c),
            c => shower.push(&mut shown, c),
        }
        each(&shown);
    }
}

/// Bytes as hexadecimal with their ASCII beside, 16 a line.
pub fn hex_block(bytes: &[u8], margin: &str) -> String {
    let mut out = String::new();
    for (at, row) in bytes.chunks(16).enumerate() {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        let ascii: String =
            row.iter().map(|byte| if printable(byte) { char::from(*byte) } else { '.' }).collect();
        let _ = writeln!(out, "{margin}{:08x}  {:<47}  {ascii}", at * 16, hex.join(" "));
    }
    out
}

/// A time in UTC (RFC 3339). Milliseconds since the Unix epoch.
pub fn time(unix_ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_ms.div_euclid(1000))
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_ms.to_string())
}

/// A span in the two largest units. Milliseconds.
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_foreign_acts() {
        let cases = [
            ("plain", "plain"),
            ("\x1b[2J", "‹U+001B›[2J"),
            ("a\nstate: approved", "a‹U+000A›state: approved"),
            ("\u{202e}txt", "‹U+202E›txt"),
            ("\u{9b}31m", "‹U+009B›31m"),
            ("zero\u{200b}width", "zero‹U+200B›width"),
            ("‹U+000A›", "‹U+2039›U+000A›"),
            ("Grüße 日本", "Grüße 日本"),
            ("e\u{301}\u{301}", "e‹U+0301›‹U+0301›"),
            ("नमस्ते ที่", "नमस्ते ที่"),
            ("\u{e31}\u{e34}\u{e31}\u{e34}", "\u{e31}\u{e34}‹U+0E31›\u{e34}"),
        ];
        for (text, shown) in cases {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn blocks_keep_their_margin() {
        let long = "x".repeat(WIDTH + 3);
        let shown = block(&format!("{{\n\t\"a\": 1\r\n}} \n{long}"), "  ");
        let whole = "x".repeat(WIDTH);
        assert_eq!(
            shown,
            format!("  | {{\n  | ‹tab›\"a\": 1‹U+000D›\n  | }}‹U+0020›\n  | {whole}\n  > xxx\n")
        );
    }

    #[test]
    fn words_have_no_room_for_a_remark() {
        assert_eq!(
            word("a b (number)[0]"),
            "a‹U+0020›b‹U+0020›‹U+0028›number‹U+0029›‹U+005B›0‹U+005D›"
        );
        assert_eq!(word("http.header.x-y"), "http.header.x-y");
    }

    #[test]
    fn columns_are_counted_as_they_show() {
        for (text, most, shown) in [
            ("plain", 5, "plain"),
            ("plainer", 5, "plai…"),
            ("日本語", 6, "日本語"),
            ("日本語x", 6, "日本…"),
            ("日本語x", 5, "日本…"),
        ] {
            assert_eq!(short(text, most), shown);
            assert!(short(text, most).width() <= most);
        }
        assert_eq!(padded("日本", 6), "日本  ");
        assert_eq!(padded("longer", 2), "longer");
    }

    #[test]
    fn bytes() {
        assert_eq!(
            hex_block(b"\x00A~\xff", ""),
            format!("00000000  {:<47}  .A~.\n", "00 41 7e ff")
        );
    }

    #[test]
    fn spans() {
        for (ms, text) in [
            (-5, "0s"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_600_000, "1h00m"),
            (90_000_000, "1d01h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }

    proptest! {
        #[test]
        fn every_line_of_a_block_is_ours(text in any::<String>()) {
            for line in block(&text, "  ").lines() {
                prop_assert!(line.starts_with("  | ") || line.starts_with("  > "));
                prop_assert!(!line.chars().any(char::is_control));
            }
        }

        #[test]
        fn two_texts_never_show_the_same(a in "[‹›U+0A\n\u{202e}x]{0,8}", b in "[‹›U+0A\n\u{202e}x]{0,8}") {
            prop_assert_eq!(line(&a) == line(&b), a == b);
        }
    }
}
