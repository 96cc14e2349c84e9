//! `enforcer mcp`: the daemon's MCP tools over standard input and output, for an agent's client.

use super::inside::ask;
use crate::task::Declaration;
use crate::task::mcp::{Daemon, Server};
use rmcp::ServiceExt as _;
use serde_json::Value;
use std::process::ExitCode;
use std::sync::Arc;

/// Arguments of `enforcer mcp`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// The daemon at its own address.
struct Outside;

/// Runs the command until its client ends.
pub fn run(_: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stdio = rmcp::transport::io::stdio();
        let served = Server::new(Arc::new(Outside)).serve(stdio).await?;
        served.waiting().await?;
        anyhow::Ok(())
    })?;
    // Standard input cannot be told to stop reading.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn get(path: String, wait: u64) -> Result<Value, String> {
    asked("GET", path, None, wait).await
}

async fn asked(
    method: &'static str,
    path: String,
    body: Option<String>,
    wait: u64,
) -> Result<Value, String> {
    let work = move || ask(method, &path, body.as_deref(), wait);
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
    done.map_err(|error| format!("{error:#}"))
}

fn escaped(id: &str) -> String {
    url::form_urlencoded::byte_serialize(id.as_bytes()).collect()
}

#[tonic::async_trait]
impl Daemon for Outside {
    async fn declare(&self, declared: Declaration) -> Result<Value, String> {
        let body = serde_json::to_string(&declared).map_err(|error| error.to_string())?;
        asked("POST", "/v1/tasks".to_owned(), Some(body), 0).await
    }

    async fn tasks(&self) -> Result<Value, String> {
        get("/v1/tasks".to_owned(), 0).await
    }

    async fn task(&self, id: &str, wait: u64) -> Result<Value, String> {
        let wait = wait.min(55);
        get(format!("/v1/tasks/{}?wait={wait}", escaped(id)), wait).await
    }

    async fn approval(&self, id: &str, wait: u64) -> Result<Value, String> {
        let wait = wait.min(55);
        get(format!("/v1/approvals/{}?wait={wait}", escaped(id)), wait).await
    }

    async fn manifest(&self) -> Result<Value, String> {
        get("/v1/manifest".to_owned(), 0).await
    }
}
