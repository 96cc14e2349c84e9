//! Approvals decided by a test. Same table and tickets as the real client; the
//! rules it keeps are those that the data path relies on: claims count, digests
//! must fit, a retry for the same operation is the same use.

use super::table::Table;
use super::{
    ApprovalError, ApprovalId, Ask, Claim, NotGranted, Scope, State, StepRequest, Ticket, View,
    convert,
};
use crate::operation::{Digest, OperationId};
use crate::principal::Principal;
use enforcer_proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

/// How long waiters of a fake wait for a lost server.
const LOST_AFTER: Duration = Duration::from_millis(50);

/// An approval server in a test's hands.
#[derive(Clone)]
pub struct Fake(Arc<Inner>);

struct Inner {
    table: Arc<Table>,
    asked: Mutex<BTreeMap<ApprovalId, Asked>>,
    tasks: Mutex<Vec<v1::Task>>,
    news: Notify,
    /// Called after each claim.
    claimed: Mutex<Option<Box<dyn Fn() + Send>>>,
}

struct Asked {
    ask: Ask,
    view: View,
    claims: BTreeSet<Uuid>,
}

impl Default for Fake {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fake").finish_non_exhaustive()
    }
}

impl Fake {
    /// A connected server without requests.
    pub fn new() -> Self {
        let fake = Self(Arc::new_cyclic(|inner: &Weak<Inner>| {
            let inner = Weak::clone(inner);
            let withdraw = move |id, _digest| {
                if let Some(inner) = inner.upgrade() {
                    Self(inner).set(id, State::Cancelled);
                }
            };
            Inner {
                table: Arc::new(Table::new(LOST_AFTER, Box::new(withdraw))),
                asked: Mutex::default(),
                tasks: Mutex::default(),
                news: Notify::new(),
                claimed: Mutex::default(),
            }
        }));
        fake.0.table.up();
        fake
    }

    fn asked(&self) -> MutexGuard<'_, BTreeMap<ApprovalId, Asked>> {
        self.0.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn request(&self, ask: Ask) -> Result<Ticket, ApprovalError> {
        if !self.connected() {
            return Err(ApprovalError::NotConnected);
        }
        let mut asked = self.asked();
        let same = asked.values().find(|a| {
            !a.view.state.ended() && a.view.digest == ask.digest && a.ask.scopes == ask.scopes
        });
        let view = match same {
            Some(found) => found.view.clone(),
            None => {
                let view = View {
                    id: ApprovalId(Uuid::now_v7()),
                    state: State::Pending,
                    digest: ask.digest,
                    created_unix_ms: 0,
                    expires_unix_ms: i64::MAX,
                    uses_left: uses(&ask.scopes),
                    revision: 1,
                    of_step: false,
                };
                let entry = Asked { ask, view: view.clone(), claims: BTreeSet::new() };
                asked.insert(view.id, entry);
                view
            }
        };
        drop(asked);
        let ticket = self.0.table.ticket(view);
        self.0.news.notify_waiters();
        Ok(ticket)
    }

    pub(super) fn claim(
        &self,
        id: ApprovalId,
        digest: Digest,
        op: OperationId,
    ) -> Result<Claim, ApprovalError> {
        if !self.connected() {
            return Err(ApprovalError::NotConnected);
        }
        let mut asked = self.asked();
        let entry = asked.get_mut(&id).ok_or(ApprovalError::Unknown)?;
        if entry.view.digest != digest {
            return Err(ApprovalError::NotGranted(NotGranted::Mismatch));
        }
        let again = entry.claims.contains(&op.0);
        let by = match &entry.view.state {
            State::Approved { by } => by.clone(),
            State::Spent if again => Vec::new(),
            State::Spent => return Err(ApprovalError::NotGranted(NotGranted::Spent)),
            State::Pending => return Err(ApprovalError::NotGranted(NotGranted::Pending)),
            State::Denied { .. } => return Err(ApprovalError::NotGranted(NotGranted::Denied)),
            State::Expired => return Err(ApprovalError::NotGranted(NotGranted::Expired)),
            State::Cancelled => return Err(ApprovalError::NotGranted(NotGranted::Cancelled)),
            State::Revoked => return Err(ApprovalError::NotGranted(NotGranted::Revoked)),
        };
        if !again {
            entry.claims.insert(op.0);
            entry.view.uses_left = entry.view.uses_left.saturating_sub(1);
            entry.view.revision += 1;
            if entry.view.uses_left == 0 {
                entry.view.state = State::Spent;
            }
        }
        let names: Vec<&str> = entry.ask.scopes.iter().map(|s| s.name.as_str()).collect();
        let claim = Claim {
            id: op.to_string(),
            approval: id.to_string(),
            votes: by.iter().map(|person| vote(person, true, "")).collect(),
            decided_by: by,
            scope: names.join(","),
        };
        let view = entry.view.clone();
        drop(asked);
        self.0.table.claimed(view.clone());
        self.0.table.update(view);
        if let Some(claimed) = &*self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner) {
            claimed();
        }
        Ok(claim)
    }

    pub(super) fn connected(&self) -> bool {
        self.0.table.connected()
    }

    pub(super) fn revoked(&self) -> broadcast::Receiver<ApprovalId> {
        self.0.table.revoked()
    }

    pub(super) fn status(&self, id: ApprovalId) -> Result<View, ApprovalError> {
        let asked = self.asked();
        let entry = asked.get(&id).ok_or(ApprovalError::Unknown)?;
        Ok(entry.view.clone())
    }

    /// Keeps a task; its steps wait for ever, and let nothing through.
    pub(super) fn submit(
        &self,
        objective: String,
        steps: Vec<StepRequest>,
    ) -> Result<v1::Task, ApprovalError> {
        if !self.connected() {
            return Err(ApprovalError::NotConnected);
        }
        let mut task =
            v1::Task { objective, id: Uuid::now_v7().to_string(), ..v1::Task::default() };
        for step in steps {
            let principal = step.principal.clone();
            task.host.clone_from(&principal.host);
            task.owner = Some(v1::TaskOwner {
                agent: principal.agent.to_string(),
                task: principal.task.unwrap_or_default(),
            });
            let asked = !step.scopes.is_empty();
            let request = convert::step_request(step);
            let request = request.map_err(|error| ApprovalError::Refused(error.to_string()))?;
            let approval = v1::Approval {
                id: Uuid::now_v7().to_string(),
                state: v1::State::Pending.into(),
                request: Some(request.clone()),
                task_id: task.id.clone(),
                ..v1::Approval::default()
            };
            task.steps.push(match asked {
                true => v1::TaskStep { approval: Some(approval), request: None },
                false => v1::TaskStep { approval: None, request: Some(request) },
            });
        }
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task.clone());
        Ok(task)
    }

    pub(super) fn task(&self, of: &Principal, id: &str) -> Result<v1::Task, ApprovalError> {
        self.tasks(of).into_iter().find(|task| task.id == id).ok_or(ApprovalError::Unknown)
    }

    pub(super) fn tasks(&self, of: &Principal) -> Vec<v1::Task> {
        let owner = Some(v1::TaskOwner {
            agent: of.agent.to_string(),
            task: of.task.clone().unwrap_or_default(),
        });
        let tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().filter(|task| task.owner == owner).cloned().collect()
    }

    fn set(&self, id: ApprovalId, state: State) {
        let mut asked = self.asked();
        let Some(entry) = asked.get_mut(&id) else {
            return;
        };
        entry.view.state = state;
        entry.view.revision += 1;
        let view = entry.view.clone();
        drop(asked);
        self.0.table.update(view);
        self.0.news.notify_waiters();
    }

    /// Approves.
    pub fn approve(&self, id: ApprovalId, by: &str) {
        self.set(id, State::Approved { by: vec![by.to_owned()] });
    }

    /// Denies.
    pub fn deny(&self, id: ApprovalId, by: &str, reason: &str) {
        let votes = vec![vote(by, false, reason)];
        self.set(id, State::Denied { by: vec![by.to_owned()], reason: reason.to_owned(), votes });
    }

    /// Lets it expire.
    pub fn expire(&self, id: ApprovalId) {
        self.set(id, State::Expired);
    }

    /// Takes the grant back.
    pub fn revoke(&self, id: ApprovalId) {
        self.set(id, State::Revoked);
    }

    /// Does something after each claim, before the claimer knows of it.
    pub fn on_claim(&self, claimed: impl Fn() + Send + 'static) {
        *self.0.claimed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(claimed));
    }

    /// The server is gone, as the daemon sees it.
    pub fn lose_server(&self) {
        self.0.table.down();
    }

    /// The server is there again.
    pub fn restore_server(&self) {
        self.0.table.up();
    }

    /// Everything asked so far, oldest first.
    pub fn requests(&self) -> Vec<(ApprovalId, Ask, State)> {
        let asked = self.asked();
        asked.iter().map(|(id, a)| (*id, a.ask.clone(), a.view.state.clone())).collect()
    }

    /// Waits until a request is pending and returns its id (the oldest).
    pub async fn next_pending(&self) -> ApprovalId {
        loop {
            let news = self.0.news.notified();
            tokio::pin!(news);
            // Registered before the look, so that a request between the two is not missed.
            news.as_mut().enable();
            let pending = self
                .asked()
                .iter()
                .find(|(_, a)| a.view.state == State::Pending)
                .map(|(id, _)| *id);
            if let Some(id) = pending {
                return id;
            }
            news.await;
        }
    }
}

fn vote(person: &str, approve: bool, reason: &str) -> v1::Vote {
    let (person, reason) = (person.to_owned(), reason.to_owned());
    v1::Vote { person, approve, reason, ..v1::Vote::default() }
}

fn uses(scopes: &[Scope]) -> u32 {
    scopes.iter().map(|scope| scope.uses).min().unwrap_or(1)
}
