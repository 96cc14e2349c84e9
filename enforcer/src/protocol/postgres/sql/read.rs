//! A query string into its statements, within bounds.

use super::facts::Facts;
use super::parser::read_elsewhere;
use super::statement::Statement;
use pg_query::protobuf::RawStmt;

/// The longest readable query string, bytes.
pub const MAX_TEXT: usize = 1 << 20;
/// The most statements in one query string.
pub const MAX_STATEMENTS: usize = 1000;

/// How [`Unreadable::Syntax`] begins.
pub const NOT_TAKEN: &str = "PostgreSQL's grammar does not take it: ";

/// Why a query string is not read: what is not read is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than [`MAX_TEXT`].
    #[error("the query string has {0} bytes; at most {MAX_TEXT} are read: send it in parts")]
    Long(usize),
    /// More statements than [`MAX_STATEMENTS`].
    #[error(
        "the query string has {0} statements; at most {MAX_STATEMENTS} are read: send it in parts"
    )]
    Many(usize),
    /// A NUL byte, which the protocol ends a string with.
    #[error("the query string has a NUL byte")]
    Nul,
    /// PostgreSQL's grammar refuses it: the grammar's own message.
    #[error("{NOT_TAKEN}{0}")]
    Syntax(String),
    /// Nests deeper than the reader of parse trees goes.
    #[error("the query string nests too deep to be read: {0}")]
    Deep(String),
    /// A part of the parse tree that this reader does not know.
    #[error("a part of the statement is not known to the reader: {0}")]
    Unknown(String),
    /// Something failed in the parser itself.
    #[error("the parser of SQL cannot be used: {0}")]
    Parser(&'static str),
}

/// Reads a query string: one [`Statement`] for each SQL statement in it, in order; none for an
/// empty string or comments alone.
///
/// The text is taken as the server takes it with `standard_conforming_strings = on` and
/// `client_encoding = UTF8`; the caller sees to it that both hold. Identifiers come folded and
/// cut as PostgreSQL does it.
///
/// # Errors
/// See [`Unreadable`]; nothing is read in part.
pub fn read(sql: &str) -> Result<Vec<Statement>, Unreadable> {
    if sql.len() > MAX_TEXT {
        return Err(Unreadable::Long(sql.len()));
    }
    if sql.contains('\0') {
        return Err(Unreadable::Nul);
    }
    read_elsewhere(sql)
}

/// [`read`] on the thread it is called on, which must be one of the parser's.
pub(super) fn read_here(sql: &str) -> Result<Vec<Statement>, Unreadable> {
    super::depth::check(sql)?;
    let parsed = pg_query::parse(sql).map_err(|error| match error {
        pg_query::Error::Parse(message) => Unreadable::Syntax(message),
        pg_query::Error::Decode(error) => Unreadable::Deep(error.to_string()),
        other => Unreadable::Syntax(other.to_string()),
    })?;
    let statements = parsed.protobuf.stmts;
    if statements.len() > MAX_STATEMENTS {
        return Err(Unreadable::Many(statements.len()));
    }
    statements.into_iter().map(|raw| statement(sql, raw)).collect()
}

fn statement(sql: &str, raw: RawStmt) -> Result<Statement, Unreadable> {
    let text = slice(sql, raw.stmt_location, raw.stmt_len)
        .ok_or_else(|| Unreadable::Unknown("the place of a statement in its text".to_owned()))?;
    let tree = raw
        .stmt
        .and_then(|node| node.node)
        .ok_or_else(|| Unreadable::Unknown("a statement without a parse tree".to_owned()))?;
    Facts::of(&tree)?.statement(text.to_owned(), tree)
}

/// A statement's text, without the white space around it; a length of 0 means to the end.
fn slice(sql: &str, start: i32, len: i32) -> Option<&str> {
    let start = usize::try_from(start).ok()?;
    let text = match usize::try_from(len).ok()? {
        0 => sql.get(start..)?,
        len => sql.get(start..start.checked_add(len)?)?,
    };
    Some(text.trim_matches([' ', '\t', '\n', '\r', '\x0c', '\x0b']))
}
