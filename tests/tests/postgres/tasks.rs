//! Statements that were declared and approved ahead of time.

use crate::gate::{Gate, both};
use enforcer_tests::postgres::{DATABASE, OWNS, PORT};
use enforcer_tests::wait::eventually;
use serde_json::{Value, json};
use std::process::Stdio;
use std::time::Duration;

const TABLE: &str = "CREATE TABLE accounts (id int PRIMARY KEY, balance int);
INSERT INTO accounts VALUES (1, 100), (2, 200);";

fn declare(gate: &Gate, task: &Value) -> Value {
    let mut curl = gate.deployment.agent("teller", "curl");
    curl.args(["-sS", "-H", "content-type: application/json", "-d", &task.to_string()]);
    let out = curl.arg("http://enforcer.internal/v1/tasks").output().expect("starts");
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("JSON: {}", both(&out)))
}

fn balance(gate: &Gate, id: u32) -> String {
    gate.postgres.admin(DATABASE, &format!("SELECT balance FROM accounts WHERE id = {id}"))
}

#[test]
fn declared_statements_run_when_their_step_was_approved() {
    let gate = Gate::start();
    gate.postgres.admin(DATABASE, &format!("SET ROLE {};\n{TABLE}", OWNS.name));
    let url = format!("postgres://app@db.test:{PORT}/{DATABASE}");
    let update = |id: u32| format!("UPDATE accounts SET balance = 7 WHERE id = {id}");
    let exact = |id: u32| {
        let sql = json!({ "url": url, "statement": update(id) });
        json!({ "justification": format!("account {id}"), "sql": sql })
    };
    let sql = json!({ "url": url, "actions": ["sql.insert"], "tables": ["public.accounts"] });
    let new = json!({
        "justification": "a new account",
        "pattern": { "scopes": ["change"], "sql": sql },
    });
    let task = json!({ "objective": "settle", "steps": [exact(1), exact(2), new] });
    let early = declare(&gate, &task);
    assert!(early["detail"].as_str().is_some_and(|why| why.contains("connect as app")), "{early}");
    let out = gate.psql("teller", "db.test", &["SELECT 1 FROM accounts"]);
    assert!(out.status.success(), "{}", both(&out));
    let declared = declare(&gate, &task);
    let id = declared["task"].as_str().unwrap_or_else(|| panic!("{declared}")).to_owned();
    let words = ["approve", &id, "--step", "2", "--step", "3", "--yes"];
    let out = gate.deployment.review("alice", &words);
    assert!(out.status.success(), "{}", both(&out));

    // The first waits for its own step.
    let first = gate
        .agent("teller", "db.test", enforcer_tests::postgres::bin().join("psql"))
        .args(["-X", "-q", "-c", &update(1)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql starts");
    let out = gate.psql("teller", "db.test", &[&update(2)]);
    assert!(out.status.success(), "{}", both(&out));
    assert_eq!(balance(&gate, 2), "7");
    let out = gate.psql("teller", "db.test", &["INSERT INTO accounts VALUES (3, 300)"]);
    assert!(out.status.success(), "{}", both(&out));
    assert_eq!((balance(&gate, 3), balance(&gate, 1)), ("300".to_owned(), "100".to_owned()));
    let out = gate.deployment.review("alice", &["deny", &id, "--step", "1", "--reason", "no"]);
    assert!(out.status.success(), "{}", both(&out));
    let out = first.wait_with_output().expect("psql ends");
    assert!(both(&out).contains("refused by enforcer"), "{}", both(&out));
    assert_eq!(balance(&gate, 1), "100");
    eventually("nothing else was put before people", Duration::from_secs(60), || {
        let out = gate.deployment.review("alice", &["list", "--json"]);
        let all: Value = serde_json::from_slice(&out.stdout).ok()?;
        (all.as_array()?.len() == 3).then_some(())
    });
    gate.verify();
}
