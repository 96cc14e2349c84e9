//! Open HTTP connections to upstreams, kept for the next operation of the same agent.
//!
//! A connection is shared only by operations of one agent to one place under one
//! bundle, and only a [`Permit`] can take it. Every new connection is resolved,
//! judged and verified anew by the dialer and TLS.

use super::body::Out;
use crate::decide::Permit;
use crate::flow::{Flow, Place};
use crate::principal::AgentName;
use crate::tls::client::{Agreed, Offer};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

/// How long an unused connection is kept; shorter than what servers commonly keep.
const KEPT: Duration = Duration::from_secs(45);
/// Unused connections that are kept of one agent to one place, and in all.
const KEPT_PER_KEY: usize = 64;
const KEPT_IN_ALL: usize = 2048;
/// How long a connection that was just used may take to be ready again.
const SETTLES: Duration = Duration::from_millis(20);

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub struct ConnectError {
    /// The stable code.
    pub code: &'static str,
    /// What happened, for the transcript.
    pub detail: String,
}

/// The far end of a connection, as it is recorded.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address that was dialled.
    pub addr: std::net::SocketAddr,
    /// What TLS agreed on, when there is TLS.
    pub tls: Option<Agreed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    agent: AgentName,
    target: String,
    place: Place,
    tls: bool,
    /// A new bundle may allow other addresses: its connections are its own.
    policy: String,
}

#[derive(Debug)]
struct Kept {
    sender: http1::SendRequest<Out>,
    peer: Peer,
    since: Instant,
}

/// The one HTTP/2 connection of a key. Its lock is held while it is made, so that many streams
/// at once share one.
#[derive(Debug, Default)]
struct Multiplexed {
    open: Option<(http2::SendRequest<Out>, Peer)>,
    /// The upstream chose HTTP/1.1.
    only_http1: bool,
    failed: Option<(Instant, ConnectError)>,
}

#[derive(Debug, Default)]
struct Entry {
    kept: Vec<Kept>,
    multiplexed: Arc<tokio::sync::Mutex<Multiplexed>>,
}

/// The open connections.
#[derive(Debug, Default)]
pub struct Pool(Mutex<HashMap<Key, Entry>>);

/// A connection in one operation's hands.
#[derive(Debug)]
pub struct Lease {
    sender: Sender,
    peer: Peer,
    key: Key,
    reused: bool,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Out>),
    Http2(http2::SendRequest<Out>),
}

/// The request did not get through.
#[derive(Debug)]
pub struct SendError {
    /// The request, when nothing of it was written.
    pub unsent: Option<Request<Out>>,
    /// Why.
    pub error: hyper::Error,
}

impl Lease {
    /// The far end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    /// Whether it was used before, and may be closed by now.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Sends a request; ends with the response's head.
    pub async fn send(&mut self, request: Request<Out>) -> Result<Response<Incoming>, SendError> {
        let sent = match &mut self.sender {
            Sender::Http1(sender) => sender.try_send_request(request).await,
            Sender::Http2(sender) => sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| SendError {
            unsent: error.take_message(),
            error: error.into_error(),
        })
    }
}

impl Pool {
    /// A connection for a permitted operation: one that is kept, or a new one. With `http2` the
    /// upstream is offered it (over TLS), or it is known that the client speaks it (without).
    pub async fn connect(
        &self,
        flow: &Flow,
        permit: &Permit,
        tls: bool,
        http2: bool,
        fresh: bool,
    ) -> Result<Lease, ConnectError> {
        let key = Key {
            agent: flow.principal.agent.clone(),
            target: permit.target().name.clone(),
            place: permit.place().clone(),
            tls,
            policy: permit.policy().to_owned(),
        };
        if http2 {
            return self.multiplexed(flow, permit, key, fresh).await;
        }
        if !fresh && let Some(lease) = self.kept(&key).await {
            return Ok(lease);
        }
        let (sender, peer) = Box::pin(dial(flow, permit, tls, Offer::Http1)).await?;
        Ok(Lease { sender, peer, key, reused: false })
    }

    async fn multiplexed(
        &self,
        flow: &Flow,
        permit: &Permit,
        key: Key,
        fresh: bool,
    ) -> Result<Lease, ConnectError> {
        let asked = Instant::now();
        let shared = Arc::clone(&self.lock().entry(key.clone()).or_default().multiplexed);
        let mut shared = shared.lock().await;
        if let Some((sender, peer)) = &shared.open
            && !fresh
            && !sender.is_closed()
        {
            let (sender, peer) = (Sender::Http2(sender.clone()), peer.clone());
            return Ok(Lease { sender, peer, key, reused: true });
        }
        if let Some((at, error)) = &shared.failed
            && *at > asked
        {
            // It failed while this one waited for it.
            return Err(error.clone());
        }
        if shared.only_http1 {
            drop(shared);
            if !fresh && let Some(lease) = self.kept(&key).await {
                return Ok(lease);
            }
            let (sender, peer) = Box::pin(dial(flow, permit, key.tls, Offer::Http1)).await?;
            return Ok(Lease { sender, peer, key, reused: false });
        }
        match Box::pin(dial(flow, permit, key.tls, Offer::Http2)).await {
            Ok((sender, peer)) => {
                match &sender {
                    Sender::Http2(sender) => {
                        shared.open = Some((sender.clone(), peer.clone()));
                    }
                    Sender::Http1(_) => shared.only_http1 = true,
                }
                Ok(Lease { sender, peer, key, reused: false })
            }
            Err(error) => {
                shared.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// An unused connection that is still open.
    async fn kept(&self, key: &Key) -> Option<Lease> {
        loop {
            let mut kept = self.lock().get_mut(key)?.kept.pop()?;
            if kept.since.elapsed() > KEPT || kept.sender.is_closed() {
                continue;
            }
            if let Ok(Ok(())) = tokio::time::timeout(SETTLES, kept.sender.ready()).await {
                return Some(Lease {
                    sender: Sender::Http1(kept.sender),
                    peer: kept.peer,
                    key: key.clone(),
                    reused: true,
                });
            }
        }
    }

    /// Takes back a connection whose response was read to its end.
    pub fn give_back(&self, lease: Lease) {
        let Sender::Http1(sender) = lease.sender else {
            return; // an HTTP/2 connection is kept while it is open
        };
        if sender.is_closed() {
            return;
        }
        let mut entries = self.lock();
        let in_all: usize = entries.values().map(|entry| entry.kept.len()).sum();
        let kept = &mut entries.entry(lease.key).or_default().kept;
        if kept.len() < KEPT_PER_KEY && in_all < KEPT_IN_ALL {
            kept.push(Kept { sender, peer: lease.peer, since: Instant::now() });
        }
    }

    /// Closes what was unused for too long; to be called now and then.
    pub fn sweep(&self) {
        let mut entries = self.lock();
        entries.retain(|_, entry| {
            entry.kept.retain(|kept| kept.since.elapsed() <= KEPT && !kept.sender.is_closed());
            let open = match entry.multiplexed.try_lock() {
                Ok(mut shared) => {
                    if shared.open.as_ref().is_some_and(|(sender, _)| sender.is_closed()) {
                        shared.open = None;
                    }
                    shared.open.is_some()
                }
                Err(_) => true,
            };
            open || !entry.kept.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Callers box it: most operations find a connection, and need not carry this one's state.
async fn dial(
    flow: &Flow,
    permit: &Permit,
    tls: bool,
    offer: Offer,
) -> Result<(Sender, Peer), ConnectError> {
    let inputs = &flow.inputs;
    let dialed = inputs
        .dialer
        .dial(&permit.route())
        .await
        .map_err(|error| ConnectError { code: error.kind(), detail: error.to_string() })?;
    if !tls {
        let sender = speak(dialed.stream, offer, &inputs.config.limits).await?;
        return Ok((sender, Peer { addr: dialed.addr, tls: None }));
    }
    let limit = Duration::from_millis(inputs.config.limits.dial_ms);
    let handshake = inputs.upstreams.connect(dialed.stream, &permit.place().name, offer);
    let (stream, agreed) = match tokio::time::timeout(limit, handshake).await {
        Ok(done) => {
            done.map_err(|error| ConnectError { code: "upstream-tls", detail: error.to_string() })?
        }
        Err(_) => {
            return Err(ConnectError {
                code: "upstream-timeout",
                detail: format!("{} did not finish its TLS handshake in time", dialed.addr),
            });
        }
    };
    let agreed_on = match agreed.alpn.as_bytes() {
        alpn if alpn == crate::tls::H2 => Offer::Http2,
        _ => Offer::Http1,
    };
    let sender = speak(stream, agreed_on, &inputs.config.limits).await?;
    Ok((sender, Peer { addr: dialed.addr, tls: Some(agreed) }))
}

/// Begins to speak HTTP over a connection.
async fn speak<T>(
    io: T,
    version: Offer,
    limits: &crate::config::Limits,
) -> Result<Sender, ConnectError>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broke =
        |error: hyper::Error| ConnectError { code: "upstream-broke", detail: error.to_string() };
    let io = TokioIo::new(io);
    match version {
        Offer::Http1 => {
            let (sender, connection) = http1::Builder::new()
                .max_header_size(limits.header_bytes)
                .handshake(io)
                .await
                .map_err(broke)?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an upstream connection ended");
                }
            });
            Ok(Sender::Http1(sender))
        }
        Offer::Http2 => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(1 << 20)
                .initial_connection_window_size(8 << 20)
                .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
                .keep_alive_interval(Duration::from_secs(30))
                .handshake(io)
                .await
                .map_err(broke)?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an upstream connection ended");
                }
            });
            Ok(Sender::Http2(sender))
        }
    }
}
