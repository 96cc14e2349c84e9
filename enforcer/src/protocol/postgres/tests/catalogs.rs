//! A catalog of which only what changed was read is the one that is read from nothing.

use super::server::{DATABASE, Server};
use super::*;
use crate::protocol::postgres::reading::{Catalog, PREAMBLE, Refresh, Stamp};
use crate::protocol::postgres::sql::catalog::Row;
use std::cell::Cell;
use tokio_postgres::{Client, SimpleQueryMessage};

/// What asks, and how many rows it was answered.
struct Asks<'a> {
    client: &'a Client,
    rows: Cell<usize>,
}

impl Asks<'_> {
    async fn ask(&self, question: &str) -> Vec<Row> {
        let answer = self.client.simple_query(question).await;
        let answer = answer.unwrap_or_else(|error| panic!("{error:?}: {question}"));
        let mut rows = Vec::new();
        for message in answer {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect());
            }
        }
        self.rows.set(self.rows.get() + rows.len());
        rows
    }

    async fn stamp(&self) -> Stamp {
        Stamp::read(&self.ask(&Stamp::question(77)).await).unwrap().0
    }

    async fn refresh(&self, known: Option<&Catalog>, stamp: Stamp) -> Catalog {
        let mut refresh = Refresh::new(known, stamp);
        while let Some(question) = refresh.question() {
            refresh.answer(&self.ask(&question).await).unwrap();
        }
        refresh.catalog()
    }

    /// `known`, refreshed, which has to be what is read from nothing; and the rows that it took.
    async fn both(&self, known: &Catalog, what: &str) -> (Catalog, usize) {
        let stamp = self.stamp().await;
        let before = self.rows.get();
        let refreshed = self.refresh(Some(known), stamp.clone()).await;
        let took = self.rows.get() - before;
        let fresh = self.refresh(None, stamp).await;
        // Not by assert_eq: nobody can read what it would print.
        let what_differs = || refreshed.differing(&fresh).join("\n");
        assert!(refreshed == fresh, "after {what}:\n{}", what_differs());
        (refreshed, took)
    }
}

async fn superuser(server: &Server) -> Client {
    let mut config = tokio_postgres::Config::new();
    config.host_path(server.socket().parent().unwrap()).port(server.port);
    let (client, connection) =
        config.user("postgres").dbname(DATABASE).connect(tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Each changes what texts, names or kinds say, in a way of its own.
const CHANGES: &[&str] = &[
    "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY, x text, y int); \
     CREATE TABLE s.b (id int, z text)",
    "CREATE VIEW s.v AS SELECT a.x, b.z FROM s.a JOIN s.b USING (id)",
    "CREATE VIEW public.over AS SELECT upper(v.x) AS up FROM s.v WHERE v.z COLLATE \"C\" > 'a'",
    // Names in texts.
    "ALTER TABLE s.a RENAME COLUMN x TO renamed",
    "ALTER TABLE s.b RENAME TO c",
    "ALTER TABLE s.c ADD COLUMN y int",
    "ALTER TABLE s.a ADD COLUMN more int, DROP COLUMN y",
    "ALTER SCHEMA s RENAME TO t",
    "CREATE SCHEMA s",
    "ALTER TABLE t.a SET SCHEMA s",
    "CREATE FUNCTION s.f(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; \
     CREATE TABLE s.made (x text, g text GENERATED ALWAYS AS (s.f(x)) STORED)",
    "ALTER FUNCTION s.f(text) RENAME TO h",
    "ALTER TABLE s.made RENAME COLUMN x TO w",
    "ALTER TABLE s.made ALTER COLUMN g DROP EXPRESSION",
    "CREATE TYPE s.mood AS ENUM ('sad', 'ok'); \
     CREATE VIEW s.moods AS SELECT 'sad'::s.mood AS m, s.h('x') AS t",
    "ALTER TYPE s.mood RENAME VALUE 'sad' TO 'blue'",
    "ALTER TYPE s.mood RENAME TO temper",
    "CREATE COLLATION s.own FROM \"C\"; \
     CREATE VIEW s.sorted AS SELECT z FROM t.c ORDER BY z COLLATE s.own",
    "ALTER COLLATION s.own RENAME TO theirs",
    "CREATE OR REPLACE VIEW s.moods AS SELECT 'ok'::s.temper AS m, s.h('y') AS t, 1 AS n",
    "CREATE OPERATOR s.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = textcat); \
     CREATE VIEW s.joined AS SELECT z OPERATOR(s.===) 'x' AS j FROM t.c",
    "CREATE SCHEMA u; ALTER OPERATOR s.=== (text, text) SET SCHEMA u",
    "CREATE FUNCTION s.cast(s.temper) RETURNS int LANGUAGE sql AS 'SELECT 1'; \
     CREATE CAST (s.temper AS int) WITH FUNCTION s.cast(s.temper)",
    "DROP CAST (s.temper AS int)",
    // Kinds and kin.
    "CREATE TABLE s.child (k int) INHERITS (s.a)",
    "ALTER TABLE s.child NO INHERIT s.a",
    "CREATE TABLE s.parts (n int) PARTITION BY LIST (n); \
     CREATE TABLE s.part PARTITION OF s.parts FOR VALUES IN (1)",
    "ALTER TABLE s.parts DETACH PARTITION s.part",
    "ALTER TABLE s.a ADD UNIQUE (renamed); \
     ALTER TABLE t.c ADD CONSTRAINT leads FOREIGN KEY (z) REFERENCES s.a (renamed) ON DELETE CASCADE",
    "ALTER TABLE t.c DROP CONSTRAINT leads",
    "CREATE FUNCTION s.fire() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; \
     CREATE TRIGGER fires BEFORE INSERT ON s.a FOR EACH ROW EXECUTE FUNCTION s.fire()",
    "DROP TRIGGER fires ON s.a; CREATE RULE away AS ON DELETE TO s.a DO INSTEAD NOTHING",
    "DROP RULE away ON s.a",
    "CREATE OR REPLACE FUNCTION s.fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
     'BEGIN RETURN OLD; END'",
    "CREATE DOMAIN s.d AS s.made; CREATE MATERIALIZED VIEW s.kept AS SELECT * FROM t.v WITH NO DATA",
    "CREATE TEMP TABLE a (x int)",
    // PostgreSQL's own.
    "ALTER FUNCTION pg_catalog.pg_stat_reset() SECURITY DEFINER",
    "CREATE FUNCTION pg_catalog.upper(s.temper) RETURNS text LANGUAGE sql AS 'SELECT ''x'''",
    "ALTER VIEW information_schema.tables RENAME TO all_tables",
    "ALTER TABLE information_schema.sql_features RENAME COLUMN comments TO remarks",
    "ALTER LANGUAGE plpgsql RENAME TO procedural",
    "DROP TABLE s.made CASCADE; DROP SCHEMA t CASCADE",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refreshed_is_what_is_read_from_nothing() {
    let server = Server::start().await;
    let (changes, asks) = (superuser(&server).await, superuser(&server).await);
    asks.batch_execute(PREAMBLE).await.unwrap();
    let asks = Asks { client: &asks, rows: Cell::new(0) };
    let mut known = asks.refresh(None, asks.stamp().await).await;
    let all = asks.rows.get();
    for change in CHANGES {
        let done = changes.batch_execute(change).await;
        done.unwrap_or_else(|error| panic!("{change}: {error:?}"));
        let stamp = asks.stamp().await;
        assert!(stamp != *known.stamp(), "{change}");
        let (catalog, _) = asks.both(&known, change).await;
        assert!(catalog != known, "{change}");
        known = catalog;
    }
    // A table more is a few rows more.
    changes.batch_execute("CREATE TABLE s.plain (id int PRIMARY KEY, x text)").await.unwrap();
    let (catalog, took) = asks.both(&known, "a table").await;
    assert!(took < all / 10, "{took} rows of {all}");
    // What changed nothing is not asked for.
    changes.batch_execute("INSERT INTO s.plain VALUES (1, 'x')").await.unwrap();
    assert!(asks.stamp().await == *catalog.stamp());
}

/// Numbers in no order (splitmix64), the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}

/// A statement of a random kind on some of few names.
fn random(dice: &mut Dice) -> String {
    let [one, other, column] = [(); 3].map(|()| ["r1", "r2", "r3", "r4"][dice.below(4)]);
    match dice.below(24) {
        0..=2 => format!("CREATE TABLE {one} (r1 int, r2 text)"),
        3 => format!("DROP TABLE {one} CASCADE"),
        4 => format!("ALTER TABLE {one} RENAME TO {other}"),
        5 => format!("ALTER TABLE {one} RENAME COLUMN {column} TO {other}"),
        6 => format!("ALTER TABLE {one} ADD COLUMN {column} int"),
        7 => format!("ALTER TABLE {one} DROP COLUMN {column} CASCADE"),
        8..=10 => format!("CREATE VIEW v{one} AS SELECT * FROM {other}"),
        11 => format!(
            "CREATE OR REPLACE VIEW v{one} AS SELECT * FROM {other} a JOIN {column} b USING (r1)"
        ),
        12 => format!("DROP VIEW v{one} CASCADE"),
        13 => format!("ALTER VIEW v{one} RENAME TO v{other}"),
        14 => format!("CREATE TABLE {one} (r1 int) INHERITS ({other})"),
        15 => format!("ALTER TABLE {one} NO INHERIT {other}"),
        16 => format!("CREATE FUNCTION f{one}(int) RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        17 => format!("ALTER FUNCTION f{one}(int) RENAME TO f{other}"),
        18 => format!("CREATE VIEW v{one} AS SELECT f{other}(r1) AS r1 FROM {column}"),
        19 => format!("CREATE TYPE {one} AS ENUM ('a')"),
        20 => format!("ALTER TABLE {one} ALTER COLUMN {column} TYPE text"),
        _ => format!("CREATE INDEX ON {one} ({column})"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_are_read_whole() {
    let server = Server::start().await;
    let (changes, asks) = (superuser(&server).await, superuser(&server).await);
    asks.batch_execute(PREAMBLE).await.unwrap();
    let asks = Asks { client: &asks, rows: Cell::new(0) };
    let mut dice = Dice(1);
    let mut known = asks.refresh(None, asks.stamp().await).await;
    let mut done = 0;
    for round in 0..100 {
        // Most fail for their names.
        let mut what = String::new();
        for _ in 0..=dice.below(3) {
            what = random(&mut dice);
            done += usize::from(changes.batch_execute(&what).await.is_ok());
        }
        let stamp = asks.stamp().await;
        known = match round % 5 {
            4 => asks.both(&known, &what).await.0,
            _ => asks.refresh(Some(&known), stamp).await,
        };
    }
    assert!(done > 30, "{done} changes were made");
}

/// A session that changed something is asked itself, in its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn an_open_transaction_is_read_on_top_of_what_others_see() {
    let server = Server::start().await;
    let (own, others) = (superuser(&server).await, superuser(&server).await);
    others.batch_execute(PREAMBLE).await.unwrap();
    own.batch_execute(PREAMBLE).await.unwrap();
    let table = "CREATE TABLE public.a (id int, x text); CREATE TABLE public.b (y text)";
    others.batch_execute(table).await.unwrap();
    let shared = Asks { client: &others, rows: Cell::new(0) };
    let asks = Asks { client: &own, rows: Cell::new(0) };
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        let base = shared.refresh(None, shared.stamp().await).await;
        own.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}")).await.unwrap();
        assert!(asks.stamp().await == *base.stamp(), "{isolation}");
        let mut known = base.clone();
        for change in [
            // The second and third of them write the row anew in the same transaction.
            "ALTER TABLE public.a RENAME TO a1",
            "ALTER TABLE public.a1 RENAME TO a2",
            "ALTER TABLE public.b RENAME TO a1; ALTER TABLE public.a2 RENAME TO b",
            "CREATE VIEW public.over AS SELECT x FROM public.b",
            "SAVEPOINT s; ALTER TABLE public.b RENAME COLUMN x TO z",
            "ROLLBACK TO s; ALTER TABLE public.b RENAME COLUMN x TO w",
            "DROP VIEW public.over; DROP TABLE public.b",
        ] {
            own.batch_execute(change).await.unwrap();
            assert!(asks.stamp().await != *known.stamp(), "{isolation}: {change}");
            let (catalog, _) = asks.both(&known, change).await;
            assert!(catalog != known, "{isolation}: {change}");
            known = catalog;
        }
        // Others see nothing of it.
        assert!(shared.stamp().await == *base.stamp(), "{isolation}");
        own.batch_execute("ROLLBACK").await.unwrap();
        assert!(asks.stamp().await == *base.stamp(), "{isolation}");
    }
}

/// What is asked most often, and by whom it is answered at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_seen_changes_with_every_change() {
    let server = Server::start().await;
    let (changes, asks) = (superuser(&server).await, superuser(&server).await);
    let asks = Asks { client: &asks, rows: Cell::new(0) };
    let seen = async || asks.ask(Stamp::SEEN).await.concat();
    let first = seen().await;
    assert!(first[0].is_some() && seen().await == first);
    changes.batch_execute("BEGIN; CREATE TABLE t (a int)").await.unwrap();
    let (_, with) = Stamp::read(&{
        asks.ask(PREAMBLE).await;
        asks.ask(&Stamp::question(1)).await
    })
    .unwrap();
    assert_eq!(vec![with], seen().await);
    let open = seen().await;
    changes.batch_execute("COMMIT").await.unwrap();
    assert_ne!(seen().await, open);
    assert_ne!(seen().await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_change_twice_in_a_transaction_are_those_of_now() {
    let world = World::new().await;
    let printed = world
        .psql(
            "CREATE TABLE one (a int);\nCREATE TABLE two (a int);\nBEGIN;\n\
             ALTER TABLE one RENAME TO tmp;\nALTER TABLE two RENAME TO one;\n\
             ALTER TABLE tmp RENAME TO mid;\nALTER TABLE mid RENAME TO two;\n\
             SELECT 'seen', count(*) FROM two;\nCOMMIT;\nSELECT 'seen', count(*) FROM one;\n",
        )
        .await;
    assert_eq!(printed, "seen|0\nseen|0\n");
    let operations = world.operations().await;
    let read = operations.iter().filter(|(asked, ..)| asked.action == "sql.select");
    let facts: Vec<String> = read.map(|(asked, ..)| format!("{asked:?}")).collect();
    assert_eq!(facts.len(), 2);
    assert!(facts[0].contains("public.two") && facts[1].contains("public.one"), "{facts:?}");
    assert!(facts.iter().all(|fact| !fact.contains("unknown-relation")), "{facts:?}");
}
