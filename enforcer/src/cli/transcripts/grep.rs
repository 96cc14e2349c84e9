//! `transcripts grep`: a pattern in facts, headers and bodies.

use super::text::{self, Line};
use super::{FilterArgs, Out, when};
use crate::record::FlowId;
use crate::record::read::Transcripts;
use crate::record::view::{Assembler, Exchange, fact_text};
use anyhow::Context as _;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::json;
use std::io;
use std::process::ExitCode;

/// Bytes shown on each side of a match.
const AROUND: usize = 60;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A regular expression
    pattern: String,
    #[command(flatten)]
    filter: FilterArgs,
    /// Letters match in either case
    #[arg(short, long)]
    ignore_case: bool,
    /// One JSON object for each match, each on its line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(all: &Transcripts, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    let pattern = RegexBuilder::new(&args.pattern)
        .case_insensitive(args.ignore_case)
        .build()
        .context("the pattern is not a regular expression")?;
    let mut found = false;
    let mut failed: Option<io::Error> = None;
    all.flows(&args.filter.filter(), |flow| {
        let mut assembler = Assembler::default();
        let mut look = |exchange: &Exchange| {
            for hit in hits(&pattern, exchange) {
                found = true;
                if let Err(error) = print(out, args.json, flow.id, exchange, &hit) {
                    failed = Some(error);
                    return;
                }
            }
        };
        all.events(flow.id, |event| {
            if let Some(exchange) = assembler.add(event) {
                look(&exchange);
            }
            Ok(true)
        })?;
        assembler.rest().iter().for_each(look);
        Ok(failed.is_none())
    })?;
    match failed {
        Some(error) => Err(error.into()),
        // As grep does: nothing found is 1.
        None if found => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}

struct Hit {
    place: String,
    excerpt: String,
}

fn hits(pattern: &Regex, e: &Exchange) -> Vec<Hit> {
    let mut hits = Vec::new();
    let mut look = |place: &str, bytes: &[u8]| {
        if let Some(found) = pattern.find(bytes) {
            let from = found.start().saturating_sub(AROUND);
            let to = found.end().saturating_add(AROUND).min(bytes.len());
            // A match may be as long as the body.
            let to = to.min(from + 8 * AROUND);
            hits.push(Hit {
                place: place.to_owned(),
                excerpt: String::from_utf8_lossy(&bytes[from..to]).into_owned(),
            });
        }
    };
    if let Some(asked) = &e.asked {
        look("action", asked.action.as_bytes());
        look("resource", asked.resource.as_bytes());
        for fact in asked.facts.iter().chain(&asked.notes) {
            look(&fact.name, fact_text(fact).as_bytes());
        }
    }
    for (_, decision) in &e.decisions {
        look("decision", decision.reason.as_bytes());
        look("decided by", decision.decided_by.join(", ").as_bytes());
        for vote in &decision.votes {
            look("vote", format!("{}: {}", vote.person, vote.reason).as_bytes());
        }
    }
    look("request body", &e.request.data);
    if let Some((_, head)) = &e.head {
        for header in &head.headers {
            let line = format!("{}: {}", header.name, header.value);
            look("response header", line.as_bytes());
        }
    }
    look("response body", &e.response.data);
    if let Some((_, end)) = &e.end {
        look("error", end.error.as_bytes());
    }
    hits
}

fn print(out: Out<'_>, json: bool, flow: FlowId, e: &Exchange, hit: &Hit) -> io::Result<()> {
    if json {
        let value = json!({
            "flow": flow.to_string(),
            "operation": e.id_text(),
            "time": when::show(e.first_ns),
            "place": hit.place,
            "excerpt": hit.excerpt,
        });
        writeln!(out, "{}", text::json(&value))
    } else {
        let (place, excerpt) = (Line(&hit.place), Line(&hit.excerpt));
        writeln!(out, "{flow} {} {place}: {excerpt}", e.id_text())
    }
}
