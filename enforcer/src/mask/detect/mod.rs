//! Finds values that nobody tagged: keys, tokens, cards, addresses.
//!
//! [`table`] says what there is, [`check`] what a pattern cannot say, [`verify`]
//! runs a pattern at one place, [`scan`] finds the places. The result is the same
//! as running each pattern over the whole text and keeping what does not overlap
//! itself, in one pass of literal and byte searches instead of seventy.
//!
//! Must never: decide what happens to a hit, or depend on where chunks begin.

mod anchors;
mod check;
mod scan;
mod table;
#[cfg(test)]
pub(super) mod tests;
mod verify;

pub(super) use scan::{Carry, Hit, Scan};

use super::MaskError;
use anchors::Anchors;
use table::{Group, Part, TABLE, Tail};

/// Longest match that is followed byte by byte. What is still unfinished there is
/// masked as far as it goes on; a run of token characters that long with nothing
/// found in it is data.
pub(super) const MAX_MATCH: usize = 16 * 1024;
/// Bytes before the text under search that patterns and checks look at.
pub(super) const CONTEXT: usize = 8;
const _: () = assert!(check::LOOK_BEHIND < CONTEXT);

/// What one detector is, for listings and documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DetectorInfo {
    /// The name to write in a rule.
    pub name: &'static str,
    /// The group that includes it.
    pub group: &'static str,
    /// Where the format is documented.
    pub source: &'static str,
}

/// Every detector, once each.
pub fn detectors() -> Vec<DetectorInfo> {
    let mut all: Vec<DetectorInfo> = Vec::with_capacity(TABLE.len());
    for row in TABLE {
        if !all.iter().any(|known| known.name == row.name) {
            all.push(DetectorInfo { name: row.name, group: row.group.name(), source: row.source });
        }
    }
    all
}

/// The detectors that a plan uses, each with the rule that asked for it first.
pub(super) struct Detectors {
    /// By table row: the owner's rule number.
    owner: Vec<Option<usize>>,
    anchors: Anchors,
    /// Whether check digits count. Off only to compare with plain patterns.
    checked: bool,
}

impl Detectors {
    /// Compiles the choices of rules, as `(rule name, rule number, names)`.
    pub(super) fn compile<'a>(
        choices: impl Iterator<Item = (&'a str, usize, &'a [String])>,
        checked: bool,
    ) -> Result<Option<Self>, MaskError> {
        let mut owner = vec![None; TABLE.len()];
        for (rule, number, names) in choices {
            for name in names {
                let mut known = false;
                for (row, owner) in TABLE.iter().zip(&mut owner) {
                    if name == "all" || name == row.name || name == row.group.name() {
                        known = true;
                        owner.get_or_insert(number);
                    }
                }
                if !known {
                    return Err(MaskError::Detector {
                        rule: rule.to_owned(),
                        detector: name.clone(),
                        known: known_names(),
                    });
                }
            }
        }
        if owner.iter().all(Option::is_none) {
            return Ok(None);
        }
        verify::table().map_err(|why| MaskError::Table(why.to_owned()))?;
        let anchors = Anchors::new(|row| owner[row].is_some()).map_err(MaskError::Table)?;
        Ok(Some(Self { owner, anchors, checked }))
    }

    /// The rule that a table row's hits belong to.
    pub(super) fn owner(&self, row: usize) -> usize {
        self.owner[row].unwrap_or_default()
    }

    /// The name of a table row's detector.
    pub(super) fn name(row: usize) -> &'static str {
        TABLE[row].name
    }
}

fn known_names() -> String {
    let groups = [Group::Secrets, Group::Personal, Group::Network].map(Group::name);
    let names = detectors().into_iter().map(|known| known.name);
    let all: Vec<_> = ["all"].into_iter().chain(groups).chain(names).collect();
    all.join(", ")
}

/// What goes on beyond a committed hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Swallow {
    /// Token characters.
    Token,
    /// A key block: how many hyphens were just read, and whether the end line
    /// has begun.
    KeyBlock {
        /// Length of the current run of hyphens.
        hyphens: u8,
        /// Inside the end line.
        in_end: bool,
    },
}

impl Swallow {
    fn of(tail: Tail) -> Option<Self> {
        match tail {
            Tail::KeyBlock => Some(Self::KeyBlock { hyphens: 0, in_end: false }),
            Tail::None | Tail::Token => None,
        }
    }

    /// Eats from the front of `text`; how much, and whether that was the end.
    pub(super) fn eat(&mut self, text: &[u8]) -> (usize, bool) {
        for (at, &byte) in text.iter().enumerate() {
            match self {
                Self::Token => {
                    if !(byte.is_ascii_alphanumeric() || b"/_-+=.".contains(&byte)) {
                        return (at, true);
                    }
                }
                Self::KeyBlock { hyphens, in_end } => {
                    let body = byte.is_ascii_alphanumeric() || b"+/=:,.()- \t\r\n".contains(&byte);
                    if !body {
                        return (at, true);
                    }
                    if byte != b'-' {
                        *hyphens = 0;
                        continue;
                    }
                    *hyphens += 1;
                    if *hyphens == 5 {
                        *hyphens = 0;
                        if *in_end {
                            return (at + 1, true);
                        }
                        *in_end = true;
                    }
                }
            }
        }
        (text.len(), false)
    }
}

/// Where in `matched` the part lies that is masked.
fn part_of(part: Part, matched: &[u8]) -> std::ops::Range<usize> {
    let end = matched.len();
    let after =
        |byte: u8, upto: usize| memchr::memrchr(byte, &matched[..upto]).map_or(0, |at| at + 1);
    match part {
        Part::Whole => 0..end,
        Part::Last(n) => end.saturating_sub(n)..end,
        Part::Word => after(b' ', end)..end,
        Part::Quoted => {
            let inner = end.saturating_sub(1);
            after(b'"', inner).max(after(b'\'', inner))..inner
        }
        Part::Password => {
            let inner = end.saturating_sub(1);
            // The first colon after `://` ends the user; a password may hold more.
            let authority = memchr::memmem::find(matched, b"://").map_or(0, |at| at + 3);
            let colon = memchr::memchr(b':', &matched[authority..inner]);
            colon.map_or(0, |at| authority + at + 1)..inner
        }
    }
}
