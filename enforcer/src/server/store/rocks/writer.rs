//! The single writer: takes commands in order, commits a group with one fsync,
//! and answers only then. A write that failed leaves it unknown what is on disk,
//! so it is the last: everything after it is refused until the store is opened anew.

use super::{
    APPROVALS, AUDIT, Ask, Asked, BODIES, Db, Declared, Entry, FOLD, Head, JoinToken, KEPT, Keep,
    LIVE, MEMBERS, Member, Millis, Owner, REQUESTS, Record, STEPS, StoreError, Submission,
    Submitted, TASKS, TOKENS, failed, kept_key, parse,
};
use crate::approval::identity::Subject;
use crate::server::model::{Answer, Phase};
use rocksdb::{WriteBatch, WriteOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// How many commands share one fsync at most.
pub(super) const GROUP: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Command {
    Ask(Box<Ask>, Reply<Asked>),
    Submit(Box<Submission>, Reply<Submitted>),
    Update {
        next: Box<Record>,
        revision: u64,
        by: Option<Subject>,
        audit: Vec<Entry>,
        reply: Reply<bool>,
    },
    AddToken {
        token: JoinToken,
        audit: Entry,
        reply: Reply<()>,
    },
    ForgetTokens {
        audit: Entry,
        reply: Reply<()>,
    },
    Redeem {
        id: String,
        member: Member,
        audit: Entry,
        reply: Reply<bool>,
    },
    Remove {
        subject: Subject,
        audit: Entry,
        reply: Reply<Option<u32>>,
    },
    Admit {
        member: Member,
        restores: bool,
        audit: Entry,
        reply: Reply<bool>,
    },
    Keep {
        change: Keep,
        audit: Option<Entry>,
        reply: Reply<bool>,
    },
    Note {
        audit: Entry,
        reply: Reply<()>,
    },
}

/// A command and the time it is done at.
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) now: Millis,
}

/// How many requests wait, by host and by agent.
type Pending = HashMap<(String, Option<String>), usize>;

pub(super) struct Writer {
    db: Arc<Db>,
    head: Head,
    pending: Pending,
    broken: Option<StoreError>,
}

/// An answer that waits for the commit.
type Answered = Box<dyn FnOnce(Result<(), StoreError>)>;

impl Writer {
    pub(super) fn new(db: Arc<Db>, head: Head) -> Result<Self, StoreError> {
        let mut pending = Pending::new();
        for record in db.live(None)? {
            count(&mut pending, &record, 1);
        }
        Ok(Self { db, head, pending, broken: None })
    }

    pub(super) fn commit(&mut self, group: Vec<Job>) {
        let mut batch = Batch {
            db: &self.db,
            head: &mut self.head,
            pending: &mut self.pending,
            writes: WriteBatch::default(),
            overlay: HashMap::new(),
        };
        let broken = self.broken.clone();
        let refuse = |error: StoreError| -> Result<(), StoreError> { Err(error) };
        let mut answers: Vec<Answered> = Vec::new();
        let mut failure = broken;
        for job in group {
            // A command that fails half-way may have left part of itself in the batch.
            let answer = match &failure {
                Some(error) => job.command.refused(error.clone()),
                None => match batch.apply(job) {
                    Ok(answer) => answer,
                    Err((error, answer)) => {
                        failure = Some(error);
                        answer
                    }
                },
            };
            answers.push(answer);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let written = match failure {
            Some(error) => refuse(error),
            None => {
                let writes = batch.writes;
                self.db.0.write_opt(writes, &options).map_err(failed)
            }
        };
        if let Err(error) = &written {
            self.broken.get_or_insert_with(|| {
                tracing::error!(%error, "the store failed; nothing is decided until a restart");
                error.clone()
            });
        }
        for answer in answers {
            answer(written.clone());
        }
    }
}

impl Command {
    fn refused(self, error: StoreError) -> Answered {
        Box::new(move |_| match self {
            Self::Ask(_, reply) => drop(reply.send(Err(error))),
            Self::Submit(_, reply) => drop(reply.send(Err(error))),
            Self::Update { reply, .. }
            | Self::Redeem { reply, .. }
            | Self::Admit { reply, .. }
            | Self::Keep { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::AddToken { reply, .. }
            | Self::ForgetTokens { reply, .. }
            | Self::Note { reply, .. } => {
                drop(reply.send(Err(error)));
            }
            Self::Remove { reply, .. } => drop(reply.send(Err(error))),
        })
    }
}

/// One group's changes: written together, and seen by the commands that follow in it.
struct Batch<'a> {
    db: &'a Db,
    head: &'a mut Head,
    pending: &'a mut Pending,
    writes: WriteBatch,
    overlay: HashMap<(&'static str, Vec<u8>), Option<Vec<u8>>>,
}

/// Sends what was done once it is on disk.
fn answer<T: 'static>(
    reply: Reply<T>,
    done: Result<T, StoreError>,
) -> Result<Answered, (StoreError, Answered)> {
    match done {
        Ok(done) => Ok(Box::new(move |written: Result<(), StoreError>| {
            drop(reply.send(written.map(|()| done)));
        })),
        Err(error) => {
            let told = error.clone();
            Err((error, Box::new(move |_| drop(reply.send(Err(told))))))
        }
    }
}

impl Batch<'_> {
    fn apply(&mut self, job: Job) -> Result<Answered, (StoreError, Answered)> {
        let now = job.now;
        match job.command {
            Command::Ask(ask, reply) => answer(reply, self.ask(*ask, now)),
            Command::Submit(task, reply) => answer(reply, self.submit(*task, now)),
            Command::Update { next, revision, by, audit, reply } => {
                answer(reply, self.update(&next, revision, by.as_ref(), audit, now))
            }
            Command::AddToken { token, audit, reply } => {
                let done = self
                    .put_json(TOKENS, token.id.as_bytes(), &token)
                    .and_then(|()| self.note(audit, now));
                answer(reply, done)
            }
            Command::Redeem { id, member, audit, reply } => {
                answer(reply, self.redeem(&id, &member, audit, now))
            }
            Command::ForgetTokens { audit, reply } => {
                let done = self.forget(|_| true).and_then(|_| self.note(audit, now));
                answer(reply, done)
            }
            Command::Remove { subject, audit, reply } => {
                answer(reply, self.remove(&subject, audit, now))
            }
            Command::Admit { member, restores, audit, reply } => {
                answer(reply, self.admit(&member, restores, audit, now))
            }
            Command::Keep { change, audit, reply } => answer(reply, self.keep(change, audit, now)),
            Command::Note { audit, reply } => answer(reply, self.note(audit, now)),
        }
    }

    fn ask(&mut self, ask: Ask, now: Millis) -> Result<Asked, StoreError> {
        if !self.may(ask.by.as_ref())? {
            return Ok(Asked::Removed);
        }
        if let Some(found) = self.folded(&ask.fold)? {
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
        let waiting = |key| self.pending.get(key).copied().unwrap_or(0);
        if waiting(&host) >= ask.host_cap || waiting(&agent) >= ask.agent_cap {
            return Ok(Asked::Full);
        }
        self.put_record(None, &record)?;
        self.put(REQUESTS, record.id.as_bytes(), ask.request)?;
        if !ask.body.is_empty() {
            // Straight to the batch: nothing in this group reads it back.
            let family = self.db.family(BODIES)?;
            self.writes.put_cf(family, record.id.as_bytes(), &ask.body);
        }
        self.put(FOLD, &ask.fold, record.id.as_bytes().to_vec())?;
        self.note(ask.audit, now)?;
        Ok(Asked::New(record))
    }

    fn submit(&mut self, submission: Submission, now: Millis) -> Result<Submitted, StoreError> {
        if !self.may(Some(&submission.by))? {
            return Ok(Submitted::Removed);
        }
        if let Some(found) = self.same_task(&submission, now)? {
            return Ok(Submitted::Found(found));
        }
        let Submission { task, records, requests, fold, .. } = submission;
        let host = (task.owner.host.clone(), None);
        let agent = (task.owner.host.clone(), Some(task.owner.agent.clone()));
        let after = |key| self.pending.get(key).copied().unwrap_or(0) + records.len();
        if after(&host) > submission.host_cap || after(&agent) > submission.agent_cap {
            return Ok(Submitted::Full);
        }
        for record in &records {
            self.put_record(None, record)?;
        }
        for (id, request, body) in requests {
            self.put(REQUESTS, id.as_bytes(), request)?;
            if !body.is_empty() {
                self.writes.put_cf(self.db.family(BODIES)?, id.as_bytes(), &body);
            }
        }
        self.put_json(TASKS, task.id.as_bytes(), &task)?;
        self.put(FOLD, &fold, task.id.as_bytes().to_vec())?;
        for entry in submission.audit {
            self.note(entry, now)?;
        }
        Ok(Submitted::New)
    }

    /// The same task, while one of its steps is open or a denial of one still stands.
    fn same_task(&self, asked: &Submission, now: Millis) -> Result<Option<Uuid>, StoreError> {
        let Some(id) = self.get(FOLD, &asked.fold)? else {
            return Ok(None);
        };
        let Some(task) = self.json::<Declared>(TASKS, &id)? else {
            return Ok(None);
        };
        for step in task.steps.iter().filter(|step| step.asked) {
            let Some(record) = self.json::<Record>(APPROVALS, step.id.as_bytes())? else {
                continue;
            };
            if !matches!(record.answers(asked.denied_for, now), Answer::None) {
                return Ok(Some(task.id));
            }
        }
        Ok(None)
    }

    fn folded(&self, fold: &[u8]) -> Result<Option<Record>, StoreError> {
        match self.get(FOLD, fold)? {
            Some(id) => self.json(APPROVALS, &id),
            None => Ok(None),
        }
    }

    fn update(
        &mut self,
        next: &Record,
        revision: u64,
        by: Option<&Subject>,
        audit: Vec<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        if !self.may(by)? {
            return Ok(false);
        }
        let current: Option<Record> = self.json(APPROVALS, next.id.as_bytes())?;
        match current {
            Some(current) if current.revision == revision => {
                self.put_record(Some(&current), next)?;
                for entry in audit {
                    self.note(entry, now)?;
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn redeem(
        &mut self,
        id: &str,
        member: &Member,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        if self.get(TOKENS, id.as_bytes())?.is_none() {
            return Ok(false);
        }
        self.delete(TOKENS, id.as_bytes())?;
        let key = format!("{}/{}", member.role.as_str(), member.name);
        let old: Option<Member> = self.json(MEMBERS, key.as_bytes())?;
        let barred_until = old.map_or(0, |old| old.barred_until);
        self.put_json(MEMBERS, key.as_bytes(), &Member { barred_until, ..member.clone() })?;
        self.note(audit, now)?;
        Ok(true)
    }

    fn admit(
        &mut self,
        member: &Member,
        restores: bool,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let key = format!("{}/{}", member.role.as_str(), member.name);
        let old: Option<Member> = self.json(MEMBERS, key.as_bytes())?;
        if !restores && old.as_ref().is_some_and(|old| old.removed) {
            return Ok(false);
        }
        let barred_until = old.as_ref().map_or(0, |old| old.barred_until);
        let joined = old.filter(|old| !old.removed).map_or(member.joined, |old| old.joined);
        let next = Member { joined, barred_until, ..member.clone() };
        self.put_json(MEMBERS, key.as_bytes(), &next)?;
        self.note(audit, now)?;
        Ok(true)
    }

    fn keep(
        &mut self,
        change: Keep,
        audit: Option<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError> {
        let Keep { kind, key, was, next } = change;
        let key = kept_key(kind, &key);
        if self.get(KEPT, &key)? != was {
            return Ok(false);
        }
        match next {
            Some(next) => self.put(KEPT, &key, next)?,
            None => self.delete(KEPT, &key)?,
        }
        audit.map_or(Ok(()), |audit| self.note(audit, now))?;
        Ok(true)
    }

    /// Whether the member still is one. Looked at here once more, where changes are in order.
    fn may(&self, by: Option<&Subject>) -> Result<bool, StoreError> {
        let Some(by) = by else { return Ok(true) };
        let member: Option<Member> = self.json(MEMBERS, by.to_string().as_bytes())?;
        Ok(member.is_some_and(|member| !member.removed))
    }

    fn remove(
        &mut self,
        subject: &Subject,
        audit: Entry,
        now: Millis,
    ) -> Result<Option<u32>, StoreError> {
        let tokens =
            self.forget(|token| token.role == subject.role() && token.name == subject.name())?;
        let key = subject.to_string();
        let member: Option<Member> = self.json(MEMBERS, key.as_bytes())?;
        match member.filter(|member| !member.removed) {
            None if tokens == 0 => return Ok(None),
            None => {}
            Some(member) => {
                let gone = Member { removed: true, barred_until: now, ..member };
                self.put_json(MEMBERS, key.as_bytes(), &gone)?;
            }
        }
        self.note(audit, now)?;
        Ok(Some(tokens))
    }

    /// Forgets the tokens that fit, and says how many.
    fn forget(&mut self, fits: impl Fn(&JoinToken) -> bool) -> Result<u32, StoreError> {
        let mut tokens: Vec<JoinToken> = self.db.all(TOKENS)?;
        for ((family, key), changed) in &self.overlay {
            if let (&TOKENS, Some(stored)) = (family, changed) {
                tokens.push(parse(TOKENS, key, stored)?);
            }
        }
        let mut forgotten = 0;
        for token in tokens.iter().filter(|token| fits(token)) {
            // One that this group used up is not counted.
            if self.get(TOKENS, token.id.as_bytes())?.is_some() {
                self.delete(TOKENS, token.id.as_bytes())?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn note(&mut self, entry: Entry, now: Millis) -> Result<(), StoreError> {
        let (seq, stored) = self.head.append(entry, now);
        self.writes.put_cf(self.db.family(AUDIT)?, seq.to_be_bytes(), stored);
        Ok(())
    }

    fn put_record(&mut self, old: Option<&Record>, next: &Record) -> Result<(), StoreError> {
        if let Some(old) = old {
            count(self.pending, old, -1);
        }
        count(self.pending, next, 1);
        self.put_json(APPROVALS, next.id.as_bytes(), next)?;
        let was_live = old.is_some_and(|old| old.phase.live());
        if let Some(owner) = Owner::of(next) {
            let key = [&owner.key()[..], next.id.as_bytes()].concat();
            match next.phase.live() {
                true => self.put(STEPS, &key, Vec::new())?,
                false => self.delete(STEPS, &key)?,
            }
        }
        match (was_live, next.phase.live()) {
            (false, true) => self.put(LIVE, next.id.as_bytes(), next.host.clone().into_bytes()),
            (true, false) => self.delete(LIVE, next.id.as_bytes()),
            _ => Ok(()),
        }
    }

    fn put_json(
        &mut self,
        family: &'static str,
        key: &[u8],
        value: &impl Serialize,
    ) -> Result<(), StoreError> {
        let stored = serde_json::to_vec(value);
        let stored = stored.map_err(|error| StoreError::Failed(error.to_string()))?;
        self.put(family, key, stored)
    }

    fn put(&mut self, family: &'static str, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
        self.writes.put_cf(self.db.family(family)?, key, &value);
        self.overlay.insert((family, key.to_vec()), Some(value));
        Ok(())
    }

    fn delete(&mut self, family: &'static str, key: &[u8]) -> Result<(), StoreError> {
        self.writes.delete_cf(self.db.family(family)?, key);
        self.overlay.insert((family, key.to_vec()), None);
        Ok(())
    }

    fn get(&self, family: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match self.overlay.get(&(family, key.to_vec())) {
            Some(changed) => Ok(changed.clone()),
            None => self.db.get(family, key),
        }
    }

    fn json<T: DeserializeOwned>(
        &self,
        family: &'static str,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.get(family, key)?.map(|stored| parse(family, key, &stored)).transpose()
    }
}

fn count(pending: &mut Pending, record: &Record, by: isize) {
    if record.phase != Phase::Pending {
        return;
    }
    for agent in [None, Some(record.agent.clone())] {
        let key = (record.host.clone(), agent);
        let waiting = pending.entry(key.clone()).or_default();
        *waiting = waiting.saturating_add_signed(by);
        if *waiting == 0 {
            pending.remove(&key);
        }
    }
}

/// Ids are the keys of most families.
const _: () = assert!(size_of::<Uuid>() == 16);
