//! Joining and renewing. Joining is the one method that needs no certificate.

use crate::approval::identity::{Role, Subject};
use crate::approval::token::Token;
use crate::server::audit::{Code, Entry};
use crate::server::ca::{self, CaError, Issued};
use crate::server::core::Core;
use crate::server::store::Member;
use enforcer_proto::v1;
use enforcer_proto::v1::enrollment_server::Enrollment;
use std::sync::Arc;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

/// One answer for every token that is not taken, so that nothing can be learnt by trying.
fn not_taken() -> Status {
    Status::permission_denied("the token is not good: it is wrong, used, or too old")
}

#[tonic::async_trait]
impl Enrollment for Service {
    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let from = request
            .extensions()
            .get::<TlsConnectInfo<TcpConnectInfo>>()
            .and_then(|info| info.get_ref().remote_addr())
            .map(|address| address.ip().to_canonical());
        if !self.0.may_join(from) {
            return Err(Status::resource_exhausted("too many tries; try again later"));
        }
        let from = from.map(|from| from.to_string()).unwrap_or_default();
        let v1::JoinRequest { token, csr_pem } = request.into_inner();
        let Ok(token) = Token::parse(&token) else {
            return Err(self.refuse("", &from).await?);
        };
        match self.trade(&token, &csr_pem, &from).await? {
            Some(answer) => Ok(Response::new(answer)),
            None => Err(self.refuse(&token.id_text(), &from).await?),
        }
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let caller = self.0.caller(&request, &Role::ALL).await?;
        let subject = &caller.subject;
        let issued = self.issue(&request.get_ref().csr_pem, subject)?;
        // After it was issued: a removal from here on bars it.
        self.0.still(&caller).await?;
        let who = subject.to_string();
        let entry = Entry::new(Code::CertificateRenewed, who.clone(), who, "");
        self.0.note(entry).await?;
        Ok(Response::new(self.answer(issued)))
    }
}

impl Service {
    /// `None` when the token is not taken.
    async fn trade(
        &self,
        token: &Token,
        csr_pem: &str,
        from: &str,
    ) -> Result<Option<v1::JoinResponse>, Status> {
        let core = &self.0;
        let now = core.clock.now();
        let Some(kept) = core.store.token(&token.id_text()).await? else {
            return Ok(None);
        };
        if kept.secret_hash != token.secret_hash() || now >= kept.expires {
            return Ok(None);
        }
        let Some(subject) = Subject::new(kept.role, &kept.name) else {
            return Ok(None);
        };
        let barred_until = core.store.member(&subject).await?.map_or(0, |old| old.barred_until);
        if now / 1000 <= barred_until / 1000 {
            // A certificate of this second could not be told from one that was taken away.
            return Err(Status::unavailable("removed a moment ago; try again in a second"));
        }
        let issued = self.issue(csr_pem, &subject)?;
        let member = Member {
            role: kept.role,
            name: kept.name,
            groups: kept.groups,
            joined: now,
            removed: false,
            barred_until,
        };
        let detail = format!("token={} from={from}", kept.id);
        let who = subject.to_string();
        let entry = Entry::new(Code::JoinAccepted, who.clone(), who, detail);
        // Of two that trade the same token at once, the store lets one through.
        if !core.store.redeem(&kept.id, member, entry, now).await? {
            return Ok(None);
        }
        core.metrics.event(Code::JoinAccepted);
        // Streams of an earlier certificate may have had other groups.
        core.hub.member(&subject);
        Ok(Some(self.answer(issued)))
    }

    async fn refuse(&self, token: &str, from: &str) -> Result<Status, Status> {
        let entry = Entry::new(Code::JoinRefused, "", token, format!("from={from}"));
        self.0.note(entry).await?;
        Ok(not_taken())
    }

    fn issue(&self, csr_pem: &str, subject: &Subject) -> Result<Issued, Status> {
        let core = &self.0;
        // Told as something that passes, so that the caller comes back.
        core.may_grant().map_err(|status| Status::unavailable(status.message()))?;
        let hours = ca::hours(core.config.certificates, subject.role());
        let issued = core.ca.issue(csr_pem, subject, hours, core.clock.now());
        issued.map_err(|error| match error {
            CaError::Request => Status::invalid_argument("not a certificate request"),
            error => {
                tracing::error!(%error, "no certificate was issued");
                Status::internal("no certificate could be issued")
            }
        })
    }

    fn answer(&self, issued: Issued) -> v1::JoinResponse {
        v1::JoinResponse {
            certificate_pem: issued.pem,
            ca_pem: self.0.ca.pem().to_owned(),
            not_after_unix: issued.not_after,
            policy_key: self.0.policies.key().public().0.to_vec(),
        }
    }
}
