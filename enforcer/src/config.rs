//! `enforcer.toml`: read, checked and turned into a [`Config`] that the rest can trust.
//!
//! An unknown key, a wrong type or a value out of its range is an error that
//! names the file, the line and what would be right.

use serde::Deserialize;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

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
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// The control socket's directory.
    #[serde(default = "runtime_dir")]
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
    /// A daemon whose beat is older than this is stuck: connects get an error at once. Milliseconds.
    pub heartbeat_limit_ms: u64,
    /// Layers without which the daemon refuses to start, beside the cgroup layer: `unix`, `lsm`.
    pub require: Vec<String>,
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

/// The policy bundle.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The bundle's directory (`targets.toml`, `rules.cedar`, `scopes.toml`, `masks.toml`).
    pub dir: PathBuf,
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
    /// Time for a client to send its first bytes, its TLS handshake and its request head.
    /// Milliseconds.
    pub handshake_ms: u64,
    /// Time for a connection to an upstream, with TLS. Milliseconds.
    pub dial_ms: u64,
    /// A connection without a byte in either direction is closed. Milliseconds.
    pub idle_ms: u64,
    /// DNS names of one agent that have a synthetic address at once.
    pub names_per_agent: usize,
}

/// `enforcer run`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// The user that a root caller's program runs as unless `--user` says otherwise.
    pub user: String,
    /// The governed cgroup that `run` starts agents in; the first one when left out.
    pub cgroup: Option<String>,
}

/// Prometheus metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address of `GET /metrics`; off when left out.
    pub listen: Option<SocketAddr>,
}

fn data_dir() -> PathBuf {
    "/var/lib/enforcer".into()
}

fn runtime_dir() -> PathBuf {
    "/run/enforcer".into()
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            pin_dir: "/sys/fs/bpf/enforcer".into(),
            max_flows: 65_536,
            heartbeat_limit_ms: 5_000,
            require: Vec::new(),
        }
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            port: 15_001,
            dns_port: 15_053,
        }
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            upstream: Vec::new(),
            hosts: std::collections::BTreeMap::new(),
            synthetic_v4: ipnet::Ipv4Net::new_assert([198, 18, 0, 0].into(), 15),
            synthetic_v6: ipnet::Ipv6Net::new_assert(
                [0xfd65, 0x6e66, 0x7263, 0, 0, 0, 0, 0].into(),
                64,
            ),
            timeout_ms: 5_000,
        }
    }
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca_dir: None,
            extra_roots: Vec::new(),
            system_roots: true,
        }
    }
}

impl Default for Transcript {
    fn default() -> Self {
        Self {
            dir: None,
            sync: Sync::Approved,
            quota_bytes: 10 << 30,
            at_quota: AtQuota::Stop,
            retention_days: 30,
            body_limit: 16 << 20,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            connections_per_agent: 1_024,
            approval_body: 1 << 20,
            held: 256,
            held_per_agent: 32,
            held_bytes: 64 << 20,
            header_bytes: 64 << 10,
            handshake_ms: 10_000,
            dial_ms: 10_000,
            idle_ms: 300_000,
            names_per_agent: 4_096,
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self {
            user: "enforcer-agent".into(),
            cgroup: None,
        }
    }
}
