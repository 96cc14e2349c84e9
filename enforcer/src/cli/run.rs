//! `enforcer run`: a program in its own governed cgroup.

use crate::principal::AgentName;
use crate::run::{client, runtime_dir};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `enforcer run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent that policy and transcripts know it by [default: program's name and user id]
    #[arg(long, value_name = "NAME", value_parser = name)]
    agent: Option<String>,
    /// The task that it works on
    #[arg(long, value_name = "NAME", value_parser = name)]
    task: Option<String>,
    /// Run as this user (root only) [default for root: run.user of the configuration]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Accept that a program running as root can undo its own confinement
    #[arg(long)]
    accept_root: bool,
    /// Read-only files but the directory that it starts in; new homes and /tmp; others' sockets
    /// and fifos out of sight [default: run.sandbox of the configuration]
    #[arg(long)]
    sandbox: bool,
    /// The daemon's configuration, for its runtime directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Agents and tasks are named alike.
fn name(text: &str) -> Result<String, String> {
    match AgentName::parse(text) {
        Some(name) => Ok(name.to_string()),
        None => Err("a name has 1 to 128 of the characters A-Z a-z 0-9 . _ @ : -".to_owned()),
    }
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = runtime_dir(args.config.as_deref())?;
    let argv = args.command.into_iter().map(OsStringExt::into_vec).collect();
    let mut request = client::request_here(argv)?;
    request.agent = args.agent.unwrap_or_default();
    request.task = args.task.unwrap_or_default();
    request.user = args.user.unwrap_or_default();
    request.accept_root = args.accept_root;
    request.sandbox = args.sandbox;
    Ok(client::end_like(client::run(&dir, request)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_bad_name_is_a_mistake_in_the_command_line() {
        for option in ["--agent", "--task"] {
            for bad in ["", "a b", "../x", "a/b", "\u{e9}"] {
                let line = ["enforcer", option, bad, "--", "true"];
                let error = Line::try_parse_from(line).err().expect("refused");
                assert_eq!(error.exit_code(), 2, "{option} {bad:?}");
            }
        }
        let good = Line::try_parse_from(["enforcer", "--agent", "ci", "--", "true"]);
        assert_eq!(good.ok().and_then(|line| line.args.agent).as_deref(), Some("ci"));
    }
}
