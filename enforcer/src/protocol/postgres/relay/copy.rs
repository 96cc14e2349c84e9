//! `COPY` data from the agent, and the replication protocol, in which data goes both ways.

use super::{Ended, Relay, odd};
use crate::flow::Outcome;
use crate::protocol::postgres::codec::{
    Message, backend, copy, data_row, error_response, frontend, row_description,
};
use crate::protocol::postgres::connect::upstream_broke;
use crate::protocol::postgres::serve::broke;
use crate::protocol::postgres::talk::Talk;
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};

/// Largest piece of data that was read before the decision, in bytes.
const PIECE: usize = 64 << 10;

impl Relay<'_> {
    /// Sends the data that were read, and were recorded, before the decision.
    pub(super) async fn copy_read(&mut self, data: &Bytes) -> Result<(), Outcome> {
        self.copied = true;
        self.ledger.sent(data.len());
        for piece in data.chunks(PIECE) {
            copy::put_data(self.talk.upstream.out(), piece);
            self.talk.upstream.flush().await.map_err(|error| upstream_broke(&error))?;
        }
        frontend::put_bare(self.talk.upstream.out(), copy::DONE);
        self.put_flush();
        self.talk.upstream.flush().await.map_err(|error| upstream_broke(&error))
    }

    /// Takes `COPY` data from the client to the upstream, each piece recorded first; ends early
    /// when the upstream fails.
    pub(super) async fn copy_in(&mut self) -> Result<Option<Ended>, Outcome> {
        self.copied = true;
        self.turn(false).await?;
        self.talk.client.flush().await.map_err(|error| broke(&error))?;
        loop {
            let Talk { client, upstream, .. } = &mut *self.talk;
            let from_client = tokio::select! {
                biased;
                message = upstream.next() => {
                    let message = message.map_err(|error| upstream_broke(&error))?;
                    match message.tag {
                        error_response::ERROR => return self.error(&message).map(Some),
                        _ if backend::is_asynchronous(&message) => self.aside(&message)?,
                        _ => return Err(odd(&message)),
                    }
                    continue;
                }
                message = client.next() => message.map_err(|error| broke(&error))?,
            };
            if self.carry(&from_client).await? {
                return Ok(None);
            }
        }
    }

    /// Records a piece of the client's data and sends it; whether it was the last.
    async fn carry(&mut self, from_client: &Message) -> Result<bool, Outcome> {
        let ends = match from_client.tag {
            copy::DATA => false,
            copy::DONE | copy::FAIL => true,
            // The server ignores them while it takes data.
            frontend::SYNC | frontend::FLUSH => return Ok(false),
            frontend::TERMINATE => return Err(Outcome::cancelled()),
            _ => return Err(Outcome::refused("bad-message")),
        };
        let data = match from_client.tag {
            copy::DATA => from_client.body.clone(),
            _ => Bytes::new(),
        };
        self.ledger.sent(data.len());
        let piece = v1::Body { data, last: ends, ..v1::Body::default() };
        let recorded = self.ledger.append([Kind::RequestBody(piece)]).await;
        recorded.map_err(|error| Outcome::cut(error.code(), error))?;
        from_client.put(self.talk.upstream.out());
        if ends {
            self.put_flush();
        }
        self.talk.upstream.flush().await.map_err(|error| upstream_broke(&error))?;
        Ok(ends)
    }

    /// In a series the server keeps what it has to say of the data until it is asked; the client
    /// would ask by its `Sync`, which is not looked at before this is answered.
    fn put_flush(&mut self) {
        if self.talk.unsynced {
            frontend::put_bare(self.talk.upstream.out(), frontend::FLUSH);
        }
    }

    /// Delivers all that a command of the replication protocol brings: rows, `COPY` data, or data
    /// both ways at once. No mask applies to it, or it would not have been permitted.
    pub(super) async fn stream(&mut self) -> Result<Ended, Outcome> {
        let mut ended = Ended::Complete;
        let mut both = false;
        loop {
            let message = match both {
                false => self.next().await?,
                true => match self.either().await? {
                    Side::Upstream(message) => message,
                    Side::Client(message) => {
                        both = !self.carry(&message).await?;
                        continue;
                    }
                },
            };
            match message.tag {
                backend::READY => {
                    let state = backend::ready(&message.body).map_err(|_| odd(&message))?;
                    self.talk.is_ready(state);
                    self.deliver(&message);
                    self.turn(true).await?;
                    return Ok(ended);
                }
                error_response::ERROR => {
                    both = false;
                    ended = self.error(&message)?;
                }
                copy::BOTH_RESPONSE => {
                    both = true;
                    self.deliver(&message);
                }
                copy::IN_RESPONSE => {
                    self.deliver(&message);
                    if let Some(failed) = self.copy_in().await? {
                        ended = failed;
                    }
                }
                backend::COMPLETE => {
                    both = false;
                    self.deliver(&message);
                }
                row_description::TAG
                | data_row::TAG
                | copy::OUT_RESPONSE
                | copy::DATA
                | copy::DONE => self.deliver(&message),
                _ if backend::is_asynchronous(&message) => self.aside(&message)?,
                _ => return Err(odd(&message)),
            }
        }
    }

    /// The next message of either side. What is there to be delivered goes first.
    async fn either(&mut self) -> Result<Side, Outcome> {
        let there = self.talk.upstream.buffered().map_err(|error| upstream_broke(&error))?;
        if there.is_none() || self.page.len() >= super::PAGE {
            self.turn(false).await?;
        }
        if let Some(message) = there {
            return Ok(Side::Upstream(message));
        }
        let Talk { client, upstream, .. } = &mut *self.talk;
        client.flush().await.map_err(|error| broke(&error))?;
        // Neither goes first: a server that always has something to say must still be answered.
        tokio::select! {
            message = upstream.next() => {
                Ok(Side::Upstream(message.map_err(|error| upstream_broke(&error))?))
            }
            message = client.next() => Ok(Side::Client(message.map_err(|error| broke(&error))?)),
        }
    }
}

/// Who sent a message.
enum Side {
    Upstream(Message),
    Client(Message),
}
