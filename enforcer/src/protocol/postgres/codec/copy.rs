//! `COPY`: how its data comes or goes, and the data itself.

use super::{CodecError, Reader, put, put_count};
use bytes::{BufMut, Bytes, BytesMut};

/// `CopyInResponse`: data is wanted.
pub const IN_RESPONSE: u8 = b'G';
/// `CopyOutResponse`: data comes.
pub const OUT_RESPONSE: u8 = b'H';
/// `CopyBothResponse`: data goes both ways (replication).
pub const BOTH_RESPONSE: u8 = b'W';
/// `CopyData`, of either side.
pub const DATA: u8 = b'd';
/// `CopyDone`, of either side.
pub const DONE: u8 = b'c';
/// `CopyFail`, of the client.
pub const FAIL: u8 = b'f';

/// How `COPY` data comes or goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyResponse {
    /// Whether the whole is binary.
    pub binary: bool,
    /// The format of each column: 0 is text, 1 binary.
    pub formats: Vec<i16>,
}

/// Reads a `CopyInResponse` or `CopyOutResponse`.
///
/// # Errors
/// What does not fit its length.
pub fn read(body: &Bytes) -> Result<CopyResponse, CodecError> {
    const WHAT: &str = "CopyResponse";
    let mut reader = Reader::new(body, WHAT);
    let binary = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return Err(CodecError::Value(WHAT)),
    };
    let count = reader.count(2)?;
    let formats = (0..count).map(|_| reader.i16()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(CopyResponse { binary, formats })
}

impl CopyResponse {
    /// Appends it under a tag.
    pub fn put(&self, out: &mut BytesMut, tag: u8) {
        put(out, tag, |body| {
            body.put_u8(u8::from(self.binary));
            put_count(body, self.formats.len());
            for format in &self.formats {
                body.put_i16(*format);
            }
        });
    }
}

/// Appends a piece of data.
pub fn put_data(out: &mut BytesMut, data: &[u8]) {
    put(out, DATA, |body| body.put_slice(data));
}

/// Appends a `CopyFail`.
pub fn put_fail(out: &mut BytesMut, why: &str) {
    put(out, FAIL, |body| super::put_text(body, why));
}
