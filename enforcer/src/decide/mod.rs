//! The decision: what policy says, and for some operations what people say.
//!
//! Sole maker of [`Permit`]; nothing is forwarded without one, and each is for
//! one operation. Whatever is missing, late or unknown is a [`Denial`].

mod denial;
mod holds;
mod standing;

pub use denial::{Cut, Denial};
pub use holds::{Holds, Room};
pub use standing::Standing;

use crate::approval::{
    ApprovalError, ApprovalId, Approvals, Ask, Claim, NotGranted, State, StepRequest, convert,
};
use crate::flow::{Asked, Ledger, Place};
use crate::forward::dial::Route;
use crate::mask::MaskPlan;
use crate::operation::{Fact, Operation};
use crate::policy::{Bundle, Judgement, Scope, Target, Verdict};
use crate::principal::Principal;
use crate::protocol::http::path::{self, PathError};
use enforcer_proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// How often a grant that others spent first is asked for again.
const MAX_ATTEMPTS: usize = 3;

/// The right to forward one operation, once.
///
/// Made only here, after the verdict and, where people decide, after the claim.
#[derive(Debug)]
pub struct Permit {
    bundle: Arc<Bundle>,
    target: Arc<Target>,
    place: Arc<Place>,
    asked: Arc<Asked>,
    judgement: Arc<Judgement>,
    grant: Option<Grant>,
    standing: Standing,
    held: Duration,
}

/// A claimed grant.
#[derive(Clone, Debug)]
struct Grant {
    approval: ApprovalId,
    claim: Claim,
}

impl Permit {
    /// Where it leads.
    pub fn route(&self) -> Route {
        self.place.route(&self.target)
    }

    /// The verified place.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The target as the bundle that judged knows it.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The version of that bundle.
    pub fn policy(&self) -> &str {
        self.bundle.version()
    }

    /// What was judged, and is to be sent.
    pub fn asked(&self) -> &Asked {
        &self.asked
    }

    /// The masks for what comes back.
    pub fn masks(&self) -> Arc<MaskPlan> {
        self.bundle.masks_for(&self.target)
    }

    /// Whether people decided.
    pub fn approved(&self) -> bool {
        self.grant.is_some()
    }

    /// What can end the permit while its operation runs; to be taken once and watched.
    pub fn standing(&mut self) -> Standing {
        self.standing.take()
    }

    /// The decision as it is recorded.
    pub fn record(&self) -> v1::Decision {
        let claim = self.grant.as_ref().map(|grant| grant.claim.clone());
        v1::Decision {
            verdict: v1::Verdict::Allow.into(),
            reason: if claim.is_some() { "approved" } else { "policy" }.to_owned(),
            rules: self.judgement.rules.clone(),
            trace: self.judgement.trace.clone(),
            policy: self.bundle.version().to_owned(),
            approval: self.grant.as_ref().map(|g| g.approval.to_string()).unwrap_or_default(),
            scope: claim.as_ref().map(|c| c.scope.clone()).unwrap_or_default(),
            decided_by: claim.as_ref().map(|c| c.decided_by.clone()).unwrap_or_default(),
            votes: claim.as_ref().map(|c| c.votes.clone()).unwrap_or_default(),
            claim: claim.map(|c| c.id).unwrap_or_default(),
            held_ms: denial::millis(self.held),
        }
    }
}

/// A grant that was claimed, before policy was asked once more.
struct Claimed {
    grant: Grant,
    /// The scopes that approved.
    scopes: Vec<Scope>,
    revoked: broadcast::Receiver<ApprovalId>,
}

impl Claimed {
    /// Whether those who must approve now are among those who did, under the same conditions.
    fn covers(&self, needed: &[Scope]) -> bool {
        needed.iter().all(|scope| self.scopes.contains(scope))
    }
}

/// All that a decision needs.
#[derive(Clone, Debug)]
pub struct Decider {
    policy: watch::Receiver<Arc<Bundle>>,
    approvals: Approvals,
    holds: Arc<Holds>,
}

impl Decider {
    /// Decides by this policy and these people.
    pub fn new(
        policy: watch::Receiver<Arc<Bundle>>,
        approvals: Approvals,
        holds: Arc<Holds>,
    ) -> Self {
        Self { policy, approvals, holds }
    }

    /// The bundle that holds now.
    pub fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(&self.policy.borrow())
    }

    /// The way to the people who decide.
    pub fn approvals(&self) -> &Approvals {
        &self.approvals
    }

    /// Puts a declared task before people; its agent may look its approvals up.
    ///
    /// # Errors
    /// When the approval server does not take it.
    pub async fn declare(
        &self,
        principal: &Principal,
        objective: String,
        steps: Vec<StepRequest>,
    ) -> Result<v1::Task, ApprovalError> {
        let task = self.approvals.submit(objective, steps).await?;
        for approval in task.steps.iter().filter_map(|step| step.approval.as_ref()) {
            if let Ok(id) = approval.id.parse() {
                self.holds.asked(id, &principal.agent);
            }
        }
        Ok(task)
    }

    /// Held operations and whose approvals they wait for.
    pub fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Whether the whole body must be read first: a rule asks for it, or people must see it.
    pub fn wants_body(&self, principal: &Principal, place: &Place, asked: &Asked) -> bool {
        let bundle = self.bundle();
        let Some(target) = place.target(&bundle) else {
            return false;
        };
        bundle.reads_body(target, &asked.operation.action)
            || matches!(judge(&bundle, principal, target, asked).verdict, Verdict::NeedsApproval(_))
    }

    /// Decides one operation. Where people must decide it is held, at most as long as the target
    /// says, until they have, the client is `gone`, or policy changes. What is noted in the
    /// ledger is written before anyone is asked.
    ///
    /// Dropping the future withdraws a request that waits.
    pub async fn decide(
        &self,
        principal: &Arc<Principal>,
        place: &Arc<Place>,
        asked: &Arc<Asked>,
        ledger: &Ledger,
        gone: impl Future<Output = ()> + Send,
    ) -> Result<Permit, Denial> {
        let started = Instant::now();
        let mut policy = self.policy.clone();
        let mut gone = std::pin::pin!(gone);
        let mut attempts = 0;
        // What was claimed for this operation: once, whatever policy does meanwhile.
        let mut claimed: Option<Claimed> = None;
        loop {
            let bundle = Arc::clone(&policy.borrow_and_update());
            if let Some(why) = bundle.absence() {
                return Err(Denial::absent(why));
            }
            let Some(target) = place.target(&bundle).cloned() else {
                return Err(Denial::unknown_target(place, &bundle));
            };
            let judgement = judge(&bundle, principal, &target, asked);
            let scopes = match &judgement.verdict {
                Verdict::Allow => Vec::new(),
                Verdict::Deny => return Err(Denial::policy(&judgement, &bundle)),
                Verdict::NeedsApproval(scopes) => scopes.clone(),
            };
            let mut permit = Permit {
                standing: Standing {
                    policy: policy.clone(),
                    principal: Arc::clone(principal),
                    place: Arc::clone(place),
                    asked: Arc::clone(asked),
                    bundle: Arc::clone(&bundle),
                    scopes: scopes.clone(),
                    grant: None,
                },
                bundle,
                target,
                place: Arc::clone(place),
                asked: Arc::clone(asked),
                judgement,
                grant: None,
                held: Duration::ZERO,
            };
            if let Some(claimed) = claimed.take_if(|claimed| claimed.covers(&scopes)) {
                permit.held = started.elapsed();
                permit.standing.grant = Some((claimed.grant.approval, claimed.revoked));
                permit.grant = Some(claimed.grant);
                return Ok(permit);
            }
            if scopes.is_empty() {
                return Ok(permit);
            }
            ledger.write().await.map_err(|error| Denial::unrecorded(&error))?;
            // Boxed: most operations are never held.
            let hold = self.hold(&permit, scopes.clone(), started, &mut policy, gone.as_mut());
            let held = Box::pin(hold).await;
            permit.held = started.elapsed();
            match held {
                Held::Granted { approval, claim, revoked } => {
                    // Judged again if the bundle that it was claimed under is gone by now.
                    claimed = Some(Claimed { grant: Grant { approval, claim }, scopes, revoked });
                }
                Held::PolicyChanged => {}
                Held::Again if attempts < MAX_ATTEMPTS => attempts += 1,
                Held::Again => {
                    let spent = ApprovalError::NotGranted(NotGranted::Spent);
                    return Err(Denial::approval(&permit, &spent));
                }
                Held::Denied(denial) => return Err(denial),
            }
        }
    }

    /// One round of asking people.
    async fn hold(
        &self,
        permit: &Permit,
        scopes: Vec<Scope>,
        started: Instant,
        policy: &mut watch::Receiver<Arc<Bundle>>,
        mut gone: std::pin::Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Held {
        let asked = &permit.asked;
        if !asked.is_whole() {
            return Held::Denied(Denial::not_whole(permit));
        }
        // Subscribed before the claim: a grant taken back in between is not missed.
        let revoked = self.approvals.revoked();
        let ask = Ask {
            principal: (*permit.standing.principal).clone(),
            operation: asked.operation.clone(),
            digest: asked.digest,
            scopes,
            policy: permit.bundle.version().to_owned(),
        };
        let requested = tokio::select! {
            biased;
            () = &mut gone => return Held::Denied(Denial::cancelled(permit, None)),
            requested = self.approvals.request(ask) => requested,
        };
        let mut ticket = match requested {
            Ok(ticket) => ticket,
            Err(error) => return Held::Denied(Denial::approval(permit, &error)),
        };
        let id = ticket.id();
        self.holds.asked(id, &permit.standing.principal.agent);
        ticket.cancel_on_drop(true);
        let deadline = started + permit.target.hold;
        let mut state = ticket.state();
        let mut place = None;
        loop {
            match state {
                State::Pending => {}
                State::Approved { .. } => {
                    ticket.cancel_on_drop(false);
                    let view = ticket.view();
                    let principal = &permit.standing.principal;
                    let step = view
                        .of_step
                        .then(|| convert::step_use(principal, &asked.operation, &asked.digest));
                    let op = asked.operation.id;
                    return match self.approvals.claim(&id, &view.digest, op, step).await {
                        Ok(claim) => Held::Granted { approval: id, claim, revoked },
                        Err(ApprovalError::NotGranted(
                            NotGranted::Spent | NotGranted::Expired | NotGranted::Cancelled,
                        )) => Held::Again,
                        Err(error) => Held::Denied(Denial::approval(permit, &error).on(id)),
                    };
                }
                State::Denied { by, reason, votes } => {
                    return Held::Denied(Denial::denied(permit, id, (by, votes), &reason));
                }
                State::Expired => return Held::Denied(Denial::expired(permit, id)),
                State::Revoked => return Held::Denied(Denial::revoked(permit, id)),
                // Another operation spent or withdrew what this one had found.
                State::Spent | State::Cancelled => return Held::Again,
            }
            if place.is_none() {
                let bytes = asked.operation.body.as_ref().map_or(0, bytes::Bytes::len);
                place = self.holds.enter(&permit.standing.principal.agent, bytes);
            }
            let now = Instant::now();
            if place.is_none() || now >= deadline {
                // The client is told the id and may come back for the answer.
                ticket.cancel_on_drop(false);
                let full = place.is_none();
                return Held::Denied(Denial::pending(permit, id, started.elapsed(), full));
            }
            state = tokio::select! {
                biased;
                () = &mut gone => {
                    ticket.cancel().await;
                    return Held::Denied(Denial::cancelled(permit, Some(id)));
                }
                changed = policy.changed() => {
                    ticket.cancel_on_drop(false);
                    return match changed {
                        Ok(()) => Held::PolicyChanged,
                        Err(_) => Held::Denied(Denial::no_policy()),
                    };
                }
                state = ticket.changed() => match state {
                    Ok(state) => state,
                    Err(error) => return Held::Denied(Denial::approval(permit, &error).on(id)),
                },
                () = tokio::time::sleep_until(deadline) => ticket.state(),
            };
        }
    }
}

/// How one round of asking ended.
enum Held {
    Granted { approval: ApprovalId, claim: Claim, revoked: broadcast::Receiver<ApprovalId> },
    PolicyChanged,
    Again,
    Denied(Denial),
}

/// Judges the operation and every other way to read it; the strictest verdict holds.
pub(crate) fn judge(
    bundle: &Bundle,
    principal: &Principal,
    target: &Target,
    asked: &Asked,
) -> Arc<Judgement> {
    let mut strictest = bundle.evaluate_shared(principal, target, &asked.operation);
    for reading in &asked.readings {
        let other = bundle.evaluate_shared(principal, target, reading);
        strictest = match (&strictest.verdict, &other.verdict) {
            (Verdict::Deny, _) | (_, Verdict::Allow) => strictest,
            (_, Verdict::Deny) | (Verdict::Allow, _) => {
                Arc::new(noted(Arc::unwrap_or_clone(other), reading))
            }
            (Verdict::NeedsApproval(scopes), Verdict::NeedsApproval(more)) => {
                let mut scopes = scopes.clone();
                for scope in more {
                    if !scopes.iter().any(|known| known.name == scope.name) {
                        scopes.push(scope.clone());
                    }
                }
                let verdict = Verdict::NeedsApproval(scopes);
                Arc::new(Judgement { verdict, ..Arc::unwrap_or_clone(strictest) })
            }
        };
    }
    strictest
}

/// Judges what was asked before, by all ways to read it, as it was judged then.
pub(crate) fn judge_anew(
    bundle: &Bundle,
    principal: &Principal,
    target: &Target,
    operation: Operation,
) -> Result<Judgement, PathError> {
    let readings = path::operations(&operation)?;
    let asked = Asked::new(operation, readings, Vec::new(), principal);
    Ok(Arc::unwrap_or_clone(judge(bundle, principal, target, &asked)))
}

fn noted(mut judgement: Judgement, reading: &Operation) -> Judgement {
    let read = match reading.get("http.path") {
        Some(Fact::Text(path)) => path.as_str(),
        _ => "",
    };
    judgement.trace.push(format!("a server may read the path as {read:?}, and that is judged too"));
    judgement
}
