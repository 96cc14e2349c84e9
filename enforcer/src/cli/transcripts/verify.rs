//! `transcripts verify`.

use super::text::{self, Line};
use super::{Out, when};
use crate::record::verify::{self, Report};
use std::path::Path;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The host's public key as you know it from elsewhere (hex): proves that the store was not
    /// signed again with another
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(dir: &Path, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    let report = verify::verify(dir, args.key.as_deref())?;
    if args.json {
        writeln!(out, "{}", text::json(&serde_json::to_value(&report)?))?;
    } else {
        people(&report, args.key.as_deref(), out)?;
    }
    Ok(if report.good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn people(report: &Report, known: Option<&str>, out: Out<'_>) -> std::io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "bad: {}", Line(&finding.to_string()))?;
    }
    let more = report.findings_total - report.findings.len() as u64;
    if more > 0 {
        writeln!(out, "bad: {more} more")?;
    }
    let word = if report.good { "good" } else { "NOT GOOD" };
    writeln!(
        out,
        "{word}: {} flows ({} open), {} events, {} operations, {} retired flows",
        report.flows, report.open_flows, report.events, report.operations, report.retired
    )?;
    write!(
        out,
        "log: {} entries, {} signed heads, {} runs of the daemon",
        report.log_entries, report.checkpoints, report.sessions
    )?;
    if let Some(at) = report.signed_unix_ns {
        write!(out, ", last signed {}", when::show(at))?;
    }
    writeln!(out)?;
    if report.unsigned_entries > 0 {
        writeln!(
            out,
            "note: {} entries are newer than the last signed head",
            report.unsigned_entries
        )?;
    }
    let compare = match known {
        None => "compare it with the host's, or pass --key",
        Some(key) if key.eq_ignore_ascii_case(&report.host_key) => "as given",
        Some(_) => "NOT the one given",
    };
    writeln!(out, "host key: {} ({compare})", Line(&report.host_key))
}
