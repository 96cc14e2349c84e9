//! Queries made by chance: however a tagged column is wrapped, the output is told to depend on
//! it, and the same query over an untagged column is not.

use crate::protocol::postgres::sql::tests::{catalog, one, path};
use crate::protocol::postgres::sql::{lineage, trace};
use proptest::prelude::*;

/// A query of one column `x`, from a query of one column `x`.
const WRAPS: [&str; 44] = [
    "SELECT x FROM (@) q",
    "SELECT q.x FROM (@) AS q",
    "SELECT y AS x FROM (@) AS q(y)",
    "SELECT * FROM (@) q",
    "SELECT q.* FROM (@) q",
    "SELECT (q).x FROM (@) q",
    "SELECT (q).* FROM (@) q",
    "SELECT q AS x FROM (@) q",
    "SELECT row_to_json(q) AS x FROM (@) q",
    "SELECT to_jsonb(q.*) AS x FROM (@) q",
    "SELECT json_build_object('k', q.x, 'n', 1) AS x FROM (@) q",
    "SELECT JSON_OBJECT('k': q.x) AS x FROM (@) q",
    "SELECT upper(x::text) AS x FROM (@) q",
    "SELECT x::text AS x FROM (@) q",
    "SELECT 'a' || x::text AS x FROM (@) q",
    "SELECT format('%s', x) AS x FROM (@) q",
    "SELECT CASE WHEN true THEN x END AS x FROM (@) q",
    "SELECT COALESCE(NULL, x) AS x FROM (@) q",
    "SELECT NULLIF(x, x) AS x FROM (@) q",
    "SELECT GREATEST(x, x) AS x FROM (@) q",
    "SELECT ARRAY[x] AS x FROM (@) q",
    "SELECT ROW(1, x) AS x FROM (@) q",
    "SELECT array_agg(x) AS x FROM (@) q",
    "SELECT string_agg(x::text, ',' ORDER BY x) AS x FROM (@) q",
    "SELECT max(x::text) FILTER (WHERE true) AS x FROM (@) q",
    "SELECT first_value(x) OVER (ORDER BY x) AS x FROM (@) q",
    "SELECT lag(1) OVER w AS x FROM (@) q WINDOW w AS (PARTITION BY x)",
    "SELECT xmlelement(name e, x) AS x FROM (@) q",
    "WITH c AS (@) SELECT x FROM c",
    "WITH c(z) AS MATERIALIZED (@) SELECT z AS x FROM c",
    "WITH users AS (@) SELECT users.x FROM users",
    "WITH RECURSIVE c(x, n) AS (SELECT x::text, 1 FROM (@) q UNION ALL SELECT x, n + 1 FROM c WHERE n < 3) SELECT x FROM c",
    "WITH RECURSIVE c(a, x) AS (SELECT x::text, 'k' FROM (@) q UNION ALL SELECT 'k', a FROM c) SELECT x FROM c",
    "(@) UNION ALL (@)",
    "SELECT NULL AS x UNION (@)",
    "(@) INTERSECT (@)",
    "SELECT (SELECT x FROM (@) q LIMIT 1) AS x",
    "SELECT ARRAY(@) AS x",
    "SELECT l.x FROM (@) q, LATERAL (SELECT q.x) l",
    "SELECT v.x FROM (@) q CROSS JOIN LATERAL (VALUES (q.x, 1)) v(x, y)",
    "SELECT x FROM (@) a JOIN (@) b USING (x)",
    "SELECT x FROM (@) a NATURAL LEFT JOIN (SELECT 1 AS y) b",
    "SELECT j.x FROM ((@) a CROSS JOIN (SELECT 2 AS two) b) AS j(x)",
    "SELECT u.x FROM (SELECT 0 AS zero) z, (@) u WHERE u.x IS NOT NULL ORDER BY 1 LIMIT 5",
];

/// Sources of one column `x`, with `#` for the column of `users`.
const SOURCES: [&str; 8] = [
    "SELECT # AS x FROM users",
    "SELECT u.# AS x FROM users u",
    "SELECT users.# AS x FROM public.users WHERE id > 0",
    "SELECT # AS x FROM employees",
    "SELECT x FROM (TABLE users) q(a1, a2, #, a4) CROSS JOIN LATERAL (SELECT #) l(x)",
    "SELECT (u).# AS x FROM users u",
    "SELECT u.# AS x FROM users u JOIN orders o ON o.user_id = u.id",
    "SELECT # AS x FROM users JOIN (SELECT 1 AS id) one USING (id)",
];

/// Ends: the whole statement.
const ENDS: [&str; 8] = [
    "@",
    "COPY (@) TO STDOUT",
    "DECLARE c CURSOR FOR @",
    "PREPARE p AS @",
    "INSERT INTO notes (body) SELECT x::text FROM (@) q RETURNING body",
    "UPDATE notes SET body = (SELECT x::text FROM (@) q LIMIT 1) RETURNING body",
    "WITH i AS (INSERT INTO notes (body) SELECT x::text FROM (@) q RETURNING body) SELECT * FROM i",
    "DELETE FROM notes USING (@) q RETURNING q.x",
];

fn query() -> impl Strategy<Value = (String, usize)> {
    let wraps = prop::collection::vec(0..WRAPS.len(), 0..6);
    (0..SOURCES.len(), wraps, 0..ENDS.len()).prop_map(|(source, wraps, end)| {
        let mut sql = SOURCES[source].to_owned();
        for wrap in wraps {
            let wrapped = WRAPS[wrap].replace('@', &sql);
            // What is doubled again and again is long, not interesting.
            if wrapped.len() < 6000 {
                sql = wrapped;
            }
        }
        (ENDS[end].replace('@', &sql), end)
    })
}

fn depends(sql: &str, column: &str) -> bool {
    let outputs = lineage(&one(sql), catalog(), &path()).unwrap_or_else(|e| panic!("{sql}: {e}"));
    outputs.iter().any(|output| {
        output.columns.iter().any(|found| &*found.table == "users" && &*found.column == column)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_tagged_column_is_followed_through_everything((query, end) in query()) {
        // The third column's alias in one of the sources is the place of `email`.
        let tagged = query.replace('#', "email");
        prop_assert!(depends(&tagged, "email"), "{tagged}");
        prop_assert!(!depends(&tagged, "ssn"), "{tagged}");
        // What goes into a table is told besides.
        if matches!(end, 4..=6) {
            let trace = trace(&one(&tagged), catalog(), &path()).unwrap();
            let kept = trace.kept.iter().any(|kept| {
                kept.columns.iter().any(|column| &*column.column == "email")
            });
            prop_assert!(kept, "{tagged}");
        }
    }

    #[test]
    fn another_column_of_the_table_is_not_taken_for_it((query, _) in query()) {
        let other = query.replace("q(a1, a2, #, a4)", "q(a1, #)").replace('#', "name");
        prop_assert!(depends(&other, "name"), "{other}");
        prop_assert!(!depends(&other, "email"), "{other}");
    }

    #[test]
    fn nothing_that_is_read_makes_the_tracer_panic(sql in "[a-z (),.*]{0,40}") {
        for statement in crate::protocol::postgres::sql::read(&format!("SELECT {sql}")).into_iter().flatten() {
            let _ = trace(&statement, catalog(), &path());
        }
    }
}
