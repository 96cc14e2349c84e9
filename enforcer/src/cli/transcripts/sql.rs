//! A database's answer as psql prints it.
//!
//! What is recorded is the very messages that the agent got, masked as they were.

use super::text::{Block, Line};
use crate::mask::column::printed;
use crate::protocol::postgres::codec::error_response::{self, Report};
use crate::protocol::postgres::codec::row_description::{self, Field};
use crate::protocol::postgres::codec::{self, MAX_MESSAGE, Message, backend, copy, data_row};
use bytes::{Bytes, BytesMut};
use std::fmt::Write as _;
use unicode_width::UnicodeWidthStr as _;

/// Widest that a column is shown, in cells.
const WIDEST: usize = 60;

/// An answer in lines. `rows` of each result are shown; a last message that is cut is left out.
pub(super) fn answer(data: &[u8], rows: usize) -> String {
    let mut screen = Screen::new(rows);
    let mut shown = screen.push(data);
    shown.push_str(&screen.finish());
    shown
}

/// An answer that is printed while it comes.
pub(super) struct Screen {
    out: String,
    /// The beginning of a message that is not whole yet.
    rest: BytesMut,
    fields: Option<Vec<Field>>,
    rows: Vec<Vec<Option<Bytes>>>,
    count: usize,
    most: usize,
}

impl Screen {
    /// An empty one; `rows` of each result are shown.
    pub(super) fn new(rows: usize) -> Self {
        let (out, rest) = (String::new(), BytesMut::new());
        Self { out, rest, fields: None, rows: Vec::new(), count: 0, most: rows }
    }

    /// The next bytes of the answer; what they bring to the screen. Rows stand there when the
    /// last of them is known, as the columns are as wide as the widest.
    pub(super) fn push(&mut self, data: &[u8]) -> String {
        self.rest.extend_from_slice(data);
        while let Ok(Some(message)) = codec::take(&mut self.rest, MAX_MESSAGE) {
            // Writing to a String cannot fail.
            let _ = self.message(&message);
        }
        std::mem::take(&mut self.out)
    }

    /// The answer ends; what is left of it.
    pub(super) fn finish(&mut self) -> String {
        let _ = self.table();
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            let _ = writeln!(self.out, "({} bytes of a message that is not whole)", rest.len());
        }
        std::mem::take(&mut self.out)
    }

    fn message(&mut self, message: &Message) -> std::fmt::Result {
        match message.tag {
            row_description::TAG => {
                self.table()?;
                self.fields = row_description::read(&message.body).ok();
            }
            data_row::TAG => {
                self.count += 1;
                if let Ok(row) = data_row::read(&message.body)
                    && self.rows.len() < self.most
                {
                    self.rows.push(row);
                }
            }
            copy::DATA => write!(self.out, "{}", Block(&String::from_utf8_lossy(&message.body)))?,
            backend::COMPLETE => {
                self.table()?;
                let tag = backend::complete(&message.body).unwrap_or_default();
                writeln!(self.out, "{}", Line(&tag))?;
            }
            backend::SUSPENDED => {
                self.table()?;
                writeln!(self.out, "(there are more rows)")?;
            }
            error_response::ERROR | error_response::NOTICE => {
                self.table()?;
                self.report(message)?;
            }
            backend::NOTIFICATION => {
                if let Ok(news) = backend::notification(&message.body) {
                    let (channel, payload) = (Line(&news.channel), Line(&news.payload));
                    writeln!(self.out, "notification {channel}: {payload}")?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn report(&mut self, message: &Message) -> std::fmt::Result {
        let report = Report::read(&message.body).unwrap_or_default();
        let get = |letter| Line(report.get(letter).unwrap_or_default());
        writeln!(self.out, "{}:  {}: {}", get(b'S'), get(b'C'), get(b'M'))?;
        for (letter, name) in [(b'D', "DETAIL"), (b'H', "HINT")] {
            if let Some(text) = report.get(letter) {
                writeln!(self.out, "{name}:  {}", Line(text))?;
            }
        }
        Ok(())
    }

    /// The rows so far, under the names of their columns.
    fn table(&mut self) -> std::fmt::Result {
        let (rows, count) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.count));
        let columns = match (&self.fields, rows.first()) {
            (Some(fields), _) => fields.len(),
            (None, Some(row)) => row.len(),
            (None, None) => return Ok(()),
        };
        let fields = self.fields.take();
        let field = |at: usize| fields.as_ref().and_then(|fields| fields.get(at));
        let names: Vec<String> = (0..columns)
            .map(|at| match field(at) {
                Some(field) => Line(&field.name).to_string(),
                None => format!("column {}", at + 1),
            })
            .collect();
        let cell = |at: usize, value: &Option<Bytes>| {
            let Some(value) = value else { return String::new() };
            let (kind, format) = field(at).map_or((0, 0), |field| (field.kind, field.format));
            let text = match (format, std::str::from_utf8(value)) {
                (0, Err(_)) => format!("\\x{}", hex::encode(value)),
                _ => printed(kind, format, value),
            };
            Line(&text).to_string()
        };
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| row.iter().enumerate().map(|(at, value)| cell(at, value)).collect())
            .collect();
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                let all = cells.iter().filter_map(|row| row.get(at)).chain([&names[at]]);
                all.map(|text| text.width()).max().unwrap_or_default().min(WIDEST)
            })
            .collect();
        self.line(&names, &widths)?;
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
        writeln!(self.out, "{}", rule.join("+"))?;
        for row in &cells {
            self.line(row, &widths)?;
        }
        match count {
            1 => writeln!(self.out, "(1 row)"),
            _ if count > cells.len() => {
                writeln!(self.out, "({count} rows, {} of them shown)", cells.len())
            }
            _ => writeln!(self.out, "({count} rows)"),
        }
    }

    fn line(&mut self, cells: &[String], widths: &[usize]) -> std::fmt::Result {
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .map(|(text, width)| {
                format!(" {text}{} ", " ".repeat(width.saturating_sub(text.width())))
            })
            .collect();
        writeln!(self.out, "{}", padded.join("|").trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_errors_are_printed_as_psql_prints_them() {
        let mut wire = BytesMut::new();
        let field = |name: &str, kind: u32, format: i16| Field {
            name: name.to_owned(),
            table: 0,
            column: 0,
            kind,
            size: -1,
            modifier: -1,
            format,
        };
        row_description::write(&mut wire, &[field("id", 23, 1), field("mail", 25, 0)]);
        data_row::write(&mut wire, &[Some(&[0, 0, 0, 7][..]), Some(b"***")]);
        data_row::write(&mut wire, &[Some(&[0, 0, 1, 0][..]), None]);
        backend::put_complete(&mut wire, "SELECT 2");
        let report = Report::new("ERROR", "42501", "no\u{1b}[2J").with(b'D', "Reason policy.");
        report.put(&mut wire, error_response::ERROR);
        let want = " id  | mail\n-----+------\n 7   | ***\n 256 |\n(2 rows)\nSELECT 2\n\
                    ERROR:  42501: no\\u{1b}[2J\nDETAIL:  Reason policy.\n";
        assert_eq!(answer(&wire, 10), want);
        let first = answer(&wire, 1);
        assert!(first.contains("(2 rows, 1 of them shown)"), "{first}");
        let cut = answer(&wire[..wire.len() - 1], 10);
        assert!(cut.ends_with("of a message that is not whole)\n"), "{cut}");
        assert_eq!(answer(b"", 10), "");
        for at in 0..wire.len() {
            let mut screen = Screen::new(10);
            let parts = screen.push(&wire[..at]) + &screen.push(&wire[at..]) + &screen.finish();
            assert_eq!(parts, want, "cut at {at}");
        }
    }
}
