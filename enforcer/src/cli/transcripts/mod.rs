//! `enforcer transcripts`: list, show, grep, replay, export, verify, stats.
//!
//! Opens a store to read only: beside the running daemon, or a copied directory.
//! What is shown was said by governed programs and their peers, so all text goes
//! through [`text`], which lets nothing through that a terminal would act on.

use crate::config::{DATA_DIR, IDENTITY_DIR, POLICY_CACHE, PolicySource};
use crate::record::read::{Filter, Found, Transcripts};
use anyhow::{Context as _, ensure};
use serde::Deserialize;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod export;
mod grep;
pub mod har;
pub mod json;
mod list;
mod ocsf;
mod replay;
pub mod show;
mod sql;
mod stats;
pub mod text;
mod verify;
mod when;

/// What an id that somebody typed names; nothing is an error.
fn named(all: &Transcripts, id: &str) -> anyhow::Result<Vec<Found>> {
    let found = all.find(id)?;
    ensure!(
        !found.is_empty(),
        "{} names no flow, operation, approval or digest in {}",
        text::Line(id),
        all.store().path().display()
    );
    Ok(found)
}

/// Arguments of `enforcer transcripts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    store: StoreArgs,
    // Boxed: the arguments of one command should not make those of all commands large.
    #[command(subcommand)]
    command: Box<Command>,
}

#[derive(Debug, clap::Args)]
pub(super) struct StoreArgs {
    /// The store's directory (also a copy)
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// The daemon's configuration, which names the store
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/enforcer/enforcer.toml",
        conflicts_with = "store"
    )]
    config: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List flows, newest first
    List(list::Args),
    /// Show a flow, an operation, or what an approval or a digest led to
    Show(show::Args),
    /// Search facts, headers and bodies
    Grep(grep::Args),
    /// Play a flow in the terminal, in the time that it took
    Replay(replay::Args),
    /// Write transcripts for other tools
    Export(export::Args),
    /// Recompute every hash, and name what does not fit
    Verify(verify::Args),
    /// Say what the store holds
    Stats(stats::Args),
}

/// How a flow can have ended, and `open`.
const OUTCOMES: [&str; 8] =
    ["complete", "refused", "failed", "cut", "kernel-refused", "recovered", "detached", "open"];

/// Which flows; shared by the listing commands.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// Only flows of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only flows with this target
    #[arg(long)]
    target: Option<String>,
    /// Only flows that started since: 2026-01-31, 2026-01-31T08:00:00Z, or how long ago (90s, 15m, 2h, 7d)
    #[arg(long, value_parser = when::parse)]
    since: Option<i64>,
    /// Only flows that started before
    #[arg(long, value_parser = when::parse)]
    until: Option<i64>,
    /// Only flows with this outcome
    #[arg(long, value_parser = OUTCOMES)]
    outcome: Option<String>,
    /// Only flows with a denied operation, and what the kernel refused
    #[arg(long)]
    denied: bool,
}

impl FilterArgs {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            agent: self.agent.clone(),
            target: self.target.clone(),
            since: self.since,
            until: self.until,
            outcome: self.outcome.clone(),
            denied: self.denied,
        }
    }
}

/// What commands write to: standard output, or a file.
type Out<'a> = &'a mut dyn io::Write;

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = args.store.dir()?;
    let mut out = BufWriter::new(io::stdout().lock());
    let result = execute(&dir, &args.command, &mut out, &mut io::stderr());
    let result = result.and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    // A reader that has seen enough (`| head`) is no failure; what is still buffered is not wanted.
    match result {
        Err(error) if broken_pipe(&error) => {
            drop(out.into_parts());
            Ok(ExitCode::SUCCESS)
        }
        other => other,
    }
}

/// Runs a command; what of the store could not be read goes to `err`, and then it has failed.
fn execute(dir: &Path, command: &Command, out: Out<'_>, err: Out<'_>) -> anyhow::Result<ExitCode> {
    // Its report says what could not be read.
    if let Command::Verify(args) = command {
        return verify::run(dir, args, out);
    }
    let all = Transcripts::open(dir)?;
    let result = match command {
        Command::List(args) => list::run(&all, args, out),
        Command::Show(args) => show::run(&all, args, out),
        Command::Grep(args) => grep::run(&all, args, out),
        Command::Replay(args) => replay::run(&all, args, out),
        Command::Export(args) => export::run(&all, args, out),
        Command::Stats(args) => stats::run(&all, args, out),
        Command::Verify(args) => verify::run(dir, args, out),
    };
    let damage = all.damage();
    for what in &damage {
        writeln!(err, "damaged: {}", text::Line(what))?;
    }
    match result {
        Ok(_) if !damage.is_empty() => {
            writeln!(err, "the store is damaged: what is shown is what can be read of it")?;
            Ok(ExitCode::FAILURE)
        }
        result => result,
    }
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The keys of the configuration that say where the store and the bundle are. The rest is not looked at: an
/// analyst may have the file and not what it names.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Places {
    host: HostPlaces,
    transcript: TranscriptPlaces,
    policy: PolicyPlaces,
    server: ServerPlaces,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PolicyPlaces {
    source: PolicySource,
    dir: Option<PathBuf>,
}

/// Where the policy of a host is.
pub(super) enum PolicyPlace {
    /// In a directory of its own.
    Dir(PathBuf),
    /// Kept from the server.
    Kept {
        /// The directory that it is kept in.
        dir: PathBuf,
        /// The directory with the key that must have signed it.
        identity_dir: PathBuf,
    },
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerPlaces {
    identity_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct HostPlaces {
    data_dir: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TranscriptPlaces {
    dir: Option<PathBuf>,
}

impl StoreArgs {
    /// The host's policy.
    pub(super) fn policy(&self) -> anyhow::Result<PolicyPlace> {
        let hint = "name a bundle with --policy DIR";
        let Places { policy, host, server, .. } = self.places(hint)?;
        if policy.source == PolicySource::Server {
            let data_dir = host.data_dir.unwrap_or_else(|| DATA_DIR.into());
            return Ok(PolicyPlace::Kept {
                dir: data_dir.join(POLICY_CACHE),
                identity_dir: server.identity_dir.unwrap_or_else(|| data_dir.join(IDENTITY_DIR)),
            });
        }
        let none = || format!("{hint}: {} has no policy.dir", self.config.display());
        Ok(PolicyPlace::Dir(policy.dir.with_context(none)?))
    }

    fn places(&self, hint: &str) -> anyhow::Result<Places> {
        let path = &self.config;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{hint}: {}", path.display()))?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The store's directory.
    pub(super) fn dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.store {
            return Ok(dir.clone());
        }
        let places = self.places("name a store with --store DIR")?;
        let data_dir = places.host.data_dir;
        let data_dir = data_dir.unwrap_or_else(|| DATA_DIR.into());
        let cfg = crate::config::Transcript {
            dir: places.transcript.dir,
            ..crate::config::Transcript::default()
        };
        Ok(crate::record::store_dir(&cfg, &data_dir))
    }
}

#[cfg(test)]
mod tests;
