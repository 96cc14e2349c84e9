//! The one listener: TLS 1.3 with a client certificate that is verified when it
//! is shown. Who may do what without one is decided by each method.

use super::ca::Current;
use super::room::{Room, Seat, Shaking};
use crate::approval::identity::Holder;
use crate::approval::tls;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

/// Time for a handshake.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 10 });

/// Time of a connection without a certificate: joining takes one call.
pub(super) const WITHOUT: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 60 });

/// A pause after the system could not accept (out of descriptors), so that it is not asked in a
/// tight loop.
const PAUSE: Duration = Duration::from_millis(50);

/// TLS as the server speaks it.
///
/// # Errors
/// When the CA's certificate cannot be used.
pub fn tls_config(
    ca: &CertificateDer<'static>,
    current: Arc<Current>,
) -> Result<ServerConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let provider = tls::provider();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(current);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry an earlier certificate's authority past its end.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Connections that finished their handshake, until `stop`.
pub fn incoming(
    listener: TcpListener,
    config: ServerConfig,
    connections: usize,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, stream) = mpsc::channel(64);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let room = Room::new(connections);
    tokio::spawn(async move {
        while let Some((tcp, peer, shaking)) = next(&listener, &room, &stop).await {
            let (acceptor, ready, room) = (acceptor.clone(), ready.clone(), room.clone());
            tokio::spawn(async move {
                let tls = match shake(acceptor, tcp).await {
                    Ok(tls) => tls,
                    Err(error) => return tracing::debug!(%peer, %error, "no handshake"),
                };
                let chain = tls.get_ref().1.peer_certificates();
                let leaf = chain.and_then(|chain| chain.first());
                let holder = leaf.and_then(|leaf| Holder::read(leaf)).map(|holder| holder.subject);
                let end = holder.is_none().then(|| Box::pin(tokio::time::sleep(WITHOUT)));
                let Some(seat) = room.seat(shaking, holder) else {
                    return tracing::debug!(%peer, "too many connections of its kind; closed");
                };
                let _ = ready.send(Ok(Connection { tls, end, _seat: seat })).await;
            });
        }
    });
    ReceiverStream::new(stream)
}

/// The next connection that there is room for; `None` at the stop.
pub(super) async fn next(
    listener: &TcpListener,
    room: &Room,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, Shaking)> {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return None,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match room.shake(peer.ip()) {
            Some(shaking) => return Some((tcp, peer, shaking)),
            None => tracing::debug!(%peer, "too many connections; this one is closed"),
        }
    }
}

async fn shake(acceptor: TlsAcceptor, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    tokio::time::timeout(HANDSHAKE, acceptor.accept(tcp))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// One connection and its seat.
#[derive(Debug)]
pub struct Connection {
    tls: TlsStream<TcpStream>,
    /// When it ends whatever it does: it has shown no certificate.
    end: Option<Pin<Box<Sleep>>>,
    _seat: Seat,
}

impl Connected for Connection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tls.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
