//! The writer of one replica: takes commands in order and commits a group in one transaction,
//! which locks the end of the audit's chain first. So the changes of all replicas come one after
//! another, and each sees everything that was committed before it.
//!
//! Where it is not known whether a COMMIT arrived, the callers hear an error, and nothing is tried
//! again. Before COMMIT was sent nothing can have happened, and a lost connection or a deadlock is
//! tried again a few times.

use super::schema::{head, number};
use super::{CALL, Client, Pool, failed, pooled, said, timed_out};
use crate::server::store::change::{
    Batch, Changes, Command, Done, Job, Queue, Rows, Table, Waiting, kept_key,
};
use crate::server::store::{News, StoreError};
use bytes::Bytes;
use deadpool_postgres::Transaction;
use futures_util::future::{join, try_join_all};
use std::collections::{HashMap, HashSet};
use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

/// How often a group is tried.
const TRIES: usize = 5;

/// The channel that replicas hear each other on.
pub(super) const CHANNEL: &str = "enforcer";

pub(super) struct Writer {
    /// One connection.
    pool: Pool,
    /// What this replica's own news begin with.
    origin: String,
}

/// A group was not committed, as far as is known.
enum Failure {
    /// Nothing was, and it may work at once.
    Again(StoreError),
    /// Nothing was, and it is a command's own fault.
    Alone(StoreError),
    /// That is all.
    Over(StoreError),
}

fn passing(error: &tokio_postgres::Error) -> bool {
    let again = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::ADMIN_SHUTDOWN,
    ];
    error.is_closed() || error.code().is_some_and(|code| again.contains(code))
}

/// Before COMMIT was sent.
fn before(error: tokio_postgres::Error) -> Failure {
    match passing(&error) {
        true => Failure::Again(failed(error)),
        false => Failure::Over(failed(error)),
    }
}

impl Writer {
    pub(super) fn new(pool: Pool, origin: String) -> Self {
        Self { pool, origin }
    }

    pub(super) async fn run(self, mut queue: Queue) {
        while let Some(mut group) = queue.group().await {
            // Who does not wait any more takes nothing.
            group.retain(|job| !job.reply.is_closed());
            if !group.is_empty() {
                self.commit(group).await;
            }
        }
    }

    async fn commit(&self, group: Vec<Job>) {
        match self.done(&group).await {
            Ok(done) => answer(group, Ok(done)),
            Err(Failure::Alone(_)) if group.len() > 1 => {
                for job in group {
                    let done = self.done(std::slice::from_ref(&job)).await;
                    answer(vec![job], done.map_err(Failure::into_error));
                }
            }
            Err(failure) => answer(group, Err(failure.into_error())),
        }
    }

    async fn done(&self, group: &[Job]) -> Result<Vec<Done>, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.once(group).await {
                Err(Failure::Again(error)) if tries < TRIES => {
                    tracing::warn!(%error, "a change is tried again");
                }
                done => return done,
            }
        }
    }

    async fn once(&self, group: &[Job]) -> Result<Vec<Done>, Failure> {
        let mut client = self.pool.get().await.map_err(|error| Failure::Over(pooled(error)))?;
        let done = tokio::time::timeout(CALL, transact(&mut client, &self.origin, group)).await;
        let done = done.unwrap_or_else(|_| Err(Failure::Over(timed_out())));
        if done.is_err() {
            // Closed and not used again: nobody knows what it is in the middle of.
            drop(deadpool_postgres::Object::take(client));
        }
        done
    }
}

impl Failure {
    fn into_error(self) -> StoreError {
        match self {
            Self::Again(error) | Self::Alone(error) | Self::Over(error) => error,
        }
    }
}

fn answer(group: Vec<Job>, done: Result<Vec<Done>, StoreError>) {
    let mut done = done.map(Vec::into_iter);
    for job in group {
        let answer = match &mut done {
            Ok(done) => done.next().ok_or_else(|| StoreError::Failed("no answer".to_owned())),
            Err(error) => Err(error.clone()),
        };
        drop(job.reply.send(answer));
    }
}

async fn transact(client: &mut Client, origin: &str, group: &[Job]) -> Result<Vec<Done>, Failure> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let transaction = transaction.start().await.map_err(before)?;
    // Each statement sees what was committed before it: those after this one, everything.
    let tip = lock(&transaction).await.map_err(before)?;
    let tip = head(tip.as_ref()).map_err(Failure::Over)?;
    let read = read_ahead(&transaction, group).await.map_err(before)?;
    let counted = HashMap::new();
    let mut rows = Present { transaction: &transaction, read, counted, passing: None };
    let mut batch = Batch::new(&mut rows, tip);
    let mut done = Vec::with_capacity(group.len());
    for job in group {
        match batch.apply(job).await {
            Ok(one) => done.push(one),
            Err(error) => {
                drop(batch);
                return Err(match rows.passing {
                    None => Failure::Alone(error),
                    Some(true) => Failure::Again(error),
                    Some(false) => Failure::Over(error),
                });
            }
        }
    }
    let changes = batch.into_changes();
    write(&transaction, origin, &changes).await?;
    transaction.commit().await.map_err(|error| {
        // Of these two the database says itself that nothing was committed.
        let undone = [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED];
        if error.code().is_some_and(|code| undone.contains(code)) {
            return Failure::Again(failed(error));
        }
        let what = format!("it is not known whether a change was committed: {}", said(&error));
        Failure::Over(StoreError::Failed(what))
    })?;
    Ok(done)
}

/// Waits until nobody else changes anything. What is answered was written, whatever the
/// database's own default.
async fn lock(
    transaction: &Transaction<'_>,
) -> Result<Option<tokio_postgres::Row>, tokio_postgres::Error> {
    let durable = "SELECT set_config('synchronous_commit', 'on', true) \
                   WHERE current_setting('synchronous_commit') = 'off'";
    let tip = "SELECT next, hash, time FROM enforcer.tip FOR UPDATE";
    let durable = transaction.prepare_cached(durable).await?;
    let tip = transaction.prepare_cached(tip).await?;
    let (durable, tip) =
        join(transaction.execute(&durable, &[]), transaction.query_opt(&tip, &[])).await;
    durable?;
    tip
}

/// The rows that these commands certainly look at, read at once.
async fn read_ahead(
    transaction: &Transaction<'_>,
    group: &[Job],
) -> Result<HashMap<(Table, Vec<u8>), Option<Bytes>>, tokio_postgres::Error> {
    let mut wanted: HashMap<Table, HashSet<Vec<u8>>> = HashMap::new();
    for (table, key) in group.iter().flat_map(|job| keys(&job.command)) {
        wanted.entry(table).or_default().insert(key);
    }
    let read = wanted.into_iter().map(|(table, keys)| async move {
        let keys: Vec<Vec<u8>> = keys.into_iter().collect();
        let sql = format!("SELECT key, value FROM enforcer.{} WHERE key = ANY($1)", table.name());
        let rows = transaction.query(&transaction.prepare_cached(&sql).await?, &[&keys]).await?;
        let missing = keys.into_iter().map(move |key| ((table, key), None));
        let found = rows.into_iter().map(move |row| ((table, row.get(0)), Some(bytes(&row, 1))));
        Ok::<_, tokio_postgres::Error>(missing.chain(found))
    });
    Ok(try_join_all(read).await?.into_iter().flatten().collect())
}

fn keys(command: &Command) -> Vec<(Table, Vec<u8>)> {
    let member = |name: String| (Table::Members, name.into_bytes());
    match command {
        Command::Ask(ask) => {
            let by = ask.by.as_ref().map(|by| member(by.to_string()));
            by.into_iter().chain([(Table::Fold, ask.fold.to_vec())]).collect()
        }
        Command::Submit(task) => {
            vec![member(task.by.to_string()), (Table::Fold, task.fold.to_vec())]
        }
        Command::Update { next, by, .. } => {
            let by = by.as_ref().map(|by| member(by.to_string()));
            by.into_iter().chain([(Table::Approvals, next.id.as_bytes().to_vec())]).collect()
        }
        Command::Redeem { id, member: of, .. } => vec![
            (Table::Tokens, id.clone().into_bytes()),
            member(format!("{}/{}", of.role.as_str(), of.name)),
        ],
        Command::Remove { subject, .. } => vec![member(subject.to_string())],
        Command::Admit { member: of, .. } => {
            vec![member(format!("{}/{}", of.role.as_str(), of.name))]
        }
        Command::Keep { change, .. } => {
            vec![(Table::Kept, kept_key(change.kind, &change.key))]
        }
        Command::AddToken { .. } | Command::ForgetTokens { .. } | Command::Note { .. } => {
            Vec::new()
        }
    }
}

fn bytes(row: &tokio_postgres::Row, column: usize) -> Bytes {
    Bytes::copy_from_slice(row.get(column))
}

/// What is there, as this transaction sees it.
struct Present<'a> {
    transaction: &'a Transaction<'a>,
    read: HashMap<(Table, Vec<u8>), Option<Bytes>>,
    counted: HashMap<Waiting, usize>,
    /// The database failed, and whether that may pass.
    passing: Option<bool>,
}

impl Present<'_> {
    async fn query(
        &mut self,
        sql: &str,
        what: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, StoreError> {
        let asked = async {
            let statement = self.transaction.prepare_cached(sql).await?;
            self.transaction.query(&statement, what).await
        };
        asked.await.map_err(|error| {
            self.passing = Some(passing(&error));
            failed(error)
        })
    }
}

impl Rows for Present<'_> {
    async fn row(&mut self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        if let Some(read) = self.read.get(&(table, key.to_vec())) {
            return Ok(read.clone());
        }
        let sql = format!("SELECT value FROM enforcer.{} WHERE key = $1", table.name());
        let found = self.query(&sql, &[&key]).await?.first().map(|row| bytes(row, 0));
        self.read.insert((table, key.to_vec()), found.clone());
        Ok(found)
    }

    async fn all(&mut self, table: Table) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        let sql = format!("SELECT key, value FROM enforcer.{}", table.name());
        let rows = self.query(&sql, &[]).await?;
        Ok(rows.into_iter().map(|row| (row.get(0), bytes(&row, 1))).collect())
    }

    async fn waiting(&mut self, of: &Waiting) -> Result<usize, StoreError> {
        if let Some(counted) = self.counted.get(of) {
            return Ok(*counted);
        }
        let (host, agent) = (of.0.as_bytes(), of.1.as_ref().map(String::as_bytes));
        let sql = "SELECT count(*) FROM enforcer.pending \
                   WHERE host = $1 AND ($2::bytea IS NULL OR agent = $2)";
        let rows = self.query(sql, &[&host, &agent]).await?;
        let counted = rows.first().map_or(0, |row| row.get::<_, i64>(0));
        let counted = usize::try_from(counted).unwrap_or(usize::MAX);
        self.counted.insert(of.clone(), counted);
        Ok(counted)
    }
}

/// A column of many rows.
type Column<'a> = Vec<&'a [u8]>;

/// Everything that the group changed, and the news of it, which the database gives the other
/// replicas when it is committed.
async fn write(
    transaction: &Transaction<'_>,
    origin: &str,
    changes: &Changes,
) -> Result<(), Failure> {
    let mut put: HashMap<Table, (Column<'_>, Column<'_>)> = HashMap::new();
    let mut delete: HashMap<Table, Column<'_>> = HashMap::new();
    for ((table, key), value) in &changes.rows {
        match value {
            Some(value) => {
                let (keys, values) = put.entry(*table).or_default();
                keys.push(key);
                values.push(value);
            }
            None => delete.entry(*table).or_default().push(key),
        }
    }
    for (table, (keys, values)) in put {
        let sql = format!(
            "INSERT INTO enforcer.{} SELECT * FROM unnest($1::bytea[], $2::bytea[]) \
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            table.name()
        );
        execute(transaction, &sql, &[&keys, &values]).await?;
    }
    for (table, keys) in delete {
        let sql = format!("DELETE FROM enforcer.{} WHERE key = ANY($1)", table.name());
        execute(transaction, &sql, &[&keys]).await?;
    }
    wait(transaction, changes).await?;
    let mut numbers = Vec::new();
    let mut records = Vec::new();
    for (seq, record) in &changes.audit {
        numbers.push(number(*seq).map_err(Failure::Over)?);
        records.push(&record[..]);
    }
    if !numbers.is_empty() {
        let sql = "INSERT INTO enforcer.audit SELECT * FROM unnest($1::bigint[], $2::bytea[])";
        execute(transaction, sql, &[&numbers, &records]).await?;
        let next = number(changes.head.next).map_err(Failure::Over)?;
        let sql = "UPDATE enforcer.tip SET next = $1, hash = $2, time = $3";
        execute(transaction, sql, &[&next, &&changes.head.hash[..], &changes.head.time]).await?;
    }
    let mut told = HashSet::new();
    let news = changes.news.iter().filter_map(|news| match news {
        News::Record(id) => Some(format!("{origin} record {id}")),
        News::Member(subject) => Some(format!("{origin} member {subject}")),
        News::Policy => Some(format!("{origin} policy *")),
        News::Missed => None,
    });
    let news: Vec<String> = news.filter(|text| told.insert(text.clone())).collect();
    if !news.is_empty() {
        let sql = "SELECT pg_notify($1, said) FROM unnest($2::text[]) AS said";
        execute(transaction, sql, &[&CHANNEL, &news]).await?;
    }
    Ok(())
}

async fn wait(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), Failure> {
    let mut waits: (Column<'_>, Column<'_>, Column<'_>) = Default::default();
    let mut over: Column<'_> = Vec::new();
    for (id, who) in &changes.waits {
        match who {
            Some((host, agent)) => {
                waits.0.push(id.as_bytes());
                waits.1.push(host.as_bytes());
                waits.2.push(agent.as_bytes());
            }
            None => over.push(id.as_bytes()),
        }
    }
    if !waits.0.is_empty() {
        let sql = "INSERT INTO enforcer.pending \
                   SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[]) \
                   ON CONFLICT (key) DO NOTHING";
        execute(transaction, sql, &[&waits.0, &waits.1, &waits.2]).await?;
    }
    if !over.is_empty() {
        execute(transaction, "DELETE FROM enforcer.pending WHERE key = ANY($1)", &[&over]).await?;
    }
    Ok(())
}

async fn execute(
    transaction: &Transaction<'_>,
    sql: &str,
    what: &[&(dyn ToSql + Sync)],
) -> Result<(), Failure> {
    let statement = transaction.prepare_cached(sql).await.map_err(before)?;
    transaction.execute(&statement, what).await.map(drop).map_err(before)
}
