//! The JSON path subset: `$`, `.key`, `['key']`, `["key"]`, `[n]`, `[*]`, `.*`,
//! `..key`, `..*`, `..[n]` (RFC 9535 without filters, slices, unions and negative
//! indices). Owns parsing and the stepping of path states; reads no JSON.

/// Longest key that a path may name, in bytes.
pub(super) const MAX_KEY: usize = 1024;
/// Most steps in one path.
const MAX_STEPS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(Vec<u8>),
    Index(u64),
    Any,
    /// `..`: this node and every node below it.
    Descend,
}

/// How a child hangs on its parent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edge<'a> {
    /// A member; `None` when the key is longer than any path can name.
    Key(Option<&'a [u8]>),
    Index(u64),
}

/// Position inside one path: `(path, steps already matched)`.
pub(super) type PathState = (u16, u16);

/// Compiled paths, each with the number of the rule that it came from.
#[derive(Clone, Debug, Default)]
pub(super) struct Paths {
    paths: Vec<(Vec<Step>, usize)>,
}

impl Paths {
    /// Adds a path for `rule`; the error says what is wrong with it.
    pub(super) fn add(&mut self, path: &str, rule: usize) -> Result<(), String> {
        if self.paths.len() >= usize::from(u16::MAX) {
            return Err("there are more than 65,534 paths for one target".to_owned());
        }
        self.paths.push((parse(path)?, rule));
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// Pushes the states of a top-level value; the rule that selects it whole.
    pub(super) fn root(&self, states: &mut Vec<PathState>) -> Option<usize> {
        let base = states.len();
        let mut selected = None;
        for path in 0..self.paths.len() {
            self.enter(path as u16, 0, base, states, &mut selected);
        }
        selected
    }

    /// Pushes the states of the child of a node whose states are `parent` (a
    /// range of `states`); the first rule that selects the child.
    pub(super) fn child(
        &self,
        parent: std::ops::Range<usize>,
        edge: Edge<'_>,
        states: &mut Vec<PathState>,
    ) -> Option<usize> {
        let base = states.len();
        let mut selected = None;
        for at in parent {
            let (path, step) = states[at];
            match (&self.paths[usize::from(path)].0[usize::from(step)], edge) {
                (Step::Descend, _) => self.enter(path, step, base, states, &mut selected),
                (Step::Any, _) => self.enter(path, step + 1, base, states, &mut selected),
                (Step::Key(want), Edge::Key(Some(key))) if want == key => {
                    self.enter(path, step + 1, base, states, &mut selected);
                }
                (Step::Index(want), Edge::Index(index)) if *want == index => {
                    self.enter(path, step + 1, base, states, &mut selected);
                }
                _ => {}
            }
        }
        selected
    }

    /// Adds one state and what follows from it without consuming an edge.
    fn enter(
        &self,
        path: u16,
        mut step: u16,
        base: usize,
        states: &mut Vec<PathState>,
        selected: &mut Option<usize>,
    ) {
        let (steps, rule) = &self.paths[usize::from(path)];
        loop {
            let Some(next) = steps.get(usize::from(step)) else {
                *selected = Some(selected.map_or(*rule, |known| known.min(*rule)));
                return;
            };
            if !states[base..].contains(&(path, step)) {
                states.push((path, step));
            }
            if *next != Step::Descend {
                return;
            }
            step += 1;
        }
    }
}

fn parse(path: &str) -> Result<Vec<Step>, String> {
    let mut rest = path.strip_prefix('$').ok_or_else(|| "a path starts with `$`".to_owned())?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let at = path.len() - rest.len() + 1;
        if steps.len() >= MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} steps"));
        }
        if let Some(after) = rest.strip_prefix("..") {
            steps.push(Step::Descend);
            rest = if after.starts_with('[') {
                bracket(after, at, &mut steps)?
            } else {
                name(after, at, &mut steps)?
            };
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = name(after, at, &mut steps)?;
        } else if rest.starts_with('[') {
            rest = bracket(rest, at, &mut steps)?;
        } else {
            return Err(format!("character {at}: expected `.`, `..` or `[`"));
        }
    }
    Ok(steps)
}

/// `*` or an unquoted key, up to the next `.` or `[`.
fn name<'a>(text: &'a str, at: usize, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    match key {
        "" => return Err(format!("character {at}: a key is missing after the dot")),
        "*" => steps.push(Step::Any),
        key if key.contains(|c: char| c.is_whitespace() || "*]'\"\\()?@,:".contains(c)) => {
            return Err(format!("character {at}: write the key `{key}` as ['...']"));
        }
        key => push_key(key.as_bytes().to_vec(), at, steps)?,
    }
    Ok(rest)
}

/// `[*]`, `[n]`, `['key']` or `["key"]`; in quotes `\` stands before a quote or `\`.
fn bracket<'a>(text: &'a str, at: usize, steps: &mut Vec<Step>) -> Result<&'a str, String> {
    let inner = &text[1..];
    if let Some(rest) = inner.strip_prefix("*]") {
        steps.push(Step::Any);
        return Ok(rest);
    }
    let Some(quote) = inner.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let end = inner.find(']').ok_or_else(|| format!("character {at}: `[` is not closed"))?;
        let index = inner[..end].parse().map_err(|_| {
            format!(
                "character {at}: `[{}]` is not supported; use [n], [*] or ['key']",
                &inner[..end]
            )
        })?;
        steps.push(Step::Index(index));
        return Ok(&inner[end + 1..]);
    };
    let mut key = String::new();
    let mut chars = inner[1..].char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, c)) if c == quote || c == '\\' => key.push(c),
                _ => {
                    return Err(format!("character {at}: `\\` stands only before a quote or `\\`"));
                }
            },
            c if c == quote => {
                push_key(key.into_bytes(), at, steps)?;
                return inner[1 + i + 1..]
                    .strip_prefix(']')
                    .ok_or_else(|| format!("character {at}: expected `]` after the quoted key"));
            }
            c => key.push(c),
        }
    }
    Err(format!("character {at}: the quoted key is not closed"))
}

fn push_key(key: Vec<u8>, at: usize, steps: &mut Vec<Step>) -> Result<(), String> {
    if key.len() > MAX_KEY {
        return Err(format!("character {at}: a key is longer than {MAX_KEY} bytes"));
    }
    steps.push(Step::Key(key));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_subset() {
        let key = |k: &str| Step::Key(k.as_bytes().to_vec());
        assert_eq!(parse("$").unwrap(), []);
        assert_eq!(parse("$.a.b-c").unwrap(), [key("a"), key("b-c")]);
        assert_eq!(parse("$[*][3].*").unwrap(), [Step::Any, Step::Index(3), Step::Any]);
        assert_eq!(parse("$..email").unwrap(), [Step::Descend, key("email")]);
        assert_eq!(parse("$..[0]").unwrap(), [Step::Descend, Step::Index(0)]);
        assert_eq!(
            parse("$['a.b'][\"c'd\"]['e\\'f']").unwrap(),
            [key("a.b"), key("c'd"), key("e'f")]
        );
        assert_eq!(parse("$['']").unwrap(), [key("")]);
    }

    #[test]
    fn names_what_is_wrong() {
        for (path, want) in [
            ("a.b", "starts with `$`"),
            ("$a", "expected `.`"),
            ("$.", "key is missing"),
            ("$..", "key is missing"),
            ("$.a.", "key is missing"),
            ("$[1:2]", "not supported"),
            ("$[-1]", "not supported"),
            ("$[?(@.a)]", "not supported"),
            ("$[1", "not closed"),
            ("$['a]", "not closed"),
            ("$['a'", "expected `]`"),
            ("$.a b", "write the key"),
        ] {
            let why = parse(path).unwrap_err();
            assert!(why.contains(want), "{path}: {why}");
        }
        assert!(parse(&format!("${}", ".a".repeat(MAX_STEPS + 1))).is_err());
    }

    #[test]
    fn steps_through_a_tree() {
        let mut paths = Paths::default();
        paths.add("$..email", 1).unwrap();
        paths.add("$.users[*].email", 0).unwrap();
        let mut states = Vec::new();
        assert_eq!(paths.root(&mut states), None);
        let root = 0..states.len();
        let users = states.len();
        assert_eq!(paths.child(root, Edge::Key(Some(b"users")), &mut states), None);
        let item = states.len();
        assert_eq!(paths.child(users..item, Edge::Index(7), &mut states), None);
        let end = states.len();
        assert_eq!(paths.child(item..end, Edge::Key(Some(b"email")), &mut states), Some(0));
        assert_eq!(paths.child(item..end, Edge::Key(Some(b"name")), &mut states), None);
        assert_eq!(paths.child(item..end, Edge::Key(None), &mut states), None);
    }
}
