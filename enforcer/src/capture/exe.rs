//! The executable behind a process, and its SHA-256, remembered per file.
//!
//! The path that the kernel tells is the one in the process's own mounts: in a container, or where
//! somebody made mounts of his own, `/usr/bin/git` can be any file. So it is the executable's path
//! only where the host has that very file there.

use nix::libc;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Hashes that are remembered before the table starts afresh.
const KNOWN: usize = 1_024;
/// Larger executables are named but not hashed: a connection waits for this.
const MAX_BYTES: u64 = 512 << 20;
/// Bytes that one cgroup can have hashed in a second, after `MAX_BYTES` at once. What it has
/// hashed again and again (a file whose times it changes) is its own loss and nobody else's.
const BYTES_PER_SECOND: u64 = 16 << 20;
/// Cgroups whose use is remembered before the table starts afresh.
const CGROUPS: usize = 4_096;

/// Says that a file still has the bytes that were hashed. The change time is part of it: unlike
/// the modification time nobody can set it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What runs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Exe {
    /// Where the host has it.
    pub(super) host: Option<PathBuf>,
    /// Where the process sees it, when the host has another file there, or none.
    pub(super) inside: Option<PathBuf>,
    /// Of its bytes, hex.
    pub(super) sha256: Option<String>,
}

/// Hashes of executables, bounded.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    known: Mutex<HashMap<Version, Arc<str>>>,
    /// Files that are being hashed: whoever else asks for one waits for the same result.
    hashing: Mutex<HashMap<Version, Arc<Mutex<()>>>>,
    /// By cgroup: the bytes that were hashed for it and not yet forgiven, and when that was.
    used: Mutex<HashMap<u64, (u64, Instant)>>,
}

impl Hashes {
    /// The executable of a process in that cgroup, as far as it can be read; `process` is its
    /// directory in `/proc`. A cgroup that has too much hashed gets no hash, and so no permit that
    /// asks for one.
    pub(super) fn of(&self, cgroup: u64, process: &str) -> Exe {
        let link = format!("{process}/exe");
        // Opened before the path is read: what is hashed is what runs, wherever its name points.
        let file = File::open(&link).ok();
        let running = match &file {
            Some(file) => file.metadata(),
            None => fs::metadata(&link),
        };
        let path = fs::read_link(&link).ok();
        let sha256 = file.and_then(|file| self.hash(cgroup, file).ok().flatten());
        let has = |path: &PathBuf| running.is_ok_and(|running| host_has(path, &running));
        if path.as_ref().is_some_and(has) {
            Exe { host: path, inside: None, sha256 }
        } else {
            Exe { host: None, inside: path, sha256 }
        }
    }

    /// Takes so many bytes of what the cgroup may have hashed.
    fn allows(&self, cgroup: u64, bytes: u64, now: Instant) -> bool {
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= CGROUPS && !all.contains_key(&cgroup) {
            all.clear();
        }
        let (used, since) = all.entry(cgroup).or_insert((0, now));
        let passed = now.saturating_duration_since(*since).as_nanos();
        let forgiven = u128::from(BYTES_PER_SECOND) * passed / 1_000_000_000;
        *used = used.saturating_sub(u64::try_from(forgiven).unwrap_or(u64::MAX));
        *since = now;
        let allowed = used.saturating_add(bytes) <= MAX_BYTES;
        if allowed {
            *used += bytes;
        }
        allowed
    }

    fn hash(&self, cgroup: u64, file: File) -> io::Result<Option<String>> {
        let version = version(&file)?;
        if let Some(known) = self.known(&version) {
            return Ok(Some(known));
        }
        let turn = Arc::clone(self.hashing().entry(version).or_default());
        let hashed = {
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.hash_in_turn(cgroup, file, version)
        };
        // The map and this call: nobody waits.
        let mut hashing = self.hashing();
        if Arc::strong_count(&turn) == 2 {
            hashing.remove(&version);
        }
        hashed
    }

    fn hash_in_turn(
        &self,
        cgroup: u64,
        mut file: File,
        version: Version,
    ) -> io::Result<Option<String>> {
        if let Some(known) = self.known(&version) {
            return Ok(Some(known));
        }
        if !self.allows(cgroup, version.size, Instant::now()) {
            return Ok(None);
        }
        let mut hasher = Sha256::new();
        let mut buffer = vec![0u8; 128 << 10];
        loop {
            let read = file.read(&mut buffer)?;
            let Some(part) = buffer.get(..read).filter(|part| !part.is_empty()) else {
                break;
            };
            hasher.update(part);
        }
        // A file that changed while it was read has no hash.
        if self::version(&file)? != version {
            return Ok(None);
        }
        let hash: Arc<str> = hex::encode(hasher.finalize()).into();
        let mut known = self.lock();
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(version, Arc::clone(&hash));
        Ok(Some(hash.to_string()))
    }

    fn known(&self, version: &Version) -> Option<String> {
        self.lock().get(version).map(|known| known.to_string())
    }

    fn hashing(&self) -> std::sync::MutexGuard<'_, HashMap<Version, Arc<Mutex<()>>>> {
        self.hashing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Version, Arc<str>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the host has this file at that path. A daemon with mounts of its own (a unit's
/// `PrivateTmp=`) asks the first process's, which are the host's.
fn host_has(path: &Path, file: &Metadata) -> bool {
    ["/proc/1/root", ""].into_iter().any(|root| {
        let mut at = OsString::from(root);
        at.push(path);
        // A link at its end is another name, not the file.
        fs::symlink_metadata(at)
            .is_ok_and(|found| (found.dev(), found.ino()) == (file.dev(), file.ino()))
    })
}

fn version(file: &File) -> io::Result<Version> {
    let meta = file.metadata()?;
    if meta.mode() & libc::S_IFMT != libc::S_IFREG {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(Version {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn own_executable_has_a_path_and_a_hash() {
        let hashes = Hashes::default();
        let exe = hashes.of(1, "/proc/self");
        let bytes = fs::read(exe.host.unwrap()).unwrap();
        assert_eq!(exe.inside, None);
        assert_eq!(exe.sha256, Some(hex::encode(Sha256::digest(bytes))));
    }

    #[test]
    fn a_path_is_the_files_only_where_the_host_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "").unwrap();
        fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&one, dir.path().join("link")).unwrap();
        let file = fs::metadata(&one).unwrap();
        assert!(host_has(&one, &file));
        for wrong in [&other, &dir.path().join("link"), &dir.path().join("none")] {
            assert!(!host_has(wrong, &file), "{}", wrong.display());
        }
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let hashes = Hashes::default();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one").unwrap();
        let first = hashes.hash(1, File::open(file.path()).unwrap()).unwrap();
        file.as_file().set_len(0).unwrap();
        file.write_all(b"twelve").unwrap();
        let second = hashes.hash(1, File::open(file.path()).unwrap()).unwrap();
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(hashes.lock().len(), 2);
    }

    #[test]
    fn a_cgroup_that_has_too_much_hashed_waits_and_others_do_not() {
        let hashes = Hashes::default();
        let now = Instant::now();
        assert!(!hashes.allows(1, MAX_BYTES + 1, now));
        assert!(hashes.allows(1, MAX_BYTES, now));
        assert!(!hashes.allows(1, 1, now));
        assert!(hashes.allows(2, MAX_BYTES, now));
        let later = now + std::time::Duration::from_secs(1);
        assert!(!hashes.allows(1, BYTES_PER_SECOND + 1, later));
        assert!(hashes.allows(1, BYTES_PER_SECOND, later));
    }

    #[test]
    fn many_that_ask_at_once_have_a_file_hashed_once() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; 200 << 10]).unwrap();
        let hashes = Hashes::default();
        // Less than twice the file is left to the cgroup.
        assert!(hashes.allows(1, MAX_BYTES - (300 << 10), Instant::now()));
        let hash = || hashes.hash(1, File::open(file.path()).unwrap()).unwrap();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..8).map(|_| scope.spawn(hash)).collect();
            assert!(all.into_iter().all(|one| one.join().unwrap().is_some()));
        });
        assert!(hashes.hashing().is_empty());
    }

    #[test]
    fn a_directory_or_no_process_has_none() {
        let hashes = Hashes::default();
        assert!(hashes.hash(1, File::open("/").unwrap()).is_err());
        assert_eq!(hashes.of(1, "/proc/none"), Exe::default());
    }
}
