//! `server.toml`: read, checked, and turned into a [`Config`] that the rest can trust.
//!
//! An unknown key, a wrong type or a value out of its range is an error that
//! names the file, the line and what would be right.

use super::notify::Notify;
use super::people::config::Console;
use crate::approval::identity::{Role, Subject};
use rustls_pki_types::ServerName;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What `enforcer server init` writes.
pub const STARTER: &str = include_str!("server.toml");

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {cause} (`enforcer server init` writes a first one)")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// It is not what it must be; the text names line and column.
    #[error("{path}: {cause}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What and where.
        cause: Box<toml::de::Error>,
    },
    /// A value is out of its range.
    #[error("{path}: {key} = {value}: {right}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it is.
        value: String,
        /// What would be right.
        right: &'static str,
    },
}

/// The approval server's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address that daemons and people reach.
    pub listen: SocketAddr,
    /// Store, keys and the admin socket; made with mode 0700.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// Names and addresses that the server's certificate is good for: those in the clients' URLs.
    pub names: Vec<String>,
    /// Where requests and decisions are kept.
    #[serde(default)]
    pub store: Store,
    /// The server's own CA.
    #[serde(default)]
    pub ca: Ca,
    /// How long the certificates that it issues are good.
    #[serde(default)]
    pub certificates: Certificates,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// Who owns which agents, and so has no vote on them.
    #[serde(default, rename = "owner")]
    pub owners: Vec<Owner>,
    /// Who is told what, by webhook.
    #[serde(default)]
    pub notify: Vec<Notify>,
    /// The web console.
    #[serde(default)]
    pub console: Console,
    /// Prometheus metrics.
    #[serde(default)]
    pub metrics: Metrics,
}

/// Where requests and decisions are kept: in the data directory, or in a PostgreSQL that several
/// servers share.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Store {
    /// `postgres://user@host/database`; the embedded store when left out.
    pub postgres: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
    /// The CAs that its certificate may be of, PEM; the system's when left out.
    pub ca_file: Option<PathBuf>,
    /// Connections for reading at once; two more are for changes and for news.
    pub connections: usize,
}

/// The server's own CA.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ca {
    /// Where `ca.pem` and `ca.key` are; `ca/` in the data directory when left out. Made at the
    /// first start.
    pub dir: Option<PathBuf>,
}

/// How long the certificates that it issues are good.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Certificates {
    /// A daemon's. Hours.
    pub daemon_hours: u32,
    /// A person's. Hours.
    pub person_hours: u32,
}

/// Bounds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// The largest message. Bytes.
    pub message_bytes: usize,
    /// Requests of one host that may wait for people at once.
    pub pending_per_host: usize,
    /// Requests of one agent that may wait for people at once.
    pub pending_per_agent: usize,
    /// Calls a second of one caller, on average.
    pub calls_per_second: u32,
    /// Calls of one caller at once.
    pub calls_burst: u32,
    /// How long a denial answers the same request without asking people again. Seconds.
    pub denied_for_seconds: u32,
}

/// People who own agents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The host; `*` for any.
    pub host: String,
    /// The agent; `*` for any.
    pub agent: String,
    /// Who has no vote on what it asks.
    pub people: Vec<String>,
}

/// Prometheus metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address of `GET /metrics`; off when left out.
    pub listen: Option<SocketAddr>,
}

fn data_dir() -> PathBuf {
    "/var/lib/enforcer-server".into()
}

impl Default for Certificates {
    fn default() -> Self {
        Self { daemon_hours: 24, person_hours: 168 }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { postgres: None, password_file: None, ca_file: None, connections: 8 }
    }
}

impl Store {
    fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let files =
            [("store.password_file", &self.password_file), ("store.ca_file", &self.ca_file)];
        for (key, file) in files {
            if let (None, Some(file)) = (&self.postgres, file) {
                return Some((key, file.display().to_string(), "only with store.postgres"));
            }
        }
        let connections = self.connections;
        let some = (1..=256).contains(&connections);
        (!some).then(|| ("store.connections", connections.to_string(), "1 to 256"))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            message_bytes: 4 << 20,
            pending_per_host: 256,
            pending_per_agent: 32,
            calls_per_second: 200,
            calls_burst: 400,
            denied_for_seconds: 30,
        }
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// When it cannot be used, with the place.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Self::parse(&text, path)
    }

    /// Reads and checks a text; `path` is for its errors and for paths that are relative to it.
    ///
    /// # Errors
    /// When it cannot be used, with the place.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|cause| ConfigError::Parse {
            path: path.to_owned(),
            cause: Box::new(cause),
        })?;
        if let Some((key, value, right)) = config.problem() {
            let path = path.to_owned();
            return Err(ConfigError::Value { path, key, value, right });
        }
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        config.data_dir = base.join(&config.data_dir);
        let store = &mut config.store;
        for file in [&mut store.password_file, &mut store.ca_file].into_iter().flatten() {
            *file = base.join(&*file);
        }
        config.ca.dir = config.ca.dir.map(|dir| base.join(dir));
        config.console.based(base);
        config.notify.iter_mut().for_each(|notify| notify.based(base));
        Ok(config)
    }

    /// Where the CA is.
    pub fn ca_dir(&self) -> PathBuf {
        self.ca.dir.clone().unwrap_or_else(|| self.data_dir.join("ca"))
    }

    /// Where the key that signs policy is.
    pub fn policy_key(&self) -> PathBuf {
        self.ca_dir().join("policy.key")
    }

    /// The embedded store.
    pub fn store_dir(&self) -> PathBuf {
        self.data_dir.join("store")
    }

    /// The socket for this machine's root.
    pub fn admin_socket(&self) -> PathBuf {
        self.data_dir.join("admin.sock")
    }

    /// The people that own an agent.
    pub fn owners(&self, host: &str, agent: &str) -> Vec<String> {
        let matches = |pattern: &str, name: &str| pattern == "*" || pattern == name;
        let mut people: Vec<String> = self
            .owners
            .iter()
            .filter(|owner| matches(&owner.host, host) && matches(&owner.agent, agent))
            .flat_map(|owner| owner.people.clone())
            .collect();
        people.sort();
        people.dedup();
        people
    }

    fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let Limits {
            connections,
            message_bytes,
            pending_per_host,
            pending_per_agent,
            calls_per_second,
            calls_burst,
            ..
        } = self.limits;
        if self.names.is_empty() {
            let right = "name at least one host name or address that clients use";
            return Some(("names", "[]".to_owned(), right));
        }
        if let Some(bad) = self.names.iter().find(|n| ServerName::try_from(n.as_str()).is_err()) {
            return Some(("names", format!("{bad:?}"), "host names and IP addresses only"));
        }
        let hours = 1..=24 * 366;
        for (key, value) in [
            ("certificates.daemon_hours", self.certificates.daemon_hours),
            ("certificates.person_hours", self.certificates.person_hours),
        ] {
            if !hours.contains(&value) {
                return Some((key, value.to_string(), "1 to 8784"));
            }
        }
        for (key, value) in [
            ("limits.connections", connections),
            ("limits.pending_per_host", pending_per_host),
            ("limits.pending_per_agent", pending_per_agent),
            ("limits.calls_per_second", calls_per_second as usize),
            ("limits.calls_burst", calls_burst as usize),
        ] {
            if value == 0 {
                return Some((key, value.to_string(), "at least 1"));
            }
        }
        if !(64 << 10..=16 << 20).contains(&message_bytes) {
            return Some(("limits.message_bytes", message_bytes.to_string(), "65536 to 16777216"));
        }
        if let Some(problem) = self.store.problem() {
            return Some(problem);
        }
        if let Some(problem) = self.notify.iter().find_map(Notify::problem) {
            return Some(problem);
        }
        if let Some(problem) = self.console.problem() {
            return Some(problem);
        }
        let people = self.owners.iter().flat_map(|owner| &owner.people);
        for person in people {
            if Subject::new(Role::Reviewer, person).is_none() {
                return Some((
                    "owner.people",
                    format!("{person:?}"),
                    "names as in their certificates",
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/enforcer/server.toml")).map_err(|e| e.to_string())
    }

    const LEAST: &str = "listen = \"127.0.0.1:7443\"\nnames = [\"localhost\"]\n";

    const HOOK: &str = "[[notify]]\nname = \"a\"\nurl = \"https://a/\"\nsecret_file = \"k\"\n";

    const CONSOLE: &str = "[console]\nurl = \"https://c:8443\"\n[console.oidc]\nname = \"x\"\n\
        issuer = \"https://id\"\nclient_id = \"e\"\nclient_secret_file = \"s\"\n\
        [[console.oidc.grant]]\ngroup = \"g\"\nrole = \"reviewer\"\ngroups = [\"ops\"]\n";

    #[test]
    fn a_group_of_the_provider_is_a_right_here() {
        let grant = |group: &str, role: &str| {
            format!("[[console.oidc.grant]]\ngroup = \"{group}\"\nrole = \"{role}\"\n")
        };
        let more = grant("it", "admin") + &grant("rules", "policy-admin") + &grant("all", "viewer");
        let config = parse(&format!("{LEAST}{CONSOLE}{more}")).unwrap();
        let oidc = config.console.oidc.unwrap();
        let right = |groups: &[&str]| {
            oidc.right(&groups.iter().map(|g| (*g).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(right(&[]), None);
        assert_eq!(right(&["other"]), None);
        assert_eq!(right(&["all"]), Some((Role::Viewer, vec![])));
        assert_eq!(right(&["all", "g"]), Some((Role::Reviewer, vec!["ops".to_owned()])));
        assert_eq!(right(&["rules", "g"]), Some((Role::PolicyAdmin, vec![])));
        assert_eq!(right(&["g", "it"]), Some((Role::Admin, vec![])));
    }

    #[test]
    fn the_starter_is_good_and_states_the_defaults() {
        let starter = parse(STARTER).unwrap();
        let least = parse(LEAST).unwrap();
        assert_eq!(format!("{:?}", starter.limits), format!("{:?}", least.limits));
        assert_eq!(format!("{:?}", starter.certificates), format!("{:?}", least.certificates));
        assert_eq!(starter.data_dir, least.data_dir);
        assert_eq!(format!("{:?}", starter.store), format!("{:?}", least.store));
        assert_eq!(format!("{:?}", starter.console), format!("{:?}", least.console));
        assert!(starter.owners.is_empty());
    }

    #[test]
    fn errors_name_the_place() {
        let cases = [
            (format!("{LEAST}listn = 1\n"), "line 3"),
            (format!("{LEAST}[limits]\nconections = 1\n"), "line 4"),
            (LEAST.replace("7443", "x"), "line 1"),
            (format!("{LEAST}[limits]\nconnections = 0\n"), "limits.connections = 0"),
            (LEAST.replace("localhost", "a b"), "names = \"a b\""),
            (LEAST.replace("\"localhost\"", ""), "names = []"),
            (format!("{LEAST}[store]\nconnections = 0\n"), "store.connections = 0"),
            (format!("{LEAST}[store]\npassword_file = \"p\"\n"), "store.password_file"),
            (format!("{LEAST}[certificates]\ndaemon_hours = 0\n"), "daemon_hours"),
            (
                format!("{LEAST}[[owner]]\nhost = \"*\"\nagent = \"*\"\npeople = [\"Al\"]\n"),
                "owner.people",
            ),
            (format!("{LEAST}{HOOK}url_file = \"f\"\n"), "notify.url = a"),
            (format!("{LEAST}{}", HOOK.replace("secret_file = \"k\"\n", "")), "notify.secret_file"),
            (format!("{LEAST}{HOOK}events = [\"x\"]\n"), "notify.events = \"x\""),
            (format!("{LEAST}{HOOK}tries = 0\n"), "notify.tries = 0"),
            (format!("{LEAST}{HOOK}timeout_seconds = 61\n"), "notify.timeout_seconds = 61"),
            (format!("{LEAST}{HOOK}format = \"xml\"\n"), "line 7"),
        ];
        assert_eq!(parse(&format!("{LEAST}{HOOK}")).unwrap().notify.len(), 1);
        let console = format!("{LEAST}{CONSOLE}");
        assert!(parse(&console).unwrap().console.oidc.is_some());
        let spoiled = [
            ("https://c:8443", "http://c:8443", "console.url"),
            ("https://c:8443", "https://c:8443/x", "console.url"),
            ("url = \"https://c:8443\"\n", "", "console.url = missing"),
            ("https://id", "http://id", "console.oidc.issuer"),
            ("role = \"reviewer\"", "role = \"daemon\"", "console.oidc.grant.role"),
            ("role = \"reviewer\"", "role = \"admin\"", "console.oidc.grant.groups"),
            ("role = \"reviewer\"", "role = \"root\"", "line"),
            ("[console]", "[console]\nkey_file = \"k\"", "console.certificate_file"),
            ("[console]", "[console]\nsession_hours = 0", "console.session_hours"),
            ("[console]", "[console]\nidle_minutes = 0", "console.idle_minutes"),
        ];
        for (from, to, place) in spoiled {
            let error = parse(&console.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(place), "{error}");
        }
        for (text, place) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(place) && error.contains("server.toml"), "{error}");
        }
    }

    #[test]
    fn owners() {
        let text = format!(
            "{LEAST}[[owner]]\nhost = \"*\"\nagent = \"build\"\npeople = [\"b\", \"a\"]\n\
             [[owner]]\nhost = \"h\"\nagent = \"*\"\npeople = [\"a\"]\n"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.owners("h", "build"), ["a", "b"]);
        assert_eq!(config.owners("h", "x"), ["a"]);
        assert!(config.owners("i", "x").is_empty());
    }
}
