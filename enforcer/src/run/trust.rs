//! The CA files that governed programs read: ours alone, and ours after the
//! system's roots. Public certificates only, world-readable, replaced whole.

use base64::Engine;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the files are.
#[derive(Clone, Debug)]
pub struct TrustFiles {
    /// Our CA alone.
    pub ca: PathBuf,
    /// The system's roots, then our CA.
    pub bundle: PathBuf,
}

/// Why the files could not be written; nothing is started without them.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The CA is not there.
    #[error("the CA certificate {path} cannot be read ({error}); `enforcer init` makes it")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The CA file holds something else.
    #[error("{0} holds no certificate in PEM")]
    NotPem(PathBuf),
    /// The copy could not be written.
    #[error("{path} cannot be written: {error}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
}

/// The directory below the runtime directory that governed programs see.
pub fn directory(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("trust")
}

/// Where the files are below a runtime directory.
pub fn files(runtime_dir: &Path) -> TrustFiles {
    let dir = directory(runtime_dir);
    TrustFiles { ca: dir.join("ca.pem"), bundle: dir.join("bundle.pem") }
}

/// Writes the files when they are missing or our CA has changed.
pub fn write(ca: &Path, runtime_dir: &Path) -> Result<TrustFiles, TrustError> {
    let files = files(runtime_dir);
    let pem =
        fs::read_to_string(ca).map_err(|error| TrustError::Ca { path: ca.to_owned(), error })?;
    // The certificate blocks and nothing else: a key in the same file stays there.
    let pem = certificates(&pem).ok_or_else(|| TrustError::NotPem(ca.to_owned()))?;
    let unchanged = fs::read_to_string(&files.ca).is_ok_and(|have| have == pem);
    if unchanged && files.bundle.exists() {
        return Ok(files);
    }
    let mut bundle = String::new();
    let roots = rustls_native_certs::load_native_certs();
    for error in &roots.errors {
        tracing::warn!(%error, "a system root is left out of the bundle");
    }
    for root in &roots.certs {
        push_pem(&mut bundle, root);
    }
    bundle.push_str(&pem);
    replace(&files.bundle, &bundle)?;
    // Last, so that an unchanged ca.pem means that the bundle is whole.
    replace(&files.ca, &pem)?;
    Ok(files)
}

fn certificates(text: &str) -> Option<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        let end = rest[start..].find(END)? + start + END.len();
        out.push_str(&rest[start..end]);
        out.push('\n');
        rest = &rest[end..];
    }
    (!out.is_empty()).then_some(out)
}

fn push_pem(out: &mut String, der: &[u8]) {
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
}

fn replace(path: &Path, text: &str) -> Result<(), TrustError> {
    let write = || -> io::Result<()> {
        let dir = path.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|error| TrustError::Write { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundle_ends_with_our_ca_and_no_key_leaves() {
        let dir = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let cert =
            rcgen::CertificateParams::new(vec!["ca".into()]).unwrap().self_signed(&key).unwrap();
        let ca = dir.path().join("ca.pem");
        fs::write(&ca, format!("{}{}", key.serialize_pem(), cert.pem())).unwrap();
        let files = write(&ca, &dir.path().join("run")).unwrap();
        let alone = fs::read_to_string(&files.ca).unwrap();
        let bundle = fs::read_to_string(&files.bundle).unwrap();
        assert!(!alone.contains("PRIVATE") && !bundle.contains("PRIVATE"));
        assert_eq!(alone.matches("BEGIN CERTIFICATE").count(), 1);
        assert!(bundle.ends_with(&alone));
        assert!(bundle.matches("BEGIN CERTIFICATE").count() > 1, "system roots are there");
        let mode = fs::metadata(&files.bundle).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn a_missing_or_empty_ca_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        assert!(matches!(write(&ca, dir.path()), Err(TrustError::Ca { .. })));
        fs::write(&ca, "nothing").unwrap();
        assert!(matches!(write(&ca, dir.path()), Err(TrustError::NotPem(_))));
    }
}
