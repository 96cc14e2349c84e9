//! Signs in upstream with the target's own credentials.
//!
//! The mechanisms are the server's choice among SCRAM-SHA-256 (with channel binding over TLS),
//! md5, the password in clear (over TLS only), a client certificate and none. What a server asks
//! that is not among them ends the sign-in; nothing weaker is tried.

use super::{ConnectError, Reach, Ready};
use crate::protocol::postgres::codec::backend::{self, Authentication};
use crate::protocol::postgres::codec::error_response::{self, Report};
use crate::protocol::postgres::codec::startup::Startup;
use crate::protocol::postgres::codec::{frontend, put, put_text};
use crate::protocol::postgres::io::{Wire, WireError};
use bytes::BufMut as _;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// Most messages until the server is ready; settings that it reports are among them.
const MOST: usize = 512;

/// How far a SASL exchange is.
enum Sasl {
    None,
    Begun(Box<ScramSha256>),
    /// The server proved that it knows the password.
    Proved,
}

pub(super) async fn sign_in(
    mut wire: Wire,
    reach: &Reach,
    leaf: Option<CertificateDer<'static>>,
    minor: u16,
    parameters: &[(String, String)],
) -> Result<Ready, ConnectError> {
    let broke = |error: WireError| ConnectError::broke(&error);
    let mut startup = Startup { minor, parameters: Vec::new() };
    startup.parameters.push(("user".to_owned(), reach.role.name.clone()));
    startup.parameters.push(("database".to_owned(), reach.database.clone()));
    startup.parameters.extend_from_slice(parameters);
    startup.put(wire.out());
    wire.flush().await.map_err(broke)?;

    let encrypted = leaf.is_some();
    let mut sasl = Sasl::None;
    let mut signed_in = false;
    let mut ready = Ready { wire, key: None, parameters: Vec::new() };
    for _ in 0..MOST {
        let message = ready.wire.next().await.map_err(broke)?;
        let odd = |error| ConnectError::broke(&WireError::Codec(error));
        match message.tag {
            backend::AUTHENTICATION => {
                let asked = backend::authentication(&message.body).map_err(odd)?;
                match asked {
                    Authentication::Ok if matches!(sasl, Sasl::Begun(_)) => {
                        return Err(unproved());
                    }
                    Authentication::Ok => signed_in = true,
                    Authentication::Clear if encrypted => {
                        let password = password(reach)?;
                        answer(&mut ready.wire, |body| {
                            body.put_slice(&password);
                            body.put_u8(0);
                        })
                        .await?;
                    }
                    Authentication::Md5(salt) => {
                        let hash = md5_hash(reach.role.name.as_bytes(), &password(reach)?, salt);
                        answer(&mut ready.wire, |body| put_text(body, &hash)).await?;
                    }
                    Authentication::Sasl(offered) => {
                        let (name, binding) = mechanism(&offered, leaf.as_ref())?;
                        let scram = ScramSha256::new(&password(reach)?, binding);
                        answer(&mut ready.wire, |body| {
                            put_text(body, name);
                            let first = scram.message();
                            body.put_u32(u32::try_from(first.len()).unwrap_or_default());
                            body.put_slice(first);
                        })
                        .await?;
                        sasl = Sasl::Begun(Box::new(scram));
                    }
                    Authentication::SaslContinue(data) => {
                        let Sasl::Begun(scram) = &mut sasl else { return Err(unproved()) };
                        scram.update(&data).map_err(|_| unproved())?;
                        let next = scram.message().to_vec();
                        answer(&mut ready.wire, |body| body.put_slice(&next)).await?;
                    }
                    Authentication::SaslFinal(data) => {
                        let Sasl::Begun(mut scram) = std::mem::replace(&mut sasl, Sasl::None)
                        else {
                            return Err(unproved());
                        };
                        scram.finish(&data).map_err(|_| unproved())?;
                        sasl = Sasl::Proved;
                    }
                    Authentication::Clear => {
                        let why = "the upstream asks for the password in clear without TLS";
                        return Err(ConnectError::new("upstream-sign-in", why));
                    }
                    Authentication::Other(number) => {
                        let why = format!(
                            "the upstream asks for sign-in method {number}, which is not spoken"
                        );
                        return Err(ConnectError::new("upstream-sign-in", why));
                    }
                }
            }
            error_response::ERROR => return Err(refused(&message.body)),
            // The server's word that it speaks 3.0 alone; nothing of it is needed.
            backend::NEGOTIATE | error_response::NOTICE => {}
            _ if !signed_in => {
                return Err(ConnectError::new("upstream-broke", "a message before the sign-in"));
            }
            backend::KEY_DATA => {
                ready.key = Some(backend::key_data(&message.body).map_err(odd)?);
            }
            backend::PARAMETER => {
                ready.parameters.push(backend::parameter(&message.body).map_err(odd)?);
            }
            backend::READY => return Ok(ready),
            _ => return Err(ConnectError::new("upstream-broke", "an odd message at the start")),
        }
    }
    Err(ConnectError::new("upstream-broke", "the start does not end"))
}

fn unproved() -> ConnectError {
    let why = "the upstream did not prove that it knows the role's password";
    ConnectError::new("upstream-sign-in", why)
}

async fn answer(
    wire: &mut Wire,
    write: impl FnOnce(&mut bytes::BytesMut),
) -> Result<(), ConnectError> {
    put(wire.out(), frontend::PASSWORD, write);
    wire.flush().await.map_err(|error| ConnectError::broke(&error))
}

fn password(reach: &Reach) -> Result<Vec<u8>, ConnectError> {
    let read = reach.role.password().map_err(|error| ConnectError::new("credential", error))?;
    read.ok_or_else(|| {
        let role = &reach.role.name;
        let why = format!("the upstream asks for a password, and role `{role}` has none in policy");
        ConnectError::new("credential", why)
    })
}

/// The strongest mechanism that both know. Over TLS the answer says whether we could have bound
/// the channel, so that nobody in between can take the stronger one off the list (RFC 5802
/// section 6).
fn mechanism(
    offered: &[String],
    leaf: Option<&CertificateDer<'_>>,
) -> Result<(&'static str, ChannelBinding), ConnectError> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let hash = leaf.and_then(|leaf| end_point(leaf));
    match hash {
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
            Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash)))
        }
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => {
            let why = format!("the upstream offers no known mechanism: {}", offered.join(", "));
            Err(ConnectError::new("upstream-sign-in", why))
        }
    }
}

/// The hash of the server's certificate that binds the channel (RFC 5929 section 4.1): by the
/// signature's own hash, SHA-256 where that is MD5 or SHA-1. `None` for a signature that names no
/// hash (Ed25519), for which there is no such binding.
fn end_point(leaf: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).ok()?;
    // RSA with SHA-2: RFC 4055 section 5. ECDSA with SHA-2: RFC 5758 section 3.2.
    match certificate.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.10045.4.1"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(leaf).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => Some(Sha384::digest(leaf).to_vec()),
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => Some(Sha512::digest(leaf).to_vec()),
        _ => None,
    }
}

/// The server turned the sign-in down. What it says of the daemon's credentials is not for the
/// agent; that there is no such database, or no room, is.
fn refused(body: &bytes::Bytes) -> ConnectError {
    let Ok(report) = Report::read(body) else {
        return ConnectError::new("upstream-broke", "an odd error at the start");
    };
    let detail = format!("{}: {}", report.code(), report.get(b'M').unwrap_or_default());
    let credentials = report.code().starts_with("28");
    ConnectError {
        code: if credentials { "upstream-sign-in" } else { "upstream-refused" },
        detail,
        report: (!credentials).then_some(report),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(offered: &[&str]) -> Vec<String> {
        offered.iter().map(|name| (*name).to_owned()).collect()
    }

    fn leaf() -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["db.test".to_owned()]).unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn the_channel_is_bound_where_both_can() {
        let both = names(&["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]);
        let leaf = leaf();
        // rcgen signs with ECDSA P-256 and SHA-256.
        assert_eq!(end_point(&leaf), Some(Sha256::digest(&leaf).to_vec()));
        assert_eq!(mechanism(&both, Some(&leaf)).unwrap().0, "SCRAM-SHA-256-PLUS");
        assert_eq!(mechanism(&both, None).unwrap().0, "SCRAM-SHA-256");
        assert!(mechanism(&names(&["SCRAM-SHA-256-PLUS"]), None).is_err());
        assert!(mechanism(&names(&["OAUTHBEARER"]), Some(&leaf)).is_err());
    }

    #[test]
    fn what_a_server_says_of_credentials_is_not_for_the_agent() {
        let body = |code: &str| {
            let mut out = bytes::BytesMut::new();
            Report::new("FATAL", code, "words").put(&mut out, error_response::ERROR);
            out.freeze().slice(5..)
        };
        assert!(refused(&body("28P01")).report.is_none());
        assert!(refused(&body("3D000")).report.is_some());
    }
}
