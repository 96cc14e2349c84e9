//! `/mcp`: the tools of [`crate::task::mcp`] over streamable HTTP, without sessions.

use super::{MAX_WAIT, looked_up, manifest, problem, tasks};
use crate::flow::Flow;
use crate::protocol::dns::names::INTERNAL_NAME;
use crate::protocol::http::body::Out;
use crate::task::mcp::{Daemon, Server};
use crate::task::{self, Declaration, Refused};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The daemon itself, asked by the agent of one connection.
struct Inside(Arc<Flow>);

/// Answers one message.
pub(super) async fn serve(flow: &Arc<Flow>, request: Request<Incoming>) -> Response<Out> {
    let limit = flow.inputs.config.limits.approval_body;
    let holds = flow.inputs.decider.holds();
    let Some(_room) = holds.try_room(&flow.principal.agent, limit) else {
        return problem(StatusCode::TOO_MANY_REQUESTS, &Refused::Often.to_string());
    };
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts([INTERNAL_NAME])
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_cancellation_token(flow.inputs.draining.child_token())
        .with_max_request_body_bytes(limit);
    let agent = Arc::clone(flow);
    let service = StreamableHttpService::new(
        move || Ok(Server::new(Arc::new(Inside(Arc::clone(&agent))))),
        Arc::new(NeverSessionManager::default()),
        config,
    );
    let _held = flow.activity.hold();
    let (parts, body) = Box::pin(service.handle(request)).await.into_parts();
    let Ok(whole) = body.collect().await;
    Response::from_parts(parts, Out::whole(whole.to_bytes()))
}

#[tonic::async_trait]
impl Daemon for Inside {
    async fn declare(&self, declared: Declaration) -> Result<Value, String> {
        let holds = self.0.inputs.decider.holds();
        if !holds.declarations.allows(&self.0.principal.agent) {
            return Err(Refused::Often.to_string());
        }
        let done = Box::pin(task::declare(&self.0, declared)).await;
        done.map(|task| task::shown(&task)).map_err(|why| why.to_string())
    }

    async fn tasks(&self) -> Result<Value, String> {
        tasks::listed(&self.0).await.map_err(|why| why.to_string())
    }

    async fn task(&self, id: &str, wait: u64) -> Result<Value, String> {
        tasks::looked(&self.0, id, until(wait)).await.map_err(|why| why.to_string())
    }

    async fn approval(&self, id: &str, wait: u64) -> Result<Value, String> {
        looked_up(&self.0, id, until(wait)).await.map_err(|(_, why)| why)
    }

    async fn manifest(&self) -> Result<Value, String> {
        Ok(manifest())
    }
}

fn until(wait: u64) -> Instant {
    Instant::now() + Duration::from_secs(wait.min(MAX_WAIT))
}
