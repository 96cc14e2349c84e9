//! `FunctionCall`, which names a function by its oid, and its answer.

use super::frontend::{FUNCTION_CALL, format_of, formats, put_formats};
use super::{CodecError, Reader, put, put_count, put_value};
use bytes::{BufMut, Bytes, BytesMut};

/// `FunctionCallResponse`.
pub const RESPONSE: u8 = b'V';

/// A function to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCall {
    /// The function's oid.
    pub function: u32,
    /// None: all text; one: for all; else one for each. 0 is text, 1 binary.
    pub formats: Vec<i16>,
    /// The arguments; `None` is NULL.
    pub values: Vec<Option<Bytes>>,
    /// The format of the result.
    pub result: i16,
}

/// Reads one.
///
/// # Errors
/// What does not fit its length, or a format that the protocol does not know.
pub fn read(body: &Bytes) -> Result<FunctionCall, CodecError> {
    const WHAT: &str = "FunctionCall";
    let mut reader = Reader::new(body, WHAT);
    let function = reader.u32()?;
    let formats = formats(&mut reader)?;
    let count = reader.count(4)?;
    let values = (0..count).map(|_| reader.value()).collect::<Result<Vec<_>, _>>()?;
    let result = match reader.i16()? {
        format @ 0..=1 => format,
        _ => return Err(CodecError::Value("format")),
    };
    reader.end()?;
    if formats.len() > 1 && formats.len() != values.len() {
        return Err(CodecError::Bounds(WHAT));
    }
    Ok(FunctionCall { function, formats, values, result })
}

impl FunctionCall {
    /// The format of an argument (from 0).
    pub fn format(&self, argument: usize) -> i16 {
        format_of(&self.formats, argument)
    }

    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        put(out, FUNCTION_CALL, |body| {
            body.put_u32(self.function);
            put_formats(body, &self.formats);
            put_count(body, self.values.len());
            for value in &self.values {
                put_value(body, value.as_deref());
            }
            body.put_i16(self.result);
        });
    }
}

/// Reads a `FunctionCallResponse`: the result, `None` for NULL.
///
/// # Errors
/// What does not fit its length.
pub fn result(body: &Bytes) -> Result<Option<Bytes>, CodecError> {
    let mut reader = Reader::new(body, "FunctionCallResponse");
    let value = reader.value()?;
    reader.end()?;
    Ok(value)
}

/// Appends a `FunctionCallResponse`.
pub fn put_result(out: &mut BytesMut, value: Option<&[u8]>) {
    put(out, RESPONSE, |body| put_value(body, value));
}
