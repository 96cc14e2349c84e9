//! The embedded store: RocksDB behind a single writer with group commit.
//!
//! Column families: `meta` (format), `approvals` (id -> record, JSON),
//! `requests` and `bodies` (id -> what was asked), `live` (id -> host), `fold`
//! (fold key -> id), `tokens`, `members`, `kept` (kind, 0, key -> bytes), `audit` (number ->
//! record), `tasks` (id -> task), `steps` (owner's key and id of each live step).

use super::change::{Command, Jobs, Table, kept_key, parse};
use super::{
    Ask, Asked, Declared, JoinToken, Keep, Kind, Member, Owner, Store, StoreError, Submission,
    Submitted, Wanted,
};
use crate::approval::identity::Subject;
use crate::server::audit::{Entry, Head};
use crate::server::model::{Millis, Record};
use bytes::Bytes;
use enforcer_proto::v1;
use prost::Message as _;
use rocksdb::{ColumnFamilyDescriptor, DB, Direction, ErrorKind, IteratorMode, Options};
use serde::de::DeserializeOwned;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

mod writer;

use writer::Writer;

const FORMAT: &[u8] = b"1";

const META: &str = "meta";
const AUDIT: &str = "audit";

/// The embedded store.
pub struct Rocks {
    db: Arc<Db>,
    jobs: Option<Jobs>,
    writer: Option<std::thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Rocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rocks").finish_non_exhaustive()
    }
}

impl Rocks {
    /// Opens the store, and makes it when it is not there.
    ///
    /// # Errors
    /// When it is in use, of another format, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let db = Arc::new(Db::open(dir)?);
        let head = db.head()?;
        let (jobs, mut queue) = Jobs::new(head.time);
        let mut writer = Writer::new(Arc::clone(&db), head)?;
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || {
                while let Some(group) = queue.blocking_group() {
                    writer.commit(group);
                }
            })
            .map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(Self { db, jobs: Some(jobs), writer: Some(thread) })
    }

    fn jobs(&self) -> Result<&Jobs, StoreError> {
        self.jobs.as_ref().ok_or_else(|| StoreError::Failed("it is closed".to_owned()))
    }

    async fn scan<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Db) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = Arc::clone(&self.db);
        tokio::task::spawn_blocking(move || work(&db))
            .await
            .map_err(|error| StoreError::Failed(error.to_string()))?
    }
}

impl Drop for Rocks {
    /// Waits for the writer, so that the store can be opened again at once.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

#[tonic::async_trait]
impl Store for Rocks {
    async fn ask(&self, ask: Ask, now: Millis) -> Result<Asked, StoreError> {
        self.jobs()?.ask(ask, now).await
    }

    async fn get(&self, id: Uuid) -> Result<Option<Record>, StoreError> {
        self.db.json(Table::Approvals, id.as_bytes())
    }

    async fn request(
        &self,
        id: Uuid,
        body: bool,
    ) -> Result<Option<v1::ApprovalRequest>, StoreError> {
        let Some(stored) = self.db.get(Table::Requests.name(), id.as_bytes())? else {
            return Ok(None);
        };
        let mut request = v1::ApprovalRequest::decode(&stored[..])
            .map_err(|_| StoreError::Corrupt(format!("request {id}")))?;
        if body {
            request.body =
                self.db.get(Table::Bodies.name(), id.as_bytes())?.unwrap_or_default().into();
        }
        Ok(Some(request))
    }

    async fn update(
        &self,
        next: Record,
        revision: u64,
        by: Option<Subject>,
        audit: Vec<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let next = Box::new(next);
        self.jobs()?.whether(Command::Update { next, revision, by, audit }, now).await
    }

    async fn live(&self, host: Option<&str>) -> Result<Vec<Record>, StoreError> {
        let host = host.map(str::to_owned);
        self.scan(move |db| db.live(host.as_deref())).await
    }

    async fn list(&self, limit: usize, wanted: Wanted) -> Result<Vec<Record>, StoreError> {
        self.scan(move |db| db.list(limit, &wanted)).await
    }

    async fn submit(&self, submission: Submission, now: Millis) -> Result<Submitted, StoreError> {
        self.jobs()?.submit(submission, now).await
    }

    async fn task(&self, id: Uuid) -> Result<Option<Declared>, StoreError> {
        self.db.json(Table::Tasks, id.as_bytes())
    }

    async fn tasks(&self, limit: usize, of: Option<Owner>) -> Result<Vec<Declared>, StoreError> {
        self.scan(move |db| db.tasks(limit, of.as_ref())).await
    }

    async fn steps(&self, of: &Owner) -> Result<Vec<Record>, StoreError> {
        self.db.steps(of)
    }

    async fn add_token(
        &self,
        token: JoinToken,
        audit: Entry,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.jobs()?.just(Command::AddToken { token, audit }, now).await
    }

    async fn token(&self, id: &str) -> Result<Option<JoinToken>, StoreError> {
        self.db.json(Table::Tokens, id.as_bytes())
    }

    async fn forget_tokens(&self, audit: Entry, now: Millis) -> Result<(), StoreError> {
        self.jobs()?.just(Command::ForgetTokens { audit }, now).await
    }

    async fn redeem(
        &self,
        id: &str,
        member: Member,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.jobs()?.whether(Command::Redeem { id, member, audit }, now).await
    }

    async fn remove(
        &self,
        subject: &Subject,
        audit: Entry,
        now: Millis,
    ) -> Result<Option<u32>, StoreError> {
        self.jobs()?.remove(subject, audit, now).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.scan(|db| db.all(Table::Members)).await
    }

    async fn member(&self, subject: &Subject) -> Result<Option<Member>, StoreError> {
        self.db.json(Table::Members, subject.to_string().as_bytes())
    }

    async fn admit(
        &self,
        member: Member,
        restores: bool,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        self.jobs()?.whether(Command::Admit { member, restores, audit }, now).await
    }

    async fn kept(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.db.get(Table::Kept.name(), &kept_key(kind, key))
    }

    async fn all_kept(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.scan(move |db| db.all_kept(kind)).await
    }

    async fn keep(
        &self,
        change: Keep,
        audit: Option<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        self.jobs()?.whether(Command::Keep { change, audit }, now).await
    }

    async fn note(&self, audit: Entry, now: Millis) -> Result<(), StoreError> {
        self.jobs()?.just(Command::Note { audit }, now).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<v1::AuditRecord>, StoreError> {
        self.scan(move |db| db.audit(after, limit)).await
    }

    fn last_time(&self) -> Millis {
        self.jobs.as_ref().map_or(0, Jobs::last_time)
    }
}

/// The database, read.
struct Db(DB);

impl Db {
    fn open(dir: &Path) -> Result<Self, StoreError> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| StoreError::Failed(format!("{}: {error}", dir.display())))?;
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_keep_log_file_num(4);
        let families = Table::ALL.map(Table::name).into_iter().chain([META, AUDIT]);
        let families = families.map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
        let db = DB::open_cf_descriptors(&options, dir, families).map_err(|error| {
            let text = error.to_string();
            match error.kind() {
                // The lock file's error carries no kind of its own.
                ErrorKind::IOError if text.to_lowercase().contains("lock") => {
                    StoreError::Locked(text)
                }
                _ => StoreError::Failed(text),
            }
        })?;
        let db = Self(db);
        match db.get(META, b"format")? {
            None => db.0.put_cf(db.family(META)?, b"format", FORMAT).map_err(failed)?,
            Some(format) if format == FORMAT => {}
            Some(format) => {
                return Err(StoreError::Format(String::from_utf8_lossy(&format).into_owned()));
            }
        }
        Ok(db)
    }

    fn family(&self, name: &str) -> Result<&rocksdb::ColumnFamily, StoreError> {
        self.0.cf_handle(name).ok_or_else(|| StoreError::Corrupt(name.to_owned()))
    }

    fn get(&self, family: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.get_cf(self.family(family)?, key).map_err(failed)
    }

    fn json<T: DeserializeOwned>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get(table.name(), key)?.map(|stored| parse(table, key, &stored)).transpose()
    }

    fn head(&self) -> Result<Head, StoreError> {
        let mut all = self.0.iterator_cf(self.family(AUDIT)?, IteratorMode::End);
        match all.next().transpose().map_err(failed)? {
            None => Ok(Head::start()),
            Some((key, stored)) => Head::after(&stored)
                .map_err(|_| StoreError::Corrupt(format!("audit {}", hex::encode(key)))),
        }
    }

    fn live(&self, host: Option<&str>) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for entry in self.0.iterator_cf(self.family(Table::Live.name())?, IteratorMode::Start) {
            let (id, of) = entry.map_err(failed)?;
            if host.is_none_or(|host| host.as_bytes() == &of[..]) {
                let record = self.json(Table::Approvals, &id)?;
                let missing = || StoreError::Corrupt(format!("approval {}", hex::encode(&id)));
                records.push(record.ok_or_else(missing)?);
            }
        }
        Ok(records)
    }

    fn list(&self, limit: usize, wanted: &Wanted) -> Result<Vec<Record>, StoreError> {
        let mut records = Vec::new();
        for entry in self.0.iterator_cf(self.family(Table::Approvals.name())?, IteratorMode::End) {
            if records.len() >= limit {
                break;
            }
            let (id, stored) = entry.map_err(failed)?;
            let record: Record = parse(Table::Approvals, &id, &stored)?;
            if wanted(&record) {
                records.push(record);
            }
        }
        Ok(records)
    }

    fn tasks(&self, limit: usize, of: Option<&Owner>) -> Result<Vec<Declared>, StoreError> {
        let mut tasks = Vec::new();
        for entry in self.0.iterator_cf(self.family(Table::Tasks.name())?, IteratorMode::End) {
            if tasks.len() >= limit {
                break;
            }
            let (id, stored) = entry.map_err(failed)?;
            let task: Declared = parse(Table::Tasks, &id, &stored)?;
            if of.is_none_or(|owner| *owner == task.owner) {
                tasks.push(task);
            }
        }
        Ok(tasks)
    }

    fn steps(&self, of: &Owner) -> Result<Vec<Record>, StoreError> {
        let prefix = of.key();
        let mut steps = Vec::new();
        let from = IteratorMode::From(&prefix, Direction::Forward);
        for entry in self.0.iterator_cf(self.family(Table::Steps.name())?, from) {
            let (key, _) = entry.map_err(failed)?;
            let Some(id) = key.strip_prefix(&prefix[..]) else {
                break;
            };
            let missing = || StoreError::Corrupt(format!("step {}", hex::encode(id)));
            steps.push(self.json(Table::Approvals, id)?.ok_or_else(missing)?);
        }
        Ok(steps)
    }

    fn rows(&self, table: Table) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        self.0
            .iterator_cf(self.family(table.name())?, IteratorMode::Start)
            .map(|entry| entry.map(|(key, value)| (key.into_vec(), value.into())).map_err(failed))
            .collect()
    }

    fn all<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<T>, StoreError> {
        self.rows(table)?.into_iter().map(|(key, stored)| parse(table, &key, &stored)).collect()
    }

    fn all_kept(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = kept_key(kind, "");
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        let mut all = Vec::new();
        for entry in self.0.iterator_cf(self.family(Table::Kept.name())?, mode) {
            let (key, stored) = entry.map_err(failed)?;
            let Some(name) = key.strip_prefix(&prefix[..]) else { break };
            let name = String::from_utf8(name.to_vec())
                .map_err(|_| StoreError::Corrupt(format!("kept {}", hex::encode(&key))))?;
            all.push((name, stored.into_vec()));
        }
        Ok(all)
    }

    fn audit(&self, after: u64, limit: usize) -> Result<Vec<v1::AuditRecord>, StoreError> {
        let from = after.saturating_add(1).to_be_bytes();
        let mode = IteratorMode::From(&from, Direction::Forward);
        self.0
            .iterator_cf(self.family(AUDIT)?, mode)
            .take(limit)
            .map(|entry| {
                let (key, stored) = entry.map_err(failed)?;
                v1::AuditRecord::decode(&stored[..])
                    .map_err(|_| StoreError::Corrupt(format!("audit {}", hex::encode(key))))
            })
            .collect()
    }
}

fn failed(error: rocksdb::Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
