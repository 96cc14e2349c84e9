//! `enforcer approvals audit` and, on the server's machine, `enforcer server audit`: print the
//! audit, check its chain, hand it to other systems.

use crate::cli::approvals;
use crate::cli::server::Way;
use crate::cli::transcripts::text;
use crate::server::audit::Verifier;
use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use enforcer_proto::v1;
use enforcer_proto::v1::admin_client::AdminClient;
use prost::Message as _;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;

mod ocsf;

/// Records read from the store at a time.
const PAGE: usize = 500;

/// What `audit` can do beside printing.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the whole chain and print its head
    Verify {
        /// A head that an earlier `verify` printed: the chain must go on from it
        #[arg(long)]
        head: Option<Mark>,
        /// Check an export (`--format jsonl`, from the first record) instead of the store
        #[arg(long)]
        file: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the records for another system, one JSON a line, checking the chain
    Export {
        /// As what
        #[arg(long, default_value = "jsonl")]
        format: Format,
        /// Only records after this number
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
}

/// How records are exported.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// Every field as stored, so that the chain can be checked again
    Jsonl,
    /// Events of the Open Cybersecurity Schema Framework, 1.4
    Ocsf,
}

/// A place in the chain: `NUMBER:SHA256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    seq: u64,
    hash: String,
}

impl std::str::FromStr for Mark {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash)));
        match parts {
            Some((seq, hash))
                if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) =>
            {
                Ok(Self { seq, hash: hash.to_ascii_lowercase() })
            }
            _ => Err("a head is NUMBER:SHA256, as `verify` prints it".to_owned()),
        }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// Runs the command.
pub(super) async fn run(way: Way, command: Option<Command>, json: bool) -> anyhow::Result<()> {
    match command {
        None => {
            let line = if json { stored } else { shown };
            print(way, 0, line).await
        }
        Some(Command::Export { format, after }) => {
            let line = match format {
                Format::Jsonl => stored,
                Format::Ocsf => |record: &v1::AuditRecord| text::json(&ocsf::event(record)),
            };
            print(way, after, line).await
        }
        Some(Command::Verify { head, file, json }) => {
            let mut check = Check::new(head)?;
            match file {
                None => each(way, |record| check.next(record)).await?,
                Some(path) => read(&path, |record| check.next(record))?,
            }
            told(&check.finish()?, json)
        }
    }
}

/// Checks an export, for which there need be no server, no store and no identity; `None` when
/// something else is asked for.
pub(super) fn of_file(command: Option<&Command>) -> Option<anyhow::Result<()>> {
    let Some(Command::Verify { head, file: Some(path), json }) = command else { return None };
    let checked = || {
        let mut check = Check::new(head.clone())?;
        read(path, |record| check.next(record))?;
        told(&check.finish()?, *json)
    };
    Some(checked())
}

/// Says that the chain holds up to here.
fn told(head: &Mark, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout();
    if json {
        let value = json!({ "records": head.seq, "head": head.to_string() });
        writeln!(out, "{}", text::json(&value))?;
    } else {
        writeln!(out, "{} records, the chain holds; head {head}", head.seq)?;
    }
    Ok(())
}

async fn print(
    way: Way,
    after: u64,
    line: impl Fn(&v1::AuditRecord) -> String,
) -> anyhow::Result<()> {
    let mut verifier = Verifier::default();
    each(way, |record| {
        verifier.next(record)?;
        if record.seq > after {
            writeln!(io::stdout(), "{}", line(record))?;
        }
        Ok(())
    })
    .await
}

/// Every record, in order, from the server, or from the store of one that does not run.
async fn each(
    way: Way,
    mut with: impl FnMut(&v1::AuditRecord) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match way {
        Way::Server(channel) => {
            let mut client = AdminClient::new(channel);
            let records = client.audit(v1::AuditRequest { after: 0 }).await;
            let mut records = records.map_err(said)?.into_inner();
            while let Some(record) = records.message().await.map_err(said)? {
                with(&record)?;
            }
        }
        Way::Store(core) => {
            let mut after = 0;
            loop {
                let page = core.store.audit(after, PAGE).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                page.iter().try_for_each(&mut with)?;
            }
        }
    }
    Ok(())
}

fn said(status: tonic::Status) -> anyhow::Error {
    let why = crate::approval::join::words(&status);
    anyhow::anyhow!("{}", approvals::text::line(&why))
}

/// Every record of an export.
fn read(
    path: &std::path::Path,
    mut with: impl FnMut(&v1::AuditRecord) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| name.to_string())?;
    for (at, line) in io::BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| name.to_string())?;
        let at = at + 1;
        let (record, hash) =
            parsed(&line).with_context(|| format!("{name}:{at}: no audit record"))?;
        if hash != hash_of(&record) {
            bail!("{name}:{at}: the record's hash is not that of the record");
        }
        if at == 1 && record.seq != 1 {
            bail!(
                "{name} does not start at the first record but at record {}, as an export with \
                 `--after` does: what is before it cannot be checked",
                record.seq
            );
        }
        with(&record)?;
    }
    Ok(())
}

/// A line of an export. One that says more would say what no hash covers.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    seq: u64,
    unix_ms: i64,
    code: String,
    actor: String,
    subject: String,
    detail: String,
    prev: String,
    hash: String,
}

/// A record of an export, and the hash that stands with it.
fn parsed(line: &str) -> anyhow::Result<(v1::AuditRecord, String)> {
    // A list of the values would do for a struct, but is no line of ours.
    if !line.starts_with('{') {
        bail!("no JSON object");
    }
    // What is wrong is said in words of the file.
    let line: Line = serde_json::from_str(line)
        .map_err(|error| anyhow::anyhow!("{}", approvals::text::line(&error.to_string())))?;
    let Line { seq, unix_ms, code, actor, subject, detail, prev, hash } = line;
    let prev = hex::decode(prev).context("`prev` is not hexadecimal")?;
    Ok((v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, prev }, hash))
}

/// SHA-256 of a record as it is stored, which is what the next one has as `prev`.
fn hash_of(record: &v1::AuditRecord) -> String {
    hex::encode(Sha256::digest(record.encode_to_vec()))
}

/// Follows the chain, and looks for a head that is known from before.
struct Check {
    verifier: Verifier,
    wanted: Option<Mark>,
    found: bool,
}

impl Check {
    fn new(wanted: Option<Mark>) -> anyhow::Result<Self> {
        let mut check = Self { verifier: Verifier::default(), wanted, found: false };
        // The head of no records is where every chain starts.
        check.compare()?;
        Ok(check)
    }

    fn mark(&self) -> Mark {
        let (seq, hash) = self.verifier.head();
        Mark { seq, hash: hex::encode(hash) }
    }

    fn next(&mut self, record: &v1::AuditRecord) -> anyhow::Result<()> {
        self.verifier.next(record)?;
        self.compare()
    }

    /// Whether the chain is here what it was, when this is the place that is known.
    fn compare(&mut self) -> anyhow::Result<()> {
        let mark = self.mark();
        if let Some(wanted) = self.wanted.as_ref().filter(|wanted| wanted.seq == mark.seq) {
            if *wanted != mark {
                bail!("the audit was rewritten: record {} is not the one of {wanted}", mark.seq);
            }
            self.found = true;
        }
        Ok(())
    }

    /// The chain's head.
    fn finish(self) -> anyhow::Result<Mark> {
        let mark = self.mark();
        match self.wanted {
            Some(wanted) if !self.found => {
                bail!("the audit was cut: it ends at {mark}, before {wanted}")
            }
            _ => Ok(mark),
        }
    }
}

fn shown(record: &v1::AuditRecord) -> String {
    use approvals::text;
    let v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, .. } = record;
    let [code, actor, subject, detail] = [code, actor, subject, detail].map(|t| text::line(t));
    format!("{seq} {} {code} {actor} {subject} {detail}", text::time(*unix_ms))
}

fn stored(record: &v1::AuditRecord) -> String {
    let v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, prev } = record;
    // Names and reasons are of others; what would act on a terminal is escaped.
    text::json(&json!({
        "seq": seq, "unix_ms": unix_ms, "code": code, "actor": actor,
        "subject": subject, "detail": detail, "prev": hex::encode(prev),
        "hash": hash_of(record),
    }))
}

#[cfg(test)]
mod tests;
