//! Trading a one-time token for a certificate, and renewing it.
//!
//! The key is made here and never leaves. The CA is pinned by the token before
//! anything is trusted or sent.

use super::identity::{self, Holder, Identity, IdentityError, Role};
use super::tls::{self, TlsError};
use super::token::Token;
use crate::policy::signed::PublicKey;
use enforcer_proto::v1;
use enforcer_proto::v1::enrollment_client::EnrollmentClient;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::Channel;

/// Time for one exchange with the server.
const EXCHANGE: Duration = Duration::from_secs(15);

/// Why joining or renewing failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The connection could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file could not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// No key could be made.
    #[error("no key or certificate request could be made: {0}")]
    Key(rcgen::Error),
    /// The server could not be reached.
    #[error(
        "the approval server could not be reached, or is not the one that the token is for: {0}"
    )]
    Unreachable(String),
    /// The server said no.
    #[error("the approval server refused: {0}")]
    Refused(String),
    /// There is no identity.
    #[error("nobody joined yet in {0}: get a token and use `enforcer join`")]
    NotJoined(PathBuf),
    /// The identity is too old.
    #[error("the certificate in {0} ran out: join again with a new token")]
    RanOut(PathBuf),
    /// What came back is not a certificate for us.
    #[error("the approval server answered with {0}")]
    Answer(&'static str),
}

impl From<rcgen::Error> for JoinError {
    fn from(error: rcgen::Error) -> Self {
        Self::Key(error)
    }
}

/// Joins: makes a key, trades the token, and writes the identity to `dir`.
///
/// # Errors
/// When any step fails; then nothing usable is left in `dir`.
pub async fn join(url: &str, token: &Token, dir: &Path) -> Result<Identity, JoinError> {
    let channel = tls::pinned_channel(url, token.ca)?;
    let (key_pem, csr_pem) = key_and_request()?;
    let mut request = tonic::Request::new(v1::JoinRequest { token: token.reveal(), csr_pem });
    request.set_timeout(EXCHANGE);
    let answer = EnrollmentClient::new(channel).join(request).await;
    let answer = answer.map_err(refused)?.into_inner();
    let ca = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes())
        .map_err(|_| JoinError::Answer("something that is no CA certificate"))?;
    if tls::fingerprint(&ca) != token.ca {
        return Err(JoinError::Answer("another CA than the token names"));
    }
    // Whoever joins anew trusts the server anew, whatever key was there before.
    if let Some(key) = policy_key(&answer)? {
        identity::pin_policy_key(dir, key)?;
    }
    store(url, dir, &answer, &key_pem)
}

/// Renews the identity in `dir` over a channel that shows it.
///
/// # Errors
/// When any step fails; the identity that is there stays.
pub async fn renew(
    current: &Identity,
    url: &str,
    channel: Channel,
    dir: &Path,
) -> Result<Identity, JoinError> {
    let (key_pem, csr_pem) = key_and_request()?;
    let mut request = tonic::Request::new(v1::RenewRequest { csr_pem });
    request.set_timeout(EXCHANGE);
    let answer = EnrollmentClient::new(channel).renew(request).await;
    let answer = answer.map_err(refused)?.into_inner();
    let leaf = CertificateDer::from_pem_slice(answer.certificate_pem.as_bytes());
    let same = leaf.ok().and_then(|leaf| Holder::read(&leaf)).map(|holder| holder.subject);
    if same.as_ref() != Some(&current.holder.subject) {
        return Err(JoinError::Answer("a certificate for somebody else"));
    }
    let ca = CertificateDer::from_pem_slice(answer.ca_pem.as_bytes());
    if ca.ok().as_ref() != Some(&current.ca) {
        return Err(JoinError::Answer("another CA than the one joined"));
    }
    match (policy_key(&answer)?, identity::policy_key(dir)?) {
        (Some(key), None) => identity::pin_policy_key(dir, key)?,
        (Some(key), Some(pinned)) if key != pinned => tracing::error!(
            target: "audit",
            "the server has another policy key than the one that was pinned when this host joined; \
             what it signs is not taken: join again with a new token if that was meant"
        ),
        _ => {}
    }
    store(url, dir, &answer, &key_pem)
}

fn key_and_request() -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    // The server takes the public key only: names come from the token.
    let request = rcgen::CertificateParams::default().serialize_request(&key)?;
    Ok((key.serialize_pem(), request.pem()?))
}

/// The policy key of an answer; servers of before have none.
fn policy_key(answer: &v1::JoinResponse) -> Result<Option<PublicKey>, JoinError> {
    match answer.policy_key.as_slice() {
        [] => Ok(None),
        key => match key.try_into() {
            Ok(key) => Ok(Some(PublicKey(key))),
            Err(_) => Err(JoinError::Answer("a policy key that is none")),
        },
    }
}

fn store(
    url: &str,
    dir: &Path,
    answer: &v1::JoinResponse,
    key_pem: &str,
) -> Result<Identity, JoinError> {
    Identity::store(dir, url, &answer.certificate_pem, key_pem, &answer.ca_pem)?;
    Identity::load(dir)?.ok_or(JoinError::Answer("no certificate"))
}

fn refused(status: tonic::Status) -> JoinError {
    use tonic::Code;
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            JoinError::Unreachable(words(&status))
        }
        _ => JoinError::Refused(status.message().to_owned()),
    }
}

/// The innermost cause says what is wrong; the outer ones say "transport error".
pub fn words(status: &tonic::Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut last = None;
    while let Some(error) = cause {
        last = Some(error.to_string());
        cause = error.source();
    }
    last.unwrap_or_else(|| status.message().to_owned())
}

/// Opens a channel for a person's tool: loads the identity, renews it when two thirds of its
/// time are over, and says who it is for.
///
/// # Errors
/// When nobody joined there, or the certificate ran out.
pub async fn open(dir: &Path, url: Option<&str>) -> Result<(Identity, Channel), JoinError> {
    let identity = Identity::load(dir)?.ok_or_else(|| JoinError::NotJoined(dir.to_owned()))?;
    let url = url.unwrap_or(&identity.url).to_owned();
    let channel = tls::channel(&url, &identity)?;
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    if now >= identity.holder.not_after {
        return Err(JoinError::RanOut(dir.to_owned()));
    }
    if !identity.holder.renewal_due(now) || identity.holder.subject.role() == Role::Daemon {
        return Ok((identity, channel));
    }
    match renew(&identity, &url, channel.clone(), dir).await {
        Ok(renewed) => {
            let channel = tls::channel(&url, &renewed)?;
            Ok((renewed, channel))
        }
        // The one at hand is still good: the command itself will say if the server is gone.
        Err(error) => {
            tracing::warn!(%error, "the certificate was not renewed");
            Ok((identity, channel))
        }
    }
}
