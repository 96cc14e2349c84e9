//! Real drivers, unchanged: what each says through the gate is what it says straight.

use crate::gate::{Gate, PLAIN_V4, both, said};
use enforcer_tests::agents::{postgres_jdbc, postgres_node, postgres_python};
use enforcer_tests::daemon::built;
use enforcer_tests::postgres::{PLAIN, bin};
use std::fs;
use std::process::Command;

/// Runs a client straight and as the agent `free`; gives what it said, which has to be the same.
fn same(gate: &Gate, what: &str, client: &dyn Fn(Command) -> Command, program: &str) -> String {
    let run = |mut command: Command| command.output().expect("the client starts");
    let straight = run(client(gate.straight(program)));
    assert!(straight.status.success(), "{what} straight: {}", both(&straight));
    let gated = run(client(gate.agent("free", "db.test", program)));
    assert!(
        gated.status.success(),
        "{what} through the gate: {}\nlog: {}",
        both(&gated),
        gate.deployment.log().display()
    );
    assert_eq!(said(&gated), said(&straight), "{what}");
    said(&straight)
}

/// Writes a script where every user can read it.
fn script(gate: &Gate, name: &str, text: &str) -> String {
    let file = gate.world.path(name);
    fs::write(&file, text).expect("written");
    file.display().to_string()
}

fn python(gate: &Gate, name: &str, text: &str) -> String {
    let file = script(gate, name, text);
    let client = |mut command: Command| {
        command.arg(&file).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    same(gate, name, &client, &postgres_python().display().to_string())
}

#[test]
fn psycopg() {
    let gate = Gate::start();
    let words = python(&gate, "psycopg_sync.py", include_str!("drivers/psycopg_sync.py"));
    assert!(words.contains("cancelled 57014"), "{words}");
    let words = python(&gate, "psycopg_async.py", include_str!("drivers/psycopg_async.py"));
    assert!(words.contains("cancelled 57014"), "{words}");
    gate.verify();
}

#[test]
fn asyncpg_and_sqlalchemy() {
    let gate = Gate::start();
    let words = python(&gate, "asyncpg_driver.py", include_str!("drivers/asyncpg_driver.py"));
    assert!(words.contains("timeout\nafter 1"), "{words}");
    let words = python(&gate, "alchemy.py", include_str!("drivers/sqlalchemy_driver.py"));
    assert!(words.contains("keys ['owner']"), "{words}");
    gate.verify();
}

#[test]
fn node_postgres() {
    let gate = Gate::start();
    let file = script(&gate, "driver.js", include_str!("drivers/node_driver.js"));
    let modules = postgres_node().join("node_modules");
    let client = |mut command: Command| {
        command.arg(&file).env("NODE_PATH", &modules);
        command
    };
    let words = same(&gate, "node-postgres", &client, "node");
    assert!(words.contains("heard hi"), "{words}");
    gate.verify();
}

#[test]
fn jdbc() {
    let gate = Gate::start();
    let dir = gate.world.path("jdbc");
    fs::create_dir(&dir).expect("made");
    fs::write(dir.join("Jdbc.java"), include_str!("drivers/Jdbc.java")).expect("written");
    let mut javac = Command::new("javac");
    let out = javac.current_dir(&dir).args(["-cp", postgres_jdbc(), "Jdbc.java"]).output();
    let out = out.expect("javac starts");
    assert!(out.status.success(), "{}", both(&out));
    let client = |mut command: Command| {
        command.args([
            "-Xmx128m",
            "-cp",
            &format!("{}:{}", postgres_jdbc(), dir.display()),
            "Jdbc",
        ]);
        command
    };
    let words = same(&gate, "JDBC", &client, "java");
    assert!(words.contains("timeout 57014"), "{words}");
    gate.verify();
}

/// Straight to the server without TLS, and through the gate to the target that is reached so.
#[test]
fn tokio_postgres() {
    let gate = Gate::start();
    let program = built("postgres-driver");
    let without_tls = |mut command: Command, user: &str, password: &str, host: &str| {
        command.env("PGUSER", user).env("PGPASSWORD", password).env("PGHOST", host);
        command.output().expect("the client starts")
    };
    let password = PLAIN.password.unwrap_or_default();
    let straight = without_tls(gate.straight(&program), PLAIN.name, password, PLAIN_V4);
    assert!(straight.status.success(), "{}", both(&straight));
    let agent = gate.agent("free", "plain.test", &program);
    let gated = without_tls(agent, "app", "not-the-password", "plain.test");
    assert!(gated.status.success(), "{}", both(&gated));
    assert_eq!(said(&gated), said(&straight));
    let words = said(&straight);
    for part in [
        "pipelined 1 1 Err(Some(\"23505\")) 2 1 3",
        "sum 39800",
        "cancelled Some(SqlState(E57014))",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    gate.verify();
}

/// psql's own commands ask the catalog in every way that there is.
#[test]
fn psql() {
    let gate = Gate::start();
    let file = script(
        &gate,
        "all.sql",
        "CREATE SCHEMA p; CREATE TABLE p.t (id serial PRIMARY KEY, a text DEFAULT 'x');\n\
         \\d p.t\n\\dn\n\\dt p.*\n\\df p.*\n\\l\n\\du\n\\dp p.*\n\
         INSERT INTO p.t (a) SELECT 'r' || g FROM generate_series(1, 20) g RETURNING id;\n\
         \\copy p.t (a) FROM PROGRAM 'printf \"one\\\\ntwo\\\\n\"'\n\
         \\copy (SELECT a FROM p.t ORDER BY id DESC LIMIT 3) TO STDOUT CSV\n\
         SELECT 1 AS a \\; SELECT 2 AS b;\n\
         BEGIN; SAVEPOINT s; SELECT 1/0; ROLLBACK TO s; SELECT 'on'; COMMIT;\n\
         \\set FETCH_COUNT 7\nSELECT id FROM p.t ORDER BY id;\n\\set FETCH_COUNT 0\n\
         SELECT format('SELECT %s', g) FROM generate_series(1, 3) g \\gexec\n\
         SELECT id, a FROM p.t WHERE id = 3 \\gset\n\\echo :id :a\n\
         PREPARE q (int) AS SELECT a FROM p.t WHERE id = $1; EXECUTE q (4); DEALLOCATE q;\n\
         DO $$ BEGIN RAISE NOTICE 'from a block'; END $$;\n\
         VACUUM p.t; ANALYZE p.t; TABLE p.t;\n\
         SELECT U&'d\\0061ta', E'\\x41', $tag$dollar$tag$;\n\
         DROP SCHEMA p CASCADE;\n",
    );
    let client = |mut command: Command| {
        command.args(["-X", "-e", "-f", &file]);
        command
    };
    let words = same(&gate, "psql", &client, &bin().join("psql").display().to_string());
    assert!(words.contains("dAtA") || words.contains("data"), "{words}");
    gate.verify();
}
