//! Text that others wrote, made safe to show: it cannot move the cursor, change
//! direction, hide, or pretend to be a line of ours.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory as _};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns of a line of foreign text, which stands behind a margin of six at most: a terminal of 80
/// must not wrap it, or the rest would stand at the margin like our own words.
const WIDTH: usize = 72;

/// Where letters, numbers, punctuation and symbols stand for themselves: each has a shape that
/// is seen, in one or two columns of its own, and stands where it was written. What is read from
/// right to left is not among them, because it moves what stands around it, and of what is built
/// from parts only what is one character.
const SHOWN: &[RangeInclusive<u32>] = &[
    // Latin, with its punctuation.
    0x00a1..=0x02af,
    0x1e00..=0x1eff,
    // Greek.
    0x0370..=0x03ff,
    0x1f00..=0x1fff,
    // Cyrillic, Armenian, Georgian.
    0x0400..=0x052f,
    0x0531..=0x058f,
    0x10a0..=0x10ff,
    // Dashes, quotes, dots, small digits, currencies.
    0x2010..=0x2027,
    0x2030..=0x205e,
    0x2070..=0x209c,
    0x20a0..=0x20c0,
    // Letters as signs, fractions, arrows, mathematics, technical signs.
    0x2100..=0x218b,
    0x2190..=0x23ff,
    0x27c0..=0x27ff,
    0x2900..=0x2aff,
    // Circled letters, boxes, blocks, shapes, signs.
    0x2460..=0x27bf,
    // Chinese and Japanese: punctuation, kana, bopomofo, ideographs, full-width letters.
    0x3001..=0x3029,
    0x3030..=0x3030,
    0x3041..=0x3096,
    0x309b..=0x30ff,
    0x3105..=0x312f,
    0x31f0..=0x33ff,
    0x3400..=0x4dbf,
    0x4e00..=0x9fff,
    0xf900..=0xfaff,
    0xff01..=0xff9d,
    0x2_0000..=0x3_23af,
    // Korean: whole syllables, and letters that do not join.
    0x3131..=0x3163,
    0xac00..=0xd7a3,
    // Pictures, without those that change the one before them.
    0x1_f300..=0x1_f3fa,
    0x1_f400..=0x1_f64f,
    0x1_f680..=0x1_f6ff,
    0x1_f900..=0x1_f9ff,
];

/// Scripts whose letters carry marks: Devanagari, Bengali, Gurmukhi, Gujarati, Tamil, Telugu,
/// Kannada, Malayalam, Thai, Lao. A mark stands for itself on a letter of its own script only.
const SCRIPTS: &[RangeInclusive<u32>] = &[
    0x0900..=0x097f,
    0x0980..=0x09ff,
    0x0a00..=0x0a7f,
    0x0a80..=0x0aff,
    0x0b80..=0x0bff,
    0x0c00..=0x0c7f,
    0x0c80..=0x0cff,
    0x0d00..=0x0d7f,
    0x0e00..=0x0e7f,
    0x0e80..=0x0eff,
];

/// Marks that may stand on one letter.
const STACK: usize = 2;

/// The script among [`SCRIPTS`].
fn script(c: char) -> Option<usize> {
    SCRIPTS.iter().position(|script| script.contains(&u32::from(c)))
}

/// Whether a character is drawn on the one before it.
fn stands_on(c: char) -> bool {
    script(c).is_some() && c.general_category_group() == GeneralCategoryGroup::Mark
}

/// Whether a character shows as itself wherever it stands.
fn stands_alone(c: char) -> bool {
    use GeneralCategoryGroup::{Letter, Number, Punctuation, Symbol};
    if c.is_ascii() {
        return !c.is_control();
    }
    // The mark's own bracket is marked too, so that a mark in the text cannot be forged.
    let known = || SHOWN.iter().chain(SCRIPTS).any(|block| block.contains(&u32::from(c)));
    let shape = || matches!(c.general_category_group(), Letter | Number | Punctuation | Symbol);
    c != '‹' && known() && shape() && matches!(c.width(), Some(1 | 2))
}

/// Shows text character by character.
#[derive(Default)]
struct Shower {
    /// The script of the letter that marks can stand on.
    letter: Option<usize>,
    /// How many do.
    stack: usize,
}

impl Shower {
    fn push(&mut self, out: &mut String, c: char) {
        if stands_on(c) && self.letter == script(c) && self.stack < STACK {
            self.stack += 1;
            out.push(c);
            return;
        }
        *self = Self::default();
        if stands_alone(c) {
            let letter = c.general_category_group() == GeneralCategoryGroup::Letter;
            self.letter = script(c).filter(|_| letter);
            out.push(c);
        } else {
            mark(out, c);
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
    for piece in pieces(&whole) {
        columns += piece.width();
        if columns >= most {
            break;
        }
        cut.push_str(piece);
    }
    cut.push('…');
    cut
}

/// Shown text, piece by piece: a mark, or a character with what stands on it.
pub fn pieces(shown: &str) -> impl Iterator<Item = &str> {
    let mut rest = shown;
    std::iter::from_fn(move || {
        let mut chars = rest.char_indices();
        let (_, first) = chars.next()?;
        let end = match first {
            '‹' => rest.find('›').map(|at| at + '›'.len_utf8()),
            _ => chars.find(|(_, c)| !stands_on(*c)).map(|(at, _)| at),
        };
        let (piece, after) = rest.split_at(end.unwrap_or(rest.len()));
        rest = after;
        Some(piece)
    })
}

/// The most columns that shown text takes on any terminal: what is not ASCII is two wide on some.
pub fn room(shown: &str) -> usize {
    shown.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum()
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
    lines(text).map(|line| folded(&line, margin)).collect()
}

/// One line that may be too long for the terminal, continued below; line ends and tabs are marks.
pub fn wrapped(text: &str, margin: &str) -> String {
    folded(&whole(text, false), margin)
}

/// Shown text on one line, continued below when it is too long for the terminal.
pub fn folded(shown: &str, margin: &str) -> String {
    let mut out = format!("{margin}| ");
    let mut columns = 0;
    for piece in pieces(shown) {
        let wide = room(piece);
        if columns + wide > WIDTH {
            out.push('\n');
            out.push_str(margin);
            out.push_str("> ");
            columns = 0;
        }
        out.push_str(piece);
        columns += wide;
    }
    out.push('\n');
    out
}

/// The lines of a text as [`block`] has them, for where lines wrap by themselves.
pub fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.strip_suffix('\n').unwrap_or(text).split('\n').map(|line| whole(line, true))
}

/// One line of a text of which nothing may be overlooked.
fn whole(line: &str, tabs: bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut shower = Shower::default();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\t' if tabs => {
                shower = Shower::default();
                out.push_str("‹tab›");
            }
            // A space at the end would not be seen.
            ' ' if rest.peek().is_none() => mark(&mut out, c),
            c => shower.push(&mut out, c),
        }
    }
    out
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
            ("ก\u{e31}\u{e34}\u{e31}\u{e34}", "ก\u{e31}\u{e34}‹U+0E31›‹U+0E34›"),
            ("한국어 Привет Ωμέγα", "한국어 Привет Ωμέγα"),
            ("→ ≤ € “q” … │ ✓ 🚀", "→ ≤ € “q” … │ ✓ 🚀"),
            // A mark on a letter of another script, on a digit, on a mark of ours, on nothing.
            ("a\u{e31}", "a‹U+0E31›"),
            ("क\u{e31}", "क‹U+0E31›"),
            ("๑\u{e31}", "๑‹U+0E31›"),
            ("\u{7}\u{e31}", "‹U+0007›‹U+0E31›"),
            ("\u{e31}", "‹U+0E31›"),
            // A flag, a colour, a picture put together.
            ("\u{1f1e9}\u{1f1ea}", "‹U+1F1E9›‹U+1F1EA›"),
            ("👍\u{1f3fd}", "👍‹U+1F3FD›"),
            ("❤\u{fe0f}", "❤‹U+FE0F›"),
            // What moves what stands around it.
            ("1\u{5d0}2", "1‹U+05D0›2"),
            ("1\u{634}2", "1‹U+0634›2"),
        ];
        for (text, shown) in cases {
            assert_eq!(line(text), shown);
        }
    }

    #[test]
    fn what_is_not_seen_or_not_sure_is_marked() {
        let blanks = "\u{a0}\u{1680}\u{2000}\u{200a}\u{202f}\u{205f}\u{3000}\u{2800}";
        let fillers = "\u{115f}\u{1160}\u{3164}\u{ffa0}\u{16fe4}\u{1d159}\u{13430}\u{1345f}";
        let formats = "\u{ad}\u{180e}\u{200b}\u{2066}\u{feff}\u{fffb}\u{e0041}\u{1d173}";
        let signs = "\u{600}\u{605}\u{6dd}\u{70f}\u{890}\u{8e2}\u{110bd}\u{110cd}";
        let jamo = "\u{1100}\u{1161}\u{11a8}\u{11ff}\u{d7b0}\u{d7ff}\u{a960}";
        let parts = "\u{2ff0}\u{2fff}\u{302a}\u{302f}\u{300}\u{20dd}\u{fe00}\u{ff9e}\u{ff9f}";
        let none = "\u{378}\u{e000}\u{f8ff}\u{f0000}\u{10ffff}\u{ffff}\u{fdfd}\u{2e3b}";
        for c in [blanks, fillers, formats, signs, jamo, parts, none].concat().chars() {
            assert_eq!(line(&format!("a{c}b")), format!("a‹U+{:04X}›b", u32::from(c)));
        }
    }

    #[test]
    fn pieces_stay_whole() {
        let all: Vec<_> = pieces("a‹U+0007›ที่x").collect();
        assert_eq!(all, ["a", "‹U+0007›", "ที่", "x"]);
        let rows = block(&"ที่".repeat(40), "");
        let starts: Vec<_> = rows.lines().map(|row| row.chars().nth(2)).collect();
        assert_eq!(starts, [Some('ท'); 4]);
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

    /// Text with many characters that show, and many that do not.
    fn mixed() -> impl Strategy<Value = String> {
        let blocks: Vec<_> = SHOWN.iter().chain(SCRIPTS).cloned().collect();
        let known = proptest::sample::select(blocks).prop_flat_map(|block| block);
        let known = known.prop_map(|c| char::from_u32(c).unwrap_or('x'));
        let c = prop_oneof![
            known,
            any::<char>(),
            "[ -~\u{900}-\u{97f}]".prop_map(|s| s.chars().next().unwrap_or('x'))
        ];
        proptest::collection::vec(c, 0..60).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn every_line_of_a_block_is_ours(text in mixed()) {
            for line in block(&text, "    ").lines() {
                prop_assert!(line.starts_with("    | ") || line.starts_with("    > "));
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(room(line) <= 80 && line.width() <= 80);
            }
        }

        #[test]
        fn together_characters_are_as_wide_as_alone(text in mixed()) {
            let shown = line(&text);
            let alone: usize = shown.chars().map(|c| c.width().unwrap_or(0)).sum();
            prop_assert_eq!(shown.width(), alone);
            prop_assert_eq!(pieces(&shown).collect::<String>(), shown);
        }

        #[test]
        fn two_texts_never_show_the_same(a in "[‹›U+0A\n\u{202e}x]{0,8}", b in "[‹›U+0A\n\u{202e}x]{0,8}") {
            prop_assert_eq!(line(&a) == line(&b), a == b);
        }
    }
}
