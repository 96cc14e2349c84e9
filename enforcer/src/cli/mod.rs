//! The command line: one file per command, each with its `Args` and a `run`.
//!
//! Exit codes: 0 done, 1 failed, 2 usage, 3 refused by policy.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

pub mod approvals;
mod audit;
pub mod ca;
pub mod daemon;
pub mod detach;
pub mod doctor;
pub mod init;
mod inside;
pub mod join;
pub mod mcp;
pub mod policy;
pub mod run;
pub mod server;
pub mod status;
pub mod tasks;
pub mod transcripts;

/// Exit code for a refusal by policy.
pub const REFUSED: u8 = 3;

/// One unavoidable gate on each host for what AI agents send.
#[derive(Debug, Parser)]
#[command(name = "enforcer", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Decide on requests and look at them
    Approvals(approvals::Args),
    /// Show, install or rotate the interception CA
    Ca(ca::Args),
    /// Run the host daemon
    Daemon(daemon::Args),
    /// Open the host: take every program off (root, outside every governed cgroup)
    Detach(detach::Args),
    /// Prove enforcement by trying to get out
    Doctor(doctor::Args),
    /// Write a starter configuration, CA and policy
    Init(init::Args),
    /// Trade a one-time token for a certificate (hosts and people)
    Join(join::Args),
    /// Serve an agent's MCP client over standard input and output (inside a governed cgroup)
    Mcp(mcp::Args),
    /// Check, test and explain policy
    Policy(policy::Args),
    /// Run a program in its own governed cgroup
    Run(run::Args),
    /// Run the approval server
    Server(server::Args),
    /// Say what runs and which layers hold
    Status(status::Args),
    /// Declare what an agent is about to do, and follow it (inside a governed cgroup)
    Tasks(tasks::Args),
    /// Read, search, export and verify transcripts
    Transcripts(transcripts::Args),
    /// (internal) set up the floor and execute an agent's program
    #[command(name = "__launch", hide = true)]
    Launch(crate::run::LaunchArgs),
}

/// The error with its causes, each once: many of ours have their cause in their own words.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// What to do when the system did not let us, as text to put behind the error.
fn as_root(error: &anyhow::Error) -> &'static str {
    let denied = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied);
    if denied && !nix::unistd::geteuid().is_root() { "; run this as root (with sudo)" } else { "" }
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Approvals(args) => approvals::run(args),
        Command::Ca(args) => ca::run(args),
        Command::Daemon(args) => daemon::run(args),
        Command::Detach(args) => detach::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Init(args) => init::run(args),
        Command::Join(args) => join::run(args),
        Command::Mcp(args) => mcp::run(args),
        Command::Policy(args) => policy::run(args),
        Command::Run(args) => run::run(args),
        Command::Server(args) => server::run(args),
        Command::Status(args) => status::run(args),
        Command::Tasks(args) => tasks::run(args),
        Command::Transcripts(args) => transcripts::run(args),
        Command::Launch(args) => crate::run::launch(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("enforcer: {}", in_full(&error));
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("{path}: {cause}")]
    struct File {
        path: &'static str,
        #[source]
        cause: io::Error,
    }

    #[test]
    fn a_cause_is_told_once_and_missing_rights_say_what_to_do() {
        let cause = || io::Error::from(io::ErrorKind::PermissionDenied);
        let own = anyhow::Error::from(File { path: "/x", cause: cause() });
        assert_eq!(in_full(&own), "/x: permission denied");
        let outer = anyhow::Error::from(cause()).context("/x").context("no start");
        assert_eq!(in_full(&outer), "no start: /x: permission denied");
        let root = nix::unistd::geteuid().is_root();
        for error in [own, outer] {
            assert_eq!(as_root(&error).is_empty(), root);
        }
        assert_eq!(as_root(&anyhow::anyhow!("else")), "");
    }
}
