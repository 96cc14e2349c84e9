//! Which searches a choice of detectors needs: the literal search, and for each
//! byte search the table rows it serves. Owns selection; [`super::scan`] runs it.

use super::table::{Anchor, TABLE};
use aho_corasick::{AhoCorasick, AhoCorasickKind, packed};
use std::ops::RangeInclusive;

/// Rows by what finds their candidates.
#[derive(Default)]
pub(super) struct Anchors {
    pub(super) literals: Option<Literals>,
    pub(super) at: Option<usize>,
    pub(super) jwt: Option<usize>,
    /// `(byte before the dot, bytes from the start to the dot, row)`.
    pub(super) dots: Vec<(u8, usize, usize)>,
    pub(super) ipv4: Option<usize>,
    pub(super) ssn: Option<usize>,
    pub(super) mac: Option<usize>,
    pub(super) telegram: Option<usize>,
    pub(super) plus: Vec<usize>,
    pub(super) hf: Option<usize>,
    pub(super) tilde: Option<usize>,
    pub(super) sk: Option<usize>,
    /// `(begins with a digit, lengths, row)`.
    pub(super) runs: Vec<(bool, RangeInclusive<usize>, usize)>,
    /// `(begins with digits, row)`.
    pub(super) groups: Vec<(bool, usize)>,
}

impl Anchors {
    /// Sorts the rows that `active` picks.
    pub(super) fn new(active: impl Fn(usize) -> bool) -> Result<Self, String> {
        let mut anchors = Self::default();
        let mut literals = Vec::new();
        for (row, detector) in TABLE.iter().enumerate().filter(|(row, _)| active(*row)) {
            match detector.anchor {
                Anchor::Literal(texts, back) => {
                    literals.extend(texts.iter().map(|text| (*text, back, row)))
                }
                Anchor::At => anchors.at = Some(row),
                Anchor::Jwt => anchors.jwt = Some(row),
                Anchor::Dot(before, back) => anchors.dots.push((before, back, row)),
                Anchor::Ipv4 => anchors.ipv4 = Some(row),
                Anchor::Ssn => anchors.ssn = Some(row),
                Anchor::Mac => anchors.mac = Some(row),
                Anchor::Telegram => anchors.telegram = Some(row),
                Anchor::Plus => anchors.plus.push(row),
                Anchor::Hf => anchors.hf = Some(row),
                Anchor::Tilde => anchors.tilde = Some(row),
                Anchor::Sk => anchors.sk = Some(row),
                Anchor::Run(digit, shortest, longest) => {
                    anchors.runs.push((digit, shortest..=longest, row));
                }
                Anchor::Groups(digits) => anchors.groups.push((digits, row)),
            }
        }
        if !literals.is_empty() {
            anchors.literals = Some(Literals::new(literals)?);
        }
        Ok(anchors)
    }
}

enum Search {
    /// Vectorised; where the processor has the instructions.
    Packed(packed::Searcher),
    Automaton(AhoCorasick),
}

/// Makes letters lower case and other bytes anything, the same ones always.
pub(super) fn fold(byte: u8) -> u8 {
    byte | 0x20
}

/// Searches folded text for the literals.
pub(super) struct Literals {
    search: Search,
    /// `(literal, bytes from the start to it, row)`, by pattern number.
    literals: Vec<(&'static str, usize, usize)>,
}

impl Literals {
    fn new(literals: Vec<(&'static str, usize, usize)>) -> Result<Self, String> {
        let fold = |text: &str| text.bytes().map(fold).collect();
        let texts: Vec<Vec<u8>> = literals.iter().map(|known| fold(known.0)).collect();
        // No literal is the start of another (tested), so "leftmost first" loses none.
        let packed = packed::Config::new()
            .match_kind(packed::MatchKind::LeftmostFirst)
            .heuristic_pattern_limits(false)
            .builder()
            .extend(&texts)
            .build();
        let search = match packed {
            Some(search) => Search::Packed(search),
            None => {
                let automaton =
                    AhoCorasick::builder().kind(Some(AhoCorasickKind::DFA)).build(&texts);
                Search::Automaton(automaton.map_err(|why| why.to_string())?)
            }
        };
        Ok(Self { search, literals })
    }

    /// The first literal at or after `at`: where it is, where its match would
    /// start (if the text reaches back that far) and the row.
    pub(super) fn next(&self, folded: &[u8], at: usize) -> Option<(usize, Option<usize>, usize)> {
        let (start, pattern) = match &self.search {
            Search::Packed(search) => {
                let found = search.find_in(folded, (at..folded.len()).into())?;
                (found.start(), found.pattern())
            }
            Search::Automaton(search) => {
                let found = search.find(aho_corasick::Input::new(folded).range(at..))?;
                (found.start(), found.pattern())
            }
        };
        let (_, back, row) = self.literals[pattern.as_usize()];
        Some((start, start.checked_sub(back), row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_fit_for_the_search() {
        let mut all: Vec<&str> = Vec::new();
        for row in TABLE {
            if let Anchor::Literal(texts, _) = row.anchor {
                all.extend(texts);
            }
        }
        for (at, one) in all.iter().enumerate() {
            assert!((4..=24).contains(&one.len()), "{one}");
            assert_eq!(*one, one.to_ascii_lowercase());
            for (other_at, other) in all.iter().enumerate() {
                assert!(at == other_at || !other.starts_with(one), "{one} starts {other}");
            }
        }
        assert!(all.len() <= 64, "more than the vectorised search takes");
    }
}
