//! Sessions of real clients from their start to their end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn psql_runs_its_statements_and_each_is_recorded() {
    let world = World::new().await;
    let printed = world
        .psql("CREATE TABLE t (a int, b text);\nINSERT INTO t VALUES (1, 'x'), (2, NULL);\n\
               SELECT a, b FROM t ORDER BY a;\nSELECT 1/0;\nSELECT 'after';\n")
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
