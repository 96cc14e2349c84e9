//! Tasks as they are kept.

use super::Entry;
use crate::approval::identity::Subject;
use crate::server::model::{Millis, Record};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Whose a task is: what the kernel saw, never what a request says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The host.
    pub host: String,
    /// The agent.
    pub agent: String,
    /// The task of its cgroup; empty when it has none.
    pub task: String,
}

impl Owner {
    /// The owner of a record that is a step.
    pub fn of(record: &Record) -> Option<Self> {
        let step = record.step.as_ref()?;
        let (host, agent) = (record.host.clone(), record.agent.clone());
        Some(Self { host, agent, task: step.task.clone() })
    }

    /// A key for it.
    pub fn key(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"enforcer task owner v1\0");
        for part in [&self.host, &self.agent, &self.task] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}

/// A declared task. What is asked for is with its steps' requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    /// Its id; ids sort by time.
    pub id: Uuid,
    /// Whose it is.
    pub owner: Owner,
    /// What is to be reached.
    pub objective: String,
    /// When it was declared.
    pub created: Millis,
    /// The steps in their order, each under an id of its own.
    pub steps: Vec<DeclaredStep>,
}

/// One step of a declared task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredStep {
    /// The id of its request; where it was put before people, its record's too.
    pub id: Uuid,
    /// Whether it was put before people; policy allows any other as it is.
    pub asked: bool,
}

/// A task to keep, unless one that is there answers it.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Who asks; nothing is kept when its right is gone.
    pub by: Subject,
    /// The task.
    pub task: Declared,
    /// Its fold key.
    pub fold: [u8; 32],
    /// The records of those steps that are put before people.
    pub records: Vec<Record>,
    /// The request of each step as it came, without its body, and the body.
    pub requests: Vec<(Uuid, Vec<u8>, Bytes)>,
    /// How long a denied step answers the same task.
    pub denied_for: Millis,
    /// How many requests may be pending for the host.
    pub host_cap: usize,
    /// How many may be pending for the agent.
    pub agent_cap: usize,
    /// The audit records of a new one.
    pub audit: Vec<Entry>,
}

/// What became of a submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is kept.
    New,
    /// The same task is there.
    Found(Uuid),
    /// Too many requests are pending; nothing was kept.
    Full,
    /// Who asks was removed meanwhile; nothing was kept.
    Removed,
}
