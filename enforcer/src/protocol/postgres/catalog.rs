//! What the upstream's names mean: its catalog, read by connections of the daemon's own.
//!
//! A snapshot is shared by all sessions of one role in one database. It is looked at again when it
//! is older than [`FRESH`], when a statement names what is not in it, and after a statement that
//! may have changed it. What a session changed in a transaction that nobody else sees yet is read
//! on its own backend, and is that session's alone.

use super::question::{self, QuestionError, Rows};
use super::reading::Catalog;
use super::talk::{About, NotKnown, Talk};
use super::upstream::{Reach, Ready};
use crate::decide::Denial;
use crate::flow::Inputs;
use super::codec::backend::Transaction;
use std::collections::HashMap;
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
/// Opens a savepoint that takes back what the questions set.
const BEFORE: [&str; 2] =
    ["SAVEPOINT enforcer_catalog", "SET LOCAL search_path = pg_catalog, pg_temp"];
const AFTER: [&str; 2] =
    ["ROLLBACK TO SAVEPOINT enforcer_catalog", "RELEASE SAVEPOINT enforcer_catalog"];

/// The snapshots, by where and as whom they were taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalogs {
    slots: Arc<Mutex<HashMap<String, Arc<Slot>>>>,
    /// Counts the changes that went through the gate: a snapshot of before is looked at again.
    changes: Arc<AtomicU64>,
}

type Slot = tokio::sync::Mutex<Option<Snapshot>>;

#[derive(Debug)]
struct Snapshot {
    catalog: Arc<Catalog>,
    stamp: String,
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
    if talk.state.altered && talk.state.transaction == Transaction::Open {
        let catalog = on_backend(talk).await?;
        talk.catalog = Some(Arc::new(catalog));
        talk.own_catalog = true;
        talk.state.altered = false;
        return Ok(());
    }
    if talk.state.altered && talk.unsynced {
        return Err(refuse("the schema was changed in this series; send a Sync before the next statement"));
    }
    if talk.own_catalog && talk.state.transaction == Transaction::Open && !talk.state.altered {
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
    let mut slot = slot.lock().await;
    if let Some(known) = &*slot {
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
    let mut own = open(inputs, &about.reach).await?;
    let stamp = text(&mut own, Catalog::STAMP).await?;
    if let Some(known) = &mut *slot
        && known.stamp == stamp
    {
        known.looked = looked;
        known.changes = changes;
        return Ok(Arc::clone(&known.catalog));
    }
    let mut answers = Vec::with_capacity(Catalog::QUERIES.len());
    for query in Catalog::QUERIES {
        answers.push(ask(&mut own, query).await?);
    }
    let catalog = Catalog::from_rows(&answers).map_err(|error| error.to_string())?;
    let catalog = Arc::new(catalog);
    *slot = Some(Snapshot { catalog: Arc::clone(&catalog), stamp, looked, changes });
    Ok(catalog)
}

/// A connection of our own, with names as the questions want them.
async fn open(inputs: &Inputs, reach: &Reach) -> Result<Ready, String> {
    let settings = [("client_encoding", "UTF8"), ("application_name", "enforcer")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let signed_in = Box::pin(reach.sign_in(inputs, 0, &settings)).await;
    let (mut ready, _) = signed_in.map_err(|error| format!("the catalog: {}", error.code))?;
    ask(&mut ready, Catalog::PREAMBLE).await?;
    Ok(ready)
}

async fn ask(own: &mut Ready, query: &str) -> Result<Rows, String> {
    let limit = Duration::from_secs(30);
    match tokio::time::timeout(limit, question::ask(&mut own.wire, query, true)).await {
        Ok(Ok(answer)) => Ok(answer.rows),
        Ok(Err(QuestionError::Refused(report))) => {
            Err(format!("the catalog cannot be read: SQLSTATE {}", report.code()))
        }
        Ok(Err(error)) => Err(format!("the catalog cannot be read: {error}")),
        Err(_) => Err("the catalog could not be read in time".to_owned()),
    }
}

async fn text(own: &mut Ready, query: &str) -> Result<String, String> {
    let rows = ask(own, query).await?;
    let first = rows.into_iter().next().and_then(|row| row.into_iter().next().flatten());
    first.ok_or_else(|| "the catalog has no stamp".to_owned())
}

/// The catalog as an open transaction of the session sees it. What is set for the questions is
/// taken back with a savepoint.
async fn on_backend(talk: &mut Talk) -> Result<Catalog, NotKnown> {
    for step in BEFORE {
        talk.ask(step).await?;
    }
    let mut answers = Vec::with_capacity(Catalog::QUERIES.len());
    for query in Catalog::QUERIES {
        answers.push(talk.ask(query).await?);
    }
    for step in AFTER {
        talk.ask(step).await?;
    }
    Catalog::from_rows(&answers).map_err(|error| refuse(&error.to_string()))
}
