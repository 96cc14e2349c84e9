//! The mounts of one run: own `/proc`, terminals and shared memory; kernel
//! interfaces read-only or gone; sockets of the host's services out of sight; a
//! resolver configuration that asks by DNS, where the kernel half sees it.
//!
//! Works on the host's own mount tree in a private copy. Nothing here may
//! follow a path that the caller chose.

use super::sandbox::{self, Work};
use super::{FloorError, step};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Where services keep sockets that would act for the program, below `/run` and
/// `/var/run`: name services, units, containers, messages, logs, desktops.
const HIDDEN: [&str; 25] = [
    "acpid.socket",
    "avahi-daemon",
    "buildkit",
    "containerd",
    "crio",
    "cups",
    "dbus",
    "docker",
    "docker.sock",
    "dockershim.sock",
    "incus",
    "libvirt",
    "lxd",
    "nscd",
    "podman",
    "rpcbind.sock",
    "screen",
    "snapd-snap.socket",
    "snapd.socket",
    "systemd/journal",
    "systemd/notify",
    "systemd/private",
    "systemd/resolve",
    "systemd/userdb",
    "user",
];

/// Parts of `/proc` that user 0 may write to without any capability.
const PROC_READ_ONLY: [&str; 6] = ["bus", "fs", "irq", "scsi", "sys", "sysrq-trigger"];

/// What the program is to see.
#[derive(Debug)]
pub struct View<'a> {
    /// The runtime directory; only its trust files stay.
    pub runtime_dir: &'a Path,
    /// The name server of its resolver configuration.
    pub name_server: &'a str,
    /// The run's own cgroup, all that is left of cgroup2.
    pub cgroup: &'a Path,
    /// The user whose runtime directory is made.
    pub uid: u32,
    /// That user's group.
    pub gid: u32,
    /// That user's further groups.
    pub groups: &'a [u32],
    /// With a sandbox: the directory that the program starts in.
    pub sandbox: Option<&'a Path>,
}

/// Enters the host's mount namespace, makes a private copy with own ipc and
/// cgroup namespaces, and changes it. The calling process must be alone in its
/// new pid namespace and in the run's cgroup.
pub fn set_up(host: &HostMounts, view: &View<'_>) -> Result<(), FloorError> {
    host.enter()?;
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWCGROUP;
    step("unshare(mount, ipc, cgroup)", unshare(own))?;
    change("/", "make private", None, None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let work = view.sandbox.map(|cwd| Work::open(view, cwd)).transpose()?;
    let hidden = hide_sockets(view)?;
    runtime(view, &hidden)?;
    proc_and_devices()?;
    kernel_interfaces(view.cgroup)?;
    for dir in hidden {
        read_only(&dir)?;
    }
    work.map_or(Ok(()), |work| sandbox::close(view, &work))
}

/// The host's mounts. The daemon may live in a mount namespace of its own (a unit's sandboxing);
/// the program is to see the host's. A daemon that may not look at pid 1 (root with fewer
/// capabilities, as in a container) gives its own view on.
#[derive(Debug)]
pub struct HostMounts(Option<File>);

impl HostMounts {
    /// To be opened before the run's cgroup is joined: from inside pid 1 is out of reach.
    pub fn open() -> Result<Self, FloorError> {
        match File::open("/proc/1/ns/mnt") {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Self(None)),
            other => {
                named("open", Path::new("/proc/1/ns/mnt"), || other).map(|file| Self(Some(file)))
            }
        }
    }

    fn enter(&self) -> Result<(), FloorError> {
        let Some(host) = &self.0 else { return Ok(()) };
        let own = fs::metadata("/proc/self/ns/mnt");
        let ids =
            named("look at", Path::new("/proc/self/ns/mnt"), || Ok((host.metadata()?, own?)))?;
        if ids.0.ino() == ids.1.ino() {
            return Ok(());
        }
        step("setns(host's mounts)", setns(host, CloneFlags::CLONE_NEWNS))
    }
}

/// Covers the sockets' directories; gives those that are to become read-only.
fn hide_sockets(view: &View<'_>) -> Result<Vec<PathBuf>, FloorError> {
    let mut found = BTreeSet::new();
    for base in ["/run", "/var/run"] {
        found.extend(
            HIDDEN.iter().filter_map(|name| fs::canonicalize(Path::new(base).join(name)).ok()),
        );
    }
    let mut hidden = Vec::new();
    for path in found {
        if path.is_dir() {
            tmpfs(&path, "mode=0755,size=1m")?;
            if path.ends_with("user") {
                let own = path.join(view.uid.to_string());
                named("make the user's runtime directory", &own, || {
                    fs::create_dir(&own)?;
                    fs::set_permissions(&own, fs::Permissions::from_mode(0o700))?;
                    chown(&own, Some(view.uid), Some(view.gid))
                })?;
                // Writable, so it gets its own mount before the parent is closed.
                tmpfs(&own, &format!("mode=0700,uid={},gid={}", view.uid, view.gid))?;
            }
            hidden.push(path);
        } else {
            bind(Path::new("/dev/null"), &path)?;
        }
    }
    Ok(hidden)
}

/// Where distributions keep all system roots in one file: Debian, Fedora, Alpine.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The runtime directory with nothing but the trust files, and the resolver's
/// configuration out of it over the host's.
fn runtime(view: &View<'_>, hidden: &[PathBuf]) -> Result<(), FloorError> {
    let trust = super::super::trust::directory(view.runtime_dir);
    let source = named("open", &trust, || {
        fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(&trust)
    })?;
    let host_resolv = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    tmpfs(view.runtime_dir, "mode=0755,size=1m")?;
    named("make", &trust, || fs::create_dir(&trust))?;
    bind_held(&source, &trust)?;
    read_only(&trust)?;

    let resolv = view.runtime_dir.join("resolv.conf");
    let text = resolv_conf(&host_resolv, view.name_server);
    named("write", &resolv, || fs::write(&resolv, &text))?;
    cover_etc(Path::new("/etc/resolv.conf"), &resolv, text.as_bytes(), hidden)?;
    if let Ok(host) = fs::read_to_string("/etc/nsswitch.conf") {
        let nsswitch = view.runtime_dir.join("nsswitch.conf");
        let text = nsswitch_conf(&host);
        named("write", &nsswitch, || fs::write(&nsswitch, &text))?;
        cover_etc(Path::new("/etc/nsswitch.conf"), &nsswitch, text.as_bytes(), hidden)?;
    }
    // Clients that read the system's store and no variable (GnuTLS, Go without one).
    let bundle = trust.join("bundle.pem");
    for store in SYSTEM_ROOTS {
        if Path::new(store).exists() {
            cover_etc(Path::new(store), &bundle, b"", hidden)?;
        }
    }
    read_only(view.runtime_dir)
}

/// Puts `source` over a file of `/etc`, or over what it links to. A link into a
/// directory that was just hidden gets its file back there. Where there is no
/// file nothing is made: the host's tree is not changed, and libc then asks
/// 127.0.0.1, which the kernel half brings to the resolver too.
fn cover_etc(
    path: &Path,
    source: &Path,
    text: &[u8],
    hidden: &[PathBuf],
) -> Result<(), FloorError> {
    let mut target = path.to_owned();
    for _ in 0..8 {
        let Ok(link) = fs::read_link(&target) else {
            break;
        };
        target = target.parent().unwrap_or_else(|| Path::new("/")).join(link);
    }
    if target.exists() {
        return bind(source, &target);
    }
    let parent = target.parent().and_then(|dir| fs::canonicalize(dir).ok());
    match parent {
        Some(dir) if hidden.contains(&dir) => named("write", &target, || fs::write(&target, text)),
        _ => Ok(()),
    }
}

/// One name server; the search list and options stay, so that short names
/// mean what they meant.
fn resolv_conf(host: &str, name_server: &str) -> String {
    let mut out = format!("nameserver {name_server}\n");
    for line in host.lines() {
        let word = line.split_whitespace().next();
        if matches!(word, Some("search" | "domain" | "options")) {
            out.push_str(line.trim());
            out.push('\n');
        }
    }
    out
}

/// Host names from the hosts file, then by DNS; services that ask over a unix
/// socket (`resolve`, `mdns`, `myhostname` and the like) are left out.
fn nsswitch_conf(host: &str) -> String {
    let mut out = String::new();
    for line in host.lines() {
        if !line.trim_start().starts_with("hosts:") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.push_str("hosts: files dns\n");
    out
}

fn proc_and_devices() -> Result<(), FloorError> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    change("/proc", "mount proc", Some("proc"), None, safe)?;
    for part in PROC_READ_ONLY {
        let path = Path::new("/proc").join(part);
        if path.exists() {
            bind(&path, &path)?;
            read_only(&path)?;
        }
    }
    // A terminal of another session is not even nameable in here.
    let no_exec = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={}", tty_group());
    change("/dev/pts", "mount devpts", Some("devpts"), Some(&options), no_exec)?;
    // On hosts where it is a link or node of its own it leads to ours already.
    if Path::new("/dev/shm").is_dir() {
        // Executable, as the host's is: just-in-time compilers map code from there.
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        change("/dev/shm", "mount tmpfs", Some("tmpfs"), Some("mode=1777"), flags)?;
    }
    if Path::new("/dev/mqueue").is_dir() {
        change("/dev/mqueue", "mount mqueue", Some("mqueue"), None, safe)?;
    }
    Ok(())
}

fn tty_group() -> u32 {
    // 5 on every distribution that the group's number is fixed on.
    let tty = nix::unistd::Group::from_name("tty").ok().flatten();
    tty.map_or(5, |group| group.gid.as_raw())
}

/// `/sys` and all that is mounted below it read-only; bpffs gone; of cgroup2 the
/// program's own part only.
fn kernel_interfaces(cgroup: &Path) -> Result<(), FloorError> {
    let table =
        named("read", Path::new("/proc/self/mountinfo"), || fs::read("/proc/self/mountinfo"))?;
    // Held open: its path is covered by the first bind.
    let held = named("open", cgroup, || {
        fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
            .open(cgroup)
    })?;
    let own = PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()));
    for (path, kind) in mount_table(&table) {
        if kind == b"bpf" {
            tmpfs(&path, "mode=0555,size=4k")?;
            read_only(&path)?;
        } else if kind == b"cgroup2" {
            bind(&own, &path)?;
            read_only(&path)?;
        } else if path.starts_with("/sys") {
            read_only(&path)?;
        }
    }
    Ok(())
}

/// Mount points and file system types out of `/proc/self/mountinfo` (proc(5)).
fn mount_table(table: &[u8]) -> Vec<(PathBuf, &[u8])> {
    table
        .split(|b| *b == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|b| *b == b' ');
            let path = fields.nth(4)?;
            let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
            Some((unescape(path), kind))
        })
        .collect()
}

/// Space, tab, newline and backslash are written as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, tail)) = rest.split_first() {
        let code = (*byte == b'\\')
            .then(|| std::str::from_utf8(tail.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    OsString::from_vec(out).into()
}

fn tmpfs(path: &Path, options: &str) -> Result<(), FloorError> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    tmpfs_with(path, options, safe)
}

pub(super) fn tmpfs_with(path: &Path, options: &str, flags: MsFlags) -> Result<(), FloorError> {
    change(path, "mount tmpfs", Some("tmpfs"), Some(options), flags)
}

/// Of a directory that is held open: its path may be covered.
pub(super) fn bind_held(source: &File, target: &Path) -> Result<(), FloorError> {
    bind(Path::new(&format!("/proc/self/fd/{}", source.as_raw_fd())), target)
}

pub(super) fn bind(source: &Path, target: &Path) -> Result<(), FloorError> {
    let done = mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>);
    done.map_err(|errno| FloorError::File {
        what: format!("bind {} to {}", source.display(), target.display()),
        error: errno.into(),
    })
}

fn read_only(path: &Path) -> Result<(), FloorError> {
    let flags = MsFlags::MS_REMOUNT
        | MsFlags::MS_BIND
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    change(path, "make read-only", None, None, flags)
}

fn change(
    path: impl AsRef<Path>,
    what: &str,
    kind: Option<&str>,
    options: Option<&str>,
    flags: MsFlags,
) -> Result<(), FloorError> {
    let path = path.as_ref();
    mount(kind, path, kind, flags, options).map_err(|errno| FloorError::File {
        what: format!("{what} at {}", String::from_utf8_lossy(path.as_os_str().as_bytes())),
        error: errno.into(),
    })
}

pub(super) fn named<T>(
    what: &str,
    path: &Path,
    act: impl FnOnce() -> io::Result<T>,
) -> Result<T, FloorError> {
    act().map_err(|error| FloorError::File { what: format!("{what} {}", path.display()), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_has_one_server_and_keeps_the_search_list() {
        let host = "# c\nnameserver 127.0.0.53\nnameserver 10.0.0.1\nsearch a.example b.example\noptions edns0\n";
        assert_eq!(
            resolv_conf(host, "198.18.0.1"),
            "nameserver 198.18.0.1\nsearch a.example b.example\noptions edns0\n"
        );
        assert_eq!(resolv_conf("", "198.18.0.1"), "nameserver 198.18.0.1\n");
    }

    #[test]
    fn host_names_come_from_files_and_dns_only() {
        let host = "passwd: files systemd\nhosts: mymachines resolve [!UNAVAIL=return] files\nnetworks: files\n";
        assert_eq!(
            nsswitch_conf(host),
            "passwd: files systemd\nnetworks: files\nhosts: files dns\n"
        );
    }

    #[test]
    fn the_mount_table_is_read_with_optional_fields_and_escapes() {
        let table =
            b"36 35 98:0 /mnt1 /a\\040b\\134c rw,noatime master:1 shared:2 - ext3 /dev/root rw\n\
                      40 35 0:30 / /sys/fs/bpf rw - bpf none rw\nshort line\n";
        let got = mount_table(table);
        assert_eq!(
            got,
            vec![
                (PathBuf::from("/a b\\c"), b"ext3".as_slice()),
                (PathBuf::from("/sys/fs/bpf"), b"bpf".as_slice()),
            ]
        );
    }
}
