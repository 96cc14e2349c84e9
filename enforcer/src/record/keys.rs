//! The host's own secrets: the key that signs checkpoints and the key that hides secrets.
//!
//! Both are made once, with mode 0600, and never leave the data directory.

use super::error::RecordError;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Domain and version of what is signed.
const DOMAIN: &[u8] = b"enforcer checkpoint v1\0";
const SIGN_FILE: &str = "transcript.key";
const HASH_FILE: &str = "transcript.hmac";

/// The two secrets.
pub(super) struct HostKeys {
    sign: Ed25519KeyPair,
    hash: Vec<u8>,
}

impl HostKeys {
    /// Reads both keys from the data directory, and makes those that are not there.
    pub(super) fn open(data_dir: &Path) -> Result<Self, RecordError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|error| RecordError::file(data_dir, error))?;
        let path = data_dir.join(SIGN_FILE);
        let sign = secret(&path, || {
            let pair = Ed25519KeyPair::generate().map_err(|_| "cannot make an Ed25519 key")?;
            let document = pair.to_pkcs8().map_err(|_| "cannot encode the key")?;
            Ok(document.as_ref().to_vec())
        })?;
        let sign = Ed25519KeyPair::from_pkcs8(&sign).map_err(|_| {
            RecordError::file(
                &path,
                "is not an Ed25519 key in PKCS#8; restore it, or move it and the store away",
            )
        })?;
        let path = data_dir.join(HASH_FILE);
        let hash = secret(&path, || {
            let mut key = vec![0; 32];
            getrandom::fill(&mut key).map_err(|_| "the system gives no random bytes")?;
            Ok(key)
        })?;
        if hash.len() != 32 {
            return Err(RecordError::file(&path, "is not 32 bytes; restore it or remove it"));
        }
        Ok(Self { sign, hash })
    }

    /// The public half of the signing key, 32 bytes.
    pub(super) fn public(&self) -> &[u8] {
        self.sign.public_key().as_ref()
    }

    /// The key that hides secrets.
    pub(super) fn hash_key(&self) -> HashKey {
        HashKey(self.hash.clone())
    }

    /// Signs an encoded checkpoint.
    pub(super) fn sign(&self, checkpoint: &[u8]) -> Vec<u8> {
        self.sign.sign(&[DOMAIN, checkpoint].concat()).as_ref().to_vec()
    }
}

/// Whether `signature` over an encoded checkpoint is by the key `public`.
pub(super) fn signed_by(public: &[u8], checkpoint: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public)
        .verify(&[DOMAIN, checkpoint].concat(), signature)
        .is_ok()
}

/// Makes secrets comparable without keeping them.
pub(super) struct HashKey(Vec<u8>);

impl HashKey {
    /// `hmac:` and the first 16 bytes of HMAC-SHA-256, in hex.
    pub(super) fn hash(&self, secret: &[u8]) -> String {
        // HMAC takes a key of any length; the error cannot happen, and must not leak if it did.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            return "hmac:unavailable".to_owned();
        };
        mac.update(secret);
        format!("hmac:{}", hex::encode(&mac.finalize().into_bytes()[..16]))
    }

    /// A key for another purpose. What it is made of starts with a NUL, which no header and so
    /// no secret that is hashed above can have.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes a key of any length"));
        mac.update(b"\0enforcer derived key v1\0");
        mac.update(purpose.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

fn secret(
    path: &Path,
    make: impl FnOnce() -> Result<Vec<u8>, &'static str>,
) -> Result<Vec<u8>, RecordError> {
    let file = |error: &dyn ToString| RecordError::file(path, error.to_string());
    match std::fs::metadata(path) {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(file(&format!(
                    "is readable by others (mode {mode:o}); chmod 600 it, and replace it if \
                     others could have read it"
                )));
            }
            std::fs::read(path).map_err(|error| file(&error))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let bytes = make().map_err(|error| file(&error))?;
            // Whole or not at all: a half-written key after a crash would lock the store.
            let new = path.with_extension("new");
            let _ = std::fs::remove_file(&new);
            let mut out = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&new)
                .map_err(|error| RecordError::file(&new, error))?;
            out.write_all(&bytes)
                .and_then(|()| out.sync_all())
                .and_then(|()| std::fs::rename(&new, path))
                .map_err(|error| file(&error))?;
            Ok(bytes)
        }
        Err(error) => Err(file(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let first = HostKeys::open(dir.path()).unwrap();
        let again = HostKeys::open(dir.path()).unwrap();
        assert_eq!(first.public(), again.public());
        assert_eq!(first.hash_key().hash(b"s"), again.hash_key().hash(b"s"));
        assert_ne!(first.hash_key().hash(b"s"), first.hash_key().hash(b"t"));
        for file in [SIGN_FILE, HASH_FILE] {
            let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
        let signature = first.sign(b"head");
        assert!(signed_by(again.public(), b"head", &signature));
        assert!(!signed_by(again.public(), b"Head", &signature));
        assert!(!signed_by(&[0; 31], b"head", &signature));
    }

    #[test]
    fn a_key_that_others_can_read_or_that_is_broken_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        HostKeys::open(dir.path()).unwrap();
        let path = dir.path().join(SIGN_FILE);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = HostKeys::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("readable by others"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(HostKeys::open(dir.path()).is_err());
    }
}
