//! `enforcer daemon`: the host daemon, in the foreground.

use crate::config::Config;
use crate::{app, capture};
use anyhow::Context;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Arguments of `enforcer daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = crate::run::DEFAULT_CONFIG)]
    config: PathBuf,
    /// Remove the kernel half and leave: the host is open then, and governed processes are not
    /// governed until the daemon starts again
    #[arg(long)]
    detach: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    if args.detach {
        capture::detach(&config).context("the kernel half could not be removed")?;
        println!("the kernel half is removed: processes in the governed cgroups are open now");
        return Ok(ExitCode::SUCCESS);
    }
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("enforcer")
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    runtime.block_on(app::run(config))?;
    Ok(ExitCode::SUCCESS)
}

/// Structured lines for machines, readable ones for a terminal; `RUST_LOG` filters.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Another subscriber may be set already; then its output is the one wanted.
    let _ = match io::stderr().is_terminal() {
        true => builder.try_init(),
        false => builder.json().flatten_event(true).try_init(),
    };
}
