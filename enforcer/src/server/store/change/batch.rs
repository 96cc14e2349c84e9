//! A group of commands, done one after another: each sees what those before it did, and all of
//! it is written together.

use super::{Command, Done, Job, Table, kept_key, parse};
use crate::approval::identity::Subject;
use crate::server::audit::{Entry, Head};
use crate::server::model::{Answer, Millis, Phase, Record};
use crate::server::store::{
    Ask, Asked, Declared, JoinToken, Keep, Kind, Member, News, Owner, StoreError, Submission,
    Submitted,
};
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use uuid::Uuid;

/// Whose requests wait: a host's, or one agent's of it.
pub(in crate::server::store) type Waiting = (String, Option<String>);

/// The rows as they were before the group.
pub(in crate::server::store) trait Rows {
    /// One row.
    async fn row(&mut self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Every row of a table.
    async fn all(&mut self, table: Table) -> Result<Vec<(Vec<u8>, Bytes)>, StoreError>;

    /// How many requests waited.
    async fn waiting(&mut self, of: &Waiting) -> Result<usize, StoreError>;
}

/// What a group makes of the rows.
#[derive(Debug)]
pub(in crate::server::store) struct Changes {
    /// Each row that changes, as it is then; `None`: it is no more.
    pub(in crate::server::store) rows: HashMap<(Table, Vec<u8>), Option<Bytes>>,
    /// Audit records, with their numbers.
    pub(in crate::server::store) audit: Vec<(u64, Vec<u8>)>,
    /// The end of the audit's chain.
    pub(in crate::server::store) head: Head,
    /// How many more requests wait, or fewer.
    pub(in crate::server::store) waiting: HashMap<Waiting, isize>,
    /// Who waits now, by id; `None`: it does not any more.
    pub(in crate::server::store) waits: HashMap<Uuid, Option<(String, String)>>,
    /// What other replicas have to hear of.
    pub(in crate::server::store) news: Vec<News>,
}

/// The group while it is done.
pub(in crate::server::store) struct Batch<'a, R> {
    rows: &'a mut R,
    changes: Changes,
}

/// Whose counts a record is in.
pub(in crate::server::store) fn waits(record: &Record) -> Option<[Waiting; 2]> {
    let of = |agent| (record.host.clone(), agent);
    (record.phase == Phase::Pending).then(|| [of(None), of(Some(record.agent.clone()))])
}

impl<'a, R: Rows> Batch<'a, R> {
    pub(in crate::server::store) fn new(rows: &'a mut R, head: Head) -> Self {
        let changes = Changes {
            rows: HashMap::new(),
            audit: Vec::new(),
            head,
            waiting: HashMap::new(),
            waits: HashMap::new(),
            news: Vec::new(),
        };
        Self { rows, changes }
    }

    pub(in crate::server::store) fn into_changes(self) -> Changes {
        self.changes
    }

    /// Does one. After an error half of it may be in the batch, which is then good for nothing.
    pub(in crate::server::store) async fn apply(&mut self, job: &Job) -> Result<Done, StoreError> {
        let now = job.now;
        match job.command.clone() {
            Command::Ask(ask) => self.ask(*ask, now).await.map(Box::new).map(Done::Asked),
            Command::Submit(task) => self.submit(*task, now).await.map(Done::Submitted),
            Command::Update { next, revision, by, audit } => {
                let done = self.update(&next, revision, by.as_ref(), audit, now).await;
                done.map(Done::Whether)
            }
            Command::AddToken { token, audit } => {
                self.put_json(Table::Tokens, token.id.as_bytes(), &token)?;
                self.note(audit, now);
                Ok(Done::Nothing)
            }
            Command::ForgetTokens { audit } => {
                self.forget(|_| true).await?;
                self.note(audit, now);
                Ok(Done::Nothing)
            }
            Command::Redeem { id, member, audit } => {
                self.redeem(&id, &member, audit, now).await.map(Done::Whether)
            }
            Command::Remove { subject, audit } => {
                self.remove(&subject, audit, now).await.map(Done::Count)
            }
            Command::Admit { member, restores, audit } => {
                self.admit(&member, restores, audit, now).await.map(Done::Whether)
            }
            Command::Keep { change, audit } => {
                self.keep(change, audit, now).await.map(Done::Whether)
            }
            Command::Note { audit } => {
                self.note(audit, now);
                Ok(Done::Nothing)
            }
        }
    }

    async fn ask(&mut self, ask: Ask, now: Millis) -> Result<Asked, StoreError> {
        if !self.may(ask.by.as_ref()).await? {
            return Ok(Asked::Removed);
        }
        if let Some(found) = self.folded(&ask.fold).await? {
            match found.answers(ask.denied_for, now) {
                Answer::Folded(next) => {
                    self.put_record(Some(&found), &next)?;
                    return Ok(Asked::Folded(*next));
                }
                Answer::Found => return Ok(Asked::Found(found)),
                Answer::None => {}
            }
        }
        let record = ask.record;
        let host = (record.host.clone(), None);
        let agent = (record.host.clone(), Some(record.agent.clone()));
        if self.waiting(&host).await? >= ask.host_cap
            || self.waiting(&agent).await? >= ask.agent_cap
        {
            return Ok(Asked::Full);
        }
        self.put_record(None, &record)?;
        self.put_request(record.id, ask.request, ask.body);
        self.put(Table::Fold, &ask.fold, record.id.as_bytes().to_vec());
        self.note(ask.audit, now);
        Ok(Asked::New(record))
    }

    async fn submit(
        &mut self,
        submission: Submission,
        now: Millis,
    ) -> Result<Submitted, StoreError> {
        if !self.may(Some(&submission.by)).await? {
            return Ok(Submitted::Removed);
        }
        if let Some(found) = self.same_task(&submission, now).await? {
            return Ok(Submitted::Found(found));
        }
        let Submission { task, records, requests, fold, .. } = submission;
        let host = (task.owner.host.clone(), None);
        let agent = (task.owner.host.clone(), Some(task.owner.agent.clone()));
        if self.waiting(&host).await? + records.len() > submission.host_cap
            || self.waiting(&agent).await? + records.len() > submission.agent_cap
        {
            return Ok(Submitted::Full);
        }
        for record in &records {
            self.put_record(None, record)?;
        }
        for (id, request, body) in requests {
            self.put_request(id, request, body);
        }
        self.put_json(Table::Tasks, task.id.as_bytes(), &task)?;
        self.put(Table::Fold, &fold, task.id.as_bytes().to_vec());
        for entry in submission.audit {
            self.note(entry, now);
        }
        Ok(Submitted::New)
    }

    /// The same task, while one of its steps is open or a denial of one still stands.
    async fn same_task(
        &mut self,
        asked: &Submission,
        now: Millis,
    ) -> Result<Option<Uuid>, StoreError> {
        let Some(id) = self.get(Table::Fold, &asked.fold).await? else {
            return Ok(None);
        };
        let Some(task) = self.json::<Declared>(Table::Tasks, &id).await? else {
            return Ok(None);
        };
        for step in task.steps.iter().filter(|step| step.asked) {
            let record = self.json::<Record>(Table::Approvals, step.id.as_bytes()).await?;
            let answer = record.map(|record| record.answers(asked.denied_for, now));
            if !matches!(answer, None | Some(Answer::None)) {
                return Ok(Some(task.id));
            }
        }
        Ok(None)
    }

    async fn folded(&mut self, fold: &[u8]) -> Result<Option<Record>, StoreError> {
        match self.get(Table::Fold, fold).await? {
            Some(id) => self.json(Table::Approvals, &id).await,
            None => Ok(None),
        }
    }

    async fn update(
        &mut self,
        next: &Record,
        revision: u64,
        by: Option<&Subject>,
        audit: Vec<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        if !self.may(by).await? {
            return Ok(false);
        }
        let current: Option<Record> = self.json(Table::Approvals, next.id.as_bytes()).await?;
        match current {
            Some(current) if current.revision == revision => {
                self.put_record(Some(&current), next)?;
                for entry in audit {
                    self.note(entry, now);
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn redeem(
        &mut self,
        id: &str,
        member: &Member,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        if self.get(Table::Tokens, id.as_bytes()).await?.is_none() {
            return Ok(false);
        }
        self.delete(Table::Tokens, id.as_bytes());
        let old = self.member(member.role.as_str(), &member.name).await?;
        let barred_until = old.map_or(0, |old| old.barred_until);
        self.put_member(&Member { barred_until, ..member.clone() })?;
        self.note(audit, now);
        Ok(true)
    }

    async fn admit(
        &mut self,
        member: &Member,
        restores: bool,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let old = self.member(member.role.as_str(), &member.name).await?;
        if !restores && old.as_ref().is_some_and(|old| old.removed) {
            return Ok(false);
        }
        let barred_until = old.as_ref().map_or(0, |old| old.barred_until);
        let joined = old.filter(|old| !old.removed).map_or(member.joined, |old| old.joined);
        self.put_member(&Member { joined, barred_until, ..member.clone() })?;
        self.note(audit, now);
        Ok(true)
    }

    async fn keep(
        &mut self,
        change: Keep,
        audit: Option<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let Keep { kind, key, was, next } = change;
        let key = kept_key(kind, &key);
        if self.get(Table::Kept, &key).await?.as_deref() != was.as_deref() {
            return Ok(false);
        }
        match next {
            Some(next) => self.put(Table::Kept, &key, next),
            None => self.delete(Table::Kept, &key),
        }
        if kind == Kind::Policy {
            self.changes.news.push(News::Policy);
        }
        if let Some(audit) = audit {
            self.note(audit, now);
        }
        Ok(true)
    }

    /// Whether the member still is one. Looked at here once more, where changes are in order.
    async fn may(&mut self, by: Option<&Subject>) -> Result<bool, StoreError> {
        let Some(by) = by else { return Ok(true) };
        let member = self.member(by.role().as_str(), by.name()).await?;
        Ok(member.is_some_and(|member| !member.removed))
    }

    async fn remove(
        &mut self,
        subject: &Subject,
        audit: Entry,
        now: Millis,
    ) -> Result<Option<u32>, StoreError> {
        let mine = |token: &JoinToken| token.role == subject.role() && token.name == subject.name();
        let tokens = self.forget(mine).await?;
        let member = self.member(subject.role().as_str(), subject.name()).await?;
        match member.filter(|member| !member.removed) {
            None if tokens == 0 => return Ok(None),
            None => {}
            Some(member) => {
                self.put_member(&Member { removed: true, barred_until: now, ..member })?;
            }
        }
        self.note(audit, now);
        Ok(Some(tokens))
    }

    /// Forgets the tokens that fit, and says how many.
    async fn forget(&mut self, fits: impl Fn(&JoinToken) -> bool) -> Result<u32, StoreError> {
        let mut tokens = self.rows.all(Table::Tokens).await?;
        for ((table, key), changed) in &self.changes.rows {
            if let (Table::Tokens, Some(stored)) = (table, changed) {
                tokens.push((key.clone(), stored.clone()));
            }
        }
        let mut forgotten = 0;
        for (key, stored) in tokens {
            let fit = fits(&parse(Table::Tokens, &key, &stored)?);
            // One that this group used up is not counted.
            if fit && self.get(Table::Tokens, &key).await?.is_some() {
                self.delete(Table::Tokens, &key);
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn note(&mut self, entry: Entry, now: Millis) {
        let record = self.changes.head.append(entry, now);
        self.changes.audit.push(record);
    }

    fn put_record(&mut self, old: Option<&Record>, next: &Record) -> Result<(), StoreError> {
        for (record, by) in old.map(|old| (old, -1)).into_iter().chain([(next, 1)]) {
            for of in waits(record).into_iter().flatten() {
                *self.changes.waiting.entry(of).or_default() += by;
            }
        }
        let waits = (next.phase == Phase::Pending).then(|| (next.host.clone(), next.agent.clone()));
        self.changes.waits.insert(next.id, waits);
        self.changes.news.push(News::Record(next.id));
        let id = next.id.as_bytes();
        self.put_json(Table::Approvals, id, next)?;
        if let Some(owner) = Owner::of(next) {
            let key = [&owner.key()[..], id].concat();
            match next.phase.live() {
                true => self.put(Table::Steps, &key, Vec::new()),
                false => self.delete(Table::Steps, &key),
            }
        }
        match (old.is_some_and(|old| old.phase.live()), next.phase.live()) {
            (false, true) => self.put(Table::Live, id, next.host.clone().into_bytes()),
            (true, false) => self.delete(Table::Live, id),
            _ => {}
        }
        Ok(())
    }

    fn put_request(&mut self, id: Uuid, request: Vec<u8>, body: Bytes) {
        self.put(Table::Requests, id.as_bytes(), request);
        if !body.is_empty() {
            self.put(Table::Bodies, id.as_bytes(), body);
        }
    }

    async fn member(&mut self, role: &str, name: &str) -> Result<Option<Member>, StoreError> {
        self.json(Table::Members, format!("{role}/{name}").as_bytes()).await
    }

    fn put_member(&mut self, member: &Member) -> Result<(), StoreError> {
        self.changes.news.extend(Subject::new(member.role, &member.name).map(News::Member));
        let key = format!("{}/{}", member.role.as_str(), member.name);
        self.put_json(Table::Members, key.as_bytes(), member)
    }

    fn put_json(
        &mut self,
        table: Table,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), StoreError> {
        let stored = serde_json::to_vec(value);
        let stored = stored.map_err(|error| StoreError::Failed(error.to_string()))?;
        self.put(table, key, stored);
        Ok(())
    }

    fn put(&mut self, table: Table, key: &[u8], value: impl Into<Bytes>) {
        self.changes.rows.insert((table, key.to_vec()), Some(value.into()));
    }

    fn delete(&mut self, table: Table, key: &[u8]) {
        self.changes.rows.insert((table, key.to_vec()), None);
    }

    async fn waiting(&mut self, of: &Waiting) -> Result<usize, StoreError> {
        let more = self.changes.waiting.get(of).copied().unwrap_or(0);
        Ok(self.rows.waiting(of).await?.saturating_add_signed(more))
    }

    async fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        match self.changes.rows.get(&(table, key.to_vec())) {
            Some(changed) => Ok(changed.clone()),
            None => self.rows.row(table, key).await,
        }
    }

    async fn json<T: DeserializeOwned>(
        &mut self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.get(table, key).await?.map(|stored| parse(table, key, &stored)).transpose()
    }
}

/// Ids are the keys of most tables.
const _: () = assert!(size_of::<Uuid>() == 16);
