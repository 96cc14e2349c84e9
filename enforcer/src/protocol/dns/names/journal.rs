//! The table on disk: one line for each entry, appended as it is given out.
//!
//! The file is written before the answer leaves, without a flush to disk: it
//! has to outlive the daemon, not the machine (no agent outlives that either).
//! It is rewritten when it holds many more lines than there are entries.

use super::table::Table;
use super::{Name, slots};
use crate::principal::AgentName;
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Lines beyond twice the entries and this are worth a rewrite.
const SLACK: usize = 4_096;
/// Longer files are not ours: the largest table has far fewer lines.
const MAX_FILE: u64 = 256 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    header: String,
    file: File,
    lines: usize,
    /// A write failed part way, so the file may end in half a line.
    torn: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) slot: u32,
    pub(super) agent: AgentName,
    pub(super) name: Name,
}

impl Journal {
    /// Opens or makes the file and reads it; entries come newest first, one for each slot. A file
    /// that was written for other blocks is started anew.
    pub(super) fn open(path: &Path, v4: Ipv4Net, v6: Ipv6Net) -> io::Result<(Self, Vec<Line>)> {
        let header = format!("enforcer-names 1 {v4} {v6}");
        let mut text = String::new();
        match File::open(path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_FILE).read_to_end(&mut bytes)?;
                text = String::from_utf8_lossy(&bytes).into_owned();
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let entries = parse(&text, &header, slots(v4, v6));
        let mut journal = Self {
            path: path.to_owned(),
            header,
            file: rewrite_target(path)?,
            lines: 0,
            torn: false,
        };
        journal.write_all_of(entries.iter().rev().map(|e| (e.slot, &e.agent, &e.name)))?;
        Ok((journal, entries))
    }

    /// Adds one entry.
    pub(super) fn append(
        &mut self,
        slot: u32,
        agent: &AgentName,
        name: &Name,
        table: &Table,
    ) -> io::Result<()> {
        if self.torn || self.lines > 2 * table.len() + SLACK {
            self.file = rewrite_target(&self.path)?;
            // The table already holds the new entry.
            return self.write_all_of(table.entries());
        }
        let line = format!("{slot} {agent} {name}\n");
        if let Err(error) = self.file.write_all(line.as_bytes()) {
            self.torn = true;
            return Err(error);
        }
        self.lines += 1;
        Ok(())
    }

    fn write_all_of<'a>(
        &mut self,
        entries: impl Iterator<Item = (u32, &'a AgentName, &'a Name)>,
    ) -> io::Result<()> {
        self.torn = true;
        self.lines = 0;
        let mut text = format!("{}\n", self.header);
        for (slot, agent, name) in entries {
            text.push_str(&format!("{slot} {agent} {name}\n"));
            self.lines += 1;
        }
        self.file.write_all(text.as_bytes())?;
        std::fs::rename(temporary(&self.path), &self.path)?;
        self.torn = false;
        Ok(())
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("new")
}

fn rewrite_target(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(temporary(path))
}

fn parse(text: &str, header: &str, slots: u32) -> Vec<Line> {
    let mut lines = text.lines();
    if lines.next() != Some(header) {
        return Vec::new();
    }
    let mut read = Vec::new();
    let whole = text.ends_with('\n');
    let mut lines = lines.peekable();
    while let Some(line) = lines.next() {
        // A torn last line could be a shorter, other name.
        if lines.peek().is_none() && !whole {
            break;
        }
        if let Some(line) = parse_line(line).filter(|line| line.slot < slots) {
            read.push(line);
        }
    }
    read.reverse();
    let mut seen = HashSet::new();
    read.retain(|line| seen.insert(line.slot));
    read
}

fn parse_line(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let parsed = Line {
        slot: words.next()?.parse().ok()?,
        agent: AgentName::parse(words.next()?)?,
        name: Name::parse(words.next()?).ok()?,
    };
    words.next().is_none().then_some(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "enforcer-names 1 198.18.0.0/15 fd65::/64";

    #[test]
    fn a_torn_last_line_is_left_out() {
        let text = format!("{HEADER}\n2 a one.example\n3 a two.example");
        let lines = parse(&text, HEADER, 100);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].name.as_str(), "one.example");
    }

    #[test]
    fn rubbish_and_other_blocks_are_left_out() {
        let text = format!(
            "{HEADER}\nx a b.example\n2 a\n3 a b.example extra\n400 a b.example\n5 . b.example\n6 a 1.2.3.4\n"
        );
        assert_eq!(parse(&text, HEADER, 100), []);
        assert_eq!(parse(&text, "enforcer-names 1 10.0.0.0/8 fd65::/64", 100), []);
    }
}
