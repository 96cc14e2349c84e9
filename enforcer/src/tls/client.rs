//! TLS to upstreams: verified against the system's and the configured roots, always.
//!
//! There is no switch that skips verification. A root file that cannot be read
//! stops the start, so that a typo never narrows or widens trust unnoticed.

use super::{H2, HTTP1, POSTGRES, provider};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why upstream TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A file with roots could not be used.
    #[error("tls.extra_roots: {path}: {what}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The system's roots could not be read.
    #[error("the system's root certificates could not be read: {0}")]
    System(String),
    /// No root at all: every upstream would be refused.
    #[error("no root certificate is trusted: set tls.system_roots or tls.extra_roots")]
    None,
    /// The library refused the configuration.
    #[error("upstream TLS cannot be set up: {0}")]
    Config(#[from] rustls::Error),
}

/// Why an upstream's TLS failed.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// The verified name cannot be a TLS name.
    #[error("{0:?} cannot be verified as a TLS server name")]
    Name(String),
    /// The handshake or the certificate's verification failed.
    #[error("TLS with the upstream failed: {0}")]
    Handshake(#[from] std::io::Error),
    /// The client certificate and its key cannot be used.
    #[error("the client certificate cannot be used: {0}")]
    Identity(#[from] rustls::Error),
}

/// Which protocols to offer upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// HTTP/1.1 alone, for a client that speaks it.
    Http1,
    /// HTTP/2 first, then HTTP/1.1.
    Http2,
}

/// What was agreed with an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Agreed {
    /// `TLSv1_3` and so on.
    pub version: String,
    /// SHA-256 of its leaf certificate, hex.
    pub certificate_sha256: String,
    /// The protocol that was chosen, empty when none was.
    pub alpn: String,
}

/// The client half of TLS.
#[derive(Clone)]
pub struct Upstreams {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    postgres: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams").finish_non_exhaustive()
    }
}

impl Upstreams {
    /// Trusts what the configuration says.
    pub fn new(tls: &crate::config::Tls) -> Result<Self, RootsError> {
        Self::with_roots(roots(tls)?)
    }

    /// Trusts these roots.
    pub fn with_roots(roots: RootCertStore) -> Result<Self, RootsError> {
        Ok(Self {
            http1: config(roots.clone(), &[HTTP1])?,
            http2: config(roots.clone(), &[H2, HTTP1])?,
            postgres: config(roots.clone(), &[POSTGRES])?,
            roots: Arc::new(roots),
        })
    }

    /// Completes a handshake over `io` with the upstream that must prove to be `name`.
    pub async fn connect<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        name: &str,
        offer: Offer,
    ) -> Result<(TlsStream<T>, Agreed), UpstreamTlsError> {
        let config = match offer {
            Offer::Http1 => Arc::clone(&self.http1),
            Offer::Http2 => Arc::clone(&self.http2),
        };
        Self::handshake(io, name, config).await
    }

    /// The same with a database, which may want a certificate of the client too.
    pub async fn connect_postgres<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        name: &str,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<(TlsStream<T>, Agreed), UpstreamTlsError> {
        let config = match identity {
            None => Arc::clone(&self.postgres),
            Some((chain, key)) => {
                let mut config = ClientConfig::builder_with_provider(provider())
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(Arc::clone(&self.roots))
                    .with_client_auth_cert(chain, key)?;
                config.alpn_protocols = vec![POSTGRES.to_vec()];
                config.enable_early_data = false;
                Arc::new(config)
            }
        };
        Self::handshake(io, name, config).await
    }

    async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
        io: T,
        name: &str,
        config: Arc<ClientConfig>,
    ) -> Result<(TlsStream<T>, Agreed), UpstreamTlsError> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|_| UpstreamTlsError::Name(name.to_owned()))?;
        let stream = TlsConnector::from(config).connect(server, io).await?;
        let (_, tls) = stream.get_ref();
        let agreed = Agreed {
            version: tls.protocol_version().map(|v| format!("{v:?}")).unwrap_or_default(),
            certificate_sha256: tls
                .peer_certificates()
                .and_then(|chain| chain.first())
                .map(|leaf| hex::encode(Sha256::digest(leaf)))
                .unwrap_or_default(),
            alpn: tls
                .alpn_protocol()
                .map(|alpn| String::from_utf8_lossy(alpn).into_owned())
                .unwrap_or_default(),
        };
        Ok((stream, agreed))
    }
}

/// A client configuration that trusts `roots` and offers `alpn`.
pub(super) fn config(
    roots: RootCertStore,
    alpn: &[&[u8]],
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    config.enable_early_data = false;
    Ok(Arc::new(config))
}

fn roots(tls: &crate::config::Tls) -> Result<RootCertStore, RootsError> {
    let mut roots = RootCertStore::empty();
    if tls.system_roots {
        let system = rustls_native_certs::load_native_certs();
        // A host has odd files among its roots; those are left out, the rest is used.
        let (added, _) = roots.add_parsable_certificates(system.certs);
        if added == 0 {
            let why = system.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            return Err(RootsError::System(if why.is_empty() {
                "none found (install ca-certificates, or set tls.system_roots = false)".into()
            } else {
                why
            }));
        }
    }
    for path in &tls.extra_roots {
        let fail = |what: String| RootsError::File { path: path.clone(), what };
        let certs = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| fail(format!("{e:?}")))?;
        if certs.is_empty() {
            return Err(fail("holds no certificate in PEM form".into()));
        }
        for cert in certs {
            roots.add(cert).map_err(|e| fail(e.to_string()))?;
        }
    }
    if roots.is_empty() {
        return Err(RootsError::None);
    }
    Ok(roots)
}
