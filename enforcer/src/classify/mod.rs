//! Says what a client speaks, from its first bytes alone.
//!
//! Detection is a pure function over a buffer; whoever reads the bytes replays
//! them through [`PrefixedIo`], so nothing is lost. What is not recognised is
//! [`Spoken::Unknown`], a value that the caller must refuse: this module never
//! guesses and never waits longer than it is told.

mod client_hello;
mod prefixed;

pub use client_hello::{ClientHello, HelloError, parse as parse_client_hello};
pub use prefixed::PrefixedIo;

use crate::protocol::postgres::codec::startup;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The client connection preface of HTTP/2 (RFC 9113 section 3.4).
pub const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes that detection reads at most: a ClientHello with post-quantum key shares is about
/// 2 KiB, and one record of 16 KiB with its header always fits.
pub const MAX_PREFIX: usize = 20 << 10;

/// A method longer than this is not recognised (`http.method` of 24 bytes covers WebDAV and
/// every registered method).
const MAX_METHOD: usize = 24;

/// What the first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// A complete TLS ClientHello.
    Tls(ClientHello),
    /// The head of an HTTP/1 request.
    Http1,
    /// The HTTP/2 connection preface, without TLS.
    Http2,
    /// The first packet of PostgreSQL's protocol: a start-up, or a request for TLS, for GSSAPI or
    /// to cancel.
    Postgres,
    /// Anything else, with the reason; to be refused.
    Unknown(&'static str),
}

/// What a prefix says so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detected {
    /// More bytes are needed.
    NeedMore,
    /// No further byte can change this.
    Is(Spoken),
}

/// Looks at the bytes that a client has sent so far.
pub fn detect(buf: &[u8]) -> Detected {
    let Some(&first) = buf.first() else {
        return Detected::NeedMore;
    };
    if first == client_hello::HANDSHAKE {
        return match client_hello::parse(buf) {
            Ok(Some(hello)) => Detected::Is(Spoken::Tls(hello)),
            Ok(None) if buf.len() < MAX_PREFIX => Detected::NeedMore,
            Ok(None) => Detected::Is(Spoken::Unknown("client-hello-too-large")),
            Err(error) => Detected::Is(Spoken::Unknown(error.code())),
        };
    }
    match startup::begins(buf) {
        Some(true) => return Detected::Is(Spoken::Postgres),
        Some(false) => {}
        None => return Detected::NeedMore,
    }
    let preface = buf.len().min(H2_PREFACE.len());
    if buf[..preface] == H2_PREFACE[..preface] {
        // "PRI" is reserved for this preface, so no HTTP/1 method is lost by waiting.
        return if preface == H2_PREFACE.len() {
            Detected::Is(Spoken::Http2)
        } else {
            Detected::NeedMore
        };
    }
    http1(buf)
}

/// An HTTP/1 request line begins with a token in capitals, a space and `/`, `*` or a scheme.
fn http1(buf: &[u8]) -> Detected {
    const UNKNOWN: Detected = Detected::Is(Spoken::Unknown("unknown-protocol"));
    let method = buf
        .iter()
        .position(|b| !(b.is_ascii_uppercase() || *b == b'-' || *b == b'_'))
        .unwrap_or(buf.len());
    if method > MAX_METHOD {
        return UNKNOWN;
    }
    match (buf.get(method), buf.get(method + 1)) {
        (None, _) => Detected::NeedMore,
        (Some(b' '), None) if method > 0 => Detected::NeedMore,
        (Some(b' '), Some(target))
            if method > 0
                && (*target == b'/'
                    || *target == b'*'
                    || target.is_ascii_alphanumeric()
                    || *target == b'[') =>
        {
            Detected::Is(Spoken::Http1)
        }
        _ => UNKNOWN,
    }
}

/// A connection whose protocol is known, or known to be unknown.
#[derive(Debug)]
pub struct Classified<T> {
    /// The connection, with the bytes that were looked at put back.
    pub io: PrefixedIo<T>,
    /// What it speaks.
    pub spoken: Spoken,
}

/// Why a connection was not classified.
#[derive(Debug, thiserror::Error)]
pub enum ClassifyError {
    /// Nothing that could be recognised arrived in time.
    #[error("the client sent nothing that could be recognised within {0:?}")]
    Timeout(Duration),
    /// The client closed first.
    #[error("the client closed the connection before it said what it speaks")]
    Closed,
    /// Reading failed.
    #[error("reading the client's first bytes failed: {0}")]
    Io(#[from] io::Error),
}

/// Reads until [`detect`] knows, at most `limit` long. Not cancel safe.
pub async fn classify<T: AsyncRead + Unpin>(
    mut io: T,
    limit: Duration,
) -> Result<Classified<T>, ClassifyError> {
    let mut buf = Vec::with_capacity(2048);
    let read = async {
        loop {
            if io.read_buf(&mut buf).await? == 0 {
                return Err(ClassifyError::Closed);
            }
            if let Detected::Is(spoken) = detect(&buf) {
                return Ok(spoken);
            }
        }
    };
    let spoken =
        tokio::time::timeout(limit, read).await.map_err(|_| ClassifyError::Timeout(limit))??;
    Ok(Classified { io: PrefixedIo::new(buf.into(), io), spoken })
}

#[cfg(test)]
mod tests;
