//! `enforcer daemon`.

use std::process::ExitCode;

/// Arguments of `enforcer daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not in this build")
}
