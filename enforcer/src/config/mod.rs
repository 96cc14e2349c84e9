//! `enforcer.toml`: read, checked and turned into a [`Config`] that the rest can trust.
//!
//! An unknown key, a wrong type or a value out of its range is an error that
//! names the file, the line and what would be right. Nothing here opens anything
//! but the file itself; a value that passes can still name a file that is not there.

mod check;
mod defaults;
mod load;
#[cfg(test)]
mod tests;

pub use load::{ConfigError, Problem};

use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where a daemon keeps what is its, unless its configuration says otherwise.
pub const DATA_DIR: &str = "/var/lib/enforcer";
/// Where in the data directory the certificate for the approval server is, unless the
/// configuration says otherwise.
pub(crate) const IDENTITY_DIR: &str = "server";
/// Where in the data directory policy of the server is kept.
pub(crate) const POLICY_CACHE: &str = "policy";

/// The daemon's configuration. Field docs are what `enforcer init` writes beside each key.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This host.
    pub host: Host,
    /// The cgroups whose processes are governed; at least one.
    pub governed: Vec<Governed>,
    /// The kernel half.
    #[serde(default)]
    pub kernel: Kernel,
    /// The local proxy.
    #[serde(default)]
    pub proxy: Proxy,
    /// The resolver.
    #[serde(default)]
    pub resolver: Resolver,
    /// Certificates made here and trusted upstream.
    #[serde(default)]
    pub tls: Tls,
    /// The approval server; without it every needs-approval operation is denied.
    pub server: Option<Server>,
    /// The policy bundle.
    pub policy: Policy,
    /// The transcripts.
    #[serde(default)]
    pub transcript: Transcript,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// `enforcer run`.
    #[serde(default)]
    pub run: Run,
    /// Prometheus metrics.
    #[serde(default)]
    pub metrics: Metrics,
}

/// This host.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Name in policy, approvals and transcripts; the system's host name when left out.
    pub name: Option<String>,
    /// Keys, certificates and caches; made with mode 0700.
    #[serde(default = "defaults::data_dir")]
    pub data_dir: PathBuf,
    /// The control socket's directory.
    #[serde(default = "defaults::runtime_dir")]
    pub runtime_dir: PathBuf,
}

/// One governed cgroup.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Governed {
    /// Path below the cgroup2 mount, for example `/agents.slice`; made when missing and never
    /// removed. Its direct children are agents.
    pub cgroup: String,
}

/// The kernel half.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// Where links and maps are pinned (0700); on a bpffs, which is mounted when missing.
    pub pin_dir: PathBuf,
    /// How many captured flows can wait or live at once; an insert past it denies.
    pub max_flows: u32,
    /// How many of those one agent can have; a quarter of them when it is not set.
    pub max_flows_per_agent: Option<u32>,
    /// A daemon whose beat is older than this is stuck: connects get an error at once. Milliseconds.
    pub heartbeat_limit_ms: u64,
    /// Layers without which the daemon refuses to start, beside the cgroup layer: `unix`, `lsm`.
    pub require: Vec<String>,
    /// Unix sockets outside of the agent that agents may reach: `/path` that socket, `/dir/` all
    /// below, `@name` that abstract one. Where the unix layer goes by name an agent's own sockets
    /// have to be named, too.
    pub unix_sockets: Vec<String>,
}

/// The local proxy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proxy {
    /// TCP port on 127.0.0.1 and `::1` that captured connections arrive at; outside the
    /// ephemeral range.
    pub port: u16,
    /// UDP and TCP port on 127.0.0.1 and `::1` of the resolver; outside the ephemeral range.
    pub dns_port: u16,
}

/// The resolver.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resolver {
    /// Name servers that the daemon itself asks, with port; empty: those of /etc/resolv.conf.
    pub upstream: Vec<SocketAddr>,
    /// Names with fixed addresses, asked before any server (`"db.internal" = ["10.0.0.5"]`).
    pub hosts: std::collections::BTreeMap<String, Vec<IpAddr>>,
    /// The block that synthetic IPv4 addresses come from.
    pub synthetic_v4: ipnet::Ipv4Net,
    /// The block that synthetic IPv6 addresses come from (/96 or wider).
    pub synthetic_v6: ipnet::Ipv6Net,
    /// How long a query to a name server may take in all. Milliseconds.
    pub timeout_ms: u64,
}

/// Certificates made here and trusted upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// The interception CA's certificate and key; `ca.pem` and `ca.key` in the data directory
    /// when left out.
    pub ca_dir: Option<PathBuf>,
    /// PEM files with roots that upstreams may chain to, beside the system's.
    pub extra_roots: Vec<PathBuf>,
    /// Whether the system's roots are trusted upstream.
    pub system_roots: bool,
}

/// The approval server, as the daemon reaches it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Server {
    /// `https://host:port`.
    pub url: String,
    /// A file with a one-time join token, used once when no certificate is there yet.
    pub token_file: Option<PathBuf>,
    /// Where the certificate, its key and the server's CA are kept; `server/` in the data
    /// directory when left out.
    pub identity_dir: Option<PathBuf>,
}

/// Where policy comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicySource {
    /// A directory of this host.
    #[default]
    Local,
    /// The approval server, which signs and distributes it.
    Server,
}

/// The policy bundle.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// `local`, or `server`.
    pub source: PolicySource,
    /// With `local`: the bundle's directory (`targets.toml`, `rules.cedar`, `scopes.toml`,
    /// `masks.toml`).
    pub dir: Option<PathBuf>,
    /// With `server`: everything is denied when the server has not confirmed the policy for that
    /// long. Seconds.
    pub max_age_seconds: u64,
    /// With `server`: where the files with secrets lie that the policy may name.
    pub secrets_dirs: Vec<PathBuf>,
    /// With `server`: the variables of the daemon that the policy may name as secrets.
    pub secrets_env: Vec<String>,
}

/// When a transcript is flushed to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// Every event before it counts as recorded.
    Always,
    /// What a person approved before it is forwarded; everything within 100 ms.
    Approved,
    /// Everything within 100 ms.
    Interval,
}

/// What happens when the store is at its quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtQuota {
    /// Nothing more is forwarded.
    Stop,
    /// Bodies are left out, with their length and hash kept.
    Truncate,
}

/// The transcripts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Transcript {
    /// The RocksDB store; `transcripts/` in the data directory when left out.
    pub dir: Option<PathBuf>,
    /// `always`, `approved` or `interval`.
    pub sync: Sync,
    /// Bytes on disk at which `at_quota` applies.
    pub quota_bytes: u64,
    /// Percent of the quota that the transcripts of one agent may take; past it `at_quota` applies
    /// to that agent.
    pub agent_share: u8,
    /// `stop` or `truncate`.
    pub at_quota: AtQuota,
    /// Sealed flows older than this many days are removed; 0 keeps all.
    pub retention_days: u32,
    /// How much of one body is kept; past it the record is marked truncated, with length and
    /// hash. Bytes.
    pub body_limit: u64,
}

/// Bounds; each is per daemon unless it says otherwise.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections of one agent at once.
    pub connections_per_agent: usize,
    /// Request body bytes that are read before a needs-approval decision.
    pub approval_body: usize,
    /// Operations held at once, and of one agent.
    pub held: usize,
    /// Operations of one agent held at once.
    pub held_per_agent: usize,
    /// Total request body bytes held at once.
    pub held_bytes: usize,
    /// Request and response header bytes.
    pub header_bytes: usize,
    /// Time for a client to send its first bytes, its TLS handshake and its request head; and for
    /// an upstream to send so much of a masked answer that its head can follow. Milliseconds.
    pub handshake_ms: u64,
    /// Time for a connection to an upstream, with TLS. Milliseconds.
    pub dial_ms: u64,
    /// A connection without a byte in either direction is closed. Milliseconds.
    pub idle_ms: u64,
    /// DNS names of one agent that have a synthetic address at once.
    pub names_per_agent: usize,
    /// DNS questions of one agent per second; twice as many at once after a pause.
    pub dns_per_second: u32,
}

/// `enforcer run`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// The user that a root caller's program runs as unless `--user` says otherwise.
    pub user: String,
    /// The governed cgroup that `run` starts agents in; the first one when left out.
    pub cgroup: Option<String>,
    /// Whether every program gets a file system view of its own, as with `--sandbox`.
    pub sandbox: bool,
}

/// Prometheus metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address of `GET /metrics`; off when left out.
    pub listen: Option<SocketAddr>,
}

impl Config {
    /// This host's name in policy, approvals and transcripts. [`Config::load`] fills it in.
    pub fn host_name(&self) -> &str {
        self.host.name.as_deref().unwrap_or("localhost")
    }

    /// Where the interception CA's `ca.pem` and `ca.key` are.
    pub fn ca_dir(&self) -> PathBuf {
        let dir = self.tls.ca_dir.as_ref().unwrap_or(&self.host.data_dir);
        dir.clone()
    }

    /// Where the RocksDB transcripts are.
    pub fn transcript_dir(&self) -> PathBuf {
        self.transcript.dir.clone().unwrap_or_else(|| self.host.data_dir.join("transcripts"))
    }

    /// Where the certificate for the approval server, its key and the server's CA are.
    pub fn identity_dir(&self) -> PathBuf {
        self.server
            .as_ref()
            .and_then(|server| server.identity_dir.clone())
            .unwrap_or_else(|| self.host.data_dir.join(IDENTITY_DIR))
    }

    /// Where policy of the server is kept.
    pub fn policy_cache(&self) -> PathBuf {
        self.host.data_dir.join(POLICY_CACHE)
    }

    /// Where the table of synthetic addresses outlives the daemon.
    pub fn names_file(&self) -> PathBuf {
        self.host.data_dir.join("names")
    }

    /// The daemon's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.host.runtime_dir.join("control.sock")
    }

    /// The governed cgroup that `enforcer run` starts agents in, below the cgroup2 mount.
    pub fn run_cgroup(&self) -> Option<&str> {
        let first = self.governed.first().map(|governed| governed.cgroup.as_str());
        self.run.cgroup.as_deref().or(first)
    }
}
