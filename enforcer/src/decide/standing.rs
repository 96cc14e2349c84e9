//! What can end a permit while its operation runs: a new policy, or a grant taken back.

use super::{Cut, judge};
use crate::approval::ApprovalId;
use crate::flow::{Asked, Place};
use crate::policy::{Bundle, Verdict};
use crate::principal::Principal;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// The conditions that a permit was given under.
#[derive(Debug)]
pub struct Standing {
    pub(super) policy: watch::Receiver<Arc<Bundle>>,
    pub(super) principal: Arc<Principal>,
    pub(super) place: Place,
    pub(super) asked: Arc<Asked>,
    /// The scopes that approved.
    pub(super) scopes: Vec<String>,
    /// The grant, and the news of grants that were taken back since before it was claimed.
    pub(super) grant: Option<(ApprovalId, broadcast::Receiver<ApprovalId>)>,
}

impl Standing {
    /// The conditions, to be watched; they can be taken once, and what is left never stands.
    pub(super) fn take(&mut self) -> Self {
        Self {
            policy: self.policy.clone(),
            principal: Arc::clone(&self.principal),
            place: self.place.clone(),
            asked: Arc::clone(&self.asked),
            scopes: self.scopes.clone(),
            grant: self.grant.take(),
        }
    }

    /// Waits until the permit no longer stands; never ends while it does.
    pub async fn lost(self) -> Cut {
        let Self { mut policy, principal, place, asked, scopes, mut grant } = self;
        if grant.is_none() && !scopes.is_empty() {
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
                    let stands = place.target(&bundle).is_some_and(|target| {
                        match judge(&bundle, &principal, target, &asked).verdict {
                            Verdict::Allow => true,
                            Verdict::Deny => false,
                            Verdict::NeedsApproval(needed) => {
                                needed.iter().all(|scope| scopes.contains(&scope.name))
                            }
                        }
                    });
                    if !stands {
                        return Cut {
                            code: "policy-changed",
                            detail: "policy changed and no longer allows this operation".into(),
                        };
                    }
                }
            }
        }
    }
}

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
