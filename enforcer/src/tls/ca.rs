//! The interception CA: made once by the host, kept in two files, never sent anywhere.
//!
//! ECDSA P-256, `ca.pem` (the certificate) and `ca.key` (PKCS#8, mode 0600).
//! A key that others can read, or half a pair, is an error: the CA is never
//! quietly replaced, because clients trust the one they were given.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use time::{Duration, OffsetDateTime};

/// File name of the certificate.
pub const CERTIFICATE: &str = "ca.pem";
/// File name of the key.
pub const KEY: &str = "ca.key";

/// How long the CA is good.
const CA_LIFE: Duration = Duration::days(3650);
/// How long a leaf is good from now; short, as it is minted again on demand.
const LEAF_LIFE: Duration = Duration::days(14);
/// How far back certificates are dated, for clients whose clock is behind.
const BACKDATED: Duration = Duration::days(2);
/// Longest common name (X.520 ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// Why the CA cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Only one of the two files is there.
    #[error(
        "{missing} is missing beside {present}: restore it, or remove both to make a new CA \
         (clients must then be given the new one)"
    )]
    Half {
        /// The file that is there.
        present: PathBuf,
        /// The file that is not.
        missing: PathBuf,
    },
    /// Others can read the key.
    #[error(
        "{path} has mode {mode:04o}; run `chmod 600 {path}`, or make a new CA if others may have read it"
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The files do not hold a CA and its key.
    #[error("{path}: {what}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Making or signing a certificate failed.
    #[error("a certificate could not be made: {0}")]
    Mint(#[from] rcgen::Error),
}

/// The CA and the one key that all leaves of this process share (it lives in memory only).
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    leaf_key: KeyPair,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").finish_non_exhaustive()
    }
}

impl Ca {
    /// Reads the CA of `dir`, or makes it when neither file is there yet.
    pub fn load_or_create(dir: &Path) -> Result<Self, CaError> {
        let (cert, key) = (dir.join(CERTIFICATE), dir.join(KEY));
        match (exists(&cert)?, exists(&key)?) {
            (false, false) => create(dir)?,
            (true, true) => {}
            (true, false) => return Err(CaError::Half { present: cert, missing: key }),
            (false, true) => return Err(CaError::Half { present: key, missing: cert }),
        }
        Self::load(dir)
    }

    /// Reads the CA of `dir`.
    pub fn load(dir: &Path) -> Result<Self, CaError> {
        let (cert_path, key_path) = (dir.join(CERTIFICATE), dir.join(KEY));
        let mode = fs::metadata(&key_path).map_err(io_at(&key_path))?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(CaError::Exposed { path: key_path, mode });
        }
        let pem = fs::read_to_string(&cert_path).map_err(io_at(&cert_path))?;
        let key = fs::read_to_string(&key_path).map_err(io_at(&key_path))?;
        let invalid = |path: &Path, what: String| CaError::Invalid { path: path.to_owned(), what };
        let key = KeyPair::from_pem(&key)
            .map_err(|e| invalid(&key_path, format!("not a private key in PEM form: {e}")))?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|e| invalid(&cert_path, format!("not a certificate in PEM form: {e:?}")))?
            .into_owned();
        check(&certificate, &key).map_err(|what| invalid(&cert_path, what))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|e| invalid(&cert_path, format!("not a CA certificate: {e}")))?;
        Ok(Self {
            issuer,
            certificate,
            pem,
            leaf_key: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        })
    }

    /// The CA's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.pem
    }

    /// The CA's certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A leaf for a host name or an address literal, signed by the CA.
    pub(super) fn mint(&self, name: &str) -> Result<CertificateDer<'static>, CaError> {
        let san = match name.parse::<IpAddr>() {
            Ok(ip) => rcgen::SanType::IpAddress(ip),
            Err(_) => rcgen::SanType::DnsName(name.try_into()?),
        };
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![san];
        params.distinguished_name = rcgen::DistinguishedName::new();
        let common_name = if name.len() <= MAX_COMMON_NAME { name } else { "Enforcer leaf" };
        params.distinguished_name.push(DnType::CommonName, common_name);
        // Strict verifiers (Python 3.13) refuse a leaf without an authority key identifier.
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = OffsetDateTime::now_utc();
        params.not_before = now - BACKDATED;
        params.not_after = now + LEAF_LIFE;
        Ok(params.signed_by(&self.leaf_key, &self.issuer)?.der().clone())
    }

    /// The leaves' key, PKCS#8 DER.
    pub(super) fn leaf_key(&self) -> &[u8] {
        self.leaf_key.serialized_der()
    }
}

/// The system's roots and the CA as one PEM text, for clients whose setting replaces the roots.
///
/// Roots that cannot be read are left out: the client then trusts less, never more.
pub fn bundle(ca: &Ca) -> String {
    let mut pem = String::new();
    for root in rustls_native_certs::load_native_certs().certs {
        push_pem(&mut pem, &root);
    }
    push_pem(&mut pem, ca.certificate());
    pem
}

fn push_pem(pem: &mut String, der: &CertificateDer<'_>) {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        // Writing to a String cannot fail.
        let _ = writeln!(pem, "{line}");
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
}

fn create(dir: &Path) -> Result<(), CaError> {
    fs::create_dir_all(dir).map_err(io_at(dir))?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let host = nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut name = format!("Enforcer CA {host}");
    let end = (0..=MAX_COMMON_NAME.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
    name.truncate(end.unwrap_or(0));
    params.distinguished_name.push(DnType::CommonName, name.trim_end());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATED;
    params.not_after = now + CA_LIFE;
    let certificate = params.self_signed(&key)?;
    // The key first: a crash in between leaves half a pair, which is noticed.
    write_new(&dir.join(KEY), key.serialize_pem().as_bytes(), 0o600)?;
    write_new(&dir.join(CERTIFICATE), certificate.pem().as_bytes(), 0o644)
}

/// Writes a file that did not exist, durably.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), CaError> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(io_at(path))
}

fn check(certificate: &CertificateDer<'_>, key: &KeyPair) -> Result<(), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|e| format!("not a certificate: {e}"))?;
    if !parsed.is_ca() {
        return Err("the certificate is not a CA's".into());
    }
    if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
        return Err(format!("{KEY} is not the key of this certificate"));
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    if parsed.validity().not_after.timestamp() <= now {
        return Err("the CA has expired: run `enforcer ca rotate`".into());
    }
    Ok(())
}

fn exists(path: &Path) -> Result<bool, CaError> {
    path.try_exists().map_err(io_at(path))
}

fn io_at(path: &Path) -> impl Fn(io::Error) -> CaError + '_ {
    |source| CaError::Io { path: path.to_owned(), source }
}
