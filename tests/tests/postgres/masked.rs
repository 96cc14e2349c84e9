//! Masked columns through many shapes of statements: the value never comes out, and what is
//! not masked does.

use crate::gate::{Gate, both, said};
use enforcer_tests::agents::postgres_python;
use enforcer_tests::postgres::{DATABASE, OWNS, bin};

/// A value of its own for each column that must not come out, so that a trace of it shows.
const TABLES: &str = r#"
CREATE TABLE people (
  id int PRIMARY KEY, name text, email text UNIQUE, ssn varchar(20), card text, account text,
  doc jsonb, born date
);
INSERT INTO people VALUES
  (1, 'Ann', 'zebra@corp.example', '998877665', '4000123412349876', 'ACC-QQWWEE',
   '{"iban": "XX99ZEBRADOC"}', '1961-07-13'),
  (2, 'Bob', 'yak@corp.example', '112233445', '4000555566667777', 'ACC-RRTTYY', '[1]', '1970-01-01');
CREATE TABLE payments (id int, account text, note text);
INSERT INTO payments VALUES (7, 'ACC-QQWWEE', 'token ghp_0123456789abcdefghijABCDEFGHIJ012345');
CREATE TABLE notes (note text);
CREATE VIEW shown AS SELECT id, email AS contact FROM people;
CREATE VIEW again AS SELECT upper(contact) AS c FROM shown;
CREATE MATERIALIZED VIEW kept AS SELECT email FROM people;
CREATE TABLE staff (badge int) INHERITS (people);
INSERT INTO staff VALUES (3, 'Cat', 'zebra@corp.example2', '998877665', '4000123412349876',
  'ACC-QQWWEE', '{}', '1961-07-13', 9);
CREATE FUNCTION leak() RETURNS SETOF people LANGUAGE sql STABLE AS 'SELECT * FROM people';
CREATE FUNCTION mail(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT email FROM people WHERE id = $1';
"#;

/// Pieces of the masked values; none may come out, in either case or backwards.
const PIECES: [&str; 9] =
    ["zebra", "yak@", "998877", "112233", "40001234", "ZEBRADOC", "1961-07-13", "arbez", "QQWWEE"];

const SHAPES: &[&str] = &[
    "SELECT * FROM people",
    "TABLE people",
    "SELECT email FROM people",
    "SELECT p.email AS x FROM people AS p",
    "SELECT * FROM people AS q (a, b, c, d, e, f, g, h)",
    "SELECT people FROM people",
    "SELECT p FROM people p",
    "SELECT p::text FROM people p",
    "SELECT (p).email FROM people p",
    "SELECT (people.*)::text FROM people",
    "SELECT row(p.*) FROM people p",
    "SELECT row_to_json(p) FROM people p",
    "SELECT to_jsonb(p) ->> 'email' FROM people p",
    "SELECT json_agg(p) FROM people p",
    "SELECT json_build_object('e', email) FROM people",
    "SELECT jsonb_object_agg(id, email) FROM people",
    "SELECT array_agg(email) FROM people",
    "SELECT string_agg(email, ',') FROM people",
    "SELECT ARRAY(SELECT email FROM people)",
    "SELECT min(email), max(ssn) FROM people",
    "SELECT upper(email), reverse(email), left(email, 5), md5(email) FROM people",
    "SELECT substr(email, 1, 1), substr(email, 2, 4) FROM people",
    "SELECT ascii(email), length(email) FROM people",
    "SELECT email || '' FROM people",
    "SELECT format('%s', email) FROM people",
    "SELECT concat_ws('-', id, email) FROM people",
    "SELECT email::bytea FROM people",
    "SELECT encode(email::bytea, 'hex') FROM people",
    "SELECT convert_to(email, 'UTF8') FROM people",
    "SELECT CAST(email AS varchar(5)) FROM people",
    "SELECT coalesce(NULL, email) FROM people",
    "SELECT CASE WHEN true THEN email END FROM people",
    "SELECT nullif(email, 'x') FROM people",
    "SELECT greatest(email, 'a') FROM people",
    "SELECT (SELECT email FROM people WHERE id = 1)",
    "SELECT x.e FROM (SELECT email AS e FROM people) AS x",
    "SELECT * FROM people p1 JOIN people p2 USING (email)",
    "SELECT email FROM people NATURAL JOIN shown",
    "SELECT l.e FROM people p, LATERAL (SELECT p.email AS e) l",
    "WITH c AS (SELECT email FROM people) SELECT * FROM c",
    "WITH c (z) AS MATERIALIZED (SELECT email FROM people) SELECT z FROM c",
    "WITH RECURSIVE c (n, e) AS (SELECT 1, email FROM people UNION ALL SELECT n + 1, e FROM c WHERE n < 3) SELECT e FROM c",
    "SELECT 'x' UNION SELECT email FROM people",
    "SELECT email FROM people INTERSECT SELECT contact FROM shown",
    "SELECT DISTINCT email FROM people",
    "SELECT DISTINCT ON (id) email FROM people",
    "SELECT lag(email) OVER (ORDER BY id), first_value(ssn) OVER () FROM people",
    "VALUES ((SELECT email FROM people WHERE id = 1))",
    "SELECT * FROM unnest(ARRAY(SELECT email FROM people)) AS u",
    "SELECT regexp_split_to_table(email, '@') FROM people",
    "SELECT unnest(string_to_array(email, '@')) FROM people",
    "SELECT * FROM jsonb_each_text((SELECT to_jsonb(p) FROM people p WHERE id = 1))",
    "SELECT doc ->> 'iban' FROM people",
    "SELECT doc FROM people",
    "SELECT jsonb_path_query(doc, '$.iban') FROM people",
    "SELECT born, born + 1, extract(year FROM born), to_char(born, 'YYYY-MM-DD') FROM people",
    "SELECT contact FROM shown",
    "SELECT * FROM again",
    "SELECT * FROM kept",
    "SELECT email, badge FROM staff",
    "SELECT * FROM ONLY staff",
    "SELECT * FROM leak()",
    "SELECT (leak()).email",
    "SELECT mail(1)",
    "SELECT xmlelement(name e, email) FROM people",
    "SELECT xmlforest(email) FROM people",
    "SELECT table_to_xml('people', false, false, '')",
    "SELECT query_to_xml('SELECT email FROM people', false, false, '')",
    "COPY people TO STDOUT",
    "COPY people (id, email) TO STDOUT WITH (FORMAT csv, HEADER)",
    "COPY people (email) TO STDOUT WITH (FORMAT csv, DELIMITER ';', QUOTE '''', FORCE_QUOTE *)",
    "COPY people (id, ssn) TO STDOUT WITH (DELIMITER '|', NULL 'none')",
    "COPY (SELECT email || 'x' FROM people) TO STDOUT",
    "COPY (SELECT p FROM people p) TO STDOUT",
    "COPY people (id, email) TO STDOUT WITH (FORMAT binary)",
    "BEGIN; DECLARE c CURSOR FOR SELECT email FROM people; FETCH ALL FROM c; COMMIT",
    "BEGIN ~~ DECLARE c CURSOR FOR SELECT email FROM people ~~ FETCH 1 FROM c ~~ FETCH ALL FROM c",
    "BEGIN ~~ DECLARE c BINARY CURSOR FOR SELECT email, id FROM people ~~ FETCH ALL FROM c",
    "DECLARE c CURSOR WITH HOLD FOR SELECT email FROM people ~~ FETCH ALL FROM c",
    "PREPARE q AS SELECT email FROM people; EXECUTE q",
    "PREPARE q AS SELECT email FROM people ~~ EXECUTE q ~~ EXECUTE q",
    "PREPARE q (int) AS SELECT p FROM people p WHERE id = $1 ~~ EXECUTE q (1)",
    "CREATE TEMP VIEW v AS SELECT email AS x FROM people ~~ SELECT x FROM v",
    "CREATE VIEW v2 AS SELECT reverse(email) AS x FROM people ~~ TABLE v2",
    "CREATE TEMP TABLE t AS SELECT 1 AS email ~~ INSERT INTO t SELECT length(email) FROM people ~~ TABLE t",
    "CREATE FUNCTION f2() RETURNS text LANGUAGE sql STABLE AS 'SELECT email FROM people LIMIT 1' ~~ SELECT f2()",
    "SET search_path = pg_catalog ~~ SELECT email FROM public.people",
    "BEGIN ~~ ALTER TABLE people RENAME COLUMN email TO free ~~ SELECT free FROM people",
    "BEGIN ~~ ALTER TABLE people RENAME TO renamed ~~ SELECT email FROM renamed",
    "ALTER TABLE people SET SCHEMA pg_temp ~~ SELECT email FROM people",
    "INSERT INTO people (id, email) VALUES (50, 'new') ON CONFLICT (id) DO UPDATE SET id = people.id RETURNING *",
    "UPDATE people SET name = name RETURNING email",
    "UPDATE people SET name = name RETURNING people",
    "DELETE FROM people WHERE id = 1 RETURNING email, ssn",
    "WITH d AS (UPDATE people SET name = name RETURNING *) SELECT email FROM d",
    "SELECT email::int FROM people",
    "SELECT 1 / (length(email) - length(email)), email FROM people",
    "INSERT INTO people (id, email) SELECT 51, email FROM people WHERE id = 1",
    "UPDATE people SET email = 'yak@corp.example'",
    "SELECT CAST(ssn || 'x' AS int) FROM people",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'people'",
    "SELECT histogram_bounds::text FROM pg_stats WHERE tablename = 'people'",
    "SELECT stavalues1::text FROM pg_statistic WHERE starelid = 'people'::regclass",
    "EXPLAIN SELECT * FROM people WHERE email = 'a'",
    "SELECT note FROM payments",
    "SELECT account FROM payments",
    "DO $$ DECLARE e text; BEGIN SELECT email INTO e FROM people WHERE id = 1; RAISE NOTICE '%', e; END $$",
    "DO $$ DECLARE e text; BEGIN SELECT email INTO e FROM people WHERE id = 1; RAISE EXCEPTION '%', e; END $$",
    "INSERT INTO notes SELECT email FROM people",
    "CREATE TABLE laundered AS SELECT email AS note FROM people",
    "UPDATE notes SET note = (SELECT email FROM people WHERE id = 1)",
    "ALTER TABLE people RENAME COLUMN email TO harmless",
    "ALTER TABLE people RENAME TO harmless",
];

fn ready() -> Gate {
    let gate = Gate::start();
    gate.postgres.admin(DATABASE, &format!("SET ROLE {};\n{TABLES}", OWNS.name));
    gate.postgres.admin(DATABASE, "ANALYZE");
    gate
}

fn leaked(words: &str) -> Option<&'static str> {
    let lower = words.to_lowercase();
    PIECES.into_iter().find(|piece| lower.contains(&piece.to_lowercase()))
}

#[test]
fn no_shape_of_a_statement_gets_a_masked_value_out() {
    let gate = ready();
    let mut out = Vec::new();
    let mut refused = Vec::new();
    let mut delivered = 0;
    for shape in SHAPES {
        let strings: Vec<&str> = shape.split(" ~~ ").collect();
        let result = gate.psql("free", "masked.test", &strings);
        let words = both(&result);
        match words.contains("refused by enforcer") {
            true => refused.push(*shape),
            false => delivered += usize::from(result.status.success()),
        }
        if let Some(piece) = leaked(&words) {
            out.push(format!("{shape}\n    {piece} in {words}"));
        }
    }
    // Nothing that was written by the way can be read without a mask now.
    for after in
        ["TABLE notes", "TABLE laundered", "SELECT * FROM harmless", "SELECT harmless FROM people"]
    {
        let words = both(&gate.psql("free", "masked.test", &[after]));
        if let Some(piece) = leaked(&words) {
            out.push(format!("afterwards {after}\n    {piece} in {words}"));
        }
    }
    eprintln!("delivered {delivered}, refused {}:\n{}", refused.len(), refused.join("\n"));
    assert!(out.is_empty(), "came out:\n{}", out.join("\n"));
    assert!(delivered > 60, "{delivered} of {} shapes were delivered", SHAPES.len());
    // The other way to the same server has no masks, and shows what was there to be seen.
    let bare = both(&gate.psql("free", "db.test", &["SELECT * FROM people"]));
    assert!(leaked(&bare).is_some(), "{bare}");
    gate.verify();
}

#[test]
fn what_is_delivered_is_useful_and_valid() {
    let gate = ready();
    let row = |sql: &str| {
        let out = gate.psql("reader", "masked.test", &[sql]);
        assert!(out.status.success(), "{sql}: {}", both(&out));
        said(&out)
    };
    assert_eq!(row("SELECT id, name, email FROM people WHERE id = 1"), "1|Ann|***");
    assert_eq!(row("SELECT card FROM people WHERE id = 1"), "***9876");
    assert_eq!(row("SELECT left(card, 8) FROM people WHERE id = 1"), "***");
    assert_eq!(row("SELECT doc FROM people WHERE id = 1"), "{}");
    assert_eq!(row("SELECT coalesce(born::text, 'none') FROM people WHERE id = 1"), "***");
    assert_eq!(row("SELECT born FROM people WHERE id = 1"), "");
    assert_eq!(row("SELECT count(*) FROM people WHERE id < 3"), "2");
    let (one, other) =
        (row("SELECT account FROM people WHERE id = 1"), row("SELECT account FROM payments"));
    assert!(one.starts_with("hmac:"), "{one}");
    assert_eq!(one, other, "hashes join");
    assert_eq!(row("SELECT note FROM payments"), "token ***");
    assert_eq!(
        row("COPY (SELECT id, email, name FROM people WHERE id = 2) TO STDOUT"),
        "2\t***\tBob"
    );
    gate.verify();
}

/// Drivers that decode by type still do.
#[test]
fn drivers_read_masked_rows_in_both_formats() {
    let gate = ready();
    let script = gate.world.path("masked.py");
    std::fs::write(
        &script,
        "import asyncio, asyncpg, os, psycopg, ssl\n\
         sql = 'SELECT id, email, doc, born, account FROM people WHERE id = 1'\n\
         with psycopg.connect(autocommit=True) as conn:\n\
         \x20   for binary in (False, True):\n\
         \x20       print(conn.cursor(binary=binary).execute(sql).fetchone())\n\
         \x20   with conn.cursor().copy('COPY people (id, email) TO STDOUT (FORMAT binary)') as copy:\n\
         \x20       print(len(b''.join(copy)) > 20)\n\
         async def main():\n\
         \x20   context = ssl.create_default_context(cafile=os.environ['PGSSLROOTCERT'])\n\
         \x20   conn = await asyncpg.connect(ssl=context)\n\
         \x20   print(tuple(await conn.fetchrow(sql)))\n\
         asyncio.run(main())\n",
    )
    .expect("written");
    let mut python = gate.agent("reader", "masked.test", postgres_python());
    let out = python.arg(&script).output().expect("starts");
    assert!(out.status.success(), "{}", both(&out));
    let words = said(&out);
    assert!(leaked(&words).is_none(), "{words}");
    assert_eq!(words.matches("(1, '***', {}, None, 'hmac:").count(), 2, "{words}");
    assert!(words.contains("(1, '***', '{}', None, 'hmac:"), "{words}");
    assert!(bin().exists());
    gate.verify();
}

/// The transcript has what was delivered, and not what was masked.
#[test]
fn the_transcript_has_the_masked_rows() {
    let gate = ready();
    let out = gate.psql("reader", "masked.test", &["SELECT id, email FROM people WHERE id = 1"]);
    assert_eq!(said(&out), "1|***");
    let shown = gate.deployment.transcripts(&["grep", "SELECT id, email FROM people"]);
    assert!(shown.status.success(), "{}", both(&shown));
    let all = both(&gate.deployment.transcripts(&["export", "--format", "jsonl"]));
    assert!(all.contains("SELECT id, email FROM people"), "{all}");
    assert!(leaked(&all).is_none(), "{all}");
}
