//! PostgreSQL's own regression SQL through the gate, beside a direct run.

mod compare;
mod run;

use compare::{Place, counted, places};
use run::{Run, Way, schedule};
use std::collections::BTreeMap;

/// What a few of the files said.
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

#[test]
#[ignore = "long: `cargo xtask regress` runs it"]
fn all_of_the_regression_sql() {
    let wanted = std::env::var("ENFORCER_REGRESS_FILES").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let mut files = schedule();
    files.retain(|file| wanted.is_empty() || file == "test_setup" || wanted.contains(&&**file));
    let straight = run(Way::Straight, &files);
    for (name, host) in [("plain", "db.test"), ("masked", "masked.test")] {
        let gated = run(Way::Gated(host), &files);
        if let Ok(keep) = std::env::var("ENFORCER_REGRESS_OUT") {
            for (way, said) in [("straight", &straight), (name, &gated)] {
                std::fs::create_dir_all(format!("{keep}/{way}")).expect("made");
                for (file, said) in said {
                    std::fs::write(format!("{keep}/{way}/{file}.out"), said).expect("written");
                }
            }
        }
        let found = differences(&files, &straight, &gated);
        for (file, places) in &found {
            eprintln!("{name} {file}: {:?}", counted(places));
        }
    }
}
