//! PostgreSQL, which several servers (replicas) share: all state is in it, and what one changes
//! the others hear of at once.
//!
//! Its failures are each call's own: the caller hears an error, which denies, and the next call
//! may work. No call waits for long.

use super::change::{Command, Jobs, Table, kept_key, parse};
use super::{
    Ask, Asked, Declared, JoinToken, Keep, Kind, Member, News, Owner, Store, StoreError,
    Submission, Submitted, Wanted,
};
use crate::approval::identity::Subject;
use crate::server::audit::Entry;
use crate::server::clock;
use crate::server::config;
use crate::server::model::{Millis, Record};
use deadpool_postgres::{Pool, PoolError};
use enforcer_proto::v1;
use prost::Message as _;
use serde::de::DeserializeOwned;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

mod link;
mod listen;
mod schema;
mod writer;

use link::Link;

/// A connection with its prepared statements.
type Client = deadpool_postgres::ClientWrapper;

/// Time for one call of the database. More than what it gives itself for a statement.
const CALL: Duration = Duration::from_secs(8);

/// Rows in one piece of a long list.
const PAGE: i64 = 256;

/// The shared store.
pub struct Postgres {
    link: Link,
    readers: Pool,
    jobs: Jobs,
    /// Which replica this is, for its own news.
    origin: String,
    ahead: Arc<AtomicI64>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// A key that all replicas have alike. The database keeps what names it, never the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// The CA, by its certificate's fingerprint.
    Ca,
    /// The policy key, by its public half.
    Policy,
}

impl Shared {
    fn word(self) -> &'static str {
        match self {
            Self::Ca => "ca",
            Self::Policy => "policy-key",
        }
    }

    /// The files it is in.
    pub fn files(self) -> &'static str {
        match self {
            Self::Ca => "ca.pem and ca.key",
            Self::Policy => "policy.key",
        }
    }
}

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ca => "CA",
            Self::Policy => "policy key",
        })
    }
}

impl Postgres {
    /// Connects, and makes the tables when they are not there.
    ///
    /// # Errors
    /// When the configuration cannot be used, or the database not be reached, or it holds what
    /// another version made, or its clock is far from this machine's.
    pub async fn open(url: &str, config: &config::Store) -> Result<Self, StoreError> {
        let link = Link::load(url, config)?;
        let pool = link.pool(1)?;
        let mut client = pool.get().await.map_err(pooled)?;
        let head = schema::open(&mut client).await?;
        let time: Millis = client.query_one(listen::TIME, &[]).await.map_err(failed)?.get(0);
        drop(client);
        let ahead = clock::wall().saturating_sub(time);
        if ahead.saturating_abs() > clock::BOUND {
            return Err(StoreError::Failed(format!(
                "this machine's clock is {} s from its database's: put it right first",
                ahead / 1000
            )));
        }
        let origin = Uuid::new_v4().simple().to_string();
        // Whatever a replica with another clock wrote: time does not begin far ahead of it.
        let (jobs, queue) = Jobs::new(head.time.min(time.saturating_add(clock::BOUND)));
        tokio::spawn(writer::Writer::new(pool, origin.clone()).run(queue));
        let readers = link.pool(config.connections)?;
        let ahead = Arc::new(AtomicI64::new(ahead));
        Ok(Self { link, readers, jobs, origin, ahead })
    }

    /// What names this key of all replicas; `None` before the first one is there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn shared(&self, key: Shared) -> Result<Option<Vec<u8>>, StoreError> {
        let get = "SELECT value FROM enforcer.meta WHERE key = $1";
        let rows = self.query(get, &[&key.word()]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Sets what names this key of all replicas, unless it is set; gives the one that is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn share(&self, key: Shared, named: &[u8]) -> Result<Vec<u8>, StoreError> {
        let set = "INSERT INTO enforcer.meta VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        self.query(set, &[&key.word(), &named]).await?;
        let set = self.shared(key).await?;
        set.ok_or_else(|| StoreError::Corrupt(format!("{} (enforcer.meta)", key.word())))
    }

    async fn query(&self, sql: &str, what: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, StoreError> {
        let client = self.readers.get().await.map_err(pooled)?;
        let asked = async {
            let statement = client.prepare_cached(sql).await?;
            client.query(&statement, what).await
        };
        match tokio::time::timeout(CALL, asked).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => {
                // What it is waiting for would come to the next one who uses it.
                drop(deadpool_postgres::Object::take(client));
                Err(timed_out())
            }
        }
    }

    async fn value(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let sql = format!("SELECT value FROM enforcer.{} WHERE key = $1", table.name());
        Ok(self.query(&sql, &[&key]).await?.first().map(|row| row.get(0)))
    }

    async fn json<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.value(table, key).await?.map(|stored| parse(table, key, &stored)).transpose()
    }

    /// At most so many wanted ones, from the greatest key down.
    async fn newest<T: DeserializeOwned>(
        &self,
        table: Table,
        limit: usize,
        wanted: impl Fn(&T) -> bool,
    ) -> Result<Vec<T>, StoreError> {
        let sql = format!(
            "SELECT key, value FROM enforcer.{} WHERE key < $1 ORDER BY key DESC LIMIT $2",
            table.name()
        );
        let mut found = Vec::new();
        // Greater than any id.
        let mut before = vec![0xff_u8; 17];
        while found.len() < limit {
            let rows = self.query(&sql, &[&before, &PAGE]).await?;
            let Some(last) = rows.last() else { break };
            before = last.get(0);
            for row in &rows {
                let value = parse(table, row.get(0), row.get(1))?;
                if found.len() < limit && wanted(&value) {
                    found.push(value);
                }
            }
        }
        Ok(found)
    }
}

/// Rows of a key and a record, which must be there.
fn records(rows: &[Row]) -> Result<Vec<Record>, StoreError> {
    rows.iter()
        .map(|row| {
            let key: &[u8] = row.get(0);
            let missing = || StoreError::Corrupt(format!("approval {}", hex::encode(key)));
            parse(Table::Approvals, key, row.get::<_, Option<&[u8]>>(1).ok_or_else(missing)?)
        })
        .collect()
}

/// What the database said, which its errors' own text leaves out.
fn said(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => format!("{}: {} ({})", error, said.message(), said.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

fn failed(error: tokio_postgres::Error) -> StoreError {
    StoreError::Failed(format!("PostgreSQL: {}", said(&error)))
}

fn pooled(error: PoolError) -> StoreError {
    match error {
        PoolError::Backend(error) => failed(error),
        other => StoreError::Failed(format!("PostgreSQL cannot be reached: {other}")),
    }
}

fn timed_out() -> StoreError {
    StoreError::Failed("PostgreSQL did not answer in time".to_owned())
}

#[tonic::async_trait]
impl Store for Postgres {
    async fn ask(&self, ask: Ask, now: Millis) -> Result<Asked, StoreError> {
        self.jobs.ask(ask, now).await
    }

    async fn get(&self, id: Uuid) -> Result<Option<Record>, StoreError> {
        self.json(Table::Approvals, id.as_bytes()).await
    }

    async fn request(
        &self,
        id: Uuid,
        body: bool,
    ) -> Result<Option<v1::ApprovalRequest>, StoreError> {
        let Some(stored) = self.value(Table::Requests, id.as_bytes()).await? else {
            return Ok(None);
        };
        let mut request = v1::ApprovalRequest::decode(&stored[..])
            .map_err(|_| StoreError::Corrupt(format!("request {id}")))?;
        if body {
            let body = self.value(Table::Bodies, id.as_bytes()).await?;
            request.body = body.unwrap_or_default().into();
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
        self.jobs.whether(Command::Update { next, revision, by, audit }, now).await
    }

    async fn live(&self, host: Option<&str>) -> Result<Vec<Record>, StoreError> {
        let sql = "SELECT live.key, approvals.value \
                   FROM enforcer.live LEFT JOIN enforcer.approvals USING (key) \
                   WHERE $1::bytea IS NULL OR live.value = $1 ORDER BY live.key";
        records(&self.query(sql, &[&host.map(str::as_bytes)]).await?)
    }

    async fn list(&self, limit: usize, wanted: Wanted) -> Result<Vec<Record>, StoreError> {
        self.newest(Table::Approvals, limit, wanted).await
    }

    async fn submit(&self, submission: Submission, now: Millis) -> Result<Submitted, StoreError> {
        self.jobs.submit(submission, now).await
    }

    async fn task(&self, id: Uuid) -> Result<Option<Declared>, StoreError> {
        self.json(Table::Tasks, id.as_bytes()).await
    }

    async fn tasks(&self, limit: usize, of: Option<Owner>) -> Result<Vec<Declared>, StoreError> {
        let wanted = move |task: &Declared| of.as_ref().is_none_or(|of| *of == task.owner);
        self.newest(Table::Tasks, limit, wanted).await
    }

    async fn steps(&self, of: &Owner) -> Result<Vec<Record>, StoreError> {
        // An owner's key has 32 bytes, then comes the id.
        let sql = "SELECT substring(steps.key FROM 33), approvals.value \
                   FROM enforcer.steps LEFT JOIN enforcer.approvals \
                   ON approvals.key = substring(steps.key FROM 33) \
                   WHERE steps.key >= $1 AND steps.key < $2 ORDER BY steps.key";
        let from = of.key();
        let to = [&from[..], &[0xff; 17]].concat();
        records(&self.query(sql, &[&&from[..], &to]).await?)
    }

    async fn add_token(
        &self,
        token: JoinToken,
        audit: Entry,
        now: Millis,
    ) -> Result<(), StoreError> {
        self.jobs.just(Command::AddToken { token, audit }, now).await
    }

    async fn token(&self, id: &str) -> Result<Option<JoinToken>, StoreError> {
        self.json(Table::Tokens, id.as_bytes()).await
    }

    async fn forget_tokens(&self, audit: Entry, now: Millis) -> Result<(), StoreError> {
        self.jobs.just(Command::ForgetTokens { audit }, now).await
    }

    async fn redeem(
        &self,
        id: &str,
        member: Member,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.jobs.whether(Command::Redeem { id, member, audit }, now).await
    }

    async fn remove(
        &self,
        subject: &Subject,
        audit: Entry,
        now: Millis,
    ) -> Result<Option<u32>, StoreError> {
        self.jobs.remove(subject, audit, now).await
    }

    async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let rows = self.query("SELECT key, value FROM enforcer.members ORDER BY key", &[]).await?;
        rows.iter().map(|row| parse(Table::Members, row.get(0), row.get(1))).collect()
    }

    async fn member(&self, subject: &Subject) -> Result<Option<Member>, StoreError> {
        self.json(Table::Members, subject.to_string().as_bytes()).await
    }

    async fn admit(
        &self,
        member: Member,
        restores: bool,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        self.jobs.whether(Command::Admit { member, restores, audit }, now).await
    }

    async fn kept(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.value(Table::Kept, &kept_key(kind, key)).await
    }

    async fn all_kept(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let sql = "SELECT key, value FROM enforcer.kept WHERE key >= $1 AND key < $2 ORDER BY key";
        // The kind's word ends with a zero byte: with a one come those after it.
        let from = kept_key(kind, "");
        let to = [kind.as_str().as_bytes(), &[1]].concat();
        let rows = self.query(sql, &[&from, &to]).await?;
        rows.iter()
            .map(|row| {
                let key: &[u8] = row.get(0);
                let name = key.get(from.len()..).map(<[u8]>::to_vec).unwrap_or_default();
                let name = String::from_utf8(name)
                    .map_err(|_| StoreError::Corrupt(format!("kept {}", hex::encode(key))))?;
                Ok((name, row.get(1)))
            })
            .collect()
    }

    async fn keep(
        &self,
        change: Keep,
        audit: Option<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        self.jobs.whether(Command::Keep { change, audit }, now).await
    }

    async fn note(&self, audit: Entry, now: Millis) -> Result<(), StoreError> {
        self.jobs.just(Command::Note { audit }, now).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<v1::AuditRecord>, StoreError> {
        let sql = "SELECT seq, value FROM enforcer.audit WHERE seq > $1 ORDER BY seq LIMIT $2";
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.query(sql, &[&after, &limit]).await?;
        rows.iter()
            .map(|row| {
                v1::AuditRecord::decode(row.get::<_, &[u8]>(1))
                    .map_err(|_| StoreError::Corrupt(format!("audit {}", row.get::<_, i64>(0))))
            })
            .collect()
    }

    fn last_time(&self) -> Millis {
        self.jobs.last_time()
    }

    fn news(&self) -> Option<mpsc::Receiver<News>> {
        Some(listen::start(self.link.clone(), self.origin.clone(), Arc::clone(&self.ahead)))
    }

    fn ahead(&self) -> Option<Millis> {
        Some(self.ahead.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
