//! What outputs depend on, statement by statement, and by chance.

mod property;

use crate::protocol::postgres::sql::tests::{catalog, one, path};
use crate::protocol::postgres::sql::{Output, lineage, trace};
use rstest::rstest;

/// `name:table.column+...` for each output, `=` before a column that is unchanged. The table
/// that inherits from `users` is left out.
fn shown(outputs: &[Output]) -> String {
    let output = |output: &Output| {
        let columns = output.columns.iter().filter(|column| &*column.table != "employees");
        let columns: Vec<_> =
            columns.map(|column| format!("{}.{}", column.table, column.column)).collect();
        let same = if output.unchanged { "=" } else { "" };
        format!("{}:{same}{}", output.name, columns.join("+"))
    };
    outputs.iter().map(output).collect::<Vec<_>>().join(" ")
}

#[rstest]
#[case("SELECT email FROM users", "email:=users.email")]
#[case("SELECT \"email\" AS \"E\" FROM public.users", "E:=users.email")]
#[case("SELECT u.email, 1, now() FROM users u", "email:=users.email ?column?: now:")]
#[case("SELECT public.users.email FROM public.users", "email:=users.email")]
#[case("SELECT x FROM users AS u(a, b, x)", "x:=users.email")]
#[case("SELECT upper(email) || name e FROM users", "e:users.email+users.name")]
#[case("SELECT email::varchar, CAST(ssn AS text) c FROM users", "email:users.email c:users.ssn")]
#[case("SELECT email COLLATE \"C\" FROM users", "email:=users.email")]
#[case("SELECT CASE WHEN ssn > 'a' THEN 1 ELSE 2 END FROM users", "case:users.ssn")]
#[case("SELECT COALESCE(ssn, email) FROM users", "coalesce:users.email+users.ssn")]
#[case("SELECT count(*) FROM users WHERE ssn = 'a'", "count:")]
#[case("SELECT ssn = 'a' FROM users", "?column?:users.ssn")]
#[case(
    "SELECT * FROM orders",
    "id:=orders.id user_id:=orders.user_id total:=orders.total note:=orders.note"
)]
#[case(
    "SELECT o.* FROM users, orders o LIMIT 1",
    "id:=orders.id user_id:=orders.user_id total:=orders.total note:=orders.note"
)]
#[case("SELECT orders FROM orders", "orders:orders.id+orders.note+orders.total+orders.user_id")]
#[case("SELECT o FROM orders o", "o:orders.id+orders.note+orders.total+orders.user_id")]
#[case("SELECT (o).note FROM orders o", "note:=orders.note")]
#[case("SELECT (o).* FROM (SELECT note, id FROM orders) o", "note:=orders.note id:=orders.id")]
#[case("SELECT row_to_json(o) FROM (SELECT note FROM orders) o", "row_to_json:orders.note")]
#[case("SELECT note(orders) FROM orders", "note:orders.id+orders.note+orders.total+orders.user_id")]
#[case("SELECT ROW(id, note) FROM orders", "row:orders.id+orders.note")]
#[case("SELECT ARRAY[id, total] FROM orders", "array:orders.id+orders.total")]
#[case(
    "SELECT array_agg(note ORDER BY id) FILTER (WHERE total > 1) FROM orders",
    "array_agg:orders.id+orders.note+orders.total"
)]
#[case("SELECT ctid, tableoid FROM orders", "ctid: tableoid:")]
#[case("SELECT tags[id] FROM users", "tags:users.id+users.tags")]
#[case("SELECT doc->'a'->>email FROM users", "?column?:users.doc+users.email")]
#[case("SELECT json_build_object('a', ssn) FROM users", "json_build_object:users.ssn")]
#[case("SELECT JSON_OBJECT('a': ssn) FROM users", "json_object:users.ssn")]
#[case(
    "SELECT xmlelement(name a, ssn), xmlforest(email) FROM users",
    "xmlelement:users.ssn xmlforest:users.email"
)]
#[case("SELECT a FROM (SELECT email FROM users) x(a)", "a:=users.email")]
#[case("SELECT upper FROM (SELECT upper(email) FROM users) x", "upper:users.email")]
#[case("WITH c(z) AS (SELECT ssn FROM users) SELECT z FROM c", "z:=users.ssn")]
#[case("WITH users AS (SELECT note AS ssn FROM orders) SELECT ssn FROM users", "ssn:=orders.note")]
#[case(
    "WITH a AS (SELECT ssn FROM users), b AS (SELECT * FROM a) SELECT * FROM b",
    "ssn:=users.ssn"
)]
#[case(
    "WITH RECURSIVE b AS (SELECT * FROM a), a AS (SELECT ssn FROM users) SELECT * FROM b",
    "ssn:=users.ssn"
)]
#[case(
    "WITH RECURSIVE r(a, b) AS (SELECT name, 'x' FROM users UNION ALL SELECT b, note FROM r, orders) SELECT * FROM r",
    "a:orders.note+users.name b:orders.note"
)]
#[case(
    "WITH RECURSIVE r(a, b, c) AS (SELECT 'a', 'b', ssn FROM users UNION ALL SELECT b, c, 'x' FROM r) SELECT a FROM r",
    "a:users.ssn"
)]
#[case(
    "WITH RECURSIVE r AS (SELECT id FROM orders UNION SELECT id + 1 FROM r) SEARCH DEPTH FIRST BY id SET s CYCLE id SET c USING p SELECT * FROM r",
    "id:orders.id s:orders.id c:orders.id p:orders.id"
)]
#[case("SELECT 'x' UNION SELECT ssn FROM users", "?column?:users.ssn")]
#[case("SELECT email FROM users UNION ALL SELECT ssn FROM users", "email:=users.email+users.ssn")]
#[case("SELECT note FROM orders EXCEPT SELECT ssn FROM users", "note:=orders.note+users.ssn")]
#[case("VALUES ('a', (SELECT ssn FROM users)), ('b', 'c')", "column1: column2:users.ssn")]
#[case("SELECT (SELECT ssn FROM users LIMIT 1)", "ssn:=users.ssn")]
#[case("SELECT ARRAY(SELECT ssn FROM users)", "array:users.ssn")]
#[case("SELECT EXISTS (SELECT FROM users WHERE ssn = 'a')", "exists:users.ssn")]
#[case("SELECT 'a' IN (SELECT ssn FROM users)", "?column?:users.ssn")]
#[case("SELECT (SELECT u.ssn) FROM users u", "ssn:=users.ssn")]
#[case("SELECT (SELECT note) FROM orders", "note:=orders.note")]
#[case("SELECT x.s FROM users u, LATERAL (SELECT u.ssn AS s) x", "s:=users.ssn")]
#[case("SELECT s FROM users u CROSS JOIN LATERAL (VALUES (u.ssn)) v(s)", "s:=users.ssn")]
#[case("SELECT t FROM users, unnest(tags) t", "t:users.tags")]
#[case(
    "SELECT t.v, n FROM users, unnest(string_to_array(ssn, '-')) WITH ORDINALITY AS t(v, n)",
    "v:users.ssn n:"
)]
#[case("SELECT key, value FROM users, jsonb_each(doc)", "key:users.doc value:users.doc")]
#[case("SELECT * FROM generate_series(1, 2)", "generate_series:")]
#[case("SELECT * FROM generate_series(1, 2) g", "g:")]
#[case("SELECT * FROM unnest('{1}'::int4[]) a, unnest(ARRAY['x']) b(c)", "a: c:")]
#[case(
    "SELECT j.a FROM users, json_to_record(to_json(users)) AS j(a text, b int)",
    "a:users.address_id+users.boss+users.doc+users.email+users.id+users.name+users.ssn+users.tags"
)]
#[case(
    "SELECT name, note FROM users u JOIN orders o ON u.id = o.user_id",
    "name:=users.name note:=orders.note"
)]
#[case(
    "SELECT * FROM (SELECT id, ssn FROM users) a JOIN (SELECT note, id FROM orders) b USING (id)",
    "id:=orders.id+users.id ssn:=users.ssn note:=orders.note"
)]
#[case(
    "SELECT * FROM (SELECT id, ssn FROM users) a NATURAL FULL JOIN (SELECT note, id FROM orders) b",
    "id:=orders.id+users.id ssn:=users.ssn note:=orders.note"
)]
#[case(
    "SELECT a.id, j.ssn FROM ((SELECT id, ssn FROM users) a JOIN (SELECT id FROM orders) b USING (id)) , (SELECT ssn FROM users) j",
    "id:=users.id ssn:=users.ssn"
)]
#[case("SELECT j.x FROM (users JOIN orders USING (id)) AS j(i, x)", "x:=users.name")]
#[case("SELECT m.id FROM users JOIN orders USING (id) AS m", "id:=orders.id+users.id")]
#[case("SELECT rank() OVER (PARTITION BY ssn ORDER BY id) FROM users", "rank:users.id+users.ssn")]
#[case("SELECT rank() OVER w FROM users WINDOW w AS (ORDER BY ssn)", "rank:users.ssn")]
#[case("SELECT lag(note) OVER (ORDER BY id) FROM orders", "lag:orders.id+orders.note")]
#[case(
    "SELECT mail, code FROM contacts",
    "mail:=contacts.mail+users.email code:contacts.code+users.ssn"
)]
#[case("SELECT mail FROM team", "mail:=contacts.mail+team.mail+users.email")]
#[case("SELECT secret FROM frozen", "secret:=frozen.secret+users.ssn")]
#[case("SELECT token FROM events", "token:=events.token+events_24.token")]
#[case("SELECT token FROM events_24", "token:=events.token+events_24.token")]
#[case("SELECT shout FROM made", "shout:made.shout+made.ssn")]
#[case(
    "SELECT \"Mixed\", \"select\" FROM \"Odd Name\"",
    "Mixed:=Odd Name.Mixed select:=Odd Name.select"
)]
#[case("SELECT id FROM app.users", "id:=users.id")]
#[case(
    "INSERT INTO notes (body) VALUES ('x') RETURNING *",
    "id:=notes.id body:=notes.body author:=notes.author"
)]
#[case("INSERT INTO notes (body) SELECT ssn FROM users RETURNING body b", "b:notes.body+users.ssn")]
#[case(
    "UPDATE notes SET body = ssn FROM users RETURNING body, author",
    "body:notes.body+users.ssn author:=notes.author"
)]
#[case(
    "UPDATE notes n SET (body, author) = (SELECT email, 'x' FROM users LIMIT 1) RETURNING author",
    "author:notes.author+users.email"
)]
#[case("DELETE FROM users USING orders RETURNING ssn, note", "ssn:=users.ssn note:=orders.note")]
#[case(
    "INSERT INTO notes VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET body = (SELECT ssn FROM users) RETURNING body",
    "body:notes.body+users.ssn"
)]
#[case("WITH d AS (DELETE FROM users RETURNING ssn AS s) SELECT s FROM d", "s:=users.ssn")]
#[case(
    "MERGE INTO notes USING users u ON u.id = notes.id WHEN MATCHED THEN UPDATE SET body = u.ssn RETURNING notes.body",
    "body:notes.body+users.ssn"
)]
#[case("COPY (SELECT ssn FROM users) TO STDOUT", "ssn:=users.ssn")]
#[case("COPY orders (note, id) TO STDOUT", "note:=orders.note id:=orders.id")]
#[case("COPY orders FROM STDIN", "")]
#[case("EXPLAIN SELECT ssn FROM users", "QUERY PLAN:")]
#[case("EXPLAIN DECLARE c CURSOR FOR SELECT ssn FROM users", "QUERY PLAN:")]
#[case("SELECT (json_populate_record(NULL::orders, '{}')).*", "id: user_id: total: note:")]
#[case(
    "SELECT x.note FROM users, json_populate_record(NULL::public.orders, to_json(ssn)) x",
    "note:users.ssn"
)]
#[case(
    "SELECT * FROM json_populate_record((SELECT u FROM users u)::orders, '{}') AS x(a, b, c)",
    "a:users.address_id+users.boss+users.doc+users.email+users.id+users.name+users.ssn+users.tags b:users.address_id+users.boss+users.doc+users.email+users.id+users.name+users.ssn+users.tags c:users.address_id+users.boss+users.doc+users.email+users.id+users.name+users.ssn+users.tags note:users.address_id+users.boss+users.doc+users.email+users.id+users.name+users.ssn+users.tags"
)]
#[case("DECLARE c CURSOR FOR SELECT ssn FROM users", "ssn:=users.ssn")]
#[case("SELECT relname FROM pg_class", "relname:=pg_class.relname")]
#[case("SELECT u.ssn FROM users u TABLESAMPLE system (1)", "ssn:=users.ssn")]
#[case(
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders",
    "percentile_cont:orders.total"
)]
#[case(
    "SELECT c FROM users, XMLTABLE('/a' PASSING xmlelement(name a, ssn) COLUMNS c text, d int) x",
    "c:users.ssn"
)]
#[case(
    "SELECT a FROM users, JSON_TABLE(doc, '$' COLUMNS (a int PATH '$.a', NESTED PATH '$.b' COLUMNS (c int))) j",
    "a:users.doc"
)]
fn outputs(#[case] sql: &str, #[case] expected: &str) {
    let outputs = lineage(&one(sql), catalog(), &path()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(shown(&outputs), expected, "{sql}");
}

#[rstest]
#[case("SELECT peek(1)")]
#[case("SELECT * FROM peek(1)")]
#[case("SELECT fullname(users) FROM users")]
#[case("SELECT u.fullname FROM users u")]
#[case("SELECT (u).fullname FROM users u")]
#[case("SELECT 'a' === ssn FROM users")]
#[case("SELECT nosuch(1)")]
#[case("SELECT * FROM nowhere")]
#[case("SELECT nothing FROM users")]
#[case("SELECT x.email FROM users")]
#[case("SELECT query_to_xml('SELECT ssn FROM users', true, true, '')")]
#[case("SELECT table_to_xml('users', true, true, '')")]
#[case("SELECT pg_read_file('base/1/2')")]
#[case("SELECT lo_get(1)")]
#[case("SELECT most_common_vals FROM pg_stats")]
#[case("SELECT stavalues1 FROM pg_statistic")]
#[case("SELECT data FROM pg_largeobject")]
#[case("SELECT query FROM pg_stat_activity")]
#[case("SELECT * FROM dblink('x', 'SELECT 1') AS t(a text)")]
#[case("SELECT * FROM unnest((SELECT array_agg(users) FROM users)) u")]
#[case("SELECT * FROM json_populate_record(NULL::nosuch, '{}') x")]
#[case("SELECT * FROM json_populate_record((SELECT u FROM users u), '{}') x")]
#[case("SELECT * FROM json_populate_record(base => NULL::users, from_json => '{}') x")]
#[case("SELECT (json_populate_record($1, '{}')).*")]
#[case("EXPLAIN DECLARE c CURSOR FOR SELECT peek(1)")]
#[case("SELECT * FROM unnest($1)")]
#[case("SELECT a FROM (SELECT 1 UNION SELECT 1, 2) x(a)")]
#[case("CALL p()")]
#[case("DO $$ BEGIN END $$")]
#[case("EXECUTE p")]
#[case("FETCH c")]
#[case("CREATE TABLE n AS EXECUTE p")]
#[case("EXPLAIN SELECT peek(1)")]
#[case("INSERT INTO notes (body) VALUES (peek(1))")]
#[case("WITH RECURSIVE a AS (SELECT * FROM b), b AS (SELECT * FROM a) SELECT * FROM a")]
fn what_cannot_be_followed_says_so(#[case] sql: &str) {
    let traced = lineage(&one(sql), catalog(), &path());
    assert!(traced.is_err(), "{sql}: {traced:?}");
}

/// The same sources, where nothing of theirs is in the answer.
#[rstest]
#[case("SELECT tablename FROM pg_stats", "tablename:=pg_class.relname+pg_stats.tablename")]
#[case("SELECT starelid FROM pg_statistic", "starelid:=pg_statistic.starelid")]
#[case("SELECT u.email FROM (SELECT peek(1), email FROM users) u", "email:=users.email")]
fn what_is_not_used_does_not_hinder(#[case] sql: &str, #[case] expected: &str) {
    let outputs = lineage(&one(sql), catalog(), &path()).unwrap();
    assert_eq!(shown(&outputs), expected, "{sql}");
}

#[rstest]
#[case("SELECT 1 FROM users WHERE ssn = 'a'", "users.ssn")]
#[case("SELECT email e FROM users ORDER BY e", "users.email")]
#[case("SELECT email, ssn FROM users ORDER BY 2", "users.ssn")]
#[case("SELECT count(*) FROM users GROUP BY ssn HAVING max(name) > 'a'", "users.name+users.ssn")]
#[case("SELECT count(*) FROM users GROUP BY GROUPING SETS ((ssn), (name))", "users.name+users.ssn")]
#[case("SELECT 1 FROM users u JOIN orders o ON u.ssn = o.note", "orders.note+users.ssn")]
#[case("SELECT 1 FROM users JOIN orders USING (id)", "orders.id+users.id")]
#[case("SELECT DISTINCT ON (ssn) 1 FROM users", "users.ssn")]
#[case(
    "SELECT 1 FROM orders WHERE id IN (SELECT id FROM users WHERE ssn = 'a')",
    "orders.id+users.id+users.ssn"
)]
#[case("SELECT x FROM (SELECT 1 AS x FROM users WHERE ssn = 'a') y", "users.ssn")]
#[case("WITH c AS (SELECT 1 FROM users WHERE ssn = 'a') SELECT * FROM c", "users.ssn")]
#[case("DELETE FROM users WHERE ssn = 'a'", "users.ssn")]
#[case("UPDATE users SET name = 'x' WHERE ssn = 'a'", "users.ssn")]
#[case("SELECT 1 FROM orders LIMIT (SELECT length(max(ssn)) FROM users)", "users.ssn")]
#[case("SELECT 1 UNION SELECT 2 ORDER BY 1", "")]
#[case("SELECT mail FROM contacts", "")]
#[case("SELECT email FROM users", "")]
fn what_is_looked_at(#[case] sql: &str, #[case] expected: &str) {
    let trace = trace(&one(sql), catalog(), &path()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let looked: Vec<_> = trace
        .looked_at
        .iter()
        .filter(|column| &*column.table != "employees")
        .map(|column| format!("{}.{}", column.table, column.column))
        .collect();
    assert_eq!(looked.join("+"), expected, "{sql}");
}

/// Errors in it may be about any value.
#[rstest]
#[case("SELECT 1 FROM pg_stats WHERE most_common_vals IS NULL", true)]
#[case("SELECT 1 FROM pg_stat_activity WHERE query::int = 1", true)]
#[case("SELECT 1 FROM users WHERE peek(id) = 'a'", true)]
#[case("WITH c AS MATERIALIZED (SELECT peek(id), name FROM users) SELECT name FROM c", true)]
#[case("SELECT name FROM users ORDER BY peek(id)", true)]
#[case("SELECT 1 FROM orders WHERE EXISTS (SELECT FROM users WHERE lo_get(1) IS NULL)", true)]
#[case("SELECT tablename FROM pg_stats WHERE tablename = 'a'", false)]
#[case("SELECT upper(ssn) FROM users WHERE id::text = '1' ORDER BY email", false)]
fn what_is_met_on_the_way(#[case] sql: &str, #[case] blind: bool) {
    let trace = trace(&one(sql), catalog(), &path()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(trace.blind, blind, "{sql}");
}

#[rstest]
#[case("INSERT INTO notes (body) SELECT ssn FROM users", "notes.body:=users.ssn")]
#[case("INSERT INTO notes (body, author) VALUES ('a', 'b')", "")]
#[case("UPDATE notes SET author = upper(email) FROM users", "notes.author:users.email")]
#[case("UPDATE users SET name = ssn", "users.name:=users.ssn")]
#[case("UPDATE users SET ssn = upper(ssn)", "")]
#[case("CREATE TABLE n AS SELECT ssn s FROM users", "n.s:=users.ssn")]
#[case("SELECT ssn INTO n FROM users", "n.ssn:=users.ssn")]
#[case("SELECT set_config('a.b', ssn, false) FROM users", "set_config():users.ssn")]
#[case("SELECT pg_notify('a', email) FROM users", "pg_notify():users.email")]
#[case("SELECT upper(email) FROM users", "")]
#[case(
    "WITH i AS (INSERT INTO notes (body) SELECT ssn FROM users) SELECT 1",
    "notes.body:=users.ssn"
)]
#[case(
    "MERGE INTO notes USING users u ON true WHEN NOT MATCHED THEN INSERT (body) VALUES (u.ssn)",
    "notes.body:=users.ssn"
)]
#[case("ALTER TABLE users RENAME COLUMN ssn TO x", "users.ssn (altered):=users.ssn")]
#[case(
    "ALTER TABLE orders ALTER COLUMN note TYPE text USING note || id",
    "orders.id (altered):=orders.id orders.user_id (altered):=orders.user_id orders.total (altered):=orders.total orders.note (altered):=orders.note"
)]
#[case("ALTER TABLE orders ADD COLUMN x int", "")]
fn what_is_kept_elsewhere(#[case] sql: &str, #[case] expected: &str) {
    let trace = trace(&one(sql), catalog(), &path()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    assert_eq!(shown(&trace.kept), expected, "{sql}");
}

/// What would run, or be read, in statements that do not mention it.
#[rstest]
#[case("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ssn FROM users'")]
#[case("CREATE OR REPLACE PROCEDURE f() LANGUAGE sql AS 'SELECT 1'")]
#[case("ALTER FUNCTION peek(int) SET search_path = app")]
#[case("ALTER FUNCTION peek(int) RENAME TO upper")]
#[case("ALTER FUNCTION peek(int) SET SCHEMA app")]
#[case("CREATE TRIGGER t BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION touch()")]
#[case("CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION touch()")]
#[case("CREATE RULE r AS ON INSERT TO notes DO ALSO SELECT ssn FROM users")]
#[case("CREATE POLICY p ON notes USING (peek(1) IS NULL)")]
#[case("CREATE CAST (pair AS text) WITH FUNCTION fullname(users) AS IMPLICIT")]
#[case("CREATE OPERATOR = (LEFTARG = int, RIGHTARG = text, FUNCTION = peek)")]
#[case("CREATE AGGREGATE a (int) (SFUNC = peek, STYPE = text)")]
#[case("CREATE TABLE l (id int, x text DEFAULT peek(1))")]
#[case("CREATE TABLE l (id int CHECK (peek(id) = 'a'))")]
#[case("CREATE TABLE l (x xml DEFAULT query_to_xml('SELECT ssn FROM users', true, true, ''))")]
#[case("CREATE SCHEMA s CREATE TABLE l (x text DEFAULT peek(1))")]
#[case("ALTER TABLE notes ADD COLUMN x text DEFAULT peek(1)")]
#[case("ALTER TABLE notes ALTER COLUMN body SET DEFAULT peek(1)")]
#[case("ALTER TABLE notes ADD CHECK (body === 'a')")]
#[case("CREATE DOMAIN d AS text CHECK (VALUE <> peek(1))")]
#[case("ALTER DOMAIN d SET DEFAULT peek(1)")]
#[case("CREATE INDEX ON notes (peek(id))")]
#[case("CREATE FOREIGN TABLE f (ssn text) SERVER loop OPTIONS (table_name 'users')")]
#[case("ALTER FOREIGN TABLE f OPTIONS (SET table_name 'users')")]
#[case("CREATE USER MAPPING FOR app SERVER loop")]
#[case("CREATE SUBSCRIPTION s CONNECTION 'host=localhost' PUBLICATION p")]
#[case("UPDATE pg_attribute SET attname = 'x' WHERE attname = 'ssn'")]
#[case("INSERT INTO pg_catalog.pg_class SELECT * FROM pg_class")]
#[case("COPY pg_class FROM STDIN")]
#[case("COPY notes FROM '/tmp/users'")]
#[case("COPY notes FROM PROGRAM 'cat /tmp/users'")]
fn what_would_run_unseen_cannot_be_followed(#[case] sql: &str) {
    let traced = trace(&one(sql), catalog(), &path());
    assert!(traced.is_err(), "{sql}: {traced:?}");
}

#[rstest]
#[case(
    "CREATE TABLE l (id serial PRIMARY KEY, at timestamptz DEFAULT now(), x text CHECK (x <> ''))"
)]
#[case("CREATE TABLE l (LIKE users INCLUDING ALL)")]
#[case("CREATE TABLE l (id int DEFAULT nextval('s'), x text DEFAULT upper('a') || 'b')")]
#[case("ALTER TABLE notes ADD COLUMN at date DEFAULT now()::date")]
#[case("CREATE DOMAIN d AS text CHECK (length(VALUE) < 3)")]
#[case("CREATE INDEX ON notes (lower(body)) WHERE id > 3")]
#[case("CREATE SCHEMA s CREATE TABLE l (id int) CREATE VIEW v AS SELECT 1")]
#[case("CREATE COLLATION c (locale = 'C')")]
#[case("CREATE VIEW v AS SELECT peek(1)")]
#[case("ALTER SCHEMA nothing RENAME TO other")]
#[case("COPY notes FROM STDIN")]
fn what_is_defined_of_known_parts_is_followed(#[case] sql: &str) {
    let traced = trace(&one(sql), catalog(), &path());
    assert!(traced.as_ref().is_ok_and(|traced| traced.kept.is_empty()), "{sql}: {traced:?}");
}

#[test]
fn a_schema_takes_its_columns_along_to_another_name() {
    let trace = trace(&one("ALTER SCHEMA public RENAME TO other"), catalog(), &path()).unwrap();
    let shown = shown(&trace.kept);
    assert!(shown.contains("public.users.ssn (altered):=users.ssn"), "{shown}");
}

#[rstest]
#[case("COPY users (ssn) TO '/tmp/x'", "ssn (a file of the server):=users.ssn")]
#[case(
    "COPY (SELECT upper(ssn) x FROM users) TO PROGRAM 'cat'",
    "x (a file of the server):users.ssn"
)]
fn what_is_copied_to_the_server_is_kept_there(#[case] sql: &str, #[case] expected: &str) {
    let trace = trace(&one(sql), catalog(), &path()).unwrap();
    assert_eq!(shown(&trace.kept), expected, "{sql}");
    assert!(trace.outputs.is_empty(), "{sql}");
}
