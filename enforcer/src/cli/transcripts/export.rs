//! `transcripts export`: for other tools.

use super::{FilterArgs, Out, har, json, ocsf, text};
use crate::record::FlowId;
use crate::record::read::Transcripts;
use crate::record::view::{Assembler, Exchange};
use anyhow::{Context as _, bail};
use enforcer_proto::v1;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// jsonl: every event, one on each line; har: HTTP operations, for a browser's network panel;
    /// ocsf: operations and refusals as events of the Open Cybersecurity Schema Framework, 1.4
    #[arg(long, value_enum)]
    format: Format,
    /// A file instead of standard output; made with mode 0600
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only this flow
    #[arg(long)]
    flow: Option<FlowId>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    Jsonl,
    Har,
    Ocsf,
}

pub(super) fn run(all: &Transcripts, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    let mut flows = Vec::new();
    match args.flow {
        Some(flow) if all.flow(flow)?.is_some() => flows.push(flow),
        Some(flow) => bail!("no flow {flow} is in {}", all.store().path().display()),
        None => all.flows(&args.filter.filter(), |flow| {
            flows.push(flow.id);
            Ok(true)
        })?,
    }
    // Oldest first: what reads an export reads time.
    flows.reverse();
    let Some(path) = &args.output else {
        write(all, args.format, &flows, out)?;
        return Ok(ExitCode::SUCCESS);
    };
    let file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.with_context(|| path.display().to_string())?;
    let mut out = BufWriter::new(file);
    write(all, args.format, &flows, &mut out)?;
    out.flush().with_context(|| path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn write(all: &Transcripts, format: Format, flows: &[FlowId], out: Out<'_>) -> anyhow::Result<()> {
    match format {
        Format::Jsonl => jsonl(all, flows, out),
        Format::Har => write_har(all, flows, out),
        Format::Ocsf => write_ocsf(all, flows, out),
    }
}

fn jsonl(all: &Transcripts, flows: &[FlowId], out: Out<'_>) -> anyhow::Result<()> {
    let mut failed: Option<io::Error> = None;
    for flow in flows {
        all.events(*flow, |event| {
            let line = text::json(&json::event(*flow, &event));
            failed = writeln!(out, "{line}").err();
            Ok(failed.is_none())
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    Ok(())
}

/// Every operation of a flow, with the flow's start when it was recorded.
fn exchanges(
    all: &Transcripts,
    flow: FlowId,
    mut put: impl FnMut(Option<&v1::FlowStart>, &Exchange) -> io::Result<()>,
) -> anyhow::Result<Assembler> {
    let mut seen = Assembler::default();
    let mut done = Ok(());
    all.events(flow, |event| {
        if let Some(exchange) = seen.add(event) {
            done = put(seen.start.as_ref().map(|(_, start)| start), &exchange);
        }
        Ok(done.is_ok())
    })?;
    done?;
    for exchange in seen.rest() {
        put(seen.start.as_ref().map(|(_, start)| start), &exchange)?;
    }
    Ok(seen)
}

fn write_har(all: &Transcripts, flows: &[FlowId], out: Out<'_>) -> anyhow::Result<()> {
    out.write_all(har::begin().as_bytes())?;
    let mut first = true;
    let mut other = 0_u64;
    for flow in flows {
        exchanges(all, *flow, |start, exchange| match har::entry(*flow, start, exchange) {
            Some(entry) => {
                let comma = if first { "" } else { ",\n" };
                first = false;
                write!(out, "{comma}{}", text::json(&entry))
            }
            None => {
                other += 1;
                Ok(())
            }
        })?;
    }
    out.write_all(har::END.as_bytes())?;
    if other > 0 {
        eprintln!("{other} operations are not HTTP and have no place in a HAR; jsonl has them");
    }
    Ok(())
}

fn write_ocsf(all: &Transcripts, flows: &[FlowId], out: Out<'_>) -> anyhow::Result<()> {
    for flow in flows {
        let seen = exchanges(all, *flow, |start, exchange| {
            writeln!(out, "{}", text::json(&ocsf::operation(*flow, start, exchange)))
        })?;
        let start = seen.start.as_ref();
        if let Some(event) = start.and_then(|(at, start)| ocsf::refusal(*flow, *at, start)) {
            writeln!(out, "{}", text::json(&event))?;
        }
    }
    Ok(())
}
