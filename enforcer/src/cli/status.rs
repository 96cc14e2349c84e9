//! `enforcer status`: what the daemon says of itself, and what is left when it is dead.

use crate::run::client;
use crate::run::control::StatusReport;
use crate::run::runtime_dir;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where links and maps are pinned unless the configuration says otherwise.
const PINS: &str = "/sys/fs/bpf/enforcer";

/// Arguments of `enforcer status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration, for its directories
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = runtime_dir(args.config.as_deref())?;
    match client::status(&dir) {
        Ok(report) if args.json => {
            let mut value = serde_json::to_value(&report)?;
            value["running"] = true.into();
            println!("{value:#}");
        }
        Ok(report) => print!("{}", text(&report)),
        Err(error) => {
            let pins = pins(&pin_dir(args.config.as_deref()));
            dead(&error, &pins, args.json);
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said without a daemon.
fn dead(error: &anyhow::Error, pins: &Result<Vec<String>, String>, json: bool) {
    if json {
        let pins = pins.as_deref().unwrap_or_default();
        let value =
            serde_json::json!({ "running": false, "error": format!("{error:#}"), "pins": pins });
        println!("{value:#}");
        return;
    }
    println!("daemon    no answer: {error:#}");
    match pins {
        Ok(pins) if pins.is_empty() => {
            println!("pins      none: governed cgroups are NOT enforced")
        }
        Ok(pins) => println!(
            "pins      {} in place ({}): governed processes reach nothing until the daemon is back",
            pins.len(),
            pins.join(", ")
        ),
        Err(error) => println!("pins      {error}"),
    }
}

fn pin_dir(config: Option<&Path>) -> PathBuf {
    let path = config.unwrap_or_else(|| Path::new(crate::run::DEFAULT_CONFIG));
    fs::read_to_string(path)
        .ok()
        .and_then(|text| text.parse::<toml::Table>().ok())
        .and_then(|table| Some(table.get("kernel")?.get("pin_dir")?.as_str()?.into()))
        .unwrap_or_else(|| PINS.into())
}

/// Every pin below `dir`, as a path from there.
pub(super) fn pins(dir: &Path) -> Result<Vec<String>, String> {
    fn walk(dir: &Path, base: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                walk(&path, base, names)?;
            } else {
                let name = path.strip_prefix(base).unwrap_or(&path);
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut names = Vec::new();
    match walk(dir, dir, &mut names) {
        Ok(()) => {
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{} cannot be read ({error}); try as root", dir.display())),
    }
}

fn text(report: &StatusReport) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    line(
        "daemon",
        &format!("{} pid {}, up {}", report.version, report.pid, duration(report.uptime_s)),
    );
    line("host", &report.host);
    line("governed", &report.governed.join(", "));
    for layer in &report.layers {
        let state = if layer.holds { "holds" } else { "MISSING" };
        line("layer", &format!("{:<8} {state:<8} {}", layer.name, layer.detail));
    }
    let server = &report.server;
    let state = match (server.url.is_empty(), server.connected) {
        (true, _) => "none: what needs approval is denied".to_owned(),
        (false, true) => format!("{} connected", server.url),
        (false, false) => format!("{} NOT connected: {}", server.url, server.detail),
    };
    line("server", &state);
    let policy = if report.policy_version.is_empty() {
        "NONE: everything is denied"
    } else {
        &report.policy_version
    };
    line("policy", policy);
    line(
        "flows",
        &format!(
            "{} open, {} in all, {} held for a decision",
            report.flows_open, report.flows_total, report.held
        ),
    );
    let store = &report.transcripts;
    let writable = if store.writable { "" } else { ", NOT writable: nothing is forwarded" };
    line(
        "transcripts",
        &format!(
            "{} events, {} of {} bytes{writable}",
            store.events, store.bytes, store.quota_bytes
        ),
    );
    for counter in &report.counters {
        let agent = if counter.agent.is_empty() { "(none)" } else { &counter.agent };
        line("counter", &format!("{agent} {} {}", counter.name, counter.value));
    }
    for check in report.checks.iter().filter(|c| !c.ok) {
        line("FAILED", &format!("{}: {}", check.name, check.detail));
    }
    out
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m"),
        (0, h, m) => format!("{h}h{m}m"),
        (d, h, _) => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::control::{Check, LayerStatus, ServerStatus};

    #[test]
    fn what_is_wrong_stands_out() {
        let report = StatusReport {
            layers: vec![LayerStatus {
                name: "lsm".into(),
                holds: false,
                detail: "the kernel refuses BPF LSM".into(),
            }],
            server: ServerStatus {
                url: "https://s".into(),
                connected: false,
                detail: "connection refused".into(),
            },
            checks: vec![Check::failed("clock", "it went back")],
            uptime_s: 3_700,
            ..StatusReport::default()
        };
        let text = text(&report);
        for part in [
            "MISSING",
            "https://s NOT connected: connection refused",
            "NONE: everything is denied",
            "NOT writable",
            "FAILED      clock: it went back",
            "up 1h1m",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let report: StatusReport =
            serde_json::from_str(r#"{"version":"9","new":{"a":1}}"#).unwrap();
        assert_eq!(report.version, "9");
    }
}
