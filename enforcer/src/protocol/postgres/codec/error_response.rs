//! `ErrorResponse` and `NoticeResponse`: what went wrong, or what is worth knowing.

use super::{CodecError, Reader, put, put_text};
use bytes::{BufMut, Bytes, BytesMut};

/// `ErrorResponse`.
pub const ERROR: u8 = b'E';
/// `NoticeResponse`.
pub const NOTICE: u8 = b'N';
/// Most fields; PostgreSQL knows 18.
const MAX_FIELDS: usize = 64;

/// The fields of an error or notice. Their letters are in PostgreSQL's manual, "Error and Notice
/// Message Fields".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Letter and value, in order.
    pub fields: Vec<(u8, String)>,
}

impl Report {
    /// An error of our own.
    pub fn new(severity: &str, code: &str, message: impl Into<String>) -> Self {
        Self::default()
            .with(b'S', severity)
            .with(b'V', severity)
            .with(b'C', code)
            .with(b'M', message)
    }

    /// The same with one more field; an empty one is left out.
    pub fn with(mut self, letter: u8, value: impl Into<String>) -> Self {
        let value = value.into();
        if !value.is_empty() {
            self.fields.push((letter, value));
        }
        self
    }

    /// A field.
    pub fn get(&self, letter: u8) -> Option<&str> {
        self.fields.iter().find(|(known, _)| *known == letter).map(|(_, value)| value.as_str())
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &str {
        self.get(b'C').unwrap_or_default()
    }

    /// Reads one. Text that is not UTF-8 (a server that has not yet agreed on an encoding) is
    /// read with replacement characters.
    ///
    /// # Errors
    /// What does not fit its length.
    pub fn read(body: &Bytes) -> Result<Self, CodecError> {
        const WHAT: &str = "ErrorResponse";
        let mut reader = Reader::new(body, WHAT);
        let mut report = Self::default();
        loop {
            let letter = reader.u8()?;
            if letter == 0 {
                reader.end()?;
                return Ok(report);
            }
            if report.fields.len() >= MAX_FIELDS {
                return Err(CodecError::Bounds(WHAT));
            }
            let end = memchr::memchr(0, &reader.body).ok_or(CodecError::Text(WHAT))?;
            let value = reader.bytes(end)?;
            reader.u8()?;
            report.fields.push((letter, String::from_utf8_lossy(&value).into_owned()));
        }
    }

    /// Appends it under a tag.
    pub fn put(&self, out: &mut BytesMut, tag: u8) {
        put(out, tag, |body| {
            for (letter, value) in &self.fields {
                body.put_u8(*letter);
                put_text(body, value);
            }
            body.put_u8(0);
        });
    }
}
