//! Which columns a rule means: `schema.table.column`, `*` for any characters.

/// Longest pattern, in bytes.
const MAX: usize = 256;

/// Columns by name. A part in double quotes means exactly what is in them; any other means
/// its name in either case, since a name that was made without quotes is in lower case and
/// one that differs from it by case only is rather masked than missed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPattern {
    schema: Part,
    table: Part,
    column: Part,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Any,
    /// In quotes: exactly this.
    Exact(String),
    /// In lower case; `*` stands for any characters.
    Like(String),
}

impl ColumnPattern {
    /// Reads `public.users.email`, `*.*.ssn`, `public."Users"."E-Mail"`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX {
            return Err("it is longer than 256 bytes");
        }
        let mut parts = Vec::new();
        let mut rest = text;
        loop {
            let (part, behind) = part(rest)?;
            parts.push(part);
            match behind.strip_prefix('.') {
                Some(next) => rest = next,
                None if behind.is_empty() => break,
                None => return Err("a `.` has to follow a part in quotes"),
            }
        }
        match <[Part; 3]>::try_from(parts) {
            Ok([schema, table, column]) => Ok(Self { schema, table, column }),
            Err(_) => Err("write schema.table.column, with `*` for any of them"),
        }
    }

    /// Whether it means this column.
    pub fn means(&self, schema: &str, table: &str, column: &str) -> bool {
        self.means_table(schema, table) && self.column.means(column)
    }

    /// Whether it means some column of this table.
    pub fn means_table(&self, schema: &str, table: &str) -> bool {
        self.schema.means(schema) && self.table.means(table)
    }
}

impl Part {
    fn means(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact == name,
            Self::Like(pattern) => like(pattern.as_bytes(), name.to_lowercase().as_bytes()),
        }
    }
}

/// One part, and what is behind it.
fn part(text: &str) -> Result<(Part, &str), &'static str> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find('.').unwrap_or(text.len());
        let (name, behind) = text.split_at(end);
        return match name {
            "" => Err("a part is empty"),
            "*" => Ok((Part::Any, behind)),
            name if name.contains('"') => Err("quotes are around a whole part"),
            name if name.contains(char::is_whitespace) => Err("put a name with spaces in quotes"),
            name => Ok((Part::Like(name.to_lowercase()), behind)),
        };
    };
    let mut name = String::new();
    loop {
        let (before, behind) = rest.split_once('"').ok_or("a quote is not closed")?;
        name.push_str(before);
        match behind.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None if name.is_empty() => return Err("a part is empty"),
            None => return Ok((Part::Exact(name), behind)),
        }
    }
}

/// Whether `name` is as `pattern`, in which `*` stands for any characters.
fn like(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut in_name) = (0, 0);
    // Where to go on when what follows the last `*` does not fit.
    let mut back: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                back = Some((at + 1, in_name));
                at += 1;
            }
            Some(byte) if *byte == name[in_name] => {
                at += 1;
                in_name += 1;
            }
            _ => {
                let Some((behind, tried)) = back else { return false };
                back = Some((behind, tried + 1));
                (at, in_name) = (behind, tried + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("public.users.email", "public", "users", "email", true)]
    #[case("public.users.email", "public", "users", "Email", true)]
    #[case("Public.Users.EMAIL", "public", "users", "email", true)]
    #[case("public.users.email", "public", "users", "emails", false)]
    #[case("public.users.email", "private", "users", "email", false)]
    #[case("*.*.ssn", "any", "thing", "ssn", true)]
    #[case("*.*.ssn", "any", "thing", "ssn2", false)]
    #[case("hr.*.*", "hr", "salaries", "amount", true)]
    #[case("hr.*.*", "shr", "salaries", "amount", false)]
    #[case("*.*.*_token", "a", "b", "api_token", true)]
    #[case("*.*.*_token", "a", "b", "api_token_id", false)]
    #[case("*.*.*pass*word*", "a", "b", "the_passxword_hash", true)]
    #[case("*.*.*a*ab", "a", "b", "aaab", true)]
    #[case("public.\"Users\".\"e.mail\"", "public", "Users", "e.mail", true)]
    #[case("public.\"Users\".\"e.mail\"", "public", "users", "e.mail", false)]
    #[case("a.b.\"say \"\"hi\"\"\"", "a", "b", "say \"hi\"", true)]
    #[case("a.b.\"*\"", "a", "b", "c", false)]
    #[case("a.b.STRA\u{df}E", "a", "b", "stra\u{df}e", true)]
    fn means(
        #[case] pattern: &str,
        #[case] schema: &str,
        #[case] table: &str,
        #[case] column: &str,
        #[case] yes: bool,
    ) {
        let pattern = ColumnPattern::parse(pattern).unwrap();
        assert_eq!(pattern.means(schema, table, column), yes);
    }

    #[rstest]
    #[case("email")]
    #[case("users.email")]
    #[case("db.public.users.email")]
    #[case("")]
    #[case("public..email")]
    #[case("public.users.")]
    #[case("public.\"users.email")]
    #[case("public.\"users\"x.email")]
    #[case("public.us\"ers\".email")]
    #[case("public.users.e mail")]
    #[case("public.\"\".email")]
    fn is_refused(#[case] pattern: &str) {
        assert!(ColumnPattern::parse(pattern).is_err(), "{pattern}");
    }
}
