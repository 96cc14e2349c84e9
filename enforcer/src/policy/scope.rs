//! Scopes: the named approval rules (`scopes.toml`) that `@approval("...")` refers to.

use super::problem::{Problems, Source};
use super::read::{self, Fields};
use super::target::identifier;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

/// The file that names them.
pub(super) const FILE: &str = "scopes.toml";

/// A request or grant that lives longer than a week is a standing permission; that is a rule's job.
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 86_400);

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
    let reviewers = entry
        .texts("reviewers", problems)
        .iter()
        .filter_map(|at| identifier("reviewers' group", source, at, problems))
        .collect();
    let quorum = count(&mut entry, "quorum", 100, problems);
    let deny_threshold = count(&mut entry, "deny_threshold", 100, problems);
    let request_ttl =
        entry.duration("request_ttl", TTL, problems).unwrap_or(Duration::from_secs(15 * 60));
    let grant_ttl =
        entry.duration("grant_ttl", TTL, problems).unwrap_or(Duration::from_secs(5 * 60));
    let uses = count(&mut entry, "uses", 10_000, problems);
    let reason_required = entry
        .word("reason", &[("required", true), ("optional", false)], problems)
        .is_some_and(|at| at.value);
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
            reason_required,
        },
        span,
    })
}

/// A count from 1; 1 when it is not there.
fn count(entry: &mut Fields<'_>, key: &'static str, most: i64, problems: &mut Problems) -> u32 {
    entry.number(key, 1..=most, problems).and_then(|at| u32::try_from(at.value).ok()).unwrap_or(1)
}
