//! A database: psql as it is, each statement judged by what it does.

use crate::stage::{Stage, said};
use enforcer_tests::postgres::{DATABASE, PORT, bin};
use std::process::{Command, Stdio};

/// What the database holds when the scene begins.
pub(crate) const TABLES: &str = "\
    CREATE TABLE orders (id int PRIMARY KEY, email text, total int);\
    INSERT INTO orders VALUES (41, 'ada@example.com', 10), (42, 'grace@example.com', 20);\
    GRANT ALL ON orders TO public";

/// psql as the agent, with no password and no role of the database's own.
fn psql(stage: &Stage, sql: &str) -> Command {
    let mut psql = stage.deployment.agent("demo", bin().join("psql"));
    psql.args(["-X", "-A", "-t", "-c", sql])
        .env("PGHOST", "orders.demo.test")
        .env("PGPORT", PORT.to_string())
        .env("PGUSER", "app")
        .env("PGDATABASE", DATABASE)
        .env("PGSSLMODE", "verify-full")
        .env("PGCONNECT_TIMEOUT", "20")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    psql
}

pub(crate) fn scene(stage: &mut Stage) {
    stage.scene("A database: psql unchanged, each statement judged by what it does");
    let rows = "SELECT id, upper(o.email) AS other_name, o.* FROM orders o ORDER BY id";
    let control = stage.postgres.admin(DATABASE, rows);
    let out = psql(stage, rows).output().expect("starts");
    let text = said(&out);
    let hidden = !text.to_lowercase().contains("example.com");
    stage.guarantee(
        "a column is masked, whatever it is called",
        control.contains("ADA@EXAMPLE.COM") && hidden && text.contains("42|***|42|***|20"),
        &text,
    );
    let delete = "WITH gone AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM gone";
    let text = said(&psql(stage, delete).output().expect("starts"));
    let left = stage.postgres.admin(DATABASE, "SELECT count(*) FROM orders");
    stage.guarantee(
        "a DELETE inside a SELECT is refused as one",
        text.contains("refused by enforcer") && left == "2" && !stage.postgres.saw("WITH gone"),
        &text,
    );
    let update = "UPDATE orders SET total = 25 WHERE id = 42";
    let held = psql(stage, update).spawn().expect("starts");
    let asked = stage.deployment.pending("UPDATE orders");
    let id = asked["id"].as_str().unwrap_or_default().to_owned();
    stage.guarantee(
        "an UPDATE is held; the database has not seen it",
        !stage.postgres.saw(update),
        &format!("approval {id}"),
    );
    stage.approve(&id, "ticket 42");
    let out = held.wait_with_output().expect("ends");
    let total = stage.postgres.admin(DATABASE, "SELECT total FROM orders WHERE id = 42");
    stage.guarantee(
        "approved: the waiting psql goes on",
        said(&out).contains("UPDATE 1") && total == "25",
        &format!("total {total}; {}", said(&out)),
    );
    let out = stage.deployment.transcripts(&["list", "--json", "--target", "orders"]);
    let flows: Vec<serde_json::Value> = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let played = flows.iter().filter_map(|flow| flow["flow"].as_str()).find_map(|flow| {
        let out = stage.deployment.transcripts(&["replay", "--no-wait", flow]);
        said(&out).contains("UPDATE 1").then(|| said(&out))
    });
    let played = played.unwrap_or_default();
    let last: Vec<&str> = played.lines().filter(|line| !line.starts_with('#')).collect();
    stage.guarantee(
        "and can be replayed as psql shows it",
        played.contains(&format!("shop=> {update}")),
        &last.join(" / "),
    );
}
