//! A portal runs what it was bound to, or nothing.

use super::raw::Raw;
use super::*;
use crate::protocol::postgres::codec::frontend::{self, Named};

const MASKS: &str =
    "[[mask]]\nname = \"mail\"\ntargets = [\"db\"]\ncolumns = [\"public.users.email\"]\n";

/// What no agent may see.
const SECRET: &str = "ada@secret.example";

async fn world(postgres: &'static str) -> World {
    let world = World::with(Plan { masks: MASKS, postgres, ..Plan::default() }).await;
    world
        .admin(&format!(
            "CREATE TABLE users (id int, email text); INSERT INTO users VALUES (1, '{SECRET}');\
             CREATE FUNCTION swap() RETURNS void LANGUAGE plpgsql AS $$ \
             DECLARE c refcursor := 'p'; BEGIN CLOSE c; OPEN c FOR SELECT email FROM users; END $$;\
             GRANT ALL ON users TO app"
        ))
        .await;
    world
}

/// Nothing of it is a row, and the error says that the gate refused.
fn refused(told: &[String]) {
    assert!(told.iter().any(|word| word.starts_with("E 42501 refused by enforcer")), "{told:?}");
    assert!(!told.iter().any(|word| word.starts_with("D ")), "{told:?}");
}

/// `Bind` goes upstream with the first call: by then the name may be another statement's.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_was_replaced_is_not_run_in_its_name() {
    let world = world("").await;
    for named in ["", "s"] {
        let mut raw = Raw::new(&world).await;
        raw.query("BEGIN").until_ready().await;
        raw.parse(named, "SELECT id FROM users").bind("p", named, &[]).bare(frontend::FLUSH);
        assert_eq!((raw.one().await, raw.one().await), ("1".to_owned(), "2".to_owned()));
        if !named.is_empty() {
            raw.close(Named::Statement(named.to_owned()));
        }
        raw.parse(named, "SELECT email FROM users").execute("p", 0).sync();
        let told = raw.until_ready().await;
        refused(&told);
        assert_eq!(told.last().map(String::as_str), Some("Z E"), "{told:?}");
    }
    // By the SQL of the same, and for a statement that needs no judging.
    let mut raw = Raw::new(&world).await;
    raw.query("BEGIN").until_ready().await;
    raw.parse("s", "SAVEPOINT a").bind("p", "s", &[]).sync();
    raw.until_ready().await;
    raw.query("DEALLOCATE s").until_ready().await;
    raw.query("PREPARE s AS SELECT email FROM users").until_ready().await;
    refused(&raw.execute("p", 0).sync().until_ready().await);
    // By its own name it runs, masked.
    raw.query("ROLLBACK").until_ready().await;
    let told = raw.query("EXECUTE s").until_ready().await;
    assert!(told.contains(&"D ***".to_owned()), "{told:?}");
}

/// A portal with rows left and a cursor are one thing to the server.
#[tokio::test(flavor = "multi_thread")]
async fn another_cursor_of_its_name_is_not_read_as_the_portal() {
    let world = world("").await;
    let mut raw = Raw::new(&world).await;
    raw.query("BEGIN").until_ready().await;
    raw.parse("", "SELECT g FROM generate_series(1, 3) g").bind("p", "", &[]).execute("p", 1);
    assert_eq!(raw.sync().until_ready().await, ["1", "2", "D 1", "s", "Z T"]);
    assert_eq!(raw.query("CLOSE p").until_ready().await, ["C CLOSE CURSOR", "Z T"]);
    raw.query("DECLARE p CURSOR FOR SELECT email FROM users").until_ready().await;
    let told = raw.query("FETCH p").until_ready().await;
    assert!(told.contains(&"D ***".to_owned()), "{told:?}");
    raw.query("MOVE BACKWARD ALL IN p").until_ready().await;
    let told = raw.execute("p", 1).sync().until_ready().await;
    assert!(told[0].starts_with("E 34000"), "{told:?}");
}

/// Nor where code that ran meanwhile put it there.
#[tokio::test(flavor = "multi_thread")]
async fn a_portal_that_code_replaced_is_not_read_on() {
    let world = world("untraceable = \"allow\"\n").await;
    let mut raw = Raw::new(&world).await;
    for (code, read_on) in [("SELECT 1", true), ("SELECT swap()", false)] {
        raw.query("BEGIN").until_ready().await;
        raw.parse("", "SELECT g FROM generate_series(1, 3) g").bind("p", "", &[]).execute("p", 1);
        assert_eq!(raw.sync().until_ready().await, ["1", "2", "D 1", "s", "Z T"]);
        let told = raw.query(code).until_ready().await;
        assert_eq!(told.last().map(String::as_str), Some("Z T"), "{told:?}");
        let told = raw.execute("p", 1).sync().until_ready().await;
        match read_on {
            true => assert_eq!(told, ["D 2", "s", "Z T"]),
            false => refused(&told),
        }
        raw.query("ROLLBACK").until_ready().await;
    }
}

/// What was open when a transaction failed is not run, for that reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_portal_of_a_failed_transaction_is_not_run() {
    let world = World::new().await;
    let mut raw = Raw::new(&world).await;
    raw.query("BEGIN").until_ready().await;
    raw.parse("", "SELECT 2 / (2 - g) FROM generate_series(1, 3) g").bind("p", "", &[]);
    let told = raw.execute("p", 1).sync().until_ready().await;
    assert_eq!(told, ["1", "2", "D 2", "s", "Z T"]);
    let told = raw.execute("p", 1).sync().until_ready().await;
    assert!(told[0].starts_with("E 22012"), "{told:?}");
    let told = raw.execute("p", 1).sync().until_ready().await;
    assert!(told[0].starts_with("E 25P02") && told[1..] == ["Z E"], "{told:?}");
    raw.query("ROLLBACK").until_ready().await;
    let told = raw.execute("p", 1).sync().until_ready().await;
    assert!(told[0].starts_with("E 34000"), "{told:?}");
}

/// SQL reads on from a portal with rows left: as the statement that it is, with its parameters.
#[tokio::test(flavor = "multi_thread")]
async fn a_portal_with_rows_left_is_fetched_from_by_its_name() {
    const RULES: &str = r#"
@id("all")
permit (principal, action, resource);
@id("not-seven")
forbid (principal, action == Action::"sql.cursor", resource)
when { context.parameters.hasTag("1") && context.parameters.getTag("1") == "7" };
"#;
    let world = World::with(Plan { rules: RULES, ..Plan::default() }).await;
    let mut raw = Raw::new(&world).await;
    raw.parse("s", "SELECT g FROM generate_series(1, $1::int) g").sync().until_ready().await;
    for (count, read_on) in [("5", true), ("7", false)] {
        raw.query("BEGIN").until_ready().await;
        raw.bind("p", "s", &[count]).execute("p", 1).sync();
        assert_eq!(raw.until_ready().await, ["2", "D 1", "s", "Z T"]);
        let told = raw.query("FETCH 1 FROM p").until_ready().await;
        if !read_on {
            refused(&told);
            raw.query("ROLLBACK").until_ready().await;
            continue;
        }
        assert_eq!(told, ["T", "D 2", "C FETCH 1", "Z T"]);
        assert_eq!(raw.query("MOVE 2 IN p").until_ready().await, ["C MOVE 2", "Z T"]);
        let told = raw.execute("p", 0).sync().until_ready().await;
        assert_eq!(told, ["D 5", "C SELECT 1", "Z T"]);
        // One of its name that is bound and not run yet is not it.
        raw.close(Named::Portal("p".to_owned())).bind("p", "s", &["2"]).sync();
        raw.until_ready().await;
        refused(&raw.query("FETCH 1 FROM p").until_ready().await);
        raw.query("ROLLBACK").until_ready().await;
    }
}
