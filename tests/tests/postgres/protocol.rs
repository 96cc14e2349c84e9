//! Odd orders and pieces of messages: what comes back through the gate is what comes straight.

use crate::gate::{Gate, both};
use enforcer_tests::postgres::{DATABASE, PORT};
use enforcer_tests::world::FAR_V4;
use std::collections::BTreeMap;
use std::process::{Command, Output};

/// What was told at each step of each script.
type Told = BTreeMap<String, Vec<Vec<String>>>;

fn told(out: &Output) -> Told {
    assert!(out.status.success(), "{}", both(out));
    serde_json::from_slice(&out.stdout).expect("a report")
}

/// What cannot be read is an error of the gate's where it is one of the server's.
fn alike(straight: &str, gated: &str) -> bool {
    let unreadable = "E 42601 refused by enforcer: PostgreSQL's grammar does not take it";
    straight == gated || straight.starts_with("E 42601") && gated.starts_with(unreadable)
}

#[test]
fn messages_in_every_order_come_back_as_they_would() {
    let gate = Gate::start();
    let script = gate.script("protocol.py", include_str!("protocol.py"));
    let mut straight = Command::new("/usr/bin/python3");
    straight.arg(&script).arg(format!("unix:{}", gate.postgres.socket().display()));
    let straight = told(&straight.args(["postgres", DATABASE]).output().expect("starts"));
    let mut gated = gate.agent("free", "db.test", "/usr/bin/python3");
    gated.arg(&script).arg(format!("{FAR_V4}:{PORT}")).args(["root", DATABASE]);
    let gated = told(&gated.output().expect("starts"));
    assert!(straight.len() > 35 && straight.len() == gated.len());
    let mut other = Vec::new();
    for (name, straight) in &straight {
        let gated = &gated[name];
        let lines = |steps: &[Vec<String>]| steps.concat();
        let (one, two) = (lines(straight), lines(gated));
        if one.len() != two.len() || !one.iter().zip(&two).all(|(one, two)| alike(one, two)) {
            other.push(format!("{name}\n  straight {one:?}\n  gated    {two:?}"));
        }
        assert!(!one.contains(&"closed".to_owned()), "{name}: {one:?}");
    }
    assert!(other.is_empty(), "{} differ:\n{}", other.len(), other.join("\n"));
    gate.verify();
}
