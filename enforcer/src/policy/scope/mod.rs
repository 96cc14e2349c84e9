//! Scopes: the named approval rules (`scopes.toml`) that `@approval("...")` refers to.

use super::problem::{Problems, Source};
use super::read::{self, Fields};
use super::target::identifier;
use regex::{Regex, RegexBuilder};
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

mod hours;

pub use hours::{BadHours, Hours, open_until};

/// The file that names them.
pub(super) const FILE: &str = "scopes.toml";

/// A request or grant that lives longer than a week is a standing permission; that is a rule's job.
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

/// People that one scope can ask for.
const PEOPLE: i64 = 64;

/// Who decides on a request, and what a positive decision gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Its name in rules.
    pub name: String,
    /// Groups whose members may decide; empty: any reviewer.
    pub reviewers: Vec<String>,
    /// How many distinct people must approve; at least 1.
    pub quorum: u32,
    /// How many distinct people must deny to deny; at least 1.
    pub deny_threshold: u32,
    /// How long a request waits for a decision.
    pub request_ttl: Duration,
    /// How long a grant lives, from the decision.
    pub grant_ttl: Duration,
    /// How many operations a grant lets through; at least 1.
    pub uses: u32,
    /// Whether a decision must say why.
    pub reason_required: bool,
    /// What the reason of a vote for it must contain: a [`reason_pattern`].
    pub reason_pattern: Option<String>,
    /// When people may approve; a grant ends with the window. Empty: at any time.
    pub hours: Vec<Hours>,
    /// After how long without a decision `escalate_to` may decide too; shorter than `request_ttl`.
    pub escalate_after: Option<Duration>,
    /// Groups that may decide then.
    pub escalate_to: Vec<String>,
    /// Groups of whom one person alone may approve in an emergency.
    pub break_glass: Vec<String>,
    /// Whether a step of a task may ask for a pattern, not only for one exact operation.
    pub patterns: bool,
}

impl Scope {
    /// Whether what was decided under this scope would do under another: it asked for as much of
    /// as few people, and gave no more. What cannot be compared does not.
    pub fn is_as_strict_as(&self, other: &Self) -> bool {
        let among = |mine: &[String], theirs: &[String]| mine.iter().all(|g| theirs.contains(g));
        // No groups are all groups.
        let reviewers = other.reviewers.is_empty()
            || (!self.reviewers.is_empty() && among(&self.reviewers, &other.reviewers));
        let escalates = self.escalate_to.is_empty()
            || (among(&self.escalate_to, &other.escalate_to)
                && self.escalate_after >= other.escalate_after);
        let same = |hours: &[Hours]| {
            let mut hours: Vec<String> = hours.iter().map(ToString::to_string).collect();
            hours.sort();
            hours.dedup();
            hours
        };
        self.name == other.name
            && reviewers
            && escalates
            && among(&self.break_glass, &other.break_glass)
            && self.quorum >= other.quorum
            && self.deny_threshold <= other.deny_threshold
            && self.request_ttl <= other.request_ttl
            && self.grant_ttl <= other.grant_ttl
            && self.uses <= other.uses
            && self.reason_required >= other.reason_required
            && (other.reason_pattern.is_none() || self.reason_pattern == other.reason_pattern)
            && (other.hours.is_empty() || same(&self.hours) == same(&other.hours))
            && self.patterns <= other.patterns
    }
}

/// Bytes of a pattern for reasons.
const PATTERN: usize = 256;

/// Bytes that a compiled pattern takes at most: votes are counted one after the other.
const COMPILED: usize = 1 << 20;

/// The expression that the reason of an approval must match somewhere.
///
/// # Errors
/// When it is no expression, too large, or matches the empty text: that would ask for nothing.
pub fn reason_pattern(text: &str) -> Result<Regex, String> {
    if text.len() > PATTERN {
        return Err(format!("it has more than {PATTERN} bytes"));
    }
    let pattern = RegexBuilder::new(text).size_limit(COMPILED).build();
    let pattern = pattern.map_err(|error| match error {
        // The last line says what is wrong; those before draw it.
        regex::Error::Syntax(text) => {
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        }
        other => other.to_string(),
    })?;
    if pattern.is_match("") {
        return Err("it matches an empty reason".to_owned());
    }
    Ok(pattern)
}

/// A scope with where it was written.
pub(super) struct Written {
    pub(super) scope: Scope,
    pub(super) span: Range<usize>,
}

/// Reads `scopes.toml`.
pub(super) fn read(source: &Source<'_>, problems: &mut Problems) -> Vec<Written> {
    let root = read::parse(source, problems);
    let mut fields = Fields::new(source, root.get_ref(), 0..0);
    let mut all: Vec<Written> = Vec::new();
    for entry in fields.tables("scope", problems) {
        let Some(written) = scope(entry, problems) else {
            continue;
        };
        let name = &written.scope.name;
        if all.iter().any(|other| other.scope.name == *name) {
            problems.error(
                (source, &written.span),
                format!("scope `{name}` is there twice"),
                "give each scope its own name",
            );
        }
        all.push(written);
    }
    fields.finish(problems);
    all
}

fn scope(mut entry: Fields<'_>, problems: &mut Problems) -> Option<Written> {
    let source = entry.source();
    let name = entry.required("name", problems);
    let reviewers = groups(&mut entry, "reviewers", "reviewers' group", problems);
    let quorum = count(&mut entry, "quorum", PEOPLE, problems);
    let deny_threshold = count(&mut entry, "deny_threshold", PEOPLE, problems);
    let request_ttl =
        entry.duration("request_ttl", TTL, problems).unwrap_or(Duration::from_secs(15 * 60));
    let grant_ttl =
        entry.duration("grant_ttl", TTL, problems).unwrap_or(Duration::from_secs(5 * 60));
    let uses = count(&mut entry, "uses", 10_000, problems);
    let reason_required = entry
        .word("reason", &[("required", true), ("optional", false)], problems)
        .is_some_and(|at| at.value);
    let reason_pattern = pattern(&mut entry, problems);
    let hours = windows(&mut entry, problems);
    let (escalate_after, escalate_to) = escalation(&mut entry, (&reviewers, request_ttl), problems);
    let break_glass = groups(&mut entry, "break_glass", "break-glass group", problems);
    let patterns = entry.flag("patterns", problems).unwrap_or(false);
    let name = name.and_then(|at| identifier("scope", source, &at, problems));
    let span = entry.place().1.clone();
    entry.finish(problems);
    Some(Written {
        scope: Scope {
            name: name?,
            reviewers,
            quorum,
            deny_threshold,
            request_ttl,
            grant_ttl,
            uses,
            // A pattern asks for a reason by itself.
            reason_required: reason_required || reason_pattern.is_some(),
            reason_pattern,
            hours,
            escalate_after,
            escalate_to,
            break_glass,
            patterns,
        },
        span,
    })
}

fn groups(
    entry: &mut Fields<'_>,
    key: &'static str,
    what: &'static str,
    problems: &mut Problems,
) -> Vec<String> {
    let source = entry.source();
    let texts = entry.texts(key, problems);
    texts.iter().filter_map(|at| identifier(what, source, at, problems)).collect()
}

fn pattern(entry: &mut Fields<'_>, problems: &mut Problems) -> Option<String> {
    let at = entry.text("reason_pattern", problems)?;
    if let Err(why) = reason_pattern(at.value) {
        problems.error(
            (entry.source(), &at.span),
            format!("`reason_pattern` cannot be \"{}\": {why}", at.value),
            "give a regular expression that the reason must match somewhere, as in \"CHG-[0-9]+\"",
        );
        return None;
    }
    Some(at.value.to_owned())
}

fn windows(entry: &mut Fields<'_>, problems: &mut Problems) -> Vec<Hours> {
    let mut windows = Vec::new();
    for at in entry.texts("hours", problems) {
        match at.value.parse() {
            Ok(hours) => windows.push(hours),
            Err(error) => problems.error(
                (entry.source(), &at.span),
                format!("`hours` cannot be \"{}\"", at.value),
                BadHours::to_string(&error),
            ),
        }
    }
    windows
}

/// `escalate_after` and `escalate_to`, of a scope with these reviewers and that `request_ttl`.
fn escalation(
    entry: &mut Fields<'_>,
    (reviewers, request_ttl): (&[String], Duration),
    problems: &mut Problems,
) -> (Option<Duration>, Vec<String>) {
    let after = entry.duration("escalate_after", TTL, problems);
    let to = groups(entry, "escalate_to", "escalation group", problems);
    let mut error = |what: &str, help: &str| problems.error(entry.place(), what, help);
    match after {
        None if to.is_empty() => {}
        None => error("`escalate_to` never comes to be", "add `escalate_after = \"10m\"`"),
        Some(_) if to.is_empty() => {
            error("`escalate_after` names nobody", "add `escalate_to = [\"group\"]`");
        }
        Some(_) if reviewers.is_empty() => error(
            "`escalate_to` changes nothing: any reviewer may decide at once",
            "name `reviewers`, or take the escalation out",
        ),
        Some(_) if to.iter().all(|group| reviewers.contains(group)) => error(
            "`escalate_to` changes nothing: these groups may decide at once",
            "name a group that is not in `reviewers`",
        ),
        Some(after) if after >= request_ttl => error(
            "`escalate_after` comes when the request is over already",
            "make it shorter than `request_ttl`",
        ),
        Some(_) => return (after, to),
    }
    (None, Vec::new())
}

/// A count from 1; 1 when it is not there.
fn count(entry: &mut Fields<'_>, key: &'static str, most: i64, problems: &mut Problems) -> u32 {
    entry.number(key, 1..=most, problems).and_then(|at| u32::try_from(at.value).ok()).unwrap_or(1)
}
