//! `enforcer doctor`: proves enforcement by trying to get out, and looks at what
//! it rests on. Each line says what was seen, or what to do.

mod host;
mod processes;
mod proof;

use crate::config::Config;
use crate::run::control::Check;
use crate::run::{DEFAULT_CONFIG, client, runtime_dir};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the detail of a check begins with that passed although something is open: a layer that
/// nobody demanded is not there.
const OPEN: &str = "not closed: ";

/// Arguments of `enforcer doctor`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration [default: /etc/enforcer/enforcer.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let checks = examine(args.config.as_deref())?;
    let failed = checks.iter().filter(|check| !check.ok).count();
    if args.json {
        let value = serde_json::json!({ "ok": failed == 0, "checks": checks });
        println!("{value:#}");
    } else {
        for check in &checks {
            let mark = match check.ok {
                false => "FAILED",
                true if check.detail.starts_with(OPEN) => "open",
                true => "ok",
            };
            println!("{mark:<7} {:<34} {}", check.name, check.detail);
        }
        if failed > 0 {
            println!("{failed} of {} checks FAILED", checks.len());
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(path: Option<&Path>) -> anyhow::Result<Vec<Check>> {
    let dir = runtime_dir(path)?;
    // Absolute: the probes start in another directory.
    let file = std::path::absolute(path.unwrap_or_else(|| Path::new(DEFAULT_CONFIG)))?;
    let config = match Config::load(&file) {
        Ok(config) => config,
        Err(error) => return Ok(vec![Check::failed("configuration", error.to_string())]),
    };
    let mut checks = vec![Check::ok("configuration", file.display().to_string())];
    let report = match client::status(&dir) {
        Ok(report) => {
            let detail = format!("{} as pid {}", report.version, report.pid);
            checks.push(Check::ok("daemon", detail));
            Some(report)
        }
        Err(error) => {
            checks.push(Check::failed("daemon", format!("{error:#}")));
            None
        }
    };
    checks.extend(host::checks(&config, report.as_ref()));
    checks.extend(processes::checks(&config, report.as_ref()));
    checks.extend(proof::checks(&config, &file, report.as_ref()));
    Ok(checks)
}
