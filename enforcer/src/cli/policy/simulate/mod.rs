//! `enforcer policy simulate`: what a bundle would change of what was recorded.
//!
//! Each recorded operation is judged by its recorded facts and principal, as the daemon judges:
//! by the strictest way to read it. What was refused before any judgement (a request that could
//! not be read, a transcript that was full) is counted, and not compared.

use crate::cli::transcripts::text::{self, Line};
use crate::cli::transcripts::{FilterArgs, PolicyPlace, StoreArgs};
use crate::decide::judge_anew;
use crate::operation::OperationId;
use crate::policy::{Bundle, Verdict, pushed};
use crate::principal::Principal;
use crate::record::convert;
use crate::record::read::Transcripts;
use crate::record::view::{Assembler, Exchange};
use anyhow::{Context as _, bail};
use enforcer_proto::v1;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use uuid::Uuid;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// The bundle's directory; what the daemon's configuration says when left out
    #[arg(long, value_name = "DIR")]
    policy: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

/// What becomes of an operation; the scopes in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Becomes {
    Deny,
    NeedsApproval(Vec<String>),
    Allow,
}

impl fmt::Display for Becomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deny => f.write_str("deny"),
            Self::Allow => f.write_str("allow"),
            Self::NeedsApproval(scopes) => write!(f, "needs-approval({})", scopes.join(", ")),
        }
    }
}

/// Operations that change alike, most severe first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    to: Becomes,
    from: Becomes,
    agent: String,
    action: String,
    target: String,
    rules: Vec<String>,
}

/// How many are in a group, and one of them.
#[derive(Clone, Debug)]
struct Members {
    count: u64,
    operation: String,
    resource: String,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    operations: u64,
    not_compared: u64,
    changes: BTreeMap<Group, Members>,
}

pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let place = match &args.policy {
        Some(dir) => PolicyPlace::Dir(dir.clone()),
        None => args.store.policy()?,
    };
    let bundle = match place {
        PolicyPlace::Dir(dir) => match super::load(&super::On { dir, json: args.json }) {
            Ok(bundle) => bundle,
            Err(code) => return Ok(code),
        },
        PolicyPlace::Kept { dir, identity_dir } => kept(&dir, &identity_dir)?,
    };
    let all = Transcripts::open(&args.store.dir()?)?;
    let found = simulate(&all, &args.filter, &bundle)?;
    if args.json {
        sayln!("{}", text::escaped(&json_of(&bundle, &found).to_string()));
    } else {
        print(&bundle, &found);
    }
    let damage = all.damage();
    for what in &damage {
        eprintln!("damaged: {}", Line(what));
    }
    if !damage.is_empty() {
        bail!("the store is damaged: this is about what can be read of it");
    }
    Ok(ExitCode::SUCCESS)
}

/// The server's policy, as this host keeps it.
fn kept(dir: &Path, identity_dir: &Path) -> anyhow::Result<Bundle> {
    let hint =
        || format!("the server's policy in {}; name another with --policy DIR", dir.display());
    let kept = pushed::kept(dir, identity_dir).with_context(hint)?;
    kept.with_context(|| format!("there is none yet: {}", hint()))
}

fn simulate(all: &Transcripts, filter: &FilterArgs, bundle: &Bundle) -> anyhow::Result<Found> {
    let mut found = Found::default();
    all.flows(&filter.filter(), |flow| {
        let mut assembler = Assembler::default();
        all.events(flow.id, |event| {
            if let Some(exchange) = assembler.add(event) {
                found.add(bundle, principal(&assembler), &exchange);
            }
            Ok(true)
        })?;
        for exchange in assembler.rest() {
            found.add(bundle, principal(&assembler), &exchange);
        }
        Ok(true)
    })
    .context("the transcripts could not be read")?;
    Ok(found)
}

/// Who acted on the flow.
fn principal(assembler: &Assembler) -> Option<&v1::Principal> {
    assembler.start.as_ref()?.1.principal.as_ref()
}

impl Found {
    fn add(&mut self, bundle: &Bundle, principal: Option<&v1::Principal>, exchange: &Exchange) {
        let Some(asked) = &exchange.asked else { return };
        self.operations += 1;
        let before = exchange.decisions.last().and_then(|(_, decision)| became(decision));
        let now = principal.and_then(|principal| becomes(bundle, principal, asked, exchange));
        let (Some(from), Some((to, rules))) = (before, now) else {
            self.not_compared += 1;
            return;
        };
        if from == to {
            return;
        }
        let group = Group {
            to,
            from,
            agent: principal.map(|principal| principal.agent.clone()).unwrap_or_default(),
            action: asked.action.clone(),
            target: asked.target.clone(),
            rules,
        };
        let members = self.changes.entry(group).or_insert_with(|| Members {
            count: 0,
            operation: exchange.id_text(),
            resource: asked.resource.clone(),
        });
        members.count += 1;
    }

    fn changed(&self) -> u64 {
        self.changes.values().map(|members| members.count).sum()
    }
}

/// What policy said then; `None` when something else refused it.
fn became(decision: &v1::Decision) -> Option<Becomes> {
    if !decision.scope.is_empty() {
        let scopes = decision.scope.split(',').map(str::to_owned);
        return Some(needs(scopes.collect()));
    }
    match (decision.verdict(), decision.reason.as_str()) {
        (v1::Verdict::Allow, _) => Some(Becomes::Allow),
        (v1::Verdict::Deny, "policy" | "unknown-target") => Some(Becomes::Deny),
        _ => None,
    }
}

fn needs(mut scopes: Vec<String>) -> Becomes {
    scopes.sort();
    scopes.dedup();
    Becomes::NeedsApproval(scopes)
}

/// What this bundle says, and by which rules; `None` when the record does not say enough.
fn becomes(
    bundle: &Bundle,
    principal: &v1::Principal,
    asked: &v1::OperationAsked,
    exchange: &Exchange,
) -> Option<(Becomes, Vec<String>)> {
    let principal = Principal::try_from(principal).ok()?;
    let mut op = convert::operation(asked, OperationId(Uuid::nil())).ok()?;
    let Some(target) = bundle.target_of(&op) else {
        return Some((Becomes::Deny, Vec::new()));
    };
    // A rule that asks for the body has it read before; a body that streamed then was recorded.
    if let (Some((length, hash)), None) = (&exchange.request.whole, op.get("body.sha256")) {
        op.fact("body.length", i64::try_from(*length).unwrap_or(i64::MAX));
        op.fact("body.sha256", hex::encode(hash));
    }
    let judgement = judge_anew(bundle, &principal, target, op).ok()?;
    let to = match judgement.verdict {
        Verdict::Allow => Becomes::Allow,
        Verdict::Deny => Becomes::Deny,
        Verdict::NeedsApproval(scopes) => needs(scopes.into_iter().map(|s| s.name).collect()),
    };
    Some((to, judgement.rules))
}

fn print(bundle: &Bundle, found: &Found) {
    sayln!(
        "policy {}: {} of {} recorded operations would change",
        bundle.version(),
        found.changed(),
        found.operations
    );
    for (group, members) in &found.changes {
        let by = match group.rules.as_slice() {
            [] => "no rule".to_owned(),
            rules => rules.join(", "),
        };
        sayln!(
            "{:>7}  {} -> {}  {} {} on {}  by {by}",
            members.count,
            Line(&group.from.to_string()),
            group.to,
            Line(&group.agent),
            Line(&group.action),
            Line(if group.target.is_empty() { "(no target)" } else { &group.target })
        );
        let resource = text::head(&members.resource, 200);
        sayln!("         as {} (operation {})", Line(resource), members.operation);
    }
    if found.not_compared > 0 {
        sayln!(
            "{} were refused before policy was asked, or do not say enough: not compared",
            found.not_compared
        );
    }
}

fn json_of(bundle: &Bundle, found: &Found) -> Value {
    let change = |(group, members): (&Group, &Members)| {
        json!({
            "from": group.from.to_string(),
            "to": group.to.to_string(),
            "agent": group.agent,
            "action": group.action,
            "target": group.target,
            "rules": group.rules,
            "count": members.count,
            "example": { "operation": members.operation, "resource": members.resource },
        })
    };
    json!({
        "policy": bundle.version(),
        "operations": found.operations,
        "changed": found.changed(),
        "not_compared": found.not_compared,
        "changes": found.changes.iter().map(change).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
