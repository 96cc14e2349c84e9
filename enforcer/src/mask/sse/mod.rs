//! Masks server-sent events (WHATWG HTML section 9.2), one event at a time.
//!
//! An event is let go the moment its blank line is read, and nothing of the next
//! one is waited for. The `data` lines of an event are masked as one text (JSON
//! if it is JSON), every other line as text of its own; an event in which
//! nothing is found keeps its bytes. A secret that is spread over several events
//! is not seen.

use super::escape::Escaping;
use super::json::{JsonMasker, JsonRules};
use super::text::{TextMasker, TextRules};
use super::{Report, Unmaskable};
use std::ops::Range;
use std::sync::Arc;

/// Longest event that is held.
const MAX_EVENT: usize = 4 << 20;

/// Masks one stream of events.
pub(super) struct SseMasker {
    json: Option<Arc<JsonRules>>,
    text: Option<TextMasker>,
    /// The event so far, raw.
    event: Vec<u8>,
    /// Where in `event` the line that is being read begins.
    line: usize,
    /// The last byte was a CR, so an LF belongs to it.
    after_cr: bool,
}

impl SseMasker {
    pub(super) fn new(json: Option<Arc<JsonRules>>, text: Option<Arc<TextRules>>) -> Self {
        Self {
            json,
            text: text.map(|rules| TextMasker::new(rules, Escaping::None)),
            event: Vec::new(),
            line: 0,
            after_cr: false,
        }
    }

    /// Masks the next bytes; complete events come out.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        let mut rest = input;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest[0] == b'\n' {
                rest = &rest[1..];
                if self.event.is_empty() {
                    out.push(b'\n');
                } else {
                    self.event.push(b'\n');
                    self.line = self.event.len();
                }
                continue;
            }
            let Some(end) = memchr::memchr2(b'\r', b'\n', rest) else {
                self.event.extend_from_slice(rest);
                break;
            };
            let blank = self.event.len() == self.line && end == 0;
            self.event.extend_from_slice(&rest[..=end]);
            self.line = self.event.len();
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if blank {
                self.let_go(out, report)?;
            }
        }
        if self.event.len() > MAX_EVENT {
            return Err(Unmaskable::TooLong { what: "a server-sent event", limit: MAX_EVENT });
        }
        Ok(())
    }

    /// The stream ends here. A client drops an unfinished event, but whoever reads
    /// the bytes sees it, so it is masked like any other.
    pub(super) fn finish(
        &mut self,
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        self.let_go(out, report)
    }

    fn let_go(&mut self, out: &mut Vec<u8>, report: &mut Report) -> Result<(), Unmaskable> {
        let event = std::mem::take(&mut self.event);
        self.line = 0;
        let lines = lines(&event);
        let data: Vec<_> =
            lines.iter().filter_map(|line| line.data.clone()).map(|data| &event[data]).collect();
        let masked =
            if data.is_empty() { Vec::new() } else { self.mask_data(&data.join(&b'\n'), report)? };
        let mut masked = masked.split(|b| *b == b'\n');
        for line in &lines {
            let Some(data) = &line.data else {
                self.mask_line(&event[line.content.clone()], out, report)?;
                out.extend_from_slice(&event[line.content.end..line.end]);
                continue;
            };
            // A block that spanned lines leaves fewer of them; the rest go.
            if let Some(text) = masked.next() {
                out.extend_from_slice(&event[line.content.start..data.start]);
                out.extend_from_slice(text);
                out.extend_from_slice(&event[data.end..line.end]);
            }
        }
        self.event = event;
        self.event.clear();
        Ok(())
    }

    fn mask_line(
        &mut self,
        line: &[u8],
        out: &mut Vec<u8>,
        report: &mut Report,
    ) -> Result<(), Unmaskable> {
        match &mut self.text {
            Some(text) if !line.is_empty() => {
                text.restart(Escaping::None);
                text.push(line, out, report)?;
                text.finish(out, report)
            }
            _ => {
                out.extend_from_slice(line);
                Ok(())
            }
        }
    }

    /// Masks the data of one event: as JSON when it is JSON, else as text.
    fn mask_data(&mut self, data: &[u8], report: &mut Report) -> Result<Vec<u8>, Unmaskable> {
        let first = data.iter().find(|b| !b.is_ascii_whitespace());
        let looks = matches!(first, Some(b'{' | b'[' | b'"'));
        let mut fields = Vec::new();
        let mut is_json = false;
        if let Some(rules) = self.json.as_ref().filter(|_| looks) {
            let mut json = JsonMasker::new(Arc::clone(rules));
            let mut found = Report::default();
            let read = json
                .push(data, &mut fields, &mut found, &mut 0)
                .and_then(|()| json.finish(&mut fields, &mut found));
            match read {
                Ok(()) => {
                    is_json = true;
                    report.merge(&found);
                }
                Err(why) if json.has_committed() => return Err(why),
                // Not JSON (`[DONE]`): no path leads into it.
                Err(_) => {}
            }
        }
        let data = if is_json { &fields } else { data };
        let Some(text) = &mut self.text else {
            return Ok(data.to_vec());
        };
        text.restart(if is_json || looks { Escaping::Json } else { Escaping::None });
        let mut out = Vec::with_capacity(data.len());
        text.push(data, &mut out, report)?;
        text.finish(&mut out, report)?;
        Ok(out)
    }
}

struct Line {
    /// The line without its end.
    content: Range<usize>,
    /// The value, if the field is `data`.
    data: Option<Range<usize>>,
    /// Past the line's end.
    end: usize,
}

fn lines(event: &[u8]) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < event.len() {
        let length = memchr::memchr2(b'\r', b'\n', &event[start..]).unwrap_or(event.len() - start);
        let stop = start + length;
        let end = match &event[stop..] {
            [b'\r', b'\n', ..] => stop + 2,
            [] => stop,
            _ => stop + 1,
        };
        lines.push(Line { content: start..stop, data: data(&event[start..stop], start), end });
        start = end;
    }
    lines
}

/// Where the value of a `data` line lies.
fn data(line: &[u8], at: usize) -> Option<Range<usize>> {
    // The stream may begin with a byte order mark, which is not part of the name.
    let field = line.strip_prefix(super::content::BOM).unwrap_or(line);
    let value = field.strip_prefix(b"data:")?;
    let value = value.strip_prefix(b" ").unwrap_or(value);
    Some(at + line.len() - value.len()..at + line.len())
}

#[cfg(test)]
mod tests;
