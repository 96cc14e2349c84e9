//! The messages of PostgreSQL's frontend/backend protocol, versions 3.0 to 3.2.
//!
//! Sans-io: bytes in, typed messages or a [`CodecError`] out, and back. Everything is bounded
//! before it is read, nothing panics, and what does not fit its length exactly is refused: two
//! readers of one message must not see two things. Formats are those of PostgreSQL's manual,
//! chapter "Message Formats" (protocol-message-formats).

pub mod backend;
pub mod copy;
pub mod data_row;
pub mod error_response;
pub mod frontend;
pub mod function_call;
pub mod row_description;
pub mod startup;
#[cfg(test)]
mod tests;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Largest message that is read or written, its tag and length included. PostgreSQL itself goes
/// to 1 GiB; what is held in memory for one connection must be less.
pub const MAX_MESSAGE: usize = 64 << 20;
/// Tag and length.
pub const HEADER: usize = 5;
/// Most columns of a row, parameters of a statement or formats: PostgreSQL sends a count of 16
/// bits.
pub const MAX_COUNT: usize = 65_535;

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The message ends before what it says it holds.
    #[error("{0}: the message is shorter than what it says it holds")]
    Short(&'static str),
    /// Something follows the end of what the message holds.
    #[error("{0}: bytes follow the message's end")]
    Trailing(&'static str),
    /// A length or count that cannot be.
    #[error("{0}: a length or count is out of its bounds")]
    Bounds(&'static str),
    /// A text without its end, or not in UTF-8.
    #[error("{0}: a text is not UTF-8 or has no end")]
    Text(&'static str),
    /// A value that the protocol does not know.
    #[error("{0}: a value is not one that the protocol knows")]
    Value(&'static str),
}

/// One message as it came: its tag, and its body without the length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The first byte.
    pub tag: u8,
    /// What comes after the length.
    pub body: Bytes,
}

impl Message {
    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        HEADER + self.body.len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        put(out, self.tag, |body| body.put_slice(&self.body));
    }
}

/// Takes the next whole message off the front of `buf`; `None` when more bytes are needed.
///
/// # Errors
/// A length that cannot be, or one past `max` (bytes, tag and length included).
pub fn take(buf: &mut BytesMut, max: usize) -> Result<Option<Message>, CodecError> {
    let Some(header) = buf.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let [tag, a, b, c, d] = *header;
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < 4 || length >= max.min(MAX_MESSAGE) {
        return Err(CodecError::Bounds("message"));
    }
    if buf.len() < length + 1 {
        buf.reserve(length + 1 - buf.len());
        return Ok(None);
    }
    let mut message = buf.split_to(length + 1).freeze();
    message.advance(HEADER);
    Ok(Some(Message { tag, body: message }))
}

/// Appends a message whose body `write` makes; its length is filled in.
pub fn put(out: &mut BytesMut, tag: u8, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    write(out);
    set_length(out, at);
}

/// Fills in the length that begins at `at` and counts itself.
fn set_length(out: &mut BytesMut, at: usize) {
    // Bodies are bounded by MAX_MESSAGE on the way in, and what is made here is smaller.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a text with the zero byte that ends it; what follows a zero byte in it is left out.
pub fn put_text(out: &mut BytesMut, text: &str) {
    out.put_slice(text.split('\0').next().unwrap_or_default().as_bytes());
    out.put_u8(0);
}

/// Appends a 16-bit count.
fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u16(u16::try_from(count).unwrap_or(u16::MAX));
}

/// Appends a value with its length, or -1 for NULL.
pub(super) fn put_value(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
            out.put_slice(value);
        }
    }
}

/// Reads a body from its front, and knows what it reads for its errors.
#[derive(Clone, Debug)]
struct Reader {
    body: Bytes,
    what: &'static str,
}

impl Reader {
    fn new(body: &Bytes, what: &'static str) -> Self {
        Self { body: body.clone(), what }
    }

    fn bytes(&mut self, count: usize) -> Result<Bytes, CodecError> {
        match self.body.len() >= count {
            true => Ok(self.body.split_to(count)),
            false => Err(CodecError::Short(self.what)),
        }
    }

    fn u8(&mut self) -> Result<u8, CodecError> {
        self.body.try_get_u8().map_err(|_| CodecError::Short(self.what))
    }

    fn u16(&mut self) -> Result<u16, CodecError> {
        self.body.try_get_u16().map_err(|_| CodecError::Short(self.what))
    }

    fn i16(&mut self) -> Result<i16, CodecError> {
        self.body.try_get_i16().map_err(|_| CodecError::Short(self.what))
    }

    fn u32(&mut self) -> Result<u32, CodecError> {
        self.body.try_get_u32().map_err(|_| CodecError::Short(self.what))
    }

    fn i32(&mut self) -> Result<i32, CodecError> {
        self.body.try_get_i32().map_err(|_| CodecError::Short(self.what))
    }

    /// A 16-bit count of things that each take at least `least` bytes of what is left.
    fn count(&mut self, least: usize) -> Result<usize, CodecError> {
        let count = usize::from(self.u16()?);
        match count * least <= self.body.len() {
            true => Ok(count),
            false => Err(CodecError::Short(self.what)),
        }
    }

    /// A text without the zero byte that ends it.
    fn text(&mut self) -> Result<String, CodecError> {
        let end = memchr::memchr(0, &self.body).ok_or(CodecError::Text(self.what))?;
        let text = self.body.split_to(end);
        self.body.advance(1);
        String::from_utf8(text.to_vec()).map_err(|_| CodecError::Text(self.what))
    }

    /// A value with its length; `None` is NULL.
    fn value(&mut self) -> Result<Option<Bytes>, CodecError> {
        match self.i32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| CodecError::Bounds(self.what))?;
                self.bytes(length).map(Some)
            }
        }
    }

    fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.body)
    }

    fn end(self) -> Result<(), CodecError> {
        match self.body.is_empty() {
            true => Ok(()),
            false => Err(CodecError::Trailing(self.what)),
        }
    }
}
