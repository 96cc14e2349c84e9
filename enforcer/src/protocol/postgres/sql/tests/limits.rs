//! Texts that are too long, too many or too deep: refused, and nothing falls over.

use super::{catalog, one, path};
use crate::protocol::postgres::sql::lineage;
use crate::protocol::postgres::sql::{MAX_STATEMENTS, MAX_TEXT, Unreadable, read};
use rstest::rstest;

#[test]
fn length_and_number_are_bounded() {
    let long = format!("SELECT '{}'", "x".repeat(MAX_TEXT));
    assert_eq!(read(&long), Err(Unreadable::Long(long.len())));
    let most = "SELECT 1;".repeat(MAX_STATEMENTS);
    assert_eq!(read(&most).unwrap().len(), MAX_STATEMENTS);
    let many = "SELECT 1;".repeat(MAX_STATEMENTS + 1);
    assert_eq!(read(&many), Err(Unreadable::Many(MAX_STATEMENTS + 1)));
}

/// The longest texts of each kind of nesting end in an error, not in a lack of stack.
#[rstest]
#[case("SELECT 1", "+1", "")]
#[case("SELECT ", "- ", "1")]
#[case("SELECT ", "NOT ", "true")]
#[case("SELECT ", "(", "1")]
#[case("SELECT 1", "::int", "")]
#[case("SELECT a", "[1]", "")]
#[case("SELECT a", ".b", "")]
#[case("SELECT 1", " UNION SELECT 1", "")]
#[case("SELECT 1 ", "COLLATE c ", "")]
#[case("SELECT 1 ", "IS NULL ", "")]
#[case("SELECT ", "f(", "1")]
#[case("SELECT ", "CASE WHEN ", "1")]
#[case("SELECT ", "ARRAY[", "1")]
#[case("SELECT * FROM ", "(SELECT * FROM ", "t")]
#[case("SELECT * FROM t", " NATURAL JOIN t", "")]
#[case("SELECT * FROM ", "(t NATURAL JOIN ", "t")]
#[case("SELECT 1 WHERE a", " AND a", "")]
#[case("", "EXPLAIN ", "SELECT 1")]
#[case("", "WITH a AS (", "SELECT 1")]
#[case("/*", "/*", "")]
#[case("SELECT 1 FROM t WHERE a ", "BETWEEN 1 AND a ", "")]
#[case("SELECT 1 AT TIME ZONE ", "1 AT TIME ZONE ", "1")]
#[case("SELECT 1", " ORDER BY 1", "")]
#[case("SELECT ", "1,", "1")]
fn deep_texts_do_not_exhaust_the_stack(
    #[case] before: &str,
    #[case] again: &str,
    #[case] after: &str,
) {
    let times = (MAX_TEXT - before.len() - after.len()) / again.len();
    let sql = format!("{before}{}{after}", again.repeat(times));
    let began = std::time::Instant::now();
    let done = read(&sql);
    assert!(began.elapsed().as_secs() < 30, "{again}: {:?}", began.elapsed());
    match done {
        Err(Unreadable::Syntax(_) | Unreadable::Deep(_)) => {}
        // What does not nest is read, however much there is of it.
        Ok(read) => assert!(matches!(again, "1," | " AND a" | "[1]" | ".b"), "{again}: {read:?}"),
        Err(error) => panic!("{again}: {error}"),
    }
}

#[test]
fn what_people_write_is_not_too_deep() {
    let concat = format!("SELECT a{} FROM orders", " || note".repeat(40));
    let concat = concat.replacen("SELECT a", "SELECT note", 1);
    let outputs = lineage(&one(&concat), catalog(), &path()).unwrap();
    assert_eq!(outputs[0].columns[0].to_string(), "public.orders.note");
    let unions = format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(80));
    assert_eq!(lineage(&one(&unions), catalog(), &path()).unwrap().len(), 1);
    let mut nested = "SELECT note FROM orders".to_owned();
    for _ in 0..15 {
        nested = format!("SELECT note FROM ({nested}) x");
    }
    assert_eq!(lineage(&one(&nested), catalog(), &path()).unwrap()[0].columns.len(), 1);
}

#[test]
fn the_deepest_readable_statement_can_be_traced_on_a_small_stack() {
    let mut nested = "SELECT note FROM orders".to_owned();
    let mut deepest = String::new();
    for level in 0..60 {
        nested = match level % 2 {
            0 => format!("SELECT note FROM ({nested}) x"),
            _ => format!("WITH y AS ({nested}) SELECT COALESCE((SELECT note FROM y), 'a') AS note"),
        };
        if read(&nested).is_ok() {
            deepest.clone_from(&nested);
        }
    }
    let statement = one(&deepest);
    let traced = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(move || lineage(&statement, catalog(), &path()).map(|outputs| outputs.len()))
        .unwrap()
        .join()
        .unwrap();
    assert_eq!(traced, Ok(1));
}

#[test]
fn a_large_insert_is_read() {
    let rows = vec!["(1, 2, 3.5, 'some words in a note')"; 20_000].join(", ");
    let sql = format!("INSERT INTO orders VALUES {rows}");
    assert!(sql.len() < MAX_TEXT);
    let statement = one(&sql);
    assert_eq!(statement.action, "sql.insert");
    assert_eq!(lineage(&statement, catalog(), &path()), Ok(Vec::new()));
}
