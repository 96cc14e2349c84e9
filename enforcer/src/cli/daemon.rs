//! `enforcer daemon`: the host daemon, in the foreground.

use crate::app;
use crate::config::Config;
use anyhow::Context;
use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// How long threads may take to end once everything is recorded.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Arguments of `enforcer daemon`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = crate::run::DEFAULT_CONFIG)]
    config: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("enforcer")
        .enable_all()
        .build()
        .context("the runtime could not be started")?;
    let done = runtime.block_on(app::run(config));
    // What still waits for a file system that does not answer is left behind.
    runtime.shutdown_timeout(SHUTDOWN);
    done?;
    Ok(ExitCode::SUCCESS)
}

/// Structured lines for machines, readable ones for a terminal; `RUST_LOG` filters.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Another subscriber may be set already; then its output is the one wanted.
    let _ = match io::stderr().is_terminal() {
        true => builder.try_init(),
        false => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
}
