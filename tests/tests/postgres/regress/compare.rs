//! What differs between two outputs of one file, place by place, and for which reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Why a place differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// Refused or withheld, for this reason of the gate's, where the server says an error, too.
    Also(String),
    /// Refused or withheld, where the server does it.
    Refused(String),
    /// The words of an error or notice are withheld.
    Words,
    /// Bytes that are no text came as NULL, since detectors cannot look at them.
    Bytes,
    /// psql says again what the gate said.
    Again,
    /// No word of the gate, and a refusal before it explains it.
    Follows,
    /// No word of the gate: something else than the server says.
    Other,
}

/// A place in which two outputs differ.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) reasons: Vec<Reason>,
    /// The first and the last line of what came through the gate, from 1; the last is before the
    /// first where lines are missing.
    pub(crate) at: (usize, usize),
    /// As `diff` prints it.
    pub(crate) text: String,
}

/// What the gate says where it refuses, withholds, or withholds words.
const GATE: [&str; 2] = ["refused by enforcer:", "withheld by enforcer:"];
const WORDS: &str = "the server's words are withheld by enforcer";
const REASON: &str = "DETAIL:  Reason ";

/// The places in which `gated` differs from `straight`.
pub(crate) fn places(dir: &Path, straight: &str, gated: &str) -> Vec<Place> {
    let (one, other) = (dir.join("straight.out"), dir.join("gated.out"));
    fs::write(&one, straight).expect("written");
    fs::write(&other, anonymous(gated)).expect("written");
    let out = Command::new("diff").arg("--text").arg(&one).arg(&other).output().expect("diff");
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut places: Vec<Place> = Vec::new();
    for line in text.lines() {
        let continues = line.starts_with(['<', '>', '-', '\\']);
        match places.last_mut() {
            Some(place) if continues => {
                place.text.push('\n');
                place.text.push_str(line);
            }
            _ => places.push(Place { reasons: Vec::new(), at: at(line), text: line.to_owned() }),
        }
    }
    for place in &mut places {
        place.reasons = reasons(&place.text);
    }
    places
}

/// The lines of the second file in the head of a place: `1,2c3,4`, `1a2`, `1,2d3`.
fn at(head: &str) -> (usize, usize) {
    let Some((_, range)) = head.split_once(['a', 'c', 'd']) else { return (0, 0) };
    let (first, last) = range.split_once(',').unwrap_or((range, range));
    let (first, last) = (first.parse().unwrap_or(0), last.parse().unwrap_or(0));
    match head.contains('d') {
        true => (first + 1, first),
        false => (first, last),
    }
}

/// The gate's words without what no two runs have alike.
pub(super) fn anonymous(text: &str) -> String {
    let line = |line: &str| match line.split_once(", operation ") {
        Some((reason, _)) if reason.starts_with(REASON) => reason.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|one| line(one) + "\n").collect()
}

fn reasons(place: &str) -> Vec<Reason> {
    let of = |side: &'static str| place.lines().filter_map(move |line| line.strip_prefix(side));
    let mut errors = of("< ").filter(|line| line.contains("ERROR:  ")).count();
    let mut found = Vec::new();
    for line in of("> ") {
        if let Some(reason) = line.strip_prefix(REASON) {
            let code = reason.trim_end_matches('.').to_owned();
            found.push(match errors {
                0 => Reason::Refused(code),
                _ => Reason::Also(code),
            });
            errors = errors.saturating_sub(1);
        } else if line.contains(WORDS) {
            found.push(Reason::Words);
            errors = errors.saturating_sub(1);
        }
    }
    if found.is_empty() {
        let again = of("> ").any(|line| GATE.iter().any(|words| line.contains(words)));
        let bytes = of("< ").any(escaped)
            && !of("< ").any(|line| line.contains("ERROR:  "))
            && of("> ").any(|line| line.trim().is_empty())
            && !of("> ").any(|line| line.contains(['\\', ':']));
        found.push(match (again, bytes) {
            (true, _) => Reason::Again,
            (_, true) => Reason::Bytes,
            _ => Reason::Other,
        });
    }
    found
}

/// Whether a line shows bytes as they are printed, in hexadecimal or escaped.
fn escaped(line: &str) -> bool {
    line.split('\\').skip(1).any(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest.starts_with('x') || digits >= 3
    })
}

/// How often each reason is there.
pub(crate) fn counted(places: &[Place]) -> BTreeMap<Reason, usize> {
    let mut counts = BTreeMap::new();
    for reason in places.iter().flat_map(|place| &place.reasons) {
        *counts.entry(reason.clone()).or_default() += 1;
    }
    counts
}

#[test]
fn a_difference_has_its_reason() {
    let dir = tempfile::tempdir().expect("made");
    let straight =
        "SELECT 1;\nERROR:  syntax error\nLINE 1: x\nSELECT 2;\n 2\nSELECT 3;\nERROR:  no\n";
    let gated = "SELECT 1;\nERROR:  refused by enforcer: no\nDETAIL:  Reason unreadable, operation \
                 1, digest 2.\nSELECT 2;\nERROR:  refused by enforcer: no\nDETAIL:  Reason policy, \
                 operation 3\nSELECT 3;\nERROR:  other\n";
    let found = places(dir.path(), straight, gated);
    let reasons: Vec<_> = found.into_iter().flat_map(|place| place.reasons).collect();
    let want = [Reason::Also("unreadable".into()), Reason::Refused("policy".into()), Reason::Other];
    assert_eq!(reasons, want);
    assert!(places(dir.path(), straight, straight).is_empty());
    let bytes =
        places(dir.path(), " a    \n------\n \\xde \n(1 row)\n", " a \n---\n   \n(1 row)\n");
    assert_eq!(bytes[0].reasons, [Reason::Bytes]);
    let other = places(dir.path(), " \\xde\n", " \\xdf\n");
    assert_eq!(other[0].reasons, [Reason::Other]);
    assert_eq!((bytes[0].at, other[0].at), ((1, 3), (1, 1)));
}
