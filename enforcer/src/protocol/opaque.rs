//! Bytes that are carried and not read, only where a target says so.
//!
//! The whole connection is one operation, `opaque.connect`, decided before a
//! byte leaves and recorded as uninspected. If it turns out to be TLS, its
//! server name must be the flow's, or nothing of it is carried.

use super::{alert, server_name};
use crate::classify::{self, Detected, Spoken};
use crate::decide::{Denial, Permit};
use crate::flow::{Asked, Flow, Ledger, Outcome, Place};
use crate::operation::{Operation, Protocol};
use crate::session::{self, Exchange};
use enforcer_proto::v1::{self, event::Kind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

/// Bytes that are carried at once in one direction.
const BUFFER: usize = 64 << 10;
/// First byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Carries a connection, once it is decided.
pub async fn serve<T>(flow: &Arc<Flow>, place: Place, io: T) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ended, end) = oneshot::channel();
    let exchange = Opaque { place: Arc::new(place), io, ended };
    flow.operations.spawn(session::operate(Arc::clone(flow), exchange));
    end.await.unwrap_or_else(|_| Outcome::cut("cut", "the connection was cut"))
}

/// A connection whose bytes are not read.
struct Opaque<T> {
    place: Arc<Place>,
    io: T,
    /// Tells the connection's own end; gone when the connection is cut.
    ended: oneshot::Sender<Outcome>,
}

impl<T> Exchange for Opaque<T>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn place(&self) -> &Arc<Place> {
        &self.place
    }

    async fn ask(&mut self, flow: &Flow) -> (Arc<Asked>, Option<Denial>) {
        let bundle = flow.inputs.decider.bundle();
        let target = self.place.target(&bundle).map_or("", |target| target.name.as_str());
        let Place { name, port, .. } = &*self.place;
        let resource = format!("{name}:{port}");
        let operation =
            Operation::new(target, name, *port, Protocol::Opaque, "opaque.connect", resource);
        (Arc::new(Asked::new(operation, Vec::new(), Vec::new(), &flow.principal)), None)
    }

    async fn gone(&mut self) {
        // A protocol may have its client speak first, so reading is no test for that; the flow's
        // own end is.
        self.ended.closed().await;
    }

    async fn refuse(self, denial: &Denial, _: &Ledger) -> Outcome {
        self.end(Outcome::refused(denial.code))
    }

    async fn forward(mut self, permit: Permit, flow: &Flow, ledger: &Ledger) -> Outcome {
        let dialed = match flow.inputs.dialer.dial(&permit.route()).await {
            Ok(dialed) => dialed,
            Err(error) => return self.end(Outcome::failed(error.kind(), error)),
        };
        let forwarded = v1::Forwarded {
            upstream: dialed.addr.to_string(),
            uninspected: true,
            ..v1::Forwarded::default()
        };
        if let Err(error) = ledger.append([Kind::Forwarded(forwarded)]).await {
            return self.end(Outcome::cut(error.code(), error));
        }
        let Self { place, io, ended } = &mut self;
        let outcome = tokio::select! {
            biased;
            () = ended.closed() => Outcome::cut("cut", "the connection was cut"),
            outcome = carry(flow, place, io, dialed.stream, ledger) => outcome,
        };
        self.end(outcome)
    }
}

impl<T> Opaque<T> {
    fn end(self, outcome: Outcome) -> Outcome {
        // Nobody waits when the flow was cut; its outcome is then already known.
        let _ = self.ended.send(outcome.clone());
        outcome
    }
}

/// Copies both ways until both have ended.
async fn carry<T>(
    flow: &Flow,
    place: &Place,
    client: &mut T,
    upstream: TcpStream,
    ledger: &Ledger,
) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = tokio::io::split(client);
    // How the client is to be told that its ClientHello was turned down.
    let refused = OnceLock::new();
    let (mut from_upstream, mut to_upstream) = upstream.into_split();
    let up = async {
        let first = first_bytes(flow, place, &mut from_client).await;
        if let Err(outcome) = &first {
            // Set once: this is the one place.
            let _ = refused.set(alert(outcome.code));
        }
        let first = first?;
        to_upstream.write_all(&first).await.map_err(broke)?;
        ledger.sent(first.len());
        copy(&mut from_client, &mut to_upstream, |n| ledger.sent(n)).await
    };
    let down = copy(&mut from_upstream, &mut to_client, |n| ledger.delivered(n));
    match tokio::try_join!(up, down) {
        Ok(_) => Outcome::complete(),
        Err(outcome) => {
            // Once the upstream was heard a plain alert would be no more than noise.
            if let Some(alert) = refused.get().copied().flatten().filter(|_| ledger.bytes().1 == 0)
            {
                let limit = Duration::from_millis(flow.inputs.config.limits.handshake_ms);
                alert.send(&mut to_client, limit).await;
            }
            outcome
        }
    }
}

/// The first bytes that the client sends, once it is known that they may be carried.
async fn first_bytes<T: AsyncRead + Unpin>(
    flow: &Flow,
    place: &Place,
    client: &mut T,
) -> Result<Vec<u8>, Outcome> {
    let mut buf = Vec::with_capacity(4096);
    let limit = Duration::from_millis(flow.inputs.config.limits.handshake_ms);
    loop {
        let silent = buf.is_empty();
        let read = client.read_buf(&mut buf);
        // Only a ClientHello that has begun must end in time; silence before it is anyone's right.
        let read = match silent {
            true => read.await,
            false => match tokio::time::timeout(limit, read).await {
                Ok(read) => read,
                Err(_) => return Err(Outcome::cut("client-hello-timeout", "it never ended")),
            },
        };
        let ended = read.map_err(broke)? == 0;
        if buf.first() != Some(&TLS_HANDSHAKE) {
            return Ok(buf);
        }
        match classify::detect(&buf) {
            Detected::NeedMore if ended => {
                return Err(Outcome::refused("client-hello-malformed"));
            }
            Detected::NeedMore => {}
            // Behind an encrypted hello the true name is unknown, and nothing here opens it.
            Detected::Is(Spoken::Tls(hello)) if hello.encrypted => {
                return Err(Outcome::refused("encrypted-client-hello"));
            }
            Detected::Is(Spoken::Tls(hello)) => {
                return match server_name(flow, place, &hello) {
                    Ok(_) => Ok(buf),
                    Err(code) => Err(Outcome::refused(code)),
                };
            }
            Detected::Is(Spoken::Unknown(code)) => return Err(Outcome::refused(code)),
            Detected::Is(_) => return Ok(buf),
        }
    }
}

async fn copy<R, W>(from: &mut R, to: &mut W, count: impl Fn(usize)) -> Result<(), Outcome>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buf = vec![0; BUFFER];
    loop {
        let n = from.read(&mut buf).await.map_err(broke)?;
        if n == 0 {
            return to.shutdown().await.map_err(broke);
        }
        to.write_all(&buf[..n]).await.map_err(broke)?;
        count(n);
    }
}

fn broke(error: std::io::Error) -> Outcome {
    Outcome::failed("broke", error)
}
