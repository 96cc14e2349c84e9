//! An operation as a person describes it, for `policy explain` and `tests/*.toml`.
//!
//! An [`Ask`] (a URL, a method, some headers) becomes the same facts that the
//! proxy would find, and is judged by the same code.

use super::schema::{self, DNS, GRPC, OPAQUE};
use super::target::{NamePattern, Target};
use super::{Bundle, Judgement, Verdict};
use crate::operation::{Fact, Operation, Protocol};
use crate::principal::{AgentName, Principal, Process};
use http::uri::Authority;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::path::PathBuf;

/// An operation and who asks for it, as a person describes it.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The agent.
    pub agent: String,
    /// The host's name; `host` when left out.
    pub host: Option<String>,
    /// The task.
    pub task: Option<String>,
    /// The user id; 1000 when left out.
    pub uid: Option<u32>,
    /// The executable's path.
    pub exe: Option<String>,
    /// The executable's SHA-256.
    pub exe_sha256: Option<String>,
    /// The target that it must turn out to be; with it, `url` may be a path alone.
    pub target: Option<String>,
    /// The HTTP method; `GET` when left out.
    pub method: Option<String>,
    /// The URL of an HTTP request. Exactly one of this, `dns`, `connect`, `sql` and `sign_in`.
    pub url: Option<String>,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; a request without one has length 0.
    pub body: Option<String>,
    /// The body's length when the body itself does not matter.
    pub body_length: Option<u32>,
    /// A name that the resolver is asked for.
    pub dns: Option<String>,
    /// The record type asked for.
    pub record_type: Option<String>,
    /// `host:port` of an uninspected connection.
    pub connect: Option<String>,
    /// SQL for the database that `target` names: one statement or several.
    pub sql: Option<String>,
    /// Signing in to the database that `target` names.
    pub sign_in: bool,
    /// The user that the agent signed in as; left out: the first that the target knows.
    pub user: Option<String>,
    /// The database that it asked for; left out: the first that the target knows.
    pub database: Option<String>,
    /// The role in force; left out: the one that the user is mapped to.
    pub role: Option<String>,
    /// Where names without a schema are looked for; `public` when left out.
    pub search_path: Vec<String>,
    /// The columns (`schema.table.column`) that the statement shows, where that matters.
    pub columns: Option<Vec<String>>,
    /// The columns that its conditions look at, where that matters.
    pub looked_at: Option<Vec<String>>,
    /// Bound parameters, by number.
    pub parameters: Vec<(String, String)>,
    /// Whether it is inside a transaction block.
    pub in_transaction: bool,
}

/// An [`Ask`] that does not describe an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadAsk(String);

/// What an [`Ask`] has to say.
const ONE: &str = "give exactly one of `url`, `dns`, `connect`, `sql` and `sign_in`";

pub(super) fn bad(what: impl Into<String>) -> BadAsk {
    BadAsk(what.into())
}

impl Bundle {
    /// Judges an operation that a person describes.
    ///
    /// # Errors
    /// When it does not describe an operation.
    pub fn judge(&self, ask: &Ask) -> Result<Judgement, BadAsk> {
        let principal = ask.principal()?;
        let others = [&ask.url, &ask.dns, &ask.connect].iter().any(|other| other.is_some());
        if (ask.sql.is_some() || ask.sign_in) && !others {
            return self.judge_sql(ask, &principal);
        }
        let asked = ask.asked(self)?;
        let found = match (asked.address, asked.protocol) {
            (Some(ip), _) => self.target_for_addr(ip, asked.port),
            (None, Protocol::Dns) => self.target_for_name(&asked.name, None),
            (None, _) => self.target_for_name(&asked.name, Some(asked.port)),
        };
        let Some(target) = found else {
            return Ok(Judgement {
                verdict: Verdict::Deny,
                rules: Vec::new(),
                trace: vec![format!(
                    "denied: no target means {} on port {}",
                    asked.name, asked.port
                )],
            });
        };
        if let Some(wanted) = &ask.target
            && *wanted != target.name
        {
            return Err(bad(format!(
                "{}:{} is target `{}`, not `{wanted}`",
                asked.name, asked.port, target.name
            )));
        }
        let op = asked.operation(ask, target);
        Ok(self.evaluate(&principal, target, &op))
    }
}

/// Where an [`Ask`] goes to.
struct Asked {
    name: String,
    address: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
    /// Scheme, path and query of HTTP.
    http: Option<(String, String, Option<String>)>,
}

impl Ask {
    fn principal(&self) -> Result<Principal, BadAsk> {
        let agent = AgentName::parse(&self.agent).ok_or_else(|| {
            bad(format!("{:?} is no agent's name: use letters, digits and . _ @ : -", self.agent))
        })?;
        Ok(Principal {
            host: self.host.clone().unwrap_or_else(|| "host".to_owned()),
            cgroup: format!("/{agent}"),
            agent,
            task: self.task.clone(),
            process: Process {
                uid: self.uid.unwrap_or(1000),
                exe: self.exe.as_ref().map(PathBuf::from),
                exe_sha256: self.exe_sha256.clone(),
                ..Process::default()
            },
        })
    }

    fn asked(&self, bundle: &Bundle) -> Result<Asked, BadAsk> {
        let sql = self.sql.is_some() || self.sign_in;
        match (&self.url, &self.dns, &self.connect) {
            _ if sql => Err(bad(ONE)),
            (Some(url), None, None) => self.http(url, bundle),
            (None, Some(name), None) => Ok(Asked {
                name: canonical(name),
                address: None,
                port: 53,
                protocol: Protocol::Dns,
                http: None,
            }),
            (None, None, Some(place)) => {
                let (name, port) = host_port(place, None)
                    .ok_or_else(|| bad(format!("{place:?} is not host:port")))?;
                Ok(Asked {
                    address: name.parse().ok(),
                    name,
                    port,
                    protocol: Protocol::Opaque,
                    http: None,
                })
            }
            _ => Err(bad(ONE)),
        }
    }

    fn http(&self, url: &str, bundle: &Bundle) -> Result<Asked, BadAsk> {
        let full;
        let url = if url.starts_with('/') {
            full = format!("https://{}{url}", self.address_of(bundle)?);
            &full
        } else {
            url
        };
        let wrong = || bad(format!("{url:?} is not a URL: write https://host/path"));
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let default = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return Err(wrong()),
        };
        // By hand: a URL library would tidy the path, and the path as sent is what is judged.
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (rest, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        let (name, port) = host_port(authority, Some(default)).ok_or_else(wrong)?;
        Ok(Asked {
            address: name.parse().ok(),
            name,
            port,
            protocol: Protocol::Http,
            http: Some((scheme.to_owned(), path.to_owned(), query)),
        })
    }

    /// `host:port` of the target that a URL without one goes to.
    fn address_of(&self, bundle: &Bundle) -> Result<String, BadAsk> {
        let name =
            self.target.as_ref().ok_or_else(|| bad("a URL that is a path alone needs `target`"))?;
        let target =
            bundle.target(name).ok_or_else(|| bad(format!("there is no target `{name}`")))?;
        let host = target.names.iter().find_map(|pattern| match pattern {
            NamePattern::Exact(name) => Some(name.clone()),
            NamePattern::Below(_) => None,
        });
        let host = host.or_else(|| match target.addresses.first()?.addr() {
            IpAddr::V4(ip) => Some(ip.to_string()),
            IpAddr::V6(ip) => Some(format!("[{ip}]")),
        });
        let host =
            host.ok_or_else(|| bad(format!("target `{name}` is a wildcard: give the whole URL")))?;
        Ok(match target.ports.first() {
            Some(port) if !target.has_port(443) => format!("{host}:{port}"),
            _ => host,
        })
    }
}

impl Asked {
    fn operation(&self, ask: &Ask, target: &Target) -> Operation {
        let operation = |action: &str, resource: String| {
            Operation::new(&target.name, &self.name, self.port, self.protocol, action, resource)
        };
        let Some((scheme, path, query)) = &self.http else {
            if self.protocol == Protocol::Dns {
                let mut op = operation(DNS, self.name.clone());
                if let Some(record_type) = &ask.record_type {
                    op.fact("dns.type", record_type.as_str());
                }
                return op;
            }
            return operation(OPAQUE, format!("{}:{}", self.name, self.port));
        };
        let method = ask.method.as_deref().unwrap_or("GET");
        let grpc = target.grpc
            && method == "POST"
            && ask.headers.iter().any(|(name, value)| {
                name == "content-type" && value.starts_with("application/grpc")
            });
        let call = path.strip_prefix('/').and_then(|path| path.split_once('/')).filter(|_| grpc);
        let action = match call {
            Some(_) => GRPC,
            None => schema::http_action(method),
        };
        let bracketed = match self.address {
            Some(IpAddr::V6(ip)) => format!("[{ip}]"),
            _ => self.name.clone(),
        };
        let authority = match (scheme.as_str(), self.port) {
            ("http", 80) | ("https", 443) => bracketed,
            (_, port) => format!("{bracketed}:{port}"),
        };
        let mut op = operation(action, format!("{scheme}://{authority}{path}"));
        op.fact("http.method", method);
        op.fact("http.scheme", scheme.as_str());
        op.fact("http.authority", authority);
        op.fact("http.path", path.as_str());
        if let Some(query) = query {
            op.fact("http.query", query.as_str());
        }
        for (name, value) in &ask.headers {
            let fact = format!("http.header.{name}");
            let value = match op.get(&fact) {
                None => Fact::Text(value.clone()),
                Some(Fact::List(items)) => {
                    Fact::List(items.iter().chain([value]).cloned().collect())
                }
                Some(Fact::Text(first)) => Fact::List(vec![first.clone(), value.clone()]),
                Some(other) => other.clone(),
            };
            op.fact(fact, value);
        }
        if let Some((service, rpc)) = call {
            op.fact("grpc.service", service);
            op.fact("grpc.method", rpc);
        }
        let body = ask.body.as_deref().unwrap_or_default();
        let length = i64::try_from(body.len()).unwrap_or(i64::MAX);
        op.fact("body.length", ask.body_length.map_or(length, i64::from));
        if ask.body.is_some() || ask.body_length.is_none_or(|length| length == 0) {
            op.fact("body.sha256", hex::encode(Sha256::digest(body)));
        }
        op
    }
}

/// Lower case, without a trailing dot.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

/// Host (brackets of IPv6 taken off) and port.
fn host_port(text: &str, default: Option<u16>) -> Option<(String, u16)> {
    let authority: Authority = text.parse().ok()?;
    if text.contains('@') {
        return None;
    }
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = match authority.port() {
        Some(port) => port.as_str().parse().ok()?,
        None => default?,
    };
    (!host.is_empty()).then(|| (canonical(host), port))
}
