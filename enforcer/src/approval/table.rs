//! The approvals that this daemon watches, and who waits for each.
//!
//! Holds the newest view by id and wakes waiters; it never lets an older view
//! replace a newer one, and it is no source of rights: a claim is.

use super::{ApprovalError, ApprovalId, State, View};
use crate::operation::Digest;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

/// Grants in use that are remembered, so that a revocation that fell into a gap of the
/// stream is still found at the next connection.
const CLAIMED_CAP: usize = 4096;

/// Revocations that a slow listener may fall behind by.
const REVOKED_BACKLOG: usize = 1024;

/// Whether news arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// The present state was received and the stream lives.
    Up,
    /// No stream since then.
    Down(Instant),
}

/// Asks for a pending approval to be withdrawn at its source.
type Withdraw = Box<dyn Fn(ApprovalId, Digest) + Send + Sync>;

pub(super) struct Table {
    entries: Mutex<HashMap<ApprovalId, Entry>>,
    link: watch::Sender<Link>,
    lost_after: Duration,
    revoked: broadcast::Sender<ApprovalId>,
    withdraw: Withdraw,
}

struct Entry {
    view: watch::Sender<View>,
    tickets: usize,
    /// Someone was told the id and may come back: a later disconnect must not withdraw it.
    kept: bool,
    claimed: bool,
}

impl Table {
    /// A table whose link is down. Waiters are told that the server is lost when the link has
    /// been down for `lost_after`.
    pub(super) fn new(lost_after: Duration, withdraw: Withdraw) -> Self {
        Self {
            entries: Mutex::default(),
            link: watch::Sender::new(Link::Down(Instant::now())),
            lost_after,
            revoked: broadcast::Sender::new(REVOKED_BACKLOG),
            withdraw,
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ApprovalId, Entry>> {
        // Every critical section leaves the map whole, so a panic elsewhere does not spoil it.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn connected(&self) -> bool {
        *self.link.borrow() == Link::Up
    }

    pub(super) async fn ready(&self) {
        // The sender is ours, so the wait ends in no other way.
        let _ = self.link.subscribe().wait_for(|link| *link == Link::Up).await;
    }

    pub(super) fn up(&self) {
        self.link.send_replace(Link::Up);
    }

    /// Keeps the time of the first loss, so that failing attempts to reconnect do not
    /// lengthen the wait of anybody.
    pub(super) fn down(&self) {
        self.link.send_if_modified(|link| {
            let was_up = *link == Link::Up;
            if was_up {
                *link = Link::Down(Instant::now());
            }
            was_up
        });
    }

    pub(super) fn revoked(&self) -> broadcast::Receiver<ApprovalId> {
        self.revoked.subscribe()
    }

    /// Takes in news. News of an approval that nobody here asked for is dropped, except that a
    /// revocation is always passed on.
    pub(super) fn update(&self, view: View) {
        let mut entries = self.entries();
        let revoked = view.state == State::Revoked;
        let id = view.id;
        match entries.get_mut(&id) {
            Some(entry) => {
                let fresh = entry.view.send_if_modified(|old| {
                    let newer = view.revision > old.revision;
                    if newer {
                        *old = view;
                    }
                    newer
                });
                if fresh && revoked {
                    entry.claimed = false;
                    let _ = self.revoked.send(id);
                }
                drop_if_idle(&mut entries, id);
            }
            None if revoked => {
                let _ = self.revoked.send(id);
            }
            None => {}
        }
    }

    /// A ticket for an approval that the server just described.
    pub(super) fn ticket(self: &Arc<Self>, view: View) -> Ticket {
        let id = view.id;
        let mut entries = self.entries();
        let entry = entries.entry(id).or_insert_with(|| Entry {
            view: watch::Sender::new(view.clone()),
            tickets: 0,
            kept: false,
            claimed: false,
        });
        entry.tickets += 1;
        entry.view.send_if_modified(|old| {
            let newer = view.revision > old.revision;
            if newer {
                *old = view;
            }
            newer
        });
        Ticket {
            id,
            view: entry.view.subscribe(),
            link: self.link.subscribe(),
            table: Arc::clone(self),
            cancel_on_drop: false,
        }
    }

    /// Remembers that flows may run on this grant.
    pub(super) fn claimed(&self, view: View) {
        let mut entries = self.entries();
        let in_use = entries.values().filter(|e| e.claimed).count();
        if in_use >= CLAIMED_CAP {
            // Ids sort by time: the oldest grant is the one least likely to be in use.
            let oldest = entries.iter().filter(|(_, e)| e.claimed).map(|(id, _)| *id).min();
            if let Some(entry) = oldest.and_then(|id| entries.get_mut(&id)) {
                entry.claimed = false;
            }
            if let Some(id) = oldest {
                drop_if_idle(&mut entries, id);
            }
        }
        entries
            .entry(view.id)
            .or_insert_with(|| Entry {
                view: watch::Sender::new(view),
                tickets: 0,
                kept: false,
                claimed: false,
            })
            .claimed = true;
    }

    /// Ids that must be asked about when they were not part of the state at reconnection.
    pub(super) fn known(&self) -> Vec<ApprovalId> {
        self.entries().keys().copied().collect()
    }

    /// The server knows it no more: its waiters hear that it is gone.
    pub(super) fn forget(&self, id: ApprovalId) {
        self.entries().remove(&id);
    }

    fn release(&self, id: ApprovalId, cancel: bool) {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&id) else {
            return;
        };
        entry.tickets = entry.tickets.saturating_sub(1);
        entry.kept |= !cancel;
        let withdraw = cancel
            && entry.tickets == 0
            && !entry.kept
            && entry.view.borrow().state == State::Pending;
        let digest = entry.view.borrow().digest;
        drop_if_idle(&mut entries, id);
        drop(entries);
        if withdraw {
            (self.withdraw)(id, digest);
        }
    }
}

/// Forgets an entry that nobody waits for. One whose id was handed out is kept while it is
/// open, so that "kept" is not forgotten with it.
fn drop_if_idle(entries: &mut HashMap<ApprovalId, Entry>, id: ApprovalId) {
    let idle = entries.get(&id).is_some_and(|entry| {
        let open = !entry.view.borrow().state.ended();
        entry.tickets == 0 && !entry.claimed && !(entry.kept && open)
    });
    if idle {
        entries.remove(&id);
    }
}

/// One waiter's hold on an approval.
///
/// Dropping it leaves the request pending (the client was told its id and may come back);
/// [`Ticket::cancel`] withdraws it when no other operation waits for the same.
pub struct Ticket {
    id: ApprovalId,
    view: watch::Receiver<View>,
    link: watch::Receiver<Link>,
    table: Arc<Table>,
    cancel_on_drop: bool,
}

impl Ticket {
    /// The approval's id.
    pub fn id(&self) -> ApprovalId {
        self.id
    }

    /// Where it stands, as last heard.
    pub fn state(&self) -> State {
        self.view.borrow().state.clone()
    }

    /// The whole view, as last heard.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Waits for the next change. Cancel safe.
    ///
    /// # Errors
    /// [`ApprovalError::ServerLost`] when no news can arrive.
    pub async fn changed(&mut self) -> Result<State, ApprovalError> {
        let lost_after = self.table.lost_after;
        tokio::select! {
            biased;
            changed = self.view.changed() => match changed {
                Ok(()) => Ok(self.view.borrow_and_update().state.clone()),
                Err(_) => Err(ApprovalError::ServerLost),
            },
            () = lost(&mut self.link, lost_after) => Err(ApprovalError::ServerLost),
        }
    }

    /// Whether dropping the ticket withdraws the request. Set while a client is held: when it
    /// disconnects its future is dropped, and so is the ticket.
    pub fn cancel_on_drop(&mut self, cancel: bool) {
        // A step was declared by itself: it outlives whoever waits for it.
        self.cancel_on_drop = cancel && !self.view.borrow().of_step;
    }

    /// Withdraws the request, unless another operation waits for it too or a client was told
    /// its id.
    pub async fn cancel(mut self) {
        self.cancel_on_drop(true);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.release(self.id, self.cancel_on_drop);
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Ends once the link has been down for that long.
async fn lost(link: &mut watch::Receiver<Link>, bound: Duration) {
    loop {
        let down = link.wait_for(|link| *link != Link::Up).await.map(|link| *link);
        let Ok(Link::Down(since)) = down else {
            return;
        };
        tokio::select! {
            up = link.wait_for(|link| *link == Link::Up) => if up.is_err() { return },
            () = tokio::time::sleep_until(since + bound) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use uuid::Uuid;

    const BOUND: Duration = Duration::from_secs(5);

    fn table() -> (Arc<Table>, Arc<AtomicUsize>) {
        let withdrawn = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&withdrawn);
        let withdraw = move |_, _| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let table = Table::new(BOUND, Box::new(withdraw));
        table.up();
        (Arc::new(table), withdrawn)
    }

    fn view(revision: u64, state: State) -> View {
        View {
            id: ApprovalId(Uuid::from_u128(1)),
            state,
            digest: Digest([0; 32]),
            created_unix_ms: 0,
            expires_unix_ms: 0,
            uses_left: 1,
            revision,
            of_step: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn waiters_of_a_lost_server_wait_that_long_and_no_longer() {
        let (table, _) = table();
        let mut ticket = table.ticket(view(1, State::Pending));
        table.down();
        let lost = Instant::now();
        tokio::time::advance(Duration::from_secs(3)).await;
        // Another failed try to connect.
        table.down();
        assert_eq!(ticket.changed().await, Err(ApprovalError::ServerLost));
        assert_eq!(lost.elapsed(), BOUND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_gap_is_not_a_loss() {
        let (table, _) = table();
        let mut ticket = table.ticket(view(1, State::Pending));
        table.down();
        let waiting = tokio::spawn(async move { ticket.changed().await });
        tokio::time::advance(BOUND - Duration::from_secs(1)).await;
        table.up();
        tokio::time::advance(BOUND * 10).await;
        assert!(!waiting.is_finished());
        table.update(view(2, State::Expired));
        assert_eq!(waiting.await.unwrap(), Ok(State::Expired));
    }

    #[tokio::test]
    async fn older_news_change_nothing() {
        let (table, _) = table();
        let mut revoked = table.revoked();
        let ticket = table.ticket(view(3, State::Pending));
        table.update(view(2, State::Revoked));
        assert_eq!(ticket.state(), State::Pending);
        assert!(revoked.try_recv().is_err());
        table.update(view(4, State::Revoked));
        table.update(view(4, State::Revoked));
        assert_eq!((ticket.state(), revoked.try_recv()), (State::Revoked, Ok(ticket.id())));
        assert!(revoked.try_recv().is_err(), "told once");
    }

    #[tokio::test]
    async fn only_the_last_waiter_withdraws_and_only_what_nobody_was_told() {
        let (table, withdrawn) = table();
        let count = || withdrawn.load(Ordering::Relaxed);
        let (one, two) =
            (table.ticket(view(1, State::Pending)), table.ticket(view(1, State::Pending)));
        one.cancel().await;
        assert_eq!(count(), 0);
        two.cancel().await;
        assert_eq!((count(), table.known().len()), (1, 0));
        drop(table.ticket(view(1, State::Pending)));
        table.ticket(view(1, State::Pending)).cancel().await;
        assert_eq!((count(), table.known().len()), (1, 1));
        table.update(view(2, State::Expired));
        assert!(table.known().is_empty());
    }

    #[tokio::test]
    async fn grants_in_use_are_remembered_up_to_a_bound() {
        let (table, _) = table();
        for id in 0..CLAIMED_CAP as u128 + 2 {
            table.claimed(View { id: ApprovalId(Uuid::from_u128(id)), ..view(1, State::Spent) });
        }
        let known = table.known();
        assert_eq!(known.len(), CLAIMED_CAP);
        assert!(!known.contains(&ApprovalId(Uuid::from_u128(1))));
    }
}
