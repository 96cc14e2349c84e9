//! `transcripts list`.

use super::text::{self, Line};
use super::{FilterArgs, Out, when};
use crate::record::read::{Flow, Transcripts};
use serde_json::{Value, json};
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    filter: FilterArgs,
    /// How many flows at most; 0 for all
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(all: &Transcripts, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    // Written as it is read: a store can hold more flows than memory.
    let mut count = 0;
    let mut failed = None;
    if args.json {
        write!(out, "[")?;
    } else {
        writeln!(
            out,
            "{:<24}  {:<36}  {:<16}  {:<8}  {:<16}  {:<28}  {:>5}  {:>6}  OUTCOME",
            "STARTED", "FLOW", "AGENT", "PROTOCOL", "TARGET", "NAME", "OPS", "DENIED"
        )?;
    }
    all.flows(&args.filter.filter(), |flow| {
        let line = if args.json {
            let comma = if count == 0 { "\n" } else { ",\n" };
            format!("{comma}{}", text::json(&row(&flow)))
        } else {
            table(&flow)
        };
        count += 1;
        if let Err(error) = out.write_all(line.as_bytes()) {
            failed = Some(error);
        }
        Ok(failed.is_none() && count != args.limit)
    })?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    if args.json {
        writeln!(out, "\n]")?;
    } else if count == args.limit {
        writeln!(out, "(the newest {count}; --limit 0 shows all)")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(flow: &Flow) -> String {
    let record = &flow.record;
    format!(
        "{:<24}  {:<36}  {:<16}  {:<8}  {:<16}  {:<28}  {:>5}  {:>6}  {}\n",
        when::show(record.started_unix_ns),
        flow.id,
        cell(&record.agent, 16),
        cell(&protocol(flow), 8),
        cell(&targets(flow), 16),
        cell(&name(flow), 28),
        flow.counts.operations,
        flow.counts.denied.saturating_add(flow.counts.refused),
        Line(flow.outcome()),
    )
}

fn cell(text: &str, width: usize) -> String {
    let clean = Line(text).to_string();
    text::head(&clean, width).to_owned()
}

/// What was spoken, or how it came when nothing was said.
fn protocol(flow: &Flow) -> String {
    match flow.counts.protocols.as_slice() {
        [] if flow.record.transport.is_empty() => "-".to_owned(),
        [] => flow.record.transport.clone(),
        protocols => protocols.join(","),
    }
}

/// The targets that policy knew.
fn targets(flow: &Flow) -> String {
    match flow.counts.targets.as_slice() {
        [] => "-".to_owned(),
        targets => targets.join(","),
    }
}

/// Where the program wanted to go: behind a stand-in the name that it stood for.
fn name(flow: &Flow) -> String {
    let record = &flow.record;
    match (record.name.is_empty(), record.orig_addr.parse()) {
        (false, _) => format!("{}:{}", record.name, record.orig_port),
        (true, Ok(ip)) => std::net::SocketAddr::new(ip, port(record.orig_port)).to_string(),
        (true, Err(_)) if record.orig_addr.is_empty() => "-".to_owned(),
        (true, Err(_)) => format!("{}:{}", record.orig_addr, record.orig_port),
    }
}

/// A port above the largest is shown as 0: no flow has one.
fn port(port: u32) -> u16 {
    u16::try_from(port).unwrap_or(0)
}

fn row(flow: &Flow) -> Value {
    let (record, counts) = (&flow.record, &flow.counts);
    let sealed = record.seal.is_some();
    json!({
        "flow": flow.id.to_string(),
        "started": when::show(record.started_unix_ns),
        "started_unix_ns": record.started_unix_ns,
        "ended": sealed.then(|| when::show(counts.ended_unix_ns)),
        "agent": record.agent,
        "task": record.task,
        "name": record.name,
        "orig_addr": record.orig_addr,
        "orig_port": record.orig_port,
        "transport": record.transport,
        "targets": counts.targets,
        "protocols": counts.protocols,
        "events": counts.events,
        "operations": counts.operations,
        "allowed": counts.allowed,
        "denied": counts.denied,
        "kernel_refused": counts.refused,
        "request_bytes": counts.request_bytes,
        "response_bytes": counts.response_bytes,
        "outcome": flow.outcome(),
    })
}
