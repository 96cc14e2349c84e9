//! Transcripts: what happened, in order, recorded before it happens and provable after.
//!
//! A [`Recorder`] owns the store and its one writer thread. A [`FlowLog`] is one
//! flow's transcript: events without gaps, each bound to the one before. An
//! append returns when its event is in the log; an append that fails means the
//! flow must stop. Nothing here is lossy: a full queue makes the caller wait.
//! `docs/transcripts.md` describes the format.

use crate::config::{self, AtQuota, Sync};
use enforcer_proto::v1::{self, event::Kind};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

mod admit;
mod body;
pub mod chain;
mod checkpoint;
pub mod convert;
mod error;
mod flow;
pub mod index;
mod keeper;
pub mod key;
mod keys;
mod line;
pub mod merkle;
pub mod read;
mod recover;
pub mod rows;
mod salvage;
pub mod store;
pub mod summary;
mod sync;
mod tally;
mod usage;
pub mod verify;
pub mod view;
pub mod wal;
mod writer;

#[cfg(test)]
mod tests;

pub use error::RecordError;
pub use flow::FlowLog;
pub use tally::{ACCEPT, Recorded};

use line::{Line, Message};

/// Bytes that may wait for the writer; past it appends wait.
const QUEUE_BYTES: usize = 16 << 20;
/// What an event takes in the queue beside its payload.
const EVENT_OVERHEAD: usize = 512;

/// Identifies one flow (UUIDv7, so ids sort by time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FlowId(pub Uuid);

impl FlowId {
    /// A new id.
    #[expect(clippy::new_without_default, reason = "each value is new, so there is no default")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// Its 16 bytes, as they stand in keys.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for FlowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for FlowId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// How sure an event must be before its append returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// In the log: it survives the daemon, and within 100 ms the machine.
    Logged,
    /// On disk, where `transcript.sync` asks for it: what a person approved.
    Synced,
}

/// Counters of the recorder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events written since the start.
    pub events: u64,
    /// Batches that they were written in.
    pub batches: u64,
    /// Syncs to disk.
    pub syncs: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Bytes on disk, as the quota counts them.
    pub disk_bytes: u64,
    /// The quota.
    pub quota_bytes: u64,
    /// Flows that are open.
    pub open_flows: u64,
    /// Entries of the log of sealed flows.
    pub log_entries: u64,
    /// Heads signed since the start.
    pub checkpoints: u64,
    /// Flows sealed at the start because an earlier run had left them open.
    pub recovered: u64,
    /// Flows removed by retention since the start.
    pub retired: u64,
    /// Why nothing can be recorded any more, when that is so.
    pub failed: Option<String>,
}

#[derive(Default)]
struct Counters {
    events: AtomicU64,
    batches: AtomicU64,
    syncs: AtomicU64,
    bytes: AtomicU64,
    /// What was on disk when that was last measured, less what had been written by then. One
    /// number, so that no reader sees a new measure beside growth that it already holds.
    measured: AtomicI64,
    open: AtomicU64,
    log: AtomicU64,
    checkpoints: AtomicU64,
    retired: AtomicU64,
    failed: OnceLock<Arc<str>>,
}

impl Counters {
    fn failure(&self) -> Option<Arc<str>> {
        self.failed.get().map(Arc::clone)
    }

    fn fail(&self, error: &RecordError) {
        if self.failed.set(error.to_string().into()).is_ok() {
            tracing::error!(%error, "transcripts cannot be written; nothing is forwarded until a restart");
        }
    }

    fn synced(&self) {
        self.syncs.fetch_add(1, Relaxed);
    }

    /// Measures the store's files. Only where nothing is written meanwhile: that would be counted
    /// as growth and as size.
    fn measure(&self, dir: &Path) {
        let Ok(entries) = std::fs::read_dir(dir) else {
            return;
        };
        // A file that RocksDB removes while we look counts as nothing.
        let sizes = entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len());
        let written = self.bytes.load(Relaxed);
        self.measured.store(sizes.sum::<u64>().wrapping_sub(written).cast_signed(), Relaxed);
    }

    fn used(&self) -> u64 {
        self.bytes.load(Relaxed).saturating_add_signed(self.measured.load(Relaxed))
    }
}

/// What all flows share.
struct Shared {
    line: Arc<Line>,
    orders: std::sync::mpsc::Sender<keeper::Order>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    session: Uuid,
    recovered: u64,
    sync: Sync,
    quota: u64,
    /// Bytes of the quota that one agent may take.
    share: u64,
    usage: Arc<usage::Usage>,
    tally: tally::Tally,
    at_quota: AtQuota,
    body_limit: u64,
    hash_key: keys::HashKey,
}

/// The handle to the store's one writer thread.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

impl Recorder {
    /// Opens the store, seals what an earlier run left open, and starts the writer. Reads the
    /// disk: call it at the start, not from async work.
    pub fn open(cfg: &config::Transcript, data_dir: &Path) -> Result<Self, RecordError> {
        let keys = keys::HostKeys::open(data_dir)?;
        let store = Arc::new(store::Store::open(&store_dir(cfg, data_dir))?);
        own(&store, &keys)?;
        let mut log = checkpoint::Log::load(&store)?;
        let recovered = recover::run(&store, &mut log)?;
        let session = start_session(&store, &mut log)?;
        let counters = Arc::new(Counters::default());
        counters.measure(store.path());
        let usage = Arc::new(usage::Usage::default());
        let hash_key = keys.hash_key();
        let (orders, told) = std::sync::mpsc::channel();
        let started = sync::Sync::start(Arc::clone(&store), Arc::clone(&counters));
        let (sync, syncing) = started.map_err(|error| RecordError::file(data_dir, error))?;
        let writer = writer::Writer::new(
            Arc::clone(&store),
            keys,
            log,
            session,
            Arc::clone(&counters),
            sync,
        );
        let line = Arc::new(Line::new(writer));
        let keeper = keeper::Keeper {
            store,
            counters: Arc::clone(&counters),
            line: Arc::clone(&line),
            retention_ns: retention_ns(cfg.retention_days),
            usage: Arc::clone(&usage),
            session,
            orders: told,
        };
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let started = thread("record-keeper").spawn(move || keeper.run());
        let keeper = started.map_err(|error| RecordError::file(data_dir, error))?;
        let stop = orders.clone();
        let writing = Arc::clone(&line);
        thread("record-writer")
            .spawn(move || {
                let done = writing.run();
                // All hold the store: it is closed when all have ended.
                let _ = stop.send(keeper::Order::Stop);
                let _ = keeper.join();
                let _ = syncing.join();
                if let Some(done) = done {
                    let _ = done.send(());
                }
            })
            .map_err(|error| RecordError::file(data_dir, error))?;
        Ok(Self(Arc::new(Shared {
            line,
            orders,
            room: Arc::new(Semaphore::new(QUEUE_BYTES)),
            counters,
            session,
            recovered,
            sync: cfg.sync,
            quota: cfg.quota_bytes,
            share: admit::share_of(cfg),
            usage,
            tally: tally::Tally::default(),
            at_quota: cfg.at_quota,
            body_limit: cfg.body_limit,
            hash_key,
        })))
    }

    /// Begins a flow's transcript; its first event is in the log when this returns.
    pub async fn open_flow(&self, start: v1::FlowStart) -> Result<FlowLog, RecordError> {
        let counts = tally::Counts::of(&start);
        let log = self.log_of(&start);
        log.append(None, Kind::FlowStart(start), Durability::Logged).await?;
        self.0.tally.add(counts);
        Ok(log)
    }

    /// Records a flow that is already over (a refusal in the kernel, a DNS answer) and waits once.
    pub async fn whole_flow(
        &self,
        start: v1::FlowStart,
        events: Vec<(Option<crate::operation::OperationId>, Kind)>,
        end: v1::FlowEnd,
    ) -> Result<FlowId, RecordError> {
        let counts = tally::Counts::of(&start);
        let log = self.log_of(&start);
        let mut all = vec![(None, Kind::FlowStart(start))];
        all.extend(events);
        all.push((None, Kind::FlowEnd(end)));
        log.append_all(all, Durability::Logged).await?;
        self.0.tally.add(counts);
        Ok(log.id())
    }

    fn log_of(&self, start: &v1::FlowStart) -> FlowLog {
        let agent = start.principal.as_ref().map_or("", |principal| &principal.agent);
        FlowLog::new(Arc::clone(&self.0), self.0.usage.of(agent))
    }

    /// What was recorded since the start, to be held against the kernel's counters.
    pub fn recorded(&self) -> Recorded {
        self.0.tally.read()
    }

    /// A secret as it may be recorded: `hmac:` and 32 hex digits under the host's key, so that
    /// equal secrets can be told on one host and none can be read.
    pub fn keyed_hash(&self, secret: &[u8]) -> String {
        self.0.hash_key.hash(secret)
    }

    /// A key of this host for another purpose than hiding what is recorded (32 bytes).
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        self.0.hash_key.derive(purpose)
    }

    /// Writes what is queued, signs the head, and closes the store. Flows that are still open
    /// are sealed as recovered at the next start.
    pub async fn shutdown(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.line.push(Message::Shutdown(done)).is_ok() {
            // An error means that the writer was already gone.
            let _ = wait.await;
        }
    }

    /// Starts to remove flows that were sealed before a moment (ns since the Unix epoch), beside
    /// what the configured retention removes by itself. The log keeps a tombstone of each.
    pub fn retire_before(&self, unix_ns: i64) -> Result<(), RecordError> {
        let order = keeper::Order::Retire(unix_ns);
        self.0.orders.send(order).map_err(|_| RecordError::Closed)
    }

    /// The counters now.
    pub fn stats(&self) -> Stats {
        let c = &self.0.counters;
        Stats {
            events: c.events.load(Relaxed),
            batches: c.batches.load(Relaxed),
            syncs: c.syncs.load(Relaxed),
            bytes: c.bytes.load(Relaxed),
            disk_bytes: c.used(),
            quota_bytes: self.0.quota,
            open_flows: c.open.load(Relaxed),
            log_entries: c.log.load(Relaxed),
            checkpoints: c.checkpoints.load(Relaxed),
            recovered: self.0.recovered,
            retired: c.retired.load(Relaxed),
            failed: c.failure().map(|why| why.to_string()),
        }
    }
}

/// Something stands in the line that nobody is about to write.
struct Left<'l>(&'l Line);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Shared {
    /// Writes what stands in the line, once all that are ready have put theirs there: one write
    /// takes no longer for several.
    async fn written_together(&self) {
        // What is queued is recorded also when its appender is dropped meanwhile.
        let left = Left(&self.line);
        if self.counters.open.load(Relaxed) > 1 {
            tokio::task::yield_now().await;
        }
        std::mem::forget(left);
        self.line.write();
    }

    fn sync(&self, durability: Durability) -> bool {
        match self.sync {
            Sync::Always => true,
            Sync::Approved => durability == Durability::Synced,
            Sync::Interval => false,
        }
    }

    /// Waits for room in the queue, for events of so many bytes together.
    async fn room(
        &self,
        payload: usize,
        events: usize,
    ) -> Result<OwnedSemaphorePermit, RecordError> {
        let bytes = (payload + events * EVENT_OVERHEAD).min(QUEUE_BYTES);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) {
            return Ok(room);
        }
        // What takes the room may stand in the line with nobody at work.
        self.line.write();
        let room = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        room.map_err(|_| RecordError::Closed)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Nobody can append any more: the writer signs the head and ends.
        let _ = self.line.push(Message::Shutdown(oneshot::channel().0));
    }
}

/// Where the store of a configuration is.
pub fn store_dir(cfg: &config::Transcript, data_dir: &Path) -> PathBuf {
    let default = || data_dir.join("transcripts");
    cfg.dir.clone().unwrap_or_else(default)
}

fn retention_ns(days: u32) -> Option<i64> {
    (days > 0).then(|| i64::from(days) * 86_400_000_000_000)
}

/// Binds a new store to the host key; a store of another key is refused, since its earlier
/// heads could not be told from forged ones.
fn own(store: &store::Store, keys: &keys::HostKeys) -> Result<(), RecordError> {
    match store.get(store::Cf::Meta, store::meta::KEY)? {
        Some(found) if found == keys.public() => Ok(()),
        Some(_) => Err(RecordError::file(
            store.path(),
            "is signed by another host key; restore that key as transcript.key in the data \
             directory, or move the store away to begin a new one",
        )),
        None => store.put(store::Cf::Meta, store::meta::KEY, keys.public()),
    }
}

/// Notes in the log that the daemon writes from here on.
fn start_session(store: &store::Store, log: &mut checkpoint::Log) -> Result<Uuid, RecordError> {
    let session = Uuid::now_v7();
    let mut batch = rocksdb::WriteBatch::default();
    let leaf = writer::session_leaf(session, false);
    let index = log.append(store, &mut batch, now_ns(), leaf)?;
    log.save(store, &mut batch)?;
    let sessions = store.cf(store::Cf::Sessions)?;
    batch.put_cf(sessions, session.as_bytes(), index.to_be_bytes());
    let mut options = rocksdb::WriteOptions::default();
    options.set_sync(true);
    store.db().write_opt(batch, &options).map_err(|error| store.error("write", &error))?;
    Ok(session)
}

/// Wall clock, nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
