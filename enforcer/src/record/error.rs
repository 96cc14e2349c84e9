//! What can go wrong with a transcript, in words for an operator.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why something could not be recorded or read. Every error of an append means
/// that the flow must stop.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// RocksDB refused.
    #[error("transcript store {}: {action}: {message}", path.display())]
    Store {
        /// The store's directory.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// RocksDB's own words; for damage they name the file and the offset.
        message: String,
    },
    /// A file beside the store could not be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The store was written by another version.
    #[error(
        "transcript store {}: format {found:?} is not one that this version reads (it reads \"1\"); \
         use the version that wrote it",
        path.display()
    )]
    Format {
        /// The store's directory.
        path: PathBuf,
        /// What its `meta` says.
        found: String,
    },
    /// Something in the store is not as it was written.
    #[error("transcript store: {0}; run `enforcer transcripts verify` on it")]
    Damaged(String),
    /// The quota is reached.
    #[error(
        "the transcript store holds {used} bytes of its quota of {quota}; \
         raise transcript.quota_bytes, lower retention_days, or move the store away"
    )]
    Full {
        /// Bytes on disk.
        used: u64,
        /// The configured quota.
        quota: u64,
    },
    /// One agent's share of the quota is reached.
    #[error(
        "the transcripts of agent {agent} hold {used} bytes of its share of {share}; raise \
         transcript.agent_share or transcript.quota_bytes, or look at what it does so much of"
    )]
    Share {
        /// The agent.
        agent: String,
        /// Its bytes on disk.
        used: u64,
        /// Its share of the quota.
        share: u64,
    },
    /// The flow's end is already recorded.
    #[error("the flow is already ended; nothing can be added to its transcript")]
    Ended,
    /// An earlier write failed; nothing is recorded any more until a restart.
    #[error("transcripts cannot be written since an earlier failure: {0}")]
    Failed(Arc<str>),
    /// The recorder was shut down.
    #[error("the transcript recorder is shut down")]
    Closed,
}

impl RecordError {
    pub(crate) fn store(path: &Path, action: &'static str, error: &rocksdb::Error) -> Self {
        Self::Store { path: path.to_owned(), action, message: error.to_string() }
    }

    /// A store that did not open; RocksDB does not say where in its logs the damage is.
    pub(crate) fn open(path: &Path, error: &rocksdb::Error) -> Self {
        let mut message = error.to_string();
        // RocksDB has no kind of its own for it.
        if error.kind() == rocksdb::ErrorKind::IOError && message.contains("lock file") {
            message = format!("it is in use by another process; does a daemon run? ({message})");
        }
        if error.kind() == rocksdb::ErrorKind::Corruption {
            let places = super::wal::places(path);
            if !places.is_empty() {
                message = format!("{message} ({})", places.join(", "));
            }
        }
        Self::Store { path: path.to_owned(), action: "open", message }
    }

    pub(crate) fn file(path: &Path, message: impl ToString) -> Self {
        Self::File { path: path.to_owned(), message: message.to_string() }
    }

    /// A stable word for metrics and refusals.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } => "transcript-full",
            Self::Share { .. } => "transcript-share",
            Self::Ended | Self::Closed => "transcript-closed",
            _ => "record-failed",
        }
    }
}
