//! `enforcer __launch`: one run's keeper, outside the run's cgroup.
//!
//! It reads its [`Spec`] from descriptor 0 and has the session socket to the
//! client as descriptor 1. It takes the cgroup that the daemon made, forks the run's init (pid 1 of a
//! new pid namespace), waits for its end, and empties and removes the cgroup.
//! It never touches the program's bytes and keeps nothing open for it.

use super::caller::Caller;
use super::cgroup::RunCgroup;
use super::init;
use super::wire::{Event, Failed, Happened, Spec, send_packet};
use crate::principal::AgentName;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use prost::Message;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// What init leaves with when the client already knows how it went.
pub(super) const TOLD: i32 = 0;

/// The exit code for a program that was not started for a reason of ours.
const NOT_STARTED: u32 = 1;

/// Runs the keeper.
pub(super) fn keep() -> anyhow::Result<ExitCode> {
    let (spec, session) = handed_over()?;
    let result = start(spec, &session);
    if let Err(error) = &result {
        let failed = Failed { reason: format!("{error:#}"), code: NOT_STARTED };
        // A client that is gone has no one to tell; the daemon's log has it.
        let _ = tell(&session, Happened::Failed(failed));
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Moves the two descriptors that the daemon hands over away from where a
/// program's standard input and output are, and puts /dev/null there.
fn handed_over() -> anyhow::Result<(OwnedFd, OwnedFd)> {
    use anyhow::Context;
    let move_up = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
    let spec = move_up(std::io::stdin().as_fd()).context("what to start")?;
    let session = move_up(std::io::stdout().as_fd()).context("the session socket")?;
    let null = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .context("/dev/null")?;
    nix::unistd::dup2_stdin(&null).context("standard input")?;
    nix::unistd::dup2_stdout(&null).context("standard output")?;
    Ok((spec, session))
}

/// Tells the client what happened.
pub(super) fn tell(session: impl AsFd, happened: Happened) -> Result<(), super::wire::WireError> {
    send_packet(session, &Event { happened: Some(happened) }, &[])
}

fn start(spec: OwnedFd, session: &OwnedFd) -> anyhow::Result<()> {
    use anyhow::Context;
    let mut bytes = Vec::new();
    std::fs::File::from(spec).read_to_end(&mut bytes).context("reading what to start")?;
    let spec = Spec::decode(bytes.as_slice()).context("reading what to start")?;
    let run = spec.run.as_ref().context("nothing to start")?;
    let agent = AgentName::parse(&run.agent).context("the agent has no name")?;
    let root = Path::new(OsStr::from_bytes(&spec.root));
    let cgroup = RunCgroup::made(root, &agent, &run.task, &spec.run_id)
        .with_context(|| format!("the run's cgroup below {}", root.display()))?;
    let outcome = run_init(&cgroup, &spec, session);
    cgroup.remove().with_context(|| format!("removing the cgroup of {}", spec.run_id))?;
    match outcome? {
        WaitStatus::Exited(_, TOLD) => Ok(()),
        WaitStatus::Signaled(_, signal, _) => {
            // Not by its own doing: the cgroup ran out of memory, or an
            // operator ended the run. Its program went with it.
            let _ = tell(session, Happened::Killed(signal as u32));
            Ok(())
        }
        other => anyhow::bail!("the run's init ended without a word: {other:?}"),
    }
}

fn run_init(cgroup: &RunCgroup, spec: &Spec, session: &OwnedFd) -> anyhow::Result<WaitStatus> {
    use anyhow::Context;
    // Before the new pid namespace, in which the caller has no number.
    let caller = Caller::read(spec.caller);
    unshare(CloneFlags::CLONE_NEWPID).context("making a pid namespace")?;
    // SAFETY: this process has one thread, so the child may do anything.
    match unsafe { fork() }.context("starting the run's init")? {
        ForkResult::Child => init::main(cgroup, spec, &caller, session),
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other.context("waiting for the run's init"),
            }
        },
    }
}
