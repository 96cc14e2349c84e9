//! The run's init: pid 1 of the run's pid namespace, and the only process in the
//! run's cgroup that is not the program's.
//!
//! It joins the cgroup first of all, sets up the mounts, makes terminal and
//! pipes (so that no descriptor of the caller's reaches the program), starts the
//! program under the floor, passes signals on, reaps, and tells the client how
//! it ended. When it ends the kernel ends everything else in the namespace; it
//! ends when the program does, when the client is gone, and when its keeper is.

use super::caller::Caller;
use super::cgroup::RunCgroup;
use super::floor::{self, FloorError, mounts};
use super::launch::{TOLD, tell};
use super::program;
use super::stdio::{ProgramSide, Stdio};
use super::wire::{Do, Event, Failed, Happened, Order, Run, Spec, recv_packet, send_packet};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, setsid, tcgetpgrp};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What init leaves with when it could not tell the client.
const UNTOLD: i32 = 1;

/// Why the program was not started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The floor.
    #[error("the confinement cannot be set up: {0}")]
    Floor(#[from] FloorError),
    /// A system call.
    #[error("{what}: {error}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The client went away, or spoke nonsense.
    #[error("the client is gone")]
    Client,
    /// The program's own process said why.
    #[error("{0}")]
    Program(program::ExecFailure),
}

pub(super) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> StartError {
    move |error| StartError::System { what, error: error.into() }
}

/// Is the run's init; does not return.
pub(super) fn main(cgroup: &RunCgroup, spec: &Spec, caller: &Caller, session: &OwnedFd) -> ! {
    let code = match supervise(cgroup, spec, caller, session) {
        Ok(()) | Err(StartError::Client) => TOLD,
        Err(error) => {
            let code = match &error {
                StartError::Program(failure) => failure.code(),
                _ => 1,
            };
            let reason = error.to_string();
            match tell(session, Happened::Failed(Failed { reason, code })) {
                Ok(()) => TOLD,
                Err(_) => UNTOLD,
            }
        }
    };
    std::process::exit(code)
}

fn supervise(
    cgroup: &RunCgroup,
    spec: &Spec,
    caller: &Caller,
    session: &OwnedFd,
) -> Result<(), StartError> {
    let host = mounts::HostMounts::open()?;
    // From here on all that this process and its children do is the run's.
    cgroup.join().map_err(system("joining the run's cgroup"))?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(system("PR_SET_PDEATHSIG"))?;
    let run = spec.run.as_ref().ok_or(StartError::Client)?;
    setsid().map_err(system("making a session"))?;
    let view = mounts::View {
        runtime_dir: Path::new(OsStr::from_bytes(&spec.runtime_dir)),
        name_server: &spec.name_server,
        cgroup: cgroup.path(),
        uid: spec.uid,
        gid: spec.gid,
        groups: &spec.groups,
        sandbox: run.sandbox.then(|| Path::new(OsStr::from_bytes(&run.cwd))),
    };
    mounts::set_up(&host, &view)?;
    // Signals arrive on a descriptor; nothing may end this process but its work.
    let mask = SigSet::all();
    mask.thread_block().map_err(system("blocking signals"))?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals =
        SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags).map_err(system("signalfd"))?;

    let stdio = Stdio::make(run, spec.uid, spec.gid)?;
    send_packet(
        session,
        &Event { happened: Some(Happened::Ready(super::wire::Empty {})) },
        &stdio.clients_fds(),
    )
    .map_err(|_| StartError::Client)?;
    let (program_side, terminal) = stdio.split();
    match recv_packet::<Order>(session) {
        Ok(Some((Order { order: Some(Do::Go(_)) }, _))) => {}
        _ => return Err(StartError::Client),
    }
    let child = spawn(spec, run, program_side, caller)?;
    floor::keep_only_kill()?;
    watch(child, session, &signals, terminal.as_ref())
}

/// Starts the program and learns whether its `exec` went well.
fn spawn(spec: &Spec, run: &Run, stdio: ProgramSide, caller: &Caller) -> Result<Pid, StartError> {
    let (reader, writer) =
        nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(system("pipe"))?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.map_err(system("fork"))? {
        ForkResult::Child => program::become_it(spec, run, stdio, caller, writer),
        ForkResult::Parent { child } => {
            drop((writer, stdio));
            match program::ExecFailure::read(reader) {
                None => Ok(child),
                Some(failure) => Err(StartError::Program(failure)),
            }
        }
    }
}

/// Serves client and kernel until the program has ended.
fn watch(
    child: Pid,
    session: &OwnedFd,
    signals: &SignalFd,
    terminal: Option<&OwnedFd>,
) -> Result<(), StartError> {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(session.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(system("poll"))?,
        };
        let [children, client] = fds.map(|fd| fd.any().unwrap_or(true));
        if children {
            while let Ok(Some(_)) = signals.read_signal() {}
            if let Some(end) = reap(child, session)? {
                return tell(session, end).map_err(|_| StartError::Client);
            }
        }
        if client {
            match recv_packet::<Order>(session) {
                Ok(Some((Order { order: Some(order) }, _))) => pass_on(order, child, terminal),
                // Gone, or not our client: the run ends with it.
                _ => return Err(StartError::Client),
            }
        }
    }
}

/// Reaps what has ended; gives the end of the program itself.
fn reap(child: Pid, session: &OwnedFd) -> Result<Option<Happened>, StartError> {
    loop {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        let status = match waitpid(None::<Pid>, Some(flags)) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(system("waitpid"))?,
        };
        match status {
            WaitStatus::Exited(pid, code) if pid == child => {
                return Ok(Some(Happened::Exited(u32::try_from(code).unwrap_or(1))));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == child => {
                return Ok(Some(Happened::Killed(signal as u32)));
            }
            WaitStatus::Stopped(pid, signal) if pid == child => {
                tell(session, Happened::Stopped(signal as u32)).map_err(|_| StartError::Client)?;
            }
            WaitStatus::StillAlive => return Ok(None),
            // Orphans of the program.
            _ => {}
        }
    }
}

fn pass_on(order: Do, child: Pid, terminal: Option<&OwnedFd>) {
    let (number, pid) = match order {
        Do::Go(_) => return,
        Do::Signal(number) => (number, child),
        Do::SignalGroup(number) => {
            let group = terminal
                .and_then(|terminal| tcgetpgrp(terminal).ok())
                .filter(|group| group.as_raw() > 1)
                .unwrap_or(child);
            (number, Pid::from_raw(-group.as_raw()))
        }
    };
    let signal = i32::try_from(number).ok().and_then(|n| Signal::try_from(n).ok());
    if let Some(signal) = signal {
        // The program may just have ended; its end is then what the client hears.
        let _ = kill(pid, signal);
    }
}
