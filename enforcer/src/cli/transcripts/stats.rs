//! `transcripts stats`.

use super::text::{self, Line};
use super::{Out, when};
use crate::record::read::{Filter, Transcripts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Default, Serialize)]
struct Totals {
    store: String,
    disk_bytes: u64,
    flows: u64,
    events: u64,
    operations: u64,
    allowed: u64,
    denied: u64,
    kernel_refused: u64,
    request_bytes: u64,
    response_bytes: u64,
    oldest: Option<String>,
    newest: Option<String>,
    outcomes: BTreeMap<String, u64>,
    agents: BTreeMap<String, u64>,
    targets: BTreeMap<String, u64>,
}

pub(super) fn run(all: &Transcripts, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    let path = all.store().path();
    let mut totals = Totals { store: path.display().to_string(), ..Totals::default() };
    for entry in std::fs::read_dir(path)? {
        // A file that the daemon removes meanwhile counts as nothing.
        totals.disk_bytes += entry?.metadata().map_or(0, |found| found.len());
    }
    all.flows(&Filter::default(), |flow| {
        let counts = &flow.counts;
        let started = Some(when::show(flow.record.started_unix_ns));
        totals.flows += 1;
        totals.events += counts.events;
        totals.operations += counts.operations;
        totals.allowed += counts.allowed;
        totals.denied += counts.denied;
        totals.kernel_refused = totals.kernel_refused.saturating_add(counts.refused);
        totals.request_bytes = totals.request_bytes.saturating_add(counts.request_bytes);
        totals.response_bytes = totals.response_bytes.saturating_add(counts.response_bytes);
        if totals.newest.is_none() {
            totals.newest.clone_from(&started);
        }
        totals.oldest = started;
        *totals.outcomes.entry(flow.outcome().to_owned()).or_default() += 1;
        *totals.agents.entry(flow.record.agent.clone()).or_default() += 1;
        for target in &counts.targets {
            *totals.targets.entry(target.clone()).or_default() += 1;
        }
        Ok(true)
    })?;
    if args.json {
        writeln!(out, "{}", text::json(&serde_json::to_value(&totals)?))?;
        return Ok(ExitCode::SUCCESS);
    }
    writeln!(out, "store      {}, {} bytes", totals.store, totals.disk_bytes)?;
    writeln!(out, "flows      {}, {} events", totals.flows, totals.events)?;
    let (allowed, denied) = (totals.allowed, totals.denied);
    writeln!(out, "operations {}, {allowed} allowed, {denied} denied", totals.operations)?;
    writeln!(out, "kernel     {} refused", totals.kernel_refused)?;
    let (sent, received) = (totals.request_bytes, totals.response_bytes);
    writeln!(out, "bytes      {sent} out, {received} in")?;
    if let (Some(oldest), Some(newest)) = (&totals.oldest, &totals.newest) {
        writeln!(out, "from       {oldest} to {newest}")?;
    }
    let lists =
        [("outcome", &totals.outcomes), ("agent", &totals.agents), ("target", &totals.targets)];
    for (what, counts) in lists {
        for (name, count) in counts {
            let name = if name.is_empty() { "(none)" } else { name };
            writeln!(out, "{what:<10} {}: {count} flows", Line(name))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
