//! What admins call: over mTLS with an admin's certificate, or as root on the
//! server's own machine through the admin socket.

use crate::approval::identity::{Role, Subject};
use crate::approval::token::Token;
use crate::server::audit::{Code, Entry};
use crate::server::core::Core;
use crate::server::members;
use crate::server::store::JoinToken;
use enforcer_proto::v1;
use enforcer_proto::v1::admin_server::Admin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

/// How long a token can be good: a week. Seconds.
const TTL: u64 = 7 * 86_400;

/// How long it is good when nothing is said. Seconds.
const DEFAULT_TTL: u64 = 3600;

/// Groups of one person.
const GROUPS: usize = 64;

/// Records read from the store at a time.
const PAGE: usize = 500;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

#[tonic::async_trait]
impl Admin for Service {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let actor = actor(&self.0, &request).await?;
        let created = create_token(&self.0, &actor, request.into_inner()).await?;
        Ok(Response::new(created))
    }

    async fn remove_member(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let actor = actor(&self.0, &request).await?;
        Ok(Response::new(members::remove(&self.0, &actor, request.into_inner()).await?))
    }

    async fn list_members(
        &self,
        request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        actor(&self.0, &request).await?;
        Ok(Response::new(members::list(&self.0).await?))
    }

    type AuditStream = ReceiverStream<Result<v1::AuditRecord, Status>>;

    async fn audit(
        &self,
        request: Request<v1::AuditRequest>,
    ) -> Result<Response<Self::AuditStream>, Status> {
        actor(&self.0, &request).await?;
        let (records, stream) = mpsc::channel(16);
        let core = Arc::clone(&self.0);
        let mut after = request.get_ref().after;
        tokio::spawn(async move {
            loop {
                let page = match core.store.audit(after, PAGE).await {
                    Ok(page) => page,
                    Err(error) => {
                        let _ = records.send(Err(error.into())).await;
                        return;
                    }
                };
                let Some(last) = page.last() else { return };
                after = last.seq;
                for record in page {
                    if records.send(Ok(record)).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Who calls: an admin's certificate, or root (or the server's own user) at the socket.
pub(super) async fn actor<T>(core: &Core, request: &Request<T>) -> Result<String, Status> {
    let Some(local) = request.extensions().get::<UdsConnectInfo>() else {
        let caller = core.caller(request, &[Role::Admin]).await?;
        return Ok(caller.subject.to_string());
    };
    let uid = local.peer_cred.map(|peer| peer.uid());
    match uid {
        Some(uid) if uid == 0 || uid == nix::unistd::geteuid().as_raw() => {
            Ok(format!("local/{uid}"))
        }
        _ => Err(crate::server::core::forbidden()),
    }
}

/// Makes a join token.
///
/// # Errors
/// When the request makes no sense, or the store fails.
pub async fn create_token(
    core: &Core,
    actor: &str,
    request: v1::CreateTokenRequest,
) -> Result<v1::CreateTokenResponse, Status> {
    let bad = Status::invalid_argument;
    let role = Role::from_wire(request.role).ok_or_else(|| bad("a role is needed"))?;
    let subject = Subject::new(role, &request.name).ok_or_else(|| {
        bad("the name must have 1 to 128 of `A-Z a-z 0-9 . _ @ -`, for people without capitals")
    })?;
    let groups_fit = request.groups.len() <= GROUPS
        && request.groups.iter().all(|group| Subject::new(Role::Daemon, group).is_some());
    if !groups_fit || (role != Role::Reviewer && !request.groups.is_empty()) {
        return Err(bad("groups are for reviewers, with names of `A-Z a-z 0-9 . _ @ -`"));
    }
    let ttl = match request.ttl_seconds {
        0 => DEFAULT_TTL,
        ttl @ 1..=TTL => ttl,
        _ => return Err(bad("a token is good for a week at most")),
    };
    let token = Token::generate(core.ca.fingerprint())
        .map_err(|_| Status::internal("the system gives no random bytes"))?;
    let now = core.clock.now();
    let expires = now.saturating_add(i64::try_from(ttl).unwrap_or(i64::MAX).saturating_mul(1000));
    let kept = JoinToken {
        id: token.id_text(),
        secret_hash: token.secret_hash(),
        role,
        name: request.name,
        groups: request.groups,
        expires,
    };
    let detail = format!("for={subject} groups={} expires={expires}", kept.groups.join(","));
    let entry = Entry::new(Code::TokenCreated, actor, &kept.id, detail);
    core.store.add_token(kept, entry, now).await?;
    core.metrics.event(Code::TokenCreated);
    Ok(v1::CreateTokenResponse { token: token.reveal(), expires_unix_ms: expires })
}
