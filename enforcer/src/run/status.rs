//! What `enforcer status` and `enforcer doctor` are told by the daemon.

use crate::cli::approvals::text;
use serde::{Deserialize, Serialize};

/// The daemon's account of itself. The daemon fills it; readers of another
/// version take what they know and leave the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReport {
    /// Version of the running daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started serving.
    pub uptime_s: u64,
    /// The host's configured name.
    pub host: String,
    /// Governed roots, as paths below the cgroup2 mount.
    pub governed: Vec<String>,
    /// The layers, held or not.
    pub layers: Vec<LayerStatus>,
    /// The approval server.
    pub server: ServerStatus,
    /// The policy bundle in force; empty when none is, and everything is denied.
    pub policy_version: String,
    /// Where it comes from.
    pub policy: PolicyStatus,
    /// Flows open now.
    pub flows_open: u64,
    /// Flows since the start.
    pub flows_total: u64,
    /// Operations held for a person's decision now.
    pub held: u64,
    /// The transcript store.
    pub transcripts: TranscriptStatus,
    /// The kernel half's counters, per agent, since its maps were made.
    pub counters: Vec<Counter>,
    /// What the kernel counted since the daemon's start beside what the transcripts hold.
    pub records: Vec<Records>,
    /// What the daemon checks about itself.
    pub checks: Vec<Check>,
}

/// One layer of enforcement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LayerStatus {
    /// `cgroup`, `unix`, `lsm`, `floor`.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// What stays open without it, or how it holds.
    pub detail: String,
}

/// Where policy comes from, and how fresh it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyStatus {
    /// Whether the server distributes it; a local directory otherwise, and all else is empty.
    pub from_server: bool,
    /// The version's number; 0: none came yet.
    pub number: u64,
    /// Seconds since the server last confirmed it; none before the first time.
    pub age_s: Option<u64>,
    /// Seconds after which everything is denied.
    pub max_age_s: u64,
    /// Why the newest that came was not taken; empty when it was.
    pub refused: String,
}

/// The connection to the approval server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerStatus {
    /// Its address; empty when none is configured.
    pub url: String,
    /// Whether the stream to it is up.
    pub connected: bool,
    /// Why it is not.
    pub detail: String,
    /// When this host's certificate for it ends, seconds since the Unix epoch; renewed long before.
    pub certificate_until: Option<i64>,
    /// Why the last try to renew that certificate failed; empty when it did not.
    pub not_renewed: String,
}

impl ServerStatus {
    /// How the certificate stands at `now` (seconds since the Unix epoch): a line for people, and
    /// whether it is well. `None` when there is none.
    pub fn certificate(&self, now: i64) -> Option<Result<String, String>> {
        let until = self.certificate_until?;
        let shown = text::time(until.saturating_mul(1000));
        if until <= now {
            return Some(Err(format!(
                "ran out at {shown}: what needs approval is denied; a new token brings the host back"
            )));
        }
        let left = text::span(until.saturating_sub(now).saturating_mul(1000));
        let good = format!("good until {shown}, {left} left");
        Some(match self.not_renewed.as_str() {
            "" => Ok(format!("{good}; renews itself")),
            why => Err(format!("{good}; NOT renewed: {}", text::line(why))),
        })
    }
}

/// The transcript store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TranscriptStatus {
    /// Events written since the start.
    pub events: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// Bytes at which the quota applies.
    pub quota_bytes: u64,
    /// Whether the store takes events; without it nothing is forwarded.
    pub writable: bool,
}

/// One counter of one agent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counter {
    /// The agent.
    pub agent: String,
    /// What is counted, for example `redirected` or `refused.udp`.
    pub name: String,
    /// How often.
    pub value: u64,
}

/// One count of the kernel, and the records of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Records {
    /// The agent; empty for none.
    pub agent: String,
    /// `redirected`, or the reason of a refusal.
    pub what: String,
    /// How often the kernel counted it.
    pub kernel: u64,
    /// How often the transcripts tell of it.
    pub recorded: u64,
    /// What the kernel counted and no record tells of.
    pub unexplained: u64,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// Whether it is as it must be.
    pub ok: bool,
    /// What was seen; when not ok, also what to do.
    pub detail: String,
}

impl Check {
    /// A check that passed.
    pub fn ok(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, detail: detail.into() }
    }

    /// A check that failed, with what to do.
    pub fn failed(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: false, detail: detail.into() }
    }
}
