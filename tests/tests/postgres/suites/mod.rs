//! Drivers' own test suites through the gate, beside a direct run.

mod report;
mod run;

use report::{Outcome, differences, justified, page};
use run::{Results, Run, SUITES, Suite, Way};
use std::fs;

/// Files of each suite that take seconds.
const SOME: &[(&str, &[&str])] = &[
    (
        "asyncpg",
        &[
            "tests/test_cursor.py",
            "tests/test_copy.py",
            "tests/test_execute.py",
            "tests/test_listeners.py",
            "tests/test_prepare.py",
        ],
    ),
    (
        "psycopg2",
        &[
            "tests/test_copy.py",
            "tests/test_cursor.py",
            "tests/test_lobject.py",
            "tests/test_replication.py",
            "tests/test_transaction.py",
        ],
    ),
    (
        "sqlalchemy",
        &["test/dialect/postgresql/test_on_conflict.py", "test/dialect/postgresql/test_query.py"],
    ),
];

/// A suite, straight and through the gate, each to a server that is as new.
fn outcome(suite: &'static Suite, tests: &[&str]) -> Outcome {
    let straight = Run::start(Way::Straight, suite).tests(tests, &[]);
    let mut results = gated(suite, tests, &[]);
    let found = differences(&straight, &results);
    // Many tests have limits of time, and this machine may have other things to do: what differs
    // and should not is asked once more, without what a failure may have left.
    let unnamed = found.iter().filter(|one| justified(suite.name, one).is_none());
    let names: Vec<&String> = unnamed.map(|difference| &difference.test).collect();
    if !names.is_empty() {
        results.extend(gated(suite, tests, &names));
    }
    Outcome { suite, found: differences(&straight, &results), straight }
}

fn gated(suite: &'static Suite, tests: &[&str], only: &[&String]) -> Results {
    let run = Run::start(Way::Gated, suite);
    let results = run.tests(tests, only);
    run.gate.verify();
    results
}

fn check(outcomes: &[Outcome]) {
    let left: Vec<String> = outcomes.iter().flat_map(Outcome::unjustified).collect();
    assert!(left.is_empty(), "{} tests are not justified:\n{}", left.len(), left.join("\n"));
}

/// A part of it that takes seconds.
#[test]
fn some_of_the_suites() {
    for (name, tests) in SOME {
        let suite = SUITES.iter().find(|suite| suite.name == *name).expect("one of them");
        let outcome = outcome(suite, tests);
        assert!(outcome.passed() > 80, "{name}: {} pass straight", outcome.passed());
        check(&[outcome]);
    }
}

#[test]
#[ignore = "long: `cargo xtask drivers` runs it"]
fn drivers_own_suites() {
    let wanted = std::env::var("ENFORCER_DRIVERS_PARTS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let suites = SUITES.iter().filter(|suite| wanted.is_empty() || wanted.contains(&suite.name));
    let outcomes: Vec<Outcome> = suites.map(|suite| outcome(suite, &[])).collect();
    let page = page(&outcomes);
    println!("{page}");
    check(&outcomes);
    if let Ok(report) = std::env::var("ENFORCER_DRIVERS_REPORT") {
        fs::write(report, page).expect("written");
    }
}
