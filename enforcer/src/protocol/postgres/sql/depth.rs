//! How deep a text could nest, told from its tokens.
//!
//! The parser's own bound is on what opens on the right (parentheses, prefix operators); what
//! nests on the left (`1+1+1...`) it takes without end, and writing such a tree takes time in
//! the square of its depth. The reader of trees refuses them at a depth of a hundred anyway, so
//! they are refused here before they cost anything.

use super::read::Unreadable;
use pg_query::protobuf::Token;

/// A shorter text cannot nest so deep that it matters.
const SHORT: usize = 2048;
/// Tokens on the way from the outermost to the innermost: far more than a tree of depth 100 has.
const MAX_RUN: usize = 1000;

/// `/*` within one run of characters of operators. The scanner takes the whole run for the
/// beginning of a comment each time, so that time goes with the square.
const MAX_COMMENTS: usize = 100;
/// The characters of operators (`op_chars` of scan.l).
const OPERATOR: [char; 17] =
    ['~', '!', '@', '#', '^', '&', '|', '`', '?', '+', '-', '*', '/', '%', '<', '>', '='];

/// Refuses a text that nests too deep to be worth parsing.
pub(super) fn check(sql: &str) -> Result<(), Unreadable> {
    if sql.len() <= SHORT {
        return Ok(());
    }
    if sql.split(|c| !OPERATOR.contains(&c)).any(|run| run.matches("/*").count() > MAX_COMMENTS) {
        return Err(Unreadable::Deep(format!(
            "more than {MAX_COMMENTS} comments begin right after each other"
        )));
    }
    let scanned = pg_query::scan(sql).map_err(|error| Unreadable::Syntax(error.to_string()))?;
    let mut level = Level::default();
    let mut outer: Vec<Level> = Vec::new();
    let mut around = 0;
    for token in &scanned.tokens {
        match Token::try_from(token.token) {
            Ok(Token::SqlComment | Token::CComment) => {}
            Ok(Token::Ascii40 | Token::Ascii91 | Token::Case) => {
                around += level.depth() + 1;
                outer.push(std::mem::take(&mut level));
            }
            Ok(Token::Ascii41 | Token::Ascii93 | Token::EndP) => {
                if let Some(back) = outer.pop() {
                    level = back;
                    around -= level.depth() + 1;
                }
                level.run += 1;
            }
            Ok(Token::Ascii59) if outer.is_empty() => level = Level::default(),
            // What stands side by side. AND and OR make one flat list each.
            Ok(
                Token::Ascii44
                | Token::And
                | Token::Or
                | Token::Where
                | Token::When
                | Token::Then
                | Token::Else,
            ) => level.run = 0,
            // Each makes all before it its left side.
            Ok(Token::Join | Token::Union | Token::Except | Token::Intersect) => {
                level.run = 0;
                level.chain += 1;
            }
            _ => level.run += 1,
        }
        if around + level.depth() > MAX_RUN {
            return Err(Unreadable::Deep(format!(
                "at byte {} there are more than {MAX_RUN} tokens within each other",
                token.start
            )));
        }
    }
    Ok(())
}

/// What one pair of parentheses has in it so far.
#[derive(Default)]
struct Level {
    /// Tokens since something began that stands beside what was before.
    run: usize,
    /// Joins and set operations.
    chain: usize,
}

impl Level {
    fn depth(&self) -> usize {
        self.run + self.chain
    }
}
