//! `[[notify]]` of `server.toml`, and what is read from the files that it names.

use crate::server::audit::Code;
use crate::server::model::Record;
use crate::server::trust;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// What is told when nothing is said.
const EVENTS: [Code; 6] = [
    Code::ApprovalRequested,
    Code::ApprovalEscalated,
    Code::ApprovalDenied,
    Code::ApprovalExpired,
    Code::GlassBroken,
    Code::GlassReviewed,
];

/// What can be told: what happens to an approval.
const TOLD: [Code; 12] = [
    Code::ApprovalRequested,
    Code::ApprovalEscalated,
    Code::ApprovalVoted,
    Code::ApprovalApproved,
    Code::ApprovalDenied,
    Code::ApprovalExpired,
    Code::ApprovalCancelled,
    Code::GlassBroken,
    Code::GlassReviewed,
    Code::GrantClaimed,
    Code::GrantRevoked,
    Code::GrantVoided,
];

/// The shortest key of a signature. Bytes.
const KEY: usize = 16;

/// How a message looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Our own, signed.
    #[default]
    Json,
    /// An incoming webhook of Slack.
    Slack,
    /// A workflow of Microsoft Teams.
    Teams,
}

/// One endpoint, as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notify {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where to: https, or http on this machine.
    pub url: Option<String>,
    /// A file with the URL, which is a secret with Slack and Teams.
    pub url_file: Option<PathBuf>,
    /// How a message looks.
    #[serde(default)]
    pub format: Format,
    /// A file with the key of the signature.
    pub secret_file: Option<PathBuf>,
    /// A file with the CA that the endpoint's certificate must come from; the system's when left
    /// out.
    pub ca_file: Option<PathBuf>,
    /// What is told, by audit code.
    pub events: Option<Vec<String>>,
    /// Only approvals with one of these scopes; all when empty.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Time for one try. Seconds.
    #[serde(default = "timeout")]
    pub timeout_seconds: u32,
    /// How often it is tried.
    #[serde(default = "tries")]
    pub tries: u32,
}

fn timeout() -> u32 {
    10
}

fn tries() -> u32 {
    10
}

/// An endpoint that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("notify `{name}`: {what}")]
pub struct EndpointError {
    name: String,
    what: String,
}

impl Notify {
    /// What is wrong with it: the key, its value, and what would be right.
    pub(in crate::server) fn problem(&self) -> Option<(&'static str, String, &'static str)> {
        let codes = TOLD.map(Code::as_str);
        let unknown = |event: &&String| !codes.contains(&event.as_str());
        if self.name.is_empty() || self.name.len() > 64 {
            return Some(("notify.name", format!("{:?}", self.name), "1 to 64 characters"));
        }
        if self.url.is_some() == self.url_file.is_some() {
            return Some(("notify.url", self.name.clone(), "either `url` or `url_file`"));
        }
        if self.format == Format::Json && self.secret_file.is_none() {
            let right = "the key of the signature, made by `openssl rand -hex 32`";
            return Some(("notify.secret_file", self.name.clone(), right));
        }
        if let Some(unknown) = self.events.iter().flatten().find(unknown) {
            return Some(("notify.events", format!("{unknown:?}"), "codes of docs/approvals.md"));
        }
        if !(1..=60).contains(&self.timeout_seconds) {
            let value = self.timeout_seconds.to_string();
            return Some(("notify.timeout_seconds", value, "1 to 60"));
        }
        if !(1..=100).contains(&self.tries) {
            return Some(("notify.tries", self.tries.to_string(), "1 to 100"));
        }
        None
    }

    /// Paths that are relative start at the configuration.
    pub(in crate::server) fn based(&mut self, base: &Path) {
        for path in [&mut self.url_file, &mut self.secret_file, &mut self.ca_file] {
            *path = path.as_ref().map(|path| base.join(path));
        }
    }
}

/// One endpoint, ready to be told.
pub struct Endpoint {
    /// Its name in logs and metrics.
    pub name: String,
    pub(super) format: Format,
    pub(super) key: Option<Vec<u8>>,
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query.
    pub(super) path: String,
    pub(super) tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    pub(super) timeout: Duration,
    pub(super) tries: u32,
    events: Vec<String>,
    scopes: Vec<String>,
}

impl std::fmt::Debug for Endpoint {
    /// Without its URL and key: those are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoint").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Endpoint {
    /// Reads the files that it names.
    ///
    /// # Errors
    /// When one cannot be read or used.
    pub fn load(notify: &Notify) -> Result<Self, EndpointError> {
        let fail = |what: String| EndpointError { name: notify.name.clone(), what };
        let read = |path: &PathBuf| {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| fail(format!("{}: {error}", path.display())))?;
            Ok(text.trim().to_owned())
        };
        let url = match (&notify.url, &notify.url_file) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => read(path)?,
            (None, None) => return Err(fail("no URL".to_owned())),
        };
        // The URL itself is not told: it may be a secret.
        let bad = || fail("its URL must be https://host/path, or http to this machine".to_owned());
        let url = Url::parse(&url).map_err(|_| bad())?;
        let host = url.host_str().ok_or_else(bad)?.to_owned();
        let port = url.port_or_known_default().ok_or_else(bad)?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let here = bare == "localhost"
            || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback());
        let tls = match url.scheme() {
            "https" => {
                let name = ServerName::try_from(bare.clone()).map_err(|_| bad())?;
                // A file takes the place of the system's CAs.
                let ca = notify.ca_file.as_deref();
                Some((name, Arc::new(trust::client(ca, ca.is_none()).map_err(fail)?)))
            }
            "http" if here => None,
            _ => return Err(bad()),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad());
        }
        let key = notify.secret_file.as_ref().map(read).transpose()?.map(String::into_bytes);
        if key.as_ref().is_some_and(|key| key.len() < KEY) {
            return Err(fail(format!("its secret_file has fewer than {KEY} bytes")));
        }
        let events = match &notify.events {
            Some(events) => events.clone(),
            None => EVENTS.map(|code| code.as_str().to_owned()).to_vec(),
        };
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self {
            name: notify.name.clone(),
            format: notify.format,
            key,
            host: bare,
            port,
            path: format!("{}{query}", url.path()),
            tls,
            timeout: Duration::from_secs(notify.timeout_seconds.into()),
            tries: notify.tries,
            events,
            scopes: notify.scopes.clone(),
        })
    }

    /// Whether it is told of this.
    pub(super) fn wants(&self, code: Code, record: &Record) -> bool {
        let scope = |rule: &crate::server::model::Rule| self.scopes.contains(&rule.scope);
        self.events.iter().any(|event| event == code.as_str())
            && (self.scopes.is_empty() || record.rules.iter().any(scope))
    }
}
