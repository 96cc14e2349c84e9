//! What the upstream's names mean: its catalog, read by connections of the daemon's own.
//!
//! A snapshot is shared by all sessions of one role in one database. It is looked at again when it
//! is older than [`FRESH`], when a statement names what is not in it, and after a statement that
//! may have changed it; what did not change is not read again. What a session changed in a
//! transaction that nobody else sees yet is read on its own backend, and is that session's alone.

use super::codec::backend::Transaction;
use super::question::{self, How, QuestionError, Rows};
use super::reading::{Catalog, PREAMBLE, Refresh, Stamp};
use super::talk::{About, NotKnown, Talk};
use super::upstream::{Reach, Ready};
use crate::decide::Denial;
use crate::flow::Inputs;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a snapshot is used before the upstream is asked whether it still holds.
const FRESH: Duration = Duration::from_secs(2);
/// The least time between two such questions, whoever asks.
const SELDOM: Duration = Duration::from_millis(200);
/// Snapshots that are kept; past it those that no session uses go.
const KEPT: usize = 64;
/// How long the connection that asks stays open unused.
const KEPT_OPEN: Duration = Duration::from_secs(30);
/// Opens a savepoint that takes back what the questions set.
const BEFORE: [&str; 2] =
    ["SAVEPOINT enforcer_catalog", "SET LOCAL search_path = pg_catalog, pg_temp"];
const AFTER: [&str; 2] =
    ["ROLLBACK TO SAVEPOINT enforcer_catalog", "RELEASE SAVEPOINT enforcer_catalog"];

/// The snapshots, by where and as whom they were taken.
#[derive(Clone, Debug)]
pub(super) struct Catalogs {
    slots: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
    /// Counts the changes that went through the gate: a snapshot of before is looked at again.
    changes: Arc<AtomicU64>,
    /// Asks for a stamp that nobody else can foretell.
    stamp: Arc<str>,
}

impl Default for Catalogs {
    fn default() -> Self {
        // Its keys are the system's random bytes.
        let secret = RandomState::new().build_hasher().finish().cast_signed();
        Self {
            slots: Arc::default(),
            changes: Arc::default(),
            stamp: Stamp::question(secret).into(),
        }
    }
}

type Slot = tokio::sync::Mutex<Kept>;

/// What is kept of one database and role.
#[derive(Debug, Default)]
struct Kept {
    snapshot: Option<Snapshot>,
    /// The connection that asks, and when it was last used.
    own: Option<(Ready, Instant)>,
}

#[derive(Debug)]
struct Snapshot {
    catalog: Arc<Catalog>,
    /// The transactions that were seen when it was looked at ([`Stamp::SEEN`]).
    seen: Option<String>,
    looked: Instant,
    /// The changes that had gone through when it was looked at.
    changes: u64,
}

impl Catalogs {
    fn slot(&self, key: String) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT && !slots.contains_key(&key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(key).or_default())
    }

    /// The last snapshot, however old, without a question to the upstream.
    pub(super) async fn last(&self, key: &str) -> Option<Arc<Catalog>> {
        let slot = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.get(key).cloned()?
        };
        let kept = tokio::time::timeout(FRESH, slot.lock()).await.ok()?;
        kept.snapshot.as_ref().map(|known| Arc::clone(&known.catalog))
    }

    /// Closes the connections that are kept for the next question: somebody needs a database to
    /// which nobody else is connected.
    pub(super) async fn let_go(&self) {
        let slots: Vec<_> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.values().cloned().collect()
        };
        for slot in slots {
            // One that is asking now is no kept one.
            if let Ok(mut kept) = tokio::time::timeout(SELDOM, slot.lock()).await {
                kept.own = None;
            }
        }
    }

    /// Something that changes a catalog went through, or came to the end of its transaction.
    pub(super) fn changed(&self) {
        self.changes.fetch_add(1, Relaxed);
    }
}

/// How new a catalog must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// As new as [`FRESH`].
    Recent,
    /// Looked at since now, if not just before.
    New,
    /// Looked at since now.
    Changed,
}

/// The catalog for a session.
pub(super) async fn refresh(talk: &mut Talk, want: Want) -> Result<(), NotKnown> {
    let open = talk.state.transaction == Transaction::Open;
    if talk.state.altered && open {
        return on_backend(talk).await;
    }
    if talk.state.altered && talk.unsynced {
        return within_series(talk).await;
    }
    if talk.own_catalog && open {
        // What it changed nobody else sees; what others change it learns after its end.
        return Ok(());
    }
    let catalogs = &talk.about.flow.inputs.databases.catalogs;
    let changes = catalogs.changes.load(Relaxed);
    let just = talk.looked.is_some_and(|(at, then)| at.elapsed() < FRESH && then == changes);
    if just && want == Want::Recent && !talk.state.altered && !talk.own_catalog {
        return Ok(());
    }
    let looked = Instant::now();
    let want = if talk.state.altered || talk.own_catalog { Want::Changed } else { want };
    let about = Arc::clone(&talk.about);
    let found = Box::pin(shared(&about, want)).await;
    talk.catalog = Some(found.map_err(|error| refuse(&error))?);
    talk.looked = Some((looked, changes));
    talk.state.altered = false;
    talk.own_catalog = false;
    Ok(())
}

fn refuse(why: &str) -> NotKnown {
    NotKnown::Refuse(Denial::new("catalog-unknown", why))
}

/// The snapshot that sessions share.
async fn shared(about: &About, want: Want) -> Result<Arc<Catalog>, String> {
    let asked = Instant::now();
    let catalogs = &about.flow.inputs.databases.catalogs;
    let changes = catalogs.changes.load(Relaxed);
    let slot = catalogs.slot(about.reach.key());
    let mut kept = slot.lock().await;
    if let Some(known) = &kept.snapshot {
        let enough = match want {
            Want::Recent => known.looked.elapsed() < FRESH,
            Want::New => known.looked.elapsed() < SELDOM,
            Want::Changed => false,
        };
        if known.changes >= changes && (enough || known.looked >= asked) {
            return Ok(Arc::clone(&known.catalog));
        }
    }
    let looked = Instant::now();
    let inputs = &about.flow.inputs;
    // One that is kept may have been closed meanwhile; then another is made.
    let again = match kept.own.take().filter(|(_, used)| used.elapsed() < KEPT_OPEN) {
        None => None,
        Some((mut own, _)) => ask(&mut own, Stamp::SEEN).await.ok().map(|rows| (own, first(rows))),
    };
    let (mut own, seen) = match again {
        Some(asked) => asked,
        None => (open(inputs, &about.reach).await?, None),
    };
    if let Some(known) = &mut kept.snapshot
        && seen.is_some()
        && known.seen == seen
    {
        known.looked = looked;
        known.changes = changes;
        let catalog = Arc::clone(&known.catalog);
        keep(&slot, &mut kept, own);
        return Ok(catalog);
    }
    let rows = ask(&mut own, &catalogs.stamp).await?;
    let (stamp, seen) = Stamp::read(&rows).map_err(|error| error.to_string())?;
    let known = kept.snapshot.as_ref().map(|known| &known.catalog);
    let catalog = match known {
        Some(known) if *known.stamp() == stamp => Arc::clone(known),
        known => {
            let mut refresh = Refresh::new(known.map(|known| &**known), stamp);
            while let Some(question) = refresh.question() {
                let rows = ask(&mut own, &question).await?;
                refresh.answer(&rows).map_err(|error| error.to_string())?;
            }
            Arc::new(refresh.catalog())
        }
    };
    kept.snapshot = Some(Snapshot { catalog: Arc::clone(&catalog), seen, looked, changes });
    keep(&slot, &mut kept, own);
    Ok(catalog)
}

/// Keeps the connection for the next question, for a while.
fn keep(slot: &Arc<Slot>, kept: &mut Kept, own: Ready) {
    kept.own = Some((own, Instant::now()));
    let slot = Arc::downgrade(slot);
    tokio::spawn(async move {
        tokio::time::sleep(KEPT_OPEN).await;
        if let Some(slot) = slot.upgrade() {
            let mut kept = slot.lock().await;
            kept.own.take_if(|(_, used)| used.elapsed() >= KEPT_OPEN);
        }
    });
}

/// A connection of our own, with names as the questions want them.
async fn open(inputs: &Inputs, reach: &Reach) -> Result<Ready, String> {
    // A view's definition waits for whoever changes it: not for ever, since others wait for this.
    let settings = [
        ("client_encoding", "UTF8"),
        ("application_name", "enforcer"),
        ("lock_timeout", "5s"),
        ("statement_timeout", "25s"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let signed_in = Box::pin(reach.sign_in(inputs, 0, &settings)).await;
    let (mut ready, _) = signed_in.map_err(|error| format!("the catalog: {}", error.code))?;
    ask(&mut ready, PREAMBLE).await?;
    Ok(ready)
}

async fn ask(own: &mut Ready, query: &str) -> Result<Rows, String> {
    let limit = Duration::from_secs(30);
    match tokio::time::timeout(limit, question::ask(&mut own.wire, query, How::Series)).await {
        Ok(Ok(answer)) => Ok(answer.rows),
        Ok(Err(QuestionError::Refused(report))) => {
            Err(format!("the catalog cannot be read: SQLSTATE {}", report.code()))
        }
        Ok(Err(error)) => Err(format!("the catalog cannot be read: {error}")),
        Err(_) => Err("the catalog could not be read in time".to_owned()),
    }
}

/// The catalog as an open transaction of the session sees it: what changed is read. What is set for
/// the questions is taken back with a savepoint.
async fn on_backend(talk: &mut Talk) -> Result<(), NotKnown> {
    for step in BEFORE {
        talk.ask(step).await?;
    }
    let stamp = own_stamp(talk).await?;
    let known = talk.catalog.clone();
    if known.as_ref().is_none_or(|known| *known.stamp() != stamp) {
        let mut refresh = Refresh::new(known.as_deref(), stamp);
        while let Some(question) = refresh.question() {
            let rows = talk.ask(&question).await?;
            refresh.answer(&rows).map_err(|error| refuse(&error.to_string()))?;
        }
        talk.catalog = Some(Arc::new(refresh.catalog()));
        talk.own_catalog = true;
    }
    for step in AFTER {
        talk.ask(step).await?;
    }
    talk.state.altered = false;
    Ok(())
}

/// In a series that is no transaction block there are no savepoints: it is only asked whether
/// something changed, where the names in that question can mean nothing else.
async fn within_series(talk: &mut Talk) -> Result<(), NotKnown> {
    let plain = talk.search_path().first().is_some_and(|schema| schema == "pg_catalog");
    if plain
        && let Some(known) = talk.catalog.clone()
        && own_stamp(talk).await? == *known.stamp()
    {
        talk.state.altered = false;
        return Ok(());
    }
    Err(refuse("the schema was changed in this series; send a Sync before the next statement"))
}

async fn own_stamp(talk: &mut Talk) -> Result<Stamp, NotKnown> {
    let question = Arc::clone(&talk.about.flow.inputs.databases.catalogs.stamp);
    let rows = talk.ask(&question).await?;
    let (stamp, _) = Stamp::read(&rows).map_err(|error| refuse(&error.to_string()))?;
    Ok(stamp)
}

fn first(rows: Rows) -> Option<String> {
    rows.into_iter().next()?.into_iter().next()?
}
