//! Statements that need a person: held, approved, denied, cancelled; and who can sign in how.

use crate::gate::{Gate, both, said};
use enforcer_tests::postgres::{CERTIFICATE, CLEAR, DATABASE, MD5, OWNS, SCRAM, bin};
use enforcer_tests::wait::eventually;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE accounts (id int PRIMARY KEY, balance int);
INSERT INTO accounts VALUES (1, 100), (2, 200);";

fn ready() -> Gate {
    let gate = Gate::start();
    gate.postgres.admin(DATABASE, &format!("SET ROLE {};\n{TABLE}", OWNS.name));
    gate
}

/// psql of the agent `teller` with these strings, running.
fn teller(gate: &Gate, strings: &[&str]) -> Child {
    let mut psql = gate.agent("teller", "db.test", bin().join("psql"));
    psql.args(["-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose"]);
    for string in strings {
        psql.args(["-c", string]);
    }
    psql.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("psql starts")
}

fn decide(gate: &Gate, what: &str, how: &str) {
    let asked = gate.deployment.pending(what);
    let id = asked["id"].as_str().expect("an id").to_owned();
    let mut words = vec![how, &id, "--reason", "seen"];
    if how == "approve" {
        words.push("--yes");
    }
    let out = gate.deployment.review("alice", &words);
    assert!(out.status.success(), "{}", both(&out));
}

fn balance(gate: &Gate, id: u32) -> String {
    gate.postgres.admin(DATABASE, &format!("SELECT balance FROM accounts WHERE id = {id}"))
}

#[test]
fn a_held_statement_runs_once_a_person_agrees() {
    let gate = ready();
    let held = teller(&gate, &["UPDATE accounts SET balance = 1 WHERE id = 1", "SELECT 'after'"]);
    let asked = gate.deployment.pending("UPDATE accounts SET balance = 1");
    assert_eq!(balance(&gate, 1), "100", "nothing runs before");
    assert!(asked.to_string().contains("sql.update"), "{asked}");
    decide(&gate, "UPDATE accounts SET balance = 1", "approve");
    let out = held.wait_with_output().expect("psql ends");
    assert!(out.status.success(), "{}", both(&out));
    assert_eq!(said(&out), "after");
    assert_eq!(balance(&gate, 1), "1");
    gate.verify();
}

#[test]
fn a_denied_statement_never_runs_and_the_session_goes_on() {
    let gate = ready();
    let held = teller(&gate, &["UPDATE accounts SET balance = 2 WHERE id = 1", "SELECT 'after'"]);
    decide(&gate, "UPDATE accounts SET balance = 2", "deny");
    let out = held.wait_with_output().expect("psql ends");
    let words = both(&out);
    assert!(words.contains("42501: refused by enforcer"), "{words}");
    assert!(words.contains("after"), "the connection stays usable: {words}");
    assert_eq!(balance(&gate, 1), "100");
    gate.verify();
}

/// Ctrl-C in psql is a cancel request; the hold ends and nothing runs.
#[test]
fn a_cancelled_hold_never_runs() {
    let gate = ready();
    let script = gate.world.path("cancel.py");
    fs::write(
        &script,
        "import threading, psycopg\n\
         conn = psycopg.connect(autocommit=True)\n\
         threading.Timer(3, conn.cancel).start()\n\
         try:\n\
         \x20   conn.execute('UPDATE accounts SET balance = 3 WHERE id = 1')\n\
         \x20   print('ran')\n\
         except psycopg.errors.QueryCanceled as error:\n\
         \x20   print('cancelled', error.sqlstate)\n\
         print('after', conn.execute('SELECT 1').fetchone())\n",
    )
    .expect("written");
    let mut python = gate.agent("teller", "db.test", enforcer_tests::agents::postgres_python());
    let out = python.arg(&script).output().expect("starts");
    assert_eq!(said(&out), "cancelled 57014\nafter (1,)", "{}", both(&out));
    assert_eq!(balance(&gate, 1), "100");
    eventually("the request is withdrawn", Duration::from_secs(10), || {
        let out = gate.deployment.review("alice", &["list", "--json"]);
        (!both(&out).contains("\"pending\"")).then_some(())
    });
    gate.verify();
}

/// What was approved with one parameter is not approved with another.
#[test]
fn an_approval_is_for_its_parameters() {
    let gate = ready();
    let script = gate.world.path("parameters.py");
    fs::write(
        &script,
        "import psycopg\n\
         conn = psycopg.connect(autocommit=True)\n\
         sql = 'UPDATE accounts SET balance = %s WHERE id = %s'\n\
         for values in ((10, 1), (999, 2)):\n\
         \x20   try:\n\
         \x20       conn.execute(sql, values, prepare=True)\n\
         \x20       print('ran', values)\n\
         \x20   except psycopg.errors.InsufficientPrivilege as error:\n\
         \x20       print('refused', values)\n",
    )
    .expect("written");
    let mut python = gate.agent("teller", "db.test", enforcer_tests::agents::postgres_python());
    python.arg(&script).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = python.spawn().expect("starts");
    decide(&gate, "accounts SET balance", "approve");
    decide(&gate, "999", "deny");
    let out = child.wait_with_output().expect("ends");
    assert_eq!(said(&out), "ran (10, 1)\nrefused (999, 2)", "{}", both(&out));
    assert_eq!((balance(&gate, 1), balance(&gate, 2)), ("10".to_owned(), "200".to_owned()));
    gate.verify();
}

/// Of a pipeline, nothing behind what was refused runs.
#[test]
fn nothing_behind_a_refusal_in_a_pipeline_runs() {
    let gate = ready();
    let script = gate.world.path("pipeline.py");
    fs::write(
        &script,
        "import psycopg\n\
         conn = psycopg.connect(autocommit=True)\n\
         try:\n\
         \x20   with conn.pipeline():\n\
         \x20       a = conn.execute('SELECT 1')\n\
         \x20       conn.execute('DROP TABLE accounts')\n\
         \x20       conn.execute('SELECT 2 /* behind */')\n\
         except psycopg.Error as error:\n\
         \x20   print(error.sqlstate)\n\
         print(conn.execute('SELECT count(*) FROM accounts').fetchone())\n",
    )
    .expect("written");
    let mut python = gate.agent("reader", "db.test", enforcer_tests::agents::postgres_python());
    let out = python.arg(&script).output().expect("starts");
    assert_eq!(said(&out), "42501\n(2,)", "{}", both(&out));
    assert!(!gate.postgres.saw("DROP TABLE") && !gate.postgres.saw("/* behind */"));
    gate.verify();
}

#[test]
fn the_proxy_signs_in_by_every_method_and_the_agent_by_none() {
    let gate = ready();
    for (user, role) in
        [("scram", SCRAM), ("md5", MD5), ("clear", CLEAR), ("cert", CERTIFICATE), ("app", OWNS)]
    {
        let mut psql = gate.agent("reader", "db.test", bin().join("psql"));
        psql.args(["-X", "-A", "-t", "-c", "SELECT current_user"]).env("PGUSER", user);
        psql.env_remove("PGPASSWORD");
        let out = psql.output().expect("starts");
        assert_eq!(said(&out), role.name, "{user}: {}", both(&out));
    }
    let mut psql = gate.agent("reader", "plain.test", bin().join("psql"));
    psql.args(["-X", "-A", "-t", "-c", "SELECT current_user"]);
    assert_eq!(said(&psql.output().expect("starts")), "shop_plain");
    // Without TLS on the agent's side, and with no user that policy knows.
    let mut psql = gate.agent("reader", "db.test", bin().join("psql"));
    psql.args(["-X", "-A", "-t", "-c", "SELECT current_user"]).env("PGSSLMODE", "disable");
    assert_eq!(said(&psql.output().expect("starts")), OWNS.name);
    for user in ["shop_super", "postgres", "nobody"] {
        let mut psql = gate.agent("reader", "db.test", bin().join("psql"));
        let out = psql.args(["-X", "-c", "SELECT 1"]).env("PGUSER", user).output().expect("starts");
        assert!(both(&out).contains("refused by enforcer"), "{user}: {}", both(&out));
    }
    // No password is in what is kept.
    let all = both(&gate.deployment.transcripts(&["export", "--format", "jsonl"]));
    for secret in [SCRAM.password, MD5.password, CLEAR.password, OWNS.password] {
        assert!(!all.contains(secret.expect("it has one")));
    }
    assert!(!all.contains("not-the-password"));
    gate.verify();
}

/// Replication and the function-call message are refused unless the target names them.
#[test]
fn replication_is_refused() {
    let gate = ready();
    let mut psql = gate.agent("free", "db.test", bin().join("psql"));
    psql.args(["-X", "-A", "-t", "-c", "IDENTIFY_SYSTEM"]).arg("replication=database");
    let out = psql.output().expect("starts");
    assert!(!out.status.success() && both(&out).contains("enforcer"), "{}", both(&out));
}

/// Where it names them PostgreSQL's own programs work as they do without the gate: a backup is
/// taken and can be verified, and large objects come back as they were.
#[test]
fn a_backup_and_large_objects_come_through_where_they_are_named() {
    let gate = Gate::start_with("allow = [\"replication\", \"function-call\"]");
    // The agent is not root.
    let own = gate.world.path("own");
    fs::create_dir(&own).expect("made");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).expect("set");
    let dir = own.join("backup");
    let mut backup = gate.agent("free", "db.test", bin().join("pg_basebackup"));
    backup.env("PGUSER", "scram").args(["-X", "stream", "-c", "fast", "--no-sync", "-D"]).arg(&dir);
    let out = backup.output().expect("starts");
    assert!(out.status.success(), "{}", both(&out));
    let verified = Command::new(bin().join("pg_verifybackup")).arg(&dir).output().expect("starts");
    assert!(verified.status.success(), "{}", both(&verified));
    // Another agent has no rule for it.
    let mut refused = gate.agent("reader", "db.test", bin().join("pg_basebackup"));
    refused.env("PGUSER", "scram").args(["-D", "/nowhere"]);
    let out = refused.output().expect("starts");
    assert!(!out.status.success() && both(&out).contains("enforcer"), "{}", both(&out));

    let (from, to) = (own.join("object"), own.join("object.again"));
    let bytes: Vec<u8> = (0..70_000_u32).map(|n| (n % 253) as u8).collect();
    fs::write(&from, &bytes).expect("written");
    let script = own.join("objects.sql");
    let lines =
        format!("\\lo_import '{}'\n\\lo_export :LASTOID '{}'\n", from.display(), to.display());
    fs::write(&script, lines).expect("written");
    let psql = |agent: &str| {
        let mut psql = gate.agent(agent, "db.test", bin().join("psql"));
        psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-f"]).arg(&script);
        psql.output().expect("starts")
    };
    let out = psql("reader");
    assert!(!out.status.success() && both(&out).contains("refused by enforcer"), "{}", both(&out));
    let out = psql("free");
    assert_eq!(fs::read(&to).ok(), Some(bytes), "{}", both(&out));
    gate.verify();
}
