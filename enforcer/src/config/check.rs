//! Values that read, but cannot work: each with what would be right.

use super::{Config, Kernel, Limits, PolicySource, Resolver, Server};
use crate::capture::names;
use crate::protocol::dns::names::Name;
use enforcer_common::names::MAX_UNIX_NAMES;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Component, Path};

/// The layers that `kernel.require` can ask for.
const LAYERS: [&str; 2] = ["unix", "lsm"];
/// No wait is longer (an hour), so that a slip of units is found.
const MAX_MS: u64 = 3_600_000;

/// How long policy of the server may stay unconfirmed: a minute to a month.
const MAX_AGE: RangeInclusive<u64> = 60..=30 * 86_400;

/// A step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// A value that cannot work.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) path: Vec<Step>,
    pub(super) what: String,
}

impl Finding {
    /// The key as it is written: `governed[1].cgroup`.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        for step in &self.path {
            match step {
                Step::Key(name) if key.is_empty() => key.push_str(name),
                Step::Key(name) => {
                    key.push('.');
                    key.push_str(name);
                }
                Step::Index(index) => key.push_str(&format!("[{index}]")),
            }
        }
        key
    }
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: &str, what: impl Into<String>) {
        self.add_in(path, &[], what);
    }

    fn add_in(&mut self, path: &str, more: &[Step], what: impl Into<String>) {
        let mut steps: Vec<Step> = path.split('.').map(|key| Step::Key(key.to_owned())).collect();
        steps.extend_from_slice(more);
        self.0.push(Finding { path: steps, what: what.into() });
    }

    fn path(&mut self, key: &str, path: Option<&Path>) {
        if let Some(path) = path
            && !is_clean(path)
        {
            self.add(
                key,
                format!(
                    "{path:?} must be an absolute path without `..`, for example {:?}",
                    Path::new(super::DATA_DIR).join(path.file_name().unwrap_or_default())
                ),
            );
        }
    }

    fn at_least(&mut self, key: &str, value: u64, least: u64) {
        if value < least {
            self.add(key, format!("is {value}, must be at least {least}"));
        }
    }

    fn milliseconds(&mut self, key: &str, value: u64) {
        if !(1..=MAX_MS).contains(&value) {
            self.add(key, format!("is {value}, must be 1 to {MAX_MS} (milliseconds)"));
        }
    }
}

/// Everything that cannot work.
pub(super) fn check(config: &Config, ephemeral: &RangeInclusive<u16>) -> Vec<Finding> {
    let mut found = Findings::default();
    host(config, &mut found);
    governed(config, &mut found);
    kernel(&config.kernel, &mut found);
    ports(config, ephemeral, &mut found);
    resolver(config, &mut found);
    tls(config, &mut found);
    if let Some(server) = &config.server {
        approval_server(server, &mut found);
    }
    policy(config, &mut found);
    found.path("transcript.dir", config.transcript.dir.as_deref());
    found.at_least("transcript.quota_bytes", config.transcript.quota_bytes, 1);
    if !(1..=100).contains(&config.transcript.agent_share) {
        let share = config.transcript.agent_share;
        found.add("transcript.agent_share", format!("is {share}, must be 1 to 100 (percent)"));
    }
    limits(&config.limits, &mut found);
    run(config, &mut found);
    found.0
}

/// Letters, digits, `.`, `_`, `-`; 1 to 253 bytes.
pub(super) fn is_host_name(name: &str) -> bool {
    (1..=253).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_clean(path: &Path) -> bool {
    path.is_absolute() && !path.components().any(|c| c == Component::ParentDir)
}

fn host(config: &Config, found: &mut Findings) {
    if config.host.name.as_deref().is_some_and(|name| !is_host_name(name)) {
        found.add("host.name", "must be 1 to 253 letters, digits, `.`, `_` and `-`");
    }
    found.path("host.data_dir", Some(&config.host.data_dir));
    found.path("host.runtime_dir", Some(&config.host.runtime_dir));
}

fn governed(config: &Config, found: &mut Findings) {
    if config.governed.is_empty() {
        found.add(
            "governed",
            "is empty, so nothing would be governed; add `[[governed]]` with \
             `cgroup = \"/agents.slice\"`",
        );
    }
    for (at, governed) in config.governed.iter().enumerate() {
        let key = [Step::Index(at), Step::Key("cgroup".to_owned())];
        let cgroup = &governed.cgroup;
        if !is_cgroup(cgroup) {
            found.add_in(
                "governed",
                &key,
                format!(
                    "{cgroup:?} must be a path below the cgroup2 mount that starts with `/` and is \
                     not the root, for example \"/agents.slice\""
                ),
            );
        }
        let others = config.governed[..at].iter().map(|other| &other.cgroup);
        for other in others {
            if is_inside(cgroup, other) || is_inside(other, cgroup) {
                found.add_in(
                    "governed",
                    &key,
                    format!("{cgroup:?} and {other:?} overlap; govern the outer one only"),
                );
            }
        }
    }
}

fn is_cgroup(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| {
        rest.split('/').all(|part| {
            (1..=255).contains(&part.len())
                && part != "."
                && part != ".."
                && !part.chars().any(char::is_control)
        })
    })
}

fn is_inside(path: &str, root: &str) -> bool {
    path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn kernel(kernel: &Kernel, found: &mut Findings) {
    found.path("kernel.pin_dir", Some(&kernel.pin_dir));
    if !(1..=1 << 22).contains(&kernel.max_flows) {
        found.add("kernel.max_flows", format!("is {}, must be 1 to {}", kernel.max_flows, 1 << 22));
    }
    if kernel.max_flows_per_agent.is_some_and(|share| !(1..=kernel.max_flows).contains(&share)) {
        found.add("kernel.max_flows_per_agent", "must be 1 to kernel.max_flows".to_owned());
    }
    if !(100..=60_000).contains(&kernel.heartbeat_limit_ms) {
        found.add(
            "kernel.heartbeat_limit_ms",
            format!("is {}, must be 100 to 60000", kernel.heartbeat_limit_ms),
        );
    }
    for (at, layer) in kernel.require.iter().enumerate() {
        if !LAYERS.contains(&layer.as_str()) {
            found.add_in(
                "kernel.require",
                &[Step::Index(at)],
                format!("{layer:?} is no layer; there are {}", quoted(&LAYERS)),
            );
        }
    }
    if kernel.unix_sockets.len() > MAX_UNIX_NAMES as usize {
        found.add("kernel.unix_sockets", format!("has more than {MAX_UNIX_NAMES} entries"));
    }
    for (at, entry) in kernel.unix_sockets.iter().enumerate() {
        if names::bytes(entry).is_none() {
            found.add_in(
                "kernel.unix_sockets",
                &[Step::Index(at)],
                format!(
                    "{entry:?} is no name of a unix socket: an absolute path of less than 108 \
                     bytes without `..` (a directory ends with /), or @ and an abstract name"
                ),
            );
        }
    }
}

fn quoted(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    words.join(" and ")
}

fn ports(config: &Config, ephemeral: &RangeInclusive<u16>, found: &mut Findings) {
    let (low, high) = (ephemeral.start(), ephemeral.end());
    let proxy = &config.proxy;
    for (key, port) in [("proxy.port", proxy.port), ("proxy.dns_port", proxy.dns_port)] {
        if port == 0 {
            found.add(key, "is 0; choose a fixed port, for example 15001 or 15053");
        } else if ephemeral.contains(&port) {
            found.add(
                key,
                format!(
                    "is {port}, which the system may give to any socket by itself \
                     (net.ipv4.ip_local_port_range is {low} to {high}); choose a port outside"
                ),
            );
        }
    }
    if proxy.port == proxy.dns_port {
        found.add(
            "proxy.dns_port",
            format!("is {}, as proxy.port is; they must differ", proxy.port),
        );
    }
    if let Some(listen) = config.metrics.listen
        && (listen.port() == proxy.port || listen.port() == proxy.dns_port)
    {
        found.add(
            "metrics.listen",
            format!("port {} is the proxy's own; choose another", listen.port()),
        );
    }
}

fn resolver(config: &Config, found: &mut Findings) {
    let resolver: &Resolver = &config.resolver;
    for (at, server) in resolver.upstream.iter().enumerate() {
        let own = server.ip().is_loopback()
            && (server.port() == config.proxy.dns_port || server.port() == config.proxy.port);
        if server.port() == 0 || server.ip().is_unspecified() || own {
            found.add_in(
                "resolver.upstream",
                &[Step::Index(at)],
                format!("{server} is no name server; write for example \"192.0.2.53:53\""),
            );
        }
    }
    for (name, addresses) in &resolver.hosts {
        let key = [Step::Key(name.clone())];
        if let Err(why) = Name::parse(name) {
            found.add_in("resolver.hosts", &key, why.to_string());
        }
        if addresses.is_empty() {
            found.add_in("resolver.hosts", &key, "has no address; name one, or leave it out");
        }
    }
    let v4 = resolver.synthetic_v4;
    let bad_v4 = v4.trunc() != v4
        || !(8..=24).contains(&v4.prefix_len())
        || v4.contains(&Ipv4Addr::LOCALHOST)
        || v4.network().is_multicast()
        || v4.network().is_unspecified();
    if bad_v4 {
        found.add(
            "resolver.synthetic_v4",
            format!(
                "{v4} must be a block of /8 to /24 without host bits that nothing uses, for \
                 example \"198.18.0.0/15\""
            ),
        );
    }
    let v6 = resolver.synthetic_v6;
    let bad_v6 = v6.trunc() != v6
        || !(16..=96).contains(&v6.prefix_len())
        || v6.contains(&Ipv6Addr::LOCALHOST)
        || v6.network().is_multicast();
    if bad_v6 {
        found.add(
            "resolver.synthetic_v6",
            format!(
                "{v6} must be a block of /16 to /96 without host bits that nothing uses, for \
                 example \"fd65:6e66:7263::/64\""
            ),
        );
    }
    found.milliseconds("resolver.timeout_ms", resolver.timeout_ms);
    let room = 1_u64 << (32 - u32::from(v4.prefix_len()).min(32));
    if config.limits.names_per_agent as u64 > room {
        found.add(
            "limits.names_per_agent",
            format!(
                "is {}, but resolver.synthetic_v4 has only {room} addresses",
                config.limits.names_per_agent
            ),
        );
    }
}

fn tls(config: &Config, found: &mut Findings) {
    found.path("tls.ca_dir", config.tls.ca_dir.as_deref());
    for (at, root) in config.tls.extra_roots.iter().enumerate() {
        if !is_clean(root) {
            found.add_in(
                "tls.extra_roots",
                &[Step::Index(at)],
                format!("{root:?} must be an absolute path without `..`"),
            );
        }
    }
    if !config.tls.system_roots && config.tls.extra_roots.is_empty() {
        found.add(
            "tls.system_roots",
            "is false and tls.extra_roots is empty, so no upstream could be verified; name a root",
        );
    }
}

fn approval_server(server: &Server, found: &mut Findings) {
    let right = "must be `https://host:port` and nothing more";
    match url::Url::parse(&server.url) {
        Ok(url) => {
            let bare = url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none();
            if url.scheme() != "https" || !url.has_host() || !bare {
                found.add("server.url", right);
            }
        }
        Err(error) => found.add("server.url", format!("{error}; it {right}")),
    }
    found.path("server.token_file", server.token_file.as_deref());
    found.path("server.identity_dir", server.identity_dir.as_deref());
}

fn policy(config: &Config, found: &mut Findings) {
    let policy = &config.policy;
    found.path("policy.dir", policy.dir.as_deref());
    if !MAX_AGE.contains(&policy.max_age_seconds) {
        found.add(
            "policy.max_age_seconds",
            format!(
                "is {}, must be {} to {} (seconds)",
                policy.max_age_seconds,
                MAX_AGE.start(),
                MAX_AGE.end()
            ),
        );
    }
    for (at, dir) in policy.secrets_dirs.iter().enumerate() {
        if !is_clean(dir) {
            found.add_in(
                "policy.secrets_dirs",
                &[Step::Index(at)],
                format!("{dir:?} must be an absolute path without `..`"),
            );
        }
    }
    for (at, name) in policy.secrets_env.iter().enumerate() {
        if name.is_empty() || name.contains(['=', '\0']) {
            found.add_in(
                "policy.secrets_env",
                &[Step::Index(at)],
                format!("{name:?} is not the name of a variable"),
            );
        }
    }
    match (policy.source, &policy.dir) {
        (PolicySource::Local, None) => found.add(
            "policy.dir",
            "is missing; name the bundle's directory, or write `source = \"server\"`",
        ),
        (PolicySource::Server, Some(_)) => found.add(
            "policy.dir",
            "is set beside `source = \"server\"`; only one can be the policy: remove one of them",
        ),
        _ => {}
    }
    if policy.source == PolicySource::Server && config.server.is_none() {
        found
            .add("policy.source", "is \"server\", but there is no [server]; add it with its `url`");
    }
}

fn limits(limits: &Limits, found: &mut Findings) {
    for (key, value) in [
        ("limits.connections", limits.connections),
        ("limits.connections_per_agent", limits.connections_per_agent),
        ("limits.approval_body", limits.approval_body),
        ("limits.held", limits.held),
        ("limits.held_per_agent", limits.held_per_agent),
        ("limits.held_bytes", limits.held_bytes),
        ("limits.names_per_agent", limits.names_per_agent),
    ] {
        found.at_least(key, value as u64, 1);
    }
    // hyper's own least for an HTTP/1 buffer.
    found.at_least("limits.header_bytes", limits.header_bytes as u64, 8_192);
    found.at_least("limits.dns_per_second", limits.dns_per_second.into(), 1);
    found.milliseconds("limits.handshake_ms", limits.handshake_ms);
    found.milliseconds("limits.dial_ms", limits.dial_ms);
    found.milliseconds("limits.idle_ms", limits.idle_ms);
    for (key, part, whole_key, whole) in [
        (
            "limits.connections_per_agent",
            limits.connections_per_agent,
            "limits.connections",
            limits.connections,
        ),
        ("limits.held_per_agent", limits.held_per_agent, "limits.held", limits.held),
        ("limits.approval_body", limits.approval_body, "limits.held_bytes", limits.held_bytes),
    ] {
        if part > whole {
            found.add(key, format!("is {part}, more than {whole_key} ({whole}) allows in all"));
        }
    }
}

fn run(config: &Config, found: &mut Findings) {
    let user = &config.run.user;
    let is_name = (1..=32).contains(&user.len())
        && user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !user.starts_with('-');
    if !is_name || user == "root" {
        found.add("run.user", format!("{user:?} must be the name of a user other than root"));
    }
    if let Some(cgroup) = &config.run.cgroup
        && !config.governed.iter().any(|governed| governed.cgroup == *cgroup)
    {
        found.add(
            "run.cgroup",
            format!("{cgroup:?} is not governed; write one of the `[[governed]]` cgroups"),
        );
    }
}
