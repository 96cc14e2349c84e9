//! How the database is reached: by a unix socket, or by TLS with its name verified. By TCP in
//! clear only where the URL says `sslmode=disable`.

use super::{CALL, Pool};
use crate::approval::tls::provider;
use crate::server::config;
use crate::server::store::StoreError;
use crate::server::trust;
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod, Runtime};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Config, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Time for a connection to be made.
pub(super) const CONNECT: Duration = Duration::from_secs(3);

/// What each connection sets for itself: nothing waits for long, a replica that stops in the
/// middle of a change soon holds up nobody any more, and no name means something else.
const SETTINGS: &str = "-c statement_timeout=5s -c lock_timeout=5s \
    -c idle_in_transaction_session_timeout=5s -c search_path=pg_catalog";

/// Where the database is, and how its name is verified.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) config: Config,
    pub(super) tls: Tls,
}

/// TLS with the host's name verified.
#[derive(Clone)]
pub(super) struct Tls {
    inner: MakeRustlsConnect,
    /// The connection is made without TLS, and a unix socket has no name.
    unused: bool,
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, name: &str) -> Result<Self::TlsConnect, Self::Error> {
        let name = if self.unused { "unused.invalid" } else { name };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.inner, name)
    }
}

fn bad(what: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("[store] postgres: {what}"))
}

impl Link {
    /// Reads the URL and the files that the configuration names. Nothing is asked yet.
    ///
    /// # Errors
    /// When one cannot be used, with what would be right.
    pub(super) fn load(url: &str, store: &config::Store) -> Result<Self, StoreError> {
        let (mut config, clear) = parse(url)?;
        if let Some(path) = &store.password_file {
            let password = std::fs::read_to_string(path)
                .map_err(|error| bad(format!("{}: {error}", path.display())))?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
        let unix = local(&config)?;
        config.ssl_mode(if unix || clear { SslMode::Disable } else { SslMode::Require });
        let options = config.get_options().map(|own| format!("{own} ")).unwrap_or_default();
        config
            .options(options + SETTINGS)
            .application_name("enforcer-server")
            .connect_timeout(CONNECT)
            .tcp_user_timeout(CALL)
            .keepalives_idle(Duration::from_secs(10))
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let tls = match config.get_ssl_mode() {
            SslMode::Require => verified(store.ca_file.as_deref())?,
            _ => nobody()?,
        };
        let unused = config.get_ssl_mode() == SslMode::Disable;
        Ok(Self { config, tls: Tls { inner: MakeRustlsConnect::new(tls), unused } })
    }

    /// So many connections at most, made when they are needed.
    pub(super) fn pool(&self, connections: usize) -> Result<Pool, StoreError> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), manager);
        Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CALL))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))
    }
}

/// The URL without what tokio-postgres has no word for, and whether it asks for clear text.
fn parse(url: &str) -> Result<(Config, bool), StoreError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(bad("it must be a URL: postgres://user@host/database"));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut clear = false;
    let mut rest = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.strip_prefix("sslmode=") {
            None => rest.push(part),
            Some("verify-full") => {}
            Some("disable") => clear = true,
            Some(other) => {
                return Err(bad(format!(
                    "sslmode={other} is not taken: `verify-full`, which holds when it is left \
                     out, or `disable` for clear text"
                )));
            }
        }
    }
    let config: Config = format!("{base}?{}", rest.join("&"))
        .parse()
        .map_err(|error: tokio_postgres::Error| bad(super::said(&error)))?;
    if config.get_password().is_some() {
        return Err(bad("no password in the URL: put it into a file, and set `password_file`"));
    }
    if config.get_user().is_none() {
        return Err(bad("the URL names no user: postgres://user@host/database"));
    }
    Ok((config, clear))
}

/// Whether it is reached by unix sockets.
fn local(config: &Config) -> Result<bool, StoreError> {
    let hosts = config.get_hosts();
    let unix = hosts.iter().filter(|host| matches!(host, Host::Unix(_))).count();
    match (unix, hosts.len()) {
        (_, 0) => Err(bad("the URL names no host (or directory: ?host=/run/postgresql)")),
        (0, _) => Ok(false),
        (unix, all) if unix == all => Ok(true),
        _ => Err(bad("either hosts or directories of unix sockets, not both")),
    }
}

fn verified(ca: Option<&Path>) -> Result<rustls::ClientConfig, StoreError> {
    trust::client(ca, ca.is_none()).map_err(bad)
}

/// For a connection without TLS.
fn nobody() -> Result<rustls::ClientConfig, StoreError> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}
