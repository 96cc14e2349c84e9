//! One captured connection: who, where to, its transcript and its counts.
//!
//! Owns what all operations of a connection share. It decides nothing; what an
//! operation may do is [`crate::decide`]'s, and the order of things is
//! [`crate::session`]'s.

mod activity;
mod ledger;
mod place;
mod underway;

pub use activity::{Activity, Watched};
pub use ledger::{Ledger, Outcome};
pub use place::{Destination, Place};
pub use underway::Underway;

use crate::capture::Captured;
use crate::config::Config;
use crate::decide::Decider;
use crate::forward::dial::Dialer;
use crate::metrics::Metrics;
use crate::operation::{Digest, Operation};
use crate::principal::Principal;
use crate::protocol::dns::names::Names;
use crate::protocol::http::Pool;
use crate::protocol::postgres::Databases;
use crate::record::{FlowLog, RecordError, Recorder, convert};
use crate::tls::client::Upstreams;
use crate::tls::server::Interceptor;
use enforcer_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Span, info_span};

/// What every flow works with; made once, in `app`.
pub struct Inputs {
    /// The configuration.
    pub config: Arc<Config>,
    /// Policy and people.
    pub decider: Decider,
    /// The transcripts.
    pub recorder: Recorder,
    /// The names behind synthetic addresses.
    pub names: Arc<Names>,
    /// The way out.
    pub dialer: Dialer,
    /// TLS towards agents.
    pub interceptor: Interceptor,
    /// TLS towards upstreams.
    pub upstreams: Upstreams,
    /// Open HTTP connections to upstreams.
    pub pool: Pool,
    /// What database sessions share.
    pub databases: Databases,
    /// The metrics.
    pub metrics: Metrics,
    /// The kernel layers that hold, for the transcripts.
    pub layers: Vec<String>,
    /// Set when the daemon stops: connections end with what they are doing.
    pub draining: CancellationToken,
    /// Set when the drain's time is over: connections end now.
    pub stopping: CancellationToken,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs").finish_non_exhaustive()
    }
}

impl Inputs {
    /// How the transcript of a captured connection begins.
    pub fn flow_start(&self, captured: &Captured, destination: &Destination) -> v1::FlowStart {
        let bundle = self.decider.bundle();
        let mut start = v1::FlowStart {
            principal: Some(v1::Principal::from(&captured.principal)),
            orig_addr: captured.orig.ip().to_string(),
            orig_port: u32::from(captured.orig.port()),
            transport: "tcp".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            policy: bundle.version().to_owned(),
            layers: self.layers.clone(),
            ..v1::FlowStart::default()
        };
        if let Destination::Place(place) = destination {
            if place.addr.is_none() {
                start.name.clone_from(&place.name);
            }
            if let Some(target) = place.target(&bundle) {
                start.target.clone_from(&target.name);
            }
        }
        start
    }
}

/// An operation as it is asked: everything a decision is about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The operation.
    pub operation: Operation,
    /// The same operation as other servers would read it; each is judged too.
    pub readings: Vec<Operation>,
    /// What is recorded beside it.
    pub notes: Vec<v1::Fact>,
    /// The operation's digest for its principal.
    pub digest: Digest,
}

impl Asked {
    /// Binds an operation to its principal.
    pub fn new(
        operation: Operation,
        readings: Vec<Operation>,
        notes: Vec<v1::Fact>,
        principal: &Principal,
    ) -> Self {
        let digest = operation.digest(principal);
        Self { operation, readings, notes, digest }
    }

    /// The body that was read before the decision, as it is recorded.
    pub fn recorded_body(&self) -> Option<v1::Body> {
        let data = self.operation.body.clone().filter(|body| !body.is_empty())?;
        Some(v1::Body { data, last: true, ..v1::Body::default() })
    }

    /// Whether all of it can be shown to people: nothing of it streams.
    pub fn is_whole(&self) -> bool {
        self.operation.get(STREAMED).is_none()
    }
}

/// The fact that says that a body was not read before the decision.
pub const STREAMED: &str = "http.body";

/// One captured connection.
pub struct Flow {
    /// What every flow works with.
    pub inputs: Arc<Inputs>,
    /// Who acts.
    pub principal: Arc<Principal>,
    /// Where it goes.
    pub destination: Destination,
    /// When bytes last moved, and whether an operation is held.
    pub activity: Arc<Activity>,
    /// The operations that run, each in a task of its own or as [`Underway`]: a client that goes
    /// away must not take the record of what it started with it.
    pub operations: TaskTracker,
    /// What its log lines stand in.
    pub span: Span,
    log: FlowLog,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").field("id", &self.id().0).finish_non_exhaustive()
    }
}

impl Flow {
    /// Begins the transcript of a captured connection.
    pub async fn open(inputs: Arc<Inputs>, captured: Captured) -> Result<Self, RecordError> {
        let destination = Destination::find(&inputs.names, &captured);
        let start = inputs.flow_start(&captured, &destination);
        let log = inputs.recorder.open_flow(start).await?;
        let span = info_span!("flow", flow = %log.id(), agent = %captured.principal.agent);
        Ok(Self {
            principal: Arc::new(captured.principal),
            destination,
            activity: Arc::default(),
            operations: TaskTracker::new(),
            span,
            log,
            inputs,
        })
    }

    /// The flow's id, for logs.
    pub fn id(&self) -> crate::record::FlowId {
        self.log.id()
    }

    /// The record of one operation of this flow.
    pub fn ledger(&self, operation: &Operation) -> Ledger {
        Ledger::new(self.log.clone(), operation.id)
    }

    /// The event of an operation that is asked.
    pub fn asked(&self, asked: &Asked) -> v1::OperationAsked {
        convert::asked(&asked.operation, &asked.digest, asked.notes.clone())
    }

    /// Waits for the operations that still run, then seals the transcript.
    pub async fn close(&self, outcome: Outcome) -> Result<(), RecordError> {
        self.operations.close();
        self.operations.wait().await;
        self.log.end(outcome.into()).await
    }

    /// Runs until done, idle for too long, or cut by the daemon's stop.
    pub async fn supervise(&self, work: impl Future<Output = Outcome>) -> Outcome {
        let limits = &self.inputs.config.limits;
        let idle = Duration::from_millis(limits.idle_ms);
        let head = Duration::from_millis(limits.handshake_ms);
        tokio::select! {
            biased;
            () = self.inputs.stopping.cancelled() => Outcome::cut("stopped", "the daemon stopped"),
            code = self.activity.expired(idle, head) => Outcome::cut(code, "nothing moved in time"),
            outcome = work => outcome,
        }
    }
}
