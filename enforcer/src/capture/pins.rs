//! The pin directory: `maps-v<ABI>/<map>` and `links/<cgroup id>/<program>`, all 0700.
//!
//! Pins are what keeps a host closed while no daemon runs; only [`remove`]
//! takes them away.

use super::error::CaptureError;
use super::sys;
use enforcer_common::names::ABI_VERSION;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where a bpffs is mounted when there is none.
const BPFFS: &str = "/sys/fs/bpf";

/// The directories of one installation.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    dir: PathBuf,
}

impl Pins {
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes the directories, and mounts a bpffs when none is there.
    pub(super) fn prepare(&self) -> Result<(), CaptureError> {
        if !on_bpffs(&self.dir) {
            if !self.dir.starts_with(BPFFS) {
                return Err(CaptureError::NotBpffs(self.dir.clone()));
            }
            mount(
                Some("bpf"),
                BPFFS,
                Some("bpf"),
                MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
                Some("mode=700"),
            )
            .map_err(|e| CaptureError::file("mounting a bpffs on", BPFFS)(e.into()))?;
        }
        for dir in [self.dir.clone(), self.maps(), self.links()] {
            private_dir(&dir)?;
        }
        Ok(())
    }

    /// Maps of this build's ABI version.
    pub(super) fn maps(&self) -> PathBuf {
        self.dir.join(format!("maps-v{ABI_VERSION}"))
    }

    fn links(&self) -> PathBuf {
        self.dir.join("links")
    }

    /// The links of one governed root.
    pub(super) fn links_of(&self, cgroup: u64) -> PathBuf {
        self.links().join(cgroup.to_string())
    }

    /// Makes the directory of a root's links.
    pub(super) fn prepare_links_of(&self, cgroup: u64) -> Result<PathBuf, CaptureError> {
        let dir = self.links_of(cgroup);
        private_dir(&dir)?;
        Ok(dir)
    }

    /// Takes programs off a root, by the names of their pins; those that are not there are no
    /// error.
    pub(super) fn remove_links(&self, dir: &Path, names: &[&str]) -> Result<(), CaptureError> {
        for pin in names.iter().map(|name| dir.join(name)) {
            match fs::remove_file(&pin) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(CaptureError::file("removing", &pin)(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what serves nothing any more: links of cgroups that are gone, and maps of other
    /// ABI versions, once every link has a program of this one.
    pub(super) fn prune(&self) -> Result<(), CaptureError> {
        for dir in entries(&self.links())? {
            for pin in entries(&dir)? {
                let dead = sys::pinned(&pin)
                    .and_then(|link| sys::link_info(link.as_fd()))
                    .is_ok_and(|info| info.cgroup == 0);
                if dead {
                    unlink(&pin)?;
                }
            }
            // A directory with live links stays.
            let _kept = fs::remove_dir(&dir);
        }
        for dir in entries(&self.dir)? {
            let old = dir
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("maps-v"));
            if old && dir != self.maps() {
                for pin in entries(&dir)? {
                    unlink(&pin)?;
                }
                fs::remove_dir(&dir).map_err(CaptureError::file("removing", &dir))?;
            }
        }
        Ok(())
    }

    /// Detaches every program and removes every pin: the host is open afterwards.
    pub(super) fn remove(&self) -> Result<(), CaptureError> {
        for dir in entries(&self.links())? {
            for pin in entries(&dir)? {
                let link = sys::pinned(&pin).map_err(CaptureError::file("opening", &pin))?;
                // A daemon that still runs holds nothing that could keep the program attached.
                sys::link_detach(link.as_fd()).map_err(CaptureError::file("detaching", &pin))?;
                unlink(&pin)?;
            }
            fs::remove_dir(&dir).map_err(CaptureError::file("removing", &dir))?;
        }
        for dir in entries(&self.dir)? {
            for pin in entries(&dir)? {
                unlink(&pin)?;
            }
            fs::remove_dir(&dir).map_err(CaptureError::file("removing", &dir))?;
        }
        match fs::remove_dir(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(CaptureError::file("removing", &self.dir)(e))
            }
            _ => Ok(()),
        }
    }
}

fn unlink(path: &Path) -> Result<(), CaptureError> {
    fs::remove_file(path).map_err(CaptureError::file("removing", path))
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, CaptureError> {
    let listing = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(CaptureError::file("reading", dir))?,
    };
    listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(CaptureError::file("reading", dir))
}

/// Whether the directory, or its nearest ancestor that exists, is on a bpffs.
fn on_bpffs(dir: &Path) -> bool {
    dir.ancestors()
        .find_map(|dir| statfs(dir).ok())
        .is_some_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC)
}

fn private_dir(dir: &Path) -> Result<(), CaptureError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(CaptureError::file("making", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(CaptureError::file("closing", dir))
}
