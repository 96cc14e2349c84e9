//! From a record of the kernel half to the principal that policy judges.
//!
//! Agent and task come from the cgroup alone. A process that is in no agent's
//! cgroup has no principal, and its flow is closed.

use super::cgroup::{Paths, below};
use super::error::CaptureError;
use super::lookup::Lookups;
use super::process;
use crate::principal::{AgentName, Principal};
use enforcer_common::flow::FlowEntry;
use std::path::Path;
use std::time::Duration;

/// Prefix of the component that names a task.
const TASK: &str = "task-";

/// Knows the host's name, the governed roots and what was looked up before.
#[derive(Debug)]
pub(super) struct Identities {
    host: String,
    roots: Vec<String>,
    paths: Paths,
    lookups: Lookups,
}

impl Identities {
    /// `roots`: paths below the cgroup2 mount.
    pub(super) fn new(host: String, roots: Vec<String>) -> Result<Self, CaptureError> {
        Ok(Self { host, roots, paths: Paths::new()?, lookups: Lookups::default() })
    }

    /// Who made the call behind this entry, as far as the kernel's record says.
    pub(super) fn principal(&self, entry: &FlowEntry) -> Option<Principal> {
        let cgroup = self.paths.path(entry.cgroup)?;
        let (agent, task) = self.agent(&cgroup)?;
        Some(Principal {
            host: self.host.clone(),
            agent,
            task,
            process: process::recorded(entry),
            cgroup,
        })
    }

    /// Adds what `/proc` says of the process, if it can be had within `patience`.
    pub(super) async fn look_up(
        &self,
        principal: Principal,
        entry: &FlowEntry,
        patience: Duration,
    ) -> Principal {
        let process = self.lookups.process(&principal, entry, patience).await;
        Principal { process, ..principal }
    }

    /// Agent and task of a cgroup below one of the roots.
    pub(super) fn agent(&self, cgroup: &str) -> Option<(AgentName, Option<String>)> {
        let inner = self
            .roots
            .iter()
            .filter_map(|root| below(cgroup, root))
            .min_by_key(|inner| inner.len())?;
        split(inner)
    }

    /// The path of a cgroup, also of one that is gone when it was seen before.
    pub(super) fn path(&self, cgroup: u64) -> Option<String> {
        self.paths.path(cgroup)
    }

    /// Looks at the cgroups in this directory, so that what they did is known to be theirs when
    /// they are gone.
    pub(super) fn learn(&self, dir: &Path) {
        self.paths.learn(dir);
    }

    /// Whether the cgroup still exists.
    pub(super) fn alive(&self, cgroup: u64) -> bool {
        self.paths.alive(cgroup)
    }
}

/// `<agent>[/task-<task>][/...]`; nothing for the root itself.
fn split(inner: &str) -> Option<(AgentName, Option<String>)> {
    let mut parts = inner.split('/');
    let agent = AgentName::parse(parts.next()?)?;
    let task = parts
        .next()
        .and_then(|part| part.strip_prefix(TASK))
        .filter(|task| !task.is_empty())
        .map(str::to_owned);
    Some((agent, task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agent_and_task_are_the_first_two_components() {
        let name =
            |inner: &str| split(inner).map(|(agent, task)| (agent.as_str().to_owned(), task));
        let agent =
            |name: &str, task: Option<&str>| Some((name.to_owned(), task.map(str::to_owned)));
        assert_eq!(name("coder"), agent("coder", None));
        assert_eq!(name("coder/task-fix"), agent("coder", Some("fix")));
        assert_eq!(name("coder/task-fix/run-1"), agent("coder", Some("fix")));
        assert_eq!(name("coder/run-1"), agent("coder", None));
        assert_eq!(name("coder/run-1/task-fake"), agent("coder", None));
        assert_eq!(name("coder/task-"), agent("coder", None));
        assert_eq!(name("bot.service"), agent("bot.service", None));
        assert_eq!(name(""), None, "the root itself is nobody");
        assert_eq!(name("bad name"), None);
    }
}
