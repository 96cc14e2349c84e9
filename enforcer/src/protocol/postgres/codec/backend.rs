//! What a server sends beside rows, errors and `COPY`.

use super::{CodecError, Message, Reader, put, put_count, put_text};
use bytes::{BufMut, Bytes, BytesMut};

/// `Authentication...`.
pub const AUTHENTICATION: u8 = b'R';
/// `BackendKeyData`.
pub const KEY_DATA: u8 = b'K';
/// `ParameterStatus`.
pub const PARAMETER: u8 = b'S';
/// `ReadyForQuery`.
pub const READY: u8 = b'Z';
/// `CommandComplete`.
pub const COMPLETE: u8 = b'C';
/// `EmptyQueryResponse`.
pub const EMPTY: u8 = b'I';
/// `ParseComplete`.
pub const PARSED: u8 = b'1';
/// `BindComplete`.
pub const BOUND: u8 = b'2';
/// `CloseComplete`.
pub const CLOSED: u8 = b'3';
/// `NoData`.
pub const NO_DATA: u8 = b'n';
/// `ParameterDescription`.
pub const PARAMETERS: u8 = b't';
/// `PortalSuspended`.
pub const SUSPENDED: u8 = b's';
/// `NotificationResponse`.
pub const NOTIFICATION: u8 = b'A';
/// `NegotiateProtocolVersion`.
pub const NEGOTIATE: u8 = b'v';

/// Whether a transaction is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// None.
    Idle,
    /// A transaction block.
    Open,
    /// A transaction block that can only be ended.
    Failed,
}

/// What the server wants for a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing more.
    Ok,
    /// The password in clear.
    Clear,
    /// The password hashed with this salt.
    Md5([u8; 4]),
    /// One of these mechanisms.
    Sasl(Vec<String>),
    /// The next step of the mechanism.
    SaslContinue(Bytes),
    /// Its last step.
    SaslFinal(Bytes),
    /// Anything else, by its number.
    Other(u32),
}

/// Reads an `Authentication...` message.
///
/// # Errors
/// What does not fit its length.
pub fn authentication(body: &Bytes) -> Result<Authentication, CodecError> {
    let mut reader = Reader::new(body, "Authentication");
    let read = match reader.u32()? {
        0 => Authentication::Ok,
        3 => Authentication::Clear,
        5 => {
            let salt = reader.u32()?;
            Authentication::Md5(salt.to_be_bytes())
        }
        10 => {
            let mut mechanisms = Vec::new();
            loop {
                let mechanism = reader.text()?;
                if mechanism.is_empty() {
                    break;
                }
                mechanisms.push(mechanism);
            }
            Authentication::Sasl(mechanisms)
        }
        11 => return Ok(Authentication::SaslContinue(reader.rest())),
        12 => return Ok(Authentication::SaslFinal(reader.rest())),
        other => return Ok(Authentication::Other(other)),
    };
    reader.end()?;
    Ok(read)
}

/// Reads a `BackendKeyData`: the process and its cancel key.
///
/// # Errors
/// What does not fit its length, or a key that is longer than the protocol allows.
pub fn key_data(body: &Bytes) -> Result<(u32, Bytes), CodecError> {
    let mut reader = Reader::new(body, "BackendKeyData");
    let process = reader.u32()?;
    let key = reader.rest();
    match (4..=super::startup::MAX_KEY).contains(&key.len()) {
        true => Ok((process, key)),
        false => Err(CodecError::Bounds("BackendKeyData")),
    }
}

/// Reads a `ParameterStatus`: name and value.
///
/// # Errors
/// What does not fit its length.
pub fn parameter(body: &Bytes) -> Result<(String, String), CodecError> {
    let mut reader = Reader::new(body, "ParameterStatus");
    let pair = (reader.text()?, reader.text()?);
    reader.end()?;
    Ok(pair)
}

/// Reads a `ReadyForQuery`.
///
/// # Errors
/// What does not fit its length, or a state that the protocol does not know.
pub fn ready(body: &Bytes) -> Result<Transaction, CodecError> {
    match &body[..] {
        b"I" => Ok(Transaction::Idle),
        b"T" => Ok(Transaction::Open),
        b"E" => Ok(Transaction::Failed),
        _ => Err(CodecError::Value("ReadyForQuery")),
    }
}

/// Reads a `ParameterDescription`: the parameters' types.
///
/// # Errors
/// What does not fit its length.
pub fn parameters(body: &Bytes) -> Result<Vec<u32>, CodecError> {
    let mut reader = Reader::new(body, "ParameterDescription");
    let count = reader.count(4)?;
    let types = (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok(types)
}

/// A notification that another session sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The process that sent it.
    pub process: u32,
    /// The channel.
    pub channel: String,
    /// What it says.
    pub payload: String,
}

/// Reads a `NotificationResponse`.
///
/// # Errors
/// What does not fit its length.
pub fn notification(body: &Bytes) -> Result<Notification, CodecError> {
    let mut reader = Reader::new(body, "NotificationResponse");
    let read =
        Notification { process: reader.u32()?, channel: reader.text()?, payload: reader.text()? };
    reader.end()?;
    Ok(read)
}

impl Notification {
    /// Appends it as it goes over the wire.
    pub fn put(&self, out: &mut BytesMut) {
        put(out, NOTIFICATION, |body| {
            body.put_u32(self.process);
            put_text(body, &self.channel);
            put_text(body, &self.payload);
        });
    }
}

/// The tag of a `CommandComplete`.
///
/// # Errors
/// What does not fit its length.
pub fn complete(body: &Bytes) -> Result<String, CodecError> {
    let mut reader = Reader::new(body, "CommandComplete");
    let tag = reader.text()?;
    reader.end()?;
    Ok(tag)
}

/// Reads a `NegotiateProtocolVersion`: the newest minor version that the server speaks, and the
/// options of the start-up that it did not know.
///
/// # Errors
/// What does not fit its length.
pub fn negotiate(body: &Bytes) -> Result<(u16, Vec<String>), CodecError> {
    const WHAT: &str = "NegotiateProtocolVersion";
    let mut reader = Reader::new(body, WHAT);
    // 3.2 is 196,610 there, as in the start-up; servers before it sent the minor version alone.
    let minor = u16::try_from(reader.u32()? & 0xffff).unwrap_or_default();
    let count = reader.u32()? as usize;
    if count > reader.body.len() {
        return Err(CodecError::Short(WHAT));
    }
    let options = (0..count).map(|_| reader.text()).collect::<Result<_, _>>()?;
    reader.end()?;
    Ok((minor, options))
}

/// Appends an `AuthenticationOk`.
pub fn put_authenticated(out: &mut BytesMut) {
    put(out, AUTHENTICATION, |body| body.put_u32(0));
}

/// Appends a `BackendKeyData`.
pub fn put_key_data(out: &mut BytesMut, process: u32, key: &[u8]) {
    put(out, KEY_DATA, |body| {
        body.put_u32(process);
        body.put_slice(key);
    });
}

/// Appends a `ParameterStatus`.
pub fn put_parameter(out: &mut BytesMut, name: &str, value: &str) {
    put(out, PARAMETER, |body| {
        put_text(body, name);
        put_text(body, value);
    });
}

/// Appends a `ReadyForQuery`.
pub fn put_ready(out: &mut BytesMut, state: Transaction) {
    let letter = match state {
        Transaction::Idle => b'I',
        Transaction::Open => b'T',
        Transaction::Failed => b'E',
    };
    put(out, READY, |body| body.put_u8(letter));
}

/// Appends a `CommandComplete`.
pub fn put_complete(out: &mut BytesMut, tag: &str) {
    put(out, COMPLETE, |body| put_text(body, tag));
}

/// Appends a `ParameterDescription`.
pub fn put_parameters(out: &mut BytesMut, types: &[u32]) {
    put(out, PARAMETERS, |body| {
        put_count(body, types.len());
        for oid in types {
            body.put_u32(*oid);
        }
    });
}

/// Appends a `NegotiateProtocolVersion`.
pub fn put_negotiate(out: &mut BytesMut, minor: u16, options: &[&str]) {
    put(out, NEGOTIATE, |body| {
        body.put_u16(super::startup::MAJOR);
        body.put_u16(minor);
        body.put_u32(u32::try_from(options.len()).unwrap_or_default());
        for option in options {
            put_text(body, option);
        }
    });
}

/// Appends a message that is its tag alone (`ParseComplete`, `NoData`, ...).
pub fn put_bare(out: &mut BytesMut, tag: u8) {
    put(out, tag, |_| {});
}

/// Whether a server may send this message at any time, whatever was asked.
pub fn is_asynchronous(message: &Message) -> bool {
    matches!(message.tag, PARAMETER | NOTIFICATION | super::error_response::NOTICE)
}
