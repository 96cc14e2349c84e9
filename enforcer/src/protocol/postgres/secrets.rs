//! Passwords that stand in a statement's text: what is judged, shown and recorded has a keyed hash
//! in their place.

use std::borrow::Cow;

/// A word without which no statement has a password in it.
const WORD: &str = "password";

/// The text with every password in it replaced by what `hash` makes of it: the literal behind the
/// word, and every literal that has the word in it (a connection's description).
pub(super) fn hidden<'t>(text: &'t str, hash: &dyn Fn(&[u8]) -> String) -> Cow<'t, str> {
    if !contains(text, WORD) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut after = false;
    while !rest.is_empty() {
        let (token, length) = token(rest);
        let (this, next) = rest.split_at_checked(length).unwrap_or((rest, ""));
        rest = next;
        match token {
            Token::Literal if after || contains(this, WORD) => {
                out.push('\'');
                out.push_str(&hash(this.as_bytes()));
                out.push('\'');
                after = false;
            }
            Token::Blank => out.push_str(this),
            _ => {
                out.push_str(this);
                // `OPTIONS ("password" 'x')` has it as a name.
                after = token == Token::Word && contains(this, WORD);
            }
        }
    }
    Cow::Owned(out)
}

/// What the next bytes of a statement are, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    /// Space or a comment.
    Blank,
    /// A text in quotes or dollars.
    Literal,
    /// A keyword or name.
    Word,
    /// One character of anything else.
    Other,
}

/// The first token of a text that is not empty, and its length in bytes (PostgreSQL's manual,
/// "Lexical Structure"). What does not end goes to the end.
fn token(text: &str) -> (Token, usize) {
    let bytes = text.as_bytes();
    let to = |end: Option<usize>| end.unwrap_or(text.len());
    match bytes {
        [b'-', b'-', ..] => (Token::Blank, to(text.find('\n'))),
        [b'/', b'*', ..] => (Token::Blank, comment(bytes)),
        [b'\'', ..] => (Token::Literal, quoted(bytes, 0, false)),
        [b'e' | b'E', b'\'', ..] => (Token::Literal, quoted(bytes, 1, true)),
        [b'n' | b'N' | b'b' | b'B' | b'x' | b'X', b'\'', ..] => {
            (Token::Literal, quoted(bytes, 1, false))
        }
        [b'u' | b'U', b'&', b'\'', ..] => (Token::Literal, quoted(bytes, 2, false)),
        [b'u' | b'U', b'&', b'"', ..] => (Token::Word, quoted(bytes, 2, false)),
        [b'"', ..] => (Token::Word, quoted(bytes, 0, false)),
        [b'$', tail @ ..] => {
            let tag = tail.iter().take_while(|b| word(**b) && **b != b'$').count();
            match tail.get(tag) {
                Some(b'$') if !tail.first().is_some_and(u8::is_ascii_digit) => {
                    let mark = &text[..tag + 2];
                    let body = &text[tag + 2..];
                    (Token::Literal, to(body.find(mark).map(|at| at + 2 * mark.len())))
                }
                _ => (Token::Other, 1),
            }
        }
        [first, ..] if word(*first) => {
            (Token::Word, bytes.iter().take_while(|b| word(**b)).count())
        }
        [first, ..] if first.is_ascii_whitespace() => (Token::Blank, 1),
        _ => (Token::Other, 1),
    }
}

/// Bytes of names; those above ASCII are all of them letters to PostgreSQL.
fn word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

/// The length of what is in quotes that open at `open`; a quote in it is doubled, or has a
/// backslash before it where these count.
fn quoted(bytes: &[u8], open: usize, backslashes: bool) -> usize {
    let quote = bytes.get(open).copied().unwrap_or(b'\'');
    let mut at = open + 1;
    while let Some(byte) = bytes.get(at) {
        at += match *byte {
            b'\\' if backslashes => 2,
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => 2,
            byte if byte == quote => return at + 1,
            _ => 1,
        };
    }
    bytes.len()
}

/// The length of a comment; they nest.
fn comment(bytes: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 && at < bytes.len() {
        at += match &bytes[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
    }
    at.min(bytes.len())
}

/// Whether `text` has `word` in it, whatever the case of its ASCII letters.
fn contains(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("SELECT 1", "SELECT 1")]
    #[case("SELECT password FROM t WHERE a = 'x'", "SELECT password FROM t WHERE a = 'x'")]
    #[case("ALTER ROLE a PASSWORD 'se''cret' LOGIN", "ALTER ROLE a PASSWORD '#' LOGIN")]
    #[case("create user a encrypted password $$secret$$", "create user a encrypted password '#'")]
    #[case("ALTER ROLE a PASSWORD E'secret' -- 'x'", "ALTER ROLE a PASSWORD '#' -- 'x'")]
    #[case(
        "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', \"password\" 'secret')",
        "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'u', \"password\" '#')"
    )]
    #[case(
        "ALTER ROLE a PASSWORD /* 'x' /* */ */ U&'se\\0063ret'",
        "ALTER ROLE a PASSWORD /* 'x' /* */ */ '#'"
    )]
    #[case(
        "ALTER ROLE \u{e9} PASSWORD $t$a$b$t$; SELECT $1, 'é'",
        "ALTER ROLE \u{e9} PASSWORD '#'; SELECT $1, 'é'"
    )]
    #[case(
        "ALTER ROLE a PASSWORD E'a\\'b' VALID UNTIL 'x'",
        "ALTER ROLE a PASSWORD '#' VALID UNTIL 'x'"
    )]
    #[case("ALTER ROLE a PASSWORD 'never ends", "ALTER ROLE a PASSWORD '#'")]
    #[case("SELECT dblink('host=h Password=secret', 'x')", "SELECT dblink('#', 'x')")]
    fn passwords_go_and_all_else_stays(#[case] text: &str, #[case] want: &str) {
        assert_eq!(hidden(text, &|_| "#".to_owned()), want);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text: String) {
            let text = format!("password {text}");
            hidden(&text, &|_| String::new());
        }
    }
}
