//! Hostile text for terminals.
//!
//! Recorded text was chosen by governed programs and their peers. Control
//! characters would drive the terminal, direction marks would reorder what a
//! reader sees; both are shown as escapes and never sent.

use std::fmt::{self, Write as _};

/// Text on one line: every control and direction character as an escape.
pub struct Line<'a>(pub &'a str);

/// Text over several lines: line feeds and tabs stay.
pub struct Block<'a>(pub &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, |_| false)
    }
}

impl fmt::Display for Block<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, |c| matches!(c, '\n' | '\t'))
    }
}

/// Whether a terminal or a reader could be misled by the character.
pub fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{061c}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn write(f: &mut fmt::Formatter<'_>, text: &str, keep: impl Fn(char) -> bool) -> fmt::Result {
    for c in text.chars() {
        if !hostile(c) || keep(c) {
            f.write_char(c)?;
        } else {
            write!(f, "{}", c.escape_default())?;
        }
    }
    Ok(())
}

/// JSON on one line in which no such character is left as it is.
pub fn json(value: &serde_json::Value) -> String {
    escaped(&value.to_string())
}

/// A line of JSON with every such character escaped.
pub fn escaped(plain: &str) -> String {
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        if hostile(c) {
            // Control characters below 0x20 are escaped by then; these stand inside strings only.
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// The beginning of a text, cut at a character.
pub fn head(text: &str, chars: usize) -> &str {
    match text.char_indices().nth(chars) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}
