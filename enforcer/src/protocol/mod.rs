//! The protocols, each in its own folder with the same inner parts, and the one
//! place that tells them apart.
//!
//! What is not recognised is refused here; nothing is passed through that no
//! target names.

pub mod dns;
pub mod http;
pub mod opaque;
pub mod postgres;

use self::dns::names::INTERNAL_NAME;
use self::http::serve::Speaks;
use crate::classify::{self, Classified, ClientHello, PrefixedIo, Spoken};
use crate::flow::{Flow, Outcome, Place};
use crate::operation::Protocol;
use crate::record::Recorder;
use crate::tls;
use crate::tls::alert::Alert;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

/// Hashes credentials under the host's key, so that they can be recorded.
#[derive(Clone)]
pub struct Hash(Recorder);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Hash {
    /// Under the recorder's key.
    pub fn new(recorder: &Recorder) -> Self {
        Self(recorder.clone())
    }

    /// The keyed hash of a credential.
    pub fn of(&self, secret: &[u8]) -> String {
        self.0.keyed_hash(secret)
    }
}

/// Serves a connection in the protocol that its first bytes say.
pub async fn serve<T>(flow: &Arc<Flow>, place: &Place, classified: Classified<T>) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Classified { mut io, spoken } = classified;
    let database = is_database(flow, place);
    match spoken {
        Spoken::Postgres if database != Some(false) => {
            postgres::serve(flow, place, io, false).await
        }
        // What a target does not speak is not read as if it did.
        Spoken::Postgres => Outcome::refused("protocol-mismatch"),
        Spoken::Http1 | Spoken::Http2 if database == Some(true) => {
            Outcome::refused("protocol-mismatch")
        }
        Spoken::Http1 => http::serve::serve(flow, place, false, Speaks::Http1, io).await,
        Spoken::Http2 => http::serve::serve(flow, place, false, Speaks::Http2, io).await,
        Spoken::Unknown(code) => {
            if let Some(alert) = alert(code) {
                alert.send(&mut io, handshake(flow)).await;
            }
            Outcome::refused(code)
        }
        Spoken::Tls(hello) => {
            let place = match server_name(flow, place, &hello) {
                Ok(place) => place,
                Err(code) => {
                    if let Some(alert) = alert(code) {
                        alert.send(&mut io, handshake(flow)).await;
                    }
                    return Outcome::refused(code);
                }
            };
            if database == Some(true) {
                return postgres::serve_direct(flow, &place, io, &hello).await;
            }
            match terminate(flow, io, &place.name).await {
                Ok((stream, speaks)) => {
                    http::serve::serve(flow, &place, true, speaks, stream).await
                }
                Err(outcome) => outcome,
            }
        }
    }
}

/// Whether the target of a place is a database; `None` when policy knows no target there.
fn is_database(flow: &Flow, place: &Place) -> Option<bool> {
    let bundle = flow.inputs.decider.bundle();
    place.target(&bundle).map(|target| target.protocol == Protocol::Postgres)
}

/// Serves the daemon's own address.
pub async fn internal<T>(flow: &Arc<Flow>, io: T) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Classified { io, spoken } = match classify::classify(io, handshake(flow)).await {
        Ok(classified) => classified,
        Err(error) => return Outcome::failed("no-first-bytes", error),
    };
    match spoken {
        Spoken::Http1 => http::internal::serve(flow, Speaks::Http1, io).await,
        Spoken::Http2 => http::internal::serve(flow, Speaks::Http2, io).await,
        Spoken::Unknown(code) => Outcome::refused(code),
        Spoken::Postgres => Outcome::refused("unknown-protocol"),
        Spoken::Tls(_) => match terminate(flow, io, INTERNAL_NAME).await {
            Ok((stream, speaks)) => http::internal::serve(flow, speaks, stream).await,
            Err(outcome) => outcome,
        },
    }
}

/// The place under the name that a ClientHello gives; the code of the refusal otherwise.
///
/// An encrypted hello's outer name is compared all the same: the proxy ends the handshake with
/// a certificate for that name and never decrypts another.
pub(crate) fn server_name(
    flow: &Flow,
    place: &Place,
    hello: &ClientHello,
) -> Result<Place, &'static str> {
    match &hello.server_name {
        // A connection to an address has no name to send (RFC 6066 section 3).
        None if place.addr.is_some() => Ok(place.clone()),
        None => Err("no-server-name"),
        Some(name) => {
            let name = dns::names::Name::parse(name).map_err(|_| "bad-server-name")?;
            place.named(name.as_str(), &flow.inputs.decider.bundle()).ok_or("server-name-mismatch")
        }
    }
}

/// How a client that speaks TLS is told of a refusal; `None` when it does not.
pub(crate) fn alert(code: &str) -> Option<Alert> {
    Some(match code {
        "no-server-name" => Alert::MissingExtension,
        "bad-server-name" | "server-name-mismatch" => Alert::UnrecognizedName,
        "encrypted-client-hello" => Alert::AccessDenied,
        code if code.starts_with("client-hello-") => Alert::DecodeError,
        _ => return None,
    })
}

async fn terminate<T>(
    flow: &Flow,
    io: PrefixedIo<T>,
    name: &str,
) -> Result<(TlsStream<PrefixedIo<T>>, Speaks), Outcome>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let accepted = flow.inputs.interceptor.accept(io, name, handshake(flow)).await;
    let stream = accepted.map_err(|error| Outcome::failed("client-tls", error))?;
    let speaks = match stream.get_ref().1.alpn_protocol() {
        Some(tls::H2) => Speaks::Http2,
        _ => Speaks::Http1,
    };
    Ok((stream, speaks))
}

fn handshake(flow: &Flow) -> Duration {
    Duration::from_millis(flow.inputs.config.limits.handshake_ms)
}
