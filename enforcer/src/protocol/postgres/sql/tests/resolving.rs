//! Names, looked up.

use super::{catalog, of_rows, one, path, resolved, shown};
use crate::protocol::postgres::sql::catalog::Row;
use crate::protocol::postgres::sql::{effective_path, flags, resolve};
use rstest::rstest;

#[rstest]
#[case("SELECT * FROM users", "public.employees public.users")]
#[case("SELECT * FROM USERS", "public.employees public.users")]
#[case("SELECT * FROM employees", "public.employees public.users")]
#[case("SELECT * FROM app.users", "app.users")]
#[case("SELECT * FROM \"Odd Name\"", "public.Odd Name")]
#[case("SELECT * FROM pg_class", "pg_catalog.pg_class")]
#[case("SELECT * FROM contacts", "public.contacts public.employees public.users")]
#[case(
    "SELECT * FROM team",
    "public.contacts public.employees public.orders public.team public.users"
)]
#[case("SELECT * FROM frozen", "public.employees public.frozen public.users")]
#[case("SELECT * FROM events_24", "public.events public.events_24")]
#[case("SELECT * FROM events", "public.events public.events_24")]
fn tables_are_found_behind_names(#[case] sql: &str, #[case] reads: &str) {
    let found = resolved(sql);
    assert_eq!(shown(&found.reads), reads, "{sql}");
    assert!(!found.flags.contains(flags::UNKNOWN_RELATION));
}

#[rstest]
#[case("SELECT * FROM nowhere", flags::UNKNOWN_RELATION)]
#[case("SELECT * FROM odd_name", flags::UNKNOWN_RELATION)]
#[case("SELECT nosuch(1)", flags::UNKNOWN_FUNCTION)]
#[case("SELECT peek(1)", flags::USER_FUNCTION)]
#[case("SELECT peek(1)", flags::STATE_UNKNOWN)]
#[case("SELECT runs_as_owner()", flags::SECURITY_DEFINER)]
#[case("SELECT runs_as_owner()", flags::VOLATILE_FUNCTION)]
#[case("SELECT nextval('x')", flags::VOLATILE_FUNCTION)]
#[case("SELECT 'a' === 'b'", flags::USER_FUNCTION)]
#[case("SELECT * FROM contacts", flags::VIEW)]
#[case("DELETE FROM notes", flags::RULE)]
#[case("INSERT INTO orders VALUES (1)", flags::TRIGGER)]
#[case("UPDATE pg_class SET relname = ''", flags::SYSTEM_CATALOG)]
fn the_catalog_tells_more(#[case] sql: &str, #[case] flag: &str) {
    assert!(resolved(sql).flags.contains(flag), "{sql}");
}

#[rstest]
#[case("SELECT lower(name), count(*), now(), random() FROM users GROUP BY 1")]
#[case("SELECT max(x) FROM generate_series(1, 3) x")]
#[case("SELECT date '2020-01-01', int4('1'), 'x' || 'y'")]
fn plain_reads_have_no_flags(#[case] sql: &str) {
    let found = resolved(sql);
    assert_eq!(found.action, "sql.select");
    assert!(found.flags.is_empty(), "{sql}: {:?}", found.flags);
}

#[test]
fn a_call_that_can_change_something_is_no_plain_read() {
    assert_eq!(resolved("SELECT runs_as_owner()").actions, ["sql.call", "sql.select"]);
    assert_eq!(resolved("SELECT nosuch()").action, "sql.call");
    assert_eq!(resolved("DELETE FROM orders WHERE id = nosuch()").action, "sql.delete");
}

#[test]
fn a_change_through_a_view_is_one_of_its_tables() {
    let found = resolved("UPDATE contacts SET name = 'x'");
    assert_eq!(shown(&found.writes), "public.contacts public.employees public.users");
}

#[test]
fn functions_come_with_every_schema_they_can_have() {
    assert_eq!(shown(&resolved("SELECT lower('A')").functions), "pg_catalog.lower");
    assert_eq!(shown(&resolved("SELECT peek(1)").functions), "public.peek");
    let elsewhere = resolve(&one("SELECT peek(1)"), catalog(), &["pg_catalog".to_owned()]);
    assert_eq!(shown(&elsewhere.functions), "peek");
    assert!(elsewhere.flags.contains(flags::UNKNOWN_FUNCTION));
}

#[test]
fn the_path_decides() {
    let app = effective_path(&["app".to_owned(), "public".to_owned()], "agent", None);
    let found = resolve(&one("SELECT * FROM users"), catalog(), &app);
    assert_eq!(shown(&found.reads), "app.users");
    let other = effective_path(&["$user".to_owned()], "app", None);
    let found = resolve(&one("SELECT * FROM users"), catalog(), &other);
    assert_eq!(shown(&found.reads), "app.users");
    assert_eq!(shown(&resolved("SELECT * FROM users").reads), "public.employees public.users");
}

#[test]
fn effective_paths() {
    let path = |names: &[&str], temp| {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        effective_path(&names, "me", temp).join(" ")
    };
    assert_eq!(path(&["$user", "public"], None), "pg_catalog me public");
    assert_eq!(path(&["public"], Some("pg_temp_3")), "pg_temp_3 pg_catalog public");
    assert_eq!(path(&["public", "pg_catalog"], None), "public pg_catalog");
    assert_eq!(path(&["public", "pg_temp"], Some("pg_temp_3")), "pg_catalog public pg_temp_3");
    assert_eq!(path(&["pg_temp"], None), "pg_catalog");
    assert_eq!(path(&[], None), "pg_catalog");
}

#[test]
fn a_temporary_table_hides_another() {
    let mut rows: Vec<Vec<Row>> = serde_json::from_str(include_str!("catalog.json")).unwrap();
    let row = ["99999", "pg_temp_3", "users", "r"].map(|text| Some(text.to_owned()));
    let no = Some("f".to_owned());
    rows[1].push(row.into_iter().chain([no.clone(), no]).collect());
    let catalog = of_rows(&rows).unwrap();
    let temp = effective_path(&["public".to_owned()], "me", Some("pg_temp_3"));
    let found = resolve(&one("SELECT * FROM users"), &catalog, &temp);
    assert_eq!(shown(&found.reads), "pg_temp_3.users");
    assert!(found.flags.contains(flags::SHADOWED));
    let other = resolve(&one("SELECT * FROM public.users"), &catalog, &temp);
    assert!(!other.flags.contains(flags::SHADOWED));
    let alias = resolve(&one("SELECT * FROM pg_temp.users"), &catalog, &temp);
    assert_eq!(shown(&alias.reads), "pg_temp_3.users");
    // Another session's temporary table hides nothing.
    let found = resolve(&one("SELECT * FROM users"), &catalog, &path());
    assert_eq!(shown(&found.reads), "public.employees public.users");
}

#[test]
fn a_change_may_go_on_to_other_tables() {
    let mut rows: Vec<Vec<Row>> = serde_json::from_str(include_str!("catalog.json")).unwrap();
    let orders = rows[1].iter_mut().find(|row| row[2].as_deref() == Some("orders")).unwrap();
    orders[5] = Some("t".to_owned());
    let catalog = of_rows(&rows).unwrap();
    let flagged = |sql: &str| resolve(&one(sql), &catalog, &path()).flags.contains(flags::CASCADE);
    assert!(flagged("DELETE FROM orders"));
    assert!(flagged("WITH c AS (UPDATE orders SET id = 1) SELECT 1"));
    assert!(!flagged("DELETE FROM notes") && !flagged("SELECT * FROM orders"));
    assert!(!flagged("INSERT INTO orders (id) VALUES (1)"));
}

#[test]
fn rows_of_another_form_make_no_catalog() {
    let rows: Vec<Vec<Row>> = serde_json::from_str(include_str!("catalog.json")).unwrap();
    assert!(of_rows(&rows).is_ok());
    let mut faults = Vec::new();
    for query in 0..rows.len() {
        let mut bad = rows.clone();
        bad[query].push(vec![Some("x".to_owned())]);
        let error = of_rows(&bad).unwrap_err();
        assert_eq!(error.row, rows[query].len());
        faults.push(error.query);
    }
    assert_eq!(
        faults.join(" "),
        "names tables columns inherits rules routines types operators casts texts"
    );
}
