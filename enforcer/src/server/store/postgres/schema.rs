//! The tables, made by the server itself. All of them are in the schema `enforcer`:
//!
//! - `meta`: the format, and the fingerprint of the CA that all replicas share;
//! - a table of `key` and `value` for each [`Table`], with the same bytes as in the embedded store;
//! - `pending`: who waits for people, to count them;
//! - `audit`: number -> record; `tip`: one row, the end of its chain. Who changes anything locks
//!   that row first, so that changes of all replicas come one after another.

use super::{Client, failed};
use crate::server::audit::Head;
use crate::server::store::StoreError;
use crate::server::store::change::Table;
use std::fmt::Write as _;
use tokio_postgres::IsolationLevel;

const FORMAT: &[u8] = b"1";

/// So that of replicas that start at once one makes the tables. Any number that nobody else uses.
const MAKING: i64 = 0x656e_666f_7263_6572;

/// Makes the tables when they are not there, and gives the end of the audit's chain.
///
/// # Errors
/// When the database does not answer, lets us not make them, or has those of another version.
pub(super) async fn open(client: &mut Client) -> Result<Head, StoreError> {
    let making = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
    let making = making.start().await.map_err(failed)?;
    making.execute("SELECT pg_advisory_xact_lock($1)", &[&MAKING]).await.map_err(failed)?;
    let there = "SELECT to_regclass('enforcer.meta') IS NOT NULL";
    if !making.query_one(there, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        // Whoever runs the database may have made the schema, and let us make none.
        let schema = "SELECT to_regnamespace('enforcer') IS NULL";
        if making.query_one(schema, &[]).await.map_err(failed)?.get(0) {
            making.batch_execute("CREATE SCHEMA enforcer").await.map_err(failed)?;
        }
        making.batch_execute(&tables()).await.map_err(failed)?;
        let format = "INSERT INTO enforcer.meta VALUES ('format', $1)";
        making.execute(format, &[&FORMAT]).await.map_err(failed)?;
        let Head { next, hash, time } = Head::start();
        let tip = "INSERT INTO enforcer.tip VALUES (true, $1, $2, $3)";
        making.execute(tip, &[&number(next)?, &&hash[..], &time]).await.map_err(failed)?;
    }
    let format = "SELECT value FROM enforcer.meta WHERE key = 'format'";
    let format = making.query_opt(format, &[]).await.map_err(failed)?;
    match format.as_ref().map(|row| row.get::<_, &[u8]>(0)) {
        Some(FORMAT) => {}
        other => {
            let other = String::from_utf8_lossy(other.unwrap_or(b"none")).into_owned();
            return Err(StoreError::Format(other));
        }
    }
    let tip = "SELECT next, hash, time FROM enforcer.tip";
    let tip = making.query_opt(tip, &[]).await.map_err(failed)?;
    let head = head(tip.as_ref())?;
    making.commit().await.map_err(failed)?;
    Ok(head)
}

/// The end of the chain, of its row.
pub(super) fn head(row: Option<&tokio_postgres::Row>) -> Result<Head, StoreError> {
    let bad = || StoreError::Corrupt("the end of the audit's chain (enforcer.tip)".to_owned());
    let row = row.ok_or_else(bad)?;
    let next = u64::try_from(row.get::<_, i64>(0)).map_err(|_| bad())?;
    let hash = row.get::<_, &[u8]>(1).try_into().map_err(|_| bad())?;
    Ok(Head { next, hash, time: row.get(2) })
}

/// A record's number as the database has it.
pub(super) fn number(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::Failed("the audit is full".to_owned()))
}

fn tables() -> String {
    let mut sql = "CREATE TABLE enforcer.meta (key text PRIMARY KEY, value bytea NOT NULL);
        CREATE TABLE enforcer.tip (one boolean PRIMARY KEY CHECK (one), next bigint NOT NULL,
            hash bytea NOT NULL, time bigint NOT NULL);
        CREATE TABLE enforcer.audit (seq bigint PRIMARY KEY, value bytea NOT NULL);
        CREATE TABLE enforcer.pending (key bytea PRIMARY KEY, host bytea NOT NULL,
            agent bytea NOT NULL);
        CREATE INDEX pending_of ON enforcer.pending (host, agent);"
        .to_owned();
    for table in Table::ALL {
        let name = table.name();
        let _ = write!(
            sql,
            "CREATE TABLE enforcer.{name} (key bytea PRIMARY KEY, value bytea NOT NULL);"
        );
    }
    sql
}
