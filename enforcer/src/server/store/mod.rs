//! What the server keeps. One trait, so that another store can stand behind it.
//!
//! Every change is compare-and-set and is on disk, with its audit records,
//! before it is answered. The embedded store answers nothing any more once it
//! failed; PostgreSQL fails call by call, and is back when the database is.

use super::audit::Entry;
use super::model::{Millis, Record};
use crate::approval::identity::{Role, Subject};
use bytes::Bytes;
use enforcer_proto::v1;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

mod change;
#[cfg(test)]
pub(in crate::server) mod conformance;
mod kept;
pub mod postgres;
pub mod rocks;
mod task;

pub use kept::{Keep, Kind};
pub use task::{Declared, DeclaredStep, Owner, Submission, Submitted};

/// The store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It could not be opened, read or written.
    #[error("the store failed: {0}")]
    Failed(String),
    /// It is in use by another process.
    #[error("the store is in use by another process: {0}")]
    Locked(String),
    /// What it holds cannot be read.
    #[error("the store holds something unreadable at {0}")]
    Corrupt(String),
    /// It was written by another version.
    #[error("the store has format {0}; this version reads format 1")]
    Format(String),
}

/// What another replica changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A record.
    Record(Uuid),
    /// A member's right.
    Member(Subject),
    /// A policy version that came to be.
    Policy,
    /// Anything: some of it was missed.
    Missed,
}

/// A host or person that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What it may be.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// The groups that a reviewer is in.
    pub groups: Vec<String>,
    /// When it joined last.
    pub joined: Millis,
    /// Its right was taken away; a new token brings it back.
    #[serde(default)]
    pub removed: bool,
    /// Certificates issued until then are worth nothing: when it was removed last.
    #[serde(default)]
    pub barred_until: Millis,
}

impl Member {
    /// Whether a certificate that was issued then is good.
    pub fn takes(&self, issued: Millis) -> bool {
        !self.removed && issued > self.barred_until
    }
}

/// A join token that was given out; its secret is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id, hex.
    pub id: String,
    /// Hash of its secret.
    pub secret_hash: [u8; 32],
    /// What the joiner becomes.
    pub role: Role,
    /// The joiner's name.
    pub name: String,
    /// The groups that it will be in.
    pub groups: Vec<String>,
    /// When it stops being good.
    pub expires: Millis,
}

/// A request to keep, unless one that is there answers it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Who asks; nothing is kept when its right is gone.
    pub by: Option<Subject>,
    /// The record, if a new one is needed.
    pub record: Record,
    /// Its fold key.
    pub fold: [u8; 32],
    /// The request as it came, without its body.
    pub request: Vec<u8>,
    /// The body.
    pub body: Bytes,
    /// How long a denial answers the same request.
    pub denied_for: Millis,
    /// How many may be pending for the host.
    pub host_cap: usize,
    /// How many may be pending for the agent.
    pub agent_cap: usize,
    /// The audit record of a new one.
    pub audit: Entry,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is kept.
    New(Record),
    /// An identical pending one took it in.
    Folded(Record),
    /// A grant or a standing denial answers it.
    Found(Record),
    /// Too many are pending; nothing was kept.
    Full,
    /// Who asks was removed meanwhile; nothing was kept.
    Removed,
}

/// Whether a listed record is wanted.
pub type Wanted = Box<dyn Fn(&Record) -> bool + Send>;

/// What the server needs of a store.
#[tonic::async_trait]
pub trait Store: Send + Sync {
    /// Keeps a request, or finds the one that answers it, in one step.
    async fn ask(&self, ask: Ask, now: Millis) -> Result<Asked, StoreError>;

    /// One record.
    async fn get(&self, id: Uuid) -> Result<Option<Record>, StoreError>;

    /// The request of a record, with its body when asked for.
    async fn request(
        &self,
        id: Uuid,
        body: bool,
    ) -> Result<Option<v1::ApprovalRequest>, StoreError>;

    /// Replaces a record that has this revision; `false` when it has another by now, or who does
    /// it was removed meanwhile.
    async fn update(
        &self,
        next: Record,
        revision: u64,
        by: Option<Subject>,
        audit: Vec<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError>;

    /// All live records, or those of one host, oldest first.
    async fn live(&self, host: Option<&str>) -> Result<Vec<Record>, StoreError>;

    /// At most so many of the wanted records, newest first.
    async fn list(&self, limit: usize, wanted: Wanted) -> Result<Vec<Record>, StoreError>;

    /// Keeps a task and all its steps, or finds the one that answers it, in one step.
    async fn submit(&self, submission: Submission, now: Millis) -> Result<Submitted, StoreError>;

    /// One task.
    async fn task(&self, id: Uuid) -> Result<Option<Declared>, StoreError>;

    /// At most so many tasks, newest first: of an owner, or of all.
    async fn tasks(&self, limit: usize, of: Option<Owner>) -> Result<Vec<Declared>, StoreError>;

    /// The live steps of an owner's tasks.
    async fn steps(&self, of: &Owner) -> Result<Vec<Record>, StoreError>;

    /// Keeps a token.
    async fn add_token(
        &self,
        token: JoinToken,
        audit: Entry,
        now: Millis,
    ) -> Result<(), StoreError>;

    /// One token.
    async fn token(&self, id: &str) -> Result<Option<JoinToken>, StoreError>;

    /// Forgets every token: the time that they were made for is not the time any more.
    async fn forget_tokens(&self, audit: Entry, now: Millis) -> Result<(), StoreError>;

    /// Uses up a token and keeps who joined with it; `false` when it is gone already.
    async fn redeem(
        &self,
        id: &str,
        member: Member,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError>;

    /// Removes a member and its unused tokens, and says how many those were; `None` when there is
    /// neither.
    async fn remove(
        &self,
        subject: &Subject,
        audit: Entry,
        now: Millis,
    ) -> Result<Option<u32>, StoreError>;

    /// Everybody that ever joined, by role and name.
    async fn members(&self) -> Result<Vec<Member>, StoreError>;

    /// One member.
    async fn member(&self, subject: &Subject) -> Result<Option<Member>, StoreError>;

    /// Keeps who signed in as a member: a new one, or one that is there with these groups.
    /// `false` when its right was taken away, unless this `restores` it.
    async fn admit(
        &self,
        member: Member,
        restores: bool,
        audit: Entry,
        now: Millis,
    ) -> Result<bool, StoreError>;

    /// What is kept under a key.
    async fn kept(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Everything of a kind, with its keys.
    async fn all_kept(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Changes what is kept under a key; `false` when something else than `was` is there.
    async fn keep(
        &self,
        change: Keep,
        audit: Option<Entry>,
        now: Millis,
    ) -> Result<bool, StoreError>;

    /// Puts something on record that changes nothing else.
    async fn note(&self, audit: Entry, now: Millis) -> Result<(), StoreError>;

    /// Audit records after a number, in order.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<v1::AuditRecord>, StoreError>;

    /// The time of the last audit record; 0 when there is none.
    fn last_time(&self) -> Millis;

    /// What other replicas change, from now on, beginning with [`News::Missed`]; `None` where
    /// there are no others. It ends when it is dropped.
    fn news(&self) -> Option<mpsc::Receiver<News>> {
        None
    }

    /// How far this machine's wall clock is ahead of the store's own, when it has one and that
    /// is known. Milliseconds.
    fn ahead(&self) -> Option<Millis> {
        None
    }
}
