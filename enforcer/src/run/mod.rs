//! (see the crate's documentation)

use std::process::ExitCode;

/// Arguments of the internal launcher.
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {}

/// Sets up the floor and executes the program.
pub fn launch(_args: LaunchArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not in this build")
}
