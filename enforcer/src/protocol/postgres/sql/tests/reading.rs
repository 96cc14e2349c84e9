//! Facts out of the text alone.

use super::{one, shown};
use crate::protocol::postgres::sql::{Effect, Setting, Unreadable, flags, read};
use rstest::rstest;

#[test]
fn a_string_is_split_and_each_statement_keeps_its_exact_text() {
    let all = read(
        " /* a */ SELECT 'a;b' ; -- c\n\tDELETE FROM t WHERE x = $$;$$;; SELECT E'\\';' , \"a;b\"",
    )
    .unwrap();
    let texts: Vec<_> = all.iter().map(|statement| statement.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "/* a */ SELECT 'a;b'",
            "-- c\n\tDELETE FROM t WHERE x = $$;$$",
            "SELECT E'\\';' , \"a;b\""
        ]
    );
    assert!(read("").unwrap().is_empty());
    assert!(read(" ; -- nothing\n;").unwrap().is_empty());
}

#[rstest]
#[case("SELECT a FROM t", "sql.select", "t", "")]
#[case("TABLE t", "sql.select", "t", "")]
#[case("VALUES (1)", "sql.select", "", "")]
#[case(
    "SELECT * FROM a JOIN b.c USING (x), LATERAL (SELECT * FROM d) e",
    "sql.select",
    "a d b.c",
    ""
)]
#[case(
    "SELECT (SELECT max(x) FROM u) FROM t WHERE EXISTS (SELECT FROM v)",
    "sql.select",
    "t u v",
    ""
)]
#[case("WITH c AS (SELECT * FROM t) SELECT * FROM c", "sql.select", "t", "")]
#[case("WITH t AS (SELECT * FROM t) SELECT * FROM t", "sql.select", "t", "")]
#[case(
    "WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t",
    "sql.select",
    "",
    ""
)]
#[case("WITH c AS (SELECT 1) SELECT * FROM public.c", "sql.select", "public.c", "")]
#[case("SELECT * FROM (WITH c AS (SELECT 1) SELECT * FROM c) x, c", "sql.select", "c", "")]
#[case("INSERT INTO t SELECT * FROM u", "sql.insert", "u", "t")]
#[case("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", "sql.update", "t", "t")]
#[case("UPDATE t SET a = b FROM u WHERE t.x = u.x", "sql.update", "t u", "t")]
#[case("DELETE FROM t", "sql.delete", "", "t")]
#[case("DELETE FROM t USING u WHERE true RETURNING *", "sql.delete", "t u", "t")]
#[case(
    "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "sql.delete",
    "t u",
    "t"
)]
#[case("WITH d AS (DELETE FROM a RETURNING *) SELECT * FROM d", "sql.delete", "a", "a")]
#[case("WITH i AS (INSERT INTO a VALUES (1)) UPDATE b SET x = 1", "sql.update", "b", "a b")]
#[case("SELECT * INTO n FROM t", "sql.ddl.create", "t", "n")]
#[case("CREATE TABLE n AS SELECT * FROM t", "sql.ddl.create", "t", "n")]
#[case("SELECT * FROM t FOR UPDATE OF t", "sql.lock", "t", "")]
#[case("COPY t (a) FROM STDIN", "sql.copy.in", "", "t")]
#[case("COPY t TO STDOUT", "sql.copy.out", "t", "")]
#[case("COPY (SELECT * FROM t) TO STDOUT", "sql.copy.out", "t", "")]
#[case("COPY (DELETE FROM t RETURNING *) TO STDOUT", "sql.delete", "t", "t")]
#[case("EXPLAIN DELETE FROM t", "sql.explain", "t", "")]
#[case("EXPLAIN ANALYZE DELETE FROM t", "sql.delete", "", "t")]
#[case("EXPLAIN (VERBOSE, ANALYZE 1) INSERT INTO t VALUES (1)", "sql.insert", "", "t")]
#[case("EXPLAIN (ANALYZE off) DELETE FROM t WHERE a = 1", "sql.explain", "t", "")]
#[case("PREPARE p AS DELETE FROM t", "sql.prepare", "", "t")]
#[case("DECLARE c CURSOR FOR SELECT * FROM t", "sql.cursor", "t", "")]
#[case("DROP TABLE a, s.b", "sql.ddl.drop", "", "a s.b")]
#[case("DROP TRIGGER g ON s.t", "sql.ddl.drop", "", "s.t")]
#[case("TRUNCATE a, b", "sql.ddl.truncate", "", "a b")]
#[case("ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES u (b)", "sql.ddl.alter", "u", "t")]
#[case("ALTER TABLE t RENAME COLUMN a TO b", "sql.ddl.rename", "", "t")]
#[case("CREATE TABLE t (LIKE u) INHERITS (v)", "sql.ddl.create", "u v", "t")]
#[case("CREATE VIEW v AS SELECT * FROM t", "sql.ddl.create", "t", "v")]
#[case("CREATE INDEX i ON t (lower(a))", "sql.ddl.create", "", "t")]
#[case("COMMENT ON COLUMN t.a IS 'x'", "sql.ddl.comment", "", "t")]
#[case("GRANT SELECT ON t TO PUBLIC", "sql.grant", "", "t")]
#[case("LOCK t", "sql.lock", "", "t")]
#[case("VACUUM t", "sql.maintenance", "", "t")]
#[case("REFRESH MATERIALIZED VIEW m", "sql.ddl.refresh", "", "m")]
#[case("CALL p(1)", "sql.call", "", "")]
#[case("DO $$ BEGIN END $$", "sql.do", "", "")]
#[case("SHOW search_path", "sql.show", "", "")]
#[case("NOTIFY a, 'b'", "sql.notify", "", "")]
#[case("ALTER SYSTEM SET fsync = off", "sql.system", "", "")]
#[case("CREATE ROLE r", "sql.role", "", "")]
#[case("BEGIN", "sql.transaction", "", "")]
#[case("SET a.b = 1", "sql.set", "", "")]
fn actions_and_tables(
    #[case] sql: &str,
    #[case] action: &str,
    #[case] reads: &str,
    #[case] writes: &str,
) {
    let statement = one(sql);
    assert_eq!(statement.action, action, "{statement:?}");
    assert_eq!(shown(&statement.reads), reads, "{sql}");
    assert_eq!(shown(&statement.writes), writes, "{sql}");
}

#[test]
fn everything_that_a_statement_does_is_named() {
    let statement = one("WITH u AS (UPDATE a SET x = 1 RETURNING *) DELETE FROM b WHERE x = 1");
    assert_eq!(statement.actions, ["sql.delete", "sql.update"]);
    assert!(statement.flags.contains(flags::DATA_CHANGING_CTE));
    let plain = one("WITH u AS (SELECT 1) DELETE FROM b");
    assert_eq!(plain.actions, ["sql.delete"]);
    assert!(plain.flags.is_empty());
}

#[rstest]
#[case("COPY t FROM PROGRAM 'id'", &[flags::COPY_PROGRAM])]
#[case("COPY (SELECT 1) TO PROGRAM 'cat'", &[flags::COPY_PROGRAM])]
#[case("COPY t TO '/tmp/x'", &[flags::COPY_FILE])]
#[case("COPY t FROM STDIN", &[])]
#[case("DO $$$$", &[flags::DO, flags::STATE_UNKNOWN])]
#[case("CALL p()", &[flags::CALL, flags::STATE_UNKNOWN])]
#[case("SET search_path = a", &[flags::SET_SEARCH_PATH])]
#[case("SET LOCAL \"Search_Path\" TO a", &[flags::SET_SEARCH_PATH])]
#[case("SET SCHEMA 'a'", &[flags::SET_SEARCH_PATH])]
#[case("RESET ROLE", &[flags::SET_ROLE])]
#[case("SET ROLE a", &[flags::SET_ROLE])]
#[case("SET SESSION AUTHORIZATION a", &[flags::SET_SESSION_AUTHORIZATION])]
#[case("SET row_security = off", &[flags::SET_ROW_SECURITY])]
#[case("SET standard_conforming_strings = off", &[flags::SET_READING])]
#[case("SET NAMES 'latin1'", &[flags::SET_READING])]
#[case("SELECT pg_catalog.set_config('role', 'x', false)", &[flags::SET_CONFIG, flags::STATE_UNKNOWN])]
#[case("SELECT lo_get(1)", &[flags::LARGE_OBJECT])]
#[case("SELECT * FROM dblink('x', 'SELECT 1') AS t(a int)", &[flags::DBLINK])]
#[case("SELECT pg_read_file('/etc/passwd')", &[flags::SERVER_FILE])]
#[case("SELECT \"pg_terminate_backend\"(1)", &[flags::SERVER_CONTROL])]
#[case("SELECT U&\"pg\\005fterminate_backend\"(1)", &[flags::SERVER_CONTROL])]
#[case("SELECT nextval('s')", &[flags::SEQUENCE])]
#[case("SELECT 1 WHERE pg_advisory_lock(1) IS NULL", &[flags::ADVISORY_LOCK])]
#[case("SELECT query_to_xml('SELECT 1', true, true, '')", &[flags::DYNAMIC_SQL])]
#[case("CREATE TEMP TABLE t (a int)", &[flags::TEMPORARY])]
#[case("CREATE TABLE pg_temp.t (a int)", &[flags::TEMPORARY])]
#[case("CREATE TEMP VIEW t AS SELECT 1", &[flags::TEMPORARY])]
#[case("SELECT 1 INTO TEMP t", &[flags::SELECT_INTO, flags::TEMPORARY])]
#[case("SELECT 1 FOR SHARE", &[flags::ROW_LOCK])]
#[case("EXPLAIN ANALYZE SELECT 1", &[flags::EXPLAIN_ANALYZE])]
#[case("CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x'", &[flags::DEFINES_CODE, flags::LOADS_LIBRARY])]
#[case("CREATE EXTENSION x", &[flags::LOADS_LIBRARY])]
#[case("ALTER ROLE a SET search_path = b", &[flags::PERSISTENT_SETTING])]
#[case("DISCARD ALL", &[flags::STATE_UNKNOWN])]
#[case("SELECT 'DO $$ $$; COPY t FROM PROGRAM'", &[])]
#[case("SELECT a /* pg_read_file() */ FROM t -- set_config()", &[])]
fn flagged(#[case] sql: &str, #[case] expected: &[&str]) {
    let statement = one(sql);
    let found: Vec<_> = statement.flags.iter().copied().collect();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(found, expected, "{sql}");
}

#[rstest]
#[case("DELETE FROM t", Some(false))]
#[case("DELETE FROM t WHERE true", Some(false))]
#[case("DELETE FROM t WHERE 't'::bool", Some(false))]
#[case("DELETE FROM t WHERE a = 1", Some(true))]
#[case("UPDATE t SET a = 1 WHERE CURRENT OF c", Some(true))]
#[case("WITH d AS (DELETE FROM t) SELECT * FROM u WHERE a = 1", Some(false))]
#[case("SELECT * FROM t", Some(false))]
#[case("SELECT * FROM t WHERE a = 1 UNION SELECT * FROM u", Some(false))]
#[case("SELECT 1", None)]
#[case("INSERT INTO t SELECT * FROM u WHERE a = 1", None)]
fn a_where_is_told(#[case] sql: &str, #[case] filtered: Option<bool>) {
    assert_eq!(one(sql).filtered, filtered, "{sql}");
}

#[test]
fn functions_are_named_with_their_schema() {
    let statement = one("SELECT lower(a), s.f(b), count(*) FROM generate_series(1, 2) WHERE g(1)");
    assert_eq!(shown(&statement.functions), "count g generate_series lower s.f");
    assert_eq!(one("SELECT $3 + $1").parameters, 3);
}

#[rstest]
#[case("SELECT 1", true)]
#[case("SELECT 1 INTO t", false)]
#[case("SELECT 1 INTO t UNION SELECT 2", false)]
#[case("DELETE FROM t", false)]
#[case("DELETE FROM t RETURNING 1", true)]
#[case("FETCH c", true)]
#[case("MOVE c", false)]
#[case("COPY t TO STDOUT", false)]
fn whether_rows_come_back(#[case] sql: &str, #[case] rows: bool) {
    assert_eq!(one(sql).returns_rows, rows, "{sql}");
}

#[test]
fn effects_on_the_session() {
    let set = |name: &str, local, values: Option<&[&str]>| {
        let values = values.map(|values| values.iter().map(|v| (*v).to_owned()).collect());
        Effect::Set(Setting { name: name.to_owned(), local, values })
    };
    let effect = |sql| one(sql).effect.clone();
    assert_eq!(effect("SELECT 1"), Effect::None);
    assert_eq!(effect("START TRANSACTION READ ONLY"), Effect::Begin { read_only: true });
    assert_eq!(effect("BEGIN"), Effect::Begin { read_only: false });
    assert_eq!(effect("END AND CHAIN"), Effect::Commit { chain: true });
    assert_eq!(effect("ABORT"), Effect::Rollback { chain: false });
    assert_eq!(effect("ROLLBACK TO a"), Effect::RollbackTo("a".to_owned()));
    assert_eq!(
        effect("SET LOCAL search_path = a, \"B\""),
        set("search_path", true, Some(&["a", "B"]))
    );
    assert_eq!(effect("SET Work_Mem TO DEFAULT"), set("work_mem", false, None));
    assert_eq!(effect("RESET ALL"), Effect::ResetAll);
    for sql in ["CREATE DATABASE d", "ALTER DATABASE d RENAME TO e", "DROP DATABASE IF EXISTS d"] {
        assert_eq!(effect(sql), Effect::Database, "{sql}");
    }
    assert_eq!(effect("ALTER TABLE d RENAME TO e"), Effect::None);
    assert_eq!(effect("DISCARD TEMP"), Effect::Discard { all: false, temporary: true });
    assert_eq!(effect("DISCARD ALL"), Effect::Discard { all: true, temporary: true });
    assert_eq!(effect("DEALLOCATE ALL"), Effect::Deallocate(None));
    assert_eq!(
        effect("EXECUTE p(1, 'a', now())"),
        Effect::Execute {
            name: "p".to_owned(),
            args: vec![Some("1".to_owned()), Some("a".to_owned()), None]
        }
    );
    assert_eq!(effect("CLOSE c"), Effect::CloseCursor(Some("c".to_owned())));
    assert_eq!(effect("FETCH 5 FROM c"), Effect::Fetch { name: "c".to_owned(), moves: false });
    assert_eq!(effect("NOTIFY a, 'b'"), Effect::Notify("a".to_owned(), "b".to_owned()));
    let Effect::Prepare { name, inner } = effect("PREPARE p (int) AS DELETE FROM t WHERE a = $1")
    else {
        panic!("no PREPARE")
    };
    assert_eq!(
        (name.as_str(), inner.action, shown(&inner.writes).as_str()),
        ("p", "sql.delete", "t")
    );
    let Effect::DeclareCursor { hold, inner, .. } =
        effect("DECLARE c CURSOR WITH HOLD FOR SELECT * FROM t")
    else {
        panic!("no DECLARE")
    };
    assert!(hold && shown(&inner.reads) == "t");
    let Effect::CopyIn { table, columns, format } =
        effect("COPY s.t (b, a) FROM STDIN (FORMAT CSV)")
    else {
        panic!("no COPY")
    };
    assert_eq!((table.to_string().as_str(), format.as_str()), ("s.t", "csv"));
    assert_eq!(columns, ["b", "a"]);
    let Effect::CopyOut { format, options } =
        effect("COPY t TO STDOUT WITH (FORMAT text, DELIMITER '|', NULL 'n')")
    else {
        panic!("no COPY")
    };
    assert_eq!(format, "text");
    assert!(options.contains(&("delimiter".to_owned(), Some("|".to_owned()))));
    assert!(
        matches!(effect("COPY t TO STDOUT BINARY"), Effect::CopyOut { format, .. } if format == "binary")
    );
    assert_eq!(effect("COPY t TO PROGRAM 'x'"), Effect::None);
}

#[test]
fn what_is_no_sql_is_not_read() {
    for sql in ["SELEC 1", "SELECT 1; DROP", "SELECT 'a", "/* a"] {
        assert!(matches!(read(sql), Err(Unreadable::Syntax(_))), "{sql}");
    }
    assert_eq!(read("SELECT 1\0; DROP TABLE t"), Err(Unreadable::Nul));
}
