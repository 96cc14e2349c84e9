//! A row of the text format: fields between delimiters, bytes behind backslashes.

use super::{CopyOptions, Field};
use crate::mask::Unmaskable;
use std::borrow::Cow;

/// Masks a row, without its `\n`.
pub(super) fn row(
    row: &[u8],
    options: &CopyOptions,
    out: &mut Vec<u8>,
    field: Field<'_>,
) -> Result<(), Unmaskable> {
    // What old servers send behind the last row; it is none.
    if row == b"\\." {
        out.extend_from_slice(row);
        return Ok(());
    }
    let mut rest = row;
    let mut column = 0;
    loop {
        let end = field_end(rest, options.delimiter);
        let raw = &rest[..end];
        let value = if raw == options.null { None } else { Some(decode(raw)) };
        match (field(column, value.as_deref())?, &value) {
            (None, _) => out.extend_from_slice(&options.null),
            (Some(new), Some(old)) if *new == **old => out.extend_from_slice(raw),
            (Some(new), _) => encode(&new, options.delimiter, out),
        }
        let Some(behind) = rest.get(end + 1..) else {
            return Ok(());
        };
        out.push(options.delimiter);
        rest = behind;
        column += 1;
    }
}

/// Where the field at the front ends: at a delimiter that is not behind a backslash.
fn field_end(row: &[u8], delimiter: u8) -> usize {
    let mut at = 0;
    while let Some(found) = row.get(at..).and_then(|rest| memchr::memchr2(delimiter, b'\\', rest)) {
        at += found;
        if row[at] == delimiter {
            return at;
        }
        at += 2;
    }
    row.len()
}

fn decode(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'\\', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let Some((second, behind)) = tail.split_first().filter(|_| *first == b'\\') else {
            out.push(*first);
            continue;
        };
        rest = behind;
        match second {
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'v' => out.push(11),
            b'0'..=b'7' => out.push(digits(second - b'0', 3, 2, &mut rest)),
            b'x' if behind.first().is_some_and(u8::is_ascii_hexdigit) => {
                out.push(digits(0, 4, 2, &mut rest));
            }
            other => out.push(*other),
        }
    }
    Cow::Owned(out)
}

/// Takes up to `count` digits of `bits` bits each on from `value`, as C does: modulo 256.
fn digits(mut value: u8, bits: u32, count: usize, rest: &mut &[u8]) -> u8 {
    for _ in 0..count {
        let Some((digit, behind)) = rest.split_first() else { break };
        let digit = match (bits, digit) {
            (3, b'0'..=b'7') => digit - b'0',
            (4, digit) => {
                match char::from(*digit).to_digit(16).and_then(|d| u8::try_from(d).ok()) {
                    Some(digit) => digit,
                    None => break,
                }
            }
            _ => break,
        };
        value = value.wrapping_shl(bits) | digit;
        *rest = behind;
    }
    value
}

/// As `CopyAttributeOutText` writes it.
fn encode(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    for &byte in value {
        let letter = match byte {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            11 => b'v',
            b'\\' => b'\\',
            byte if byte == delimiter => byte,
            byte => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
}
