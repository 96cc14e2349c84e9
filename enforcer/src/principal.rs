//! Who acts: host, agent, task and the process that the kernel saw at connect.
//!
//! Agent and task come from the cgroup alone; nothing here is ever taken from
//! what the governed process says about itself.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The name of an agent: the first path component of its cgroup under a
/// governed root. 1 to 128 bytes of `[A-Za-z0-9._@:-]` with systemd's suffixes
/// (`.service`, `.scope`, `.slice`) kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AgentName(String);

impl AgentName {
    /// Reads a name; `None` when it is empty, too long or has other characters.
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=128).contains(&name.len())
            && name != "."
            && name != ".."
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._@:-\\".contains(&b));
        fits.then(|| Self(name.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The process that called `connect`, as the kernel and `/proc` saw it.
///
/// `/proc` is read after the call; when the start time does not fit the
/// kernel's record the fields from `/proc` are left empty rather than guessed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id (thread group) in the host's pid namespace.
    pub pid: u32,
    /// Real user id at connect.
    pub uid: u32,
    /// Real group id at connect.
    pub gid: u32,
    /// Start time in clock ticks since boot (`/proc/PID/stat`, field 22); 0 when unknown.
    pub start_ticks: u64,
    /// Command name (`comm`, at most 15 bytes) that the kernel saw.
    pub comm: String,
    /// Path of the executable, when the host has that very file there.
    pub exe: Option<PathBuf>,
    /// Its path as the process sees it, when the host has another file there or none: in a
    /// container's or its own mounts, or deleted. For people to read; never judged, since whoever
    /// makes the mounts chooses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe_inside: Option<PathBuf>,
    /// SHA-256 of the executable's bytes, hex, when it could be read.
    pub exe_sha256: Option<String>,
    /// Argument vector, bounded to 4 KiB, without what looks like a credential.
    pub argv: Vec<String>,
}

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The host's configured name.
    pub host: String,
    /// The agent, from its cgroup.
    pub agent: AgentName,
    /// The task of the agent's cgroup (`enforcer run --task`), when it has one.
    pub task: Option<String>,
    /// The cgroup's path below the cgroup2 mount.
    pub cgroup: String,
    /// The process at connect.
    pub process: Process,
}
