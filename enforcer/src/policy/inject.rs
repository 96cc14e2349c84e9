//! Credentials that the proxy presents upstream in place of the agent.
//!
//! A bundle names where a secret lies, never the secret. Values are read when
//! they are needed, are marked sensitive, and never enter a log, error or transcript.

use super::problem::Problems;
use super::read::Fields;
use super::secret::{self, SecretError, SecretSource};
use http::{HeaderName, HeaderValue};

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

/// A credential that could not be had; the operation is denied.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// It could not be read.
    #[error(transparent)]
    Secret(SecretError),
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
        let secret = self.source.read().map_err(|error| match error {
            SecretError::Size => InjectError::Unusable(self.name.clone()),
            error => InjectError::Secret(error),
        })?;
        let mut value = HeaderValue::from_bytes(&[self.prefix.as_bytes(), &secret].concat())
            .map_err(|_| InjectError::Unusable(self.name.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }
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
    let before = problems.len();
    let secret = secret::read(&mut entry, "a header", problems);
    let misread = problems.len() > before;
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
    if secret.is_none() && !misread {
        problems.error(
            entry.place(),
            "a header needs one place that its secret comes from",
            "give exactly one of `file`, `env` or `credential`",
        );
    }
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
    use std::path::PathBuf;

    fn from_file(bytes: &[u8]) -> Result<HeaderValue, InjectError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        InjectHeader {
            name: http::header::AUTHORIZATION,
            prefix: "Bearer ".to_owned(),
            source: SecretSource::File(file.path().to_owned().into()),
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
        let missing = header(SecretSource::File(PathBuf::from("/nonexistent/secret").into()));
        assert!(matches!(missing.value(), Err(InjectError::Secret(SecretError::Read { .. }))));
        let unset = header(SecretSource::Env("ENFORCER_TEST_NOT_SET".into()));
        assert!(matches!(unset.value(), Err(InjectError::Secret(SecretError::NoVariable(_)))));
    }
}
