//! The floor: what `enforcer run` puts under a program on every kernel, whatever
//! BPF programs hang on its cgroup.
//!
//! [`mounts`] is done by the run's init, with privileges; [`drop_to`] by the
//! program's own process, last before `exec`. Anything that cannot be done, and
//! cannot then be seen to be done, ends the start.

#![expect(unsafe_code, reason = "system calls that have no safe wrapper")]

pub mod landlock;
pub mod mounts;
mod sandbox;
pub mod seccomp;

use caps::CapSet;
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// `SECBIT_NOROOT` and `SECBIT_NO_CAP_AMBIENT_RAISE`, and every lock bit, so that
/// user 0 is a user like others and stays so (`linux/securebits.h`).
const SECUREBITS: libc::c_ulong = 0b1110_1011;

/// `linux/keyctl.h`.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;

/// Why the floor does not hold.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// A step failed.
    #[error("{step}: {errno}")]
    Step {
        /// What was to be done.
        step: &'static str,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Capabilities could not be changed.
    #[error("dropping capabilities: {0}")]
    Caps(#[from] caps::errors::CapsError),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::SeccompError),
    /// Landlock is there but did not do what it was asked.
    #[error("Landlock: {0}")]
    Landlock(String),
    /// A file or mount.
    #[error("{what}: {error}")]
    File {
        /// What was to be done.
        what: String,
        /// The kernel's answer.
        error: std::io::Error,
    },
    /// There is nothing that the sandbox could leave writable.
    #[error(
        "the sandbox leaves the directory that the program starts in writable, and {} holds more \
         than its work: start it in a directory of its own",
        .0.display()
    )]
    Sandbox(std::path::PathBuf),
    /// Sockets and fifos could be behind what was not looked at.
    #[error(
        "the sandbox covers others' sockets and fifos below /run, /var, /srv and /opt, and there \
         are more than {0} files: start the program without --sandbox, or with fewer files"
    )]
    SandboxSearch(usize),
    /// A check afterwards found the door open.
    #[error("after dropping privileges {0}")]
    NotDropped(&'static str),
}

/// Gives a step its name in an error.
pub(crate) fn step<T>(step: &'static str, result: nix::Result<T>) -> Result<T, FloorError> {
    result.map_err(|errno| FloorError::Step { step, errno })
}

/// Closes every descriptor from `first` on.
pub fn close_from(first: u32) -> Result<(), FloorError> {
    // SAFETY: no Rust value owns one of these descriptors any more that is used afterwards:
    // the caller is about to exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    step("close_range", Errno::result(result).map(drop))
}

/// Takes every privilege from the calling, single-threaded process for good: keyring, core
/// dumps, capabilities, ids, `no_new_privs`, Landlock scopes and the system
/// call filter, in the order in which each is still possible.
pub fn drop_to(uid: Uid, gid: Gid, groups: &[Gid]) -> Result<(), FloorError> {
    new_session_keyring();
    step("RLIMIT_CORE", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    empty_bounding_set()?;
    prctl("PR_SET_SECUREBITS", libc::PR_SET_SECUREBITS, SECUREBITS)?;
    step("setgroups", setgroups(groups))?;
    step("setresgid", setresgid(gid, gid, gid))?;
    step("setresuid", setresuid(uid, uid, uid))?;
    clear_sets()?;
    prctl("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1)?;
    verify(uid, gid)?;
    landlock::restrict()?;
    seccomp::install()?;
    Ok(())
}

/// Keeps only the right to signal the program; the run's init lives on with that.
pub fn keep_only_kill() -> Result<(), FloorError> {
    empty_bounding_set()?;
    let kill = [caps::Capability::CAP_KILL].into_iter().collect();
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &kill)?;
    caps::set(None, CapSet::Permitted, &kill)?;
    prctl("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1)?;
    prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0)
}

fn prctl(name: &'static str, option: libc::c_int, value: libc::c_ulong) -> Result<(), FloorError> {
    let zero: libc::c_ulong = 0;
    // SAFETY: these options take integers only.
    let result = unsafe { libc::prctl(option, value, zero, zero, zero) };
    step(name, Errno::result(result).map(drop))
}

/// The daemon's session keyring may hold its secrets; the program gets an empty
/// one. Kernels without keyrings have nothing to hide.
fn new_session_keyring() {
    let name: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name) };
}

/// Every capability that this kernel knows, also those that no crate names yet.
fn empty_bounding_set() -> Result<(), FloorError> {
    for capability in 0..64 {
        match prctl("PR_CAPBSET_DROP", libc::PR_CAPBSET_DROP, capability) {
            // The first number past the kernel's last.
            Err(FloorError::Step { errno: Errno::EINVAL, .. }) => break,
            other => other?,
        }
    }
    Ok(())
}

fn clear_sets() -> Result<(), FloorError> {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set)?;
    }
    Ok(())
}

fn verify(uid: Uid, gid: Gid) -> Result<(), FloorError> {
    use nix::unistd::{getresgid, getresuid};
    for set in [
        CapSet::Bounding,
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        if !caps::read(None, set)?.is_empty() {
            return Err(FloorError::NotDropped("capabilities are left"));
        }
    }
    let users = step("getresuid", getresuid())?;
    let groups = step("getresgid", getresgid())?;
    if [users.real, users.effective, users.saved] != [uid; 3]
        || [groups.real, groups.effective, groups.saved] != [gid; 3]
    {
        return Err(FloorError::NotDropped("the ids are not the program's"));
    }
    if !uid.is_root() && nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return Err(FloorError::NotDropped("root could be taken back"));
    }
    if nix::sys::prctl::get_no_new_privs() != Ok(true) {
        return Err(FloorError::NotDropped("new privileges are possible"));
    }
    Ok(())
}
