//! `enforcer server`: run the approval server, and what its machine's root does with it.

use crate::approval::identity::Role;
use crate::cli::audit;
use crate::server::config::{Config, STARTER};
use crate::server::core::Core;
use crate::server::service::admin::create_token;
use crate::server::{self, StartError, store::StoreError};
use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use enforcer_proto::v1;
use enforcer_proto::v1::admin_client::AdminClient;
use hyper_util::rt::TokioIo;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::{Channel, Endpoint};

mod member;
mod session;

/// Arguments of `enforcer server`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = false)]
pub struct Args {
    /// The server's configuration
    #[arg(long, global = true, default_value = "/etc/enforcer/server.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a commented server.toml
    Init {
        /// Where
        #[arg(default_value = "/etc/enforcer")]
        dir: PathBuf,
    },
    /// Make a one-time join token, on the server's machine
    Token {
        /// What the joiner becomes
        #[arg(long)]
        role: RoleArg,
        /// The host's or person's name
        #[arg(long)]
        name: String,
        /// A group that the reviewer is in (repeat for more)
        #[arg(long = "group")]
        groups: Vec<String>,
        /// How long the token is good: 90s, 30m, 1h, 2d
        #[arg(long, default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a new setup secret, which signs a local admin in at the console, once
    Setup {},
    /// Sessions at the console, on the server's machine
    Session {
        #[command(subcommand)]
        command: session::Command,
    },
    /// Who has joined, and taking a right away, on the server's machine
    Member {
        #[command(subcommand)]
        command: member::Command,
    },
    /// Print the audit and check its chain, on the server's machine
    Audit {
        #[command(subcommand)]
        command: Option<audit::Command>,
        /// Print JSON, one record a line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleArg {
    Daemon,
    Reviewer,
    Admin,
    Viewer,
    PolicyAdmin,
}

impl RoleArg {
    fn role(self) -> Role {
        match self {
            Self::Daemon => Role::Daemon,
            Self::Reviewer => Role::Reviewer,
            Self::Admin => Role::Admin,
            Self::Viewer => Role::Viewer,
            Self::PolicyAdmin => Role::PolicyAdmin,
        }
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Init { dir }) = args.command {
        return init(&dir);
    }
    // An export is checked on any machine, also where there is no server.
    if let Some(Command::Audit { command, .. }) = &args.command
        && let Some(done) = audit::of_file(command.as_ref())
    {
        return done.map(|()| ExitCode::SUCCESS);
    }
    let config = Config::load(&args.config)?;
    let runtime = tokio::runtime::Runtime::new().context("no runtime")?;
    let done = runtime.block_on(async {
        match args.command {
            None => serve(config).await,
            Some(Command::Token { role, name, groups, ttl, json }) => {
                let ask = v1::CreateTokenRequest {
                    role: role.role().wire().into(),
                    name,
                    groups,
                    ttl_seconds: ttl.as_secs(),
                };
                token(config, ask, json).await
            }
            Some(Command::Setup {}) => setup(&config.console.setup_file),
            Some(Command::Session { command }) => session::run(config, command).await,
            Some(Command::Member { command }) => member::run(config, command).await,
            Some(Command::Audit { command, json }) => {
                audit::run(way(config).await?, command, json).await
            }
            Some(Command::Init { .. }) => Ok(()),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    done.map(|()| ExitCode::SUCCESS)
}

fn init(dir: &Path) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let path = dir.join("server.toml");
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
    let mut file = file.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} is there already, and was left as it is", path.display())
        }
        _ => anyhow::anyhow!("{}: {error}", path.display()),
    })?;
    file.write_all(STARTER.as_bytes())?;
    let path = path.display();
    println!(
        "wrote {path}: set `names`, then run `enforcer server --config {path}`\n\
         and make the first tokens with `enforcer server token --config {path} --role reviewer --name you`"
    );
    setup(&dir.join("console.setup"))?;
    Ok(ExitCode::SUCCESS)
}

/// Makes a new setup secret and prints it. The one before is worth nothing then.
fn setup(path: &Path) -> anyhow::Result<()> {
    let secret = server::people::setup::make(path, server::clock::wall());
    let secret = secret.with_context(|| path.display().to_string())?;
    println!("the setup secret, good once and for a day, at the console's sign-in page:\n{secret}");
    Ok(())
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Another subscriber may be set already; then its output is the one wanted.
    let _ =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).json().try_init();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let running = server::start(config).await?;
    let stopper = running.stopper();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopper.cancel();
    });
    running.ended().await;
    tracing::info!("stopped");
    Ok(())
}

/// The way to the store: through the server when it runs, else directly.
pub(in crate::cli) enum Way {
    /// A server that runs.
    Server(Channel),
    /// The store of one that does not.
    Store(Arc<Core>),
}

async fn way(config: Config) -> anyhow::Result<Way> {
    let socket = config.admin_socket();
    match UnixStream::connect(&socket).await {
        Ok(_) => {
            let endpoint = Endpoint::from_static("http://admin");
            let channel = endpoint.connect_with_connector(Socket(socket)).await?;
            Ok(Way::Server(channel))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            bail!("{}: only root on the server's machine may do this", socket.display())
        }
        Err(_) => {
            own(&config.data_dir)?;
            store(config, &socket).await
        }
    }
}

/// What root makes in the directory of a server that runs as another user, that server cannot
/// open at its next start.
fn own(data_dir: &Path) -> anyhow::Result<()> {
    let me = nix::unistd::geteuid().as_raw();
    match std::fs::metadata(data_dir).map(|found| found.uid()) {
        Ok(owner) if owner != me => bail!(
            "the server does not run, and {} belongs to user {owner}: start the server, or run \
             this as that user (`runuser -u enforcer-server -- enforcer server ...`)",
            data_dir.display()
        ),
        _ => Ok(()),
    }
}

async fn store(config: Config, socket: &Path) -> anyhow::Result<Way> {
    match server::open(config).await {
        Ok(core) => Ok(Way::Store(core)),
        Err(StartError::Store(StoreError::Locked(_))) => {
            bail!("the server runs but does not answer at {}", socket.display())
        }
        Err(error) => Err(error.into()),
    }
}

async fn token(config: Config, ask: v1::CreateTokenRequest, json: bool) -> anyhow::Result<()> {
    let made = make_token(config, ask).await?;
    if json {
        let value = serde_json::json!({
            "token": made.token,
            "expires_unix_ms": made.expires_unix_ms,
        });
        println!("{value}");
    } else {
        println!("{}", made.token);
    }
    Ok(())
}

/// Makes a join token on the server's machine, whether the server runs or not.
pub async fn make_token(
    config: Config,
    ask: v1::CreateTokenRequest,
) -> anyhow::Result<v1::CreateTokenResponse> {
    let made = match way(config).await? {
        Way::Server(channel) => {
            let made = AdminClient::new(channel).create_token(ask).await;
            made.map(tonic::Response::into_inner)
        }
        Way::Store(core) => {
            let actor = format!("local/{}", nix::unistd::getuid());
            create_token(&core, &actor, ask).await
        }
    };
    made.map_err(|status| anyhow::anyhow!("{}", status.message()))
}

/// Reads `90s`, `30m`, `1h`, `2d`.
pub(in crate::cli) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(number, unit)| {
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(unit)
    });
    match seconds {
        Some(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err("a number with s, m, h or d, such as 90s or 1h".to_owned()),
    }
}

/// Connects to the admin socket.
#[derive(Clone)]
struct Socket(PathBuf);

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<UnixStream>>> + Send>>;

impl tower_service::Service<http::Uri> for Socket {
    type Response = TokioIo<UnixStream>;
    type Error = io::Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let path = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_checked_without_a_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let (config, file) = (dir.path().join("server.toml"), dir.path().join("audit.jsonl"));
        std::fs::write(&file, "").unwrap();
        let run = |file: Option<PathBuf>| {
            let verify = audit::Command::Verify { head: None, file, json: false };
            let command = Some(Command::Audit { command: Some(verify), json: false });
            run(Args { config: config.clone(), command })
        };
        assert!(run(Some(file)).is_ok());
        assert!(run(None).is_err(), "the store's place is in the configuration");
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", Some(90)), ("1h", Some(3600)), ("2d", Some(172_800))] {
            assert_eq!(duration(text).ok().map(|d| d.as_secs()), seconds);
        }
        for text in ["", "h", "0s", "1", "1w", "-1h", "1é", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
