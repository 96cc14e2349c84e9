//! What a target that speaks PostgreSQL says beside the rest (`[target.postgres]`): who may
//! sign in as whom, with which credentials, and how strict it is.
//!
//! Owns the file's vocabulary. Signing in is [`crate::protocol`]'s.

use super::problem::{Problems, Source};
use super::read::{At, Fields};
use super::secret::{self, AllowedSecrets, NotAllowed, SecretError, SecretFile, SecretSource};
use std::collections::BTreeMap;
use std::ops::Range;

/// Longest name of a role or database, in bytes: PostgreSQL cuts longer ones (NAMEDATALEN - 1).
const MAX_NAME: usize = 63;

/// Stands for every user that is not named.
const ANY: &str = "*";

/// What `[target.postgres]` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postgres {
    /// The role that an agent's start-up user becomes upstream; `*` is every other user.
    /// Empty: a user is the role of its name.
    pub users: BTreeMap<String, String>,
    /// The upstream's name of each database that can be asked for; empty: any, as asked.
    pub databases: BTreeMap<String, String>,
    /// The roles that the proxy can sign in as; never empty in a bundle.
    pub roles: Vec<PostgresRole>,
    /// How the upstream is reached.
    pub tls: PostgresTls,
    /// What becomes of a statement whose output cannot be followed to columns, where a mask
    /// names columns.
    pub untraceable: Untraceable,
    /// Whether the function-call message is taken (as `sql.function`); refused otherwise.
    pub function_calls: bool,
    /// Whether the replication protocol is taken (as `sql.replication`); refused otherwise.
    pub replication: bool,
}

/// A role of the upstream and how the proxy proves to be it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresRole {
    /// Its name upstream.
    pub name: String,
    /// Its password, for SCRAM-SHA-256, md5 or in clear (over TLS).
    pub password: Option<SecretSource>,
    /// Its client certificate.
    pub certificate: Option<ClientCertificate>,
}

/// A client certificate with its key, in PEM files that the daemon can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, and what is between it and its CA.
    pub chain: SecretFile,
    /// The private key.
    pub key: SecretFile,
}

/// How the upstream is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostgresTls {
    /// By TLS, with a certificate that the daemon's roots vouch for and that has the name.
    #[default]
    VerifyFull,
    /// The same, begun at once and not asked for first (PostgreSQL 17's `sslnegotiation=direct`).
    Direct,
    /// In clear.
    Disable,
}

/// What becomes of a statement that lineage cannot follow, where a mask names columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Untraceable {
    /// It is refused.
    #[default]
    Refuse,
    /// It runs, and only what is known of its output is masked.
    Allow,
}

impl Postgres {
    /// The role that a start-up user becomes; `None`: that user cannot sign in.
    pub fn role_of(&self, user: &str) -> Option<&PostgresRole> {
        let role = match self.users.get(user).or_else(|| self.users.get(ANY)) {
            Some(role) => role.as_str(),
            None if self.users.is_empty() => user,
            None => return None,
        };
        self.roles.iter().find(|known| known.name == role)
    }

    /// The upstream's name of a database that an agent asks for; `None`: it cannot be asked for.
    pub fn database_of<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        if self.databases.is_empty() {
            return Some(asked);
        }
        self.databases.get(asked).map(String::as_str)
    }
}

impl PostgresRole {
    /// Lets its credentials be used from now on only as the host allows.
    pub(super) fn bind(&mut self, allowed: &AllowedSecrets) -> Result<(), NotAllowed> {
        if let Some(password) = &mut self.password {
            allowed.bind(password)?;
        }
        if let Some(ClientCertificate { chain, key }) = &mut self.certificate {
            allowed.bind_file(chain)?;
            allowed.bind_file(key)?;
        }
        Ok(())
    }

    /// Reads its password, when it has one; 1 byte to 16 KiB, no byte of value 0.
    ///
    /// # Errors
    /// When it cannot be read or cannot be a password.
    pub fn password(&self) -> Result<Option<Vec<u8>>, SecretError> {
        let Some(source) = &self.password else {
            return Ok(None);
        };
        let password = source.read()?;
        if password.contains(&0) { Err(SecretError::Size) } else { Ok(Some(password)) }
    }
}

/// Reads `[target.postgres]` of a target.
pub(super) fn read(mut entry: Fields<'_>, target: &str, problems: &mut Problems) -> Postgres {
    let source = entry.source();
    let users = entry.text_map("users", problems);
    let databases = entry.text_map("databases", problems);
    let tls = entry.word(
        "tls",
        &[
            ("verify-full", PostgresTls::VerifyFull),
            ("direct", PostgresTls::Direct),
            ("disable", PostgresTls::Disable),
        ],
        problems,
    );
    let untraceable = entry.word(
        "untraceable",
        &[("refuse", Untraceable::Refuse), ("allow", Untraceable::Allow)],
        problems,
    );
    let allowed = entry.texts("allow", problems);
    let roles = entry.tables("role", problems);
    let place = entry.place();

    let mut read = Postgres {
        tls: tls.map(|at| at.value).unwrap_or_default(),
        untraceable: untraceable.map(|at| at.value).unwrap_or_default(),
        ..Postgres::default()
    };
    for role in roles {
        let place = (role.source(), role.place().1.clone());
        let Some(role) = self::role(role, problems) else { continue };
        if read.roles.iter().any(|other| other.name == role.name) {
            problems.error(
                (place.0, &place.1),
                format!("role `{}` is there twice", role.name),
                "give each role once",
            );
        }
        read.roles.push(role);
    }
    if read.roles.is_empty() {
        problems.error(
            place,
            format!("target `{target}` has no role to sign in as"),
            "add a [[target.postgres.role]] with `name` and a credential",
        );
    }
    for (user, role) in users {
        if !read.roles.iter().any(|known| known.name == role) && !read.roles.is_empty() {
            problems.error(
                (source, &user.span),
                format!("target `{target}` has no role `{role}`"),
                "name a [[target.postgres.role]] of this target",
            );
        }
        if user.value == ANY || name(source, "user", &user, problems) {
            read.users.insert(user.value.to_owned(), role.to_owned());
        }
    }
    for (asked, upstream) in databases {
        let upstream = At { value: upstream, span: asked.span.clone() };
        let fits = name(source, "database", &asked, problems);
        if name(source, "database", &upstream, problems) && fits {
            read.databases.insert(asked.value.to_owned(), upstream.value.to_owned());
        }
    }
    for at in allowed {
        match at.value {
            "function-call" => read.function_calls = true,
            "replication" => read.replication = true,
            other => problems.error(
                (source, &at.span),
                format!("`allow` cannot have \"{other}\""),
                "it takes \"function-call\" and \"replication\"",
            ),
        }
    }
    entry.finish(problems);
    read
}

fn role(mut entry: Fields<'_>, problems: &mut Problems) -> Option<PostgresRole> {
    let source = entry.source();
    let named = entry.required("name", problems);
    let password = secret::read(&mut entry, "a role", problems);
    let chain = entry.text("certificate", problems);
    let key = entry.text("key", problems);
    let certificate = match (chain, key) {
        (Some(chain), Some(key)) => Some(ClientCertificate {
            chain: secret::absolute(source, &chain, problems).into(),
            key: secret::absolute(source, &key, problems).into(),
        }),
        (Some(at), None) | (None, Some(at)) => {
            problems.error(
                (source, &at.span),
                "a client certificate has two files",
                "give both `certificate` and `key`",
            );
            None
        }
        (None, None) if password.is_none() => {
            problems.error(
                entry.place(),
                "a role has no credential",
                "give one of `file`, `env` or `credential` for its password, or `certificate` and `key`",
            );
            None
        }
        (None, None) => None,
    };
    entry.finish(problems);
    let named = named.filter(|at| name(source, "role", at, problems))?;
    Some(PostgresRole { name: named.value.to_owned(), password, certificate })
}

/// Whether a text can name a role, user or database; reports when not.
fn name(source: &Source<'_>, what: &str, at: &At<&str>, problems: &mut Problems) -> bool {
    let fits = (1..=MAX_NAME).contains(&at.value.len())
        && !at.value.contains(|c: char| c.is_control())
        && at.value != ANY;
    if !fits {
        problems.error(
            (source, &at.span),
            format!("{:?} cannot be the name of a {what}", at.value),
            format!("use 1 to {MAX_NAME} bytes without control characters"),
        );
    }
    fits
}

/// Reports what is wrong between a target and its `[target.postgres]`.
pub(super) fn check(
    target: &str,
    speaks: bool,
    table: Option<&Range<usize>>,
    place: (&Source<'_>, &Range<usize>),
    problems: &mut Problems,
) {
    match (speaks, table) {
        (true, None) => problems.error(
            place,
            format!("target `{target}` speaks postgres and does not say how to sign in"),
            "add [target.postgres] with a [[target.postgres.role]]",
        ),
        (false, Some(span)) => problems.error(
            (place.0, span),
            format!("target `{target}` does not speak postgres, so this does nothing"),
            "remove it, or make it `protocol = \"postgres\"`",
        ),
        _ => {}
    }
}
