//! The data of `COPY ... FROM STDIN` that people must see: asked for and read before the decision.
//!
//! The server would ask for them once it runs the statement, so the question is put in its place,
//! and not passed on when the server puts it.

use super::codec::{copy, frontend};
use super::io::{Wire, WireError};
use crate::decide::Denial;
use bytes::{Bytes, BytesMut};
use std::time::Duration;

/// All of the data may take so many times the patience that one piece has.
const WHOLE: u32 = 6;

/// Sends the question that was written and reads the data: at most `limit` bytes, each piece
/// within `patience`.
///
/// # Errors
/// Why the statement is refused: they are too long, do not come, or the client gave up.
pub(super) async fn read(
    client: &mut Wire,
    limit: usize,
    patience: Duration,
) -> Result<Bytes, Denial> {
    match tokio::time::timeout(patience * WHOLE, take(client, limit, patience)).await {
        Ok(read) => read,
        Err(_) => Err(late()),
    }
}

async fn take(client: &mut Wire, limit: usize, patience: Duration) -> Result<Bytes, Denial> {
    let gone = |error: WireError| Denial::new("cancelled", error.to_string());
    client.flush().await.map_err(gone)?;
    let mut data = BytesMut::new();
    loop {
        let next = tokio::time::timeout(patience, client.next()).await.map_err(|_| late())?;
        let message = next.map_err(gone)?;
        match message.tag {
            copy::DATA if data.len() + message.body.len() > limit => {
                let why = format!(
                    "people must see the data of COPY, and there are more than {limit} bytes of \
                     them, which is more than is held (`limits.approval_body`); send fewer at once"
                );
                return Err(Denial::new("body-too-large", why));
            }
            copy::DATA => data.extend_from_slice(&message.body),
            copy::DONE => return Ok(data.freeze()),
            // The server ignores them while it takes data.
            frontend::SYNC | frontend::FLUSH => {}
            copy::FAIL => return Err(Denial::new("cancelled", "the client gave up its COPY")),
            _ => {
                let why = "what came was neither the data of COPY nor their end";
                return Err(Denial::new("bad-message", why));
            }
        }
    }
}

fn late() -> Denial {
    Denial::new("body-timeout", "people must see the data of COPY, and they did not come in time")
}
