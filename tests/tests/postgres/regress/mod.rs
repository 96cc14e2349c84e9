//! PostgreSQL's own regression SQL through the gate, beside a direct run.

mod compare;
mod follow;
mod report;
mod run;

use compare::{Place, Reason, anonymous, places};
use enforcer_tests::agents::postgres_regress;
use follow::Left;
use report::{Page, unjustified};
use run::{Run, Way, schedule};
use std::fs;
use std::path::PathBuf;

/// Where all is let through, and where masks name columns that none of the files has.
const PLAIN: &str = "db.test";
const MASKED: &str = "masked.test";

/// The file that makes the tables of all others. It reads them from files of the server, which is
/// refused under masks, so that it goes straight there.
const SETUP: &str = "test_setup";

/// Files that need no other than the first, of much that a statement can be: those that are
/// compared under masks.
const SOME: &[&str] = &[
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

/// Of these the ones that take a second or two each.
const FEW: &[&str] =
    &["char", "varchar", "int4", "numerology", "copyselect", "case", "portals", "prepare"];

/// What came of files that were compared.
#[derive(Default)]
struct Compared {
    files: usize,
    /// Those that the direct run does not say as PostgreSQL's authors expect.
    odd: Vec<String>,
    /// The places of each that differs, in the schedule's order.
    differ: Vec<(String, Vec<Place>)>,
}

/// Runs these files straight to one server and through the gate to another. `before`: files that
/// go straight to both, each before those that come after it in the schedule, so that these find
/// what they need.
fn compare(host: &'static str, before: &[String], files: &[String]) -> Compared {
    let kept = std::env::var_os("ENFORCER_REGRESS_KEEP");
    let kept = Kept { dir: kept.map(|dir| PathBuf::from(dir).join(host)) };
    let dir = tempfile::tempdir().expect("made");
    let mut compared = Compared { files: files.len(), ..Compared::default() };
    let mut left = Left::default();
    let sql = postgres_regress().join("sql");
    let all = schedule();
    let asks = |file: &String| files.contains(file) && kept.said(file).is_none();
    let last = all.iter().rposition(asks).map_or(0, |last| last + 1);
    let servers = (last > 0).then(|| (Run::start(), Run::start()));
    for (at, file) in all.iter().enumerate() {
        let servers = servers.as_ref().filter(|_| at < last);
        let wanted = files.contains(file);
        let (said, other) = match (servers, kept.said(file)) {
            (Some((straight, gated)), None) if wanted => {
                let (said, took) = straight.file(Way::Straight, file);
                let (other, gate) = gated.file(Way::Gated(host), file);
                eprintln!("{host} {file}: {took:.1?} and {gate:.1?}");
                kept.keep(file, &said, &other);
                (said, other)
            }
            (servers, known) => {
                let known = known.filter(|_| wanted);
                if let Some((straight, gated)) =
                    servers.filter(|_| known.is_some() || before.contains(file))
                {
                    std::thread::scope(|scope| {
                        scope.spawn(|| straight.file(Way::Straight, file));
                        gated.file(Way::Straight, file);
                    });
                }
                let Some(known) = known else { continue };
                known
            }
        };
        if !expected(file, &said) {
            compared.odd.push(file.clone());
        }
        let mut found = places(dir.path(), &said, &other);
        // Without detectors no bytes are withheld.
        for reason in found.iter_mut().flat_map(|place| &mut place.reasons) {
            if host == PLAIN && *reason == Reason::Bytes {
                *reason = Reason::Other;
            }
        }
        let source = fs::read(sql.join(format!("{file}.sql"))).expect("read");
        left.file(&String::from_utf8_lossy(&source), &anonymous(&other), &mut found);
        if !found.is_empty() {
            compared.differ.push((file.clone(), found));
        }
    }
    if let Some((_, gated)) = servers {
        gated.gate.verify();
    }
    compared
}

/// What files said, kept where somebody wants to read it; a run that was ended goes on from
/// there, and a file that was deleted there is asked again.
struct Kept {
    dir: Option<PathBuf>,
}

impl Kept {
    fn said(&self, file: &str) -> Option<(String, String)> {
        let dir = self.dir.as_ref()?.join(file);
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        Some((read("straight")?, read("gated")?))
    }

    fn keep(&self, file: &str, straight: &str, gated: &str) {
        let Some(dir) = self.dir.as_ref().map(|dir| dir.join(file)) else { return };
        fs::create_dir_all(&dir).expect("made");
        fs::write(dir.join("straight"), straight).expect("written");
        fs::write(dir.join("gated"), gated).expect("written");
    }
}

fn check(compared: &Compared) {
    let left = unjustified(&compared.differ);
    assert!(left.is_empty(), "{} places are not justified:\n{}", left.len(), left.join("\n"));
}

/// The direct run is what PostgreSQL's authors expect, so that it is worth comparing with. (Some
/// files have the year, or the host's time zones, in what they say.)
fn expected(file: &str, said: &str) -> bool {
    let dir = postgres_regress().join("expected");
    let variants = (0..4).map(|nth| match nth {
        0 => dir.join(format!("{file}.out")),
        nth => dir.join(format!("{file}_{nth}.out")),
    });
    variants.filter_map(|path| fs::read(path).ok()).any(|text| text == said.as_bytes())
}

/// Those of the schedule that are among these.
fn among(names: &[&str]) -> Vec<String> {
    let mut files = schedule();
    files.retain(|file| names.contains(&file.as_str()));
    assert_eq!(files.len(), names.len(), "{names:?}");
    files
}

/// A part of it that takes seconds; with a mask on columns that none of it has, as well.
#[test]
fn some_of_the_regression_sql() {
    let files = among(FEW);
    for host in [PLAIN, MASKED] {
        let compared = compare(host, &among(&[SETUP]), &files);
        assert!(compared.odd.len() <= 1, "{:?}", compared.odd);
        check(&compared);
        let same = files.len() - compared.differ.len();
        assert!(same >= if host == PLAIN { 5 } else { 3 }, "{host}: {same} say the same");
    }
}

#[test]
#[ignore = "long: `cargo xtask regress` runs it"]
fn all_of_the_regression_sql() {
    let wanted = std::env::var("ENFORCER_REGRESS_PARTS").unwrap_or_default();
    let wanted: Vec<&str> = wanted.split_whitespace().collect();
    let files = if wanted.is_empty() { schedule() } else { among(&wanted) };
    let plain = compare(PLAIN, &schedule(), &files);
    let mut some = among(SOME);
    some.retain(|file| files.contains(file));
    let masked = match some.is_empty() {
        true => Compared::default(),
        false => compare(MASKED, &among(&[SETUP]), &some),
    };
    let version = fs::read_to_string(postgres_regress().join("VERSION")).expect("read");
    let page = Page { version: version.trim(), plain: &plain, masked: &masked }.to_string();
    println!("{page}");
    check(&plain);
    check(&masked);
    if let Ok(report) = std::env::var("ENFORCER_REGRESS_REPORT") {
        fs::write(report, page).expect("written");
    }
}
