//! The cgroup2 tree: where it is mounted, the governed roots, and from an id to a path.

use super::error::CaptureError;
use super::sys;
use crate::config::Governed;
use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Paths that are remembered before the table starts afresh.
const KNOWN_PATHS: usize = 4_096;

/// Where cgroup2 is mounted, from `/proc/self/mountinfo` (hybrid hosts have it below
/// `/sys/fs/cgroup`).
pub fn cgroup2_mount() -> Result<PathBuf, CaptureError> {
    let mounts = "/proc/self/mountinfo";
    let text = fs::read_to_string(mounts).map_err(CaptureError::file("reading", mounts))?;
    find_mount(&text, mount_id).ok_or(CaptureError::NoCgroup2)
}

/// The mount of cgroup2 that its path leads to, by `id_at`: another may lie above it, and what has
/// its path then is some cgroup's directory. One of the whole tree before one of a part.
fn find_mount(mounts: &str, id_at: impl Fn(&Path) -> Option<u64>) -> Option<PathBuf> {
    let mut parts = None;
    for line in mounts.lines() {
        // proc_pid_mountinfo(5): id, parent, device, root, mount point, ... - type, source, options
        let Some((mount, kind)) = line.split_once(" - ") else { continue };
        let fields: Vec<&str> = mount.split(' ').collect();
        let [id, _, _, root, path, ..] = fields.as_slice() else { continue };
        if kind.split(' ').next() != Some("cgroup2") {
            continue;
        }
        let path = PathBuf::from(unescape(path));
        if id_at(&path).is_none_or(|found| id.parse() != Ok(found)) {
            continue;
        }
        if *root == "/" {
            return Some(path);
        }
        parts = parts.or(Some(path));
    }
    parts
}

/// The id of the mount that a path leads into (`/proc/PID/fdinfo`, proc_pid_fdinfo(5)).
fn mount_id(path: &Path) -> Option<u64> {
    let dir = File::open(path).ok()?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", dir.as_raw_fd())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

/// `/proc/self/mountinfo` writes space, tab, newline and backslash as octal.
fn unescape(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The directory of a governed cgroup, whether it exists or not.
pub fn governed_root(governed: &Governed) -> Result<PathBuf, CaptureError> {
    Ok(cgroup2_mount()?.join(relative(&governed.cgroup)?))
}

/// The configured path without its leading slash; never the tree's own root, never upwards.
fn relative(path: &str) -> Result<PathBuf, CaptureError> {
    let bad = |reason| CaptureError::BadRoot { path: path.to_owned(), reason };
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => clean.push(name),
            Component::ParentDir | Component::Prefix(_) => {
                return Err(bad("may not contain `..`"));
            }
        }
    }
    if clean.as_os_str().is_empty() {
        return Err(bad("is the root of all cgroups, and with it the daemon's; name one below it"));
    }
    Ok(clean)
}

/// A governed root that exists and is held open.
#[derive(Debug)]
pub(super) struct Root {
    /// Its path below the mount, with a leading slash.
    pub(super) path: String,
    /// Its directory.
    pub(super) dir: PathBuf,
    /// Its id, which is the directory's inode number.
    pub(super) id: u64,
    /// Keeps it from becoming another cgroup unnoticed.
    pub(super) fd: File,
}

impl Root {
    /// Opens the governed cgroup, and makes it when it is missing.
    pub(super) fn open(governed: &Governed) -> Result<Self, CaptureError> {
        let relative = relative(&governed.cgroup)?;
        let dir = cgroup2_mount()?.join(&relative);
        fs::create_dir_all(&dir).map_err(CaptureError::file("making the cgroup", &dir))?;
        let fd = File::open(&dir).map_err(CaptureError::file("opening the cgroup", &dir))?;
        let meta = fd.metadata().map_err(CaptureError::file("reading the cgroup", &dir))?;
        Ok(Self { path: format!("/{}", relative.display()), dir, id: meta.ino(), fd })
    }

    /// Whether the path still is the cgroup that was opened.
    pub(super) fn alive(&self) -> bool {
        fs::metadata(&self.dir).is_ok_and(|meta| meta.ino() == self.id)
    }
}

/// Opens every governed root. One inside another is refused: its calls would be redirected
/// twice, and the second redirect would forget where they were going.
pub(super) fn open_roots(governed: &[Governed]) -> Result<Vec<Root>, CaptureError> {
    let bad = |path: &str, reason| CaptureError::BadRoot { path: path.to_owned(), reason };
    if governed.is_empty() {
        return Err(bad("", "is missing: name at least one cgroup to govern"));
    }
    let roots = governed.iter().map(Root::open).collect::<Result<Vec<_>, _>>()?;
    for (number, root) in roots.iter().enumerate() {
        let others = roots.iter().enumerate().filter(|(other, _)| *other != number);
        if others.into_iter().any(|(_, other)| below(&root.path, &other.path).is_some()) {
            return Err(bad(&root.path, "is the same as, or inside, another governed cgroup"));
        }
    }
    Ok(roots)
}

/// Refuses a daemon that is inside one of the roots.
pub(super) fn refuse_inside(roots: &[Root]) -> Result<(), CaptureError> {
    let file = "/proc/self/cgroup";
    let text = fs::read_to_string(file).map_err(CaptureError::file("reading", file))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    match roots.iter().find(|root| below(own, &root.path).is_some()) {
        Some(root) => Err(CaptureError::Inside { own: own.to_owned(), root: root.path.clone() }),
        None => Ok(()),
    }
}

/// What is left of `path` below `root`: empty for the root itself, `None` outside.
pub(super) fn below<'a>(path: &'a str, root: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(root)?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(rest),
    }
}

/// From cgroup ids to paths. An id is never used again and a cgroup cannot be renamed, so what
/// was found once stays right, also after the cgroup is gone.
#[derive(Debug)]
pub(super) struct Paths {
    mount: File,
    mount_path: PathBuf,
    known: Mutex<HashMap<u64, String>>,
}

impl Paths {
    pub(super) fn new() -> Result<Self, CaptureError> {
        let mount_path = cgroup2_mount()?;
        let mount = File::open(&mount_path).map_err(CaptureError::file("opening", &mount_path))?;
        Ok(Self { mount, mount_path, known: Mutex::default() })
    }

    /// The path below the mount, with a leading slash.
    pub(super) fn path(&self, id: u64) -> Option<String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = known.get(&id) {
            return Some(path.clone());
        }
        let path = self.read(id)?;
        if known.len() >= KNOWN_PATHS {
            // Those that are gone may still have records on their way; but there is an end.
            known.retain(|id, _| self.alive(*id));
        }
        if known.len() >= KNOWN_PATHS {
            known.clear();
        }
        known.insert(id, path.clone());
        Some(path)
    }

    /// Looks at every cgroup below `dir`, so that each is known when it is gone. What comes and
    /// goes meanwhile is left out.
    pub(super) fn learn(&self, dir: &Path) {
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            if let Ok(meta) = fs::metadata(&dir) {
                let _known = self.path(meta.ino());
            }
            let inner = fs::read_dir(&dir).into_iter().flatten().flatten();
            dirs.extend(
                inner.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()),
            );
        }
    }

    /// Whether the cgroup still exists.
    pub(super) fn alive(&self, id: u64) -> bool {
        self.read(id).is_some()
    }

    fn read(&self, id: u64) -> Option<String> {
        let dir = sys::cgroup_by_id(self.mount.as_fd(), id).ok()?;
        let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
        let full = fs::read_link(link).ok()?;
        // A removed cgroup that something still holds reads "... (deleted)".
        fs::metadata(&full).ok()?;
        let path = full.strip_prefix(&self.mount_path).ok()?.to_str()?;
        Some(format!("/{path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_found_wherever_it_is() {
        let found = |text: &str| find_mount(text, |_| Some(7));
        let hybrid = "5 1 0:1 / /sys/fs/cgroup rw - tmpfs tmpfs rw
6 5 0:2 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
7 5 0:3 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(found(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(
            found("7 1 0:3 / /mnt/with\\040space rw - cgroup2 none rw"),
            Some("/mnt/with space".into())
        );
        assert_eq!(found("7 1 0:3 / /x rw - tmpfs cgroup2 rw\nshort\n7 - cgroup2"), None);
        assert!(mount_id(&cgroup2_mount().unwrap()).is_some());
    }

    #[test]
    fn a_mount_that_another_one_hides_is_not_the_one() {
        let mounts = "6 1 0:3 /../.. /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
7 1 0:3 /pod /part rw - cgroup2 cgroup2 rw
8 1 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let at = |path: &Path| match path.to_str() {
            // The directory of a cgroup in the mount above.
            Some("/sys/fs/cgroup/unified" | "/sys/fs/cgroup") => Some(8),
            Some("/part") => Some(7),
            _ => None,
        };
        assert_eq!(find_mount(mounts, at), Some("/sys/fs/cgroup".into()));
        let part = mounts.lines().take(2).collect::<Vec<_>>().join("\n");
        assert_eq!(find_mount(&part, at), Some("/part".into()));
        assert_eq!(find_mount(mounts, |_| None), None);
    }

    #[test]
    fn a_root_is_below_the_mount_and_not_the_mount() {
        assert_eq!(relative("/agents.slice").unwrap(), PathBuf::from("agents.slice"));
        assert_eq!(relative("a//b/./c/").unwrap(), PathBuf::from("a/b/c"));
        for bad in ["/", "", ".", "/a/../..", ".."] {
            assert!(relative(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn below_is_by_component() {
        assert_eq!(below("/agents/a/task-x", "/agents"), Some("a/task-x"));
        assert_eq!(below("/agents", "/agents"), Some(""));
        assert_eq!(below("/agents2/a", "/agents"), None);
        assert_eq!(below("/", "/agents"), None);
    }
}
