//! Who a certificate says its holder is, and the directory that keeps one.
//!
//! `identity.pem` (certificate and key in one file, mode 0600, replaced
//! atomically so that the two always fit), `ca.pem`, `server.url`, and the pinned
//! `policy.pub`. Names are in the certificate's URI: `spiffe://enforcer/<role>/<name>`.

use crate::policy::signed::PublicKey;
use enforcer_proto::v1;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The file with the pinned policy key.
const POLICY_KEY: &str = "policy.pub";

const URI_PREFIX: &str = "spiffe://enforcer/";

/// What a certificate holder may be.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A host's daemon: asks and claims, never decides.
    Daemon,
    /// A person who decides.
    Reviewer,
    /// A person who runs the server; looks, revokes, makes tokens, never decides.
    Admin,
    /// A person who looks at everything and changes nothing.
    Viewer,
    /// A person who looks after policy: as a viewer, and puts versions of it in force.
    #[serde(rename = "policy-admin")]
    PolicyAdmin,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] =
        [Self::Daemon, Self::Reviewer, Self::Admin, Self::Viewer, Self::PolicyAdmin];

    /// Every role of people.
    pub const PEOPLE: [Self; 4] = [Self::Reviewer, Self::Admin, Self::Viewer, Self::PolicyAdmin];

    /// The word in certificates, commands and records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Reviewer => "reviewer",
            Self::Admin => "admin",
            Self::Viewer => "viewer",
            Self::PolicyAdmin => "policy-admin",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    /// The wire's value.
    pub fn wire(self) -> v1::Role {
        match self {
            Self::Daemon => v1::Role::Daemon,
            Self::Reviewer => v1::Role::Reviewer,
            Self::Admin => v1::Role::Admin,
            Self::Viewer => v1::Role::Viewer,
            Self::PolicyAdmin => v1::Role::PolicyAdmin,
        }
    }

    /// The role of a wire value; `None` when it is unknown.
    pub fn from_wire(role: i32) -> Option<Self> {
        match v1::Role::try_from(role).ok()? {
            v1::Role::Unspecified => None,
            v1::Role::Daemon => Some(Self::Daemon),
            v1::Role::Reviewer => Some(Self::Reviewer),
            v1::Role::Admin => Some(Self::Admin),
            v1::Role::Viewer => Some(Self::Viewer),
            v1::Role::PolicyAdmin => Some(Self::PolicyAdmin),
        }
    }
}

/// A certificate holder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    role: Role,
    name: String,
}

impl Subject {
    /// A holder, when the name is one: 1 to 128 bytes of `[A-Za-z0-9._@-]`, not starting with
    /// a dot or dash; for people in lower case, so that one person is one name.
    pub fn new(role: Role, name: &str) -> Option<Self> {
        let fits = (1..=128).contains(&name.len())
            && !name.starts_with(['.', '-'])
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
            && (role == Role::Daemon || !name.bytes().any(|b| b.is_ascii_uppercase()));
        fits.then(|| Self { role, name: name.to_owned() })
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The host or person.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URI that its certificate carries.
    pub fn uri(&self) -> String {
        format!("{URI_PREFIX}{self}")
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (role, name) = uri.strip_prefix(URI_PREFIX)?.split_once('/')?;
        Self::new(Role::parse(role)?, name)
    }
}

/// `role/name`, as records have it.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.role.as_str(), self.name)
    }
}

/// What a certificate says: its one holder and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Who holds it.
    pub subject: Subject,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

impl Holder {
    /// Reads a certificate (DER). `None` unless it has exactly one alternative name and that
    /// is a holder's URI. Says nothing about who signed it.
    pub fn read(certificate: &[u8]) -> Option<Self> {
        let (_, cert) = X509Certificate::from_der(certificate).ok()?;
        let names = cert.subject_alternative_name().ok()??;
        let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
            return None;
        };
        Some(Self {
            subject: Subject::from_uri(uri)?,
            not_before: cert.validity().not_before.timestamp(),
            not_after: cert.validity().not_after.timestamp(),
        })
    }

    /// Whether two thirds of its time are over. Seconds since the Unix epoch.
    pub fn renewal_due(&self, now: i64) -> bool {
        let life = self.not_after.saturating_sub(self.not_before);
        now >= self.not_after.saturating_sub(life / 3)
    }
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read or written.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// A file has other content.
    #[error("{path}: {what}; join again with a new token")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// A certificate with its key, the CA that it is for, and the server's address.
pub struct Identity {
    /// Who we are.
    pub holder: Holder,
    /// Our chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: Arc<PrivateKeyDer<'static>>,
    /// The server's CA.
    pub ca: CertificateDer<'static>,
    /// `https://host:port`.
    pub url: String,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("holder", &self.holder).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the directory; `Ok(None)` when nobody joined there yet.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join("identity.pem");
        let pem = match fs::read(&path) {
            Ok(pem) => pem,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(IdentityError::File { path, cause }),
        };
        let ca_path = dir.join("ca.pem");
        let ca = read(&ca_path)?;
        let url = read(&dir.join("server.url"))?;
        let url = String::from_utf8_lossy(&url).trim().to_owned();
        let bad = |what| IdentityError::Content { path: path.clone(), what };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|_| bad("not PEM"))?;
        let leaf = chain.first().ok_or_else(|| bad("no certificate"))?;
        let holder = Holder::read(leaf).ok_or_else(|| bad("a certificate of another kind"))?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad("no private key"))?;
        let ca = CertificateDer::from_pem_slice(&ca)
            .map_err(|_| IdentityError::Content { path: ca_path, what: "no certificate" })?;
        Ok(Some(Self { holder, chain, key: Arc::new(key), ca, url }))
    }

    /// Writes a new certificate with its key and the rest, each file whole or not at all.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn store(
        dir: &Path,
        url: &str,
        certificate_pem: &str,
        key_pem: &str,
        ca_pem: &str,
    ) -> Result<(), IdentityError> {
        private_dir(dir)?;
        write(&dir.join("ca.pem"), ca_pem.as_bytes())?;
        write(&dir.join("server.url"), format!("{url}\n").as_bytes())?;
        // Last: with it, the directory counts as joined.
        write(&dir.join("identity.pem"), format!("{certificate_pem}{key_pem}").as_bytes())
    }
}

/// The server's policy key, as it was pinned in the directory when the holder joined; `None` when
/// it joined before there was one.
///
/// # Errors
/// When the file cannot be read, or holds no key.
pub fn policy_key(dir: &Path) -> Result<Option<PublicKey>, IdentityError> {
    let path = dir.join(POLICY_KEY);
    match fs::read_to_string(&path) {
        Ok(text) => PublicKey::parse(&text)
            .map(Some)
            .ok_or(IdentityError::Content { path, what: "no policy key" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(IdentityError::File { path, cause }),
    }
}

/// Pins the server's policy key.
///
/// # Errors
/// When it cannot be written.
pub fn pin_policy_key(dir: &Path, key: PublicKey) -> Result<(), IdentityError> {
    private_dir(dir)?;
    write(&dir.join(POLICY_KEY), format!("{}\n", key.to_hex()).as_bytes())
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|cause| IdentityError::File { path: path.to_owned(), cause })
}

/// Makes a directory of mode 0700, if it is not there.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir(dir: &Path) -> Result<(), IdentityError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|cause| IdentityError::File { path: dir.to_owned(), cause })
}

/// Replaces a file with one of mode 0600, durably.
pub fn write(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    replace(path, content).map_err(|cause| IdentityError::File { path: path.to_owned(), cause })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    fs::File::open(dir.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let cases = [
            (Role::Daemon, "Host-1.example", true),
            (Role::Reviewer, "alice@example.org", true),
            (Role::Reviewer, "Alice", false),
            (Role::Admin, "", false),
            (Role::Admin, "a/b", false),
            (Role::Admin, "..", false),
            (Role::Daemon, "-x", false),
            (Role::Daemon, "é", false),
        ];
        for (role, name, good) in cases {
            assert_eq!(Subject::new(role, name).is_some(), good, "{name}");
        }
    }

    #[test]
    fn uris() {
        let alice = Subject::new(Role::Reviewer, "alice").unwrap();
        assert_eq!(alice.uri(), "spiffe://enforcer/reviewer/alice");
        assert_eq!(Subject::from_uri(&alice.uri()), Some(alice));
        for uri in [
            "spiffe://enforcer/reviewer",
            "spiffe://enforcer/reviewer/a/b",
            "spiffe://enforcer/root/a",
            "spiffe://other/reviewer/a",
            "spiffe://enforcer/reviewer/",
        ] {
            assert_eq!(Subject::from_uri(uri), None, "{uri}");
        }
    }

    #[test]
    fn renewal() {
        let holder = Holder {
            subject: Subject::new(Role::Daemon, "h").unwrap(),
            not_before: 0,
            not_after: 900,
        };
        assert!(!holder.renewal_due(599));
        assert!(holder.renewal_due(600));
    }

    #[test]
    fn replaced_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
