//! Tasks as tools of an MCP server: at `http://enforcer.internal/mcp`, and by `enforcer mcp`.
//!
//! The tools ask the same things that `/v1/` answers; nothing here decides.

use super::Declaration;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, Implementation, InitializeResult, ServerCapabilities};
use rmcp::{ServerHandler, schemars, tool, tool_handler, tool_router};
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// What the server tells a model about itself.
const ABOUT: &str = "Every connection from here passes Enforcer: each operation is allowed by \
    policy, approved by people, or refused. Before work that needs approval, declare the task: an \
    objective and its steps. People approve steps one by one; an approved step's operation then \
    goes through without waiting. Nothing here approves anything.";

/// The way to the daemon. An error is a sentence for the agent.
#[tonic::async_trait]
pub trait Daemon: Send + Sync {
    /// Declares a task.
    async fn declare(&self, declared: Declaration) -> Result<Value, String>;
    /// The agent's tasks.
    async fn tasks(&self) -> Result<Value, String>;
    /// One task, at once or when a step of it changes within so many seconds.
    async fn task(&self, id: &str, wait: u64) -> Result<Value, String>;
    /// One approval of the agent, in the same way.
    async fn approval(&self, id: &str, wait: u64) -> Result<Value, String>;
    /// What refusals mean.
    async fn manifest(&self) -> Result<Value, String>;
}

/// The server.
#[derive(Clone)]
pub struct Server {
    daemon: Arc<dyn Daemon>,
    tool_router: ToolRouter<Self>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// A task to look at.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct OneTask {
    /// The task's id.
    task: String,
    /// How many seconds to wait for a pending step to change; at most 55.
    #[serde(default)]
    wait_seconds: u64,
}

/// An approval to look at.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct OneApproval {
    /// The approval's id: of a step, or from a refusal.
    approval: String,
    /// How many seconds to wait for a decision; at most 55.
    #[serde(default)]
    wait_seconds: u64,
}

/// A refusal to understand.
#[derive(Debug, Deserialize, schemars::JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub struct OneRefusal {
    /// Its reason code, as in `enforcer.reason` of the refusal: `approval-pending`, `policy`.
    reason: String,
    /// The approval that it names, if it does.
    #[serde(default)]
    approval: Option<String>,
}

#[tool_router(router = tool_router)]
impl Server {
    /// A server that asks this daemon.
    pub fn new(daemon: Arc<dyn Daemon>) -> Self {
        Self { daemon, tool_router: Self::tool_router() }
    }

    /// Declare a task.
    #[tool(
        description = "Declare what you are about to do: an objective and its steps, in order. \
        Each step is exactly one HTTP request or SQL statement, or a pattern. Steps that need \
        people are put before them at once; the answer has each step's state and approval."
    )]
    async fn declare_task(&self, Parameters(declared): Parameters<Declaration>) -> CallToolResult {
        told(self.daemon.declare(declared).await)
    }

    /// The agent's tasks.
    #[tool(
        description = "The tasks that you declared, newest first, with the states of their steps."
    )]
    async fn list_tasks(&self) -> CallToolResult {
        told(self.daemon.tasks().await)
    }

    /// One task.
    #[tool(description = "One declared task: each step's state, approval and uses left.")]
    async fn show_task(&self, Parameters(one): Parameters<OneTask>) -> CallToolResult {
        told(self.daemon.task(&one.task, one.wait_seconds).await)
    }

    /// One approval.
    #[tool(description = "How one approval stands: pending, approved, denied (and why), spent.")]
    async fn approval_state(&self, Parameters(one): Parameters<OneApproval>) -> CallToolResult {
        told(self.daemon.approval(&one.approval, one.wait_seconds).await)
    }

    /// A refusal, in words.
    #[tool(description = "What a refusal means and what to do next.")]
    async fn explain_refusal(&self, Parameters(one): Parameters<OneRefusal>) -> CallToolResult {
        told(self.explain(one).await)
    }

    async fn explain(&self, one: OneRefusal) -> Result<Value, String> {
        let manifest = self.daemon.manifest().await?;
        let meaning = manifest["reasons"][&one.reason].as_str().map(str::to_owned);
        let meaning = meaning.ok_or_else(|| {
            format!("{:?} is no reason of a refusal; /v1/manifest has them all", one.reason)
        })?;
        let mut answer = serde_json::json!({ "reason": one.reason, "meaning": meaning });
        if let Some(id) = one.approval {
            answer["approval"] = self.daemon.approval(&id, 0).await?;
        }
        Ok(answer)
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Server {
    fn get_info(&self) -> InitializeResult {
        let name = Implementation::new("enforcer", env!("CARGO_PKG_VERSION"));
        InitializeResult::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(name)
            .with_instructions(ABOUT)
    }
}

fn told(answer: Result<Value, String>) -> CallToolResult {
    match answer {
        Ok(value) => CallToolResult::structured(value),
        Err(why) => CallToolResult::structured_error(serde_json::json!({ "error": why })),
    }
}
