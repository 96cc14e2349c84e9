//! TLS that is begun at once (PostgreSQL 17's `sslnegotiation=direct`), to the upstream and from
//! the agent. The server here is older, so something that ends such TLS stands before it.

use super::raw::{self, Raw};
use super::server::Server;
use super::*;
use crate::tls::POSTGRES;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::UnixStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

const DIRECT: Plan = Plan { rules: RULES, masks: "", postgres: "tls = \"direct\"" };

/// Ends TLS before a server, without being asked for it; its port.
async fn terminate(server: &Server, alpn: &[&[u8]]) -> u16 {
    let (chain, key) = server.identity();
    let chain: Vec<_> = CertificateDer::pem_file_iter(chain).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = server.socket();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, socket) = (acceptor.clone(), socket.clone());
            tokio::spawn(async move {
                // What asks first sends no TLS, and is hung up on.
                let Ok(mut client) = acceptor.accept(stream).await else { return };
                let mut server = UnixStream::connect(socket).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_reached_by_tls_that_is_not_asked_for() {
    let server = Server::start().await;
    let port = terminate(&server, &[POSTGRES]).await;
    let world = World::behind(DIRECT, server, port).await;
    let mut raw = Raw::new(&world).await;
    assert_eq!(raw.query("SELECT current_user").until_ready().await[1], "D app");
    // A cancel request goes the same way.
    raw.query("SELECT pg_sleep(60)");
    raw.wire.flush().await.unwrap();
    loop {
        let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(60)' \
                       AND state = 'active' AND usename = 'app'";
        if world.admin(running).await.trim() == "1" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    raw::cancel(&world, raw.process, &raw.key).await;
    let told = raw.until_ready().await;
    assert!(told.iter().any(|word| word.starts_with("E 57014")), "{told:?}");
    drop(raw);
    let went = world.transcripts().await.into_iter().flatten().find_map(|event| match event.kind {
        Some(Kind::Forwarded(to)) => Some(to.alpn),
        _ => None,
    });
    assert_eq!(went.as_deref(), Some("postgresql"));
    // One that asks first, before the same port, gets nowhere.
    world.reload(Plan::default());
    let (printed, done) = world.client("psql", &["-X", "-c", "SELECT 1"], "").await;
    assert!(!done && printed.contains("enforcer"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_say_what_it_speaks_is_not_believed() {
    let server = Server::start().await;
    let port = terminate(&server, &[]).await;
    let world = World::behind(DIRECT, server, port).await;
    let (printed, done) = world.client("psql", &["-X", "-c", "SELECT 1"], "").await;
    assert!(!done && printed.contains("TLS could not be verified"), "{printed}");
    let failed =
        world.transcripts().await.into_iter().flatten().find_map(|event| match event.kind {
            Some(Kind::OperationEnd(end)) => Some(end.error),
            _ => None,
        });
    assert!(failed.is_some_and(|error| error.contains("ALPN")));
}

/// A client that begins with TLS.
async fn begin(
    world: &World,
    alpn: &[&[u8]],
) -> std::io::Result<impl crate::protocol::postgres::io::Io> {
    let mut roots = RootCertStore::empty();
    roots.add(world.inputs.interceptor.ca().certificate().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let stream = TcpStream::connect(world.gate).await?;
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_may_begin_with_tls_when_it_says_what_it_speaks() {
    let world = World::new().await;
    let io = begin(&world, &[POSTGRES]).await.unwrap();
    let mut raw = Raw::over(io, 0, &[]).await;
    assert_eq!(raw.query("SELECT 1").until_ready().await[1], "D 1");
    for alpn in [&[][..], &[&b"h2"[..]]] {
        assert!(begin(&world, alpn).await.is_err(), "{alpn:?}");
    }
}
