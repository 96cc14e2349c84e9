//! How a connection of an agent begins: encryption, cancel requests, and its start-up.

use super::codec::startup::{First, Startup};
use super::codec::{backend, error_response};
use super::connect::Connect;
use super::io::{Io, Wire, WireError};
use super::refuse;
use crate::classify::{self, Classified, ClientHello, Spoken};
use crate::flow::{Flow, Outcome, Place};
use crate::protocol::{handshake, server_name};
use crate::session;
use crate::tls;
use bytes::BufMut as _;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Most packets before the start-up: a question for GSSAPI, one for TLS, and some patience.
const MOST_FIRSTS: usize = 4;

/// A start-up, and the connection that it came over.
struct Begun {
    client: Wire,
    startup: Startup,
    place: Place,
    encrypted: bool,
}

/// Serves a connection that began with one of the protocol's own packets.
pub(in crate::protocol) async fn serve(
    flow: &Arc<Flow>,
    place: &Place,
    io: impl Io,
    encrypted: bool,
) -> Outcome {
    let client = Wire::new(io);
    let begin = begin(flow, place.clone(), client, encrypted);
    let begun = match tokio::time::timeout(handshake(flow), begin).await {
        Ok(Ok(begun)) => begun,
        Ok(Err(outcome)) => return outcome,
        Err(_) => return Outcome::cut("start-up-timeout", "the start-up never ended"),
    };
    let (ended, end) = oneshot::channel();
    let Begun { client, startup, place, encrypted } = begun;
    let exchange = Connect::new(Arc::clone(flow), place, client, startup, encrypted, ended);
    flow.operations.spawn(session::operate(Arc::clone(flow), exchange));
    end.await.unwrap_or_else(|_| Outcome::cut("cut", "the connection was cut"))
}

/// Serves a connection that begins with TLS at once, without asking for it.
pub(in crate::protocol) async fn serve_direct(
    flow: &Arc<Flow>,
    place: &Place,
    io: impl Io,
    hello: &ClientHello,
) -> Outcome {
    // Without it the client may believe that it speaks to something else (RFC 7301 section 3.2).
    if !hello.alpn.iter().any(|protocol| protocol == tls::POSTGRES) {
        return Outcome::refused("protocol-mismatch");
    }
    let interceptor = &flow.inputs.interceptor;
    match interceptor.accept_postgres(io, &place.name, handshake(flow)).await {
        Ok(stream) => serve(flow, place, stream, true).await,
        Err(error) => Outcome::failed("client-tls", error),
    }
}

async fn begin(
    flow: &Flow,
    mut place: Place,
    mut client: Wire,
    mut encrypted: bool,
) -> Result<Begun, Outcome> {
    for _ in 0..MOST_FIRSTS {
        match client.first().await.map_err(|error| broke(&error))? {
            First::Gss => {
                client.out().put_u8(b'N');
                client.flush().await.map_err(|error| broke(&error))?;
            }
            First::Tls if encrypted => return Err(Outcome::refused("bad-start-up")),
            First::Tls => {
                client.out().put_u8(b'S');
                client.flush().await.map_err(|error| broke(&error))?;
                // What was sent behind the question was sent in clear and must not be read as
                // if it had come in TLS.
                let Some(io) = client.into_io() else {
                    return Err(Outcome::refused("bad-start-up"));
                };
                let (stream, named) = terminate(flow, place, io).await?;
                (client, place, encrypted) = (Wire::new(stream), named, true);
            }
            First::Cancel { process, key } => {
                let agent = &flow.principal.agent;
                let passing = flow.inputs.databases.cancels.cancel(agent, process, &key);
                let known = passing.is_some();
                if let Some(passing) = passing {
                    // Clients take the end of this connection for the server's word that it has
                    // it, and go on.
                    let _ = tokio::time::timeout(handshake(flow) / 2, passing.passed()).await;
                }
                client.close().await;
                return Err(match known {
                    true => Outcome::complete(),
                    false => Outcome::refused("unknown-cancel-key"),
                });
            }
            First::Startup(mut startup) => {
                negotiate(&mut client, &mut startup);
                return Ok(Begun { client, startup, place, encrypted });
            }
        }
    }
    Err(Outcome::refused("bad-start-up"))
}

/// Ends TLS with a leaf for the flow's own name, which a server name must not contradict. Drivers
/// that send none go where the flow goes.
async fn terminate(
    flow: &Flow,
    place: Place,
    io: Box<dyn Io>,
) -> Result<(impl Io, Place), Outcome> {
    let classified = classify::classify(io, handshake(flow)).await;
    let Classified { io, spoken } =
        classified.map_err(|error| Outcome::failed("no-first-bytes", error))?;
    let place = match &spoken {
        Spoken::Tls(hello) if hello.server_name.is_none() => place,
        Spoken::Tls(hello) => server_name(flow, &place, hello).map_err(Outcome::refused)?,
        Spoken::Unknown(code) => return Err(Outcome::refused(code)),
        _ => return Err(Outcome::refused("bad-start-up")),
    };
    let interceptor = &flow.inputs.interceptor;
    let accepted = interceptor.accept_postgres(io, &place.name, handshake(flow)).await;
    let stream = accepted.map_err(|error| Outcome::failed("client-tls", error))?;
    Ok((stream, place))
}

/// Settles on a version that both know: 3.0, or 3.2 for who asks for that or more. Options of the
/// protocol (`_pq_.`) are not known, and a client that sent some is told.
fn negotiate(client: &mut Wire, startup: &mut Startup) {
    let spoken = if startup.minor >= super::codec::startup::NEWEST { 2 } else { 0 };
    let (options, parameters): (Vec<_>, Vec<_>) =
        startup.parameters.drain(..).partition(|(name, _)| name.starts_with("_pq_."));
    startup.parameters = parameters;
    if spoken != startup.minor || !options.is_empty() {
        let names: Vec<&str> = options.iter().map(|(name, _)| name.as_str()).collect();
        backend::put_negotiate(client.out(), spoken, &names);
    }
    startup.minor = spoken;
}

/// Tells a client that its connection cannot go on; it may be gone already.
pub(super) async fn tell_fatal(client: &mut Wire, sqlstate: &str, what: &str) {
    refuse::fatal(sqlstate, what).put(client.out(), error_response::ERROR);
    let _ = client.flush().await;
}

/// How a flow ends whose client broke off.
pub(super) fn broke(error: &WireError) -> Outcome {
    match error {
        WireError::Closed => Outcome::cancelled(),
        WireError::Codec(error) => {
            Outcome { error: format!("bad-message: {error}"), ..Outcome::refused("bad-message") }
        }
        error => Outcome::failed("client-io", error),
    }
}
