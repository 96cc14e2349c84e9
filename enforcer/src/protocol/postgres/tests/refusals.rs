//! What policy or people do not let through, and what the agent sees of it.

use super::raw::{self, Raw};
use super::*;
use crate::approval::State;

const NO_DELETE: Plan = Plan {
    rules: r#"
        @id("all") permit (principal, action, resource == Target::"db");
        @id("no-delete") forbid (principal, action == Action::"sql.delete", resource);
    "#,
    masks: "",
    postgres: "",
};

const ASK_UPDATES: Plan = Plan {
    rules: r#"
        @id("all") permit (principal, action, resource == Target::"db")
            unless { action == Action::"sql.update" };
        @id("updates") @approval("people")
            permit (principal, action == Action::"sql.update", resource == Target::"db");
    "#,
    masks: "",
    postgres: "",
};

async fn world(plan: Plan) -> World {
    let world = World::with(plan).await;
    world.admin("CREATE TABLE t (a int); INSERT INTO t VALUES (1); GRANT ALL ON t TO app").await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_statement_says_why_and_the_session_goes_on() {
    let world = world(NO_DELETE).await;
    let printed = world.psql("DELETE FROM t;\nSELECT 'after', a FROM t;\n").await;
    assert!(printed.starts_with("after|1\n"), "{printed}");
    assert!(printed.contains("ERROR:  42501: refused by enforcer"), "{printed}");
    assert!(printed.contains("no-delete"), "{printed}");
    let mut raw = Raw::new(&world).await;
    // A string of which one is refused runs none of them.
    let told = raw.query("INSERT INTO t VALUES (2); DELETE FROM t").until_ready().await;
    assert!(told[0].starts_with("E 42501"), "{told:?}");
    assert_eq!(told[1..], ["Z I"]);
    let told = raw.query("INSERT INTO t VALUES (3); SELECT count(*) FROM t").until_ready().await;
    assert_eq!(told, ["C INSERT 0 1", "T", "D 2", "C SELECT 1", "Z I"]);
    // In the extended protocol the rest of the series is skipped.
    raw.parse("", "DELETE FROM t").bind("", "", &[]).execute("", 0);
    raw.parse("", "SELECT 1").bind("", "", &[]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert_eq!(told[..1], ["1"], "{told:?}");
    assert!(told[1].starts_with("E 42501"), "{told:?}");
    assert_eq!(told[2..], ["Z I"]);
    assert_eq!(world.admin("SELECT count(*) FROM t").await.trim(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_fails_the_transaction_it_is_in() {
    let world = world(NO_DELETE).await;
    let mut raw = Raw::new(&world).await;
    assert_eq!(raw.query("BEGIN").until_ready().await, ["C BEGIN", "Z T"]);
    assert_eq!(raw.query("INSERT INTO t VALUES (2)").until_ready().await[1], "Z T");
    let told = raw.query("DELETE FROM t").until_ready().await;
    assert!(told[0].starts_with("E 42501"), "{told:?}");
    assert_eq!(told[1], "Z E");
    let told = raw.query("SELECT 1").until_ready().await;
    assert!(told[0].starts_with("E 25P02") && told[1] == "Z E", "{told:?}");
    assert_eq!(raw.query("COMMIT").until_ready().await, ["C ROLLBACK", "Z I"]);
    assert_eq!(world.admin("SELECT count(*) FROM t").await.trim(), "1");
    // A series without a block is one transaction too.
    raw.parse("", "INSERT INTO t VALUES (5)").bind("", "", &[]).execute("", 0);
    raw.parse("", "DELETE FROM t").bind("", "", &[]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert_eq!(told[..4], ["1", "2", "C INSERT 0 1", "1"], "{told:?}");
    assert!(told[4].starts_with("E 42501") && told[5] == "Z I", "{told:?}");
    assert_eq!(world.admin("SELECT count(*) FROM t").await.trim(), "1");
    // With a savepoint the transaction can be saved.
    raw.query("BEGIN").until_ready().await;
    raw.query("INSERT INTO t VALUES (6)").until_ready().await;
    raw.query("SAVEPOINT s").until_ready().await;
    assert_eq!(raw.query("DELETE FROM t").until_ready().await[1], "Z E");
    assert_eq!(raw.query("ROLLBACK TO s").until_ready().await, ["C ROLLBACK", "Z T"]);
    assert_eq!(raw.query("COMMIT").until_ready().await, ["C COMMIT", "Z I"]);
    assert_eq!(world.admin("SELECT count(*) FROM t").await.trim(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_statement_goes_on_when_people_approve_it_with_its_parameters() {
    let world = world(ASK_UPDATES).await;
    let mut raw = Raw::new(&world).await;
    raw.parse("up", "UPDATE t SET a = $1").bind("", "up", &["7"]).execute("", 0).sync();
    let people = world.people.clone();
    let approving = tokio::spawn(async move {
        let id = people.next_pending().await;
        let (_, ask, _) = people.requests().pop().unwrap();
        people.approve(id, "alice");
        ask.operation
    });
    let told = raw.until_ready().await;
    assert_eq!(told, ["1", "2", "C UPDATE 1", "Z I"]);
    let operation = approving.await.unwrap();
    assert_eq!(operation.get("sql.parameter.1"), Some(&"7".into()));
    assert_eq!(operation.get("sql.statement"), Some(&"UPDATE t SET a = $1".into()));
    // The same prepared statement with another parameter is another operation.
    raw.bind("", "up", &["8"]).execute("", 0).sync();
    let people = world.people.clone();
    tokio::spawn(async move {
        let id = people.next_pending().await;
        people.deny(id, "bob", "once is enough");
    });
    let told = raw.until_ready().await;
    assert!(told[0].contains("once is enough"), "{told:?}");
    assert_eq!(world.admin("SELECT a FROM t").await.trim(), "7");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_has_the_process_number_that_sql_tells() {
    let world = world(ASK_UPDATES).await;
    let mut raw = Raw::new(&world).await;
    let told = raw.query("SELECT pg_backend_pid()").until_ready().await;
    assert_eq!(told[1], format!("D {}", raw.process));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_request_ends_what_is_held_and_what_runs() {
    let world = world(ASK_UPDATES).await;
    let mut raw = Raw::new(&world).await;
    raw.query("UPDATE t SET a = 9");
    raw.wire.flush().await.unwrap();
    let id = world.people.next_pending().await;
    raw::cancel(&world, raw.process, &raw.key).await;
    let told = raw.until_ready().await;
    assert_eq!(told, ["E 57014 canceling statement due to user request", "Z I"]);
    let state = |id| world.people.requests().into_iter().find(|(other, ..)| *other == id);
    assert!(matches!(state(id).unwrap().2, State::Cancelled));
    // Once the request's own connection has ended, it meets nothing that comes later.
    for _ in 0..5 {
        raw::cancel(&world, raw.process, &raw.key).await;
        let told = raw.query("SELECT 1 FROM pg_sleep(0.1)").until_ready().await;
        assert_eq!(told, ["T", "D 1", "C SELECT 1", "Z I"]);
    }
    // One that runs upstream.
    raw.query("SELECT pg_sleep(60)");
    raw.wire.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A wrong key does nothing.
    raw::cancel(&world, raw.process, &[0; 4]).await;
    raw::cancel(&world, raw.process, &raw.key).await;
    let told = raw.until_ready().await;
    assert!(told.iter().any(|word| word.starts_with("E 57014")), "{told:?}");
    assert_eq!(raw.query("SELECT 1").until_ready().await[1], "D 1");
    assert_eq!(world.admin("SELECT a FROM t").await.trim(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_in_is_told_so() {
    let world = World::with(NO_DELETE).await;
    let args = ["-X", "-c", "SELECT 1", "-U", "mallory"];
    let (printed, done) = world.client("psql", &args, "").await;
    assert!(!done && printed.contains("maps user \"mallory\" to no role"), "{printed}");
    world.reload(Plan {
        rules: r#"@id("x") forbid (principal, action, resource == Target::"db");"#,
        ..Plan::default()
    });
    let (printed, done) = world.client("psql", &["-X", "-c", "SELECT 1"], "").await;
    assert!(!done && printed.contains("refused by enforcer"), "{printed}");
    let (printed, done) = world.client("psql", &["-X", "dbname=shop replication=true"], "").await;
    assert!(!done && printed.contains("replication"), "{printed}");
}
