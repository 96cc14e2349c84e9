//! `enforcer detach`: the only way to open the host, and it is recorded.

use crate::capture;
use crate::config::Config;
use crate::record::Recorder;
use crate::run::client;
use anyhow::{Context as _, bail};
use enforcer_proto::v1;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `enforcer detach`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration
    #[arg(long, value_name = "FILE", default_value = "/etc/enforcer/enforcer.toml")]
    config: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    if !nix::unistd::geteuid().is_root() {
        bail!("only root can detach");
    }
    for governed in &config.governed {
        if inside(&governed.cgroup)? {
            bail!("this process is inside the governed cgroup {}", governed.cgroup);
        }
    }
    if client::status(&config.host.runtime_dir).is_ok() {
        bail!("the daemon runs: stop it first, so that nothing is attached again behind your back");
    }
    // Recorded first: what cannot be recorded does not happen.
    record(&config).context("the detachment cannot be recorded, so it was not done")?;
    capture::detach(&config)?;
    println!("detached: governed cgroups are no longer enforced");
    Ok(ExitCode::SUCCESS)
}

/// Whether this process is in that cgroup or below.
fn inside(governed: &str) -> anyhow::Result<bool> {
    let own = std::fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    Ok(path == governed || path.strip_prefix(governed).is_some_and(|rest| rest.starts_with('/')))
}

/// Leaves a flow of its own in the transcripts: who did it, and when.
fn record(config: &Config) -> anyhow::Result<()> {
    let recorder = Recorder::open(&config.transcript, &config.host.data_dir)?;
    let start = v1::FlowStart {
        principal: Some(v1::Principal {
            host: config.host_name().to_owned(),
            agent: "operator".into(),
            pid: std::process::id(),
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            comm: "enforcer".into(),
            argv: std::env::args().collect(),
            ..Default::default()
        }),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let end = v1::FlowEnd {
        outcome: "detached".into(),
        error: "every program and pin was taken off this host by its operator".into(),
        operations: 0,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        recorder.whole_flow(start, Vec::new(), end).await?;
        recorder.shutdown().await;
        Ok(())
    })
}
