//! Puts the server together and runs it.

use super::ca::{Ca, CaError, Current};
use super::clock::Clock;
use super::config::Config;
use super::core::Core;
use super::notify::{self, Endpoint, EndpointError};
use super::people::oidc::{Oidc, OidcError};
use super::policies::{self, void};
use super::service::{admin, approvals, enrollment, hosts, people, review, tasks};
use super::store::postgres::{Postgres, Shared};
use super::store::rocks::Rocks;
use super::store::{Store, StoreError};
use super::web::{self, ConsoleError, Web};
use super::{expiry, listen, members, metrics, replicas, service};
use crate::policy::signed::{self, KeyError, PolicyKey};
use arc_swap::ArcSwap;
use enforcer_proto::v1::admin_server::AdminServer;
use enforcer_proto::v1::approvals_server::ApprovalsServer;
use enforcer_proto::v1::enrollment_server::EnrollmentServer;
use enforcer_proto::v1::hosts_server::HostsServer;
use enforcer_proto::v1::people_server::PeopleServer;
use enforcer_proto::v1::policies_server::PoliciesServer;
use enforcer_proto::v1::review_server::ReviewServer;
use enforcer_proto::v1::task_review_server::TaskReviewServer;
use enforcer_proto::v1::tasks_server::TasksServer;
use std::fs::{File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};

/// How often the server's own certificate is made anew.
const OWN_CERTIFICATE: Duration = Duration::from_secs(86_400);

/// Time for one call until its answer begins, a slowly sent message included.
const CALL: Duration = Duration::from_secs(30);

/// Time for calls under way when the server stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The CA.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The policy key.
    #[error(transparent)]
    PolicyKey(#[from] KeyError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA is another than the other replicas'.
    #[error(
        "the {key} in {dir} is not the one of the servers that share this database ({shared}): copy {files} from one of them"
    )]
    OtherKey {
        /// Which one.
        key: Shared,
        /// The files it is in.
        files: &'static str,
        /// Where they are, or should be.
        dir: PathBuf,
        /// What names the right one, hex.
        shared: String,
    },
    /// Another server runs in the data directory.
    #[error("another server runs on {0}: give each its own `data_dir`")]
    Taken(PathBuf),
    /// An endpoint for news.
    #[error(transparent)]
    Notify(#[from] EndpointError),
    /// The console's certificate.
    #[error(transparent)]
    Console(#[from] ConsoleError),
    /// The identity provider.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(rustls::Error),
    /// A directory, socket or address.
    #[error("{what}: {cause}")]
    Io {
        /// Which.
        what: String,
        /// What the system said.
        cause: io::Error,
    },
}

impl From<rustls::Error> for StartError {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

fn at(what: impl ToString) -> impl FnOnce(io::Error) -> StartError {
    let what = what.to_string();
    move |cause| StartError::Io { what, cause }
}

/// Opens store and CA without serving anything, for commands on the server's machine.
///
/// # Errors
/// When one of them cannot be opened; [`StoreError::Locked`] while a server runs on it.
pub async fn open(config: Config) -> Result<Arc<Core>, StartError> {
    open_at(config, None).await
}

pub(super) async fn open_at(config: Config, clock: Option<Clock>) -> Result<Arc<Core>, StartError> {
    let dir = &config.data_dir;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(at(dir.display()))?;
    let (store, ca, policy_key) = match &config.store.postgres {
        None => {
            let store: Arc<dyn Store> = Arc::new(Rocks::open(&config.store_dir())?);
            (store, Ca::open(&config.ca_dir())?, PolicyKey::open(&config.policy_key())?)
        }
        Some(url) => {
            let store = Postgres::open(url, &config.store).await?;
            let dir = config.ca_dir();
            let ca = alike(&store, Shared::Ca, &dir, "ca.pem", || {
                let ca = Ca::open(&dir)?;
                Ok((ca.fingerprint().to_vec(), ca))
            });
            let ca = ca.await?;
            let path = config.policy_key();
            let key = alike(&store, Shared::Policy, &dir, "policy.key", || {
                let key = PolicyKey::open(&path)?;
                Ok((key.public().0.to_vec(), key))
            });
            let key = key.await?;
            (Arc::new(store) as _, ca, key)
        }
    };
    let clock = clock.unwrap_or_else(|| Clock::system(store.last_time()));
    Ok(Arc::new(Core::new(store, clock, config, ca, policy_key)))
}

/// A key of all replicas, made by the first one that starts; every other one must have the same.
async fn alike<T>(
    store: &Postgres,
    key: Shared,
    dir: &Path,
    file: &str,
    open: impl FnOnce() -> Result<(Vec<u8>, T), StartError>,
) -> Result<T, StartError> {
    let other = |named: Vec<u8>| StartError::OtherKey {
        key,
        files: key.files(),
        dir: dir.to_owned(),
        shared: hex::encode(named),
    };
    // What is not there is not made anew beside the one that all others have.
    if let Some(shared) = store.shared(key).await?
        && !dir.join(file).exists()
    {
        return Err(other(shared));
    }
    let (named, opened) = open()?;
    let shared = store.share(key, &named).await?;
    if shared == named { Ok(opened) } else { Err(other(shared)) }
}

/// Keeps the data directory for one server. The embedded store has a lock of its own.
fn taken(data_dir: &Path) -> Result<File, StartError> {
    let path = data_dir.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(at(path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StartError::Taken(data_dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(at(path.display())(error)),
    }
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the console listens, when there is one.
    pub console: Option<SocketAddr>,
    core: Arc<Core>,
    tasks: JoinSet<()>,
    socket: PathBuf,
    /// Held while the server runs.
    _data_dir: File,
}

/// Starts serving.
///
/// # Errors
/// When it cannot: store, CA, address or socket.
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_at(config, None).await
}

pub(super) async fn start_at(config: Config, clock: Option<Clock>) -> Result<Running, StartError> {
    let core = open_at(config, clock).await?;
    let config = core.config.clone();
    let data_dir = taken(&config.data_dir)?;
    members::settle(&core, "server")
        .await
        .map_err(|status| StartError::Store(StoreError::Failed(status.message().to_owned())))?;
    let loaded = policies::load(&core).await;
    let failed =
        |status: Status| StartError::Store(StoreError::Failed(status.message().to_owned()));
    match loaded {
        // Had the server died between a version and what it voids.
        Ok(()) => drop(void::settle(&core, "server").await.map_err(failed)?),
        // Approvals go on; hosts that take their policy from here use the one they have.
        Err(status) => tracing::error!(error = status.message(), "no policy is distributed"),
    }
    for record in core.store.live(None).await? {
        core.expiry.schedule(&record);
    }
    let first = Arc::new(core.ca.server(&config.names, core.clock.now())?);
    let current = Arc::new(Current(ArcSwap::new(first)));
    let tls = listen::tls_config(core.ca.certificate(), Arc::clone(&current))?;

    let endpoints: Result<Vec<_>, _> = config.notify.iter().map(Endpoint::load).collect();
    let endpoints = endpoints?;
    // Everything that can fail is bound before anything is served.
    let listener = TcpListener::bind(config.listen).await.map_err(at(config.listen))?;
    let address = listener.local_addr().map_err(at(config.listen))?;
    let socket = config.admin_socket();
    let admin_listener = bind_private(&socket)?;
    let metrics_listener = match config.metrics.listen {
        Some(listen) => Some(TcpListener::bind(listen).await.map_err(at(listen))?),
        None => None,
    };

    let console = console(&core, &current).await?;
    let console_address = console.as_ref().map(|(_, address)| *address);

    let stop = core.stop.clone();
    let mut tasks = JoinSet::new();
    if let Some(news) = core.store.news() {
        tasks.spawn(replicas::run(Arc::clone(&core), news));
    }
    if let Some((console, _)) = console {
        tasks.spawn(console);
    }
    tasks.spawn(expiry::run(Arc::clone(&core), stop.clone()));
    tasks.spawn(policies::follow(Arc::clone(&core)));
    tasks.spawn(renew_own(Arc::clone(&core), current));
    tasks.spawn(notify::run(Arc::clone(&core), endpoints, stop.clone()));
    tasks.spawn(serve_admin(Arc::clone(&core), admin_listener));
    if let Some(listener) = metrics_listener {
        tasks.spawn(metrics::serve(listener, Arc::clone(&core), stop.clone()));
    }
    let incoming = listen::incoming(listener, tls, config.limits.connections, stop);
    tasks.spawn(serve(Arc::clone(&core), incoming));
    tracing::info!(%address, "the approval server runs");
    Ok(Running { address, console: console_address, core, tasks, socket, _data_dir: data_dir })
}

/// The console, bound and ready to be served; `None` when none is configured.
async fn console(
    core: &Arc<Core>,
    own: &Arc<Current>,
) -> Result<Option<(impl Future<Output = ()> + Send + use<>, SocketAddr)>, StartError> {
    let config = &core.config.console;
    let Some(listen) = config.listen else { return Ok(None) };
    let tls = web::tls_config(config, Arc::clone(own))?;
    let oidc = Oidc::load(config)?.map(Arc::new);
    let listener = TcpListener::bind(listen).await.map_err(at(listen))?;
    let address = listener.local_addr().map_err(at(listen))?;
    tracing::info!(%address, "the console runs");
    Ok(Some((web::run(listener, tls, Web::new(Arc::clone(core), oidc)), address)))
}

async fn serve(
    core: Arc<Core>,
    incoming: tokio_stream::wrappers::ReceiverStream<io::Result<listen::Connection>>,
) {
    let limit = core.config.limits.message_bytes;
    let stop = core.stop.clone();
    let served = Server::builder()
        .timeout(CALL)
        .max_concurrent_streams(256)
        .http2_max_header_list_size(16 << 10)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(
            EnrollmentServer::new(enrollment::Service(Arc::clone(&core)))
                .max_decoding_message_size(64 << 10),
        )
        .add_service(InterceptedService::new(
            ApprovalsServer::new(approvals::Service(Arc::clone(&core)))
                .max_decoding_message_size(limit),
            certified,
        ))
        .add_service(InterceptedService::new(
            ReviewServer::new(review::Service(Arc::clone(&core)))
                .max_decoding_message_size(64 << 10),
            certified,
        ))
        .add_service(InterceptedService::new(
            TasksServer::new(tasks::Service(Arc::clone(&core))).max_decoding_message_size(limit),
            certified,
        ))
        .add_service(InterceptedService::new(
            TaskReviewServer::new(tasks::Service(Arc::clone(&core)))
                .max_decoding_message_size(limit),
            certified,
        ))
        .add_service(InterceptedService::new(
            HostsServer::new(hosts::Service(Arc::clone(&core)))
                .max_decoding_message_size(128 << 10),
            certified,
        ))
        .add_service(InterceptedService::new(
            PeopleServer::new(people::Service(Arc::clone(&core)))
                .max_decoding_message_size(64 << 10),
            certified,
        ))
        .add_service(InterceptedService::new(
            PoliciesServer::new(service::policies::Service(Arc::clone(&core)))
                .max_decoding_message_size(signed::MAX_MESSAGE),
            certified,
        ))
        .add_service(InterceptedService::new(
            AdminServer::new(admin::Service(core)).max_decoding_message_size(64 << 10),
            certified,
        ))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the server ended");
    }
}

/// Before anything of a message is read: only who showed a certificate of ours may send one.
/// Whose it is and what that one may is looked at by each method.
fn certified(request: Request<()>) -> Result<Request<()>, Status> {
    match request.peer_certs() {
        Some(_) => Ok(request),
        None => Err(super::core::uncertified()),
    }
}

async fn serve_admin(core: Arc<Core>, listener: UnixListener) {
    let stop = core.stop.clone();
    let served = Server::builder()
        .add_service(PeopleServer::new(people::Service(Arc::clone(&core))))
        .add_service(AdminServer::new(admin::Service(core)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin socket ended");
    }
}

/// A socket of mode 0600 in a directory of mode 0700. The directory's lock says that no other
/// server is here, so a socket that is there is left over.
fn bind_private(path: &Path) -> Result<UnixListener, StartError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(at(path.display())(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(at(path.display()))?;
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, private).map_err(at(path.display()))?;
    Ok(listener)
}

async fn renew_own(core: Arc<Core>, current: Arc<Current>) {
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.reissue.notified() => {}
            () = tokio::time::sleep(OWN_CERTIFICATE) => {}
        }
        match core.ca.server(&core.config.names, core.clock.now()) {
            Ok(renewed) => current.0.store(Arc::new(renewed)),
            Err(error) => tracing::error!(%error, "the server's own certificate was not renewed"),
        }
    }
}

impl Running {
    /// What the services stand on.
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// A token that stops it.
    pub fn stopper(&self) -> CancellationToken {
        self.core.stop.clone()
    }

    /// Waits until it ended, by itself or by its stopper; then calls under way get a little
    /// time. The store is closed when this returns.
    pub async fn ended(mut self) {
        self.core.stop.cancelled().await;
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("calls under way were cut");
        }
        self.tasks.shutdown().await;
        let _ = std::fs::remove_file(&self.socket);
    }

    /// Stops it and waits for its end.
    pub async fn stop(self) {
        self.core.stop.cancel();
        self.ended().await;
    }
}
