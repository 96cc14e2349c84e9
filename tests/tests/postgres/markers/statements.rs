//! Statements that would show a marked value, made of shapes and of what is done to the value,
//! and those that try something of their own.

use serde::Serialize;

/// What is run, in one session, one string after another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Case {
    pub(crate) strings: Vec<String>,
    /// Between BEGIN and ROLLBACK.
    pub(crate) wrap: bool,
    /// Without a mask the marker comes out of it.
    pub(crate) shows: bool,
}

/// The marker is in `people.ssn` and `email` (text), `doc` (JSON), `born` (a date), `number`.
pub(crate) const SCHEMA: &str = "
CREATE TABLE people (id int PRIMARY KEY, plain text, ssn text UNIQUE, email text, doc jsonb,
                     born date, number bigint);
INSERT INTO people VALUES
  (1, 'one', 'ZQXZQXZQX-ssn-1', 'ZQXZQXZQX-mail-1', '{\"a\": \"ZQXZQXZQX\"}', '1961-07-13', 987654321012),
  (2, 'two', 'ZQXZQXZQX-ssn-2', 'ZQXZQXZQX-mail-2', '[\"ZQXZQXZQX\"]', '1961-07-13', 987654321012);
CREATE TABLE notes (note text);
INSERT INTO notes VALUES ('a note');
CREATE VIEW seen AS SELECT id, ssn AS code FROM people;
CREATE VIEW again AS SELECT id, code AS c FROM seen;
CREATE MATERIALIZED VIEW kept AS SELECT ssn FROM people;
CREATE TABLE staff (badge int) INHERITS (people);
CREATE FUNCTION owner_reads(int) RETURNS text LANGUAGE sql STABLE AS 'SELECT max(email) FROM public.people';
CREATE FUNCTION owner_says(text) RETURNS boolean LANGUAGE plpgsql AS
  'BEGIN RAISE NOTICE ''%'', (SELECT max(email) FROM public.people); RETURN true; END';
CREATE FUNCTION owner_copies() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.notes SELECT email FROM public.people; RETURN NEW; END';
CREATE TYPE mood AS ENUM ('good');
CREATE FUNCTION owner_mood(mood) RETURNS text LANGUAGE sql AS 'SELECT max(email) FROM public.people';
CREATE FUNCTION owner_ends() RETURNS event_trigger LANGUAGE plpgsql AS
  'BEGIN RAISE NOTICE ''%'', (SELECT max(email) FROM public.people); END';
ANALYZE people;
";

/// Stands for a file that the server can write.
const FILE: &str = "{file}";

/// What is done to a value `{c}`.
const VALUES: &[&str] = &[
    "{c}",
    "{c} || ''",
    "upper({c})",
    "reverse({c})",
    "left({c}, 8)",
    "substr({c}, 2, 7)",
    "{c}::bytea",
    "{c}::varchar(9)",
    "CAST({c} AS name)",
    "{c}::char(12)",
    "({c}) COLLATE \"C\"",
    "lpad({c}, 40, '.')",
    "repeat({c}, 2)",
    "replace({c}, '-', '+')",
    "translate({c}, '-', '+')",
    "regexp_replace({c}, 's.*', '')",
    "split_part({c}, '-', 1)",
    "format('<%s>', {c})",
    "concat_ws(',', {c}, 1)",
    "quote_literal({c})",
    "encode({c}::bytea, 'hex')",
    "encode(convert_to({c}, 'UTF8'), 'base64')",
    "coalesce(NULL, {c})",
    "nullif({c}, '')",
    "greatest({c}, '')",
    "CASE WHEN true THEN {c} ELSE 'x' END",
    "ARRAY[{c}, 'x']",
    "string_to_array({c}, '-')",
    "(ARRAY[{c}])[1]",
    "ROW({c}, 1)",
    "to_json({c})",
    "to_jsonb({c})",
    "json_build_object('a', {c})",
    "jsonb_build_array({c}, 1)",
    "jsonb_set('{\"a\": 1}', '{a}', to_jsonb({c}))",
    "jsonb_path_query_first(to_jsonb({c}), '$')",
    "xmlelement(name a, {c})",
    "xmlforest({c} AS a)",
    "to_tsvector('simple', {c})",
    "({c}, 1)::text",
];

/// Queries over a value `{e}`.
const SHAPES: &[&str] = &[
    "SELECT {e:ssn} FROM people",
    "SELECT p.id, {e:p.ssn} AS plain FROM public.people AS p ORDER BY id",
    "SELECT {e:z} FROM people AS q (a, b, z)",
    "SELECT x.v FROM (SELECT {e:ssn} AS v FROM people) x",
    "WITH w AS MATERIALIZED (SELECT {e:ssn} AS v FROM people) SELECT v FROM w",
    "WITH RECURSIVE r (n, v) AS (SELECT 1, {e:ssn} FROM people UNION ALL SELECT n + 1, v FROM r WHERE n < 2) SELECT v FROM r",
    "SELECT l.v FROM people p, LATERAL (SELECT {e:p.ssn} AS v) l",
    "SELECT NULL WHERE false UNION ALL SELECT {e:ssn} FROM people",
    "SELECT {e:code} FROM seen",
    "SELECT {e:c} FROM again",
    "SELECT {e:ssn} FROM kept",
    "SELECT (SELECT {e:ssn} FROM people WHERE id = 1)",
    "SELECT ARRAY(SELECT {e:ssn} FROM people)",
    "SELECT first_value({e:ssn}) OVER (ORDER BY id) FROM people",
    "SELECT DISTINCT ON (id) {e:ssn} FROM people",
    "SELECT array_agg({e:ssn}) FROM people GROUP BY GROUPING SETS ((id), ())",
    "SELECT json_agg(t) FROM (SELECT {e:ssn} AS v FROM people) t",
    "SELECT t FROM (SELECT {e:ssn} AS v FROM people) t",
    "VALUES ((SELECT {e:ssn} FROM people LIMIT 1))",
    "COPY (SELECT {e:ssn} FROM people) TO STDOUT",
    "DECLARE k CURSOR FOR SELECT {e:ssn} FROM people ~~ FETCH ALL FROM k",
    "PREPARE k AS SELECT {e:ssn} FROM people ~~ EXECUTE k",
    "UPDATE people SET plain = plain RETURNING {e:ssn}",
    "WITH d AS (DELETE FROM people RETURNING *) SELECT {e:ssn} FROM d",
    "SELECT {e:p.ssn} FROM notes RIGHT JOIN people p ON true",
];

/// Whole rows, other columns, and what needs no value to be done something to.
const ALONE: &[&str] = &[
    "TABLE people",
    "SELECT * FROM people",
    "SELECT p FROM people p",
    "SELECT p::text FROM people p",
    "SELECT (p).ssn FROM people p",
    "SELECT (p).* FROM people p",
    "SELECT ssn(people) FROM people",
    "SELECT row_to_json(p) FROM people p",
    "SELECT to_jsonb(people) FROM people",
    "SELECT json_agg(p) FROM people p",
    "SELECT array_agg(p) FROM people p",
    "SELECT count(*), max(ssn), min(email) FROM people",
    "SELECT string_agg(ssn, ',' ORDER BY id) FROM people",
    "SELECT mode() WITHIN GROUP (ORDER BY ssn) FROM people",
    "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY ssn) FROM people",
    "SELECT jsonb_object_agg(id, ssn) FROM people",
    "SELECT jsonb_object_agg(ssn, id) FROM people",
    "SELECT xmlagg(xmlelement(name a, xmlattributes(ssn AS b))) FROM people",
    "SELECT * FROM people NATURAL JOIN seen",
    "SELECT ssn FROM people a JOIN people b USING (ssn)",
    "SELECT ssn FROM people EXCEPT SELECT plain FROM people",
    "SELECT ssn FROM people INTERSECT SELECT code FROM seen",
    "SELECT doc FROM people",
    "SELECT doc ->> 'a' FROM people WHERE id = 1",
    "SELECT doc -> 0 FROM people WHERE id = 2",
    "SELECT * FROM people, jsonb_array_elements(CASE id WHEN 2 THEN doc ELSE '[]' END) e",
    "SELECT e.* FROM people, jsonb_each_text(to_jsonb(people)) e",
    "SELECT u FROM people, unnest(string_to_array(ssn, '-')) u",
    "SELECT regexp_split_to_table(ssn, '-') FROM people",
    "SELECT r FROM people, LATERAL regexp_matches(ssn, '(.*)-ssn') r",
    "SELECT x.c FROM people, XMLTABLE('/a' PASSING xmlelement(name a, ssn) COLUMNS c text PATH '.') x",
    "SELECT j.ssn FROM people, json_to_record(to_json(people)) AS j (ssn text)",
    "SELECT born FROM people",
    "SELECT born::text FROM people",
    "SELECT born + 0 FROM people",
    "SELECT to_char(born, 'YYYY-MM-DD') FROM people",
    "SELECT number FROM people",
    "SELECT number + 0, number::text FROM people",
    "SELECT sum(number) - max(number) FROM people",
    "SELECT * FROM staff RIGHT JOIN people USING (id)",
    "DELETE FROM people RETURNING *",
    "DELETE FROM people USING notes RIGHT JOIN seen ON true WHERE people.id = seen.id RETURNING seen.code",
    "UPDATE people SET plain = 'x' FROM seen WHERE seen.id = people.id RETURNING code",
    "INSERT INTO people (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET plain = 'x' RETURNING people",
    "COPY people TO STDOUT",
    "COPY people (ssn) TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE *)",
    "COPY people (id, ssn) TO STDOUT WITH (FORMAT binary)",
    "DECLARE k BINARY CURSOR FOR SELECT * FROM people ~~ FETCH 1 FROM k ~~ FETCH BACKWARD ALL FROM k ~~ FETCH ALL FROM k",
    "DECLARE k SCROLL CURSOR WITH HOLD FOR TABLE people ~~ FETCH LAST FROM k",
    "CREATE TEMP VIEW v AS SELECT email AS x FROM people ~~ SELECT reverse(x) FROM v",
    "SET search_path = pg_catalog, public ~~ SELECT ssn FROM people",
    "PREPARE k (int) AS SELECT ssn FROM people WHERE id = $1 ~~ EXECUTE k (2)",
    "EXPLAIN (ANALYZE, VERBOSE, COSTS off) SELECT ssn FROM people WHERE id = 1 ~~ SELECT ssn FROM people",
];

/// Errors and notices that quote a value, places that keep one, and code that would run unseen.
/// `-` before it: PostgreSQL itself shows nothing.
const TRIED: &[&str] = &[
    "SELECT ssn::int FROM people",
    "SELECT CAST(email AS date) FROM people",
    "SELECT ssn::json FROM people",
    "SELECT ssn::uuid FROM people",
    "SELECT 1 FROM people WHERE ssn::int = 1",
    "SELECT id FROM people ORDER BY ssn::numeric",
    "SELECT count(*) FROM people GROUP BY email::inet",
    "UPDATE people SET ssn = (SELECT max(ssn) FROM people)",
    "INSERT INTO people (id, ssn) SELECT 7, ssn FROM people WHERE id = 1",
    "CREATE UNIQUE INDEX ON people (left(ssn, 9))",
    "ALTER TABLE people ALTER COLUMN doc TYPE int USING (doc ->> 'a')::int",
    "CREATE INDEX ON people ((ssn::int))",
    "-ALTER TABLE people ADD CHECK (ssn = '')",
    "UPDATE people SET id = NULL",
    "DO $$ DECLARE v text; BEGIN SELECT ssn INTO v FROM people; RAISE NOTICE '%', v; END $$",
    "DO $$ DECLARE v text; BEGIN SELECT ssn INTO v FROM people; RAISE EXCEPTION '%', v; END $$",
    "DO $$ BEGIN PERFORM ssn::int FROM people; END $$",
    "SELECT owner_reads(1)",
    "SELECT owner_says('x')",
    "SELECT id FROM people WHERE owner_says('x')",
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'people'",
    "SELECT stavalues1::text FROM pg_statistic WHERE starelid = 'people'::regclass",
    "SELECT s FROM pg_statistic s WHERE starelid = 'people'::regclass",
    "SELECT * FROM pg_stats WHERE tablename = 'people'",
    "SELECT query_to_xml('SELECT * FROM people', true, true, '')",
    "SELECT table_to_xml('people', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', email) FROM people')",
    "SELECT lo_from_bytea(4711, ssn::bytea) FROM people WHERE id = 1 ~~ SELECT data FROM pg_largeobject",
    "SELECT lo_from_bytea(4711, ssn::bytea) FROM people WHERE id = 1 ~~ SELECT lo_get(4711)",
    "SELECT set_config('a.b', max(ssn), false) FROM people ~~ SHOW a.b",
    "SELECT set_config('a.b', max(email), false) FROM people ~~ SELECT current_setting('a.b')",
    "SELECT ssn INTO TEMP stolen FROM people ~~ TABLE stolen",
    "CREATE TEMP TABLE stolen AS TABLE people ~~ TABLE stolen",
    "CREATE TEMP TABLE stolen AS SELECT reverse(ssn) x FROM people ~~ TABLE stolen",
    "INSERT INTO notes SELECT email FROM people ~~ TABLE notes",
    "UPDATE people SET plain = ssn ~~ SELECT plain FROM people",
    "UPDATE notes SET note = ssn FROM people RETURNING people.*",
    "MERGE INTO notes USING people ON false WHEN NOT MATCHED THEN INSERT VALUES (ssn) ~~ TABLE notes",
    "WITH i AS (INSERT INTO notes SELECT ssn FROM people RETURNING note) TABLE i",
    "ALTER TABLE people RENAME COLUMN email TO free ~~ SELECT free FROM people",
    "ALTER TABLE people RENAME TO others ~~ SELECT email FROM others",
    "ALTER TABLE people SET SCHEMA pg_catalog ~~ SELECT email FROM people",
    "ALTER SCHEMA public RENAME TO elsewhere ~~ SELECT email FROM elsewhere.people",
    "ALTER TABLE people ADD COLUMN copied text GENERATED ALWAYS AS (upper(email)) STORED ~~ SELECT copied FROM people",
    "ALTER TABLE people ALTER COLUMN plain TYPE text USING email ~~ SELECT plain FROM people",
    "UPDATE pg_namespace SET nspname = 'elsewhere' WHERE nspname = 'public' ~~ SELECT email FROM elsewhere.people",
    "UPDATE pg_class SET relname = 'others' WHERE oid = 'people'::regclass ~~ SELECT email FROM others",
    "CREATE FUNCTION mine() RETURNS text LANGUAGE sql AS 'SELECT max(email) FROM people' ~~ SELECT mine()",
    "CREATE TEMP TABLE l (id int, x text DEFAULT owner_reads(1)) ~~ INSERT INTO l (id) VALUES (1) ~~ TABLE l",
    "CREATE TEMP TABLE l (id int, x text DEFAULT owner_reads(1)) ~~ INSERT INTO l (id) VALUES (1) RETURNING x",
    "ALTER TABLE notes ADD COLUMN x text DEFAULT owner_reads(1) ~~ INSERT INTO notes VALUES ('x') ~~ TABLE notes",
    "ALTER TABLE notes ALTER COLUMN note SET DEFAULT owner_reads(1) ~~ INSERT INTO notes DEFAULT VALUES RETURNING note",
    "CREATE TEMP TABLE l (x xml DEFAULT query_to_xml('TABLE people', true, true, '')) ~~ INSERT INTO l DEFAULT VALUES ~~ TABLE l",
    "CREATE TEMP TABLE l (x text CHECK (owner_says(x))) ~~ INSERT INTO l VALUES ('x')",
    "ALTER TABLE notes ADD CHECK (owner_says(note)) ~~ INSERT INTO notes VALUES ('x')",
    "CREATE DOMAIN d AS text CHECK (owner_says(VALUE)) ~~ SELECT 'x'::d",
    "CREATE DOMAIN d AS text DEFAULT owner_reads(1) ~~ CREATE TEMP TABLE l (id int, x d) ~~ INSERT INTO l (id) VALUES (1) ~~ TABLE l",
    "CREATE TRIGGER t AFTER INSERT ON staff EXECUTE FUNCTION owner_copies() ~~ INSERT INTO staff (id) VALUES (5) ~~ TABLE notes",
    "CREATE RULE r AS ON INSERT TO notes DO ALSO SELECT ssn FROM people ~~ INSERT INTO notes VALUES ('x')",
    "CREATE RULE r AS ON INSERT TO notes DO INSTEAD UPDATE people SET plain = email ~~ INSERT INTO notes VALUES ('x') ~~ SELECT plain FROM people",
    "CREATE CAST (mood AS text) WITH FUNCTION owner_mood(mood) AS IMPLICIT ~~ SELECT lower('good'::mood)",
    "CREATE CAST (mood AS text) WITH FUNCTION owner_mood(mood) AS ASSIGNMENT ~~ INSERT INTO notes SELECT 'good'::mood ~~ TABLE notes",
    "CREATE OPERATOR === (RIGHTARG = int, FUNCTION = owner_reads) ~~ SELECT === 1",
    "CREATE AGGREGATE agg (mood) (SFUNC = array_append, STYPE = mood[], INITCOND = '{good}') ~~ SELECT max(email) FROM people",
    "CREATE POLICY p ON notes USING (owner_says(note)) ~~ ALTER TABLE notes ENABLE ROW LEVEL SECURITY ~~ ALTER TABLE notes FORCE ROW LEVEL SECURITY ~~ INSERT INTO notes VALUES ('x') ~~ SELECT max(email) FROM people",
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION owner_ends() ~~ CREATE TABLE l ()",
    "COPY people TO '{file}' ~~ CREATE TEMP TABLE l (x text) ~~ COPY l FROM '{file}' WITH (DELIMITER '^') ~~ TABLE l",
    "COPY people TO PROGRAM 'cat > {file}' ~~ CREATE TEMP TABLE l (x text) ~~ COPY l FROM PROGRAM 'cat {file}' WITH (DELIMITER '^') ~~ TABLE l",
    "COPY people TO '{file}' ~~ SELECT pg_read_file('{file}')",
    "SET client_min_messages = debug5 ~~ SET debug_print_plan = on ~~ SELECT ssn FROM people WHERE id = 1",
    "SET bytea_output = escape ~~ SELECT ssn::bytea FROM people",
    "SET xmlbinary = hex ~~ SELECT xmlelement(name a, ssn::bytea) FROM people",
    "-EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM people WHERE ssn = (SELECT max(ssn) FROM people)",
    "-EXPLAIN (GENERIC_PLAN) SELECT ssn FROM people",
    "-SELECT ssn FROM people WHERE false",
];

/// All of them; what they write on the server goes to `file`.
pub(crate) fn all(file: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let case = |text: &str, shows| case(&text.replace(FILE, file), shows);
    for shape in SHAPES {
        let Some((before, rest)) = shape.split_once("{e:") else { panic!("{shape}") };
        let Some((column, after)) = rest.split_once('}') else { panic!("{shape}") };
        for value in VALUES {
            let value = value.replace("{c}", column);
            cases.push(case(&format!("{before}{value}{after}"), true));
        }
    }
    cases.extend(ALONE.iter().map(|text| case(text, true)));
    cases.extend(TRIED.iter().map(|text| match text.strip_prefix('-') {
        Some(text) => case(text, false),
        None => case(text, true),
    }));
    cases
}

fn case(text: &str, shows: bool) -> Case {
    let strings: Vec<String> = text.split(" ~~ ").map(str::to_owned).collect();
    let reads = ["SELECT", "VALUES", "TABLE", "COPY ("];
    let wrap = strings.len() > 1 || !reads.iter().any(|word| text.starts_with(word));
    Case { strings, wrap, shows }
}
