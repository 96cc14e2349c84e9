//! How the database is reached: by a unix socket, or by TLS with its name verified. By TCP in
//! clear only where the URL says `sslmode=disable`.

use super::{CALL, Pool};
use crate::approval::tls::provider;
use crate::server::config;
use crate::server::store::StoreError;
use crate::server::trust;
use deadpool_postgres::{Connect, Manager, ManagerConfig, RecyclingMethod, Runtime};
use futures_util::future::{BoxFuture, pending};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Time for a connection to be made to one address.
const CONNECT: Duration = Duration::from_secs(3);

/// What each connection sets for itself: nothing waits for long, a replica that stops in the
/// middle of a change soon holds up nobody any more, and no name means something else.
const SETTINGS: &str = "-c statement_timeout=5s -c lock_timeout=5s \
    -c idle_in_transaction_session_timeout=5s -c search_path=pg_catalog";

/// Where the database is, and how its name is verified.
#[derive(Clone)]
pub(super) struct Link {
    /// Where it may be, in the order of the URL; each with one host.
    hosts: Arc<[Config]>,
    /// The one that was reached last, which comes first.
    last: Arc<AtomicUsize>,
    tls: Tls,
}

/// A connection, and what moves it.
type Connected = (Client, Connection<Socket, <Tls as MakeTlsConnect<Socket>>::Stream>);

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
        let (parsed, clear) = parse(url)?;
        let unix = local(&parsed)?;
        let mut config = without_hosts(&parsed);
        if let Some(path) = &store.password_file {
            let password = std::fs::read_to_string(path)
                .map_err(|error| bad(format!("{}: {error}", path.display())))?;
            config.password(password.trim_end_matches(['\r', '\n']));
        }
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
        Ok(Self {
            hosts: each_host(&parsed, &config),
            last: Arc::default(),
            tls: Tls { inner: MakeRustlsConnect::new(tls), unused },
        })
    }

    /// Connects to the first host that takes writes, each of its addresses in turn. One that says
    /// nothing costs its own time and not that of those behind it.
    ///
    /// # Errors
    /// When none can be used. Where all that failed was silent it does not end: a caller has
    /// [`Self::patience`].
    pub(super) async fn connect(&self) -> Result<Connected, tokio_postgres::Error> {
        let first = self.last.load(Ordering::Relaxed);
        let all = self.hosts.iter().enumerate();
        let (before, after): (Vec<_>, Vec<_>) = all.partition(|(at, _)| *at < first);
        let mut failed = None;
        for (at, host) in after.into_iter().chain(before) {
            for address in addresses(host).await {
                match tokio::time::timeout(CONNECT, address.connect(self.tls.clone())).await {
                    Ok(Ok(connected)) => {
                        self.last.store(at, Ordering::Relaxed);
                        return Ok(connected);
                    }
                    Ok(Err(error)) => failed = Some(error),
                    Err(_) => {}
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => pending().await,
        }
    }

    /// The time that a connection may take. A name may have two addresses.
    pub(super) fn patience(&self) -> Duration {
        let tries = self.hosts.iter().map(|host| if name(host).is_some() { 2 } else { 1 }).sum();
        CONNECT.saturating_mul(tries)
    }

    /// So many connections at most, made when they are needed.
    pub(super) fn pool(&self, connections: usize) -> Result<Pool, StoreError> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let first = self.hosts.first().cloned().unwrap_or_default();
        let manager = Manager::from_connect(first, self.clone(), manager);
        Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CALL))
            .create_timeout(Some(self.patience()))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|error| StoreError::Failed(error.to_string()))
    }
}

impl Connect for Link {
    /// The pool's own configuration names one host of several, and is not looked at.
    fn connect(
        &self,
        _: &Config,
    ) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), tokio_postgres::Error>> {
        Box::pin(async move {
            let (client, connection) = Self::connect(self).await?;
            let moved = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(%error, "a connection to the database ended");
                }
            });
            Ok((client, moved))
        })
    }
}

/// The name and port of a host that has to be looked up.
fn name(host: &Config) -> Option<(&str, u16)> {
    match host.get_hosts() {
        [Host::Tcp(name)] if name.parse::<IpAddr>().is_err() => {
            Some((name, host.get_ports().first().copied().unwrap_or(5432)))
        }
        _ => None,
    }
}

/// The host by each of its addresses; the name that is verified stays.
async fn addresses(host: &Config) -> Vec<Config> {
    let by_name = || vec![host.clone()];
    let Some(name) = name(host) else { return by_name() };
    let Ok(Ok(found)) = tokio::time::timeout(CONNECT, tokio::net::lookup_host(name)).await else {
        return by_name();
    };
    let found = found.map(|address| {
        let mut config = host.clone();
        config.hostaddr(address.ip());
        config
    });
    found.collect()
}

/// What the URL says but where to.
fn without_hosts(parsed: &Config) -> Config {
    let mut config = Config::new();
    config
        .channel_binding(parsed.get_channel_binding())
        .ssl_negotiation(parsed.get_ssl_negotiation())
        .keepalives(parsed.get_keepalives());
    if let Some(user) = parsed.get_user() {
        config.user(user);
    }
    if let Some(database) = parsed.get_dbname() {
        config.dbname(database);
    }
    if let Some(options) = parsed.get_options() {
        config.options(options);
    }
    config
}

/// Each host of the URL with all else that is said of the database.
fn each_host(parsed: &Config, common: &Config) -> Arc<[Config]> {
    let ports = parsed.get_ports();
    let each = parsed.get_hosts().iter().enumerate().map(|(at, host)| {
        let mut config = common.clone();
        match host {
            Host::Tcp(name) => config.host(name),
            Host::Unix(dir) => config.host_path(dir),
        };
        // One port is for all of them.
        config.port(ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432));
        config
    });
    each.collect()
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
    if !config.get_hostaddrs().is_empty() {
        return Err(bad("hostaddr is not taken: name the host, which is verified"));
    }
    if config.get_load_balance_hosts() != LoadBalanceHosts::Disable {
        return Err(bad("load_balance_hosts is not taken: hosts are tried in order"));
    }
    if config.get_ports().len() > 1 && config.get_ports().len() != config.get_hosts().len() {
        return Err(bad(
            "each host needs its own port: postgres://user@one:5432,two:5433/database",
        ));
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
