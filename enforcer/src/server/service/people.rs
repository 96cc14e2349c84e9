//! Sessions at the console, and giving a right back: for admins.

use super::admin;
use crate::approval::identity::{Role, Subject};
use crate::server::core::Core;
use crate::server::people::{self, session};
use enforcer_proto::v1;
use enforcer_proto::v1::people_server::People;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

#[tonic::async_trait]
impl People for Service {
    async fn list_sessions(
        &self,
        request: Request<v1::ListSessionsRequest>,
    ) -> Result<Response<v1::ListSessionsResponse>, Status> {
        admin::actor(&self.0, &request).await?;
        Ok(Response::new(list(&self.0).await?))
    }

    async fn end_session(
        &self,
        request: Request<v1::EndSessionRequest>,
    ) -> Result<Response<v1::EndSessionResponse>, Status> {
        let actor = admin::actor(&self.0, &request).await?;
        end(&self.0, &actor, &request.get_ref().id).await?;
        Ok(Response::new(v1::EndSessionResponse {}))
    }

    async fn restore_member(
        &self,
        request: Request<v1::RestoreMemberRequest>,
    ) -> Result<Response<v1::RestoreMemberResponse>, Status> {
        let actor = admin::actor(&self.0, &request).await?;
        restore(&self.0, &actor, request.get_ref()).await?;
        Ok(Response::new(v1::RestoreMemberResponse {}))
    }
}

/// Sessions that are good now, oldest first.
///
/// # Errors
/// When the store fails.
pub async fn list(core: &Core) -> Result<v1::ListSessionsResponse, Status> {
    let sessions = session::list(core).await?.into_iter().map(|(id, session)| v1::Session {
        id,
        subject: session.subject().map(|subject| subject.to_string()).unwrap_or_default(),
        shown: session.shown,
        created_unix_ms: session.created,
        seen_unix_ms: session.seen,
    });
    Ok(v1::ListSessionsResponse { sessions: sessions.collect() })
}

/// Ends a session.
///
/// # Errors
/// When there is none of that id, or the store fails.
pub async fn end(core: &Core, actor: &str, id: &str) -> Result<(), Status> {
    if session::end(core, actor, id, "ended by an admin").await? {
        return Ok(());
    }
    Err(Status::not_found("no such session"))
}

/// Gives a member's right back.
///
/// # Errors
/// When there is no such member, or the store fails.
pub async fn restore(
    core: &Core,
    actor: &str,
    request: &v1::RestoreMemberRequest,
) -> Result<(), Status> {
    let bad = Status::invalid_argument;
    let role = Role::ALL.into_iter().find(|role| role.as_str() == request.role);
    let role = role.ok_or_else(|| bad("a role is needed"))?;
    let subject = Subject::new(role, &request.name).ok_or_else(|| bad("that is no name"))?;
    people::restore(core, actor, &subject).await
}
