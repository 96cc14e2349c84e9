//! TLS on both sides: minted leaves towards the agent, strict verification upstream.
//!
//! [`ca`] owns the interception CA that the host makes, [`server`] terminates a
//! captured connection with a leaf for its verified name, [`client`] connects
//! to the upstream. Neither side ever falls back to something weaker.

pub mod alert;
pub mod ca;
pub mod client;
pub mod server;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, LazyLock};

/// ALPN of HTTP/2 (RFC 9113 section 3.1).
pub const H2: &[u8] = b"h2";
/// ALPN of HTTP/1.1 (RFC 7301 section 6).
pub const HTTP1: &[u8] = b"http/1.1";

/// ALPN of PostgreSQL's protocol (registered with IANA for direct TLS).
pub const POSTGRES: &[u8] = b"postgresql";

/// The one crypto provider; named everywhere, so that no process-wide default is relied on.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// One whole handshake in memory between a minted leaf and a client that trusts the CA.
///
/// The first handshake of a process is an order of magnitude slower than the rest, so it is
/// done at start; and a CA that clients could not use is found before any client meets it.
pub fn warm_up(server: &server::Interceptor) -> anyhow::Result<()> {
    use anyhow::Context as _;
    const NAME: &str = "warm-up.enforcer.internal";
    let mut roots = rustls::RootCertStore::empty();
    roots.add(server.ca().certificate().clone())?;
    let config = client::config(roots, &[H2])?;
    let name = rustls_pki_types::ServerName::try_from(NAME)?;
    let mut client = rustls::ClientConnection::new(config, name)?;
    let mut server = rustls::ServerConnection::new(server.config(NAME)?)?;
    let mut wire = Vec::new();
    while client.is_handshaking() || server.is_handshaking() {
        wire.clear();
        client.write_tls(&mut wire)?;
        let sent = wire.len();
        server.read_tls(&mut wire.as_slice())?;
        server.process_new_packets().context("the start-up handshake failed at the server")?;
        wire.clear();
        server.write_tls(&mut wire)?;
        anyhow::ensure!(sent + wire.len() > 0, "the start-up handshake stopped halfway");
        client.read_tls(&mut wire.as_slice())?;
        client.process_new_packets().context("the start-up handshake failed at the client")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
