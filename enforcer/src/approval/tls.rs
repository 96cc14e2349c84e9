//! The TLS that clients of the approval server use: one CA, TLS 1.3, our certificate.
//!
//! These connections are the daemon's own; they never carry an agent's bytes.

use super::identity::Identity;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use url::Url;

/// Time for the TCP connection and the handshake.
const CONNECT: Duration = Duration::from_secs(5);

/// The largest answer that a client takes.
pub const MAX_ANSWER: usize = 32 << 20;

/// Why no connection can be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The address is not one.
    #[error("`{0}` is not a server address: it must be https://host:port")]
    Url(String),
    /// A certificate or key is not usable.
    #[error("the certificates cannot be used: {0}")]
    Tls(rustls::Error),
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

/// The one provider of cryptography, stated so that no feature of a dependency changes it.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// SHA-256 of a certificate (DER).
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// A channel that shows our certificate and trusts the identity's CA only. Connects at first
/// use and again after a loss.
///
/// # Errors
/// When the address or the identity cannot be used.
pub fn channel(url: &str, identity: &Identity) -> Result<Channel, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca.clone())?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
    channel_with(url, config)
}

/// A channel without a certificate that trusts only a server that shows the pinned CA.
///
/// # Errors
/// When the address cannot be used.
pub fn pinned_channel(url: &str, ca: [u8; 32]) -> Result<Channel, TlsError> {
    let provider = provider();
    let verifier = PinnedCa { ca, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    channel_with(url, config)
}

fn channel_with(url: &str, mut config: ClientConfig) -> Result<Channel, TlsError> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = Connector::new(url, config)?;
    // The connector does TLS, so the channel itself must not be told of it.
    let authority = format!("http://{}", connector.authority);
    let endpoint = Endpoint::from_shared(authority).map_err(|_| TlsError::Url(url.to_owned()))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// Opens TLS connections to the one server.
#[derive(Clone)]
struct Connector {
    address: (String, u16),
    authority: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Connector {
    fn new(url: &str, config: ClientConfig) -> Result<Self, TlsError> {
        let bad = || TlsError::Url(url.to_owned());
        let parsed = Url::parse(url).map_err(|_| bad())?;
        let plain = parsed.scheme() == "https"
            && matches!(parsed.path(), "" | "/")
            && parsed.query().is_none()
            && parsed.username().is_empty();
        let host = parsed.host_str().filter(|_| plain).ok_or_else(bad)?;
        let port = parsed.port_or_known_default().ok_or_else(bad)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
        Ok(Self {
            address: (bare.to_owned(), port),
            authority: format!("{host}:{port}"),
            name,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Each address of the name in turn: behind one may be a server that takes connections and
    /// does not answer. Each has its share of the time.
    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let (host, port) = &self.address;
        let found: Vec<SocketAddr> = lookup_host((host.as_str(), *port)).await?.collect();
        self.reach_one(found).await
    }

    async fn reach_one(&self, found: Vec<SocketAddr>) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let share = CONNECT / u32::try_from(found.len() + 1).unwrap_or(u32::MAX);
        let share = if found.len() < 2 { CONNECT } else { share };
        let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in found {
            match tokio::time::timeout(share, self.reach(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => failed = error,
                Err(_) => {
                    let what = format!("{address} does not answer");
                    failed = io::Error::new(io::ErrorKind::TimedOut, what);
                }
            }
        }
        Err(failed)
    }

    async fn reach(&self, address: SocketAddr) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        Ok(TokioIo::new(self.tls.connect(self.name.clone(), tcp).await?))
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TlsStream<TcpStream>>>> + Send>>;

impl tower_service::Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

/// Trusts a chain that ends in the certificate with that fingerprint.
#[derive(Debug)]
struct PinnedCa {
    ca: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = intermediates.iter().find(|cert| fingerprint(cert) == self.ca);
        let pinned = pinned.ok_or_else(|| {
            rustls::Error::General("the server does not have the CA that the token names".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_says_nothing_does_not_keep_it_from_the_next() {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.unwrap())
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = Connector::new("https://a.example", client).unwrap();

        // Its kernel takes connections; nobody answers.
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let good = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let both = vec![silent.local_addr().unwrap(), good.local_addr().unwrap()];
        let serving = async {
            let (stream, _) = good.accept().await.unwrap();
            tokio_rustls::TlsAcceptor::from(Arc::new(server)).accept(stream).await.unwrap()
        };
        let (reached, _served) = tokio::join!(connector.reach_one(both), serving);
        assert!(reached.is_ok(), "{:?}", reached.err());
        let alone = vec![silent.local_addr().unwrap()];
        let never = connector.reach_one(alone).await.map(drop).unwrap_err();
        assert_eq!(never.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn addresses() {
        let config = || {
            ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth()
        };
        let cases = [
            ("https://approvals.example:7443", Some("approvals.example:7443")),
            ("https://127.0.0.1:7443/", Some("127.0.0.1:7443")),
            ("https://[::1]:7443", Some("[::1]:7443")),
            ("https://a.example", Some("a.example:443")),
            ("http://a.example:7443", None),
            ("https://a.example/x", None),
            ("a.example:7443", None),
            ("", None),
        ];
        for (url, expected) in cases {
            let got = Connector::new(url, config()).ok().map(|c| c.authority);
            assert_eq!(got.as_deref(), expected, "{url}");
        }
    }
}
