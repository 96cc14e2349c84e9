//! `enforcer run`: a program in its own governed cgroup, with the CA and the floor.
//!
//! Four processes: the *client* ([`client`], the caller's), the *daemon*
//! ([`control`], [`plan`]), which looks up in the kernel who asks and decides
//! what is started, the *keeper* (`launch`), one per run and independent of the
//! daemon's life, and the run's *init* (`init`), which joins the cgroup, sets up
//! the floor ([`floor`]) and starts the program. Bytes go straight between client
//! and program; neither daemon nor keeper touches them.
//!
//! Nothing of the caller's runs before the cgroup is joined, and no descriptor
//! of the caller's reaches the program.

#![expect(unsafe_code, reason = "system calls that have no safe wrapper")]

mod caller;
pub mod cgroup;
pub mod client;
pub mod control;
pub mod env;
pub mod escape;
pub mod floor;
mod init;
mod launch;
pub mod peer;
pub mod plan;
mod program;
pub mod status;
mod stdio;
mod terminal;
pub mod trust;
pub mod wire;

use anyhow::Context;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where the configuration is unless a command says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/enforcer/enforcer.toml";

/// Arguments of the internal launcher.
#[derive(Debug, clap::Args)]
pub struct LaunchArgs {
    /// Be the doctor's probing process instead, with this order as JSON
    #[arg(long)]
    probe: Option<String>,
}

/// Sets up the floor and executes the program.
pub fn launch(args: LaunchArgs) -> anyhow::Result<ExitCode> {
    match args.probe {
        None => launch::keep(),
        Some(order) => {
            escape::probe::run(&serde_json::from_str(&order)?)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The runtime directory that a configuration names. Only that is read of it,
/// because a caller may not be allowed to see the rest; without `--config` a
/// file that cannot be read means the default.
pub fn runtime_dir(config: Option<&Path>) -> anyhow::Result<PathBuf> {
    #[derive(serde::Deserialize)]
    struct Only {
        host: Option<Host>,
    }
    #[derive(serde::Deserialize)]
    struct Host {
        runtime_dir: Option<PathBuf>,
    }
    let path = config.unwrap_or_else(|| Path::new(DEFAULT_CONFIG));
    let text = match (std::fs::read_to_string(path), config) {
        (Ok(text), _) => text,
        (Err(_), None) => String::new(),
        (Err(error), Some(_)) => return Err(error).with_context(|| path.display().to_string()),
    };
    let only: Only = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let dir = only.host.and_then(|host| host.runtime_dir);
    Ok(dir.unwrap_or_else(|| "/run/enforcer".into()))
}
