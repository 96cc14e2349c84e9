//! Texts that differ in nothing but constants which an `=` compares or sets: read once.
//!
//! PostgreSQL's scanner makes one token of such a constant whatever its value, and the grammar
//! makes one node of that token, so two texts of the same shape have the same parse tree but for
//! the values in it; and nothing that is read of a query or a change of rows depends on a value
//! that stands behind an `=`. To be sure of the tokens without the scanner, a text has a shape
//! only if all of it is of a few characters that begin no quote, comment, escape or longer
//! operator (scan.l: `operator`, `quote`, `comment`, `integer`).

use super::statement::Statement;
use pg_query::NodeEnum;

/// More digits may be another type's constant.
const MOST_DIGITS: usize = 9;

/// A text's shape: what it shares with others that mean the same but for their constants.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape<'t> {
    /// The text with each such constant replaced.
    pub(super) key: String,
    /// The statement's exact text, as [`Statement::text`] has it.
    pub(super) text: &'t str,
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

fn is_operator(byte: u8) -> bool {
    matches!(byte, b'=' | b'<' | b'>' | b'+' | b'*' | b'%')
}

/// Whether a constant may end before this byte.
fn ends(byte: Option<&u8>) -> bool {
    byte.is_none_or(|byte| is_space(*byte) || matches!(byte, b')' | b',' | b';'))
}

impl<'t> Shape<'t> {
    /// The shape of a text, if it has one.
    pub(super) fn of(sql: &'t str) -> Option<Self> {
        let text = sql.trim_matches([' ', '\t', '\n', '\r']);
        let text = text.strip_suffix(';').unwrap_or(text);
        let text = text.trim_end_matches([' ', '\t', '\n', '\r']);
        let bytes = text.as_bytes();
        let mut key = String::with_capacity(text.len());
        let mut constants = 0;
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            key.push(char::from(*byte));
            at += 1;
            match byte {
                b'=' => {
                    let before = at.checked_sub(2).and_then(|before| bytes.get(before));
                    let alone = !before.is_some_and(|byte| is_operator(*byte))
                        && !bytes.get(at).is_some_and(|byte| is_operator(*byte));
                    if !alone {
                        continue;
                    }
                    let spaces = bytes[at..].iter().take_while(|byte| is_space(**byte)).count();
                    key.push_str(text.get(at..at + spaces)?);
                    at += spaces;
                    if let Some((length, sign)) = constant(&bytes[at..]) {
                        key.push_str(sign);
                        at += length;
                        constants += 1;
                    }
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b',' | b'.' | b'(' | b')' => {}
                byte if is_space(*byte) || is_operator(*byte) => {}
                _ => return None,
            }
        }
        (constants > 0).then_some(Self { key, text })
    }

    /// Whether a text of this shape that was read as this stands for all others of it.
    pub(super) fn fits(&self, read: &[Statement]) -> bool {
        let [statement] = read else { return false };
        let plain = matches!(
            &statement.tree,
            NodeEnum::SelectStmt(_)
                | NodeEnum::InsertStmt(_)
                | NodeEnum::UpdateStmt(_)
                | NodeEnum::DeleteStmt(_)
        );
        plain && statement.text == self.text
    }
}

/// The length of a constant that the bytes begin with, and what stands for it in a key: an
/// integer of one type whatever its value, or a plain text.
fn constant(bytes: &[u8]) -> Option<(usize, &'static str)> {
    match bytes.first()? {
        b'0'..=b'9' => {
            let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (digits <= MOST_DIGITS && ends(bytes.get(digits))).then_some((digits, "0"))
        }
        b'\'' => {
            let length = bytes[1..]
                .iter()
                .take_while(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'\'' | b'\\'))
                .count();
            let closed = bytes.get(length + 1) == Some(&b'\'');
            (closed && ends(bytes.get(length + 2))).then_some((length + 2, "''"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::read;
    use super::super::{Catalog, resolve, trace};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constants_behind_an_equals_sign_are_not_of_the_shape() {
        for (one, other) in [
            ("SELECT a FROM t WHERE b = 1", "SELECT a FROM t WHERE b = 987654321"),
            ("SELECT a FROM t WHERE b=1 AND c = 'x'", "SELECT a FROM t WHERE b=2 AND c = 'y z'"),
            ("UPDATE t SET a = 1 WHERE b = 2 ;", " UPDATE t SET a = 4 WHERE b = 5;"),
        ] {
            let (one, other) = (Shape::of(one).unwrap(), Shape::of(other).unwrap());
            assert_eq!(one.key, other.key);
        }
        assert_eq!(Shape::of(" SELECT a FROM t WHERE b = 1 ; ").unwrap().text.len(), 27);
    }

    #[test]
    fn what_could_be_another_token_has_no_shape_or_is_of_it() {
        for none in [
            "SELECT 1",
            "SELECT a FROM t WHERE b = -1",
            "SELECT a FROM t WHERE b = 1--",
            "SELECT a FROM t WHERE b = 1 /* x */",
            "SELECT a FROM t WHERE b = 'x''y'",
            "SELECT a FROM t WHERE b = 'x\\'",
            "SELECT a FROM t WHERE b = 'x'\n'y'",
            "SELECT a FROM t WHERE b = E'x'",
            "SELECT a FROM t WHERE b = \"x\"",
            "SELECT a FROM t WHERE b = 'x'::regclass",
            "SELECT a FROM t WHERE b = $$x$$",
            "SELECT a FROM t WHERE b = 1; DELETE FROM t",
            "SELECT a FROM t WHERE b = 'ü'",
            "SELECT a FROM t WHERE b = 'x",
            "SELECT a FROM t WHERE b = 10000000000",
            "SELECT a FROM t WHERE b = 1e5",
            "SELECT a FROM t WHERE b = 1.5",
            "SELECT a FROM t WHERE b = 1_000",
            "SELECT a FROM t WHERE b <= 1",
            "SELECT f(a => 1)",
            "SELECT a FROM t WHERE b == 1",
        ] {
            assert_eq!(Shape::of(none), None, "{none}");
        }
        // A place in the list of columns, a limit and the like stay in the key.
        let one = Shape::of("SELECT a, b FROM t WHERE c = 1 ORDER BY 1 LIMIT 5").unwrap();
        let other = Shape::of("SELECT a, b FROM t WHERE c = 1 ORDER BY 2 LIMIT 5").unwrap();
        assert_ne!(one.key, other.key);
    }

    #[test]
    fn only_one_query_or_change_of_rows_fits() {
        for (sql, fits) in [
            ("SELECT a FROM t WHERE b = 1", true),
            ("INSERT INTO t SELECT a FROM u WHERE b = 1", true),
            ("DELETE FROM t WHERE b = 'x';", true),
            ("SET work_mem = 5", false),
            ("SET search_path = 'x'", false),
            ("CREATE TABLE t (a int) WITH (fillfactor = 50)", false),
            ("EXPLAIN SELECT a FROM t WHERE b = 1", false),
            ("ALTER ROLE r SET x = 5", false),
        ] {
            let shape = Shape::of(sql).unwrap();
            assert_eq!(shape.fits(&read(sql).unwrap()), fits, "{sql}");
        }
    }

    /// Pieces of statements, each with or without a constant that a shape leaves out.
    fn piece() -> impl Strategy<Value = String> {
        let constant =
            prop_oneof!["[0-9]{1,11}", "'[a-z %_.,()=<>]{0,6}'", "[0-9]{1,3}\\.[0-9]", "a|b|true"];
        (
            prop_oneof![
                Just("SELECT a, email FROM people WHERE "),
                Just("SELECT count(*), max(email) FROM people WHERE a = b AND "),
                Just("UPDATE people SET b = a, "),
                Just("DELETE FROM people WHERE "),
                Just("SELECT * FROM people p, (SELECT email FROM people WHERE a = 3) q WHERE "),
                Just("SELECT a = 3, email FROM people GROUP BY 1, 2 HAVING "),
                Just("WITH x AS (DELETE FROM people WHERE a = 1) SELECT 1 FROM people WHERE "),
            ],
            "(a|p\\.b|email|f\\(a\\))",
            "( = |=|  =|= | <= | <> | >= | = \\+)",
            constant,
            prop_oneof![
                Just(""),
                Just(" ORDER BY 1"),
                Just(" OR b = 7 ORDER BY a = 5, 2"),
                Just(" LIMIT 5"),
                Just(")"),
                Just(" ;"),
            ],
        )
            .prop_map(|(head, name, operator, constant, tail)| {
                format!("{head}{name}{operator}{constant}{tail}")
            })
    }

    proptest! {
        /// Of two texts of one shape everything that is read is the same.
        #[test]
        fn one_shape_is_one_reading(one in piece(), value in 0_u32..999_999_999, text in "[a-z ]{0,5}") {
            let Some(shape) = Shape::of(&one) else { return Ok(()) };
            // The same with other constants, from the key itself.
            let other = shape.key.replace("= 0", &format!("= {value}")).replace("''", &format!("'{text}'"));
            let Some(again) = Shape::of(&other) else { return Ok(()) };
            prop_assume!(again.key == shape.key);
            match (read(&one), read(&other)) {
                (Ok(a), Ok(b)) => {
                    prop_assert_eq!(shape.fits(&a), again.fits(&b));
                    if !shape.fits(&a) {
                        return Ok(());
                    }
                    let bare = |statement: &Statement| format!(
                        "{:?}",
                        Statement { text: String::new(), ..statement.clone() }
                    );
                    prop_assert_eq!(bare(&a[0]), bare(&b[0]));
                    let catalog = Catalog::default();
                    let path = ["public".to_owned()];
                    prop_assert_eq!(
                        format!("{:?}", resolve(&a[0], &catalog, &path)),
                        format!("{:?}", resolve(&b[0], &catalog, &path))
                    );
                    prop_assert_eq!(
                        format!("{:?}", trace(&a[0], &catalog, &path)),
                        format!("{:?}", trace(&b[0], &catalog, &path))
                    );
                }
                (Err(_), Err(_)) => {}
                (a, b) => prop_assert!(false, "{:?} and {:?}", a.is_ok(), b.is_ok()),
            }
        }
    }
}
