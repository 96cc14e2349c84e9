//! The replication protocol with PostgreSQL's own clients.

use super::raw::Raw;
use super::*;

const ALLOWED: &str = "allow = [\"replication\"]";
const TAKEN: Plan = Plan { rules: RULES, masks: "", postgres: ALLOWED };

async fn world(plan: Plan) -> World {
    let world = World::with(plan).await;
    let made = "ALTER ROLE app REPLICATION; CREATE TABLE t (a int); GRANT ALL ON t TO app";
    world.admin(made).await;
    world
}

async fn commands(world: &World) -> Vec<(String, String)> {
    let operations = world.operations().await;
    let replication = operations.iter().filter(|(asked, ..)| asked.action == "sql.replication");
    replication
        .map(|(asked, _, end)| {
            let text = asked.facts.iter().find(|fact| fact.name == "sql.statement").unwrap();
            (crate::record::view::fact_text(text), end.outcome.clone())
        })
        .collect()
}

async fn lsn(world: &World) -> String {
    world.admin("SELECT pg_current_wal_lsn()").await.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_backup_is_taken_and_recorded() {
    let world = world(TAKEN).await;
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("backup");
    let args = ["-D", to.to_str().unwrap(), "-Ft", "-X", "stream", "-c", "fast", "--no-sync"];
    let (printed, done) = world.client("pg_basebackup", &args, "").await;
    assert!(done, "{printed}");
    assert!(to.join("base.tar").metadata().unwrap().len() > 10_000_000);
    assert!(to.join("pg_wal.tar").metadata().unwrap().len() > 1_000_000);
    let commands = commands(&world).await;
    let ended = |start: &str| {
        let one = commands.iter().find(|(text, _)| text.starts_with(start));
        one.map(|(_, outcome)| outcome.as_str())
    };
    assert_eq!(ended("BASE_BACKUP"), Some("complete"), "{commands:?}");
    assert_eq!(ended("START_REPLICATION"), Some("complete"), "{commands:?}");
    assert_eq!(ended("IDENTIFY_SYSTEM"), Some("complete"), "{commands:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_received_as_it_is_written() {
    let world = world(TAKEN).await;
    let dir = tempfile::tempdir().unwrap();
    world.admin("INSERT INTO t SELECT generate_series(1, 1000); SELECT pg_switch_wal()").await;
    world.admin("INSERT INTO t SELECT generate_series(1, 1000)").await;
    let end = lsn(&world).await;
    let args = ["-D", dir.path().to_str().unwrap(), "-n", "--no-sync", "--endpos", &end];
    let (printed, done) = world.client("pg_receivewal", &args, "").await;
    assert!(done, "{printed}");
    let count = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(count > 0, "{printed}");
    let commands = commands(&world).await;
    assert!(commands.iter().any(|(text, _)| text.starts_with("START_REPLICATION")), "{commands:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_decoded_on_a_connection_to_a_database() {
    let world = world(TAKEN).await;
    let slot = ["-d", "shop", "--slot", "s"];
    let create = [&slot[..], &["--create-slot", "-P", "test_decoding"]].concat();
    let (printed, done) = world.client("pg_recvlogical", &create, "").await;
    assert!(done, "{printed}");
    // Written out before the position is asked for, or the stream could end before it.
    world.admin("SET synchronous_commit = on; INSERT INTO t VALUES (4711)").await;
    let end = lsn(&world).await;
    let start = [&slot[..], &["--start", "--endpos", &end, "-f", "-", "-n", "-v"]].concat();
    let (printed, done) = world.client("pg_recvlogical", &start, "").await;
    assert!(done && printed.contains("a[integer]:4711"), "{done} {printed}");
    let (printed, done) =
        world.client("pg_recvlogical", &[&slot[..], &["--drop-slot"]].concat(), "").await;
    assert!(done, "{printed}");
    let flows = world.transcripts().await;
    let came = flows.iter().flatten().any(|event| match &event.kind {
        Some(Kind::ResponseBody(body)) => body.data.windows(4).any(|part| part == b"4711"),
        _ => false,
    });
    assert!(came, "the stream is recorded");
    let commands = commands(&world).await;
    for start in ["CREATE_REPLICATION_SLOT", "START_REPLICATION SLOT", "DROP_REPLICATION_SLOT"] {
        assert!(commands.iter().any(|(text, _)| text.starts_with(start)), "{start}: {commands:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_on_such_a_connection_is_judged_as_sql() {
    const NO_DROP: Plan = Plan {
        rules: r#"
            @id("all") permit (principal, action, resource == Target::"db")
            unless { context has statement && context.statement like "DROP_REPLICATION*" };
            @id("no-drop") forbid (principal, action in Action::"sql.ddl", resource);
        "#,
        ..TAKEN
    };
    let world = world(NO_DROP).await;
    let mut raw = Raw::with(&world, 0, &[("replication", "database")]).await;
    let told = raw.query("SHOW wal_level").until_ready().await;
    assert_eq!(told, ["T", "D logical", "C SHOW", "Z I"]);
    let told = raw.query("SELECT count(*) FROM t").until_ready().await;
    assert_eq!(told[1..], ["D 0", "C SELECT 1", "Z I"]);
    for refused in ["DROP TABLE t", "SHOW wal_level; DROP TABLE t", "DROP_REPLICATION_SLOT none"] {
        let told = raw.query(refused).until_ready().await;
        assert!(told[0].starts_with("E 42501"), "{refused}: {told:?}");
    }
    // In a transaction a refusal fails it.
    assert_eq!(raw.query("BEGIN").until_ready().await, ["C BEGIN", "Z T"]);
    assert_eq!(raw.query("DROP TABLE t").until_ready().await[1..], ["Z E"]);
    assert_eq!(raw.query("ROLLBACK").until_ready().await, ["C ROLLBACK", "Z I"]);
    // As the server says it of a walsender.
    let told = raw.parse("", "SELECT 1").bind("", "", &[]).execute("", 0).sync();
    let told = told.until_ready().await;
    assert!(told[0].starts_with("E 08P01") && told[1..] == ["Z I"], "{told:?}");
    let told = raw.call(1, 0, &[]).until_ready().await;
    assert!(told[0].starts_with("E 08P01") && told[1..] == ["Z I"], "{told:?}");
    assert_eq!(world.admin("SELECT count(*) FROM t").await.trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_refused_where_nobody_named_it_and_where_masks_apply() {
    const UNNAMED: Plan = Plan { postgres: "", ..TAKEN };
    const NO_RULE: Plan = Plan {
        rules: r#"
            @id("all-but") permit (principal, action, resource == Target::"db")
            unless { action == Action::"sql.replication" };
        "#,
        ..TAKEN
    };
    const MASKED: Plan = Plan {
        masks: "[[mask]]\nname = \"keys\"\ntargets = [\"db\"]\ndetectors = [\"github_pat\"]\n",
        ..TAKEN
    };
    let world = world(UNNAMED).await;
    let args = ["-X", "-A", "-t", "-c", "IDENTIFY_SYSTEM", "replication=database"];
    for (plan, why) in [
        (UNNAMED, "does not take the replication protocol"),
        (NO_RULE, "refused by enforcer"),
        (MASKED, "cannot be masked"),
    ] {
        world.reload(plan);
        let (printed, done) = world.client("psql", &args, "").await;
        assert!(!done && printed.contains(why), "{why}: {printed}");
    }
    world.reload(TAKEN);
    let (printed, done) = world.client("psql", &args, "").await;
    assert!(done && printed.contains("|shop"), "{printed}");
    // A mask that comes while the connection is open is seen by the next command.
    let mut raw = Raw::with(&world, 0, &[("replication", "true")]).await;
    assert_eq!(raw.query("IDENTIFY_SYSTEM").until_ready().await.last().unwrap(), "Z I");
    world.reload(MASKED);
    let told = raw.query("IDENTIFY_SYSTEM").until_ready().await;
    assert!(told[0].contains("cannot be masked") && told[1..] == ["Z I"], "{told:?}");
}
