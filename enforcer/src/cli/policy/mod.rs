//! `enforcer policy`: checks, tests and explains a bundle without a daemon, says what it would
//! change, and puts it in force through the server.

use super::REFUSED;
use crate::policy::{
    Ask, Bundle, Case, CaseOutcome, Judgement, Problems, SCHEMA, Verdict, schema_json,
};
use anyhow::Context;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::ExitCode;

/// Prints a line; see [`say`].
macro_rules! sayln {
    ($($part:tt)*) => {
        $crate::cli::policy::say(&(format!($($part)*) + "\n"))
    };
}

mod push;
mod simulate;

/// Arguments of `enforcer policy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Say everything that is wrong with a bundle
    Check(On),
    /// Run a bundle's tests/*.toml
    Test(On),
    /// Say what becomes of one operation, and why
    Explain(Box<Explain>),
    /// Judge recorded operations under a bundle, and print what would change
    Simulate(simulate::Args),
    /// Check a bundle, run its tests and put it in force through the server (policy admins)
    Push(push::Push),
    /// The versions that the server put in force, newest first
    Versions(push::Versions),
    /// Put the files of an earlier version in force again (policy admins)
    Rollback(push::Rollback),
    /// Print what rules can speak about (Cedar's schema notation)
    Schema {
        /// Print Cedar's JSON notation instead
        #[arg(long)]
        json: bool,
    },
}

/// A bundle, and how to answer.
#[derive(Debug, clap::Args)]
struct On {
    /// The bundle's directory
    dir: PathBuf,
    /// Answer in JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Explain {
    #[command(flatten)]
    on: On,
    /// The agent that asks
    #[arg(long)]
    agent: String,
    /// The host's name
    #[arg(long)]
    host: Option<String>,
    /// The agent's task
    #[arg(long)]
    task: Option<String>,
    /// The process's user id [default: 1000]
    #[arg(long)]
    uid: Option<u32>,
    /// The process's executable
    #[arg(long)]
    exe: Option<String>,
    /// The executable's SHA-256
    #[arg(long)]
    exe_sha256: Option<String>,
    /// The target that it must be; with it, --url can be a path alone
    #[arg(long)]
    target: Option<String>,
    /// The HTTP method [default: GET]
    #[arg(long)]
    method: Option<String>,
    /// The URL of an HTTP request, or a path with --target
    #[arg(
        long,
        required_unless_present_any = ["dns", "connect", "sql", "sign_in"],
        conflicts_with_all = ["dns", "connect", "sql", "sign_in"]
    )]
    url: Option<String>,
    /// A request header, as `name: value`; can be given several times
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The request body
    #[arg(long)]
    body: Option<String>,
    /// The request body's length in bytes, when the body itself does not matter
    #[arg(long, conflicts_with = "body")]
    body_length: Option<u32>,
    /// A name asked of the resolver
    #[arg(long, conflicts_with = "connect")]
    dns: Option<String>,
    /// The record type asked for
    #[arg(long, requires = "dns")]
    record_type: Option<String>,
    /// `host:port` of an uninspected connection
    #[arg(long)]
    connect: Option<String>,
    /// SQL for the database that --target names
    #[arg(long, requires = "target", conflicts_with_all = ["dns", "connect", "sign_in"])]
    sql: Option<String>,
    /// Sign in to the database that --target names
    #[arg(long, requires = "target", conflicts_with_all = ["dns", "connect"])]
    sign_in: bool,
    /// The user that the agent signs in as [default: the first that the target knows]
    #[arg(long)]
    user: Option<String>,
    /// The database that it asks for [default: the first that the target knows]
    #[arg(long)]
    database: Option<String>,
    /// The role in force [default: the one that the user is mapped to]
    #[arg(long)]
    role: Option<String>,
    /// Where names without a schema are looked for; can be given several times [default: public]
    #[arg(long)]
    search_path: Vec<String>,
    /// A column that the statement shows (schema.table.column); can be given several times
    #[arg(long = "column", value_name = "COLUMN")]
    columns: Vec<String>,
    /// A column that its conditions look at; can be given several times
    #[arg(long = "looked-at", value_name = "COLUMN")]
    looked_at: Vec<String>,
    /// A bound parameter, as `NUMBER=VALUE`; can be given several times
    #[arg(long = "parameter", value_name = "N=VALUE")]
    parameters: Vec<String>,
    /// It is inside a transaction block
    #[arg(long)]
    in_transaction: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check(on) => Ok(check(&on)),
        Command::Test(on) => Ok(test(&on)),
        Command::Explain(explain) => self::explain(*explain),
        Command::Simulate(args) => simulate::run(args),
        Command::Push(args) => push::push(args),
        Command::Versions(args) => push::versions(args),
        Command::Rollback(args) => push::roll_back(args),
        Command::Schema { json: false } => {
            say(SCHEMA);
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema { json: true } => {
            say(&(schema_json()? + "\n"));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Prints. A reader that goes away (`| head`) is no fault, and must not become a panic; the exit
/// code still says what was found.
fn say(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

fn check(on: &On) -> ExitCode {
    let loaded = Bundle::load(&on.dir);
    let (problems, code) = match &loaded {
        Ok(bundle) => (bundle.warnings(), ExitCode::SUCCESS),
        Err(problems) => (problems, ExitCode::FAILURE),
    };
    if on.json {
        let version = loaded.as_ref().ok().map(Bundle::version);
        sayln!("{}", json!({ "ok": loaded.is_ok(), "version": version, "problems": problems }));
        return code;
    }
    if !problems.is_empty() {
        eprintln!("{problems}");
    }
    match &loaded {
        Ok(bundle) => sayln!(
            "ok: policy {} has {} targets, {} rules, {} scopes and {} tests",
            bundle.version(),
            bundle.targets().len(),
            bundle.rules().count(),
            bundle.scope_count(),
            bundle.cases().len()
        ),
        Err(problems) => eprintln!(
            "{} cannot be used: {} {}, none of it is in force",
            on.dir.display(),
            problems.len(),
            if problems.len() == 1 { "problem" } else { "problems" }
        ),
    }
    code
}

/// Loads a bundle or prints what is wrong with it.
fn load(on: &On) -> Result<Bundle, ExitCode> {
    Bundle::load(&on.dir).map_err(|problems| {
        print_problems(on, &problems);
        ExitCode::FAILURE
    })
}

fn print_problems(on: &On, problems: &Problems) {
    if on.json {
        sayln!("{}", json!({ "ok": false, "problems": problems }));
    } else {
        eprintln!("{problems}");
    }
}

fn test(on: &On) -> ExitCode {
    let bundle = match load(on) {
        Ok(bundle) => bundle,
        Err(code) => return code,
    };
    let mut failed = 0_usize;
    let mut rows = Vec::new();
    for case in bundle.cases() {
        let outcome = bundle.run(case);
        let passed = outcome.as_ref().is_ok_and(|outcome| outcome.passed);
        failed += usize::from(!passed);
        if on.json {
            rows.push(match outcome {
                Ok(outcome) => row(case, &outcome),
                Err(error) => json!({
                    "file": case.file, "name": case.name, "passed": false,
                    "error": error.to_string(),
                }),
            });
            continue;
        }
        let mark = if passed { "ok    " } else { "FAILED" };
        match outcome {
            Ok(outcome) => {
                let verdict = &outcome.judgement.verdict;
                sayln!("{mark} {}: {}: {verdict}", case.file, case.name);
                if !passed {
                    explain_failure(case, &outcome);
                }
            }
            Err(error) => sayln!("{mark} {}: {}: {error}", case.file, case.name),
        }
    }
    let total = bundle.cases().len();
    if on.json {
        sayln!(
            "{}",
            json!({ "ok": failed == 0, "version": bundle.version(), "failed": failed, "tests": rows })
        );
    } else if total == 0 {
        sayln!("no tests: put cases into {}/tests/*.toml", on.dir.display());
    } else {
        sayln!("{} of {total} tests passed", total - failed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn explain_failure(case: &Case, outcome: &CaseOutcome) {
    let by = |rules: &[String]| match rules {
        [] => String::new(),
        rules => format!(" by {}", rules.join(", ")),
    };
    sayln!("       expected {}{}", case.expect, by(&case.rules));
    sayln!("       got      {}{}", outcome.judgement.verdict, by(&outcome.judgement.rules));
    for line in &outcome.judgement.trace {
        sayln!("       {line}");
    }
}

fn row(case: &Case, outcome: &CaseOutcome) -> Value {
    json!({
        "file": case.file,
        "name": case.name,
        "passed": outcome.passed,
        "expected": case.expect.to_string(),
        "verdict": outcome.judgement.verdict.to_string(),
        "rules": outcome.judgement.rules,
        "trace": outcome.judgement.trace,
    })
}

fn explain(args: Explain) -> anyhow::Result<ExitCode> {
    let on = args.on;
    let bundle = match load(&on) {
        Ok(bundle) => bundle,
        Err(code) => return Ok(code),
    };
    let headers = args
        .headers
        .iter()
        .map(|header| {
            let (name, value) = header
                .split_once(':')
                .with_context(|| format!("{header:?} is not a header: write \"name: value\""))?;
            Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    let parameters = args
        .parameters
        .iter()
        .map(|parameter| {
            let (number, value) = parameter
                .split_once('=')
                .with_context(|| format!("{parameter:?} is no parameter: write 1=value"))?;
            Ok((number.to_owned(), value.to_owned()))
        })
        .collect::<anyhow::Result<_>>()?;
    // Whoever says one list of columns says the other, too.
    let said = !(args.columns.is_empty() && args.looked_at.is_empty());
    let judgement = bundle.judge(&Ask {
        agent: args.agent,
        host: args.host,
        task: args.task,
        uid: args.uid,
        exe: args.exe,
        exe_sha256: args.exe_sha256,
        target: args.target,
        method: args.method,
        url: args.url,
        headers,
        body: args.body,
        body_length: args.body_length,
        dns: args.dns,
        record_type: args.record_type,
        connect: args.connect,
        sql: args.sql,
        sign_in: args.sign_in,
        user: args.user,
        database: args.database,
        role: args.role,
        search_path: args.search_path,
        columns: said.then_some(args.columns),
        looked_at: said.then_some(args.looked_at),
        parameters,
        in_transaction: args.in_transaction,
    })?;
    if on.json {
        sayln!("{}", explained(&bundle, &judgement));
    } else {
        sayln!("{}", judgement.verdict);
        for line in &judgement.trace {
            sayln!("  {line}");
        }
    }
    Ok(match judgement.verdict {
        Verdict::Deny => ExitCode::from(REFUSED),
        Verdict::Allow | Verdict::NeedsApproval(_) => ExitCode::SUCCESS,
    })
}

fn explained(bundle: &Bundle, judgement: &Judgement) -> Value {
    let (verdict, scopes) = match &judgement.verdict {
        Verdict::Allow => ("allow", Vec::new()),
        Verdict::Deny => ("deny", Vec::new()),
        Verdict::NeedsApproval(scopes) => {
            ("needs-approval", scopes.iter().map(|scope| scope.name.as_str()).collect())
        }
    };
    json!({
        "policy": bundle.version(),
        "verdict": verdict,
        "scopes": scopes,
        "rules": judgement.rules,
        "trace": judgement.trace,
    })
}
