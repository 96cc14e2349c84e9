//! `enforcer server audit`: print the audit, check its chain, hand it to other systems.

use super::{Way, way};
use crate::server::audit::Verifier;
use crate::server::config::Config;
use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use enforcer_proto::v1;
use enforcer_proto::v1::admin_client::AdminClient;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, Write as _};
use std::path::PathBuf;

/// Records read from the store at a time.
const PAGE: usize = 500;

/// What `enforcer server audit` can do beside printing.
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
    /// API Activity of the Open Cybersecurity Schema Framework
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
pub(super) async fn run(
    config: Config,
    command: Option<Command>,
    json: bool,
) -> anyhow::Result<()> {
    match command {
        None => {
            let line = if json { stored } else { shown };
            print(config, 0, line).await
        }
        Some(Command::Export { format, after }) => {
            let line = match format {
                Format::Jsonl => stored,
                Format::Ocsf => |record: &v1::AuditRecord| ocsf(record).to_string(),
            };
            print(config, after, line).await
        }
        Some(Command::Verify { head, file }) => {
            let mut check = Check::new(head);
            match file {
                None => each(config, |record| check.next(record)).await?,
                Some(path) => read(&path, |record| check.next(record))?,
            }
            writeln!(io::stdout(), "{}", check.finish()?)?;
            Ok(())
        }
    }
}

async fn print(
    config: Config,
    after: u64,
    line: impl Fn(&v1::AuditRecord) -> String,
) -> anyhow::Result<()> {
    let mut verifier = Verifier::default();
    each(config, |record| {
        verifier.next(record)?;
        if record.seq > after {
            writeln!(io::stdout(), "{}", line(record))?;
        }
        Ok(())
    })
    .await
}

/// Every record, in order, from the server when it runs, else from its store.
async fn each(
    config: Config,
    mut with: impl FnMut(&v1::AuditRecord) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match way(config).await? {
        Way::Server(channel) => {
            let mut client = AdminClient::new(channel);
            let records = client.audit(v1::AuditRequest { after: 0 }).await;
            let mut records = records.map_err(|s| anyhow::anyhow!("{}", s.message()))?.into_inner();
            while let Some(record) = records.message().await? {
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

/// Every record of an export.
fn read(
    path: &std::path::Path,
    mut with: impl FnMut(&v1::AuditRecord) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = path.display();
    let file = std::fs::File::open(path).with_context(|| name.to_string())?;
    for (at, line) in io::BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| name.to_string())?;
        let record =
            parsed(&line).with_context(|| format!("{name}:{}: no audit record", at + 1))?;
        with(&record)?;
    }
    Ok(())
}

fn parsed(line: &str) -> Option<v1::AuditRecord> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
    Some(v1::AuditRecord {
        seq: value.get("seq")?.as_u64()?,
        unix_ms: value.get("unix_ms")?.as_i64()?,
        code: text("code")?,
        actor: text("actor")?,
        subject: text("subject")?,
        detail: text("detail")?,
        prev: hex::decode(value.get("prev")?.as_str()?).ok()?,
    })
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
    })
    .to_string()
}

/// A record as OCSF 1.4 API Activity: <https://schema.ocsf.io/1.4.0/classes/api_activity>.
fn ocsf(record: &v1::AuditRecord) -> Value {
    const CLASS: u64 = 6003;
    let v1::AuditRecord { seq, unix_ms, code, actor, subject, detail, prev } = record;
    // Create, Update, Delete, Other.
    let activity = match code.as_str() {
        "token.created" | "join.accepted" | "signin.accepted" | "approval.requested" => 1,
        "member.removed" | "session.ended" | "grant.revoked" | "approval.cancelled"
        | "vote.withdrawn" => 4,
        code if code.starts_with("clock.") || code.ends_with(".refused") => 99,
        _ => 3,
    };
    let refused = code.ends_with(".refused");
    // Informational, Medium, High.
    let severity = match code.as_str() {
        "glass.broken" | "clock.doubted" => 4,
        _ if refused => 3,
        _ => 1,
    };
    let (role, name) = actor.split_once('/').unwrap_or(("server", actor));
    // User, Admin, System.
    let kind = match role {
        "reviewer" | "viewer" | "policy-admin" => 1,
        "admin" | "local" => 2,
        _ => 3,
    };
    json!({
        "category_uid": 6,
        "class_uid": CLASS,
        "activity_id": activity,
        "type_uid": CLASS * 100 + activity,
        "severity_id": severity,
        "status_id": if refused { 2 } else { 1 },
        "time": unix_ms,
        "message": detail,
        "actor": { "user": { "name": name, "uid": actor, "type_id": kind } },
        "src_endpoint": { "name": name },
        "api": { "operation": code, "service": { "name": "enforcer server" } },
        "resources": [{ "uid": subject }],
        "metadata": {
            "version": "1.4.0",
            "product": {
                "name": "Enforcer",
                "vendor_name": "Enforcer",
                "version": env!("CARGO_PKG_VERSION"),
            },
            "uid": seq.to_string(),
            "sequence": seq,
            "event_code": code,
        },
        "unmapped": { "prev": hex::encode(prev) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::audit::{Code, Entry, Head};
    use prost::Message as _;

    fn chain() -> Vec<v1::AuditRecord> {
        let mut head = Head::start();
        [Code::TokenCreated, Code::VoteRefused, Code::GlassBroken]
            .into_iter()
            .map(|code| {
                let entry = Entry::new(code, "reviewer/ann", "id", "a\n\"b\"");
                v1::AuditRecord::decode(&head.append(entry, 5).1[..]).unwrap()
            })
            .collect()
    }

    fn check(records: &[v1::AuditRecord], head: Option<Mark>) -> Result<String, String> {
        let mut check = Check::new(head);
        records.iter().try_for_each(|record| check.next(record)).map_err(|e| e.to_string())?;
        check.finish().map_err(|e| e.to_string())
    }

    #[test]
    fn a_known_head_finds_a_chain_that_was_cut_or_made_anew() {
        let all = chain();
        let told = check(&all[..2], None).unwrap();
        let mark: Mark = told.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!(mark.seq, 2);
        assert!(check(&all, Some(mark.clone())).unwrap().starts_with("3 records, the chain holds"));
        assert!(check(&all[..1], Some(mark.clone())).unwrap_err().contains("was cut"));
        // Another history, whose chain holds by itself.
        let mut head = Head::start();
        let anew: Vec<_> = (0..3)
            .map(|n| head.append(Entry::new(Code::JoinAccepted, "x", n, ""), 5).1)
            .map(|stored| v1::AuditRecord::decode(&stored[..]).unwrap())
            .collect();
        assert!(check(&anew, None).is_ok());
        assert!(check(&anew, Some(mark)).unwrap_err().contains("was rewritten"));
        for bad in ["", "2", "x:00", "2:zz", "2:00"] {
            assert!(bad.parse::<Mark>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_export_has_all_that_the_chain_needs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let all = chain();
        let mut lines: Vec<String> = all.iter().map(stored).collect();
        let verify = |lines: &[String]| {
            std::fs::write(&path, lines.join("\n")).unwrap();
            let mut seen = Check::new(None);
            read(&path, |record| seen.next(record)).map_err(|e| e.to_string())?;
            Ok::<u64, String>(seen.mark().seq)
        };
        assert_eq!(verify(&lines), Ok(3));
        lines[1] = lines[1].replace("ann", "bob");
        assert!(verify(&lines).unwrap_err().contains("broken at record 3"));
        lines[1] = "{}".to_owned();
        assert!(verify(&lines).unwrap_err().contains("audit.jsonl:2"));
    }

    #[test]
    fn ocsf_has_what_its_class_requires() {
        let events: Vec<Value> = chain().iter().map(ocsf).collect();
        for event in &events {
            for key in
                ["activity_id", "category_uid", "class_uid", "severity_id", "time", "type_uid"]
            {
                assert!(event[key].is_i64() || event[key].is_u64(), "{key}");
            }
            let activity = event["activity_id"].as_u64().unwrap();
            assert_eq!(event["type_uid"].as_u64().unwrap(), 600_300 + activity);
            assert_eq!(event["actor"]["user"]["name"], "ann");
            assert!(event["api"]["operation"].is_string() && event["src_endpoint"].is_object());
            assert!(event["metadata"]["product"]["vendor_name"].is_string());
        }
        let of = |key: &str| events.iter().map(|e| e[key].as_u64().unwrap()).collect::<Vec<_>>();
        assert_eq!(of("activity_id"), [1, 99, 3]);
        assert_eq!(of("status_id"), [1, 2, 1]);
        assert_eq!(of("severity_id"), [1, 3, 4]);
    }
}
