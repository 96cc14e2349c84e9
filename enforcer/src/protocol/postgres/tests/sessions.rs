//! Sessions of real clients from their start to their end.

use super::raw::Raw;
use super::*;
use crate::protocol::postgres::codec::copy;
use crate::protocol::postgres::codec::frontend::{self, Named};

#[tokio::test(flavor = "multi_thread")]
async fn psql_runs_its_statements_and_each_is_recorded() {
    let world = World::new().await;
    let printed = world
        .psql(
            "CREATE TABLE t (a int, b text);\nINSERT INTO t VALUES (1, 'x'), (2, NULL);\n\
               SELECT a, b FROM t ORDER BY a;\nSELECT 1/0;\nSELECT 'after';\n",
        )
        .await;
    assert!(printed.starts_with("1|x\n2|\nafter\n"), "{printed}");
    assert!(printed.contains("22012"), "{printed}");
    let operations = world.operations().await;
    let actions: Vec<_> = operations.iter().map(|(asked, ..)| asked.action.as_str()).collect();
    assert!(actions.contains(&"sql.connect") && actions.contains(&"sql.insert"), "{actions:?}");
    assert_eq!(actions.len(), 6, "{actions:?}");
    let failed: Vec<_> = operations.iter().filter(|(.., end)| end.outcome == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0].2.error.contains("22012"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbench_completes_in_every_mode_with_correct_balances() {
    let world = World::new().await;
    let (printed, done) = world.client("pgbench", &["-i", "-s", "1", "-q"], "").await;
    assert!(done, "{printed}");
    for mode in ["simple", "extended", "prepared"] {
        let args = ["-n", "-c", "4", "-j", "2", "-t", "25", "-M", mode];
        let (printed, done) = world.client("pgbench", &args, "").await;
        assert!(done, "{mode}: {printed}");
        assert!(printed.contains("actually processed: 100/100"), "{mode}: {printed}");
        assert!(printed.contains("failed transactions: 0"), "{mode}: {printed}");
    }
    let balances = world
        .admin(
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM \
             pgbench_branches) AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT \
             sum(delta) FROM pgbench_history), (SELECT count(*) FROM pgbench_history)",
        )
        .await;
    assert_eq!(balances.trim(), "t|300");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_ended_with_a_leaf_for_the_flow() {
    let world = World::new().await;
    let args = ["-X", "-A", "-t", "-c", "SELECT 1"];
    let (printed, done) = world.client_with("psql", &args, "", "require").await;
    assert!(done && printed.starts_with('1'), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn portals_cursors_and_copies_come_through_whole() {
    let world = World::new().await;
    let mut raw = Raw::new(&world).await;
    let told = raw.query("CREATE TABLE t (a int, b text)").until_ready().await;
    assert_eq!(told, ["C CREATE TABLE", "Z I"]);
    // COPY IN and OUT.
    raw.query("COPY t FROM STDIN");
    assert_eq!(raw.one().await, "G");
    copy::put_data(raw.out(), b"1\tone\n2\ttwo\n");
    copy::put_data(raw.out(), b"3\tthree\n");
    raw.bare(copy::DONE);
    assert_eq!(raw.until_ready().await, ["C COPY 3", "Z I"]);
    let told = raw.query("COPY t TO STDOUT").until_ready().await;
    assert_eq!(told, ["H", "d", "d", "d", "c", "C COPY 3", "Z I"]);
    raw.query("COPY t FROM STDIN");
    assert_eq!(raw.one().await, "G");
    copy::put_fail(raw.out(), "changed my mind");
    let told = raw.until_ready().await;
    assert!(told[0].starts_with("E 57014") && told[1] == "Z I", "{told:?}");
    // A portal in parts, inside a transaction.
    raw.query("BEGIN").until_ready().await;
    raw.parse("s", "SELECT a FROM t WHERE a >= $1 ORDER BY a").bind("p", "s", &["1"]);
    raw.describe(Named::Portal("p".into())).execute("p", 2).sync();
    assert_eq!(raw.until_ready().await, ["1", "2", "T", "D 1", "D 2", "s", "Z T"]);
    raw.execute("p", 2).sync();
    assert_eq!(raw.until_ready().await, ["D 3", "C SELECT 1", "Z T"]);
    raw.close(Named::Portal("p".into())).close(Named::Statement("s".into())).sync();
    assert_eq!(raw.until_ready().await, ["3", "3", "Z T"]);
    assert_eq!(raw.query("COMMIT").until_ready().await, ["C COMMIT", "Z I"]);
    // What is not there.
    raw.bind("", "s", &["1"]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert!(told[0].starts_with("E 26000") && told[1..] == ["Z I"], "{told:?}");
    raw.execute("p", 0).sync();
    assert!(raw.until_ready().await[0].starts_with("E 34000"));
    // Described before it is bound, and with a Flush in between.
    raw.parse("", "SELECT $1::int + 1").describe(Named::Statement(String::new()));
    raw.bind("", "", &["4"]).describe(Named::Portal(String::new())).bare(frontend::FLUSH);
    for want in ["1", "t", "T", "2", "T"] {
        assert_eq!(raw.one().await, want);
    }
    raw.execute("", 0).sync();
    assert_eq!(raw.until_ready().await, ["D 5", "C SELECT 1", "Z I"]);
    assert_eq!(raw.query("").until_ready().await, ["I", "Z I"]);
    let told = raw.call(1, 0, &[]).until_ready().await;
    assert!(told[0].starts_with("E 42501") && told[1] == "Z I", "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_negotiated_and_keys_are_of_the_versions_length() {
    let world = World::new().await;
    let old = Raw::new(&world).await;
    assert_eq!((old.key.len(), old.negotiated), (4, false));
    let new = Raw::with(&world, 2, &[]).await;
    assert_eq!((new.key.len(), new.negotiated), (32, false));
    let newest = Raw::with(&world, 9, &[("_pq_.future", "on")]).await;
    assert_eq!((newest.key.len(), newest.negotiated), (32, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_leave_the_session_as_the_server_would() {
    let world = World::new().await;
    let mut raw = Raw::new(&world).await;
    let told = raw.query("SELECT 1; SELECT 1/0; SELECT 2").until_ready().await;
    assert_eq!(told[..3], ["T", "D 1", "C SELECT 1"]);
    assert!(told.iter().any(|word| word.starts_with("E 22012")), "{told:?}");
    assert_eq!(told.last().unwrap(), "Z I");
    raw.parse("", "SELECT nonsense FROM nowhere").bind("", "", &[]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert!(told[0].starts_with("E 42P01") && told[1..] == ["Z I"], "{told:?}");
    raw.parse("", "SELECT 1/$1::int").bind("", "", &["0"]).execute("", 0);
    raw.parse("", "SELECT 2").bind("", "", &[]).execute("", 0).sync();
    let told = raw.until_ready().await;
    assert!(told.iter().any(|word| word.starts_with("E 22012")), "{told:?}");
    assert_eq!(told.last().unwrap(), "Z I");
    assert!(!told.contains(&"D 2".to_owned()), "{told:?}");
    let told = raw.query("SELEC 1").until_ready().await;
    assert!(told[0].starts_with("E 42601 refused by enforcer") && told[1] == "Z I", "{told:?}");
    assert_eq!(raw.query("SELECT 3").until_ready().await[1], "D 3");
    // Strings of which no statement depends on what another changes run as they are.
    let told = raw
        .query("SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL; SET x.y = '1'")
        .until_ready()
        .await;
    assert_eq!(
        told[2..],
        ["C SELECT 1", "C CLOSE CURSOR ALL", "C UNLISTEN", "C RESET", "C SET", "Z I"]
    );
    // Notifications come to who waits for them.
    raw.query("LISTEN news").until_ready().await;
    world.admin("NOTIFY news, 'hello'").await;
    assert_eq!(raw.one().await, "A news hello");
}

/// A transaction that failed ends with `PREPARE TRANSACTION`, too: it is rolled back.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_transaction_ends_however_it_is_ended() {
    let world = World::new().await;
    let mut raw = Raw::new(&world).await;
    raw.parse("s", "SELECT 1").sync().until_ready().await;
    for end in ["ROLLBACK", "COMMIT", "PREPARE TRANSACTION 'never'"] {
        raw.query("BEGIN").until_ready().await;
        let told = raw.query("SELECT 1/0").until_ready().await;
        assert_eq!(told.last().map(String::as_str), Some("Z E"), "{end}: {told:?}");
        let told = raw.query("SELECT 1").until_ready().await;
        assert!(told[0].starts_with("E 25P02"), "{end}: {told:?}");
        let told = raw.describe(Named::Statement("s".to_owned())).sync().until_ready().await;
        assert!(told[0].starts_with("E 25P02"), "{end}: {told:?}");
        // As drivers do that ask first what a statement has.
        raw.parse("", end).describe(Named::Statement(String::new())).sync();
        assert_eq!(raw.until_ready().await, ["1", "t", "n", "Z E"], "{end}");
        assert_eq!(raw.query(end).until_ready().await, ["C ROLLBACK", "Z I"], "{end}");
        let told = raw.query("SELECT 2").until_ready().await;
        assert_eq!(told, ["T", "D 2", "C SELECT 1", "Z I"], "{end}");
    }
}

/// The connection that asks for the catalog does not keep a database from being dropped.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_looked_at_can_be_dropped() {
    let world = World::new().await;
    world.admin("ALTER ROLE app CREATEDB").await;
    let printed = world
        .psql(
            "CREATE DATABASE other;\n\\c other\nCREATE TABLE t (a int);\n\
             SELECT current_database(), count(*) FROM t;\n\\c shop\n\
             CREATE DATABASE another TEMPLATE other;\nALTER DATABASE other RENAME TO third;\n\
             DROP DATABASE third;\nDROP DATABASE another;\nSELECT 'dropped';\n",
        )
        .await;
    assert!(printed.starts_with("other|0\ndropped"), "{printed}");
    assert!(!printed.contains("ERROR"), "{printed}");
}
