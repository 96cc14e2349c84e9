//! The policy guide's examples are one bundle, and it does what the guide says.

use super::*;

const GUIDE: &str = include_str!("../../../../docs/policy.md");

const POSTGRES: &str = include_str!("../../../../docs/postgres.md");

/// The fenced blocks that begin with the name of a file; those of one file are parts of it.
fn examples(guide: &str) -> Files {
    let mut files = Files::new();
    for block in guide.split("\n```").skip(1).step_by(2) {
        let (_, text) = block.split_once('\n').unwrap();
        let first = text.lines().next().unwrap();
        let file = first.trim_start_matches(['#', '/', ' ']);
        let whole = files.entry(file.to_owned()).or_default();
        whole.push_str(text);
        whole.push('\n');
    }
    files
}

#[test]
fn its_examples_hold() {
    let files = examples(GUIDE);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["masks.toml", "rules.cedar", "scopes.toml", "targets.toml", "tests/billing.toml"]
    );
    let bundle = Bundle::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(bundle.warnings().is_empty(), "{}", bundle.warnings());
    assert!(bundle.cases().len() >= 5);
    for case in bundle.cases() {
        let outcome = bundle.run(case).unwrap();
        assert!(outcome.passed, "{}: {:#?}", case.name, outcome.judgement);
    }
}

#[test]
fn it_names_every_action() {
    for action in schema::ACTIONS {
        assert!(GUIDE.contains(action.name), "{}", action.name);
    }
}

#[test]
fn the_examples_of_postgres_hold() {
    let files = examples(POSTGRES);
    let bundle = Bundle::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(bundle.warnings().is_empty(), "{}", bundle.warnings());
    assert!(bundle.cases().len() >= 6);
    for case in bundle.cases() {
        let outcome = bundle.run(case).unwrap();
        assert!(outcome.passed, "{}: {:#?}", case.name, outcome.judgement);
    }
    let db = bundle.target("orders-db").unwrap();
    assert_eq!(bundle.mask_names(db), ["people", "accounts", "secrets", "profiles"]);
}

#[test]
fn postgres_names_every_action_and_flag() {
    let actions = schema::ACTIONS.iter().map(|action| action.name);
    let flags = crate::protocol::postgres::sql::flags::ALL;
    for name in actions.filter(|name| name.starts_with("sql.")).chain(flags) {
        assert!(POSTGRES.contains(&format!("`{name}`")), "{name}");
    }
}
