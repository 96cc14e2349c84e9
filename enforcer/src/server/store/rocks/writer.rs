//! The single writer: takes commands in order, commits a group with one fsync,
//! and answers only then. A write that failed leaves it unknown what is on disk,
//! so it is the last: everything after it is refused until the store is opened anew.

use super::{AUDIT, Db, StoreError, failed};
use crate::server::audit::Head;
use crate::server::store::change::{Batch, Changes, Done, Job, Rows, Table, Waiting, waits};
use bytes::Bytes;
use futures_util::FutureExt as _;
use rocksdb::{WriteBatch, WriteOptions};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct Writer {
    present: Present,
    head: Head,
    broken: Option<StoreError>,
}

/// What is there, and how many requests wait.
struct Present {
    db: Arc<Db>,
    waiting: HashMap<Waiting, usize>,
}

impl Rows for Present {
    async fn row(&mut self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.db.get(table.name(), key)?.map(Bytes::from))
    }

    async fn all(&mut self, table: Table) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError> {
        self.db.rows(table)
    }

    async fn waiting(&mut self, of: &Waiting) -> Result<usize, StoreError> {
        Ok(self.waiting.get(of).copied().unwrap_or(0))
    }
}

impl Present {
    fn count(&mut self, of: Waiting, by: isize) {
        let waiting = self.waiting.entry(of.clone()).or_default();
        *waiting = waiting.saturating_add_signed(by);
        if *waiting == 0 {
            self.waiting.remove(&of);
        }
    }
}

impl Writer {
    pub(super) fn new(db: Arc<Db>, head: Head) -> Result<Self, StoreError> {
        let mut present = Present { waiting: HashMap::new(), db };
        for record in present.db.live(None)? {
            for of in waits(&record).into_iter().flatten() {
                present.count(of, 1);
            }
        }
        Ok(Self { present, head, broken: None })
    }

    pub(super) fn commit(&mut self, group: Vec<Job>) {
        let done = match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.write(&group),
        };
        if let Err(error) = &done {
            self.broken.get_or_insert_with(|| {
                tracing::error!(%error, "the store failed; nothing is decided until a restart");
                error.clone()
            });
        }
        let mut done = done.map(Vec::into_iter);
        for job in group {
            let answer = match &mut done {
                Ok(done) => done.next().ok_or_else(|| StoreError::Failed("no answer".to_owned())),
                Err(error) => Err(error.clone()),
            };
            drop(job.reply.send(answer));
        }
    }

    /// All or nothing. A command that fails half-way may have left part of itself in the batch.
    fn write(&mut self, group: &[Job]) -> Result<Vec<Done>, StoreError> {
        let mut batch = Batch::new(&mut self.present, self.head.clone());
        let mut done = Vec::with_capacity(group.len());
        for job in group {
            // Nothing here waits: the rows are read where they are asked for.
            let applied = batch.apply(job).now_or_never();
            done.push(applied.ok_or_else(|| StoreError::Failed("a read waits".to_owned()))??);
        }
        let changes = batch.into_changes();
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let writes = self.writes(&changes)?;
        self.present.db.0.write_opt(writes, &options).map_err(failed)?;
        self.head = changes.head;
        for (of, by) in changes.waiting {
            self.present.count(of, by);
        }
        Ok(done)
    }

    fn writes(&self, changes: &Changes) -> Result<WriteBatch, StoreError> {
        let db = &self.present.db;
        let mut writes = WriteBatch::default();
        for ((table, key), value) in &changes.rows {
            let family = db.family(table.name())?;
            match value {
                Some(value) => writes.put_cf(family, key, value),
                None => writes.delete_cf(family, key),
            }
        }
        for (seq, stored) in &changes.audit {
            writes.put_cf(db.family(AUDIT)?, seq.to_be_bytes(), stored);
        }
        Ok(writes)
    }
}
