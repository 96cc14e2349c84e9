//! A run's standard descriptors: a new terminal where the caller has one, a new
//! pipe everywhere else. The caller's own descriptors never reach the program:
//! a socket among them would be a way out that no cgroup hook sees.

use super::init::{StartError, system};
use super::wire::Run;
use nix::fcntl::OFlag;
use nix::unistd::{Gid, Uid, fchown};
use std::fs::OpenOptions;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// Both sides of the descriptors.
#[derive(Debug)]
pub(super) struct Stdio {
    clients: Vec<OwnedFd>,
    program: ProgramSide,
    terminal: Option<OwnedFd>,
}

/// The program's side.
#[derive(Debug)]
pub(super) struct ProgramSide {
    /// Descriptors 0, 1 and 2.
    pub(super) fds: [OwnedFd; 3],
    /// Whether one of them is the terminal, and which.
    pub(super) terminal: Option<usize>,
}

impl Stdio {
    /// Makes what `run` asks for, owned by the program's user (so that it can
    /// open `/dev/stdout` again). The calling process leads a session without a
    /// terminal, and gets the new one.
    pub(super) fn make(run: &Run, uid: u32, gid: u32) -> Result<Self, StartError> {
        let own = |fd: &OwnedFd| {
            fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
                .map_err(system("giving a descriptor to the program's user"))
        };
        let mut clients = Vec::new();
        let mut program = Vec::with_capacity(3);
        let mut terminal = None;
        let wants = |n: usize| run.terminal & (1 << n) != 0;
        let first = (0..3).find(|n| wants(*n));
        let slave = match first {
            None => None,
            Some(_) => {
                let (master, slave) = open_terminal()?;
                fchown(&slave, Some(Uid::from_raw(uid)), None)
                    .map_err(system("giving the terminal to the program's user"))?;
                terminal = Some(clone(&master)?);
                clients.push(master);
                Some(slave)
            }
        };
        for n in 0..3 {
            let side = match &slave {
                Some(slave) if wants(n) => clone(slave)?,
                _ => {
                    let (reader, writer) =
                        nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(system("making a pipe"))?;
                    let (client, side) = if n == 0 { (writer, reader) } else { (reader, writer) };
                    own(&side)?;
                    clients.push(client);
                    side
                }
            };
            program.push(side);
        }
        let fds = program.try_into().map_err(|_| StartError::Client)?;
        Ok(Self { clients, program: ProgramSide { fds, terminal: first }, terminal })
    }

    /// The client's side: the terminal if there is one, then its pipes of 0, 1, 2.
    pub(super) fn clients_fds(&self) -> Vec<RawFd> {
        self.clients.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Closes the client's side here; gives the program's, and the terminal for
    /// looking up its foreground.
    pub(super) fn split(self) -> (ProgramSide, Option<OwnedFd>) {
        (self.program, self.terminal)
    }
}

/// A new terminal out of the run's own devpts, made the controlling one.
fn open_terminal() -> Result<(OwnedFd, OwnedFd), StartError> {
    let master: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/pts/ptmx")
        .map_err(system("opening a terminal"))?
        .into();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlock) };
    nix::errno::Errno::result(result).map_err(system("unlocking the terminal"))?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and gives a new descriptor.
    let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let fd = nix::errno::Errno::result(fd).map_err(system("opening the terminal's other side"))?;
    // SAFETY: the kernel has just made it for us.
    let slave = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: TIOCSCTTY takes an integer.
    let result = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    nix::errno::Errno::result(result).map_err(system("taking the terminal"))?;
    Ok((master, slave))
}

fn clone(fd: &OwnedFd) -> Result<OwnedFd, StartError> {
    fd.try_clone().map_err(system("duplicating a descriptor"))
}
