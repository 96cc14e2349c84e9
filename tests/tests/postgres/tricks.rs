//! Statements that try to pass for something else. Each is refused to the agent `reader` and
//! nothing of it reaches the server; `free`, who may do all, gets the same text through.

use crate::gate::{Gate, both, said};
use enforcer_tests::postgres::{DATABASE, OWNS};

/// What the tricks are about: salaries that `reader` must not read, and a table to damage.
const TABLES: &str = "
CREATE SCHEMA hr;
CREATE TABLE hr.salaries (name text, amount int);
INSERT INTO hr.salaries VALUES ('ann', 424242);
CREATE TABLE public.orders (id int PRIMARY KEY, note text);
INSERT INTO public.orders SELECT g, 'n' || g FROM generate_series(1, 10) g;
CREATE TABLE public.salaries (name text);
CREATE VIEW public.innocent AS SELECT * FROM hr.salaries;
CREATE VIEW public.deeper AS SELECT name FROM public.innocent;
CREATE TABLE hr.parent (name text, amount int);
CREATE TABLE public.child () INHERITS (hr.parent);
CREATE FUNCTION public.peek() RETURNS int LANGUAGE sql SECURITY DEFINER STABLE AS 'SELECT amount FROM hr.salaries';
CREATE FUNCTION public.boom() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN DELETE FROM public.orders; RETURN 1; END';
CREATE FUNCTION public.lie() RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN (SELECT amount FROM hr.salaries); END';
CREATE PROCEDURE public.proc() LANGUAGE sql AS 'DELETE FROM public.orders';
CREATE FUNCTION public.plus(int, int) RETURNS int LANGUAGE plpgsql AS 'BEGIN DELETE FROM public.orders; RETURN 1; END';
CREATE OPERATOR public.<+> (leftarg = int, rightarg = int, function = public.plus);
CREATE SEQUENCE public.seq;
";

/// What reads the salaries. `~~` is between strings of their own.
const READS: &[&str] = &[
    "SELECT * FROM hr.salaries",
    "select/**/*/**/from/* nested /* deeper */ */hr.salaries",
    "SELECT * FROM -- a comment\n hr\n.\nsalaries",
    r#"SELECT * FROM U&"h\0072".U&"s\0061laries""#,
    r#"SELECT * FROM U&"h!0072" UESCAPE '!' . "salaries""#,
    r#"SELECT * FROM "hr"."salaries""#,
    "SELECT * FROM HR.SALARIES",
    "TABLE hr.salaries",
    "TABLE ONLY hr.salaries",
    "SELECT * FROM shop.hr.salaries",
    "SELECT (SELECT max(amount) FROM hr.salaries)",
    "SELECT 1 WHERE EXISTS (SELECT FROM hr.salaries WHERE amount > 400000)",
    "WITH s AS (SELECT * FROM hr.salaries) SELECT count(*) FROM s",
    "WITH RECURSIVE s AS (SELECT 1 AS n UNION ALL SELECT n + amount FROM s, hr.salaries WHERE n < 2) TABLE s",
    "SELECT * FROM orders, LATERAL (SELECT amount FROM hr.salaries LIMIT 1) x",
    "SELECT id FROM orders UNION SELECT amount FROM hr.salaries",
    "SELECT * FROM orders ORDER BY (SELECT amount FROM hr.salaries)",
    "VALUES ((SELECT amount FROM hr.salaries))",
    "SELECT * FROM innocent",
    "SELECT * FROM deeper",
    "COPY hr.salaries TO STDOUT",
    "COPY (SELECT * FROM hr.salaries) TO STDOUT WITH (FORMAT csv)",
    "COPY (SELECT * FROM innocent) TO STDOUT",
    "SET search_path = hr; SELECT * FROM salaries",
    "SELECT pg_catalog.set_config('search_path', 'hr', false); SELECT * FROM salaries",
    "BEGIN; SET LOCAL search_path TO hr, public; SELECT * FROM salaries; COMMIT",
    "PREPARE p AS SELECT * FROM hr.salaries; EXECUTE p",
    "PREPARE p AS SELECT * FROM hr.salaries ~~ EXECUTE p",
    "SET search_path = hr ~~ TABLE salaries",
    "BEGIN ~~ SET LOCAL search_path = hr ~~ TABLE salaries",
    "SET search_path = hr ~~ PREPARE p AS TABLE salaries ~~ SET search_path = public ~~ EXECUTE p",
    "BEGIN ~~ DECLARE c CURSOR FOR SELECT * FROM hr.salaries ~~ FETCH ALL FROM c",
    "BEGIN; DECLARE c CURSOR FOR SELECT * FROM hr.salaries; FETCH ALL FROM c; COMMIT",
    "BEGIN; DECLARE c CURSOR WITH HOLD FOR TABLE hr.salaries; COMMIT; FETCH c",
    "EXPLAIN ANALYZE SELECT * FROM hr.salaries",
    "EXPLAIN (VERBOSE, ANALYZE true) TABLE hr.salaries",
    "SELECT table_to_xml('hr.salaries', false, false, '')",
    "SELECT query_to_xml('SELECT * FROM hr.' || 'salaries', false, false, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT schema_to_xml('hr', true, true, '')",
    "SELECT * FROM ts_stat('SELECT to_tsvector(name) FROM hr.salaries')",
    "SELECT peek()",
    "SELECT public.peek() FROM orders",
    "SELECT * FROM peek()",
    "SELECT * FROM orders WHERE id = peek()",
    "SELECT * FROM ROWS FROM (peek(), generate_series(1, 2))",
    "SELECT lie()",
    "SELECT CASE WHEN true THEN lie() END",
    "SELECT id FROM orders GROUP BY id HAVING peek() > 1",
    "SELECT sum(id) OVER (ORDER BY peek()) FROM orders",
    "SELECT count(*) FILTER (WHERE peek() > 1) FROM orders",
    "SELECT * FROM orders LIMIT peek()",
    "SELECT * FROM orders TABLESAMPLE system (peek())",
    "SELECT json_agg(s) FROM hr.salaries s",
    "SELECT s FROM hr.salaries AS s",
    "SELECT hr.salaries.* FROM hr.salaries",
    "SELECT * FROM orders JOIN hr.salaries ON true",
    "SELECT * FROM orders NATURAL JOIN hr.salaries",
    "SELECT * FROM (((SELECT * FROM hr.salaries))) AS x (a, b)",
    "SELECT ARRAY(SELECT amount FROM hr.salaries)",
    "SELECT 1; SELECT 2; TABLE hr.salaries",
    "; ; TABLE hr.salaries ; ;",
    "SELECT 'a;b'; TABLE hr.salaries",
    "SELECT $$;$$; TABLE hr.salaries --",
    "SELECT $x$ $y$ $x$; TABLE hr.salaries; SELECT $x$ $x$",
    r"SELECT E'\''; TABLE hr.salaries; SELECT ''",
    r"SELECT '\'; TABLE hr.salaries; SELECT ''",
    r"SET standard_conforming_strings = off ~~ SELECT 'a\'' /* ' ; TABLE hr.salaries -- */",
    r"BEGIN ~~ SET LOCAL standard_conforming_strings TO off ~~ SELECT 'a\'' ; TABLE hr.salaries --'",
    r"SET backslash_quote = on ~~ SELECT E'\''; TABLE hr.salaries",
    "SELECT * FROM orders WHERE id = ANY (SELECT amount FROM hr.salaries)",
    "SELECT * FROM orders WHERE (id, note) IN (SELECT amount, name FROM hr.salaries)",
    "SELECT ARRAY(SELECT s FROM hr.salaries s)",
    r#"SELECT * FROM U&"hr"."s\+000061laries""#,
    r#"SELECT * FROM U&"hr"/**/./**/U&"s#0061laries" UESCAPE '#'"#,
    "SELECT * FROM orders -- \u{2028}\n, hr.salaries",
    "SELECT $a$ $b$ $a$, s FROM hr.salaries s -- $b$",
    "PREPARE nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnna AS SELECT 1 ~~ DEALLOCATE nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnb ~~ PREPARE nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnc AS TABLE hr.salaries",
    "DISCARD ALL ~~ SET search_path = hr ~~ TABLE salaries",
    "SET SESSION search_path TO hr, public ~~ SELECT max(amount) FROM salaries",
    "SET ROLE NONE ~~ TABLE hr.salaries",
    "RESET ALL ~~ TABLE hr.salaries",
];

/// What changes something.
const WRITES: &[&str] = &[
    "DELETE FROM orders",
    "WITH d AS (DELETE FROM orders RETURNING *) SELECT count(*) FROM d",
    "WITH a AS (SELECT 1), b AS (UPDATE orders SET note = 'x' RETURNING 1) SELECT * FROM a",
    "WITH i AS (INSERT INTO orders VALUES (99, 'x') RETURNING id) SELECT * FROM i",
    "SELECT * INTO stolen FROM orders",
    "SELECT * INTO TEMP stolen FROM orders",
    "CREATE TABLE stolen AS SELECT * FROM orders",
    "CREATE TEMP TABLE stolen AS TABLE orders",
    "EXPLAIN ANALYZE DELETE FROM orders",
    "EXPLAIN (ANALYZE) WITH d AS (DELETE FROM orders RETURNING 1) SELECT * FROM d",
    "PREPARE x AS DELETE FROM orders; EXECUTE x",
    "PREPARE x AS DELETE FROM orders ~~ EXECUTE x",
    "SELECT 1 ~~ BEGIN ~~ DELETE FROM orders",
    "PREPARE x (int) AS DELETE FROM orders WHERE id = $1; EXECUTE x (1)",
    "DO $$ BEGIN DELETE FROM orders; END $$",
    "DO LANGUAGE plpgsql 'BEGIN EXECUTE ''DELETE FROM orders''; END'",
    "CALL proc()",
    "SELECT boom()",
    "SELECT 1 FROM orders WHERE boom() = 1",
    "SELECT 1 <+> 2",
    "SELECT 1 OPERATOR(public.<+>) 2",
    "SELECT nextval('seq')",
    "SELECT setval('public.seq', 7)",
    "SELECT lo_create(4711)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_notify('channel', 'payload')",
    "NOTIFY channel, 'payload'",
    "SELECT * FROM orders FOR UPDATE",
    "SELECT * FROM orders FOR KEY SHARE",
    "LOCK TABLE orders",
    "TRUNCATE orders",
    "DROP TABLE orders",
    "ALTER TABLE orders ADD COLUMN x int",
    "CREATE INDEX ON orders (note)",
    "COMMENT ON TABLE orders IS 'x'",
    "GRANT ALL ON orders TO PUBLIC",
    "VACUUM orders",
    "ANALYZE orders",
    "REINDEX TABLE orders",
    "MERGE INTO orders USING (VALUES (1)) v (id) ON orders.id = v.id WHEN MATCHED THEN DELETE",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE VIEW innocent AS SELECT name, amount FROM hr.salaries",
    "BEGIN; DELETE FROM orders; ROLLBACK",
    "SELECT 1; DELETE FROM orders; SELECT 2",
    "SELECT 1; COMMIT; DELETE FROM orders",
    "/* SELECT */ DELETE /* FROM x */ FROM orders",
    "COPY orders (id) FROM STDIN",
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE false",
    "SELECT dblink_connect('host=elsewhere')",
    "UPDATE pg_catalog.pg_class SET relname = relname WHERE false",
    "CREATE TEMP TABLE orders (id int, note text)",
    "CREATE TEMP VIEW v AS TABLE hr.salaries",
    "CREATE SCHEMA x CREATE TABLE stolen (a int)",
    "CREATE RULE r AS ON INSERT TO orders DO ALSO SELECT * FROM hr.salaries",
    "CREATE TRIGGER t AFTER INSERT ON orders EXECUTE FUNCTION boom()",
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION boom()",
    "CREATE CAST (int AS text) WITH FUNCTION boom() AS IMPLICIT",
    "CREATE OPERATOR public.= (leftarg = int, rightarg = text, function = public.plus)",
    "CREATE POLICY p ON orders USING (boom() = 1)",
    "CREATE PUBLICATION p FOR TABLE orders",
    "CREATE STATISTICS st ON id, note FROM orders",
    "ALTER TABLE orders OWNER TO postgres",
    "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO public",
    "REASSIGN OWNED BY shop_owner TO postgres",
    "CLUSTER orders USING orders_pkey",
    "CHECKPOINT",
    "COPY (DELETE FROM orders RETURNING *) TO STDOUT",
    "VALUES (boom())",
    "SELECT boom() FROM orders LIMIT 0",
    "EXPLAIN ANALYZE SELECT boom()",
    "BEGIN ~~ DECLARE c CURSOR FOR SELECT boom()",
    "DISCARD ALL ~~ DELETE FROM orders",
    "SELECT lo_unlink(1)",
    "SELECT dblink_exec('host=elsewhere', 'DELETE FROM orders')",
    "SELECT pg_create_logical_replication_slot('s', 'test_decoding')",
    "SELECT pg_stat_reset()",
    "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
    "SECURITY LABEL ON TABLE orders IS 'x'",
];

/// What only a superuser could do anyway.
const SERVER: &[&str] = &[
    "COPY orders TO PROGRAM 'touch /tmp/enforcer-must-not-be'",
    "COPY orders FROM PROGRAM 'echo 1'",
    "COPY (SELECT 1) TO PROGRAM 'id'",
    "COPY orders TO '/tmp/enforcer-must-not-be'",
    "COPY orders FROM '/etc/passwd'",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('/etc/passwd')",
    "SELECT pg_ls_dir('/')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, '/tmp/x')",
    "ALTER SYSTEM SET work_mem = '8MB'",
    "LOAD 'auto_explain'",
    "SELECT pg_reload_conf()",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "CREATE EXTENSION dblink",
    "ALTER ROLE shop_owner SUPERUSER",
];

fn ready() -> Gate {
    let gate = Gate::start();
    gate.postgres.admin(DATABASE, &format!("SET ROLE {};\n{TABLES}", OWNS.name));
    gate
}

/// How many statements with this text the server ran.
fn ran(gate: &Gate, mark: &str) -> usize {
    gate.postgres.log().matches(mark).count()
}

/// Tries each as `reader`: refused with 42501, and never seen by the server under its mark.
fn refused(gate: &Gate, tricks: &[&str]) {
    let mut through = Vec::new();
    for (at, trick) in tricks.iter().enumerate() {
        let mark = format!("/* trick {at} {} */", tricks.len());
        let (before, last) = trick.rsplit_once(" ~~ ").unwrap_or(("", trick));
        let last = format!("{mark} {last}");
        let before = before.split(" ~~ ").filter(|string| !string.is_empty());
        let strings: Vec<&str> = before.chain([last.as_str()]).collect();
        let out = gate.psql("reader", "db.test", &strings);
        let words = both(&out);
        let told = words.contains("42501: refused by enforcer");
        if !told || out.status.success() || words.contains("424242") || ran(gate, &mark) > 0 {
            through.push(format!("{trick}\n    {}", words.trim()));
        }
    }
    assert!(through.is_empty(), "not refused:\n{}", through.join("\n"));
}

/// The same texts as `free`: each reaches the server. What it says to them is its own.
fn control(gate: &Gate, tricks: &[&str]) {
    let mut held = Vec::new();
    for (at, trick) in tricks.iter().enumerate() {
        let strings: Vec<&str> = trick.split(" ~~ ").collect();
        let words = both(&gate.psql("free", "db.test", &strings));
        // What depends on a statement before it in the same string is refused to everybody.
        let dependent = ["order-dependent", "unknown-prepared", "unknown-cursor"];
        let by_itself = strings.len() == 1 && dependent.iter().any(|code| words.contains(code));
        let blind = words.contains("unreadable-setting");
        if words.contains("refused by enforcer") && !by_itself && !blind {
            held.push(format!("{at} {trick}\n    {}", words.trim()));
        }
    }
    assert!(held.is_empty(), "refused to who may:\n{}", held.join("\n"));
}

#[test]
fn what_may_be_read_is_read() {
    let gate = ready();
    for (sql, want) in [
        ("SELECT count(*) FROM orders", "10"),
        ("SELECT 'hr.salaries'", "hr.salaries"),
        ("SELECT $$ DELETE FROM orders $$", " DELETE FROM orders "),
        ("-- TABLE hr.salaries\nSELECT 1", "1"),
        ("SELECT count(*) FROM salaries", "0"),
        ("SELECT max(id) FROM (SELECT id FROM orders WHERE note LIKE 'n%') x", "10"),
        ("COPY (SELECT id FROM orders WHERE id = 3) TO STDOUT", "3"),
        ("BEGIN; SELECT 6; COMMIT", "6"),
        ("SHOW server_encoding", "UTF8"),
        ("SELECT lower('A') || now()::text LIKE 'a%'", "t"),
    ] {
        let out = gate.psql("reader", "db.test", &[sql]);
        let words = String::from_utf8_lossy(&out.stdout).trim_end_matches('\n').to_owned();
        assert_eq!(words, want, "{sql}: {}", both(&out));
    }
    let out = gate.psql("reader", "db.test", &["PREPARE q AS SELECT 5", "EXECUTE q"]);
    assert_eq!(said(&out), "5", "{}", both(&out));
    gate.verify();
}

#[test]
fn nothing_reads_what_is_forbidden() {
    let gate = ready();
    refused(&gate, READS);
    gate.verify();
}

#[test]
fn nothing_writes_under_another_name() {
    let gate = ready();
    let before = gate.postgres.admin(DATABASE, "TABLE orders");
    refused(&gate, WRITES);
    refused(&gate, SERVER);
    assert_eq!(gate.postgres.admin(DATABASE, "TABLE orders"), before);
    gate.verify();
}

/// A session in which texts mean something else has nothing read, whoever asks.
#[test]
fn a_session_that_reads_otherwise_runs_nothing() {
    let gate = ready();
    for (name, value) in
        [("PGCLIENTENCODING", "SJIS"), ("PGOPTIONS", "-c standard_conforming_strings=off")]
    {
        for agent in ["reader", "free"] {
            let mut psql =
                gate.agent(agent, "db.test", enforcer_tests::postgres::bin().join("psql"));
            psql.args([
                "-X",
                "-A",
                "-t",
                "-c",
                "SELECT max(amount) /* otherwise */ FROM hr.salaries",
            ]);
            let words = both(&psql.env(name, value).output().expect("starts"));
            assert!(!words.contains("424242") && words.contains("enforcer"), "{name}: {words}");
        }
    }
    assert_eq!(ran(&gate, "/* otherwise */"), 0);
    // What would bring a session there is refused, and the session goes on.
    for set in
        ["SET NAMES 'SJIS'", "SET client_encoding TO gbk", "SET standard_conforming_strings = off"]
    {
        let words = both(&gate.psql("free", "db.test", &[set, "SELECT 'after'"]));
        assert!(words.contains("42501: refused by enforcer"), "{set}: {words}");
        assert!(words.contains("unreadable-setting") && words.contains("after"), "{set}: {words}");
    }
    gate.verify();
}

#[test]
fn who_may_gets_the_same_texts_through() {
    let gate = ready();
    control(&gate, READS);
    control(&gate, WRITES);
}
