//! Why a test may come out otherwise, and the page that says which do.

use super::run::{Results, Suite};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// A test that passes straight and does not through the gate.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) test: String,
    /// The reasons that the gate gave, in the order in which they are in what pytest says.
    pub(crate) reasons: Vec<String>,
    /// What pytest says.
    pub(crate) text: String,
}

/// Tests that may differ: the suite (all: ""), a part of the name, the gate's reason (none: no word
/// of the gate is in what the test says), and why.
const KNOWN: &[(&str, &str, Option<&str>, &str)] = &[
    (
        "",
        "",
        Some("order-dependent"),
        "a string of several statements of which one may change what the next one's names mean",
    ),
    (
        "",
        "",
        Some("unreadable-setting"),
        "an encoding other than UTF-8, or texts with backslashes that mean something",
    ),
    (
        "psycopg2",
        "JsonTestCase::test_scs",
        None,
        "it signs in with `standard_conforming_strings` off, which ends the connection",
    ),
    (
        "sqlalchemy",
        "::test_client_encoding",
        Some("encoding"),
        "it signs in with an encoding other than UTF-8",
    ),
    (
        "psycopg2",
        "test_flush_on_write",
        Some("unreadable"),
        "a statement of more than 1 MiB; values that are bound may be longer",
    ),
    (
        "asyncpg",
        "TestCursor::test_cursor_04",
        Some("unknown-cursor"),
        "MOVE in a portal that was bound and not run yet",
    ),
    (
        "asyncpg",
        "test_executemany_server_failure_during_writes",
        None,
        "it wants an error before 4 MB are written; behind the gate they are on their way by then",
    ),
    (
        "pg8000",
        "auth/test_gss.py",
        None,
        "how the server wants to be signed in to is between it and the gate: no client sees it",
    ),
    (
        "pg8000",
        "auth/test_scram-sha-256.py",
        None,
        "it turns the server's TLS off, and the target asks for TLS",
    ),
    (
        "pg8000",
        "test_internet_socket_connection_refused",
        None,
        "the gate takes every connection first, so one that leads nowhere is closed, not refused",
    ),
];

/// What passes straight and does not pass through the gate.
pub(crate) fn differences(straight: &Results, gated: &Results) -> Vec<Difference> {
    let passed = straight.iter().filter(|(_, came)| came.outcome == "passed");
    let otherwise = passed.filter_map(|(test, _)| {
        let came = gated.get(test);
        let (outcome, text) = match came {
            Some(came) if came.outcome == "passed" => return None,
            Some(came) => (came.outcome.as_str(), came.text.as_str()),
            None => ("not there", ""),
        };
        let text = format!("{outcome}\n{text}");
        Some(Difference { test: test.clone(), reasons: reasons(&text), text })
    });
    otherwise.collect()
}

/// The gate's reasons in a text.
fn reasons(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (at, words) in text.match_indices("Reason ") {
        let rest = text.get(at + words.len()..).unwrap_or_default();
        let end = rest.find(|c: char| c != '-' && !c.is_ascii_lowercase()).unwrap_or(rest.len());
        let ended = rest.get(end..).is_some_and(|after| after.starts_with([',', '.']));
        let code = rest.get(..end).unwrap_or_default().to_owned();
        if ended && !code.is_empty() && !found.contains(&code) {
            found.push(code);
        }
    }
    found
}

/// Why it may differ; `None`: nothing justifies it.
pub(crate) fn justified(suite: &str, difference: &Difference) -> Option<&'static str> {
    let known = KNOWN.iter().find(|(of, part, reason, _)| {
        let said = match reason {
            Some(reason) => difference.reasons.iter().any(|had| had == reason),
            None => difference.reasons.is_empty(),
        };
        (of.is_empty() || *of == suite) && difference.test.contains(part) && said
    });
    known.map(|(_, _, _, why)| *why)
}

/// What a suite came to.
pub(crate) struct Outcome {
    pub(crate) suite: &'static Suite,
    pub(crate) straight: Results,
    pub(crate) found: Vec<Difference>,
}

impl Outcome {
    /// How many pass straight.
    pub(crate) fn passed(&self) -> usize {
        self.straight.values().filter(|came| came.outcome == "passed").count()
    }

    /// What nothing justifies.
    pub(crate) fn unjustified(&self) -> Vec<String> {
        let mut left = Vec::new();
        for difference in &self.found {
            if justified(self.suite.name, difference).is_none() {
                let Difference { test, reasons, text } = difference;
                left.push(format!("{}: {test} {reasons:?}\n{text}", self.suite.name));
            }
        }
        left
    }
}

/// The page for one run of all.
pub(crate) fn page(outcomes: &[Outcome]) -> String {
    let mut page = String::from(
        "# Drivers' own test suites through the gate\n\n\
         Written by `cargo xtask drivers`: the test suites that the drivers' authors publish with \
         their sources on PyPI, each straight to a server and through the gate to another one \
         that is as new, as the same superuser and by a policy that permits everything. Of the \
         tests that pass straight:\n\n\
         | driver | tests | pass straight | pass through the gate | differ |\n|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let (all, passed) = (outcome.straight.len(), outcome.passed());
        let differ = outcome.found.len();
        let driver = outcome.suite.driver;
        let same = passed - differ;
        let _ = writeln!(page, "| {driver} | {all} | {passed} | {same} | {differ} |");
    }
    page.push_str("\nThese differ:\n\n| driver | test | reason | why |\n|---|---|---|---|\n");
    for outcome in outcomes {
        let mut by_why: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
        for difference in &outcome.found {
            let why = justified(outcome.suite.name, difference).unwrap_or("**not justified**");
            let reasons = difference.reasons.iter().map(|code| format!("`{code}`"));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            by_why.entry((why, reasons)).or_default().push(&difference.test);
        }
        for ((why, reasons), tests) in by_why {
            let names = tests.iter().map(|test| format!("`{}`", short(test)));
            let names = names.collect::<Vec<_>>().join(", ");
            let _ = writeln!(page, "| {} | {names} | {reasons} | {why} |", outcome.suite.name);
        }
    }
    page.push_str(
        "\nThe rest of the tests is skipped or fails straight, too: they want another version of \
         the server, other software beside it, or a server of their own. A test that differs and \
         is not named here fails the run.\n",
    );
    page
}

/// A test's name without the directory that all are in.
fn short(test: &str) -> &str {
    test.split_once('/').map_or(test, |(_, name)| name)
}

#[test]
fn a_difference_is_justified_by_its_reason_or_not_at_all() {
    let came = |outcome: &str, text: &str| {
        let json = serde_json::json!({ "test": "", "outcome": outcome, "text": text });
        serde_json::from_value(json).expect("one of them")
    };
    let straight: Results =
        ["a", "b", "c", "d"].map(|test| (test.to_owned(), came("passed", ""))).into();
    let refused = "42501\nDETAIL:  Reason order-dependent, operation 1, digest v1:2.";
    let gated: Results = [
        ("a".to_owned(), came("passed", "")),
        ("b".to_owned(), came("failed", refused)),
        ("c".to_owned(), came("failed", "the Reason is another, and no word of the gate")),
    ]
    .into();
    let found = differences(&straight, &gated);
    let reasons: Vec<&[String]> = found.iter().map(|one| one.reasons.as_slice()).collect();
    assert_eq!(reasons, [&["order-dependent".to_owned()][..], &[], &[]]);
    let suite = &super::run::SUITES[0];
    let outcome = Outcome { suite, straight, found };
    let left = outcome.unjustified();
    assert!(left.len() == 2 && left[1].contains("not there"), "{left:?}");
    let page = page(&[outcome]);
    assert!(page.contains("| 4 | 4 | 1 | 3 |") && page.contains("**not justified**"), "{page}");
}
