//! What each event looks like on the screen: statements and rows as psql has them, everything else
//! as curl -v does, each operation under its number since several can run at once.

use crate::cli::transcripts::text::{Block, Line};
use crate::cli::transcripts::{json, sql, when};
use crate::operation::Protocol;
use crate::policy::sql as facts;
use crate::record::view::fact_text;
use enforcer_proto::v1::{self, event::Kind};
use std::fmt::{self, Write as _};

/// How much of a body is shown without `--full`.
const BODY: usize = 4_096;
/// How many rows of a result are shown without `--full`.
const ROWS: usize = 20;
/// What a header's fact begins with.
const HEADER: &str = "http.header.";

/// A flow as it is played.
pub(in crate::cli::transcripts) struct Scene {
    body: usize,
    rows: usize,
    count: usize,
    live: Vec<Live>,
}

/// An operation that has not ended.
struct Live {
    id: Vec<u8>,
    number: usize,
    /// A database's answer; `None` for what is no statement.
    screen: Option<sql::Screen>,
    sent: Stream,
    came: Stream,
}

impl Scene {
    pub(in crate::cli::transcripts) fn new(full: bool) -> Self {
        let (body, rows) = if full { (usize::MAX, usize::MAX) } else { (BODY, ROWS) };
        Self { body, rows, count: 0, live: Vec::new() }
    }

    /// What an event puts on the screen.
    pub(in crate::cli::transcripts) fn event(&mut self, event: v1::Event) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.write(&mut out, event);
        out
    }

    /// What is left of operations whose end was not recorded.
    pub(in crate::cli::transcripts) fn rest(&mut self) -> String {
        let mut out = String::new();
        for mut live in std::mem::take(&mut self.live) {
            out.push_str(&live.screen.as_mut().map(sql::Screen::finish).unwrap_or_default());
            let _ = writeln!(out, "[{}] - no end was recorded", live.number);
        }
        out
    }

    fn write(&mut self, out: &mut String, event: v1::Event) -> fmt::Result {
        let v1::Event { operation: id, unix_ns, kind, .. } = event;
        match kind {
            Some(Kind::FlowStart(start)) => return flow_start(out, unix_ns, &start),
            Some(Kind::FlowEnd(end)) => {
                write!(out, "# {} ended: {}", when::show(unix_ns), Line(&end.outcome))?;
                if !end.error.is_empty() {
                    write!(out, ": {}", Line(&end.error))?;
                }
                return writeln!(out);
            }
            None => return Ok(()),
            _ => {}
        }
        let at = self.live.iter().position(|live| live.id == id).unwrap_or_else(|| {
            self.count += 1;
            let number = self.count;
            let (sent, came) = (Stream::new(self.body), Stream::new(self.body));
            self.live.push(Live { id, number, screen: None, sent, came });
            self.live.len() - 1
        });
        let live = &mut self.live[at];
        match kind {
            Some(Kind::OperationAsked(asked)) => {
                if asked.protocol == Protocol::Postgres.as_str() {
                    live.screen = Some(sql::Screen::new(self.rows));
                }
                live.asked(out, &asked)
            }
            Some(Kind::RequestBody(body)) => live.sent(out, &body),
            Some(Kind::Decision(decision)) => live.decision(out, &decision),
            Some(Kind::Forwarded(to)) => live.forwarded(out, &to),
            Some(Kind::ResponseHead(head)) => live.head(out, &head),
            Some(Kind::ResponseBody(body)) => live.came(out, &body),
            Some(Kind::OperationEnd(end)) => {
                let mut live = self.live.remove(at);
                live.end(out, &end)
            }
            Some(Kind::FlowStart(_) | Kind::FlowEnd(_)) | None => Ok(()),
        }
    }
}

fn flow_start(out: &mut String, at: i64, start: &v1::FlowStart) -> fmt::Result {
    let principal = start.principal.clone().unwrap_or_default();
    let exe = if principal.exe.is_empty() { &principal.comm } else { &principal.exe };
    let name = if start.name.is_empty() { &start.orig_addr } else { &start.name };
    let (at, agent, exe, name) = (when::show(at), Line(&principal.agent), Line(exe), Line(name));
    writeln!(out, "# {at} {agent}: {exe} to {name} port {}", start.orig_port)?;
    match &start.refusal {
        None => Ok(()),
        Some(refusal) => {
            let (hook, reason) = (Line(&refusal.hook), Line(&refusal.reason));
            writeln!(out, "# refused by {hook}: {reason} ({} times)", refusal.count)
        }
    }
}

impl Live {
    /// What a line of this operation begins with.
    fn mark(&self, sign: char) -> String {
        match self.screen {
            Some(_) => "-- ".to_owned(),
            None => format!("[{}] {sign} ", self.number),
        }
    }

    fn asked(&self, out: &mut String, asked: &v1::OperationAsked) -> fmt::Result {
        if self.screen.is_some() {
            return statement(out, asked);
        }
        let (action, resource) = (Line(&asked.action), Line(&asked.resource));
        let mark = self.mark('>');
        writeln!(out, "{mark}{action} {resource}")?;
        for fact in &asked.facts {
            if let Some(name) = fact.name.strip_prefix(HEADER) {
                writeln!(out, "{mark}{}: {}", Line(name), Line(&fact_text(fact)))?;
            }
        }
        Ok(())
    }

    fn sent(&mut self, out: &mut String, body: &v1::Body) -> fmt::Result {
        let mark = self.mark('>');
        self.sent.write(out, &mark, body)
    }

    fn decision(&self, out: &mut String, decision: &v1::Decision) -> fmt::Result {
        let plain = decision.verdict() == v1::Verdict::Allow && decision.approval.is_empty();
        if plain && self.screen.is_some() {
            return Ok(());
        }
        let (mark, verdict) = (self.mark('-'), json::verdict(decision));
        write!(out, "{mark}{verdict} ({})", Line(&decision.reason))?;
        if !decision.rules.is_empty() {
            write!(out, ", rules {}", Line(&decision.rules.join(", ")))?;
        }
        if !decision.decided_by.is_empty() {
            write!(out, ", by {}", Line(&decision.decided_by.join(", ")))?;
        }
        if decision.held_ms > 0 {
            write!(out, ", held {} ms", decision.held_ms)?;
        }
        writeln!(out)
    }

    fn forwarded(&self, out: &mut String, to: &v1::Forwarded) -> fmt::Result {
        if self.screen.is_some() {
            return Ok(());
        }
        let uninspected = if to.uninspected { ", uninspected" } else { "" };
        writeln!(out, "{}sent to {}{uninspected}", self.mark('-'), Line(&to.upstream))
    }

    fn head(&self, out: &mut String, head: &v1::ResponseHead) -> fmt::Result {
        let mark = self.mark('<');
        let by = if head.synthetic { " (by enforcer)" } else { "" };
        writeln!(out, "{mark}{} {}{by}", Line(&head.version), head.status)?;
        for header in &head.headers {
            writeln!(out, "{mark}{}: {}", Line(&header.name), Line(&header.value))?;
        }
        Ok(())
    }

    fn came(&mut self, out: &mut String, body: &v1::Body) -> fmt::Result {
        let mark = self.mark('<');
        match &mut self.screen {
            Some(screen) => out.write_str(&screen.push(&body.data)),
            None => self.came.write(out, &mark, body),
        }
    }

    fn end(&mut self, out: &mut String, end: &v1::OperationEnd) -> fmt::Result {
        let mark = self.mark('-');
        if let Some(screen) = &mut self.screen {
            out.push_str(&screen.finish());
        }
        // The error itself stands above, as the agent saw it.
        let told = self.screen.is_some() && ["complete", "refused"].contains(&&*end.outcome);
        if !told {
            write!(out, "{mark}{}", Line(&end.outcome))?;
            if !end.error.is_empty() {
                write!(out, ": {}", Line(&end.error))?;
            }
            writeln!(out, ", {} bytes out, {} bytes in", end.request_bytes, end.response_bytes)?;
        }
        for masked in &end.masked {
            writeln!(out, "{mark}masked {} x {}", masked.count, Line(&masked.rule))?;
        }
        Ok(())
    }
}

/// A statement behind psql's prompt, with what was bound to it.
fn statement(out: &mut String, asked: &v1::OperationAsked) -> fmt::Result {
    let fact = |name: &str| {
        let fact = asked.facts.iter().find(|fact| fact.name == name);
        fact.map(fact_text).unwrap_or_default()
    };
    let database = fact(facts::DATABASE);
    let database = Line(&database);
    let text = fact(facts::STATEMENT);
    if text.is_empty() {
        let user = fact(facts::USER);
        return writeln!(out, "-- {} to {database} as {}", Line(&asked.action), Line(&user));
    }
    let open = if fact(facts::IN_TRANSACTION) == "true" { "*" } else { "" };
    let block = Block(&text).to_string();
    for (at, line) in block.lines().enumerate() {
        let mark = if at == 0 { '=' } else { '-' };
        writeln!(out, "{database}{mark}{open}> {line}")?;
    }
    for fact in &asked.facts {
        if let Some(number) = fact.name.strip_prefix(facts::PARAMETER) {
            writeln!(out, "-- ${} = {}", Line(number), Line(&fact_text(fact)))?;
        }
    }
    Ok(())
}

/// A body that comes in pieces, of which a character may be cut in two.
struct Stream {
    left: usize,
    /// The beginning of a character.
    held: Vec<u8>,
    cut: bool,
}

impl Stream {
    fn new(most: usize) -> Self {
        Self { left: most, held: Vec::new(), cut: false }
    }

    fn write(&mut self, out: &mut String, mark: &str, body: &v1::Body) -> fmt::Result {
        let mut data = std::mem::take(&mut self.held);
        let shown = body.data.len().min(self.left);
        data.extend_from_slice(&body.data[..shown]);
        self.left -= shown;
        let known = match std::str::from_utf8(&data) {
            Ok(text) => Some(text),
            Err(error) if error.error_len().is_none() => {
                let (text, rest) = data.split_at(error.valid_up_to());
                // What is cut here comes to no end.
                if shown == body.data.len() && !body.last {
                    self.held = rest.to_vec();
                }
                std::str::from_utf8(text).ok()
            }
            Err(_) => None,
        };
        match known {
            Some(text) => {
                for line in Block(text).to_string().lines() {
                    writeln!(out, "{mark}| {line}")?;
                }
            }
            None => writeln!(out, "{mark}| ({} bytes that are no text)", data.len())?,
        }
        if shown < body.data.len() && !std::mem::replace(&mut self.cut, true) {
            writeln!(out, "{mark}(--full shows all)")?;
        }
        if body.truncated {
            writeln!(out, "{mark}(the rest of {} bytes was not recorded)", body.length)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::transcripts::text;
    use bytes::Bytes;

    #[test]
    fn a_character_in_two_pieces_is_shown_once_whole() {
        let mut stream = Stream::new(100);
        let mut out = String::new();
        let piece = |data: &'static [u8], last| v1::Body {
            data: Bytes::from_static(data),
            last,
            ..v1::Body::default()
        };
        stream.write(&mut out, "> ", &piece(b"a\xc3", false)).unwrap();
        stream.write(&mut out, "> ", &piece(b"\xa9\x1b[2J\nb", true)).unwrap();
        assert_eq!(out, "> | a\n> | é\\u{1b}[2J\n> | b\n");
        out.clear();
        stream.write(&mut out, "< ", &piece(b"\xff\x00", true)).unwrap();
        assert_eq!(out, "< | (2 bytes that are no text)\n");
        let mut short = Stream::new(2);
        out.clear();
        short.write(&mut out, "", &piece("aé\u{9b}".as_bytes(), false)).unwrap();
        short.write(&mut out, "", &piece(b"more", true)).unwrap();
        assert_eq!(out, "| a\n(--full shows all)\n");
        assert!(!out.chars().any(|c| text::hostile(c) && c != '\n'));
    }
}
