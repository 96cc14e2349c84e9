//! PostgreSQL's own regression SQL through the gate, beside a direct run.

mod compare;
mod report;
mod run;

use compare::{Place, places};
use enforcer_tests::agents::postgres_regress;
use report::{page, unjustified};
use run::{Run, Way, schedule};
use std::collections::BTreeMap;
use std::fs;

/// Files that need no other than the first, of much that a statement can be, and take seconds.
const SOME: &[&str] = &[
    "test_setup",
    "boolean",
    "char",
    "varchar",
    "text",
    "int4",
    "strings",
    "numerology",
    "regex",
    "copyselect",
    "select_distinct",
    "case",
    "union",
    "portals",
    "prepare",
    "json",
];

/// What files said.
type Said = BTreeMap<String, String>;

fn run(way: Way, files: &[String]) -> Said {
    let mut run = Run::start(way);
    let said = files.iter().map(|file| (file.clone(), run.file(file))).collect();
    eprintln!("{way:?}: {} files in {:.1?}", files.len(), run.took);
    if way != Way::Straight {
        run.gate.verify();
    }
    said
}

/// The differences of each file, in the schedule's order; a file without any is not in it.
fn differences(files: &[String], straight: &Said, gated: &Said) -> Vec<(String, Vec<Place>)> {
    let dir = tempfile::tempdir().expect("made");
    let differences = files.iter().map(|file| {
        let found = places(dir.path(), &straight[file], &gated[file]);
        (file.clone(), found)
    });
    differences.filter(|(_, found)| !found.is_empty()).collect()
}

fn check(found: &[(String, Vec<Place>)]) {
    let left = unjustified(found);
    assert!(left.is_empty(), "{} places are not justified:\n{}", left.len(), left.join("\n"));
}

/// The direct run is what PostgreSQL's authors expect, so that it is worth comparing with. (Some
/// files have the year, or the host's time zones, in what they say.)
fn expected(straight: &Said) -> usize {
    let dir = postgres_regress().join("expected");
    let same = |(file, said): &(&String, &String)| {
        let variants = (0..4).map(|nth| match nth {
            0 => dir.join(format!("{file}.out")),
            nth => dir.join(format!("{file}_{nth}.out")),
        });
        variants.filter_map(|path| fs::read(path).ok()).any(|text| text == said.as_bytes())
    };
    straight.iter().filter(same).count()
}

/// A part of it that takes seconds; with a mask on columns that none of it has, as well.
#[test]
#[ignore = "not settled yet: `cargo xtask regress` runs it"]
fn some_of_the_regression_sql() {
    let mut files = schedule();
    files.retain(|file| SOME.contains(&file.as_str()));
    assert_eq!(files.len(), SOME.len());
    let straight = run(Way::Straight, &files);
    // Three of them name tables of files that are left out.
    assert!(expected(&straight) >= files.len() - 3);
    for host in ["db.test", "masked.test"] {
        let gated = run(Way::Gated(host), &files);
        let found = differences(&files, &straight, &gated);
        check(&found);
        assert!(found.len() <= 4, "{:?}", found.iter().map(|(file, _)| file).collect::<Vec<_>>());
    }
}

#[test]
#[ignore = "long: `cargo xtask regress` runs it"]
fn all_of_the_regression_sql() {
    let wanted = std::env::var("ENFORCER_REGRESS_PARTS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let mut files = schedule();
    files.retain(|file| wanted.is_empty() || file == "test_setup" || wanted.contains(&&**file));
    let straight = run(Way::Straight, &files);
    eprintln!("{} of {} straight as expected", expected(&straight), files.len());
    let gated = run(Way::Gated("db.test"), &files);
    let found = differences(&files, &straight, &gated);
    let version = fs::read_to_string(postgres_regress().join("VERSION")).expect("read");
    let page = page(files.len(), version.trim(), &found);
    println!("{page}");
    check(&found);
    if let Ok(report) = std::env::var("ENFORCER_REGRESS_REPORT") {
        fs::write(report, page).expect("written");
    }
}
