//! Changes: what can be asked of a store, in a queue with one reader, and what a group of them
//! makes of the rows. Each store brings the rows and the commit; everything between is here, so
//! that all stores mean the same.

use super::{
    Ask, Asked, JoinToken, Keep, Kind, Member, StoreError, Subject, Submission, Submitted,
};
use crate::server::audit::Entry;
use crate::server::model::{Millis, Record};
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{mpsc, oneshot};

mod batch;

pub(super) use batch::{Batch, Changes, Rows, Waiting, waits};

/// How many commands share one commit at most.
const GROUP: usize = 256;

/// Bytes of bodies past which a group takes no more: its commit is not to take long.
const GROUP_BYTES: usize = 8 << 20;

/// Commands that may wait for the writer; past it callers wait.
const QUEUE: usize = 1024;

/// Where a row is. Keys and values are the same bytes in each store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    /// Id -> record, JSON.
    Approvals,
    /// Id -> what was asked, without its body.
    Requests,
    /// Id -> the body.
    Bodies,
    /// Id -> host, of live ones.
    Live,
    /// Fold key -> id.
    Fold,
    /// Id -> token, JSON.
    Tokens,
    /// `role/name` -> member, JSON.
    Members,
    /// Kind, 0, key -> bytes.
    Kept,
    /// Id -> task, JSON.
    Tasks,
    /// Owner's key and id of each live step -> nothing.
    Steps,
}

impl Table {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::Approvals,
        Self::Requests,
        Self::Bodies,
        Self::Live,
        Self::Fold,
        Self::Tokens,
        Self::Members,
        Self::Kept,
        Self::Tasks,
        Self::Steps,
    ];

    /// Its name in each store.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Approvals => "approvals",
            Self::Requests => "requests",
            Self::Bodies => "bodies",
            Self::Live => "live",
            Self::Fold => "fold",
            Self::Tokens => "tokens",
            Self::Members => "members",
            Self::Kept => "kept",
            Self::Tasks => "tasks",
            Self::Steps => "steps",
        }
    }
}

/// The kinds' words have no zero byte, so that no kind's keys are among another's.
pub(super) fn kept_key(kind: Kind, key: &str) -> Vec<u8> {
    [kind.as_str().as_bytes(), &[0], key.as_bytes()].concat()
}

/// Reads what is stored as JSON.
pub(super) fn parse<T: DeserializeOwned>(
    table: Table,
    key: &[u8],
    stored: &[u8],
) -> Result<T, StoreError> {
    serde_json::from_slice(stored).map_err(|error| {
        StoreError::Corrupt(format!("{} {}: {error}", table.name(), hex::encode(key)))
    })
}

/// A change to make.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Ask(Box<Ask>),
    Submit(Box<Submission>),
    Update { next: Box<Record>, revision: u64, by: Option<Subject>, audit: Vec<Entry> },
    AddToken { token: JoinToken, audit: Entry },
    ForgetTokens { audit: Entry },
    Redeem { id: String, member: Member, audit: Entry },
    Remove { subject: Subject, audit: Entry },
    Admit { member: Member, restores: bool, audit: Entry },
    Keep { change: Keep, audit: Option<Entry> },
    Note { audit: Entry },
}

impl Command {
    /// Bytes of what it keeps, where that may be many.
    fn bytes(&self) -> usize {
        match self {
            Self::Ask(ask) => ask.request.len() + ask.body.len(),
            Self::Submit(task) => {
                task.requests.iter().map(|(_, request, body)| request.len() + body.len()).sum()
            }
            Self::Keep { change, .. } => change.next.as_ref().map_or(0, Vec::len),
            _ => 0,
        }
    }
}

/// What became of a command.
#[derive(Clone, Debug)]
pub(super) enum Done {
    Asked(Box<Asked>),
    Submitted(Submitted),
    /// Whether it was done.
    Whether(bool),
    /// How many, where there was anything.
    Count(Option<u32>),
    Nothing,
}

/// A command, the time it is done at, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) command: Command,
    pub(super) now: Millis,
    pub(super) reply: oneshot::Sender<Result<Done, StoreError>>,
}

/// The end of the queue that a writer takes groups from.
#[derive(Debug)]
pub(super) struct Queue(mpsc::Receiver<Job>);

impl Queue {
    /// What waits, as far as it may share a commit; `None` when nobody can ask any more.
    pub(super) fn blocking_group(&mut self) -> Option<Vec<Job>> {
        let first = self.0.blocking_recv()?;
        Some(self.rest(first))
    }

    /// The same, for a writer that is a task.
    pub(super) async fn group(&mut self) -> Option<Vec<Job>> {
        let first = self.0.recv().await?;
        Some(self.rest(first))
    }

    fn rest(&mut self, first: Job) -> Vec<Job> {
        let mut bytes = first.command.bytes();
        let mut group = vec![first];
        while group.len() < GROUP
            && bytes < GROUP_BYTES
            && let Ok(job) = self.0.try_recv()
        {
            bytes += job.command.bytes();
            group.push(job);
        }
        group
    }
}

/// The end of the queue that a store's callers use.
#[derive(Debug)]
pub(super) struct Jobs {
    queue: mpsc::Sender<Job>,
    last_time: AtomicI64,
}

fn gone() -> StoreError {
    StoreError::Failed("its writer has stopped".to_owned())
}

impl Jobs {
    /// A queue, both its ends. `last_time`: that of the last audit record, 0 when there is none.
    pub(super) fn new(last_time: Millis) -> (Self, Queue) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        (Self { queue, last_time: AtomicI64::new(last_time) }, Queue(jobs))
    }

    pub(super) fn last_time(&self) -> Millis {
        self.last_time.load(Ordering::Relaxed)
    }

    async fn run(&self, command: Command, now: Millis) -> Result<Done, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Job { command, now, reply }).await.map_err(|_| gone())?;
        let done = answer.await.map_err(|_| gone())??;
        self.last_time.fetch_max(now, Ordering::Relaxed);
        Ok(done)
    }

    pub(super) async fn ask(&self, ask: Ask, now: Millis) -> Result<Asked, StoreError> {
        match self.run(Command::Ask(Box::new(ask)), now).await? {
            Done::Asked(asked) => Ok(*asked),
            other => Err(mixed_up(&other)),
        }
    }

    pub(super) async fn submit(
        &self,
        submission: Submission,
        now: Millis,
    ) -> Result<Submitted, StoreError> {
        match self.run(Command::Submit(Box::new(submission)), now).await? {
            Done::Submitted(submitted) => Ok(submitted),
            other => Err(mixed_up(&other)),
        }
    }

    /// A command that may find that it is not to be done.
    pub(super) async fn whether(&self, command: Command, now: Millis) -> Result<bool, StoreError> {
        match self.run(command, now).await? {
            Done::Whether(done) => Ok(done),
            other => Err(mixed_up(&other)),
        }
    }

    /// A command that is always done.
    pub(super) async fn just(&self, command: Command, now: Millis) -> Result<(), StoreError> {
        self.run(command, now).await.map(drop)
    }

    pub(super) async fn remove(
        &self,
        subject: &Subject,
        audit: Entry,
        now: Millis,
    ) -> Result<Option<u32>, StoreError> {
        match self.run(Command::Remove { subject: subject.clone(), audit }, now).await? {
            Done::Count(count) => Ok(count),
            other => Err(mixed_up(&other)),
        }
    }
}

fn mixed_up(done: &Done) -> StoreError {
    StoreError::Failed(format!("its writer answered something else: {done:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_group_ends_where_it_becomes_large() {
        let (jobs, mut queue) = Jobs::new(0);
        let keep = |bytes: usize| {
            let change = Keep {
                kind: Kind::PolicyFiles,
                key: String::new(),
                was: None,
                next: Some(vec![0; bytes]),
            };
            jobs.whether(Command::Keep { change, audit: None }, 1)
        };
        let sizes = [GROUP_BYTES / 2, GROUP_BYTES / 2, 1, 1, GROUP_BYTES, 1];
        let ask = futures_util::future::join_all(sizes.map(keep));
        let groups = async {
            let mut groups = Vec::new();
            while groups.iter().sum::<usize>() < sizes.len() {
                groups.push(queue.group().await.unwrap().len());
            }
            drop(queue);
            groups
        };
        let (answers, groups) = tokio::join!(ask, groups);
        assert_eq!(groups, [2, 3, 1]);
        assert!(answers.iter().all(Result::is_err), "the writer is gone");
    }
}
