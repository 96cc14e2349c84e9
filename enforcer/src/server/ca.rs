//! The server's own CA: made at the first start, issues its own and its clients' certificates.
//!
//! Of a request for a certificate only the public key is taken; who the holder
//! is, is said by the token or by the certificate that is renewed.

use crate::approval::identity::{self, IdentityError, Role, Subject};
use crate::approval::tls;
use crate::server::model::Millis;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SanType,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::{Duration, OffsetDateTime};

/// Certificates start this much earlier, for clocks that run behind.
const BACKDATE: Duration = Duration::minutes(5);

/// The CA's own life.
const CA_LIFE: Duration = Duration::days(3650);

/// The server certificate's life; a new one is made at each start and every day.
const SERVER_LIFE: Duration = Duration::days(7);

/// The longest request for a certificate that is read.
const MAX_CSR: usize = 16 << 10;

/// Why the CA cannot be used, or does not issue.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] IdentityError),
    /// One of the CA's two files is there and the other is not.
    #[error(
        "{0} is there but its other half is not: restore both from a backup, or remove it to make a new CA (then every host and person joins again)"
    )]
    Half(PathBuf),
    /// What the files hold is not a CA's certificate and its key.
    #[error("{path}: {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The request is not one.
    #[error("not a certificate request")]
    Request,
    /// The certificate could not be made.
    #[error("no certificate could be made: {0}")]
    Make(rcgen::Error),
    /// The certificate could not be used.
    #[error("the certificate cannot be used: {0}")]
    Use(rustls::Error),
    /// A time out of range.
    #[error("the clock shows a time that certificates cannot have")]
    Time,
}

impl From<rcgen::Error> for CaError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

impl From<rustls::Error> for CaError {
    fn from(error: rustls::Error) -> Self {
        Self::Use(error)
    }
}

/// The CA.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").finish_non_exhaustive()
    }
}

/// A certificate that was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// PEM.
    pub pem: String,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
}

impl Ca {
    /// Reads the CA, or makes it when neither of its files is there.
    ///
    /// # Errors
    /// When it cannot be read, made, or is not whole.
    pub fn open(dir: &Path) -> Result<Self, CaError> {
        let (cert_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
        match (cert_path.exists(), key_path.exists()) {
            (false, false) => Self::make(dir)?,
            (true, true) => {}
            (true, false) => return Err(CaError::Half(cert_path)),
            // The key is written first: a start that was cut short left it alone.
            (false, true) => return Err(CaError::Half(key_path)),
        }
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|cause| IdentityError::File { path: path.to_owned(), cause })
        };
        let (pem, key_pem) = (read(&cert_path)?, read(&key_path)?);
        let content = |path: &Path, what| CaError::Content { path: path.to_owned(), what };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| content(&cert_path, "no certificate"))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|_| content(&key_path, "no private key"))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key)
            .map_err(|_| content(&cert_path, "not a CA's certificate"))?;
        Ok(Self { issuer, certificate, pem })
    }

    fn make(dir: &Path) -> Result<(), CaError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|cause| IdentityError::File { path: dir.to_owned(), cause })?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - BACKDATE;
        params.not_after = now + CA_LIFE;
        params.distinguished_name.push(DnType::CommonName, "Enforcer approval server CA");
        let certificate = params.self_signed(&key)?;
        identity::write(&dir.join("ca.key"), key.serialize_pem().as_bytes())?;
        identity::write(&dir.join("ca.pem"), certificate.pem().as_bytes())?;
        Ok(())
    }

    /// The CA's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The CA's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the CA's certificate.
    pub fn fingerprint(&self) -> [u8; 32] {
        tls::fingerprint(&self.certificate)
    }

    /// Issues a client certificate for the request's key.
    ///
    /// # Errors
    /// [`CaError::Request`] when the request is not one or its signature does not fit.
    pub fn issue(
        &self,
        csr_pem: &str,
        subject: &Subject,
        hours: u32,
        now: Millis,
    ) -> Result<Issued, CaError> {
        if csr_pem.len() > MAX_CSR {
            return Err(CaError::Request);
        }
        let asked =
            CertificateSigningRequestParams::from_pem(csr_pem).map_err(|_| CaError::Request)?;
        let mut params = leaf(now, Duration::hours(i64::from(hours)))?;
        let uri = subject.uri().try_into().map_err(|_| CaError::Request)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name.push(DnType::CommonName, subject.to_string());
        let certificate = params.signed_by(&asked.public_key, &self.issuer)?;
        Ok(Issued { pem: certificate.pem(), not_after: params.not_after.unix_timestamp() })
    }

    /// A new key and certificate for the server itself; the key stays in memory.
    ///
    /// # Errors
    /// When none can be made.
    pub fn server(&self, names: &[String], now: Millis) -> Result<CertifiedKey, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = leaf(now, SERVER_LIFE)?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, "Enforcer approval server");
        let certificate = params.signed_by(&key, &self.issuer)?;
        // The CA goes along, so that a joiner can compare it with the token's fingerprint.
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivateKeyDer::from(key);
        Ok(CertifiedKey::from_der(chain, key, &tls::provider())?)
    }
}

fn leaf(now: Millis, life: Duration) -> Result<CertificateParams, CaError> {
    let now = OffsetDateTime::from_unix_timestamp(now / 1000).map_err(|_| CaError::Time)?;
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now.checked_sub(BACKDATE).ok_or(CaError::Time)?;
    params.not_after = now.checked_add(life).ok_or(CaError::Time)?;
    Ok(params)
}

/// When a certificate was issued, to the second.
pub fn issued(holder: &identity::Holder) -> Millis {
    holder.not_before.saturating_add(BACKDATE.whole_seconds()).saturating_mul(1000)
}

/// How long a certificate of that role is good.
pub fn hours(certificates: crate::server::config::Certificates, role: Role) -> u32 {
    match role {
        Role::Daemon => certificates.daemon_hours,
        Role::Reviewer | Role::Admin | Role::Viewer | Role::PolicyAdmin => {
            certificates.person_hours
        }
    }
}

/// Gives the newest server certificate to each connection.
#[derive(Debug)]
pub struct Current(pub arc_swap::ArcSwap<CertifiedKey>);

impl rustls::server::ResolvesServerCert for Current {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::identity::Holder;

    #[test]
    fn made_once_then_read() {
        let dir = tempfile::tempdir().unwrap();
        let first = Ca::open(dir.path()).unwrap().fingerprint();
        assert_eq!(Ca::open(dir.path()).unwrap().fingerprint(), first);
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(matches!(Ca::open(dir.path()), Err(CaError::Half(_))));
    }

    #[test]
    fn a_request_cannot_choose_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["evil.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let uri = "spiffe://enforcer/admin/root".to_owned().try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let csr = params.serialize_request(&key).unwrap().pem().unwrap();
        let subject = Subject::new(Role::Daemon, "h1").unwrap();
        let issued = ca.issue(&csr, &subject, 24, 1_000_000).unwrap();
        let der = CertificateDer::from_pem_slice(issued.pem.as_bytes()).unwrap();
        let holder = Holder::read(&der).unwrap();
        assert_eq!(holder.subject, subject);
        assert_eq!((holder.not_before, holder.not_after), (700, 1_000 + 24 * 3600));
        let (_, cert) = x509_parser::parse_x509_certificate(&der).unwrap();
        assert!(!cert.is_ca());
    }

    #[test]
    fn a_spoiled_request_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ca = Ca::open(dir.path()).unwrap();
        let subject = Subject::new(Role::Daemon, "h1").unwrap();
        for text in [
            "",
            "x",
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            &"x".repeat(MAX_CSR + 1),
        ] {
            assert!(matches!(ca.issue(text, &subject, 1, 0), Err(CaError::Request)));
        }
    }
}
