//! What a connection begins with: packets without a tag.

use super::{CodecError, Reader, put_text, set_length};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Asks for TLS (`SSLRequest`).
pub const SSL_REQUEST: u32 = 80_877_103;
/// Asks for GSSAPI encryption (`GSSENCRequest`).
pub const GSSENC_REQUEST: u32 = 80_877_104;
/// Asks to cancel what another connection runs (`CancelRequest`).
pub const CANCEL_REQUEST: u32 = 80_877_102;
/// The major version that is spoken.
pub const MAJOR: u16 = 3;
/// The newest minor version that is known: 3.2, with longer cancel keys.
pub const NEWEST: u16 = 2;
/// Largest first packet (`MAX_STARTUP_PACKET_LENGTH` in PostgreSQL's `pqcomm.h`).
pub const MAX_PACKET: usize = 10_000;
/// Longest cancel key, in bytes (3.2).
pub const MAX_KEY: usize = 256;
/// Most parameters of a start-up.
const MAX_PARAMETERS: usize = 256;

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// `SSLRequest`.
    Tls,
    /// `GSSENCRequest`.
    Gss,
    /// `CancelRequest`.
    Cancel {
        /// Which backend.
        process: u32,
        /// Its secret, 4 bytes in 3.0 and up to 256 in 3.2.
        key: Bytes,
    },
    /// `StartupMessage`.
    Startup(Startup),
}

/// Who connects, to what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// The minor version that is asked for.
    pub minor: u16,
    /// Parameters in the order that they were sent; names are not there twice.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// The parameter of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        let at = out.len();
        out.put_u32(0);
        out.put_u16(MAJOR);
        out.put_u16(self.minor);
        for (name, value) in &self.parameters {
            put_text(out, name);
            put_text(out, value);
        }
        out.put_u8(0);
        set_length(out, at);
    }
}

/// Whether bytes can be the beginning of a first packet; `None` when more of them are needed.
pub fn begins(buf: &[u8]) -> Option<bool> {
    // A length below 10,000 begins with two zero bytes, and nothing else that is known does.
    if buf.iter().take(2).any(|byte| *byte != 0) {
        return Some(false);
    }
    let (mut head, _) = buf.split_at_checked(8)?;
    let length = head.get_u32() as usize;
    let code = head.get_u32();
    let known = matches!(code, SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST)
        || code >> 16 == u32::from(MAJOR);
    Some(known && (8..=MAX_PACKET).contains(&length))
}

/// Takes a first packet off the front of `buf`; `None` when more bytes are needed.
///
/// # Errors
/// What is not such a packet, or another major version than 3.
pub fn take(buf: &mut BytesMut) -> Result<Option<First>, CodecError> {
    const WHAT: &str = "start-up packet";
    let Some(head) = buf.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*head) as usize;
    if !(8..=MAX_PACKET).contains(&length) {
        return Err(CodecError::Bounds(WHAT));
    }
    if buf.len() < length {
        return Ok(None);
    }
    let mut body = buf.split_to(length).freeze();
    body.advance(4);
    let mut reader = Reader::new(&body, WHAT);
    let code = reader.u32()?;
    let first = match code {
        SSL_REQUEST => First::Tls,
        GSSENC_REQUEST => First::Gss,
        CANCEL_REQUEST => {
            let process = reader.u32()?;
            let key = reader.rest();
            if !(4..=MAX_KEY).contains(&key.len()) {
                return Err(CodecError::Bounds(WHAT));
            }
            First::Cancel { process, key }
        }
        version if version >> 16 == u32::from(MAJOR) => {
            // The low 16 bits: the mask leaves nothing else.
            let minor = u16::try_from(version & 0xffff).unwrap_or_default();
            First::Startup(Startup { minor, parameters: parameters(&mut reader)? })
        }
        _ => return Err(CodecError::Value(WHAT)),
    };
    reader.end()?;
    Ok(Some(first))
}

fn parameters(reader: &mut Reader) -> Result<Vec<(String, String)>, CodecError> {
    let mut parameters: Vec<(String, String)> = Vec::new();
    loop {
        let name = reader.text()?;
        if name.is_empty() {
            return Ok(parameters);
        }
        let value = reader.text()?;
        // Twice the same name: which of them holds is up to the server.
        if parameters.len() >= MAX_PARAMETERS || parameters.iter().any(|(known, _)| *known == name)
        {
            return Err(CodecError::Bounds("start-up packet"));
        }
        parameters.push((name, value));
    }
}

/// Appends an `SSLRequest`.
pub fn put_tls_request(out: &mut BytesMut) {
    out.put_u32(8);
    out.put_u32(SSL_REQUEST);
}

/// Appends a `CancelRequest`.
pub fn put_cancel(out: &mut BytesMut, process: u32, key: &[u8]) {
    let at = out.len();
    out.put_u32(0);
    out.put_u32(CANCEL_REQUEST);
    out.put_u32(process);
    out.put_slice(key);
    set_length(out, at);
}
