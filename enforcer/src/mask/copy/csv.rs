//! A row of CSV: fields between delimiters, some in quotes; and where a row ends.

use super::{CopyFormat, CopyOptions, Field};
use crate::mask::Unmaskable;

/// The search for a row's end, over any pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    /// Bytes of the row that were looked at.
    seen: usize,
    quoted: bool,
    /// The next byte is behind an escape.
    escaped: bool,
}

impl End {
    /// Length of the row at the front with its `\n`; `None` when more bytes are needed. After
    /// a row it begins anew.
    pub(super) fn find(&mut self, text: &[u8], options: &CopyOptions) -> Option<usize> {
        if options.format != CopyFormat::Csv {
            // A line end in a value is written as `\n`, so this one ends the row.
            let found = memchr::memchr(b'\n', text.get(self.seen..)?);
            let length = found.map(|at| self.seen + at + 1);
            self.seen = if found.is_some() { 0 } else { text.len() };
            return length;
        }
        while let Some(&byte) = text.get(self.seen) {
            self.seen += 1;
            if self.escaped {
                self.escaped = false;
            } else if self.quoted && byte == options.escape && options.escape != options.quote {
                self.escaped = true;
            } else if byte == options.quote {
                // A doubled quote closes and opens again.
                self.quoted = !self.quoted;
            } else if byte == b'\n' && !self.quoted {
                let length = self.seen;
                *self = Self::default();
                return Some(length);
            }
        }
        None
    }
}

/// Masks a row, without its `\n`.
pub(super) fn row(
    row: &[u8],
    options: &CopyOptions,
    out: &mut Vec<u8>,
    field: Field<'_>,
) -> Result<(), Unmaskable> {
    let mut rest = row;
    let mut column = 0;
    loop {
        let (raw, value) = next(rest, options)?;
        let new = field(column, value.as_deref())?;
        match (new, &value) {
            (None, _) => out.extend_from_slice(&options.null),
            (Some(new), Some(old)) if *new == **old => out.extend_from_slice(raw),
            (Some(new), _) => quote(&new, options, out),
        }
        match rest.get(raw.len()..).and_then(<[u8]>::split_first) {
            None => return Ok(()),
            Some((_, behind)) => rest = behind,
        }
        out.push(options.delimiter);
        column += 1;
    }
}

/// The field at the front as it is written, and its value; `None` is NULL.
fn next<'r>(
    row: &'r [u8],
    options: &CopyOptions,
) -> Result<(&'r [u8], Option<Vec<u8>>), Unmaskable> {
    if row.first() != Some(&options.quote) {
        let end = memchr::memchr(options.delimiter, row).unwrap_or(row.len());
        let raw = &row[..end];
        if raw.contains(&options.quote) {
            return Err(Unmaskable::Copy("a quote in a field that has none around it"));
        }
        return Ok((raw, (raw != options.null).then(|| raw.to_vec())));
    }
    let mut value = Vec::new();
    let mut at = 1;
    loop {
        let byte = *row.get(at).ok_or(Unmaskable::Copy("a quote is not closed"))?;
        let next = row.get(at + 1).copied();
        if byte == options.escape
            && let Some(next) = next.filter(|next| [options.quote, options.escape].contains(next))
        {
            value.push(next);
            at += 2;
        } else if byte == options.quote {
            at += 1;
            break;
        } else {
            value.push(byte);
            at += 1;
        }
    }
    match row.get(at) {
        Some(byte) if *byte != options.delimiter => {
            Err(Unmaskable::Copy("something stands behind a closing quote"))
        }
        _ => Ok((&row[..at], Some(value))),
    }
}

fn quote(value: &[u8], options: &CopyOptions, out: &mut Vec<u8>) {
    out.push(options.quote);
    for &byte in value {
        if byte == options.quote || byte == options.escape {
            out.push(options.escape);
        }
        out.push(byte);
    }
    out.push(options.quote);
}
