//! What the server's policy key says about bundles, and how a host checks it.
//!
//! A [`PolicyStatement`](v1::PolicyStatement) names the files that are the policy from now on, by
//! their digest, with a number that only grows; a confirmation says that a statement was the
//! newest at some time. Both are signed as encoded, each under its own domain. Nothing here
//! reads a clock or a file but the key's.

use super::{Bundle, Files, Problems, belongs};
use crate::approval::identity::{self, IdentityError};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use enforcer_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Domain and version of a signed statement.
const STATEMENT: &[u8] = b"enforcer policy statement v1\0";
/// Domain and version of a signed confirmation.
const CONFIRMATION: &[u8] = b"enforcer policy confirmation v1\0";

/// Bytes of all files of a bundle that is distributed.
pub const MAX_BYTES: usize = 4 << 20;
/// Files of a bundle that is distributed.
pub const MAX_FILES: usize = 512;
/// Bytes of a message with a whole bundle: its files, their names, and what is said about them.
pub const MAX_MESSAGE: usize = MAX_BYTES + MAX_FILES * 300 + (64 << 10);

/// The public half of a policy key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// The key that says what policy is; it never leaves the server.
pub struct PolicyKey(Ed25519KeyPair);

impl std::fmt::Debug for PolicyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PolicyKey").field(&self.public()).finish()
    }
}

/// Why a policy key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// It is not one, or not private.
    #[error("{path}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl PolicyKey {
    /// Reads the key, or makes it (mode 0600) when there is none.
    ///
    /// # Errors
    /// When it cannot be read or made, others can read it, or it is no key.
    pub fn open(path: &Path) -> Result<Self, KeyError> {
        let content = |what: String| KeyError::Content { path: path.to_owned(), what };
        let file = |cause| KeyError::File(IdentityError::File { path: path.to_owned(), cause });
        match std::fs::metadata(path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                let mode = found.permissions().mode() & 0o777;
                return Err(content(format!(
                    "is readable by others (mode {mode:o}); chmod 600 it, and if others could \
                     have read it remove it: then every host joins again"
                )));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Ed25519KeyPair::generate().and_then(|key| key.to_pkcs8());
                let key = key.map_err(|_| content("no Ed25519 key could be made".to_owned()))?;
                identity::write(path, key.as_ref())?;
            }
            Err(error) => return Err(file(error)),
        }
        let bytes = std::fs::read(path).map_err(file)?;
        let key = Ed25519KeyPair::from_pkcs8(&bytes).map_err(|_| {
            content(
                "is no Ed25519 key in PKCS#8: restore it from a backup, or remove it to make a \
                 new one (then every host joins again)"
                    .to_owned(),
            )
        })?;
        Ok(Self(key))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &v1::PolicyStatement) -> v1::SignedPolicy {
        let statement = statement.encode_to_vec();
        let signature = self.0.sign(&[STATEMENT, &statement].concat()).as_ref().to_vec();
        v1::SignedPolicy { statement, signature }
    }

    /// Says that a signed statement was the newest at that time (milliseconds since the Unix
    /// epoch).
    pub fn confirm(&self, signed: &v1::SignedPolicy, unix_ms: i64) -> v1::SignedConfirmation {
        let statement_sha256 = statement_hash(signed).to_vec();
        let confirmation = v1::PolicyConfirmation { statement_sha256, unix_ms }.encode_to_vec();
        let signature = self.0.sign(&[CONFIRMATION, &confirmation].concat()).as_ref().to_vec();
        v1::SignedConfirmation { confirmation, signature }
    }
}

/// What names a statement: SHA-256 of its bytes.
pub fn statement_hash(signed: &v1::SignedPolicy) -> [u8; 32] {
    Sha256::digest(&signed.statement).into()
}

/// Why something that came as policy is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// A part is missing or does not read.
    #[error("{0} is missing or cannot be read")]
    Form(&'static str),
    /// Somebody else signed it, or it was changed.
    #[error("the signature is not by the policy key that this host joined with")]
    Signature,
    /// The files are others than those that were signed.
    #[error("the files are not those that were signed")]
    Digest,
    /// It is about another statement.
    #[error("the confirmation is of another version")]
    Other,
    /// There are too many files, too many bytes, or one that belongs to no bundle.
    #[error("{0}")]
    Files(String),
    /// They were signed, and cannot be used here.
    #[error("the bundle cannot be used:\n{0}")]
    Bundle(Problems),
}

impl PublicKey {
    /// The key as text has it, 64 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).ok()?;
        Some(Self(key))
    }

    /// 64 hex digits.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    fn signed(&self, domain: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Untrusted> {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        let message = [domain, message].concat();
        key.verify(&message, signature).map_err(|_| Untrusted::Signature)
    }

    /// The statement, when this key signed it.
    ///
    /// # Errors
    /// When it did not, or what it signed is no statement.
    pub fn statement(&self, signed: &v1::SignedPolicy) -> Result<v1::PolicyStatement, Untrusted> {
        self.signed(STATEMENT, &signed.statement, &signed.signature)?;
        let statement = v1::PolicyStatement::decode(&signed.statement[..]);
        let statement = statement.map_err(|_| Untrusted::Form("the statement"))?;
        if statement.number == 0 || statement.digest.len() != 32 {
            return Err(Untrusted::Form("the statement's number or digest"));
        }
        Ok(statement)
    }

    /// When this key said that the statement was the newest. Milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// When it did not, or spoke of another statement.
    pub fn confirmed(
        &self,
        confirmed: &v1::SignedConfirmation,
        signed: &v1::SignedPolicy,
    ) -> Result<i64, Untrusted> {
        self.signed(CONFIRMATION, &confirmed.confirmation, &confirmed.signature)?;
        let confirmation = v1::PolicyConfirmation::decode(&confirmed.confirmation[..]);
        let confirmation = confirmation.map_err(|_| Untrusted::Form("the confirmation"))?;
        if confirmation.statement_sha256 != statement_hash(signed) {
            return Err(Untrusted::Other);
        }
        Ok(confirmation.unix_ms)
    }

    /// The bundle that was signed, with the statement about it.
    ///
    /// # Errors
    /// When this key did not sign exactly these files, or they make no bundle.
    pub fn bundle(
        &self,
        message: &v1::PolicyBundle,
    ) -> Result<(v1::PolicyStatement, Bundle), Untrusted> {
        let signed = message.signed.as_ref().ok_or(Untrusted::Form("the statement"))?;
        let statement = self.statement(signed)?;
        let files = files(&message.files).map_err(Untrusted::Files)?;
        let bundle = Bundle::from_files(&files).map_err(Untrusted::Bundle)?;
        if bundle.digest()[..] != statement.digest[..] {
            return Err(Untrusted::Digest);
        }
        Ok((statement, bundle))
    }
}

/// The files of a message, by path.
///
/// # Errors
/// When one belongs to no bundle or is there twice, or they are too many or too large.
pub fn files(message: &[v1::PolicyFile]) -> Result<Files, String> {
    if message.len() > MAX_FILES {
        return Err(format!("a bundle has {MAX_FILES} files at most"));
    }
    let bytes: usize = message.iter().map(|file| file.text.len()).sum();
    if bytes > MAX_BYTES {
        return Err(format!(
            "a bundle has {} MiB at most, this one {bytes} bytes",
            MAX_BYTES >> 20
        ));
    }
    let mut seen = BTreeSet::new();
    for file in message {
        if !belongs(&file.path) {
            return Err(format!("{:?} is not part of a bundle", file.path));
        }
        if !seen.insert(&file.path) {
            return Err(format!("{:?} is there twice", file.path));
        }
    }
    Ok(message.iter().map(|file| (file.path.clone(), file.text.clone())).collect())
}

/// The files as messages have them, by path.
pub fn to_message(files: &Files) -> Vec<v1::PolicyFile> {
    let one = |(path, text): (&String, &String)| v1::PolicyFile {
        path: path.clone(),
        text: text.clone(),
    };
    files.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
