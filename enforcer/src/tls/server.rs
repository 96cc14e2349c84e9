//! Terminates a captured TLS connection with a leaf for its verified name.
//!
//! It never decides which name that is; the caller compared the ClientHello
//! with the flow before it came here.

use super::ca::{Ca, CaError};
use super::{H2, HTTP1, POSTGRES, provider};
use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Names whose leaf is kept; past it the oldest goes.
const CACHED: usize = 4096;
/// A leaf older than this is minted anew; well inside its life.
const FRESH: Duration = Duration::from_secs(5 * 24 * 3600);

/// Why a connection could not be terminated.
#[derive(Debug, thiserror::Error)]
pub enum InterceptError {
    /// No leaf could be minted.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The configuration was not accepted.
    #[error("the leaf cannot be used: {0}")]
    Config(#[from] rustls::Error),
    /// The client and the proxy did not agree, or the client does not trust the CA.
    #[error("the TLS handshake with the client failed: {0}")]
    Handshake(std::io::Error),
    /// The client did not finish its handshake in time.
    #[error("the client did not finish its TLS handshake in time")]
    Timeout,
}

/// The CA and the leaves that were minted from it.
pub struct Interceptor {
    ca: Ca,
    tickets: Arc<dyn rustls::server::ProducesTickets>,
    leaves: Mutex<HashMap<String, Leaf>>,
}

struct Leaf {
    config: Arc<ServerConfig>,
    minted: Instant,
}

impl std::fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Interceptor").field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl Interceptor {
    /// Mints from `ca`.
    pub fn new(ca: Ca) -> Result<Self, InterceptError> {
        Ok(Self {
            ca,
            tickets: rustls::crypto::aws_lc_rs::Ticketer::new()?,
            leaves: Mutex::new(HashMap::new()),
        })
    }

    /// The CA.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The configuration that presents a leaf for `name` (a host name or an address literal).
    pub fn config(&self, name: &str) -> Result<Arc<ServerConfig>, InterceptError> {
        let now = Instant::now();
        if let Some(leaf) = self.lock().get(name)
            && now.duration_since(leaf.minted) < FRESH
        {
            return Ok(Arc::clone(&leaf.config));
        }
        // Minted outside the lock: two at once cost a signature, not a stall of all others.
        let config = Arc::new(self.make(name)?);
        let mut leaves = self.lock();
        if leaves.len() >= CACHED
            && let Some(oldest) =
                leaves.iter().min_by_key(|(_, leaf)| leaf.minted).map(|(name, _)| name.clone())
        {
            leaves.remove(&oldest);
        }
        let leaf = Leaf { config: Arc::clone(&config), minted: now };
        leaves.insert(name.to_owned(), leaf);
        Ok(config)
    }

    /// Completes the handshake of a connection whose ClientHello was compared with `name`.
    pub async fn accept<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        name: &str,
        limit: Duration,
    ) -> Result<TlsStream<T>, InterceptError> {
        Self::handshake(io, self.config(name)?, limit).await
    }

    /// The same for a client that speaks PostgreSQL's protocol.
    pub async fn accept_postgres<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
        name: &str,
        limit: Duration,
    ) -> Result<TlsStream<T>, InterceptError> {
        let mut config = ServerConfig::clone(&*self.config(name)?);
        config.alpn_protocols = vec![POSTGRES.to_vec()];
        Self::handshake(io, Arc::new(config), limit).await
    }

    async fn handshake<T: AsyncRead + AsyncWrite + Unpin>(
        io: T,
        config: Arc<ServerConfig>,
        limit: Duration,
    ) -> Result<TlsStream<T>, InterceptError> {
        let acceptor = TlsAcceptor::from(config);
        match tokio::time::timeout(limit, acceptor.accept(io)).await {
            Ok(done) => done.map_err(InterceptError::Handshake),
            Err(_) => Err(InterceptError::Timeout),
        }
    }

    fn make(&self, name: &str) -> Result<ServerConfig, InterceptError> {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.ca.leaf_key().to_vec()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.ca.mint(name)?], key)?;
        config.alpn_protocols = vec![H2.to_vec(), HTTP1.to_vec()];
        // Early data would let an approved request be replayed (RFC 8446 section 8).
        config.max_early_data_size = 0;
        // Tickets are sealed by one key of this process and name their server: no table to fill.
        config.ticketer = Arc::clone(&self.tickets);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Leaf>> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
