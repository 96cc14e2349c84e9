//! What says which layers hold: `doctor` with its proof, `status`, and the
//! record of every flow.

use enforcer_tests::daemon::enforcer;
use enforcer_tests::fixture::{Fixture, text};
use serde_json::Value;
use std::collections::BTreeSet;

fn json(all: &Fixture, command: &str) -> Value {
    let mut program = all.deployment.enforcer();
    let out = program.args([command, "--json", "--config"]).arg(&all.deployment.config).output();
    let out = out.expect("it starts");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("no JSON: {}", text(&out)))
}

#[test]
fn doctor_proves_what_status_and_records_name() {
    let mut all = Fixture::start();
    let status = json(&all, "status");
    let layers = status["layers"].as_array().expect("layers");
    let held: BTreeSet<&str> = layers
        .iter()
        .filter(|layer| layer["holds"] == true)
        .map(|layer| layer["name"].as_str().expect("a name"))
        .collect();
    assert!(held.contains("cgroup"), "{status:#}");
    for layer in layers.iter().filter(|layer| layer["holds"] == false) {
        assert!(layer["detail"].as_str().expect("why").contains("open"), "{layer}");
    }

    let report = json(&all, "doctor");
    assert_eq!(report["ok"], true, "{report:#}");
    let checks = report["checks"].as_array().expect("checks");
    let named = |begin: &str| -> Vec<&Value> {
        checks
            .iter()
            .filter(|check| check["name"].as_str().is_some_and(|name| name.starts_with(begin)))
            .collect()
    };
    assert_eq!(named("escape control").len(), 1);
    for round in ["escape cgroup ", "escape run "] {
        let tried = named(round);
        assert!(tried.len() > 10, "{round}: {report:#}");
        for check in &tried {
            let way = check["name"].as_str().expect("a name");
            let closed = check["detail"] == "closed";
            let needs = |layer: &str, ways: &str| way.contains(ways) && !held.contains(layer);
            let open = needs("unix", "unix") || needs("lsm", "cg_procs_escape");
            assert!(closed || open, "{check}");
        }
        let left = tried.iter().find(|check| {
            check["name"].as_str().is_some_and(|name| name.ends_with("cg_procs_escape"))
        });
        let left = left.unwrap_or_else(|| panic!("{round} never tried to leave: {report:#}"));
        let closed = left["detail"] == "closed";
        assert_eq!(closed, round == "escape run " || held.contains("lsm"), "{left}");
    }

    assert!(all.curl(&["http://api.test:8080/echo"]).ends_with(" 200"));
    let out = all.deployment.transcripts(&["export", "--format", "jsonl"]);
    let recorded = text(&out);
    let of_flows: Vec<BTreeSet<String>> = recorded
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| find(&line, "layers").cloned())
        .filter_map(|layers| serde_json::from_value(layers).ok())
        .collect();
    assert!(!of_flows.is_empty(), "{recorded}");
    for layers in of_flows {
        assert!(layers.iter().map(String::as_str).eq(held.iter().copied()), "{layers:?} {held:?}");
    }

    // The daemon's own socket is in reach, for a word that says what this process is.
    let mut inside = all.deployment.governed("probe", enforcer());
    inside.args(["status", "--config"]).arg(&all.deployment.config);
    let said = text(&inside.output().expect("it starts"));
    assert!(said.contains("governed"), "{said}");

    // Without a daemon the kernel half still holds, and doctor says both.
    all.deployment.kill_daemon();
    let report = json(&all, "doctor");
    assert_eq!(report["ok"], false);
    for check in report["checks"].as_array().expect("checks") {
        let name = check["name"].as_str().expect("a name");
        let layered = name.contains("unix") || name.contains("cg_procs");
        if name.starts_with("escape cgroup ") && !layered {
            assert_eq!(check["detail"], "closed", "{check}");
        }
    }
}

/// A key of this name anywhere in a value.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => {
            fields.get(key).or_else(|| fields.values().find_map(|inner| find(inner, key)))
        }
        Value::Array(items) => items.iter().find_map(|inner| find(inner, key)),
        _ => None,
    }
}
