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
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
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

    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let tcp = TcpStream::connect((self.address.0.as_str(), self.address.1)).await?;
        tcp.set_nodelay(true)?;
        Ok(TokioIo::new(self.tls.connect(self.name, tcp).await?))
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
