//! The RocksDB store: column families, options, opening to write or to read.
//!
//! Opening to read changes nothing on disk, so that it works beside the running
//! daemon and on evidence that must stay as it is.

use super::error::RecordError;
use super::rows::{self, Rows};
use super::salvage::{self, Salvaged};
use rocksdb::{
    ColumnFamily, DB, DBCompressionType, DBRecoveryMode, MemtableFactory, Options, ReadOptions,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The format that this version writes and reads (`meta`, key `format`).
pub const FORMAT: &[u8] = b"1";

/// Keys of `meta`.
pub mod meta {
    /// The store's format version.
    pub const FORMAT: &[u8] = b"format";
    /// The public half of the host key that signs checkpoints (32 bytes, Ed25519).
    pub const KEY: &[u8] = b"host-key";
    /// The log's frontier (`Frontier`).
    pub const FRONTIER: &[u8] = b"frontier";
    /// The number of the last checkpoint, big endian.
    pub const CHECKPOINT: &[u8] = b"checkpoint";
}

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cf {
    /// Format version, host key, head of the log.
    Meta,
    /// Runs of the daemon, and the flows that each left open.
    Sessions,
    /// One row per flow.
    Flows,
    /// One row per event.
    Events,
    /// Flows by start.
    IndexTime,
    /// Flows by agent and start.
    IndexAgent,
    /// Flows by target and start.
    IndexTarget,
    /// Operations by digest.
    IndexDigest,
    /// Decisions by approval.
    IndexApproval,
    /// Operations by id.
    IndexOperation,
    /// The log and its signed heads.
    Checkpoints,
}

impl Cf {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Meta,
        Self::Sessions,
        Self::Flows,
        Self::Events,
        Self::IndexTime,
        Self::IndexAgent,
        Self::IndexTarget,
        Self::IndexDigest,
        Self::IndexApproval,
        Self::IndexOperation,
        Self::Checkpoints,
    ];

    /// The indexes.
    pub const INDEXES: [Self; 6] = [
        Self::IndexTime,
        Self::IndexAgent,
        Self::IndexTarget,
        Self::IndexDigest,
        Self::IndexApproval,
        Self::IndexOperation,
    ];

    /// Its name in RocksDB.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Sessions => "sessions",
            Self::Flows => "flows",
            Self::Events => "events",
            Self::IndexTime => "index_time",
            Self::IndexAgent => "index_agent",
            Self::IndexTarget => "index_target",
            Self::IndexDigest => "index_digest",
            Self::IndexApproval => "index_approval",
            Self::IndexOperation => "index_operation",
            Self::Checkpoints => "checkpoints",
        }
    }
}

/// An open store.
pub struct Store {
    db: DB,
    path: PathBuf,
    /// Of a damaged store: where it was made readable. After `db`, so that it is closed first.
    scratch: Option<TempDir>,
}

impl Store {
    /// Opens the store to write, and makes it when there is none.
    pub fn open(path: &Path) -> Result<Self, RecordError> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| RecordError::file(path, error))?;
        if path.join("CURRENT").exists() {
            // Never add our column families to somebody else's database.
            let found = DB::list_cf(&Options::default(), path)
                .map_err(|error| RecordError::store(path, "open", &error))?;
            let ours = |name: &String| {
                name == "default" || Cf::ALL.iter().any(|cf| cf.name() == name.as_str())
            };
            if let Some(name) = found.iter().find(|name| !ours(name)) {
                return Err(RecordError::Format {
                    path: path.to_owned(),
                    found: format!("column family {name}"),
                });
            }
        }
        let mut options = options();
        // One writes; and the lists below take no two writers at once.
        options.set_allow_concurrent_memtable_write(false);
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        let families = Cf::ALL.map(|cf| (cf.name(), written(cf)));
        let db = DB::open_cf_with_opts(&options, path, families)
            .map_err(|error| RecordError::open(path, &error))?;
        let store = Self { db, path: path.to_owned(), scratch: None };
        match store.get(Cf::Meta, meta::FORMAT)? {
            Some(found) => store.check_format(&found)?,
            None => {
                if store.first(Cf::Events)?.is_some() || store.first(Cf::Checkpoints)?.is_some() {
                    return Err(RecordError::Damaged("meta has no format version".into()));
                }
                store.put(Cf::Meta, meta::FORMAT, FORMAT)?;
            }
        }
        Ok(store)
    }

    /// Opens the store to read, as it is now; a daemon may be writing it.
    pub fn open_read_only(path: &Path) -> Result<Self, RecordError> {
        Self::read_only(path, &options())
    }

    /// As [`Store::open_read_only`], past damage: gives what the store lacks (file and reason) with
    /// what can be read. A good store lacks nothing. The store is not changed; where its files must
    /// be put together anew, that is done in a scratch directory.
    pub fn open_damaged(path: &Path) -> Result<(Self, Vec<String>), RecordError> {
        let error = match Self::open_read_only(path) {
            Ok(store) => match salvage::first_rows(store.db()) {
                Ok(()) => return Ok((store, Vec::new())),
                Err(error) => store.error("read", &error),
            },
            Err(error @ (RecordError::Store { .. } | RecordError::Damaged(_))) => error,
            Err(error) => return Err(error),
        };
        let mut all = vec![error.to_string()];
        let Salvaged { db, scratch, lacks } = salvage::open(path).map_err(|salvage| {
            all.push(format!("nothing else can be read: {salvage}"));
            RecordError::Damaged(all.join("; "))
        })?;
        let store = Self { db, path: path.to_owned(), scratch: Some(scratch) };
        all.extend(lacks.iter().map(|lack| store.own_words(lack)));
        // Where even the format cannot be read, the rest says by itself whether it is ours.
        match store.get(Cf::Meta, meta::FORMAT) {
            Ok(Some(found)) => store.check_format(&found)?,
            Ok(None) => all.push("meta: the format version cannot be read".to_owned()),
            Err(error) => all.push(error.to_string()),
        }
        Ok((store, all))
    }

    fn read_only(path: &Path, options: &Options) -> Result<Self, RecordError> {
        let current = path.join("CURRENT");
        let exists = current.try_exists().map_err(|error| RecordError::file(path, error))?;
        if !exists && !salvage::remains(path) {
            return Err(RecordError::file(
                path,
                "no transcript store is here (no CURRENT file); name one with --store",
            ));
        }
        let mut failed = None;
        // The daemon may flush while we open: a file that was listed is gone, or worse, a log
        // that was not listed yet. What was opened counts only when the manifest stood still.
        for _ in 0..20 {
            let before = manifest(path);
            let families = Cf::ALL.map(|cf| (cf.name(), family(cf)));
            match DB::open_cf_with_opts_for_read_only(options, path, families, false) {
                Ok(_) if before != manifest(path) => {}
                Ok(db) => {
                    let store = Self { db, path: path.to_owned(), scratch: None };
                    let found = store.get(Cf::Meta, meta::FORMAT)?;
                    store.check_format(&found.unwrap_or_default())?;
                    return Ok(store);
                }
                Err(error) => failed = Some(error),
            }
        }
        let busy = || RecordError::file(path, "the store changes faster than it can be opened");
        Err(failed.map_or_else(busy, |error| RecordError::open(path, &error)))
    }

    fn check_format(&self, found: &[u8]) -> Result<(), RecordError> {
        if found == FORMAT {
            return Ok(());
        }
        Err(RecordError::Format {
            path: self.path.clone(),
            found: String::from_utf8_lossy(found).into_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn error(&self, action: &'static str, error: &rocksdb::Error) -> RecordError {
        let message = self.own_words(error.as_ref());
        RecordError::Store { path: self.path.clone(), action, message }
    }

    /// What RocksDB says of files in the scratch directory, said of the store's.
    fn own_words(&self, text: &str) -> String {
        match &self.scratch {
            Some(scratch) => {
                let scratch = scratch.path().to_string_lossy();
                text.replace(&*scratch, &self.path.to_string_lossy())
            }
            None => text.to_owned(),
        }
    }

    /// Whether its files are damaged so that it was put together anew, as far as that goes.
    pub fn damaged(&self) -> bool {
        self.scratch.is_some()
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn cf(&self, cf: Cf) -> Result<&ColumnFamily, RecordError> {
        self.db
            .cf_handle(cf.name())
            .ok_or_else(|| RecordError::Damaged(format!("column family {} is missing", cf.name())))
    }

    /// One row.
    pub fn get(&self, cf: Cf, key: &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        self.db.get_cf(self.cf(cf)?, key).map_err(|error| self.error("read", &error))
    }

    pub(crate) fn put(&self, cf: Cf, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        self.db.put_cf(self.cf(cf)?, key, value).map_err(|error| self.error("write", &error))
    }

    fn first(&self, cf: Cf) -> Result<Option<Vec<u8>>, RecordError> {
        let mut rows = self.rows(cf, b"")?;
        Ok(rows.next_row()?.map(|(key, _)| key.to_vec()))
    }

    /// Brings the events that are in memory to a file, so that looking for some of them does not
    /// sort them all (see [`written`]).
    pub(crate) fn flush_events(&self) -> Result<(), RecordError> {
        self.db.flush_cf(self.cf(Cf::Events)?).map_err(|error| self.error("flush", &error))
    }

    /// Rows from `from` on, in key order.
    pub fn rows(&self, cf: Cf, from: &[u8]) -> Result<Rows<'_>, RecordError> {
        let mut iter = self.raw(cf)?;
        iter.seek(from);
        Ok(Rows::new(self, iter, false, from.to_vec()))
    }

    /// Rows from `from` (inclusive) backwards; the last row of all when `None`.
    pub fn rows_back(&self, cf: Cf, from: Option<&[u8]>) -> Result<Rows<'_>, RecordError> {
        let mut iter = self.raw(cf)?;
        match from {
            Some(key) => iter.seek_for_prev(key),
            None => iter.seek_to_last(),
        }
        Ok(Rows::new(self, iter, true, from.unwrap_or(&[0xff; rows::WIDTH]).to_vec()))
    }

    fn raw(&self, cf: Cf) -> Result<rocksdb::DBRawIterator<'_>, RecordError> {
        let mut options = ReadOptions::default();
        options.set_verify_checksums(true);
        options.fill_cache(false);
        Ok(self.db.raw_iterator_cf_opt(self.cf(cf)?, options))
    }
}

/// Which manifest is current, and how long it is: it grows with every flush and compaction.
fn manifest(path: &Path) -> Option<(String, u64)> {
    let name = std::fs::read_to_string(path.join("CURRENT")).ok()?;
    let length = std::fs::metadata(path.join(name.trim_end())).ok()?.len();
    Some((name, length))
}

/// Small and strict: a transcript store shares the host with the agents' work.
pub(super) fn options() -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    // A record cut short at the end of the log was never acked and is dropped; damage
    // anywhere else refuses to open rather than silently losing what follows it.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_db_write_buffer_size(32 << 20);
    options.set_max_total_wal_size(64 << 20);
    options.set_max_background_jobs(2);
    options.set_bytes_per_sync(1 << 20);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options
}

/// As the daemon writes them. What it writes most, and reads next to never, is put down in a list
/// that is sorted when it goes to a file.
fn written(cf: Cf) -> Options {
    let mut options = family(cf);
    if matches!(cf, Cf::Events | Cf::IndexDigest | Cf::IndexOperation) {
        options.set_memtable_factory(MemtableFactory::Vector);
    }
    options
}

pub(super) fn family(cf: Cf) -> Options {
    let mut options = Options::default();
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    let buffer = match cf {
        Cf::Events => 16 << 20,
        _ => 2 << 20,
    };
    options.set_write_buffer_size(buffer);
    options.set_max_write_buffer_number(2);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_block_size(16 << 10);
    // Transcripts are written once and rarely read: reading goes past the cache.
    table.set_block_cache(&rocksdb::Cache::new_lru_cache(1 << 20));
    options.set_block_based_table_factory(&table);
    options
}
