//! The executable behind a process, and its SHA-256, remembered per file.

use nix::libc;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Hashes that are remembered before the table starts afresh.
const KNOWN: usize = 1_024;
/// Larger executables are named but not hashed: a connection waits for this.
const MAX_BYTES: u64 = 512 << 20;

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

/// Hashes of executables, bounded.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    known: Mutex<HashMap<Version, Arc<str>>>,
}

impl Hashes {
    /// Path and SHA-256 (hex) of a process's executable, as far as they can be read.
    pub(super) fn of(&self, pid: u32) -> (Option<PathBuf>, Option<String>) {
        let link = format!("/proc/{pid}/exe");
        // Opened before the path is read: what is hashed is what runs, wherever its name points.
        let file = File::open(&link);
        let path = fs::read_link(&link).ok();
        let hash = file.ok().and_then(|file| self.hash(file).ok().flatten());
        (path, hash)
    }

    fn hash(&self, mut file: File) -> io::Result<Option<String>> {
        let version = version(&file)?;
        if let Some(known) = self.lock().get(&version) {
            return Ok(Some(known.to_string()));
        }
        if version.size > MAX_BYTES {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Version, Arc<str>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let (path, hash) = hashes.of(std::process::id());
        let bytes = fs::read(path.unwrap()).unwrap();
        assert_eq!(hash, Some(hex::encode(Sha256::digest(bytes))));
    }

    #[test]
    fn a_changed_file_is_hashed_again() {
        let hashes = Hashes::default();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one").unwrap();
        let first = hashes.hash(File::open(file.path()).unwrap()).unwrap();
        file.as_file().set_len(0).unwrap();
        file.write_all(b"twelve").unwrap();
        let second = hashes.hash(File::open(file.path()).unwrap()).unwrap();
        assert!(first.is_some() && second.is_some() && first != second);
        assert_eq!(hashes.lock().len(), 2);
    }

    #[test]
    fn a_directory_or_no_process_has_none() {
        let hashes = Hashes::default();
        assert!(hashes.hash(File::open("/").unwrap()).is_err());
        assert_eq!(hashes.of(u32::MAX), (None, None));
    }
}
