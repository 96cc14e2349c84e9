//! The daemon's control socket: who asks is looked up in the kernel, what is
//! asked is bounded, and a program is started by a keeper process of its own
//! that outlives this daemon.
//!
//! A process in a governed cgroup is never served: it could start programs as
//! another agent.

use super::cgroup::RunCgroup;
use super::peer::Peer;
use super::plan::{self, Place, plan};
use super::trust;
use super::wire::{self, Answer, Ask, Reply, Run, Spec, Started, WireError};
use crate::config::Config;
use crate::principal::AgentName;
use prost::Message;
use std::ffi::OsStr;
use std::fs;
use std::future::Future;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

pub use super::status::{
    Check, Counter, LayerStatus, ServerStatus, StatusReport, TranscriptStatus,
};

/// Connections served at once; each lasts one request.
const CONNECTIONS: usize = 128;

/// How long a request may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the socket is served with.
pub struct ControlInputs {
    /// The daemon's configuration.
    pub config: Arc<Config>,
    /// The daemon's account of itself; may block shortly.
    pub status: Arc<dyn Fn() -> StatusReport + Send + Sync>,
    /// Asked before every start: only `Ok` when the kernel half is attached and
    /// effective. The error is told to the caller.
    pub guard: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    /// Told of every cgroup that is made for a run.
    pub learn: Arc<dyn Fn(&Path) + Send + Sync>,
    /// The program that has `__launch`; this one, unless a test says otherwise.
    pub launcher: PathBuf,
}

impl ControlInputs {
    /// Inputs with this program as the launcher.
    pub fn new(
        config: Arc<Config>,
        status: Arc<dyn Fn() -> StatusReport + Send + Sync>,
        guard: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
        learn: Arc<dyn Fn(&Path) + Send + Sync>,
    ) -> Self {
        Self {
            config,
            status,
            guard,
            learn,
            // Not a path: the very file that runs, also when it was replaced.
            launcher: "/proc/self/exe".into(),
        }
    }

    fn roots(&self) -> impl Iterator<Item = &str> {
        self.config.governed.iter().map(|g| g.cgroup.as_str())
    }
}

/// The socket's path in a runtime directory.
pub fn socket_path(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("control.sock")
}

/// Makes the runtime directory (0755) and the socket in it (0666: everyone may
/// ask, what they get depends on who they are). A socket that is left over is replaced.
pub fn bind(runtime_dir: &Path) -> io::Result<UnixListener> {
    fs::create_dir_all(runtime_dir)?;
    fs::set_permissions(runtime_dir, fs::Permissions::from_mode(0o755))?;
    let path = socket_path(runtime_dir);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(&path)?,
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves until `shutdown`; programs that were started go on.
pub async fn serve(
    listener: UnixListener,
    inputs: Arc<ControlInputs>,
    shutdown: impl Future<Output = ()>,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => return,
            accepted = async {
                // The semaphore is never closed.
                let slot = Arc::clone(&slots).acquire_owned().await;
                (slot, listener.accept().await)
            } => accepted,
        };
        let (slot, (stream, _)) = match accepted {
            (slot, Ok(stream)) => (slot, stream),
            (_, Err(error)) => {
                tracing::warn!(%error, "control socket: accept");
                // Out of descriptors, as a rule; some will be given back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let inputs = Arc::clone(&inputs);
        tokio::spawn(async move {
            if let Err(error) = Box::pin(answer(stream, inputs)).await {
                tracing::debug!(%error, "control connection");
            }
            drop(slot);
        });
    }
}

async fn answer(mut stream: UnixStream, inputs: Arc<ControlInputs>) -> Result<(), WireError> {
    let (answer, session) = match Peer::of(&stream, inputs.roots()) {
        Err(refused) => (Answer::Refused(refused.to_string()), None),
        Ok(peer) => match tokio::time::timeout(PATIENCE, read_ask(&mut stream)).await {
            Err(_) => return Ok(()),
            Ok(Err(WireError::Io(error))) => return Err(error.into()),
            Ok(Err(error)) => (Answer::Refused(error.to_string()), None),
            Ok(Ok(ask)) => match ask {
                Ask::Status(_) => (status(&inputs).await, None),
                Ask::Run(run) => match start(run, peer, inputs).await {
                    Ok((started, session)) => (Answer::Started(started), Some(session)),
                    Err(reason) => (Answer::Refused(reason), None),
                },
            },
        },
    };
    reply(stream, answer, session)
}

async fn read_ask(stream: &mut UnixStream) -> Result<Ask, WireError> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).await?;
    let len = wire::frame_len(prefix)?;
    // Grows with what arrives, not with what was announced.
    let mut bytes = Vec::new();
    stream.take(len as u64).read_to_end(&mut bytes).await?;
    if bytes.len() != len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    wire::decode_request(&bytes)
}

fn reply(stream: UnixStream, answer: Answer, session: Option<OwnedFd>) -> Result<(), WireError> {
    let frame = wire::frame(&Reply { answer: Some(answer) })?;
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let fds: Vec<RawFd> = session.iter().map(AsRawFd::as_raw_fd).collect();
    // The prefix carries the descriptor, so that the reader knows where it comes.
    let (prefix, rest) = frame.split_at(4);
    wire::send_with_fds(&stream, prefix, &fds)?;
    Ok(stream.write_all(rest)?)
}

async fn status(inputs: &Arc<ControlInputs>) -> Answer {
    let fill = Arc::clone(&inputs.status);
    let report = tokio::task::spawn_blocking(move || fill()).await;
    let text = report
        .map_err(|e| e.to_string())
        .and_then(|report| serde_json::to_string(&report).map_err(|e| e.to_string()));
    match text {
        Ok(text) => Answer::Status(text),
        Err(error) => Answer::Refused(format!("the status cannot be told: {error}")),
    }
}

/// Starts the keeper; gives what the client is told and its end of the session socket.
async fn start(
    run: Run,
    peer: Peer,
    inputs: Arc<ControlInputs>,
) -> Result<(Started, OwnedFd), String> {
    let (uid, pid) = (peer.uid, peer.pid);
    let shared = Arc::clone(&inputs);
    let (spec, cgroup) = tokio::task::spawn_blocking(move || {
        let spec = prepare(run, &peer, &shared)?;
        let cgroup = make_cgroup(&spec)?;
        // A program can be over, and its cgroup gone, before its first connection is accepted.
        (shared.learn)(cgroup.path());
        Ok::<_, String>((spec, cgroup))
    })
    .await
    .map_err(|error| format!("the start failed: {error}"))??;
    let run = spec.run.clone().unwrap_or_default();
    let (client, mut keeper) = match launch(&inputs.launcher, &spec) {
        Ok(started) => started,
        Err(error) => {
            // Nothing is in it; one that stays does no harm.
            let _removed = cgroup.remove();
            return Err(format!("the launcher: {error}"));
        }
    };
    let id = spec.run_id.clone();
    tracing::info!(
        agent = run.agent,
        task = run.task,
        run = id,
        uid = spec.uid,
        caller.uid = uid,
        caller.pid = pid,
        "program started"
    );
    tokio::spawn(async move {
        match keeper.wait().await {
            Ok(end) if end.success() => tracing::info!(run = id, "program ended"),
            Ok(end) => tracing::warn!(run = id, %end, "the keeper of a program failed"),
            Err(error) => tracing::warn!(run = id, %error, "the keeper of a program is lost"),
        }
        // The keeper has removed it, unless it never began; with a process in it it stays.
        let _gone_or_in_use = fs::remove_dir(cgroup.path());
    });
    let started = Started { agent: run.agent, cgroup: spec.run_id };
    Ok((started, client))
}

fn prepare(run: Run, peer: &Peer, inputs: &ControlInputs) -> Result<Spec, String> {
    let config = &inputs.config;
    (inputs.guard)()
        .map_err(|why| format!("enforcement does not hold, so nothing is started: {why}"))?;
    let root = run_root(config)?;
    let layers = (inputs.status)().layers;
    let trust = trust::write(&config.ca_dir().join("ca.pem"), &config.host.runtime_dir)
        .map_err(|error| error.to_string())?;
    let place = Place {
        config,
        root: &root,
        trust: &trust,
        // "run-" so that it can never be taken for a task's cgroup.
        run_id: format!("run-{}", uuid::Uuid::now_v7().simple()),
        lsm: layers.iter().any(|layer| layer.name == "lsm" && layer.holds),
    };
    plan(run, peer, &place, &plan::system_accounts).map_err(|refusal| refusal.to_string())
}

fn make_cgroup(spec: &Spec) -> Result<RunCgroup, String> {
    let run = spec.run.as_ref().ok_or("nothing to start")?;
    let agent = AgentName::parse(&run.agent).ok_or("the agent has no name")?;
    let root = Path::new(OsStr::from_bytes(&spec.root));
    RunCgroup::make(root, &agent, &run.task, &spec.run_id)
        .map_err(|error| format!("making a cgroup below {}: {error}", root.display()))
}

/// The governed root that programs are started in.
pub fn run_root(config: &Config) -> Result<PathBuf, String> {
    let governed = match &config.run.cgroup {
        None => config.governed.first(),
        Some(name) => {
            config.governed.iter().find(|g| g.cgroup.trim_matches('/') == name.trim_matches('/'))
        }
    };
    let governed = governed.ok_or("run.cgroup names no governed cgroup of the configuration")?;
    crate::capture::governed_root(governed).map_err(|error| error.to_string())
}

fn launch(launcher: &Path, spec: &Spec) -> io::Result<(OwnedFd, tokio::process::Child)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
    let (client, keeper) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let memory = nix::sys::memfd::memfd_create(c"run", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    let mut memory = fs::File::from(memory);
    memory.write_all(&spec.encode_to_vec())?;
    memory.rewind()?;
    let child = tokio::process::Command::new(launcher)
        .arg("__launch")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(memory))
        .stdout(Stdio::from(keeper))
        .spawn()?;
    Ok((client, child))
}
