//! Asking people: requests, their state, and the one-time claim of a grant.
//!
//! Owns what the daemon knows about approvals. It never decides, and it never
//! keeps an approved state to act on: the right to forward is the answer to one
//! [`Approvals::claim`] at the server. Lost server, unknown answer, anything
//! missing: an error, and the operation is denied.

use crate::operation::{BadDigest, Digest, Operation, OperationId};
use crate::principal::Principal;
use enforcer_proto::v1;
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use tokio::sync::broadcast;
use uuid::Uuid;

pub mod client;
pub mod convert;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod identity;
pub mod join;
pub mod step;
mod table;
pub mod tls;
pub mod token;

pub use crate::policy::Scope;
pub use table::Ticket;

/// Identifies one approval (UUIDv7, given by the server).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ApprovalId(pub Uuid);

impl fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ApprovalId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

/// What is put before people.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who acts.
    pub principal: Principal,
    /// The operation with all its facts, and its whole body when it has one.
    pub operation: Operation,
    /// The operation's digest for that principal.
    pub digest: Digest,
    /// Every scope that must approve.
    pub scopes: Vec<Scope>,
    /// Version of the policy bundle that asked for it.
    pub policy: String,
}

/// One step of a task, to be put before people.
#[derive(Clone, Debug)]
pub struct StepRequest {
    /// Who declared it.
    pub principal: Principal,
    /// The operation that it is exact about; none for a pattern.
    pub operation: Option<Operation>,
    /// The step.
    pub step: v1::Step,
    /// Every scope that must approve; empty where policy allows it as it is.
    pub scopes: Vec<Scope>,
    /// Version of the policy bundle that asked for it.
    pub policy: String,
}

/// Where an approval stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for people.
    Pending,
    /// Granted, with uses left: [`Approvals::claim`] may succeed.
    Approved {
        /// Who approved.
        by: Vec<String>,
    },
    /// Denied.
    Denied {
        /// Who denied.
        by: Vec<String>,
        /// Their reasons, joined.
        reason: String,
        /// Every vote.
        votes: Vec<v1::Vote>,
    },
    /// Nobody decided in time, or the grant ran out.
    Expired,
    /// Withdrawn by the daemon.
    Cancelled,
    /// Every use was claimed.
    Spent,
    /// The grant was taken back.
    Revoked,
}

impl State {
    /// The stable word for it in output and records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved { .. } => "approved",
            Self::Denied { .. } => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Spent => "spent",
            Self::Revoked => "revoked",
        }
    }

    /// Whether nothing can be claimed any more.
    pub fn ended(&self) -> bool {
        !matches!(self, Self::Pending | Self::Approved { .. })
    }
}

/// One approval as the daemon sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its id.
    pub id: ApprovalId,
    /// Where it stands.
    pub state: State,
    /// What it is bound to.
    pub digest: Digest,
    /// When it was asked. Milliseconds since the Unix epoch.
    pub created_unix_ms: i64,
    /// When it stops waiting, or its grant stops being good. Milliseconds since the Unix epoch.
    pub expires_unix_ms: i64,
    /// Uses that can still be claimed.
    pub uses_left: u32,
    /// Counts up with each change; an older view never replaces a newer one.
    pub revision: u64,
    /// It is a step of a task, and lives whoever waits for it.
    pub of_step: bool,
}

/// The right to forward one operation, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The claim's id at the server.
    pub id: String,
    /// The approval that it was made on.
    pub approval: String,
    /// Who approved.
    pub decided_by: Vec<String>,
    /// Every vote: who, when, why; credentials in the reasons are left out.
    pub votes: Vec<v1::Vote>,
    /// The scopes that approved, joined by commas.
    pub scope: String,
}

/// Why a claim was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotGranted {
    /// Every use is gone.
    Spent,
    /// The grant ran out.
    Expired,
    /// The grant was taken back.
    Revoked,
    /// Nobody has decided yet.
    Pending,
    /// It was denied.
    Denied,
    /// It was withdrawn.
    Cancelled,
    /// The operation is not the one that was approved.
    Mismatch,
}

impl NotGranted {
    /// The stable word for it, on the wire and in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spent => "spent",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Pending => "pending",
            Self::Denied => "denied",
            Self::Cancelled => "cancelled",
            Self::Mismatch => "mismatch",
        }
    }

    /// Reads the word; `None` for any other.
    pub fn parse(word: &str) -> Option<Self> {
        [
            Self::Spent,
            Self::Expired,
            Self::Revoked,
            Self::Pending,
            Self::Denied,
            Self::Cancelled,
            Self::Mismatch,
        ]
        .into_iter()
        .find(|reason| reason.as_str() == word)
    }
}

/// Why there is no approval or claim. Each means: deny.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApprovalError {
    /// The configuration names no approval server.
    #[error("no approval server is configured, so nothing that needs approval can run")]
    NoServer,
    /// The server cannot be reached now.
    #[error("the approval server cannot be reached")]
    NotConnected,
    /// The server was lost while waiting.
    #[error("the approval server was lost while waiting for a decision")]
    ServerLost,
    /// The server did not take the request; its words.
    #[error("the approval server refused the request: {0}")]
    Refused(String),
    /// The claim was not granted.
    #[error("the grant could not be claimed: {}", .0.as_str())]
    NotGranted(NotGranted),
    /// The server knows no such approval of this host.
    #[error("no such approval")]
    Unknown,
    /// The server's answer made no sense here.
    #[error("the approval server answered with something unknown: {0}")]
    Protocol(String),
}

impl ApprovalError {
    /// The stable code for decisions, records and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoServer => "no-approval-server",
            Self::NotConnected | Self::ServerLost => "server-unreachable",
            Self::Refused(_) => "approval-refused",
            Self::NotGranted(NotGranted::Spent) => "approval-spent",
            Self::NotGranted(NotGranted::Expired) => "approval-expired",
            Self::NotGranted(NotGranted::Revoked) => "approval-revoked",
            Self::NotGranted(NotGranted::Pending) => "approval-pending",
            Self::NotGranted(NotGranted::Denied) => "approval-denied",
            Self::NotGranted(NotGranted::Cancelled) => "approval-cancelled",
            Self::NotGranted(NotGranted::Mismatch) => "approval-mismatch",
            Self::Unknown => "approval-unknown",
            Self::Protocol(_) => "approval-protocol",
        }
    }
}

impl From<BadDigest> for ApprovalError {
    fn from(bad: BadDigest) -> Self {
        Self::Protocol(bad.to_string())
    }
}

/// The way to the people who decide.
#[derive(Clone, Debug)]
pub enum Approvals {
    /// The approval server.
    Remote(client::Client),
    /// None is configured: everything that needs approval is denied.
    None,
    /// Decisions made by a test.
    #[cfg(any(test, feature = "testing"))]
    Fake(fake::Fake),
}

impl Approvals {
    /// Puts an operation before people, or finds the request or grant that is there for the
    /// same digest under the same scopes.
    pub async fn request(&self, ask: Ask) -> Result<Ticket, ApprovalError> {
        match self {
            Self::Remote(client) => client.request(ask).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.request(ask),
        }
    }

    /// Spends one use of a grant; of a step's for the operation that `step` says. Only `Ok` lets
    /// the operation be forwarded, and only once; a retry for the same operation is the same use.
    pub async fn claim(
        &self,
        id: &ApprovalId,
        digest: &Digest,
        op: OperationId,
        step: Option<v1::StepUse>,
    ) -> Result<Claim, ApprovalError> {
        match self {
            Self::Remote(client) => client.claim((*id, *digest), op, step).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.claim(*id, *digest, op),
        }
    }

    /// Puts the steps of a task before people, all or none.
    ///
    /// # Errors
    /// When the server is not there or does not take it.
    pub async fn submit(
        &self,
        objective: String,
        steps: Vec<StepRequest>,
    ) -> Result<v1::Task, ApprovalError> {
        match self {
            Self::Remote(client) => client.submit(objective, steps).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.submit(objective, steps),
        }
    }

    /// One task of the principal's agent in its cgroup's task.
    ///
    /// # Errors
    /// When the server is not there or knows no such task.
    pub async fn task(&self, of: &Principal, id: String) -> Result<v1::Task, ApprovalError> {
        match self {
            Self::Remote(client) => client.task(of, id).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.task(of, &id),
        }
    }

    /// The newest tasks of the principal's agent in its cgroup's task; states only.
    ///
    /// # Errors
    /// When the server is not there.
    pub async fn tasks(&self, of: &Principal) -> Result<Vec<v1::Task>, ApprovalError> {
        match self {
            Self::Remote(client) => client.tasks(of).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => Ok(fake.tasks(of)),
        }
    }

    /// Whether the server is there now; when it is not, requests are denied at once.
    pub fn connected(&self) -> bool {
        match self {
            Self::Remote(client) => client.connected(),
            Self::None => false,
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.connected(),
        }
    }

    /// How this host's certificate stands; `None` without a server, or before it has one.
    pub fn certificate(&self) -> Option<std::sync::Arc<client::Certificate>> {
        match self {
            Self::Remote(client) => client.certificate(),
            Self::None => None,
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(_) => None,
        }
    }

    /// Tells the server how this host is.
    pub async fn report(&self, report: v1::HostReport) -> Result<(), ApprovalError> {
        match self {
            Self::Remote(client) => client.report(report).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(_) => Err(ApprovalError::NoServer),
        }
    }

    /// Ids of grants that were taken back: flows that run on them are to be cut. A receiver
    /// that lagged has missed some and must treat all its grants as taken back.
    pub fn revoked(&self) -> broadcast::Receiver<ApprovalId> {
        static SILENT: OnceLock<broadcast::Sender<ApprovalId>> = OnceLock::new();
        match self {
            Self::Remote(client) => client.revoked(),
            Self::None => SILENT.get_or_init(|| broadcast::channel(1).0).subscribe(),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.revoked(),
        }
    }

    /// One approval of this host, as the server has it now.
    pub async fn status(&self, id: &ApprovalId) -> Result<View, ApprovalError> {
        match self {
            Self::Remote(client) => client.status(*id).await,
            Self::None => Err(ApprovalError::NoServer),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.status(*id),
        }
    }
}
