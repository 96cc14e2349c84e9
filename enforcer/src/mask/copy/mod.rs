//! The rows of `COPY ... TO STDOUT`, field by field, in the text, CSV and binary formats.
//!
//! Sans-io: the payloads of CopyData in whatever pieces, the same out, with fields replaced.
//! What is not replaced stays byte for byte as it came. The formats are those of the
//! PostgreSQL manual, "COPY", "File Formats", as `src/backend/commands/copyto.c` writes them
//! (rows end with `\n` on every platform). What is read otherwise by somebody else (quotes
//! in the middle of a field, unknown flags) is an error, so that nothing hides in it.
//!
//! Must never: hold more than one unfinished row, or pass on a byte of a row that it did not
//! read to its end.

mod binary;
mod csv;
#[cfg(test)]
mod tests;
mod text;

use super::Unmaskable;
use std::borrow::Cow;

/// Longest row, in bytes.
const MAX_ROW: usize = 64 << 20;

/// The three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// Delimiters and backslashes.
    Text,
    /// Delimiters and quotes.
    Csv,
    /// Lengths.
    Binary,
}

/// What a COPY statement says about the form of its rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyOptions {
    /// The format.
    pub format: CopyFormat,
    /// Between fields.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: Vec<u8>,
    /// Around fields of CSV.
    pub quote: u8,
    /// Before a quote in a quoted field of CSV.
    pub escape: u8,
    /// Whether the first row has the columns' names (not in the binary format).
    pub header: bool,
}

impl CopyOptions {
    /// What holds for a format when the statement says nothing else.
    pub fn of(format: CopyFormat) -> Self {
        let (delimiter, null) = match format {
            CopyFormat::Csv => (b',', Vec::new()),
            CopyFormat::Text | CopyFormat::Binary => (b'\t', b"\\N".to_vec()),
        };
        Self { format, delimiter, null, quote: b'"', escape: b'"', header: false }
    }
}

/// What becomes of a field: its column (from 0) and value in, the value to deliver out; `None`
/// is NULL. In the text and CSV formats values are in their text form, unescaped.
pub type Field<'f> =
    &'f mut dyn for<'v> FnMut(usize, Option<&'v [u8]>) -> Result<Option<Cow<'v, [u8]>>, Unmaskable>;

/// One COPY on its way out.
#[derive(Debug)]
pub struct CopyRows {
    options: CopyOptions,
    /// An unfinished row.
    held: Vec<u8>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Text and CSV: how far `held` was searched for the row's end.
    Lines(csv::End),
    /// Text and CSV, before the columns' names were read.
    Header(csv::End),
    /// Binary: where it is.
    Binary(binary::Part),
    /// After an error.
    Failed,
}

impl CopyRows {
    /// Begins.
    pub fn new(options: CopyOptions) -> Self {
        let state = match options.format {
            CopyFormat::Binary => State::Binary(binary::Part::Head),
            _ if options.header => State::Header(csv::End::default()),
            _ => State::Lines(csv::End::default()),
        };
        Self { options, held: Vec::new(), state }
    }

    /// Reads the next bytes and writes every row that is whole.
    ///
    /// # Errors
    /// Data that is not as the format says, a row of more than 64 MiB, or what `field` says;
    /// then nothing more is accepted.
    pub fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        field: Field<'_>,
    ) -> Result<(), Unmaskable> {
        let pushed = self.read(input, out, field);
        if pushed.is_err() {
            self.state = State::Failed;
            self.held = Vec::new();
        }
        pushed
    }

    fn read(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        field: Field<'_>,
    ) -> Result<(), Unmaskable> {
        let joined;
        let all = if self.held.is_empty() {
            input
        } else {
            self.held.extend_from_slice(input);
            joined = std::mem::take(&mut self.held);
            &joined
        };
        let mut rest = all;
        let options = &self.options;
        loop {
            let taken = match &mut self.state {
                State::Failed => return Err(Unmaskable::Copy("an earlier error")),
                State::Binary(part) => binary::next(rest, part, out, field)?,
                State::Header(end) => {
                    let taken = end.find(rest, options);
                    if let Some(length) = taken {
                        out.extend_from_slice(&rest[..length]);
                        self.state = State::Lines(csv::End::default());
                    }
                    taken
                }
                State::Lines(end) => {
                    let taken = end.find(rest, options);
                    if let Some(length) = taken {
                        let row = &rest[..length - 1];
                        match options.format {
                            CopyFormat::Csv => csv::row(row, options, out, field)?,
                            _ => text::row(row, options, out, field)?,
                        }
                        out.push(b'\n');
                    }
                    taken
                }
            };
            match taken {
                Some(length) => rest = &rest[length..],
                None => break,
            }
        }
        if rest.len() > MAX_ROW {
            return Err(Unmaskable::TooLong { what: "a row of COPY", limit: MAX_ROW });
        }
        self.held = rest.to_vec();
        Ok(())
    }

    /// The data ends here (CopyDone).
    ///
    /// # Errors
    /// When it ends inside a row.
    pub fn finish(&self) -> Result<(), Unmaskable> {
        let whole = match &self.state {
            State::Binary(part) => *part == binary::Part::Done,
            State::Lines(_) | State::Header(_) => true,
            State::Failed => false,
        };
        if whole && self.held.is_empty() {
            return Ok(());
        }
        Err(Unmaskable::Copy("it ends inside a row"))
    }
}
