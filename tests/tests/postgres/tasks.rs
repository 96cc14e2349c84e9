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

/// A step for bound values lets through those values, in their formats, and no others.
#[test]
fn a_statement_is_declared_with_its_parameters() {
    let gate = Gate::start();
    gate.postgres.admin(DATABASE, &format!("SET ROLE {};\n{TABLE}", OWNS.name));
    let out = gate.psql("teller", "db.test", &["SELECT 1 FROM accounts"]);
    assert!(out.status.success(), "{}", both(&out));
    let declared = |parameters: Value| {
        let sql = json!({
            "url": format!("postgres://app@db.test:{PORT}/{DATABASE}"),
            "statement": "UPDATE accounts SET balance = $1 WHERE id = $2",
            "parameters": parameters,
        });
        let step = json!({ "justification": "account 2", "sql": sql });
        declare(&gate, &json!({ "objective": "settle", "steps": [step] }))
    };
    let wrong = declared(json!([{ "type": "nothing", "text": "8" }]));
    assert!(wrong["detail"].as_str().is_some_and(|why| why.contains("parameter 1")), "{wrong}");
    let task = declared(json!([
        { "type": "smallint", "text": "8" },
        { "type": "smallint", "binary": true, "bytes_base64": "AAI=" },
    ]));
    let id = task["task"].as_str().unwrap_or_else(|| panic!("{task}")).to_owned();
    let out = gate.deployment.review("alice", &["approve", &id, "--step", "1", "--yes"]);
    assert!(out.status.success(), "{}", both(&out));

    let script = gate.world.path("parameters.py");
    let text = "import psycopg\n\
                conn = psycopg.connect(autocommit=True)\n\
                sql = 'UPDATE accounts SET balance = %t WHERE id = %b'\n\
                conn.execute(sql, (8, 2))\n\
                print('ran', flush=True)\n\
                try:\n\
                \x20   conn.execute(sql, (9, 2))\n\
                except psycopg.errors.InsufficientPrivilege:\n\
                \x20   print('refused')\n";
    std::fs::write(&script, text).expect("written");
    let mut python = gate.agent("teller", "db.test", enforcer_tests::agents::postgres_python());
    python.arg(&script).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = python.spawn().expect("starts");
    // The declared one ran: only the other one is put before people.
    let other = eventually("the other values wait", Duration::from_secs(60), || {
        let out = gate.deployment.review("alice", &["list", "--state", "pending", "--json"]);
        let all: Value = serde_json::from_slice(&out.stdout).ok()?;
        all.as_array()?.first()?["id"].as_str().map(str::to_owned)
    });
    assert_eq!(balance(&gate, 2), "8");
    let out = gate.deployment.review("alice", &["deny", &other, "--reason", "no"]);
    assert!(out.status.success(), "{}", both(&out));
    let out = child.wait_with_output().expect("ends");
    assert!(both(&out).contains("ran\nrefused"), "{}", both(&out));
    gate.verify();
}
