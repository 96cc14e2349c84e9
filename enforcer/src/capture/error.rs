//! What can go wrong with the kernel half, in sentences that an operator can act on.

use std::io;
use std::path::PathBuf;

/// The kernel half could not be installed, checked or removed. Each of these keeps the daemon
/// from starting; none of them opens anything.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The build left the kernel half out.
    #[error(
        "this binary was built without its kernel half (ENFORCER_SKIP_EBPF=1); build it again without that variable"
    )]
    NoObject,
    /// No cgroup2 mount.
    #[error("no cgroup2 file system is mounted; mount one (mount -t cgroup2 none /sys/fs/cgroup)")]
    NoCgroup2,
    /// A governed cgroup's path is not usable.
    #[error("governed cgroup {path:?}: {reason}")]
    BadRoot {
        /// As configured.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The daemon is inside what it governs.
    #[error(
        "the daemon runs in cgroup {own}, inside the governed cgroup {root}: its own connections would come back to it; start it in another cgroup"
    )]
    Inside {
        /// The daemon's cgroup.
        own: String,
        /// The governed root.
        root: String,
    },
    /// The configuration requires a layer that is not there.
    #[error("kernel.require names the layer {name:?}, which does not hold on this host: {reason}")]
    Layer {
        /// Its name.
        name: &'static str,
        /// Why it does not hold.
        reason: String,
    },
    /// A file operation failed.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The pin directory is not on a bpffs.
    #[error("{}: not on a bpf file system; set kernel.pin_dir below /sys/fs/bpf or mount one there", .0.display())]
    NotBpffs(PathBuf),
    /// The kernel did not take the programs.
    #[error("loading the kernel half: {0}")]
    Load(#[from] aya::EbpfError),
    /// The kernel did not take one program.
    #[error("loading the program {program}: {source}")]
    Program {
        /// Its name.
        program: &'static str,
        /// The verifier's or loader's answer.
        source: aya::programs::ProgramError,
    },
    /// A map could not be used.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// Why.
        source: aya::maps::MapError,
    },
    /// The object lacks what the loader expects, or a pin holds something else.
    #[error("{0}; stop the daemon, run `enforcer doctor`, and detach before starting again")]
    Mismatch(String),
    /// A guard is not effective any more.
    #[error("the guard {hook} is not attached to {root} any more: {reason}")]
    Detached {
        /// The program.
        hook: &'static str,
        /// The governed cgroup.
        root: String,
        /// What was seen.
        reason: String,
    },
}

impl CaptureError {
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(super) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
