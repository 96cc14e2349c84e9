//! A connection that speaks in messages, whichever side it is.

use super::codec::startup::{self, First};
use super::codec::{self, CodecError, MAX_MESSAGE, Message};
use bytes::BytesMut;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that are read ahead of a client that sends while it waits.
const AHEAD: usize = 256 << 10;
/// What one read may bring, when nothing was read yet.
const CHUNK: usize = 32 << 10;
/// With less room than this a read gets a new chunk.
const LEAST: usize = 4 << 10;

/// A stream of bytes, plain or in TLS.
pub(in crate::protocol) trait Io:
    AsyncRead + AsyncWrite + Unpin + Send + 'static
{
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Io for T {}

/// Why a connection gave no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    /// The other side closed it.
    #[error("the connection was closed")]
    Closed,
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is not of the protocol.
    #[error("not a message of the protocol: {0}")]
    Codec(#[from] CodecError),
    /// It did not come in time.
    #[error("nothing came in time")]
    Timeout,
}

/// One side's connection, with what was read of it and what is still to be written.
pub(super) struct Wire {
    io: Box<dyn Io>,
    read: BytesMut,
    write: BytesMut,
}

impl Wire {
    pub(super) fn new(io: impl Io) -> Self {
        Self { io: Box::new(io), read: BytesMut::new(), write: BytesMut::new() }
    }

    /// The stream itself, when nothing was read ahead or is still to be written.
    pub(super) fn into_io(self) -> Option<Box<dyn Io>> {
        (self.read.is_empty() && self.write.is_empty()).then_some(self.io)
    }

    /// What is to be written next.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.write
    }

    /// Writes what is to be written. Cancel safe: what was written is gone from the buffer.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        while !self.write.is_empty() {
            if self.io.write_buf(&mut self.write).await? == 0 {
                return Err(WireError::Closed);
            }
        }
        Ok(self.io.flush().await?)
    }

    /// Says that nothing more is sent: in TLS by an alert of its own, without which a client
    /// takes the end for a failure. The other side may be gone.
    pub(super) async fn close(&mut self) {
        let _ = self.io.shutdown().await;
    }

    /// A message that is there already.
    pub(super) fn buffered(&mut self) -> Result<Option<Message>, WireError> {
        Ok(codec::take(&mut self.read, MAX_MESSAGE)?)
    }

    /// The tag of the next message, when it is there already as a whole.
    pub(super) fn peek(&self) -> Option<u8> {
        let (header, _) = self.read.split_first_chunk::<{ codec::HEADER }>()?;
        let [tag, length @ ..] = *header;
        let length = u32::from_be_bytes(length) as usize;
        (self.read.len() > length).then_some(tag)
    }

    /// The next message. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Message, WireError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The first packet of a connection. Cancel safe.
    pub(super) async fn first(&mut self) -> Result<First, WireError> {
        loop {
            if let Some(first) = startup::take(&mut self.read)? {
                return Ok(first);
            }
            self.fill().await?;
        }
    }

    /// One byte: the answer to an `SSLRequest`. Nothing behind it is read.
    pub(super) async fn byte(&mut self) -> Result<u8, WireError> {
        Ok(self.io.read_u8().await?)
    }

    /// Ends when the other side is gone; what it sends meanwhile is kept. Cancel safe.
    pub(super) async fn gone(&mut self) {
        while self.read.len() < AHEAD {
            if self.fill().await.is_err() {
                return;
            }
        }
        // It sent more than is kept, so it is still there as far as can be told.
        std::future::pending().await
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        if self.read.capacity() - self.read.len() < LEAST {
            self.read.reserve(CHUNK);
        }
        match self.io.read_buf(&mut self.read).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("read", &self.read.len()).finish_non_exhaustive()
    }
}
