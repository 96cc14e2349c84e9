//! What a key is when the file leaves it out.

use super::{
    AtQuota, Kernel, Limits, Policy, PolicySource, Proxy, Resolver, Run, Sync, Tls, Transcript,
};
use std::path::PathBuf;

pub(super) fn data_dir() -> PathBuf {
    super::DATA_DIR.into()
}

pub(super) fn runtime_dir() -> PathBuf {
    "/run/enforcer".into()
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            pin_dir: "/sys/fs/bpf/enforcer".into(),
            max_flows: 65_536,
            max_flows_per_agent: None,
            heartbeat_limit_ms: 5_000,
            require: Vec::new(),
            unix_sockets: Vec::new(),
        }
    }
}

impl Kernel {
    /// How many captured flows one agent can have at once.
    pub fn max_agent_flows(&self) -> u32 {
        self.max_flows_per_agent.unwrap_or_else(|| (self.max_flows / 4).max(1))
    }
}

impl Default for Proxy {
    fn default() -> Self {
        Self { port: 15_001, dns_port: 15_053 }
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
        Self { ca_dir: None, extra_roots: Vec::new(), system_roots: true }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            source: PolicySource::Local,
            dir: None,
            max_age_seconds: 86_400,
            secrets_dirs: vec!["/etc/enforcer/secrets".into()],
            secrets_env: Vec::new(),
        }
    }
}

impl Default for Transcript {
    fn default() -> Self {
        Self {
            dir: None,
            sync: Sync::Approved,
            quota_bytes: 10 << 30,
            agent_share: 50,
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
            dns_per_second: 100,
        }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { user: "enforcer-agent".into(), cgroup: None, sandbox: false }
    }
}
