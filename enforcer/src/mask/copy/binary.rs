//! The binary format: a head, tuples of fields with their lengths, a trailer.

use super::{Field, MAX_ROW};
use crate::mask::Unmaskable;

/// What every file begins with.
const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Where the reading is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Before the head.
    Head,
    /// Between tuples.
    Tuples,
    /// Behind the trailer.
    Done,
}

/// Takes one part from the front of `input`; how many bytes, or `None` when it is not whole.
pub(super) fn next(
    input: &[u8],
    part: &mut Part,
    out: &mut Vec<u8>,
    field: Field<'_>,
) -> Result<Option<usize>, Unmaskable> {
    match part {
        Part::Head => {
            let known = SIGNATURE.len().min(input.len());
            if input[..known] != SIGNATURE[..known] {
                return Err(Unmaskable::Copy("the signature is another"));
            }
            let (Some(flags), Some(length)) = (word(input, 11), word(input, 15)) else {
                return Ok(None);
            };
            // Bits 16 to 31 change how the rest is read (16: an oid before each tuple).
            if flags as u32 >> 16 != 0 {
                return Err(Unmaskable::Copy("flags that are not known"));
            }
            let length = size(length)?;
            let Some(head) = input.get(..19 + length) else {
                return Ok(None);
            };
            out.extend_from_slice(head);
            *part = Part::Tuples;
            Ok(Some(head.len()))
        }
        Part::Tuples => {
            let Some(count) = input.first_chunk::<2>() else {
                return Ok(None);
            };
            match i16::from_be_bytes(*count) {
                -1 => {
                    out.extend_from_slice(count);
                    *part = Part::Done;
                    Ok(Some(2))
                }
                fields => match usize::try_from(fields) {
                    Ok(fields) => tuple(input, fields, out, field),
                    Err(_) => Err(Unmaskable::Copy("a tuple of less than no fields")),
                },
            }
        }
        Part::Done if input.is_empty() => Ok(None),
        Part::Done => Err(Unmaskable::Copy("something stands behind the trailer")),
    }
}

fn tuple(
    input: &[u8],
    fields: usize,
    out: &mut Vec<u8>,
    field: Field<'_>,
) -> Result<Option<usize>, Unmaskable> {
    // Whole first, so that nothing of a tuple goes out before all of it was read.
    let mut end = 2;
    for _ in 0..fields {
        match word(input, end) {
            None => return Ok(None),
            Some(-1) => end += 4,
            Some(length) => end += 4 + size(length)?,
        }
        if end > input.len() {
            return Ok(None);
        }
    }
    out.extend_from_slice(&input[..2]);
    let mut at = 2;
    for column in 0..fields {
        let length = word(input, at).unwrap_or(-1);
        at += 4;
        let value = usize::try_from(length).ok().map(|length| &input[at..at + length]);
        at += value.map_or(0, <[u8]>::len);
        let new = field(column, value)?;
        let sized = new.as_ref().map(|new| (new, i32::try_from(new.len())));
        match sized {
            None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
            Some((new, Ok(length))) => {
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(new);
            }
            Some((_, Err(_))) => return Err(too_long()),
        }
    }
    Ok(Some(end))
}

fn word(input: &[u8], at: usize) -> Option<i32> {
    let bytes = input.get(at..at.checked_add(4)?)?;
    Some(i32::from_be_bytes(bytes.try_into().ok()?))
}

fn size(length: i32) -> Result<usize, Unmaskable> {
    let length =
        usize::try_from(length).map_err(|_| Unmaskable::Copy("a length of less than nothing"))?;
    if length > MAX_ROW { Err(too_long()) } else { Ok(length) }
}

fn too_long() -> Unmaskable {
    Unmaskable::TooLong { what: "a row of COPY", limit: MAX_ROW }
}
