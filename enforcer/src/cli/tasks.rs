//! `enforcer tasks`: what an agent is about to do, declared and followed from inside.

use super::approvals::text;
use super::inside::ask;
use anyhow::Context as _;
use clap::Subcommand;
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `enforcer tasks`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Declare a task: put its steps before people
    Submit {
        /// The task as JSON (docs/tasks.md); `-` reads standard input
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// The tasks of this agent
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// One task and how its steps stand
    Show {
        /// Its id
        id: String,
        /// Wait so many seconds for a pending step to change; at most 55
        #[arg(long, default_value_t = 0)]
        wait: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (value, json) = match args.command {
        Command::Submit { file, json } => {
            let body = match file.as_os_str() == "-" {
                true => {
                    let mut body = String::new();
                    io::stdin().read_to_string(&mut body)?;
                    body
                }
                false => {
                    std::fs::read_to_string(&file).with_context(|| file.display().to_string())?
                }
            };
            (ask("POST", "/v1/tasks", Some(&body), 0)?, json)
        }
        Command::List { json } => (ask("GET", "/v1/tasks", None, 0)?, json),
        Command::Show { id, wait, json } => {
            let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            (ask("GET", &format!("/v1/tasks/{id}?wait={wait}"), None, wait)?, json)
        }
    };
    let shown = match (json, value["tasks"].as_array()) {
        (true, _) => format!("{}\n", super::approvals::json::pretty(&value)),
        (false, Some(tasks)) => tasks.iter().map(row).collect(),
        (false, None) => whole(&value),
    };
    io::stdout().write_all(shown.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn field(value: &Value, name: &str) -> String {
    text::line(value[name].as_str().unwrap_or_default())
}

fn row(task: &Value) -> String {
    let states = task["steps"].as_array().into_iter().flatten();
    let states: Vec<&str> = states.filter_map(Value::as_str).collect();
    format!("{}  {}  {}\n", field(task, "task"), states.join(","), field(task, "objective"))
}

fn whole(task: &Value) -> String {
    let mut out =
        format!("task       {}\nobjective  {}\n", field(task, "task"), field(task, "objective"));
    for step in task["steps"].as_array().into_iter().flatten() {
        out += &format!(
            "{:>2}. {:<9} {}\n    {}\n",
            step["step"],
            field(step, "state"),
            field(step, "operation"),
            field(step, "justification")
        );
        for (name, value) in
            [("approval", field(step, "approval")), ("reason", field(step, "reason"))]
        {
            if !value.is_empty() {
                out += &format!("    {name} {value}\n");
            }
        }
    }
    out
}
