//! `enforcer approvals audit` and, on the server's machine, `enforcer server audit`: print the
//! audit, check its chain, hand it to other systems.

use crate::cli::server::Way;
use crate::server::audit::Verifier;
use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use enforcer_proto::v1;
use enforcer_proto::v1::admin_client::AdminClient;
use prost::Message as _;
use serde_json::{Value, json};
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
                Format::Ocsf => |record: &v1::AuditRecord| ocsf::event(record).to_string(),
            };
            print(way, after, line).await
        }
        Some(Command::Verify { head, file }) => {
            let mut check = Check::new(head);
            match file {
                None => each(way, |record| check.next(record)).await?,
                Some(path) => read(&path, |record| check.next(record))?,
            }
            writeln!(io::stdout(), "{}", check.finish()?)?;
            Ok(())
        }
    }
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
    anyhow::anyhow!("{}", crate::cli::approvals::text::line(&why))
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
        with(&record)?;
    }
    Ok(())
}

/// A record of an export, and the hash that stands with it.
fn parsed(line: &str) -> Option<(v1::AuditRecord, String)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    let record = v1::AuditRecord {
        seq: value.get("seq")?.as_u64()?,
        unix_ms: value.get("unix_ms")?.as_i64()?,
        code: text("code")?,
        actor: text("actor")?,
        subject: text("subject")?,
        detail: text("detail")?,
        prev: hex::decode(value.get("prev")?.as_str()?).ok()?,
    };
    Some((record, text("hash")?))
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
    fn new(wanted: Option<Mark>) -> Self {
        Self { verifier: Verifier::default(), wanted, found: false }
    }

    fn mark(&self) -> Mark {
        let (seq, hash) = self.verifier.head();
        Mark { seq, hash: hex::encode(hash) }
    }

    fn next(&mut self, record: &v1::AuditRecord) -> anyhow::Result<()> {
        self.verifier.next(record)?;
        if let Some(wanted) = self.wanted.as_ref().filter(|wanted| wanted.seq == record.seq) {
            if *wanted != self.mark() {
                bail!("the audit was rewritten: record {} is not the one of {wanted}", record.seq);
            }
            self.found = true;
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<String> {
        let mark = self.mark();
        match self.wanted {
            Some(wanted) if !self.found => {
                bail!("the audit was cut: it ends at {mark}, before {wanted}")
            }
            _ => Ok(format!("{} records, the chain holds; head {mark}", mark.seq)),
        }
    }
}

fn shown(record: &v1::AuditRecord) -> String {
    use crate::cli::approvals::text;
    let v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, .. } = record;
    let [actor, subject, detail] = [actor, subject, detail].map(|t| text::line(t));
    format!("{seq} {} {code} {actor} {subject} {detail}", text::time(*unix_ms))
}

fn stored(record: &v1::AuditRecord) -> String {
    let v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, prev } = record;
    json!({
        "seq": seq, "unix_ms": unix_ms, "code": code, "actor": actor,
        "subject": subject, "detail": detail, "prev": hex::encode(prev),
        "hash": hash_of(record),
    })
    .to_string()
}

#[cfg(test)]
mod tests;
