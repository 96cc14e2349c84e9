//! Strings, numbers and words of JSON, byte by byte (RFC 8259 sections 3, 6, 7).
//! Owns lexical validity and decoding of escapes; knows no paths and no masks.

use memchr::memchr2;

/// The literal names.
pub(super) const WORDS: [&[u8]; 3] = [b"true", b"false", b"null"];

/// Where inside a number the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    Minus,
    Zero,
    Int,
    Dot,
    Frac,
    E,
    Sign,
    Exp,
}

impl Number {
    pub(super) fn first(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Int),
            _ => None,
        }
    }

    /// The state after `byte`; `None` when `byte` is not part of the number.
    pub(super) fn next(self, byte: u8) -> Option<Self> {
        match (self, byte) {
            (Self::Minus, b'0') => Some(Self::Zero),
            (Self::Minus, b'1'..=b'9') | (Self::Int, b'0'..=b'9') => Some(Self::Int),
            (Self::Zero | Self::Int, b'.') => Some(Self::Dot),
            (Self::Dot | Self::Frac, b'0'..=b'9') => Some(Self::Frac),
            (Self::Zero | Self::Int | Self::Frac, b'e' | b'E') => Some(Self::E),
            (Self::E, b'+' | b'-') => Some(Self::Sign),
            (Self::E | Self::Sign | Self::Exp, b'0'..=b'9') => Some(Self::Exp),
            _ => None,
        }
    }

    pub(super) fn is_complete(self) -> bool {
        matches!(self, Self::Zero | Self::Int | Self::Frac | Self::Exp)
    }
}

/// Whether `text` is one whole number.
pub(in crate::mask) fn is_number(text: &[u8]) -> bool {
    let Some((first, rest)) = text.split_first() else {
        return false;
    };
    let read = rest.iter().try_fold(Number::first(*first), |state, byte| Some(state?.next(*byte)));
    read.flatten().is_some_and(Number::is_complete)
}

/// Whether a string ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StringStep {
    More,
    End,
}

#[derive(Clone, Copy, Debug, Default)]
enum Escape {
    #[default]
    None,
    /// After `\`.
    Backslash,
    /// After `\u`: digits read, value so far.
    Hex(u8, u16),
}

/// Reads the inside of one string after its opening quote.
#[derive(Debug, Default)]
pub(super) struct StringLexer {
    escape: Escape,
    /// A high surrogate that waits for its other half.
    high: Option<u16>,
    utf8: Utf8,
}

impl StringLexer {
    /// Reads up to and including the closing quote or to the end of `input`;
    /// decoded bytes go to `sink`. Returns how many bytes were read.
    pub(super) fn read(
        &mut self,
        input: &[u8],
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(StringStep, usize), &'static str> {
        let mut at = 0;
        while at < input.len() {
            match self.escape {
                Escape::None => {
                    let rest = &input[at..];
                    let run = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    if run > 0 {
                        self.plain(&rest[..run], sink)?;
                        at += run;
                    }
                    let Some(&byte) = rest.get(run) else { break };
                    if !self.utf8.is_complete() {
                        return Err("a string is not UTF-8");
                    }
                    at += 1;
                    if byte == b'\\' {
                        self.escape = Escape::Backslash;
                        continue;
                    }
                    self.flush_high(sink);
                    return Ok((StringStep::End, at));
                }
                Escape::Backslash => {
                    self.escape = Escape::None;
                    let decoded = match input[at] {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 0x08,
                        b'f' => 0x0C,
                        b'n' => b'\n',
                        b'r' => b'\r',
                        b't' => b'\t',
                        b'u' => {
                            self.escape = Escape::Hex(0, 0);
                            at += 1;
                            continue;
                        }
                        _ => return Err("an unknown escape in a string"),
                    };
                    self.flush_high(sink);
                    sink(&[decoded]);
                    at += 1;
                }
                Escape::Hex(seen, value) => {
                    let digit =
                        hex_digit(input[at]).ok_or("`\\u` needs four hexadecimal digits")?;
                    let value = value << 4 | u16::from(digit);
                    at += 1;
                    if seen < 3 {
                        self.escape = Escape::Hex(seen + 1, value);
                        continue;
                    }
                    self.escape = Escape::None;
                    self.unit(value, sink);
                }
            }
        }
        Ok((StringStep::More, at))
    }

    fn plain(&mut self, bytes: &[u8], sink: &mut dyn FnMut(&[u8])) -> Result<(), &'static str> {
        if bytes.iter().fold(false, |bad, b| bad | (*b < 0x20)) {
            return Err("a control character in a string");
        }
        let ascii = bytes.is_ascii() && self.utf8.is_complete();
        if !ascii && !self.utf8.feed(bytes) {
            return Err("a string is not UTF-8");
        }
        self.flush_high(sink);
        sink(bytes);
        Ok(())
    }

    /// One UTF-16 unit of a `\u` escape.
    fn unit(&mut self, unit: u16, sink: &mut dyn FnMut(&[u8])) {
        let code = match (self.high.take(), unit) {
            (Some(high), 0xDC00..=0xDFFF) => {
                0x10000 + (u32::from(high - 0xD800) << 10) + u32::from(unit - 0xDC00)
            }
            (high, unit) => {
                self.high = high;
                self.flush_high(sink);
                if (0xD800..0xDC00).contains(&unit) {
                    self.high = Some(unit);
                    return;
                }
                u32::from(unit)
            }
        };
        match char::from_u32(code) {
            Some(c) => sink(c.encode_utf8(&mut [0; 4]).as_bytes()),
            None => sink(&lone(unit)),
        }
    }

    fn flush_high(&mut self, sink: &mut dyn FnMut(&[u8])) {
        if let Some(high) = self.high.take() {
            sink(&lone(high));
        }
    }
}

/// A lone surrogate as three bytes that no UTF-8 text holds, so that a key with
/// one can never equal a key that a path names.
fn lone(unit: u16) -> [u8; 3] {
    [0xE0 | (unit >> 12) as u8, 0x80 | (unit >> 6 & 0x3F) as u8, 0x80 | (unit & 0x3F) as u8]
}

pub(in crate::mask) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Checks UTF-8 over chunk boundaries (Unicode 15, table 3-7).
#[derive(Debug, Default)]
struct Utf8 {
    /// Continuation bytes still due.
    due: u8,
    /// Lowest and highest value of the next continuation byte.
    low: u8,
    high: u8,
}

impl Utf8 {
    fn is_complete(&self) -> bool {
        self.due == 0
    }

    fn feed(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            if self.due > 0 {
                if !(self.low..=self.high).contains(&byte) {
                    return false;
                }
                self.due -= 1;
                (self.low, self.high) = (0x80, 0xBF);
                continue;
            }
            (self.due, self.low, self.high) = match byte {
                0x00..=0x7F => continue,
                0xC2..=0xDF => (1, 0x80, 0xBF),
                0xE0 => (2, 0xA0, 0xBF),
                0xED => (2, 0x80, 0x9F),
                0xE1..=0xEF => (2, 0x80, 0xBF),
                0xF0 => (3, 0x90, 0xBF),
                0xF1..=0xF3 => (3, 0x80, 0xBF),
                0xF4 => (3, 0x80, 0x8F),
                _ => return false,
            };
        }
        true
    }
}
