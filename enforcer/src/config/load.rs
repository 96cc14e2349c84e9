//! From a file to a checked configuration, or to what is wrong and where.

use super::{Config, check};
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Larger files are no configuration.
const MAX_FILE: u64 = 1 << 20;
/// Linux's default, for a system that does not say (net/ipv4/af_inet.c).
const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong, in the order of the file; at least one.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1; `None` when the key is not in the file.
    pub line: Option<usize>,
    /// The key with its sections, for example `proxy.port`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file.display())?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.what)?;
        }
        Ok(())
    }
}

impl Config {
    /// Reads and checks a file, and fills in the host's name.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is no TOML, has an unknown key or a wrong type (the first of
    /// these), or has values that cannot work (all of them).
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let whole = |what: String| ConfigError {
            file: path.to_owned(),
            problems: vec![Problem { line: None, key: String::new(), what }],
        };
        let size = std::fs::metadata(path).map(|meta| meta.len());
        if size.is_ok_and(|size| size > MAX_FILE) {
            return Err(whole(format!("it is larger than {MAX_FILE} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| {
            whole(format!("cannot be read: {error} (`enforcer init` writes a first one)"))
        })?;
        let mut config = Self::parse(&text, &ephemeral_ports())
            .map_err(|problems| ConfigError { file: path.to_owned(), problems })?;
        if config.host.name.is_none() {
            let name = nix::unistd::gethostname()
                .ok()
                .and_then(|name| name.into_string().ok())
                .filter(|name| check::is_host_name(name))
                .ok_or_else(|| {
                    whole(
                        "the system's host name cannot be used; set host.name to letters, \
                         digits, `.`, `_` and `-`"
                            .to_owned(),
                    )
                })?;
            config.host.name = Some(name);
        }
        Ok(config)
    }

    /// Reads and checks the text of a file. `ephemeral` are the ports that the system gives out by
    /// itself, among which a listener's port would not be safe.
    pub fn parse(text: &str, ephemeral: &RangeInclusive<u16>) -> Result<Self, Vec<Problem>> {
        let config: Self = toml::from_str(text).map_err(|error| vec![unread(text, &error)])?;
        let findings = check::check(&config, ephemeral);
        if findings.is_empty() {
            return Ok(config);
        }
        let document = DeTable::parse(text).ok();
        let mut problems: Vec<Problem> = findings
            .into_iter()
            .map(|finding| {
                let at = document.as_ref().and_then(|table| locate(table.get_ref(), &finding.path));
                Problem {
                    line: at.map(|at| line_of(text, at)),
                    key: finding.key(),
                    what: finding.what,
                }
            })
            .collect();
        problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
        Err(problems)
    }
}

/// The ports that the kernel gives to sockets that name none.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
        let mut words = text.split_ascii_whitespace();
        let first = words.next()?.parse().ok()?;
        Some(first..=words.next()?.parse().ok()?)
    };
    read().unwrap_or(EPHEMERAL)
}

fn unread(text: &str, error: &toml::de::Error) -> Problem {
    let at = error.span().map(|span| span.start);
    Problem {
        line: at.map(|at| line_of(text, at)),
        key: at.map(|at| key_at(text, at)).unwrap_or_default(),
        what: error.message().trim().replace('\n', "; "),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = &text.as_bytes()[..at.min(text.len())];
    memchr::memchr_iter(b'\n', before).count() + 1
}

/// The key that a place in the text belongs to, as far as its lines tell.
fn key_at(text: &str, at: usize) -> String {
    let mut section = "";
    let mut key = "";
    for line in text.lines().take(line_of(text, at)) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            let end = header.find(']').unwrap_or(header.len());
            section = header[..end].trim_start_matches('[').trim();
            key = "";
        } else {
            key = line.split_once('=').map_or("", |(key, _)| key.trim());
        }
    }
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => section.to_owned(),
        (section, key) => format!("{section}.{key}"),
    }
}

/// Where a key stands; for one that is not there, where the section around it stands.
fn locate(table: &DeTable<'_>, path: &[check::Step]) -> Option<usize> {
    let (check::Step::Key(name), rest) = path.split_first()? else {
        return None;
    };
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    let at = key.span().start;
    match (rest, value.get_ref()) {
        ([], _) => Some(at),
        (rest, DeValue::Table(inner)) => locate(inner, rest).or(Some(at)),
        ([check::Step::Index(index), rest @ ..], DeValue::Array(items)) => {
            Some(items.get(*index).map_or(at, |item| locate_item(item, rest)))
        }
        _ => Some(at),
    }
}

fn locate_item(item: &Spanned<DeValue<'_>>, rest: &[check::Step]) -> usize {
    match item.get_ref() {
        DeValue::Table(inner) => locate(inner, rest).unwrap_or_else(|| item.span().start),
        _ => item.span().start,
    }
}
