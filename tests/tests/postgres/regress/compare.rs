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
    /// No word of the gate: something else than the server says.
    Other,
}

/// A place in which two outputs differ.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) reasons: Vec<Reason>,
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
            _ => places.push(Place { reasons: Vec::new(), text: line.to_owned() }),
        }
    }
    for place in &mut places {
        place.reasons = reasons(&place.text);
    }
    places
}

/// The gate's words without what no two runs have alike.
fn anonymous(text: &str) -> String {
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
    if found.is_empty() && !GATE.iter().any(|words| place.contains(words)) {
        found.push(Reason::Other);
    }
    found
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
}
