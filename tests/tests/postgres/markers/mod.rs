//! No marked value in any byte that an agent gets under masks, however it is asked for: about a
//! thousand statements over the bare protocol, beside the same ones without the gate.

mod statements;

use crate::gate::{Gate, MASKED_V4, both};
use enforcer_tests::postgres::{DATABASE, PORT};
use serde::Deserialize;
use statements::{Case, SCHEMA, all};
use std::fs;
use std::process::{Command, Output};

/// What one statement brought in one mode.
#[derive(Debug, Deserialize)]
struct Seen {
    mode: String,
    seen: Vec<String>,
    codes: Vec<String>,
    rows: usize,
}

/// Python's own, with nothing but its standard library.
const PYTHON: &str = "/usr/bin/python3";

fn report(out: &Output) -> Vec<Seen> {
    assert!(out.status.success(), "{}", both(out));
    serde_json::from_slice(&out.stdout).expect("a report")
}

#[test]
fn no_marker_reaches_the_wire() {
    let gate = Gate::start();
    gate.postgres.admin(DATABASE, SCHEMA);
    let socket = gate.postgres.socket();
    // In the server's own directory, which it can write.
    let cases = all(&socket.with_file_name("markers").display().to_string());
    let script = gate.script("wire.py", include_str!("wire.py"));
    let plan = gate.world.path("plan.json");
    let modes = ["simple", "text", "binary"];
    let json = serde_json::json!({ "cases": cases, "modes": modes });
    fs::write(&plan, json.to_string()).expect("written");

    let mut straight = Command::new(PYTHON);
    straight.arg(&script).arg(&plan).arg(format!("unix:{}", socket.display()));
    let straight = report(&straight.args(["postgres", DATABASE]).output().expect("starts"));
    let mut gated = gate.agent("free", "masked.test", PYTHON);
    gated.arg(&script).arg(&plan).arg(format!("{MASKED_V4}:{PORT}")).args(["root", DATABASE]);
    let gated = report(&gated.output().expect("starts"));
    assert_eq!((straight.len(), gated.len()), (cases.len() * 3, cases.len() * 3));

    let of = |at: usize| -> &Case { &cases[at / modes.len()] };
    let leaks: Vec<String> = gated
        .iter()
        .enumerate()
        .filter(|(_, seen)| !seen.seen.is_empty())
        .map(|(at, seen)| format!("{} {:?}: {}", seen.mode, seen.seen, of(at).strings.join(" ~~ ")))
        .collect();
    assert!(leaks.is_empty(), "{} came out:\n{}", leaks.len(), leaks.join("\n"));
    // Without the gate they do show it: each of them in one mode at least.
    let dull: Vec<String> = straight
        .chunks(modes.len())
        .zip(&cases)
        .filter(|(seen, case)| case.shows && seen.iter().all(|seen| seen.seen.is_empty()))
        .map(|(seen, case)| format!("{:?}: {}", seen[0].codes, case.strings.join(" ~~ ")))
        .collect();
    assert!(dull.is_empty(), "{} show nothing anyway:\n{}", dull.len(), dull.join("\n"));
    // And masked they are still answered: what is refused is what is tried at the end.
    let refused = gated.iter().filter(|seen| seen.codes.iter().any(|code| code == "42501")).count();
    let rows: usize = gated.iter().map(|seen| seen.rows).sum();
    eprintln!("{} cases, {refused} of {} refused, {rows} rows", cases.len(), gated.len());
    assert!(refused * 5 < gated.len(), "{refused} of {} are refused", gated.len());
    gate.verify();
}
