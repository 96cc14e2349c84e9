//! What can end a permit while its operation runs: a new policy, or a grant taken back.

use super::{Cut, judge};
use crate::approval::ApprovalId;
use crate::flow::{Asked, Place};
use crate::operation::Fact;
use crate::policy::{Bundle, Postgres, Scope, Target, Verdict, sql};
use crate::principal::Principal;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// The conditions that a permit was given under.
#[derive(Debug)]
pub struct Standing {
    pub(super) policy: watch::Receiver<Arc<Bundle>>,
    pub(super) principal: Arc<Principal>,
    pub(super) place: Arc<Place>,
    pub(super) asked: Arc<Asked>,
    /// The bundle that it was given under.
    pub(super) bundle: Arc<Bundle>,
    /// The scopes that approved.
    pub(super) scopes: Vec<Scope>,
    /// The grant, and the news of grants that were taken back since before it was claimed.
    pub(super) grant: Option<(ApprovalId, broadcast::Receiver<ApprovalId>)>,
}

impl Standing {
    /// The conditions, to be watched; they can be taken once, and what is left never stands.
    pub(super) fn take(&mut self) -> Self {
        Self {
            policy: self.policy.clone(),
            principal: Arc::clone(&self.principal),
            place: Arc::clone(&self.place),
            asked: Arc::clone(&self.asked),
            bundle: Arc::clone(&self.bundle),
            scopes: self.scopes.clone(),
            grant: self.grant.take(),
        }
    }

    /// Waits until the permit no longer stands; never ends while it does.
    pub async fn lost(mut self) -> Cut {
        let mut policy = self.policy.clone();
        let mut grant = self.grant.take();
        if grant.is_none() && !self.scopes.is_empty() {
            return revoked();
        }
        let mut open = true;
        loop {
            tokio::select! {
                biased;
                taken = taken_back(&mut grant) => if taken { return revoked() },
                changed = policy.changed(), if open => {
                    // Without a sender the daemon is stopping: the drain decides how long what
                    // runs may still run.
                    open = changed.is_ok();
                    if !open {
                        continue;
                    }
                    let bundle = Arc::clone(&policy.borrow_and_update());
                    if let Some(cut) = self.cut_by(&bundle) {
                        return cut;
                    }
                }
            }
        }
    }

    /// The names of the scopes that approved, joined by commas.
    pub(super) fn scope_names(&self) -> String {
        let names: Vec<&str> = self.scopes.iter().map(|scope| scope.name.as_str()).collect();
        names.join(",")
    }

    /// Why what runs does not go on under another bundle, if it does not.
    fn cut_by(&self, bundle: &Bundle) -> Option<Cut> {
        if let Some(why) = bundle.absence() {
            return Some(Cut { code: why.code(), detail: why.detail().to_owned() });
        }
        let cut = |detail: &str| Some(Cut { code: "policy-changed", detail: detail.to_owned() });
        let Some(target) = self.place.target(bundle) else {
            return cut("policy changed and no longer knows this target");
        };
        let stands = match &judge(bundle, &self.principal, target, &self.asked).verdict {
            Verdict::Allow => true,
            Verdict::Deny => false,
            // What people decided under weaker rules is no decision under stricter ones.
            Verdict::NeedsApproval(needed) => needed
                .iter()
                .all(|scope| self.scopes.iter().any(|given| given.is_as_strict_as(scope))),
        };
        if !stands {
            return cut("policy changed and no longer allows this operation");
        }
        let before = self.place.target(&self.bundle)?;
        if !self.reaches_alike(before, target) {
            return cut("policy changed where this target is, or how it is spoken to");
        }
        // An answer that runs is masked as its beginning was. A connection of a database has no
        // data of its own: each statement on it asks for its masks.
        let masked = !matches!(self.asked.operation.action.as_str(), "sql.connect" | OPAQUE);
        if masked && !bundle.masks_alike(target, &self.bundle, before) {
            return cut("policy changed what is taken out of this target's answers");
        }
        None
    }

    /// Whether a connection that is open may stay: what it speaks is the same, and every address
    /// that it could have been made to still is one to go to.
    fn reaches_alike(&self, before: &Target, now: &Target) -> bool {
        let still = self.place.route(now).target_addresses;
        let could = self.place.route(before).target_addresses;
        before.protocol == now.protocol
            && before.grpc == now.grpc
            && before.tls == now.tls
            && self.signs_in_alike(before.postgres.as_ref(), now.postgres.as_ref())
            && could.iter().all(|net| still.iter().any(|wider| wider.contains(net)))
    }

    /// Whether a database is reached over the same TLS, as the same role with the same credential,
    /// under the same names. What else a target says of it is asked for each statement.
    fn signs_in_alike(&self, before: Option<&Postgres>, now: Option<&Postgres>) -> bool {
        let (Some(before), Some(now)) = (before, now) else {
            return before.is_none() && now.is_none();
        };
        let role = |postgres: &Postgres| match self.asked.operation.get(sql::USER) {
            Some(Fact::Text(user)) => postgres.role_of(user).cloned(),
            _ => None,
        };
        before.tls == now.tls
            && before.databases == now.databases
            && before.replication <= now.replication
            && role(before).is_some_and(|role_before| role(now) == Some(role_before))
    }
}

/// The action of a connection that is not read.
const OPAQUE: &str = "opaque.connect";

fn revoked() -> Cut {
    Cut { code: "approval-revoked", detail: "the approval was taken back".into() }
}

/// Whether the grant was taken back, as far as the next piece of news says. News that was missed
/// may have been that.
async fn taken_back(grant: &mut Option<(ApprovalId, broadcast::Receiver<ApprovalId>)>) -> bool {
    match grant {
        None => std::future::pending().await,
        Some((id, news)) => match news.recv().await {
            Ok(revoked) => revoked == *id,
            Err(_) => true,
        },
    }
}
