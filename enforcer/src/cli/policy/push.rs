//! `enforcer policy push`, `versions` and `rollback`: policy through the server.

use crate::approval::join;
use crate::cli::approvals::{json::pretty, text};
use crate::cli::{REFUSED, join::default_dir};
use crate::policy::{Bundle, signed};
use enforcer_proto::v1;
use enforcer_proto::v1::policies_client::PoliciesClient;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Which server, and as whom.
#[derive(Debug, clap::Args)]
struct At {
    /// The approval server, when it is not the one that was joined
    #[arg(long, env = "ENFORCER_SERVER")]
    server: Option<String>,
    /// The directory with the certificate; `~/.config/enforcer` when left out
    #[arg(long, env = "ENFORCER_IDENTITY")]
    identity: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Push {
    /// The bundle's directory
    dir: PathBuf,
    /// Why, for who reads the list of versions
    #[arg(long, default_value = "")]
    note: String,
    /// Let the server check it and run its tests, and put nothing in force
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
pub(super) struct Versions {
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
pub(super) struct Rollback {
    /// The version's number, as `versions` has it
    number: u64,
    /// Why, for who reads the list of versions
    #[arg(long, default_value = "")]
    note: String,
    #[command(flatten)]
    at: At,
}

type Client = PoliciesClient<Channel>;

pub(super) fn push(args: Push) -> anyhow::Result<ExitCode> {
    let files = match Bundle::read(&args.dir) {
        Ok(files) => files,
        Err(problems) => {
            super::print_problems(&super::On { dir: args.dir, json: args.at.json }, &problems);
            return Ok(ExitCode::FAILURE);
        }
    };
    let request = v1::PushPolicyRequest {
        files: signed::to_message(&files),
        note: args.note,
        dry_run: args.dry_run,
    };
    let (json, dry_run) = (args.at.json, args.dry_run);
    call(args.at, async move |client: &mut Client| Ok(client.push(request).await?.into_inner()))
        .map(|answer| answer.map_or_else(refused, |answer| told(&answer, dry_run, json)))
}

pub(super) fn roll_back(args: Rollback) -> anyhow::Result<ExitCode> {
    let Rollback { number, note, at } = args;
    let json = at.json;
    let request = v1::RollBackPolicyRequest { number, note };
    call(at, async move |client: &mut Client| Ok(client.roll_back(request).await?.into_inner()))
        .map(|answer| answer.map_or_else(refused, |answer| told(&answer, false, json)))
}

pub(super) fn versions(args: Versions) -> anyhow::Result<ExitCode> {
    let (json, request) = (args.at.json, v1::ListPoliciesRequest { limit: args.limit });
    let answer = call(args.at, async move |client: &mut Client| {
        Ok(client.list(request).await?.into_inner())
    })?;
    Ok(answer.map_or_else(refused, |answer| {
        if json {
            sayln!("{}", pretty(&answer.versions.iter().map(version).collect::<Vec<_>>()));
        } else if answer.versions.is_empty() {
            sayln!("nobody pushed a policy yet");
        } else {
            answer.versions.iter().for_each(|version| sayln!("{}", line(version)));
        }
        ExitCode::SUCCESS
    }))
}

/// Calls the server; the inner error is that it does not let this person.
fn call<T>(
    at: At,
    method: impl AsyncFnOnce(&mut Client) -> Result<T, Status>,
) -> anyhow::Result<Result<T, Status>> {
    let dir = match at.identity {
        Some(dir) => dir,
        None => default_dir()?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(async {
        let (_, channel) = join::open(&dir, at.server.as_deref()).await?;
        let mut client =
            PoliciesClient::new(channel).max_decoding_message_size(signed::MAX_MESSAGE);
        anyhow::Ok(method(&mut client).await)
    })?;
    match answer {
        Err(status) if matches!(status.code(), Code::Unavailable | Code::Unknown) => {
            anyhow::bail!("the approval server cannot be reached: {}", join::words(&status))
        }
        Err(status) if status.code() != Code::PermissionDenied => {
            anyhow::bail!("{}", text::line(status.message()))
        }
        answer => Ok(answer),
    }
}

fn refused(status: Status) -> ExitCode {
    eprintln!("enforcer: {}", text::line(status.message()));
    ExitCode::from(REFUSED)
}

/// Prints what the server made of a bundle.
fn told(answer: &v1::PushPolicyResponse, dry_run: bool, json: bool) -> ExitCode {
    let good = answer.failures.is_empty() && !answer.problems.iter().any(|problem| problem.error);
    let code = if good { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    if json {
        sayln!("{}", pretty(&whole(answer)));
        return code;
    }
    for problem in &answer.problems {
        lines(&problem.text).for_each(|line| eprintln!("{line}"));
    }
    for failure in &answer.failures {
        let [file, name, expected, got] =
            [&failure.file, &failure.name, &failure.expected, &failure.got].map(|t| text::line(t));
        eprintln!("FAILED {file}: {name}: expected {expected}, got {got}");
    }
    match &answer.accepted {
        Some(accepted) => {
            sayln!("in force: {}", line(accepted));
            let (tests, voided) = (answer.tests, answer.voided);
            sayln!("{tests} tests passed; {voided} grants and requests ended with it");
        }
        None if dry_run && good => sayln!("ok: it would be taken; {} tests passed", answer.tests),
        None => eprintln!("the server did not take it: what was in force stays in force"),
    }
    code
}

/// A problem shows its place over several lines; each is made safe by itself.
fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    text.lines().map(text::line)
}

fn line(version: &v1::PolicyStatement) -> String {
    let again = match version.again {
        0 => String::new(),
        again => format!(", as version {again}"),
    };
    format!(
        "{}  {}  {}  {}{again}  {}",
        version.number,
        text::time(version.unix_ms),
        text::line(&version.version),
        text::line(&version.actor),
        text::line(&version.note)
    )
    .trim_end()
    .to_owned()
}

fn version(version: &v1::PolicyStatement) -> Value {
    json!({
        "number": version.number,
        "version": version.version,
        "digest": hex::encode(&version.digest),
        "unix_ms": version.unix_ms,
        "actor": version.actor,
        "note": version.note,
        "again": (version.again > 0).then_some(version.again),
    })
}

fn whole(answer: &v1::PushPolicyResponse) -> Value {
    let problem = |p: &v1::PolicyProblem| json!({ "error": p.error, "text": p.text });
    let failure = |f: &v1::PolicyTestFailure| json!({ "file": f.file, "name": f.name, "expected": f.expected, "got": f.got });
    json!({
        "accepted": answer.accepted.as_ref().map(version),
        "problems": answer.problems.iter().map(problem).collect::<Vec<_>>(),
        "tests": answer.tests,
        "failures": answer.failures.iter().map(failure).collect::<Vec<_>>(),
        "voided": answer.voided,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_line_and_what_was_refused_is_a_failure() {
        let accepted = v1::PolicyStatement {
            number: 3,
            version: "sha256:0".to_owned(),
            actor: "policy-admin/pat".to_owned(),
            note: "two\u{202e}".to_owned(),
            again: 1,
            ..v1::PolicyStatement::default()
        };
        let shown = line(&accepted);
        assert!(shown.starts_with("3  1970-01-01"), "{shown}");
        assert!(shown.ends_with("policy-admin/pat, as version 1  two‹U+202E›"), "{shown}");
        let good = v1::PushPolicyResponse { accepted: Some(accepted), ..<_>::default() };
        assert_eq!(told(&good, false, true), ExitCode::SUCCESS);
        let failure = v1::PolicyTestFailure::default();
        let bad = v1::PushPolicyResponse { failures: vec![failure], ..<_>::default() };
        assert_eq!(told(&bad, false, true), ExitCode::FAILURE);
        let warned = v1::PolicyProblem { error: false, text: "odd".to_owned() };
        let odd = v1::PushPolicyResponse { problems: vec![warned], ..<_>::default() };
        assert_eq!(told(&odd, true, false), ExitCode::SUCCESS);
        let shown: Vec<_> = lines("error: odd\n  --> rules.cedar:1\u{1b}[2J\r\n").collect();
        assert_eq!(shown, ["error: odd", "  --> rules.cedar:1‹U+001B›[2J"]);
        let wrong = v1::PolicyProblem { error: true, text: "bad".to_owned() };
        let wrong = v1::PushPolicyResponse { problems: vec![wrong], ..<_>::default() };
        assert_eq!(told(&wrong, true, false), ExitCode::FAILURE);
        assert_eq!(whole(&good)["accepted"]["again"], 1);
    }
}
