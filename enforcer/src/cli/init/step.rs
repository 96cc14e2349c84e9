//! The steps of `enforcer init`, each of which makes one thing unless it is there.

use anyhow::Context as _;
use nix::unistd::{User, geteuid};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

/// One thing that `init` looked after.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    what: &'static str,
    subject: String,
    pub(super) outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Made,
    Exists,
    Skipped,
    Failed,
}

impl Step {
    pub(super) fn new(what: &'static str, subject: String, outcome: Outcome) -> Self {
        Self { what, subject, outcome, detail: None }
    }

    fn because(mut self, detail: String) -> Self {
        self.detail = Some(detail);
        self
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.outcome {
            Outcome::Made => "made   ",
            Outcome::Exists => "exists ",
            Outcome::Skipped => "skipped",
            Outcome::Failed => "FAILED ",
        };
        write!(f, "{outcome}  {}: {}", self.what, self.subject)?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

/// A directory with its parents. One that is there and lets in more people than it should is
/// mentioned, not changed.
pub(super) fn directory(what: &'static str, path: &Path, mode: u32) -> anyhow::Result<Step> {
    let shown = path.display().to_string();
    if let Ok(meta) = fs::metadata(path) {
        let step = Step::new(what, shown.clone(), Outcome::Exists);
        let has = meta.permissions().mode() & 0o777;
        if has & !mode != 0 {
            return Ok(step.because(format!("mode {has:04o}; `chmod {mode:04o} {shown}` is meant")));
        }
        return Ok(step);
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    fs::DirBuilder::new()
        .mode(mode)
        .create(path)
        .with_context(|| format!("cannot make {shown}"))?;
    Ok(Step::new(what, shown, Outcome::Made))
}

/// A file with its whole content, or none.
pub(super) fn file(
    what: &'static str,
    path: &Path,
    content: &str,
    mode: u32,
) -> anyhow::Result<Step> {
    let shown = path.display().to_string();
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content.as_bytes()).and_then(|()| file.sync_all()).inspect_err(|_| {
            // Half a file would be taken for the operator's own the next time. A failure to
            // remove it adds nothing to the failure to write it.
            let _ = fs::remove_file(path);
        })
    };
    match write() {
        Ok(()) => Ok(Step::new(what, shown, Outcome::Made)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(Step::new(what, shown, Outcome::Exists))
        }
        Err(error) => Err(error).with_context(|| format!("cannot write {shown}")),
    }
}

/// The user that agents run as.
pub(super) fn user(name: &str) -> anyhow::Result<Step> {
    const WHAT: &str = "user of agents";
    let found = User::from_name(name).with_context(|| format!("cannot look up user {name}"))?;
    if found.is_some() {
        return Ok(Step::new(WHAT, name.to_owned(), Outcome::Exists));
    }
    let arguments = useradd(name);
    let by_hand = format!("run `useradd {}` as root", arguments.join(" "));
    if !geteuid().is_root() {
        return Ok(Step::new(WHAT, name.to_owned(), Outcome::Skipped).because(by_hand));
    }
    let failure = match Command::new("useradd").args(&arguments).output() {
        Ok(output) if output.status.success() => {
            return Ok(Step::new(WHAT, name.to_owned(), Outcome::Made));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("useradd cannot be run: {error}"),
    };
    Ok(Step::new(WHAT, name.to_owned(), Outcome::Failed).because(format!("{failure}; {by_hand}")))
}

/// A user with a home of its own, since many tools keep a cache there, and without a login.
pub(super) fn useradd(name: &str) -> Vec<String> {
    let home = format!("/var/lib/{name}");
    [
        "--system",
        "--user-group",
        "--create-home",
        "--home-dir",
        &home,
        "--shell",
        "/usr/sbin/nologin",
        name,
    ]
    .map(str::to_owned)
    .to_vec()
}
