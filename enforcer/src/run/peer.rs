//! Who is at the other end of a control connection. Everything here comes from
//! the kernel; nothing is taken from what the caller says.

use super::cgroup;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// `SO_PEERPIDFD` (6.5), which libc names on few targets.
const SO_PEERPIDFD: libc::c_int = 77;

/// The most supplementary groups of a process (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// Why a caller is not served.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The kernel gave no answer.
    #[error("the kernel does not say who asks: {0}")]
    Unknown(#[from] io::Error),
    /// It lives in a governed cgroup.
    #[error("a governed process may not use the control socket")]
    Governed,
    /// It is gone, so that what `/proc` says of its number may be of another.
    #[error("the caller is gone, or in another pid namespace")]
    Gone,
}

/// The process that connected.
#[derive(Debug)]
pub struct Peer {
    /// Its number in this pid namespace.
    pub pid: i32,
    /// Effective user at connect.
    pub uid: u32,
    /// Effective group at connect.
    pub gid: u32,
    /// Supplementary groups at connect.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Looks at the peer of `socket`, and refuses one in a cgroup below `roots`.
    pub fn of<'a>(
        socket: impl AsFd,
        roots: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, PeerError> {
        let credentials =
            getsockopt(&socket, PeerCredentials).map_err(|e| PeerError::Unknown(e.into()))?;
        let pid = credentials.pid();
        if pid <= 0 {
            return Err(PeerError::Gone);
        }
        let handle = pidfd(&socket, pid)?;
        let path = cgroup::of_process(pid);
        // Read first, then see that it was still there: the number was its own.
        if exited(&handle)? {
            return Err(PeerError::Gone);
        }
        if cgroup::is_governed(&path?, roots) {
            return Err(PeerError::Governed);
        }
        Ok(Self { pid, uid: credentials.uid(), gid: credentials.gid(), groups: groups(&socket)? })
    }
}

fn pidfd(socket: &impl AsFd, pid: i32) -> Result<OwnedFd, PeerError> {
    let mut fd: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `fd` and `len` are valid for the time of the call and as large as said.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut len,
        )
    };
    if result == 0 && fd >= 0 {
        // SAFETY: the kernel has just made this descriptor for us.
        return Ok(unsafe { OwnedFd::from_raw_fd(fd) });
    }
    // Before 6.5: the number may have been given away between connect and here,
    // which needs the caller to end within that time.
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match libc::c_int::try_from(fd) {
        // SAFETY: as above.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(PeerError::Gone),
    }
}

fn exited(pidfd: &OwnedFd) -> io::Result<bool> {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    loop {
        match poll(&mut fds, PollTimeout::ZERO) {
            // A signal, such as of a program's keeper that has ended.
            Err(nix::errno::Errno::EINTR) => {}
            other => return Ok(other? != 0),
        }
    }
}

fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; 64];
    loop {
        let mut len = (groups.len() * size_of::<u32>()) as libc::socklen_t;
        // SAFETY: the buffer is as long as `len` says, both live through the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count > MAX_GROUPS {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_kernel_tells_pid_user_and_groups() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = Peer::of(&a, ["/no-such-root"]).unwrap();
        assert_eq!(peer.pid, std::process::id() as i32);
        assert_eq!(peer.uid, nix::unistd::getuid().as_raw());
        let mut expected: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let mut groups = peer.groups;
        expected.sort_unstable();
        groups.sort_unstable();
        assert_eq!(groups, expected);
    }

    #[test]
    fn a_peer_below_a_governed_root_is_refused() {
        let (a, _b) = UnixStream::pair().unwrap();
        // Everything is below "/".
        assert!(matches!(Peer::of(&a, ["/"]), Err(PeerError::Governed)));
    }
}
