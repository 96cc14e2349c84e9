//! `--sandbox`: a view of the file system in which the program can leave nothing that others
//! run, and finds no socket or fifo of theirs.
//!
//! All is read-only but the directory that the program starts in. Home directories and those
//! for temporary files are new and empty and end with the run. Sockets and fifos that others
//! made are covered where they are found.

use super::mounts::{View, bind, bind_held, named, tmpfs_with};
use super::{FloorError, step};
use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::unistd::{Gid, Uid, User, setegid, seteuid, setgroups};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// New and empty for the run, with everybody's right to write.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];
/// Other people's homes: empty.
const HOMES: [&str; 2] = ["/home", "/root"];
/// Made writable again behind the general rule, as far as they are there: what is written in
/// these is the run's own, or guarded by mounts of its own below.
const WRITABLE: [&str; 4] = ["/proc", "/dev/pts", "/dev/shm", "/dev/mqueue"];
/// Where sockets and fifos are looked for.
const SEARCHED: [&str; 4] = ["/run", "/var", "/srv", "/opt"];
/// Directories that no work is done in: they hold what others depend on.
const SHARED: [&str; 14] = [
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/opt", "/proc", "/root", "/run", "/srv",
    "/sys", "/usr", "/var",
];
/// The system's own: no work is done in them or below, and a service's account that has its home
/// there keeps it, read-only, with the programs that are in it.
const SYSTEM: [&str; 10] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr"];
/// Entries that are looked at below [`SEARCHED`], at most.
const ENTRIES: usize = 200_000;

/// The directory that stays writable, held open.
#[derive(Debug)]
pub(super) struct Work {
    held: File,
    path: PathBuf,
    home: PathBuf,
}

impl Work {
    /// Opens it with the program's own rights, before anything is changed.
    pub(super) fn open(view: &View<'_>, cwd: &Path) -> Result<Self, FloorError> {
        let held = named("enter", cwd, || as_user(view, || open(cwd)))?;
        let path =
            named("find", cwd, || fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())))?;
        let user = User::from_uid(Uid::from_raw(view.uid)).ok().flatten();
        let home = user.map_or_else(|| PathBuf::from("/nonexistent"), |user| user.dir);
        match too_wide(&path, &home) {
            false => Ok(Self { held, path, home }),
            true => Err(FloorError::Sandbox(path)),
        }
    }
}

/// Whether a directory holds more than work: whoever can write there can change what others run.
fn too_wide(path: &Path, home: &Path) -> bool {
    let holds = |other: &str| Path::new(other).starts_with(path);
    home.starts_with(path)
        || SHARED.iter().any(|other| holds(other))
        || TEMPORARY.iter().any(|other| holds(other))
        || systems(path)
}

fn systems(path: &Path) -> bool {
    path == Path::new("/") || SYSTEM.iter().any(|system| path.starts_with(system))
}

/// Changes the mounts of a run that has all other changes.
pub(super) fn close(view: &View<'_>, work: &Work) -> Result<(), FloorError> {
    for path in found()? {
        bind(Path::new("/dev/null"), &path)?;
    }
    attributes(Path::new("/"), libc::AT_RECURSIVE, libc::MOUNT_ATTR_RDONLY, 0)?;
    let own = format!("/run/user/{}", view.uid);
    for path in WRITABLE.into_iter().chain([own.as_str()]).map(Path::new) {
        if path.is_dir() && is_mount(path)? {
            attributes(path, 0, 0, libc::MOUNT_ATTR_RDONLY)?;
        }
    }
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    for dir in TEMPORARY.map(Path::new).into_iter().filter(|dir| dir.is_dir()) {
        tmpfs_with(dir, "mode=1777", safe)?;
    }
    for dir in HOMES.map(Path::new).into_iter().filter(|dir| dir.is_dir()) {
        tmpfs_with(dir, "mode=0755", safe)?;
    }
    let user = format!("mode=0700,uid={},gid={}", view.uid, view.gid);
    if work.home.is_dir() && !systems(&work.home) {
        tmpfs_with(&work.home, &user, safe)?;
    } else if HOMES.iter().any(|homes| work.home.starts_with(homes)) {
        named("make", &work.home, || {
            fs::create_dir_all(&work.home)?;
            fs::set_permissions(&work.home, fs::Permissions::from_mode(0o700))?;
            chown(&work.home, Some(view.uid), Some(view.gid))
        })?;
    }
    if !work.path.is_dir() {
        named("make", &work.path, || fs::create_dir_all(&work.path))?;
    }
    bind_held(&work.held, &work.path)?;
    attributes(&work.path, 0, 0, libc::MOUNT_ATTR_RDONLY)
}

fn open(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)
}

/// Does it with the rights of the run's user. The process has one thread.
fn as_user<T>(view: &View<'_>, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let groups: Vec<Gid> = view.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let before = nix::unistd::getgroups()?;
    let own = (nix::unistd::getegid(), nix::unistd::geteuid());
    setgroups(&groups)?;
    setegid(Gid::from_raw(view.gid))?;
    seteuid(Uid::from_raw(view.uid))?;
    let done = act();
    seteuid(own.1)?;
    setegid(own.0)?;
    setgroups(&before)?;
    done
}

/// Sockets and fifos of others. What cannot be looked at is skipped: the program cannot either,
/// or the layer for unix sockets holds.
fn found() -> Result<Vec<PathBuf>, FloorError> {
    let mut left: Vec<PathBuf> = SEARCHED.iter().map(PathBuf::from).collect();
    let mut found = Vec::new();
    let mut seen = 0;
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES {
                return Err(FloorError::SandboxSearch(ENTRIES));
            }
            // Of the link itself, never of what it leads to.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => left.push(entry.path()),
                Ok(kind) if kind.is_socket() || kind.is_fifo() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(found)
}

fn is_mount(path: &Path) -> Result<bool, FloorError> {
    use std::os::unix::fs::MetadataExt;
    let parent = path.parent().unwrap_or_else(|| Path::new("/"));
    let devices =
        named("look at", path, || Ok((fs::metadata(path)?.dev(), fs::metadata(parent)?.dev())))?;
    Ok(devices.0 != devices.1)
}

/// `mount_setattr(2)`, Linux 5.12.
fn attributes(path: &Path, flags: i32, set: u64, clear: u64) -> Result<(), FloorError> {
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| FloorError::File {
        what: format!("a NUL in {}", path.display()),
        error: io::ErrorKind::InvalidInput.into(),
    })?;
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    let size = size_of::<libc::mount_attr>();
    // SAFETY: `name` ends with NUL and `attr` is as long as `size` says; the kernel reads both.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            name.as_ptr(),
            flags,
            &raw const attr,
            size,
        )
    };
    step("mount_setattr", Errno::result(done).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/", true)]
    #[case("/usr", true)]
    #[case("/home", true)]
    #[case("/home/ann", true)]
    #[case("/tmp", true)]
    #[case("/etc/cron.d", true)]
    #[case("/usr/local/src", true)]
    #[case("/home/ann/work", false)]
    #[case("/tmp/work", false)]
    #[case("/srv/app", false)]
    fn work_is_no_place_that_others_depend_on(#[case] path: &str, #[case] refused: bool) {
        assert_eq!(too_wide(Path::new(path), Path::new("/home/ann")), refused);
    }
}
