//! Credentials that the proxy presents upstream in place of the agent.
//!
//! A bundle names where a secret lies, never the secret. Values are read when
//! they are needed, are marked sensitive, and never enter a log, error or transcript.

use super::problem::Problems;
use super::read::Fields;
use http::{HeaderName, HeaderValue};
use std::ffi::OsString;
use std::path::PathBuf;

/// Largest credential, in bytes.
const MAX: u64 = 16 << 10;

/// A header that the proxy sets on requests to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectHeader {
    /// The header; one that the agent sent under this name is replaced.
    pub name: HeaderName,
    /// Text before the secret, for example `Bearer `.
    pub prefix: String,
    /// Where the secret lies.
    pub source: SecretSource,
}

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

/// A credential that could not be had; the operation is denied.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
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
    /// The secret is empty, too long or has bytes that a header cannot carry.
    #[error("the credential for header `{0}` is empty, longer than 16 KiB or not one line of text")]
    Unusable(HeaderName),
}

impl InjectHeader {
    /// Reads the secret and makes the header's value, marked sensitive.
    ///
    /// # Errors
    /// When the secret cannot be read or cannot be a header's value.
    pub fn value(&self) -> Result<HeaderValue, InjectError> {
        let secret = match &self.source {
            SecretSource::File(path) => read_file(path.clone())?,
            SecretSource::Env(name) => std::env::var_os(name)
                .ok_or_else(|| InjectError::NoVariable(name.clone()))
                .map(OsString::into_encoded_bytes)?,
            SecretSource::Credential(name) => {
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| InjectError::NoCredentials(name.clone()))?;
                read_file(PathBuf::from(dir).join(name))?
            }
        };
        let secret = secret.trim_ascii_end();
        if secret.is_empty() || secret.len() as u64 > MAX {
            return Err(InjectError::Unusable(self.name.clone()));
        }
        let mut value = HeaderValue::from_bytes(&[self.prefix.as_bytes(), secret].concat())
            .map_err(|_| InjectError::Unusable(self.name.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn read_file(path: PathBuf) -> Result<Vec<u8>, InjectError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(&path)
        .and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| InjectError::Read { path, error })?;
    Ok(bytes)
}

/// Reads the `inject` tables of a target.
pub(super) fn read(entries: Vec<Fields<'_>>, problems: &mut Problems) -> Vec<InjectHeader> {
    let mut all: Vec<InjectHeader> = Vec::new();
    for entry in entries {
        let place = (entry.source(), entry.place().1.clone());
        let Some(header) = header(entry, problems) else {
            continue;
        };
        if all.iter().any(|other| other.name == header.name) {
            problems.error(
                (place.0, &place.1),
                format!("header `{}` is set twice", header.name),
                "give each header one value",
            );
        }
        all.push(header);
    }
    all
}

fn header(mut entry: Fields<'_>, problems: &mut Problems) -> Option<InjectHeader> {
    let source = entry.source();
    let name = entry.required("header", problems);
    let prefix = entry.text("prefix", problems);
    let file = entry.text("file", problems);
    let env = entry.text("env", problems);
    let credential = entry.text("credential", problems);
    let name = name.and_then(|at| match HeaderName::from_bytes(at.value.as_bytes()) {
        Ok(name) if !REFUSED.contains(&name.as_str()) => Some(name),
        Ok(name) => {
            problems.error(
                (source, &at.span),
                format!("`{name}` frames the request and cannot be set"),
                "name a header that carries a credential",
            );
            None
        }
        Err(_) => {
            problems.error(
                (source, &at.span),
                format!("{:?} is not a header name", at.value),
                "use letters, digits and `-`",
            );
            None
        }
    });
    let prefix = prefix.map_or(Some(String::new()), |at| {
        if HeaderValue::from_str(at.value).is_ok() {
            return Some(at.value.to_owned());
        }
        problems.error(
            (source, &at.span),
            "`prefix` has characters that a header cannot carry",
            "use printable ASCII, for example \"Bearer \"",
        );
        None
    });
    let found = [file.is_some(), env.is_some(), credential.is_some()]
        .iter()
        .filter(|there| **there)
        .count();
    if found != 1 {
        problems.error(
            entry.place(),
            "a header needs one place that its secret comes from",
            "give exactly one of `file`, `env` or `credential`",
        );
    }
    let secret = if let Some(at) = file {
        let path = PathBuf::from(at.value);
        if !path.is_absolute() {
            problems.error(
                (source, &at.span),
                format!("{:?} is not an absolute path", at.value),
                "begin the path with `/`",
            );
        }
        Some(SecretSource::File(path))
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
    };
    entry.finish(problems);
    Some(InjectHeader { name: name?, prefix: prefix?, source: secret? })
}

/// Headers that say where a request ends or goes to.
const REFUSED: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(bytes: &[u8]) -> Result<HeaderValue, InjectError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        InjectHeader {
            name: http::header::AUTHORIZATION,
            prefix: "Bearer ".to_owned(),
            source: SecretSource::File(file.path().to_owned()),
        }
        .value()
    }

    #[test]
    fn a_secret_becomes_a_sensitive_value() {
        let value = from_file(b"s3cret\r\n").unwrap();
        assert_eq!(value.as_bytes(), b"Bearer s3cret");
        assert!(value.is_sensitive());
    }

    #[test]
    fn unusable_secrets_name_the_header_and_never_the_secret() {
        for bytes in [&b""[..], b"\n\n", b"two\nlines", &[b'a'; 20_000]] {
            let error = from_file(bytes).unwrap_err().to_string();
            assert!(error.contains("authorization"), "{error}");
            assert!(!error.contains("lines"), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let header = |source| InjectHeader {
            name: http::header::AUTHORIZATION,
            prefix: String::new(),
            source,
        };
        let missing = header(SecretSource::File("/nonexistent/secret".into()));
        assert!(matches!(missing.value(), Err(InjectError::Read { .. })));
        let unset = header(SecretSource::Env("ENFORCER_TEST_NOT_SET".into()));
        assert!(matches!(unset.value(), Err(InjectError::NoVariable(_))));
    }
}
