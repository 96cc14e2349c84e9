//! Secrets that the daemon has and the agent never sees: where they lie, and reading them.
//!
//! A bundle names where a secret lies, never the secret. Values are read when they are
//! needed and never enter a log, error or transcript.

use super::problem::Problems;
use super::read::{At, Fields};
use std::ffi::OsString;
use std::path::PathBuf;

/// Largest secret, in bytes.
const MAX: u64 = 16 << 10;

/// Where a secret lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that the daemon can read; trailing line ends are left out.
    File(PathBuf),
    /// A variable in the daemon's own environment.
    Env(String),
    /// A systemd credential of the daemon's unit (`LoadCredential=`).
    Credential(String),
}

/// A secret that could not be had; what needs it is denied.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file or systemd credential could not be read.
    #[error("the credential {path} cannot be read: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The variable is not set for the daemon.
    #[error("the daemon's environment has no `{0}`")]
    NoVariable(String),
    /// The daemon was not started with systemd credentials.
    #[error("the daemon has no systemd credentials; add LoadCredential={0}:... to its unit")]
    NoCredentials(String),
    /// The secret is empty or too long.
    #[error("the credential is empty or longer than 16 KiB")]
    Size,
}

impl SecretSource {
    /// Reads the secret, without white space at its end; 1 byte to 16 KiB.
    ///
    /// # Errors
    /// When it cannot be read, is empty or too long.
    pub fn read(&self) -> Result<Vec<u8>, SecretError> {
        let mut secret = match self {
            Self::File(path) => read_file(path.clone())?,
            Self::Env(name) => std::env::var_os(name)
                .ok_or_else(|| SecretError::NoVariable(name.clone()))
                .map(OsString::into_encoded_bytes)?,
            Self::Credential(name) => {
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                read_file(PathBuf::from(dir).join(name))?
            }
        };
        secret.truncate(secret.trim_ascii_end().len());
        if secret.is_empty() || secret.len() as u64 > MAX {
            return Err(SecretError::Size);
        }
        Ok(secret)
    }
}

fn read_file(path: PathBuf) -> Result<Vec<u8>, SecretError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(MAX + 3).read_to_end(&mut bytes))
        .map_err(|error| SecretError::Read { path, error })?;
    // A longer file is refused and not cut, whatever its end is.
    if bytes.len() as u64 > MAX + 2 { Err(SecretError::Size) } else { Ok(bytes) }
}

/// Reads the keys `file`, `env` and `credential` of a table, of which at most one can be there.
pub(super) fn read(
    entry: &mut Fields<'_>,
    what: &str,
    problems: &mut Problems,
) -> Option<SecretSource> {
    let source = entry.source();
    let file = entry.text("file", problems);
    let env = entry.text("env", problems);
    let credential = entry.text("credential", problems);
    let found = [file.is_some(), env.is_some(), credential.is_some()];
    if found.iter().filter(|there| **there).count() > 1 {
        problems.error(
            entry.place(),
            format!("{what} needs one place that its secret comes from"),
            "give exactly one of `file`, `env` or `credential`",
        );
    }
    if let Some(at) = file {
        Some(SecretSource::File(absolute(source, &at, problems)))
    } else if let Some(at) = env {
        let fits = !at.value.is_empty() && !at.value.contains(['=', '\0']);
        if !fits {
            problems.error(
                (source, &at.span),
                format!("{:?} is not the name of a variable", at.value),
                "name a variable in the daemon's environment",
            );
        }
        fits.then(|| SecretSource::Env(at.value.to_owned()))
    } else {
        credential.and_then(|at| {
            let fits = !at.value.is_empty()
                && !at.value.starts_with('.')
                && !at.value.contains(['/', '\0']);
            if !fits {
                problems.error(
                    (source, &at.span),
                    format!("{:?} is not the name of a systemd credential", at.value),
                    "give the id from LoadCredential=ID:PATH",
                );
            }
            fits.then(|| SecretSource::Credential(at.value.to_owned()))
        })
    }
}

/// A path that has to begin with `/`.
pub(super) fn absolute(
    source: &super::problem::Source<'_>,
    at: &At<&str>,
    problems: &mut Problems,
) -> PathBuf {
    let path = PathBuf::from(at.value);
    if !path.is_absolute() {
        problems.error(
            (source, &at.span),
            format!("{:?} is not an absolute path", at.value),
            "begin the path with `/`",
        );
    }
    path
}
