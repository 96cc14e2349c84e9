//! The spine: one captured connection, and each of its operations, from first byte to last record.
//!
//! captured -> classified -> operation -> decided -> recorded -> forwarded -> masked -> recorded
//!
//! It knows no protocol. [`run`] is the way of a connection, [`operate`] the way
//! of an operation on it; each has one exit, and that exit records. A protocol
//! reads operations off its connection, makes an [`Exchange`] of each and hands
//! it to [`operate`]; only the [`Permit`] that comes back can forward.

use crate::capture::Captured;
use crate::classify::{self, ClassifyError};
use crate::decide::{Denial, Permit};
use crate::flow::{Asked, Destination, Flow, Inputs, Ledger, Outcome, Place, Watched};
use crate::policy::TlsMode;
use crate::protocol;
use crate::record::Durability;
use enforcer_proto::v1::Verdict;
use enforcer_proto::v1::event::Kind;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tracing::{Instrument as _, debug, error, info_span};

/// One operation on its way, as its protocol knows it.
pub trait Exchange: Send + 'static {
    /// Where it goes.
    fn place(&self) -> &Arc<Place>;

    /// Completes the operation: reads of it what must be known before the decision. With a
    /// denial it is still recorded, and then refused.
    fn ask(&mut self, flow: &Flow) -> impl Future<Output = (Arc<Asked>, Option<Denial>)> + Send;

    /// Ends when the client no longer waits.
    fn gone(&mut self) -> impl Future<Output = ()> + Send;

    /// Refuses in the protocol's own words.
    fn refuse(self, denial: &Denial, ledger: &Ledger) -> impl Future<Output = Outcome> + Send;

    /// Sends it, and delivers what comes back, masked and recorded.
    fn forward(
        self,
        permit: Permit,
        flow: &Flow,
        ledger: &Ledger,
    ) -> impl Future<Output = Outcome> + Send;
}

/// Serves one captured connection to its end.
pub async fn run(inputs: Arc<Inputs>, stream: TcpStream, captured: Captured) {
    let flow = match Flow::open(inputs, captured).await {
        Ok(flow) => Arc::new(flow),
        Err(error) => {
            // Not recorded, so not served: the client sees its connection closed.
            error!(target: "audit", %error, "a flow could not be recorded and was closed");
            return;
        }
    };
    // On the heap: a connection's state is large, and its task should not be moved about.
    let serving = Box::pin(serve(&flow, stream));
    let outcome = flow.supervise(serving).instrument(flow.span.clone()).await;
    flow.inputs.metrics.flow_ended(&outcome);
    debug!(parent: &flow.span, outcome = outcome.word, code = outcome.code, "flow ended");
    if let Err(error) = flow.close(outcome).await {
        error!(target: "audit", parent: &flow.span, %error, "a flow's end could not be recorded");
    }
}

/// Finds out where a connection goes and what it speaks, and lets that protocol serve it.
async fn serve(flow: &Arc<Flow>, stream: TcpStream) -> Outcome {
    let io = Watched::new(stream, Arc::clone(&flow.activity));
    let limit = Duration::from_millis(flow.inputs.config.limits.handshake_ms);
    let place = match &flow.destination {
        Destination::Place(place) => place,
        Destination::Internal => return protocol::internal(flow, io).await,
        Destination::Foreign => return Outcome::refused("foreign-address"),
    };
    let bundle = flow.inputs.decider.bundle();
    if place.target(&bundle).is_some_and(|target| target.tls == TlsMode::Passthrough) {
        // What is not inspected may also be a protocol whose server speaks first.
        return protocol::opaque::serve(flow, place.clone(), io).await;
    }
    match classify::classify(io, limit).await {
        Ok(classified) => protocol::serve(flow, place, classified).await,
        Err(error @ ClassifyError::Timeout(_)) => Outcome::cut("no-first-bytes", error),
        Err(ClassifyError::Closed) => Outcome::cancelled(),
        Err(ClassifyError::Io(error)) => Outcome::failed("client-io", error),
    }
}

/// Takes one operation its whole way, whatever becomes of its connection (see [`Flow::operations`]).
pub async fn operate<E: Exchange>(flow: Arc<Flow>, mut exchange: E) {
    let running = flow.activity.operation();
    let (asked, flaw) = exchange.ask(&flow).await;
    let ledger = flow.ledger(&asked.operation);
    let span = info_span!(parent: &flow.span, "operation", operation = %asked.operation.id);
    let outcome = steps(&flow, exchange, &asked, flaw, &ledger).instrument(span.clone()).await;
    let outcome = match ledger.end(&outcome).await {
        Ok(()) => outcome,
        Err(error) => {
            error!(target: "audit", parent: &span, %error, "an operation's end could not be recorded");
            Outcome::cut(error.code(), error)
        }
    };
    flow.inputs.metrics.operation_ended(&asked.operation, &outcome, &ledger);
    drop(running);
}

/// Asked -> decided -> recorded -> forwarded, or refused.
async fn steps<E: Exchange>(
    flow: &Flow,
    mut exchange: E,
    asked: &Arc<Asked>,
    flaw: Option<Denial>,
    ledger: &Ledger,
) -> Outcome {
    ledger.note(Kind::OperationAsked(flow.asked(asked)));
    if let Some(body) = asked.recorded_body() {
        ledger.note(Kind::RequestBody(body));
    }
    let decided = match flaw {
        Some(denial) => Err(denial),
        None => decide(flow, &mut exchange, asked, ledger).await,
    };
    let (decision, durability) = match &decided {
        Ok(permit) if permit.approved() => (permit.record(), Durability::Synced),
        Ok(permit) => (permit.record(), Durability::Logged),
        Err(denial) => (denial.record(), Durability::Logged),
    };
    flow.inputs.metrics.decided(&asked.operation, &decision);
    audit(asked, &decision);
    ledger.note(Kind::Decision(decision));
    let recorded = ledger.write_as(durability).await;
    let decided = match recorded {
        Ok(()) => decided,
        Err(error) => {
            error!(target: "audit", %error, "an operation could not be recorded and was refused");
            Err(Denial::unrecorded(&error))
        }
    };
    match decided {
        Err(denial) => exchange.refuse(&denial, ledger).await,
        Ok(mut permit) => {
            let standing = permit.standing();
            tokio::select! {
                biased;
                cut = standing.lost() => Outcome::cut(cut.code, cut.detail),
                outcome = exchange.forward(permit, flow, ledger) => outcome,
            }
        }
    }
}

/// Asks policy and, where it says so, people; the client that waits is not idle meanwhile.
async fn decide<E: Exchange>(
    flow: &Flow,
    exchange: &mut E,
    asked: &Arc<Asked>,
    ledger: &Ledger,
) -> Result<Permit, Denial> {
    let _held = flow.activity.hold();
    let place = Arc::clone(exchange.place());
    let decider = &flow.inputs.decider;
    decider.decide(&flow.principal, &place, asked, ledger, exchange.gone()).await
}

/// One line for each decision that somebody may wait for: a refusal, and what people approved.
/// What policy alone allows is in the transcript, and here for who asks for all (`debug`). Ids and
/// digest, never payload.
fn audit(asked: &Asked, decision: &enforcer_proto::v1::Decision) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: "audit",
                action = %asked.operation.action,
                on = %asked.operation.target,
                digest = %asked.digest,
                verdict = if decision.verdict() == Verdict::Allow { "allow" } else { "deny" },
                reason = %decision.reason,
                approval = %decision.approval,
                "decided"
            )
        };
    }
    if decision.verdict() == Verdict::Allow && decision.approval.is_empty() {
        line!(debug);
    } else {
        line!(info);
    }
}
