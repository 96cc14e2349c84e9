//! A store whose own files are damaged, opened as far as RocksDB can read it.
//!
//! The store itself is never touched: all happens in a scratch directory (0700, removed
//! with the handle) whose tables and logs are links into the store. Damage in a block of
//! a table needs none of this: whoever reads rows goes past it (`store::Rows`).

use super::error::RecordError;
use super::store::{self, Cf};
use super::wal;
use rocksdb::{DB, DBRecoveryMode, LiveFile, Options};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use tempfile::TempDir;

/// A readable view of a damaged store.
pub(super) struct Salvaged {
    pub(super) db: DB,
    pub(super) scratch: TempDir,
    /// What it lacks: file and reason.
    pub(super) lacks: Vec<String>,
}

/// Opens what is left of the store at `path`.
pub(super) fn open(path: &Path) -> Result<Salvaged, RecordError> {
    let failed = |error: io::Error| RecordError::file(path, error);
    let scratch = scratch(path).map_err(failed)?;
    let dir = scratch.path();
    let mut lacks = Vec::new();
    if let Some(manifest) = manifest(path, &mut lacks).map_err(failed)? {
        fs::copy(path.join(&manifest), dir.join(&manifest)).map_err(failed)?;
        fs::write(dir.join("CURRENT"), format!("{manifest}\n")).map_err(failed)?;
        match read_only(dir, false) {
            Ok(db) => {
                let db = without_bad_tables(db, dir, &manifest, &mut lacks)?;
                return Ok(Salvaged { db, scratch, lacks });
            }
            Err(error) => lacks.push(format!("{manifest}: {}", own_words(&error, dir, path))),
        }
    }
    let db = rebuild(dir, path, &mut lacks)?;
    Ok(Salvaged { db, scratch, lacks })
}

/// Whether files of a store are in a directory that has no `CURRENT`.
pub(super) fn remains(dir: &Path) -> bool {
    names(dir, "").is_ok_and(|names| {
        names.iter().any(|name| name.ends_with(".sst") || name.starts_with("MANIFEST-"))
    })
}

/// A directory with links to the store's tables and logs.
fn scratch(store: &Path) -> io::Result<TempDir> {
    let scratch = private_dir()?;
    let store = store.canonicalize()?;
    for entry in fs::read_dir(&store)? {
        let name = entry?.file_name();
        let kind = Path::new(&name).extension();
        if kind.is_some_and(|kind| kind == "sst" || kind == "log") {
            symlink(store.join(&name), scratch.path().join(&name))?;
        }
    }
    Ok(scratch)
}

/// What is written to it comes from transcripts.
fn private_dir() -> io::Result<TempDir> {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("enforcer-salvage-").permissions(mode).tempdir()
}

/// The manifest that is in force; where `CURRENT` names none, the newest.
fn manifest(store: &Path, lacks: &mut Vec<String>) -> io::Result<Option<String>> {
    let current = fs::read(store.join("CURRENT")).unwrap_or_default();
    let named = std::str::from_utf8(&current).ok().and_then(|text| text.strip_suffix('\n'));
    let is_manifest = |name: &str| {
        let number = name.strip_prefix("MANIFEST-");
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    if let Some(name) = named.filter(|name| is_manifest(name) && store.join(name).is_file()) {
        return Ok(Some(name.to_owned()));
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(store)? {
        found.extend(entry?.file_name().into_string().ok().filter(|name| is_manifest(name)));
    }
    // Numbers are padded, so that the order of names is theirs.
    let newest = found.into_iter().max();
    lacks.push(match &newest {
        Some(name) => format!("CURRENT: names no manifest that is there; {name} is read instead"),
        None => "CURRENT: names no manifest, and there is none".to_owned(),
    });
    Ok(newest)
}

/// Takes tables that would keep others from being read out of the scratch manifest, one by one:
/// those that cannot be opened (their footer or an index block is damaged, or they are gone), and
/// those that [`first_rows`] fails on.
fn without_bad_tables(
    lenient: DB,
    dir: &Path,
    manifest: &str,
    lacks: &mut Vec<String>,
) -> Result<DB, RecordError> {
    let failed = |error: &rocksdb::Error| RecordError::store(dir, "open", error);
    let tables = lenient.live_files().map_err(|error| failed(&error))?;
    let families = DB::list_cf(&Options::default(), dir)
        .map_err(|error| RecordError::store(dir, "open", &error))?;
    let mut lenient = Some(lenient);
    for _ in 0..=tables.len() {
        let (error, opened) = match read_only(dir, true) {
            Ok(db) => match first_rows(&db) {
                Ok(()) => return Ok(db),
                Err(error) => (error.to_string(), Some(db)),
            },
            Err(error) => (error.to_string(), None),
        };
        let bad = tables.iter().find(|table| error.contains(table.name.trim_start_matches('/')));
        // Not about a table: what is open is the best there is.
        let Some(bad) = bad else {
            lenient = opened.or(lenient);
            break;
        };
        let name = bad.name.trim_start_matches('/');
        lacks.push(format!(
            "{name} (rows of {}) is left out, since without that nothing beside it could be read: {error}",
            bad.column_family_name
        ));
        lenient = None;
        hide(&dir.join(manifest), bad, &families)?;
    }
    match lenient {
        Some(db) => Ok(db),
        None => read_only(dir, false).map_err(|error| failed(&error)),
    }
}

/// Whether reading can begin in every column family. Tables of level 0 lie over each other, and
/// whoever reads from below one of them has to read its first block: when that is damaged, no row
/// with a smaller key can be reached, whichever table it is in.
pub(super) fn first_rows(db: &DB) -> Result<(), rocksdb::Error> {
    let tables = db.live_files()?;
    for cf in Cf::ALL {
        let Some(family) = db.cf_handle(cf.name()) else { continue };
        let of = |table: &&LiveFile| table.column_family_name == cf.name();
        let flat = tables.iter().filter(of).any(|table| table.level == 0);
        if flat && tables.iter().filter(of).count() > 1 {
            let mut rows = db.raw_iterator_cf(family);
            rows.seek_to_first();
            rows.status()?;
        }
    }
    Ok(())
}

/// Appends to a manifest that a table is no more. (RocksDB's `version_edit.h`: tag 6 is a deleted
/// file with its level and number, tag 200 the column family, all as varints.)
fn hide(manifest: &Path, table: &LiveFile, families: &[String]) -> Result<(), RecordError> {
    let failed = |error: io::Error| RecordError::file(manifest, error);
    let damaged = || RecordError::file(manifest, format!("{} has no number", table.name));
    let name = table.name.trim_start_matches('/');
    let number: u64 =
        name.strip_suffix(".sst").and_then(|number| number.parse().ok()).ok_or_else(damaged)?;
    // `list_cf` gives them in the order of their ids, and none is ever dropped.
    let family = families.iter().position(|family| *family == table.column_family_name);
    let family = family.ok_or_else(damaged)? as u64;
    let level = u64::try_from(table.level).map_err(|_| damaged())?;
    let mut edit = Vec::new();
    for part in [6, level, number, 200, family] {
        prost::encoding::encode_varint(part, &mut edit);
    }
    let mut bytes = fs::read(manifest).map_err(failed)?;
    wal::append(&mut bytes, &edit);
    fs::write(manifest, bytes).map_err(failed)
}

/// Without a manifest: RocksDB's own repair makes a new one, in the scratch directory, from the
/// tables that can be read to their end, and from the logs.
fn rebuild(dir: &Path, store: &Path, lacks: &mut Vec<String>) -> Result<DB, RecordError> {
    let io_failed = |error: io::Error| RecordError::file(store, error);
    for name in [Some("CURRENT".to_owned()), names(dir, "MANIFEST-").map_err(io_failed)?.pop()] {
        let _ = name.map(|name| fs::remove_file(dir.join(name)));
    }
    seed(dir).map_err(|error| RecordError::file(store, error))?;
    let mut options = Options::default();
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    DB::repair(&options, dir).map_err(|error| RecordError::store(store, "salvage", &error))?;
    for name in names(&dir.join("lost"), "").unwrap_or_default() {
        if name.ends_with(".sst") {
            lacks.push(format!("{name}: cannot be read to its end, so that nothing in it is"));
        }
    }
    let db = read_only(dir, false).map_err(|error| RecordError::store(store, "salvage", &error))?;
    lacks.push("what is left was put together from the tables and logs alone".to_owned());
    Ok(db)
}

/// A table for each column family: the logs name families by number only, and repair learns
/// which family has which number from tables. Families have the numbers that a new store gives
/// them, in the order of `Cf::ALL`. Each table holds the deletion of a key that no row has.
fn seed(dir: &Path) -> io::Result<()> {
    let fresh = private_dir()?;
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let families = Cf::ALL.map(|cf| (cf.name(), Options::default()));
    let db = DB::open_cf_with_opts(&options, fresh.path(), families).map_err(io::Error::other)?;
    for family in Cf::ALL.iter().filter_map(|cf| db.cf_handle(cf.name())) {
        db.delete_cf(family, b"").map_err(io::Error::other)?;
        db.flush_cf(family).map_err(io::Error::other)?;
    }
    drop(db);
    let tables = names(fresh.path(), "")?;
    for (n, name) in tables.iter().filter(|name| name.ends_with(".sst")).enumerate() {
        // Numbers that no table of a store reaches.
        fs::copy(fresh.path().join(name), dir.join(format!("{}.sst", SEEDS + n)))?;
    }
    Ok(())
}

const SEEDS: usize = 900_000_000_000;

fn names(dir: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string().ok().filter(|name| name.starts_with(prefix)));
    }
    Ok(names)
}

/// Opens past damage in the write-ahead log; `tables`: every table must open.
fn read_only(dir: &Path, tables: bool) -> Result<DB, rocksdb::Error> {
    let mut options = store::options();
    options.set_paranoid_checks(tables);
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    let families = Cf::ALL.map(|cf| {
        let mut options = store::family(cf);
        options.set_paranoid_checks(tables);
        (cf.name(), options)
    });
    DB::open_cf_with_opts_for_read_only(&options, dir, families, false)
}

/// An error about the scratch directory, said of the store.
fn own_words(error: &rocksdb::Error, scratch: &Path, store: &Path) -> String {
    let text = error.to_string();
    text.replace(&*scratch.to_string_lossy(), &store.to_string_lossy())
}
