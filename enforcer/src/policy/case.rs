//! Cases (`tests/*.toml`): operations and the verdict that each must get.

use super::ask::{Ask, BadAsk};
use super::problem::{Problems, Source, nearest};
use super::read::{self, Fields};
use super::rules::Rule;
use super::scope::Scope;
use super::{Bundle, Files, Judgement, Verdict};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// The verdict that a case must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is forwarded.
    Allow,
    /// It is refused.
    Deny,
    /// It needs these scopes' approval, or any scope's when none is named.
    NeedsApproval(Vec<String>),
}

impl Expected {
    fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "allow" => return Some(Self::Allow),
            "deny" => return Some(Self::Deny),
            "needs-approval" => return Some(Self::NeedsApproval(Vec::new())),
            _ => {}
        }
        let inner = text.trim().strip_prefix("needs-approval(")?.strip_suffix(')')?;
        let mut scopes: Vec<String> = inner.split(',').map(|s| s.trim().to_owned()).collect();
        scopes.sort_unstable();
        (!scopes.iter().any(String::is_empty)).then_some(Self::NeedsApproval(scopes))
    }

    fn met_by(&self, verdict: &Verdict) -> bool {
        match (self, verdict) {
            (Self::Allow, Verdict::Allow) | (Self::Deny, Verdict::Deny) => true,
            (Self::NeedsApproval(names), Verdict::NeedsApproval(scopes)) => {
                let mut found: Vec<&str> = scopes.iter().map(|s| s.name.as_str()).collect();
                found.sort_unstable();
                names.is_empty() || *names == found
            }
            _ => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Deny => f.write_str("deny"),
            Self::NeedsApproval(scopes) if scopes.is_empty() => f.write_str("needs-approval"),
            Self::NeedsApproval(scopes) => write!(f, "needs-approval({})", scopes.join(", ")),
        }
    }
}

/// One case of a bundle.
#[derive(Clone, Debug)]
pub struct Case {
    /// The file that it is in.
    pub file: String,
    /// What it is about.
    pub name: String,
    /// The operation.
    pub ask: Ask,
    /// The verdict that it must get.
    pub expect: Expected,
    /// The rules that must have decided; empty: any.
    pub rules: Vec<String>,
    span: Range<usize>,
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// Whether the verdict, and the rules where they are named, are as expected.
    pub passed: bool,
    /// What policy said.
    pub judgement: Judgement,
}

impl Bundle {
    /// Judges a case and compares.
    ///
    /// # Errors
    /// When the case does not describe an operation.
    pub fn run(&self, case: &Case) -> Result<CaseOutcome, BadAsk> {
        let judgement = self.judge(&case.ask)?;
        let mut rules = judgement.rules.clone();
        rules.sort_unstable();
        let passed = case.expect.met_by(&judgement.verdict)
            && (case.rules.is_empty() || case.rules == rules);
        Ok(CaseOutcome { passed, judgement })
    }
}

/// Reads a file of `tests/`.
pub(super) fn read(source: &Source<'_>, problems: &mut Problems) -> Vec<Case> {
    let root = read::parse(source, problems);
    let mut fields = Fields::new(source, root.get_ref(), 0..0);
    let mut all: Vec<Case> = Vec::new();
    for entry in fields.tables("test", problems) {
        let Some(case) = case(entry, problems) else {
            continue;
        };
        if all.iter().any(|other| other.name == case.name) {
            problems.error(
                (source, &case.span),
                format!("test \"{}\" is there twice", case.name),
                "give each test its own name",
            );
        }
        all.push(case);
    }
    fields.finish(problems);
    all
}

fn case(mut entry: Fields<'_>, problems: &mut Problems) -> Option<Case> {
    let source = entry.source();
    let name = entry.required("name", problems);
    let agent = entry.required("agent", problems);
    let expect = entry.required("expect", problems);
    let owned = |at: Option<read::At<&str>>| at.map(|at| at.value.to_owned());
    let mut text = |key| owned(entry.text(key, problems));
    let mut ask = Ask {
        agent: owned(agent).unwrap_or_default(),
        host: text("host"),
        task: text("task"),
        exe: text("exe"),
        exe_sha256: text("exe_sha256"),
        target: text("target"),
        method: text("method"),
        url: text("url"),
        body: text("body"),
        dns: text("dns"),
        record_type: text("record_type"),
        connect: text("connect"),
        sql: text("sql"),
        user: text("user"),
        database: text("database"),
        role: text("role"),
        ..Ask::default()
    };
    let mut whole = |key| {
        let number = entry.number(key, 0..=i64::from(u32::MAX), problems);
        number.and_then(|at| u32::try_from(at.value).ok())
    };
    ask.uid = whole("uid");
    ask.body_length = whole("body_length");
    ask.sign_in = entry.flag("sign_in", problems).unwrap_or_default();
    ask.in_transaction = entry.flag("in_transaction", problems).unwrap_or_default();
    let mut texts = |key| -> Option<Vec<String>> {
        let there = entry.has(key);
        let items = entry.texts(key, problems).into_iter().map(|at| at.value.to_owned());
        there.then(|| items.collect())
    };
    ask.search_path = texts("search_path").unwrap_or_default();
    ask.columns = texts("columns");
    ask.looked_at = texts("looked_at");
    ask.parameters = entry
        .text_map("parameters", problems)
        .into_iter()
        .map(|(number, value)| (number.value.to_owned(), value.to_owned()))
        .collect();
    ask.headers = entry
        .text_map("headers", problems)
        .into_iter()
        .map(|(name, value)| (name.value.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut rules: Vec<String> =
        entry.texts("rules", problems).into_iter().map(|at| at.value.to_owned()).collect();
    rules.sort_unstable();
    let things = [&ask.url, &ask.dns, &ask.connect, &ask.sql];
    let things = things.iter().filter(|thing| thing.is_some()).count();
    if things + usize::from(ask.sign_in) != 1 {
        problems.error(
            entry.place(),
            "a test has to say what is asked for",
            "give exactly one of `url`, `dns`, `connect`, `sql` and `sign_in = true`",
        );
    }
    let expect = expect.and_then(|at| {
        let parsed = Expected::parse(at.value);
        if parsed.is_none() {
            problems.error(
                (source, &at.span),
                format!("{:?} is no verdict", at.value),
                "give \"allow\", \"deny\", \"needs-approval\" or \"needs-approval(scope)\"",
            );
        }
        parsed
    });
    let span = entry.place().1.clone();
    entry.finish(problems);
    Some(Case {
        file: source.file.to_owned(),
        name: name?.value.to_owned(),
        ask,
        expect: expect?,
        rules,
        span,
    })
}

/// Reports cases that expect rules or scopes that do not exist.
pub(super) fn check(
    cases: &[Case],
    rules: &[Rule],
    scopes: &HashMap<String, Scope>,
    files: &Files,
    problems: &mut Problems,
) {
    for case in cases {
        let source =
            Source { file: &case.file, text: files.get(&case.file).map_or("", String::as_str) };
        let mut unknown = |what: &str, name: &str, near: Option<&str>| {
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("expect a {what} that the bundle has"),
            };
            problems.error(
                (&source, &case.span),
                format!("test \"{}\": there is no {what} `{name}`", case.name),
                help,
            );
        };
        for name in &case.rules {
            let ids = || rules.iter().map(|rule| rule.id.as_str());
            if !ids().any(|id| id == name) {
                unknown("rule", name, nearest(name, ids()));
            }
        }
        if let Expected::NeedsApproval(names) = &case.expect {
            for name in names.iter().filter(|name| !scopes.contains_key(*name)) {
                unknown("scope", name, nearest(name, scopes.keys().map(String::as_str)));
            }
        }
    }
}
