//! TLS connections of browsers, each with its bounds.

use crate::approval::tls;
use crate::server::ca::Current;
use crate::server::listen::{self, HANDSHAKE};
use crate::server::people::config::Console;
use crate::server::room::Room;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Browsers' connections at once: a quarter of it, as none shows a certificate.
const ROOM: usize = 4 * 1024;

/// Time for the head of a request.
const HEAD: Duration = Duration::from_secs(10);

/// Requests under way on one connection.
const AT_ONCE: u32 = 64;

/// Where a request comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct From(pub(super) IpAddr);

/// Why the console's TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("console: {path}: {what}")]
pub struct ConsoleError {
    path: String,
    what: String,
}

/// TLS as browsers speak it: with the configured certificate, else with the server's own.
///
/// # Errors
/// When the certificate or its key cannot be used.
pub fn tls_config(console: &Console, own: Arc<Current>) -> Result<ServerConfig, ConsoleError> {
    let fail = |path: &Path, what: String| ConsoleError { path: path.display().to_string(), what };
    let builder = ServerConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| fail(Path::new("TLS"), error.to_string()))?
        .with_no_client_auth();
    let mut config = match (&console.certificate_file, &console.key_file) {
        (Some(certificate), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(certificate)
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| fail(certificate, format!("{error:?}")))?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| fail(key, format!("{error:?}")))?;
            builder
                .with_single_cert(chain, private)
                .map_err(|error| fail(certificate, error.to_string()))?
        }
        _ => builder.with_cert_resolver(own),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Serves connections until `stop`.
pub(in crate::server) async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    router: Router,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let room = Room::new(ROOM);
    while let Some((tcp, peer, shaking)) = listen::next(&listener, &room, &stop).await {
        let (acceptor, room, stop) = (acceptor.clone(), room.clone(), stop.clone());
        let router = router.clone().layer(Extension(From(peer.ip())));
        tokio::spawn(async move {
            let _ = tcp.set_nodelay(true);
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp)).await;
            let Ok(Ok(tls)) = shaken else { return };
            let Some(_seat) = room.seat(shaking, None) else { return };
            let mut server = auto::Builder::new(TokioExecutor::new());
            server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD);
            server
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(AT_ONCE)
                .keep_alive_interval(Duration::from_secs(20));
            let service = TowerToHyperService::new(router);
            let mut served = std::pin::pin!(server.serve_connection(TokioIo::new(tls), service));
            let ended = tokio::select! {
                ended = &mut served => ended,
                () = stop.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    served.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%peer, %error, "a browser's connection ended");
            }
        });
    }
}
