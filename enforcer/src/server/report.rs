//! Bad habits: what the votes of a while say about how people decide. Pure.
//!
//! A finding is a question to ask, not a proof: each one names what it was counted from.

use super::model::{Millis, Record, Rule, Vote};
use enforcer_proto::v1;
use std::collections::{BTreeMap, BTreeSet};

/// The least time to open a request and see what it is. Milliseconds.
const GLANCE: Millis = 2_000;

/// Bytes of a request that somebody skims in a second: about 1000 words a minute.
const SKIMMED: u64 = 100;

/// Whoever looked for a minute is not too fast, however long the request. Milliseconds.
const LOOKED: Millis = 60_000;

/// Votes of a person, without one against, that are a habit.
const ALWAYS: usize = 10;

/// Approvals of a scope, all by the same person, that are a habit.
const ALONE: usize = 5;

/// Approvals of the same operation after which a rule would be the honest answer.
const AGAIN: usize = 5;

/// Uses of one grant that make it a standing permission.
const USES: u32 = 100;

/// Time of one grant that makes it a standing permission: a day. Milliseconds.
const LONG: Millis = 86_400_000;

/// Ids in one finding.
const NAMED: usize = 10;

/// An approval, and how much there is to read. Bytes.
#[derive(Clone, Debug)]
pub struct Seen {
    /// It.
    pub record: Record,
    /// Everything that its digest covers.
    pub bytes: u64,
}

/// The time that skimming so many bytes takes. Milliseconds.
pub fn reading(bytes: u64) -> Millis {
    let skimming = Millis::try_from(bytes.saturating_mul(1000) / SKIMMED).unwrap_or(Millis::MAX);
    GLANCE.saturating_add(skimming).min(LOOKED)
}

/// What there is to ask about these, the most urgent first.
pub fn findings(seen: &[Seen]) -> Vec<v1::Finding> {
    let mut findings = Vec::new();
    for Seen { record, .. } in seen.iter().filter(|seen| seen.record.unreviewed()) {
        let broke: Vec<&Vote> = record.votes.iter().filter(|vote| !vote.broke.is_empty()).collect();
        findings.push(v1::Finding {
            code: "glass-unreviewed".to_owned(),
            person: broke.first().map(|vote| vote.person.clone()).unwrap_or_default(),
            scope: broke.iter().flat_map(|vote| vote.broke.clone()).collect::<Vec<_>>().join(","),
            count: 1,
            of: 1,
            detail: broke.first().map(|vote| vote.reason.clone()).unwrap_or_default(),
            approvals: vec![record.id.to_string()],
        });
    }
    people(seen, &mut findings);
    scopes(seen, &mut findings);
    again(seen, &mut findings);
    findings
}

/// Which of a person's votes are worth a question.
#[derive(Default)]
struct Habits<'a> {
    votes: Vec<(&'a Seen, &'a Vote)>,
}

fn people(seen: &[Seen], findings: &mut Vec<v1::Finding>) {
    let mut people: BTreeMap<&str, Habits<'_>> = BTreeMap::new();
    for one in seen {
        for vote in &one.record.votes {
            people.entry(&vote.person).or_default().votes.push((one, vote));
        }
    }
    for (person, Habits { mut votes }) in people {
        votes.sort_by_key(|(_, vote)| vote.at);
        let of = votes.iter().filter(|(_, vote)| vote.approve).count();
        let mut fast = Vec::new();
        let mut before = Millis::MIN;
        for (one, vote) in &votes {
            // Nobody read it before it was asked, nor while deciding on another.
            let had = vote.at.saturating_sub(one.record.created.max(before));
            if vote.approve && had < reading(one.bytes) {
                fast.push(&one.record);
            }
            before = vote.at;
        }
        let mute = votes.iter().filter(|(_, vote)| vote.approve && vote.reason.is_empty());
        let mute: Vec<&Record> = mute.map(|(one, _)| &one.record).collect();
        let mut about = |code: &str, found: &[&Record], detail: &str| {
            if !found.is_empty() {
                let person = person.to_owned();
                findings.push(v1::Finding { person, ..finding(code, found, of, detail) });
            }
        };
        about("too-fast", &fast, "approved in less time than reading it takes");
        about("no-reason", &mute, "approved without a reason");
        if votes.len() >= ALWAYS && of == votes.len() {
            let all: Vec<&Record> = votes.iter().map(|(one, _)| &one.record).collect();
            about("always-yes", &all, "never voted against anything");
        }
    }
}

fn scopes(seen: &[Seen], findings: &mut Vec<v1::Finding>) {
    let mut granted: BTreeMap<&str, Vec<(&Record, &Rule)>> = BTreeMap::new();
    for Seen { record, .. } in seen.iter().filter(|seen| seen.record.grant_until != 0) {
        for rule in &record.rules {
            granted.entry(&rule.scope).or_default().push((record, rule));
        }
    }
    for (scope, grants) in granted {
        let yes = |(record, _): &(&Record, &Rule)| -> BTreeSet<String> {
            let votes = record.votes.iter().filter(|vote| vote.approve);
            votes
                .filter(|v| v.scopes.iter().any(|s| s == scope))
                .map(|v| v.person.clone())
                .collect()
        };
        let people: BTreeSet<BTreeSet<String>> = grants.iter().map(yes).collect();
        let alone = people.first().filter(|first| people.len() == 1 && first.len() == 1);
        let mut about = |code: &str, person: &str, found: &[&Record], detail: &str| {
            let (person, scope) = (person.to_owned(), scope.to_owned());
            findings.push(v1::Finding {
                person,
                scope,
                ..finding(code, found, grants.len(), detail)
            });
        };
        if let Some(person) = alone.and_then(BTreeSet::first).filter(|_| grants.len() >= ALONE) {
            let all: Vec<&Record> = grants.iter().map(|(record, _)| *record).collect();
            about("one-person", person, &all, "only this person ever approves here");
        }
        let wide: Vec<&Record> =
            grants.iter().filter(|(_, rule)| width(rule).is_some()).map(|(r, _)| *r).collect();
        if let Some(why) = grants.iter().find_map(|(_, rule)| width(rule)) {
            about("wide-scope", "", &wide, &why);
        }
    }
}

/// Why a scope's rule gives much on little.
fn width(rule: &Rule) -> Option<String> {
    let mut why = Vec::new();
    if rule.uses >= USES {
        why.push(format!("{} uses of one grant", rule.uses));
    }
    if rule.grant_ttl >= LONG {
        why.push(format!("a grant is good for {} hours", rule.grant_ttl / 3_600_000));
    }
    if rule.reviewers.is_empty() && rule.quorum <= 1 {
        why.push("any one reviewer may approve".to_owned());
    }
    (!why.is_empty()).then(|| why.join(", "))
}

fn again(seen: &[Seen], findings: &mut Vec<v1::Finding>) {
    let mut same: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for Seen { record, .. } in seen.iter().filter(|seen| seen.record.grant_until != 0) {
        same.entry((&record.host, &record.digest)).or_default().push(record);
    }
    for ((host, _), found) in same.into_iter().filter(|(_, found)| found.len() >= AGAIN) {
        let agent = found.first().map(|record| record.agent.as_str()).unwrap_or_default();
        let detail = format!("the same operation of {host}/{agent}: a rule may say it better");
        findings.push(finding("repeated", &found, found.len(), &detail));
    }
}

fn finding(code: &str, found: &[&Record], of: usize, detail: &str) -> v1::Finding {
    let mut ids: Vec<_> = found.iter().map(|record| record.id).collect();
    ids.sort_unstable_by(|a, b| b.cmp(a));
    v1::Finding {
        code: code.to_owned(),
        person: String::new(),
        scope: String::new(),
        count: found.len() as u64,
        of: of as u64,
        detail: detail.to_owned(),
        approvals: ids.into_iter().take(NAMED).map(|id| id.to_string()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Ballot, Person};
    use super::*;
    use uuid::Uuid;

    /// The `n`th request, asked at `n` minutes, and one vote on it.
    fn seen(n: u32, (person, approve, reason): (&str, bool, &str), after: Millis) -> Seen {
        let rule = Rule {
            scope: "s".to_owned(),
            reviewers: vec!["ops".to_owned()],
            quorum: 1,
            deny_threshold: 1,
            request_ttl: LONG,
            grant_ttl: 60_000,
            uses: 1,
            break_glass: vec!["oncall".to_owned()],
            ..Rule::default()
        };
        let asked = Millis::from(n) * 60_000;
        let digest = format!("v1:{n}");
        let id = Uuid::from_u128(u128::from(n));
        let record = Record::new(id, ("h", "a"), &digest, vec![rule], Vec::new(), asked);
        let ballot = Ballot { approve, reason, digest: &digest, break_glass: false };
        let groups = ["ops".to_owned()];
        let person = Person { name: person, groups: &groups };
        Seen { record: record.vote(person, ballot, asked + after).unwrap(), bytes: 800 }
    }

    fn codes(seen: &[Seen]) -> Vec<String> {
        findings(seen)
            .into_iter()
            .map(|f| format!("{} {} {}/{}", f.code, f.person, f.count, f.of))
            .collect()
    }

    const CARE: (&str, bool, &str) = ("ann", true, "CHG-1");

    #[test]
    fn who_takes_care_is_not_found() {
        let mut all: Vec<Seen> = (0..20).map(|n| seen(n, CARE, 10_000)).collect();
        assert_eq!(codes(&all[..4]), [""; 0]);
        all.push(seen(20, ("ann", false, "no"), 10_000));
        all.push(seen(21, ("bob", true, "CHG-2"), 10_000));
        assert_eq!(codes(&all), [""; 0]);
    }

    #[test]
    fn time_to_read() {
        assert_eq!([0, 800, 1 << 40].map(reading), [2_000, 10_000, 60_000]);
        assert_eq!(codes(&[seen(0, CARE, 9_999)]), ["too-fast ann 1/1"]);
        // Two at once: each had its ten seconds, but not for itself.
        let first = seen(0, CARE, 120_000);
        assert_eq!(codes(&[seen(1, CARE, 60_001), first]), ["too-fast ann 1/2"]);
        assert_eq!(codes(&[seen(0, ("ann", false, ""), 0)]), [""; 0], "no is quick");
    }

    #[test]
    fn habits_of_people_and_scopes() {
        assert_eq!(codes(&[seen(0, ("ann", true, ""), 10_000)]), ["no-reason ann 1/1"]);
        let all: Vec<Seen> = (0..10).map(|n| seen(n, CARE, 10_000)).collect();
        assert_eq!(codes(&all), ["always-yes ann 10/10", "one-person ann 10/10"]);
        let mut same: Vec<Seen> = (0..5).map(|n| seen(n, CARE, 10_000)).collect();
        for one in &mut same {
            one.record.digest = "v1:same".to_owned();
        }
        same.push(seen(6, ("bob", true, "CHG"), 10_000));
        assert_eq!(codes(&same), ["repeated  5/5"]);
    }

    #[test]
    fn scopes_that_give_much() {
        type Widen = fn(&mut Rule);
        let cases: [(Widen, &str); 3] = [
            (|rule| rule.uses = USES, "100 uses of one grant"),
            (|rule| rule.grant_ttl = LONG, "a grant is good for 24 hours"),
            (|rule| rule.reviewers.clear(), "any one reviewer may approve"),
        ];
        for (widen, why) in cases {
            let mut one = seen(0, CARE, 10_000);
            widen(&mut one.record.rules[0]);
            let found = findings(std::slice::from_ref(&one));
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].code.as_str(), found[0].detail.as_str()), ("wide-scope", why));
        }
    }

    #[test]
    fn a_broken_glass_stays_until_it_is_reviewed() {
        let mut one = seen(0, CARE, 10_000);
        one.record.votes[0].broke = vec!["s".to_owned()];
        assert_eq!(codes(std::slice::from_ref(&one)), ["glass-unreviewed ann 1/1"]);
        let groups = ["ops".to_owned()];
        let bob = Person { name: "bob", groups: &groups };
        one.record = one.record.look(bob, "fine", 20_000).unwrap();
        assert_eq!(codes(std::slice::from_ref(&one)), [""; 0]);
    }
}
