//! The daemon's own connections to a database: dialled, in TLS, signed in.
//!
//! Only what a permit for `sql.connect` said can be reached ([`Reach`]). The same way leads to
//! the session itself, to the catalog and to a cancel request.

mod ready;
mod sign_in;

pub(super) use ready::Ready;

use super::codec::startup;
use super::io::{Wire, WireError};
use crate::decide::Permit;
use crate::flow::Inputs;
use crate::forward::dial::Route;
use crate::policy::{ClientCertificate, PostgresRole, PostgresTls, SecretFile};
use crate::tls::{self, client::Agreed};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Where a permit for a session leads, and as whom.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    route: Route,
    /// The verified name, which the upstream's certificate must have.
    name: String,
    tls: PostgresTls,
    role: PostgresRole,
    /// The database as the upstream calls it.
    pub(super) database: String,
}

/// The far end, as it is recorded.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) tls: Option<Agreed>,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{detail}")]
pub(super) struct ConnectError {
    /// The stable code.
    pub(super) code: &'static str,
    /// What happened, for the transcript.
    pub(super) detail: String,
    /// What the upstream itself said, which the agent may read.
    pub(super) report: Option<super::codec::error_response::Report>,
}

impl ConnectError {
    fn new(code: &'static str, detail: impl std::fmt::Display) -> Self {
        Self { code, detail: detail.to_string(), report: None }
    }

    fn broke(error: &WireError) -> Self {
        match error {
            WireError::Timeout => {
                Self::new("upstream-timeout", "the upstream did not answer in time")
            }
            error => Self::new("upstream-broke", error),
        }
    }
}

impl Reach {
    /// Where a permit leads, under the role that the start-up user becomes.
    pub(super) fn new(
        permit: &Permit,
        tls: PostgresTls,
        role: PostgresRole,
        database: String,
    ) -> Self {
        Self { route: permit.route(), name: permit.place().name.clone(), tls, role, database }
    }

    /// What tells this place, database and role from others.
    pub(super) fn key(&self) -> String {
        let name = (self.name.as_str(), self.role.name.as_str());
        Self::key_of(&self.route, self.tls, name, &self.database)
    }

    /// The same, of a place, the name that it is known by and a role there.
    pub(super) fn key_of(
        route: &Route,
        tls: PostgresTls,
        (name, role): (&str, &str),
        database: &str,
    ) -> String {
        format!("{:?}", (route, name, tls, role, database))
    }

    /// Whether it is reached in this way.
    pub(super) fn is_reached_by(&self, tls: PostgresTls) -> bool {
        self.tls == tls
    }

    /// The role that is signed in as.
    pub(super) fn role(&self) -> &str {
        &self.role.name
    }

    /// Signs in with these start-up parameters beside user and database.
    pub(super) async fn sign_in(
        &self,
        inputs: &Inputs,
        minor: u16,
        parameters: &[(String, String)],
    ) -> Result<(Ready, Peer), ConnectError> {
        let limit = Duration::from_millis(inputs.config.limits.dial_ms);
        let deadline = Instant::now() + limit;
        let (wire, peer, leaf) = self.open(inputs, deadline).await?;
        let signing = sign_in::sign_in(wire, self, leaf, minor, parameters);
        match timeout_at(deadline + limit, signing).await {
            Ok(ready) => Ok((ready?, peer)),
            Err(_) => Err(ConnectError::broke(&WireError::Timeout)),
        }
    }

    /// Asks the upstream to cancel what a session of ours runs.
    pub(super) async fn cancel(
        &self,
        inputs: &Inputs,
        process: u32,
        key: &[u8],
    ) -> Result<(), ConnectError> {
        let limit = Duration::from_millis(inputs.config.limits.dial_ms);
        let deadline = Instant::now() + limit;
        let (mut wire, _, _) = self.open(inputs, deadline).await?;
        startup::put_cancel(wire.out(), process, key);
        let sent = timeout_at(deadline, wire.flush()).await;
        sent.unwrap_or(Err(WireError::Timeout)).map_err(|error| ConnectError::broke(&error))?;
        // The server closes once it has passed it on; libpq waits for that too.
        let _ = timeout_at(deadline, wire.gone()).await;
        Ok(())
    }

    /// A connection on which nothing was said yet, and the certificate of the far end.
    async fn open(
        &self,
        inputs: &Inputs,
        deadline: Instant,
    ) -> Result<(Wire, Peer, Option<CertificateDer<'static>>), ConnectError> {
        let dialed = inputs
            .dialer
            .dial(&self.route)
            .await
            .map_err(|error| ConnectError::new(error.kind(), error))?;
        let addr = dialed.addr;
        let mut wire = Wire::new(dialed.stream);
        if self.tls == PostgresTls::Disable {
            return Ok((wire, Peer { addr, tls: None }, None));
        }
        if self.tls == PostgresTls::VerifyFull {
            ask_for_tls(&mut wire, deadline).await?;
        }
        // Nothing but the one byte was read, so nothing plain can pass for what comes in TLS.
        let io = wire.into_io().ok_or_else(|| ConnectError::new("upstream-broke", "read ahead"))?;
        let identity = match &self.role.certificate {
            None => None,
            Some(certificate) => Some(identity(certificate)?),
        };
        let handshake = inputs.upstreams.connect_postgres(io, &self.name, identity);
        let (stream, agreed) = timeout_at(deadline, handshake)
            .await
            .map_err(|_| ConnectError::broke(&WireError::Timeout))?
            .map_err(|error| ConnectError::new("upstream-tls", error))?;
        if self.tls == PostgresTls::Direct && agreed.alpn.as_bytes() != tls::POSTGRES {
            // Whoever else listens there may take the start-up for something of its own.
            let why = "the upstream did not say in TLS that it speaks PostgreSQL (ALPN \
                       \"postgresql\"), as it must where TLS is not asked for first";
            return Err(ConnectError::new("upstream-tls", why));
        }
        let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let leaf = leaf.map(|leaf| leaf.clone().into_owned());
        Ok((Wire::new(stream), Peer { addr, tls: Some(agreed) }, leaf))
    }
}

/// Asks for TLS by the protocol's own question.
async fn ask_for_tls(wire: &mut Wire, deadline: Instant) -> Result<(), ConnectError> {
    startup::put_tls_request(wire.out());
    let answer = async {
        wire.flush().await?;
        wire.byte().await
    };
    let answer = timeout_at(deadline, answer).await.unwrap_or(Err(WireError::Timeout));
    match answer.map_err(|error| ConnectError::broke(&error))? {
        b'S' => Ok(()),
        _ => {
            let why = "the upstream does not speak TLS, and the target asks for it; \
                       tls = \"disable\" in [target.postgres] would do without";
            Err(ConnectError::new("upstream-tls", why))
        }
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// The role's client certificate, read when it is needed.
fn identity(certificate: &ClientCertificate) -> Result<Identity, ConnectError> {
    let place =
        |file: &SecretFile| file.place().map_err(|error| ConnectError::new("credential", error));
    let (chain, key) = (&place(&certificate.chain)?, &place(&certificate.key)?);
    let unreadable = |path: &Path, error: rustls_pki_types::pem::Error| {
        ConnectError::new("credential", format!("{} cannot be used: {error:?}", path.display()))
    };
    let chain_read = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unreadable(chain, error))?;
    let key_read = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, error))?;
    Ok((chain_read, key_read))
}
