//! The console: pages for people, over the server's own TLS.
//!
//! Everything that is done here is done by the functions that the API calls, for a caller made of
//! the session. The pages work without their script; it only keeps them fresh.

mod admin;
mod approval;
mod assets;
mod guard;
mod history;
mod hosts;
mod live;
mod page;
mod queue;
mod report;
pub(in crate::server) mod serve;
mod signin;
mod step;
mod task;
mod text;

pub use serve::{ConsoleError, tls_config};

use super::core::Core;
use super::limits::Rate;
use super::people::oidc::Oidc;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Tries to sign in from one address: a second, and at once.
const TRIES: (u32, u32) = (1, 20);

/// The largest form. Bytes.
const FORM: usize = 64 << 10;

/// What the pages stand on.
pub struct Web {
    core: Arc<Core>,
    oidc: Option<Arc<Oidc>>,
    tries: Rate<IpAddr>,
    streams: Arc<Semaphore>,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Web").finish_non_exhaustive()
    }
}

impl Web {
    /// Puts the parts together.
    pub fn new(core: Arc<Core>, oidc: Option<Arc<Oidc>>) -> Arc<Self> {
        let streams = Arc::new(Semaphore::new(live::STREAMS));
        Arc::new(Self { core, oidc, tries: Rate::new(TRIES.0, TRIES.1), streams })
    }
}

/// Every page.
pub fn router(web: Arc<Web>) -> Router {
    Router::new()
        .route("/", get(queue::page))
        .route("/approvals/{id}", get(approval::page))
        .route("/approvals/{id}/decide", post(approval::decide))
        .route("/approvals/{id}/review", post(approval::review))
        .route("/approvals/{id}/revoke", post(approval::revoke))
        .route("/tasks/{id}", get(task::page))
        .route("/tasks/{id}/decide", post(task::decide))
        .route("/history", get(history::page))
        .route("/hosts", get(hosts::page))
        .route("/policy", get(hosts::policy))
        .route("/report", get(report::page))
        .route("/members", get(admin::members))
        .route("/members/remove", post(admin::remove))
        .route("/members/restore", post(admin::restore))
        .route("/sessions", get(admin::sessions))
        .route("/sessions/end", post(admin::end))
        .route("/audit", get(admin::audit))
        .route("/live", get(live::stream))
        .route("/signin", get(signin::page))
        .route("/signin/provider", get(signin::provider))
        .route(super::people::oidc::CALLBACK, get(signin::callback))
        .route("/signin/setup", post(signin::setup))
        .route("/signout", post(signin::sign_out))
        .route("/assets/{version}/{name}", get(assets::asset))
        .fallback(page::not_found)
        .layer(DefaultBodyLimit::max(FORM))
        .layer(middleware::map_response(guard::headers))
        .with_state(web)
}

/// Serves the pages until the server stops.
pub async fn run(listener: TcpListener, tls: rustls::ServerConfig, web: Arc<Web>) {
    let stop = web.core.stop.clone();
    if let Some(oidc) = web.oidc.clone() {
        let stop = stop.clone();
        tokio::spawn(async move { oidc.keep(stop).await });
    }
    serve::serve(listener, tls, router(web), stop).await;
}
