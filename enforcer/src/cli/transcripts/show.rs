//! `transcripts show`: a flow or an operation, for people.

use super::text::{self, Block, Line};
use super::{Out, json, sql, when};
use crate::operation::Protocol;
use crate::record::FlowId;
use crate::record::read::{Found, Transcripts};
use crate::record::view::{Assembler, BodyView, Exchange, fact_text};
use enforcer_proto::v1;
use std::fmt::Write as _;
use std::process::ExitCode;

/// How much of a body is shown without `--full`.
const BODY: usize = 4_096;
/// How many rows of a result are shown without `--full`.
const ROWS: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A flow, an operation or an approval (its id), or a digest (v1:...)
    #[arg(value_name = "FLOW|OPERATION")]
    id: String,
    /// Bodies as a whole
    #[arg(long)]
    full: bool,
    /// As JSON: an array of operations; of a flow without one, the flow
    #[arg(long)]
    json: bool,
}

pub(super) fn run(all: &Transcripts, args: &Args, out: Out<'_>) -> anyhow::Result<ExitCode> {
    let found = super::named(all, &args.id)?;
    let mut first = true;
    if args.json {
        write!(out, "[")?;
    }
    for one in found {
        let mut assembler = Assembler::default();
        let mut exchanges = Vec::new();
        all.events(one.flow, |event| {
            let wanted = one.wants(&event);
            exchanges.extend(wanted.then(|| assembler.add(event)).flatten());
            Ok(true)
        })?;
        exchanges.extend(assembler.rest());
        if !args.json {
            let rest = all.flow(one.flow)?;
            let open = rest.is_some_and(|flow| flow.record.seal.is_none());
            out.write_all(flow(one.flow, &assembler, open).as_bytes())?;
        }
        if args.json && exchanges.is_empty() {
            // A look-up's connection, or what the kernel refused: the flow is all there is.
            let comma = if first { "\n" } else { ",\n" };
            write!(out, "{comma}{}", text::json(&json::flow(one.flow, &assembler)))?;
            first = false;
        }
        for exchange in &exchanges {
            if args.json {
                let comma = if first { "\n" } else { ",\n" };
                let value = json::exchange(one.flow, exchange);
                write!(out, "{comma}{}", text::json(&value))?;
            } else {
                let limit = if args.full { usize::MAX } else { BODY };
                out.write_all(operation(exchange, limit).as_bytes())?;
            }
            first = false;
        }
    }
    if args.json {
        writeln!(out, "\n]")?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Found {
    /// The flow's own events, and those of the operation that was named.
    pub(super) fn wants(&self, event: &v1::Event) -> bool {
        let Some(operation) = self.operation else {
            return true;
        };
        event.operation.is_empty() || event.operation == operation.as_bytes()
    }
}

/// A flow's own events as text.
pub fn flow(id: FlowId, seen: &Assembler, open: bool) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_flow(&mut out, id, seen, open);
    out
}

fn write_flow(out: &mut String, id: FlowId, seen: &Assembler, open: bool) -> std::fmt::Result {
    writeln!(out, "flow       {id}")?;
    if let Some((at, start)) = &seen.start {
        writeln!(out, "started    {}", when::show(*at))?;
        if let Some(p) = &start.principal {
            writeln!(out, "host       {}", Line(&p.host))?;
            let task = if p.task.is_empty() { "" } else { ", task " };
            let (agent, name) = (Line(&p.agent), Line(&p.task));
            writeln!(out, "agent      {agent}{task}{name}, cgroup {}", Line(&p.cgroup))?;
            let exe = if p.exe.is_empty() { &p.comm } else { &p.exe };
            write!(out, "process    {} {}", p.pid, Line(exe))?;
            writeln!(out, ", uid {}, gid {}", p.uid, p.gid)?;
            if !p.exe_inside.is_empty() {
                let inside = Line(&p.exe_inside);
                writeln!(out, "           {inside} as it sees it, not the host's file")?;
            }
            if !p.exe_sha256.is_empty() {
                writeln!(out, "           sha256 {}", Line(&p.exe_sha256))?;
            }
            if !p.argv.is_empty() {
                let argv = p.argv.join(" ");
                writeln!(out, "           {}", Line(text::head(&argv, 400)))?;
            }
        }
        let (transport, addr) = (Line(&start.transport), Line(&start.orig_addr));
        write!(out, "asked for  {transport} {addr} port {}", start.orig_port)?;
        if !start.name.is_empty() {
            write!(out, ", which stood for {}", Line(&start.name))?;
        }
        writeln!(out)?;
        let (version, policy) = (Line(&start.version), Line(&start.policy));
        let layers = start.layers.join(", ");
        writeln!(out, "under      {version}, policy {policy}, layers {}", Line(&layers))?;
        if let Some(refusal) = &start.refusal {
            let (hook, reason) = (Line(&refusal.hook), Line(&refusal.reason));
            let at = match refusal.hook.as_str() {
                crate::record::ACCEPT => "when it was accepted".to_owned(),
                _ => format!("in the kernel by {hook}"),
            };
            write!(out, "refused    {at}: {reason} ({} times", refusal.count)?;
            if refusal.first_unix_ns > 0 {
                let (first, last) = (refusal.first_unix_ns, refusal.last_unix_ns);
                write!(out, ", from {} to {}", when::show(first), when::show(last))?;
            }
            writeln!(out, ")")?;
            for destination in &refusal.destinations {
                writeln!(out, "           {}", Line(destination))?;
            }
        }
    }
    match &seen.end {
        Some((at, end)) => {
            write!(out, "ended      {} {}", when::show(*at), Line(&end.outcome))?;
            if !end.error.is_empty() {
                write!(out, ": {}", Line(&end.error))?;
            }
            writeln!(out)
        }
        None if open => writeln!(out, "ended      not yet"),
        None => Ok(()),
    }
}

/// An operation as text; `limit` bytes of each body are shown.
pub fn operation(exchange: &Exchange, limit: usize) -> String {
    let mut out = String::new();
    let _ = write_operation(&mut out, exchange, limit);
    out
}

fn write_operation(out: &mut String, e: &Exchange, limit: usize) -> std::fmt::Result {
    let id = e.id_text();
    writeln!(out, "\noperation  {}", if id.is_empty() { "(none)" } else { &id })?;
    writeln!(out, "  at       {}", when::show(e.first_ns))?;
    if let Some(asked) = &e.asked {
        let (action, resource) = (Line(&asked.action), Line(&asked.resource));
        writeln!(out, "  asked    {action} {resource}")?;
        let target = if asked.target.is_empty() { "(none)" } else { &asked.target };
        let (target, name) = (Line(target), Line(&asked.name));
        writeln!(out, "  target   {target} ({name} port {})", asked.port)?;
        writeln!(out, "  digest   {}", Line(&asked.digest))?;
        for (facts, mark) in [(&asked.facts, ' '), (&asked.notes, '~')] {
            for fact in facts {
                writeln!(out, "    {mark} {}: {}", Line(&fact.name), Line(&fact_text(fact)))?;
            }
        }
        if !asked.notes.is_empty() {
            writeln!(out, "    (~ recorded, not part of the digest)")?;
        }
    }
    write_body(out, "request", &e.request, limit)?;
    for (_, d) in &e.decisions {
        write_decision(out, d)?;
    }
    if let Some((_, f)) = &e.forwarded {
        write!(out, "  sent to  {}", Line(&f.upstream))?;
        if !f.tls_version.is_empty() {
            write!(out, ", {}, certificate {}", Line(&f.tls_version), Line(&f.certificate_sha256))?;
        }
        let uninspected = if f.uninspected { ", uninspected" } else { "" };
        writeln!(out, "{uninspected}")?;
    }
    if let Some((_, head)) = &e.head {
        let by = if head.synthetic { " (by enforcer)" } else { "" };
        writeln!(out, "  answer   {} {}{by}", Line(&head.version), head.status)?;
        for header in &head.headers {
            writeln!(out, "      {}: {}", Line(&header.name), Line(&header.value))?;
        }
    }
    match e.asked.as_ref().is_some_and(|asked| asked.protocol == Protocol::Postgres.as_str()) {
        true => write_rows(out, &e.response, limit)?,
        false => write_body(out, "response", &e.response, limit)?,
    }
    if let Some((_, end)) = &e.end {
        write!(out, "  ended    {}", Line(&end.outcome))?;
        if !end.error.is_empty() {
            write!(out, ": {}", Line(&end.error))?;
        }
        writeln!(out, ", {} bytes out, {} bytes in", end.request_bytes, end.response_bytes)?;
        for trailer in &end.trailers {
            writeln!(out, "      {}: {}", Line(&trailer.name), Line(&trailer.value))?;
        }
        for masked in &end.masked {
            writeln!(out, "  masked   {} x {}", masked.count, Line(&masked.rule))?;
        }
    } else {
        writeln!(out, "  ended    no end was recorded")?;
    }
    Ok(())
}

fn write_decision(out: &mut String, d: &v1::Decision) -> std::fmt::Result {
    write!(out, "  decided  {} ({})", json::verdict(d), Line(&d.reason))?;
    if !d.rules.is_empty() {
        write!(out, ", rules {}", Line(&d.rules.join(", ")))?;
    }
    if !d.decided_by.is_empty() {
        write!(out, ", by {}", Line(&d.decided_by.join(", ")))?;
    }
    if d.held_ms > 0 {
        write!(out, ", held {} ms", d.held_ms)?;
    }
    writeln!(out)?;
    if !d.approval.is_empty() {
        write!(out, "    approval {}, scope {}", Line(&d.approval), Line(&d.scope))?;
        if !d.claim.is_empty() {
            write!(out, ", claim {}", Line(&d.claim))?;
        }
        writeln!(out)?;
    }
    for vote in &d.votes {
        write_vote(out, vote)?;
    }
    for line in &d.trace {
        writeln!(out, "    {}", Line(line))?;
    }
    Ok(())
}

fn write_vote(out: &mut String, vote: &v1::Vote) -> std::fmt::Result {
    let word = match (vote.approve, vote.break_glass) {
        (true, true) => "yes, GLASS BROKEN,",
        (true, false) => "yes",
        (false, _) => "no",
    };
    let at = when::show(vote.unix_ms.saturating_mul(1_000_000));
    write!(out, "    vote {word} by {} for {} at {at}", Line(&vote.person), Line(&vote.scope))?;
    match vote.reason.as_str() {
        "" => writeln!(out),
        reason => writeln!(out, ": {}", Line(reason)),
    }
}

/// A database's answer, as psql prints it.
fn write_rows(out: &mut String, body: &BodyView, limit: usize) -> std::fmt::Result {
    if body.data.is_empty() {
        return Ok(());
    }
    let most = if limit == usize::MAX { usize::MAX } else { ROWS };
    writeln!(out, "  answer, {} bytes", body.length())?;
    for line in sql::answer(&body.data, most).lines() {
        writeln!(out, "    | {line}")?;
    }
    if body.truncated {
        writeln!(out, "    ({} bytes of it are recorded)", body.data.len())?;
    }
    Ok(())
}

fn write_body(out: &mut String, side: &str, body: &BodyView, limit: usize) -> std::fmt::Result {
    if body.whole.is_none() && body.data.is_empty() {
        return Ok(());
    }
    write!(out, "  {side} body, {} bytes", body.length())?;
    if body.truncated {
        write!(out, ", of which {} are recorded", body.data.len())?;
    } else if body.whole.is_none() {
        write!(out, " and no end")?;
    }
    if let Some((_, hash)) = &body.whole {
        write!(out, ", sha256 {}", hex::encode(hash))?;
    }
    writeln!(out)?;
    let shown = &body.data[..body.data.len().min(limit)];
    let shown_text = match std::str::from_utf8(shown) {
        Ok(text) => Some(text),
        // The cut may have gone through a character.
        Err(error) if shown.len() < body.data.len() && error.error_len().is_none() => {
            std::str::from_utf8(&shown[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    match shown_text {
        Some(text) => {
            for line in Block(text).to_string().lines() {
                writeln!(out, "    | {line}")?;
            }
        }
        None => {
            let bytes = &shown[..shown.len().min(256)];
            for line in bytes.chunks(16) {
                writeln!(out, "    | {}", hex::encode(line))?;
            }
        }
    }
    if shown.len() < body.data.len() {
        writeln!(out, "    (--full shows all)")?;
    }
    Ok(())
}
