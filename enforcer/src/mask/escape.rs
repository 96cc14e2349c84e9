//! What a detector sees of escaped text, and the way back. A [`View`] is the text
//! with its escapes decoded (so that `\u0040`, `%40` or `&#64;` cannot hide an
//! `@`) and a map from its bytes to the raw ones, which are what gets spliced.
//!
//! One level is decoded: JSON inside a JSON string stays as it is.

use super::json::hex_digit;
use super::replace::json_escape;
use memchr::{memchr, memchr2};

/// Longest raw escape that may still be unfinished at the end of a chunk.
const MAX_ESCAPE: usize = 12;

/// How the text around a value is escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escaping {
    /// Not at all.
    None,
    /// JSON string escapes (RFC 8259 section 7).
    Json,
    /// `application/x-www-form-urlencoded` (WHATWG URL section 5).
    Form,
    /// Character references of HTML and XML; the common named ones only.
    Entity,
}

impl Escaping {
    /// The next byte at which an escape may begin.
    fn find(self, text: &[u8]) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Json => memchr(b'\\', text),
            Self::Form => memchr2(b'%', b'+', text),
            Self::Entity => memchr(b'&', text),
        }
    }

    /// Writes `value` so that it reads as itself where it is put.
    pub(super) fn write(self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(value),
            Self::Json => json_escape(value, out),
            Self::Form => {
                for &byte in value {
                    match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => {
                            out.push(byte)
                        }
                        byte => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
                    }
                }
            }
            Self::Entity => {
                for &byte in value {
                    match byte {
                        b'&' => out.extend_from_slice(b"&amp;"),
                        b'<' => out.extend_from_slice(b"&lt;"),
                        b'>' => out.extend_from_slice(b"&gt;"),
                        b'"' => out.extend_from_slice(b"&quot;"),
                        b'\'' => out.extend_from_slice(b"&#39;"),
                        byte => out.push(byte),
                    }
                }
            }
        }
    }

    /// The escape at the start of `text`.
    fn decode(self, text: &[u8], eof: bool) -> Decoded {
        let decoded = match self {
            Self::None => Decoded::Plain,
            Self::Json => json(text),
            Self::Form => form(text),
            Self::Entity => entity(text),
        };
        match decoded {
            Decoded::Unfinished if eof => Decoded::Plain,
            decoded => decoded,
        }
    }
}

enum Decoded {
    /// The byte stands for itself.
    Plain,
    /// More bytes are needed to tell.
    Unfinished,
    /// This many raw bytes stand for these.
    Bytes(usize, [u8; 4], usize),
}

fn character(raw: usize, code: u32) -> Decoded {
    let mut bytes = [0; 4];
    let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    let len = c.encode_utf8(&mut bytes).len();
    Decoded::Bytes(raw, bytes, len)
}

fn json(text: &[u8]) -> Decoded {
    let code = match text.get(1) {
        None => return Decoded::Unfinished,
        Some(b'u') => match hex4(&text[2..]) {
            Ok(unit @ 0xD800..=0xDBFF) => {
                return match (text.get(6), text.get(7)) {
                    (None, _) | (Some(b'\\'), None) => Decoded::Unfinished,
                    (Some(b'\\'), Some(b'u')) => match hex4(&text[8..]) {
                        Ok(low @ 0xDC00..=0xDFFF) => {
                            character(12, 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00))
                        }
                        Err(true) => Decoded::Unfinished,
                        _ => character(6, unit),
                    },
                    _ => character(6, unit),
                };
            }
            Ok(unit) => return character(6, unit),
            Err(true) => return Decoded::Unfinished,
            Err(false) => return Decoded::Plain,
        },
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'n') => 10,
        Some(b'r') => 13,
        Some(b't') => 9,
        Some(byte @ (b'"' | b'\\' | b'/')) => u32::from(*byte),
        Some(_) => return Decoded::Plain,
    };
    character(2, code)
}

/// Four hexadecimal digits; the error says whether more bytes could make them.
fn hex4(text: &[u8]) -> Result<u32, bool> {
    let mut value = 0;
    for at in 0..4 {
        let byte = text.get(at).ok_or(true)?;
        value = value << 4 | u32::from(hex_digit(*byte).ok_or(false)?);
    }
    Ok(value)
}

fn form(text: &[u8]) -> Decoded {
    if text.first() == Some(&b'+') {
        return Decoded::Bytes(1, [b' ', 0, 0, 0], 1);
    }
    let digit = |at: usize| text.get(at).map(|byte| hex_digit(*byte));
    match (digit(1), digit(2)) {
        (Some(None), _) | (_, Some(None)) => Decoded::Plain,
        (Some(Some(high)), Some(Some(low))) => Decoded::Bytes(3, [high << 4 | low, 0, 0, 0], 1),
        _ => Decoded::Unfinished,
    }
}

/// HTML Living Standard section 13.5; those that spell what detectors look for.
const NAMED: [(&[u8], u8); 14] = [
    (b"amp", b'&'),
    (b"apos", b'\''),
    (b"colon", b':'),
    (b"commat", b'@'),
    (b"equals", b'='),
    (b"gt", b'>'),
    (b"lowbar", b'_'),
    (b"lt", b'<'),
    (b"nbsp", b' '),
    (b"period", b'.'),
    (b"plus", b'+'),
    (b"quot", b'"'),
    (b"sol", b'/'),
    (b"Tab", b'\t'),
];

fn entity(text: &[u8]) -> Decoded {
    let window = &text[1..text.len().min(MAX_ESCAPE)];
    let Some(end) = memchr(b';', window) else {
        let open = window.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'#');
        return if open && text.len() < MAX_ESCAPE { Decoded::Unfinished } else { Decoded::Plain };
    };
    let raw = end + 2;
    let name = &window[..end];
    let Some(number) = name.strip_prefix(b"#") else {
        return match NAMED.iter().find(|(known, _)| *known == name) {
            Some((_, byte)) => Decoded::Bytes(raw, [*byte, 0, 0, 0], 1),
            None => Decoded::Plain,
        };
    };
    let (digits, radix) = match number {
        [b'x' | b'X', hex @ ..] => (hex, 16),
        decimal => (decimal, 10),
    };
    let code =
        std::str::from_utf8(digits).ok().and_then(|text| u32::from_str_radix(text, radix).ok());
    code.map_or(Decoded::Plain, |code| character(raw, code))
}

/// Decoded text with the way back to the raw bytes.
#[derive(Debug, Default)]
pub(super) struct View {
    text: Vec<u8>,
    /// `(view position, raw position, is an escape)`, ascending.
    map: Vec<(usize, usize, bool)>,
    /// Whether the raw bytes are the view.
    identical: bool,
    /// Raw bytes that the view covers; the rest is an unfinished escape.
    covered: usize,
}

impl View {
    /// Looks at `raw`, of which the first `seen` bytes are already decoded.
    pub(super) fn build(&mut self, raw: &[u8], seen: usize, escaping: Escaping, eof: bool) {
        self.text.clear();
        self.map.clear();
        self.covered = raw.len();
        self.identical = escaping.find(&raw[seen..]).is_none();
        if self.identical {
            return;
        }
        self.map.push((0, 0, false));
        let mut done = 0;
        let mut at = seen;
        while let Some(next) = escaping.find(&raw[at..]) {
            at += next;
            match escaping.decode(&raw[at..], eof) {
                Decoded::Plain => {
                    // A backslash hides the byte after it from being an escape.
                    at = (at + 1 + usize::from(escaping == Escaping::Json)).min(raw.len());
                }
                Decoded::Unfinished => {
                    self.covered = at;
                    break;
                }
                Decoded::Bytes(len, bytes, count) => {
                    self.text.extend_from_slice(&raw[done..at]);
                    self.map.push((self.text.len(), at, true));
                    self.text.extend_from_slice(&bytes[..count]);
                    at += len;
                    done = at;
                    self.map.push((self.text.len(), at, false));
                }
            }
        }
        self.text.extend_from_slice(&raw[done..self.covered]);
    }

    /// The decoded text.
    pub(super) fn text<'a>(&'a self, raw: &'a [u8]) -> &'a [u8] {
        if self.identical { raw } else { &self.text }
    }

    /// The raw position at which the decoded byte at `at` begins.
    pub(super) fn raw_start(&self, at: usize) -> usize {
        if self.identical {
            return at;
        }
        let (view, raw, escape) = self.segment(at);
        if escape { raw } else { raw + (at - view) }
    }

    /// The raw position just after the decoded byte before `at`.
    pub(super) fn raw_end(&self, at: usize) -> usize {
        if self.identical || at == 0 {
            return at;
        }
        let index = self.index(at - 1);
        let (view, raw, escape) = self.map[index];
        if !escape {
            return raw + (at - view);
        }
        self.map.get(index + 1).map_or(self.covered, |next| next.1)
    }

    fn segment(&self, at: usize) -> (usize, usize, bool) {
        self.map[self.index(at)]
    }

    fn index(&self, at: usize) -> usize {
        self.map.partition_point(|entry| entry.0 <= at).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(raw: &str, escaping: Escaping, eof: bool) -> (String, usize) {
        let mut view = View::default();
        view.build(raw.as_bytes(), 0, escaping, eof);
        (String::from_utf8_lossy(view.text(raw.as_bytes())).into_owned(), view.covered)
    }

    #[test]
    fn decodes_each_form() {
        for (raw, escaping, want) in [
            (r"a\u0040b\n\/\\\u00e9", Escaping::Json, "a@b\n/\\\u{e9}"),
            (r"\ud83d\ude00 \ud83d \q", Escaping::Json, "\u{1f600} \u{fffd} \\q"),
            (r"\\u0040", Escaping::Json, r"\u0040"),
            ("a%40b+c%4", Escaping::Form, "a@b c%4"),
            ("a&#64;b&#x40;c&commat;&amp;&nope;", Escaping::Entity, "a@b@c@&&nope;"),
            ("a\\u0040", Escaping::None, "a\\u0040"),
        ] {
            assert_eq!(view(raw, escaping, true).0, want, "{raw}");
        }
    }

    #[test]
    fn leaves_an_unfinished_escape() {
        for (raw, escaping, covered) in [
            ("ab\\", Escaping::Json, 2),
            ("ab\\u00", Escaping::Json, 2),
            ("ab\\ud83d", Escaping::Json, 2),
            ("ab\\ud83d\\u", Escaping::Json, 2),
            ("ab%4", Escaping::Form, 2),
            ("ab&#6", Escaping::Entity, 2),
            ("ab & c", Escaping::Entity, 6),
        ] {
            assert_eq!(view(raw, escaping, false).1, covered, "{raw}");
            assert_eq!(view(raw, escaping, true).1, raw.len(), "{raw}");
        }
    }

    #[test]
    fn finds_the_way_back() {
        let raw = br"x\u0040y\u00e9z";
        let mut view = View::default();
        view.build(raw, 0, Escaping::Json, true);
        assert_eq!(view.text(raw), "x@y\u{e9}z".as_bytes());
        let starts: Vec<_> = (0..7).map(|at| view.raw_start(at)).collect();
        assert_eq!(starts, [0, 1, 7, 8, 8, 14, 15]);
        let ends: Vec<_> = (0..7).map(|at| view.raw_end(at)).collect();
        assert_eq!(ends, [0, 1, 7, 8, 14, 14, 15]);
    }
}
