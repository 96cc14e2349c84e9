//! The system's store of trusted roots: where a root goes, and what takes it in.

use anyhow::{Context as _, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One kind of system.
#[derive(Debug)]
pub(super) struct System {
    /// Where roots of the administrator go.
    dir: PathBuf,
    /// The name there; Debian takes only `.crt`.
    file: &'static str,
    /// What rebuilds the store.
    command: &'static [&'static str],
}

/// Debian and its kin (update-ca-certificates(8)), Fedora and its kin (update-ca-trust(8)), Arch.
const KNOWN: [(&str, &str, &[&str]); 3] = [
    ("/usr/local/share/ca-certificates", "enforcer.crt", &["update-ca-certificates"]),
    ("/etc/pki/ca-trust/source/anchors", "enforcer.pem", &["update-ca-trust", "extract"]),
    ("/etc/ca-certificates/trust-source/anchors", "enforcer.pem", &["trust", "extract-compat"]),
];

impl System {
    /// The store of this system.
    pub(super) fn find() -> anyhow::Result<Self> {
        Self::find_in(Path::new("/"))
    }

    pub(super) fn find_in(root: &Path) -> anyhow::Result<Self> {
        for (dir, file, command) in KNOWN {
            let dir = root.join(dir.trim_start_matches('/'));
            if dir.is_dir() {
                return Ok(Self { dir, file, command });
            }
        }
        bail!(
            "this system has none of the known stores of trusted roots; install the package \
             ca-certificates, or add the certificate that `enforcer ca show` names by hand"
        )
    }

    /// Copies the certificate in and rebuilds the store; gives the copy's place.
    pub(super) fn install(&self, certificate: &Path) -> anyhow::Result<PathBuf> {
        let at = self.place(certificate)?;
        let (program, arguments) =
            self.command.split_first().context("the store has no command")?;
        let status = Command::new(program)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .status()
            .with_context(|| format!("{program} cannot be run; install ca-certificates"))?;
        if !status.success() {
            bail!("{} failed: {status}", self.command.join(" "));
        }
        Ok(at)
    }

    /// Puts the copy there whole: a reader of the store never sees half of it.
    pub(super) fn place(&self, certificate: &Path) -> anyhow::Result<PathBuf> {
        let at = self.dir.join(self.file);
        let partial = self.dir.join(".enforcer.partial");
        fs::copy(certificate, &partial)
            .and_then(|_| fs::rename(&partial, &at))
            .with_context(|| format!("cannot write {} (root is needed)", at.display()))?;
        Ok(at)
    }
}
