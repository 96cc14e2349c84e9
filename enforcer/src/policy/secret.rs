//! Secrets that the daemon has and the agent never sees: where they lie, and reading them.
//!
//! A bundle names where a secret lies, never the secret. Values are read when they are
//! needed and never enter a log, error or transcript.

use super::problem::Problems;
use super::read::{At, Fields};
use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Largest secret, in bytes.
const MAX: u64 = 16 << 10;

/// Where a secret lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file that the daemon can read; trailing line ends are left out.
    File(SecretFile),
    /// A variable in the daemon's own environment.
    Env(String),
    /// A systemd credential of the daemon's unit (`LoadCredential=`).
    Credential(String),
}

/// A file with a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    /// The directories of which it must lie in one; `None` where the host's own admin names it.
    within: Option<Arc<[PathBuf]>>,
}

impl From<PathBuf> for SecretFile {
    fn from(path: PathBuf) -> Self {
        Self { path, within: None }
    }
}

impl SecretFile {
    /// The path to read it by.
    ///
    /// # Errors
    /// When it is not where it must lie.
    pub fn place(&self) -> Result<PathBuf, SecretError> {
        let Some(dirs) = &self.within else { return Ok(self.path.clone()) };
        let real = std::fs::canonicalize(&self.path);
        let real = real.map_err(|error| SecretError::Read { path: self.path.clone(), error })?;
        match lies_in(&real, dirs) && real.is_file() {
            true => Ok(real),
            false => Err(SecretError::Outside(self.path.clone())),
        }
    }
}

/// Whether a path without links lies below one of these.
fn lies_in(real: &Path, dirs: &[PathBuf]) -> bool {
    let inside = |dir: PathBuf| real != dir && real.starts_with(dir);
    dirs.iter().filter_map(|dir| std::fs::canonicalize(dir).ok()).any(inside)
}

/// What of the host a bundle may name that was not written on it, beside systemd credentials.
/// Whoever makes policy for a fleet must not read each host's files with it.
#[derive(Clone, Debug, Default)]
pub struct AllowedSecrets {
    dirs: Arc<[PathBuf]>,
    env: Vec<String>,
}

/// Why a bundle's secret is not one that this host allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAllowed {
    /// The file lies elsewhere.
    #[error("the file {0:?} lies in none of `[policy] secrets_dirs`")]
    Elsewhere(PathBuf),
    /// It is a directory, a device or the like.
    #[error("{0:?} is no regular file")]
    NoFile(PathBuf),
    /// The variable is not listed.
    #[error("the variable {0:?} is none of `[policy] secrets_env`")]
    Variable(String),
}

impl AllowedSecrets {
    /// Files below these directories, and these variables of the daemon.
    pub fn new(dirs: &[PathBuf], env: &[String]) -> Self {
        Self { dirs: dirs.into(), env: env.to_vec() }
    }

    /// Lets a source be used from now on only as this allows.
    pub(super) fn bind(&self, source: &mut SecretSource) -> Result<(), NotAllowed> {
        match source {
            SecretSource::File(file) => self.bind_file(file),
            SecretSource::Env(name) if self.env.contains(name) => Ok(()),
            SecretSource::Env(name) => Err(NotAllowed::Variable(name.clone())),
            SecretSource::Credential(_) => Ok(()),
        }
    }

    /// The same of a file. One that is not there yet may be later: it is looked at again at each
    /// use.
    pub(super) fn bind_file(&self, file: &mut SecretFile) -> Result<(), NotAllowed> {
        let path = &file.path;
        let elsewhere = || NotAllowed::Elsewhere(path.clone());
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(elsewhere());
        }
        match std::fs::canonicalize(path) {
            Ok(real) if !lies_in(&real, &self.dirs) => return Err(elsewhere()),
            Ok(real) if !real.is_file() => return Err(NotAllowed::NoFile(path.clone())),
            Ok(_) => {}
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && self.dirs.iter().any(|dir| path != dir && path.starts_with(dir)) => {}
            Err(_) => return Err(elsewhere()),
        }
        file.within = Some(Arc::clone(&self.dirs));
        Ok(())
    }
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
    /// It is not where this host lets the server's policy read.
    #[error("the credential {0} is no regular file in one of `[policy] secrets_dirs`")]
    Outside(PathBuf),
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
            Self::File(file) => read_file(file.place()?)?,
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
        Some(SecretSource::File(absolute(source, &at, problems).into()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_file_is_read_only_where_the_host_lets_it_lie() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("secrets/sub")).unwrap();
        fs::create_dir(at("secrets-too")).unwrap();
        for name in ["secrets/a", "secrets/sub/b", "secrets-too/c", "shadow"] {
            fs::write(at(name), name).unwrap();
        }
        symlink(at("shadow"), at("secrets/out")).unwrap();
        symlink(at("secrets/a"), at("secrets/in")).unwrap();
        symlink(at("secrets"), at("alias")).unwrap();
        let allowed = AllowedSecrets::new(&[at("secrets")], &[]);
        let bound = |path: PathBuf| {
            let mut source = SecretSource::File(path.into());
            allowed.bind(&mut source).map(|()| source)
        };
        for (name, text) in [
            ("secrets/a", "secrets/a"),
            ("secrets/sub/b", "secrets/sub/b"),
            ("secrets/in", "secrets/a"),
        ] {
            assert_eq!(bound(at(name)).unwrap().read().unwrap(), text.as_bytes(), "{name}");
        }
        assert!(bound(at("alias/a")).is_ok(), "it is the same file");
        for name in ["shadow", "secrets/out", "secrets-too/c", "secrets/../shadow", "secrets", "no"]
        {
            assert_eq!(bound(at(name)), Err(NotAllowed::Elsewhere(at(name))), "{name}");
        }
        assert_eq!(bound(at("secrets/sub")), Err(NotAllowed::NoFile(at("secrets/sub"))));
        // What comes later is looked at when it is there.
        let late = bound(at("secrets/late")).unwrap();
        assert!(matches!(late.read(), Err(SecretError::Read { .. })));
        symlink(at("shadow"), at("secrets/late")).unwrap();
        assert!(matches!(late.read(), Err(SecretError::Outside(_))));
        fs::remove_file(at("secrets/late")).unwrap();
        fs::write(at("secrets/late"), "late").unwrap();
        assert_eq!(late.read().unwrap(), b"late");
    }

    #[test]
    fn a_variable_is_read_only_when_the_host_lists_it() {
        let allowed = AllowedSecrets::new(&[], &["TOKEN".to_owned()]);
        let bind = |mut source: SecretSource| allowed.bind(&mut source);
        assert_eq!(bind(SecretSource::Env("TOKEN".to_owned())), Ok(()));
        let other = bind(SecretSource::Env("HOME".to_owned()));
        assert_eq!(other, Err(NotAllowed::Variable("HOME".to_owned())));
        assert_eq!(bind(SecretSource::Credential("db".to_owned())), Ok(()));
    }
}
