//! Says no to a ClientHello in TLS's own words, before any handshake.

use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// Why a ClientHello is turned down (RFC 8446 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alert {
    /// It cannot be read.
    DecodeError = 50,
    /// It may not be done here.
    AccessDenied = 49,
    /// It has no server name (section 9.2).
    MissingExtension = 109,
    /// Its server name is not the one that the connection was made to.
    UnrecognizedName = 112,
}

impl Alert {
    /// The record (RFC 8446 sections 5.1 and 6): an alert, fatal. Before keys it is plain.
    pub fn record(self) -> [u8; 7] {
        const ALERT: u8 = 21;
        const FATAL: u8 = 2;
        [ALERT, 3, 3, 0, 2, FATAL, self as u8]
    }

    /// Sends it and closes, in at most `limit`. A client that is gone needs no telling.
    pub async fn send<T: AsyncWrite + Unpin>(self, io: &mut T, limit: Duration) {
        let send = async {
            io.write_all(&self.record()).await?;
            io.shutdown().await
        };
        let _ = tokio::time::timeout(limit, send).await;
    }
}
