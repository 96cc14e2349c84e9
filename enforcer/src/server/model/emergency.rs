//! When the usual people do not decide: escalation after a delay, and the broken glass with its
//! review afterwards.

use super::{Looked, Millis, Person, Phase, Record, Rule};

/// Why a review does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// None of the scopes whose glass was broken lets this person decide. The caller must be told
    /// the same as for an approval that does not exist.
    #[error("the person may not decide on this approval")]
    NotEligible,
    /// The person broke the glass, asked for it, or owns who did.
    #[error("who broke the glass, or owns the agent that asked, cannot review it")]
    Involved,
    /// Nothing to look at.
    #[error("nobody broke the glass for this approval, so there is nothing to review")]
    NotBroken,
    /// One review is enough.
    #[error("this approval was reviewed already")]
    Reviewed,
    /// A review says what was found.
    #[error("a review needs a note")]
    NoteMissing,
}

impl Rule {
    /// Whether it escalates a request that was made then and still waits.
    fn escalates(&self, created: Millis, now: Millis) -> bool {
        self.escalate_after > 0 && now >= created.saturating_add(self.escalate_after)
    }
}

impl Record {
    /// When more people may decide for the next time; `None` when no more will.
    pub fn escalation(&self) -> Option<Millis> {
        if self.phase != Phase::Pending {
            return None;
        }
        let due = |rule: &Rule| self.created.saturating_add(rule.escalate_after);
        let open = |rule: &&Rule| rule.escalate_after > 0 && !self.escalated.contains(&rule.scope);
        self.rules.iter().filter(open).map(due).min()
    }

    /// With the escalations on record that are due, and their scopes; `None` when none is.
    pub fn escalate(&self, now: Millis) -> Option<(Self, Vec<String>)> {
        let mut next = self.at(now);
        if next.phase != Phase::Pending {
            return None;
        }
        let due = next.escalations(now);
        if due.is_empty() {
            return None;
        }
        next.escalated.extend(due.iter().cloned());
        next.revision += 1;
        Some((next, due))
    }

    /// The scopes whose escalation is due and not on record.
    pub(super) fn escalations(&self, now: Millis) -> Vec<String> {
        let due = |rule: &&Rule| {
            rule.escalates(self.created, now) && !self.escalated.contains(&rule.scope)
        };
        self.rules.iter().filter(due).map(|rule| rule.scope.clone()).collect()
    }

    /// Whether the scope's `escalate_to` may decide: of what is decided, only when it was
    /// escalated before.
    pub(super) fn escalated_in(&self, rule: &Rule, now: Millis) -> bool {
        let waits = self.phase == Phase::Pending && rule.escalates(self.created, now);
        waits || self.escalated.contains(&rule.scope)
    }

    /// Whether somebody broke the glass.
    pub fn broken(&self) -> bool {
        self.votes.iter().any(|vote| !vote.broke.is_empty())
    }

    /// Whether somebody broke the glass and nobody looked at it since.
    pub fn unreviewed(&self) -> bool {
        self.broken() && self.review.is_none()
    }

    /// Puts on record that somebody else looked at it.
    ///
    /// # Errors
    /// When this person's look does not count.
    pub fn look(&self, person: Person<'_>, note: &str, now: Millis) -> Result<Self, ReviewError> {
        let eligible = self.eligible(person, now);
        if eligible.is_empty() {
            return Err(ReviewError::NotEligible);
        }
        if !self.broken() {
            return Err(ReviewError::NotBroken);
        }
        let broke = |scope: &String| self.votes.iter().any(|vote| vote.broke.contains(scope));
        if !eligible.iter().any(broke) {
            return Err(ReviewError::NotEligible);
        }
        let breaker =
            self.votes.iter().any(|vote| vote.person == person.name && !vote.broke.is_empty());
        if breaker || self.excluded.iter().any(|name| name == person.name) {
            return Err(ReviewError::Involved);
        }
        if self.review.is_some() {
            return Err(ReviewError::Reviewed);
        }
        if note.trim().is_empty() {
            return Err(ReviewError::NoteMissing);
        }
        let mut next = self.at(now);
        next.review =
            Some(Looked { person: person.name.to_owned(), note: note.trim().to_owned(), at: now });
        next.revision += 1;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ballot, VoteError};
    use super::*;
    use uuid::Uuid;

    /// Monday 2024-01-01 00:00 UTC.
    const MONDAY: Millis = 1_704_067_200_000;
    const MINUTE: Millis = 60_000;
    const HOUR: Millis = 60 * MINUTE;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn rule() -> Rule {
        Rule {
            scope: "s".to_owned(),
            reviewers: texts(&["ops"]),
            quorum: 2,
            deny_threshold: 1,
            request_ttl: 24 * HOUR,
            grant_ttl: 4 * HOUR,
            uses: 1,
            ..Rule::default()
        }
    }

    fn asked(rules: Vec<Rule>) -> Record {
        Record::new(Uuid::nil(), ("h", "a"), "v1:aa", rules, texts(&["owner"]), MONDAY)
    }

    /// A vote for it: who, of which group, breaking the glass or not, with that reason.
    fn yes(
        record: &Record,
        (name, group): (&str, &str),
        break_glass: bool,
        reason: &str,
        now: Millis,
    ) -> Result<Record, VoteError> {
        let ballot = Ballot { approve: true, reason, digest: "v1:aa", break_glass };
        record.vote(Person { name, groups: &texts(&[group]) }, ballot, now)
    }

    #[test]
    fn more_people_may_decide_only_once_it_has_waited() {
        let rule = Rule { escalate_after: HOUR, escalate_to: texts(&["leads"]), ..rule() };
        let pending = asked(vec![rule]);
        assert_eq!(pending.escalation(), Some(MONDAY + HOUR));
        let early = MONDAY + HOUR - 1;
        assert_eq!(pending.escalate(early), None);
        assert_eq!(yes(&pending, ("lea", "leads"), false, "", early), Err(VoteError::NotEligible));
        let one = yes(&pending, ("ann", "ops"), false, "", early).unwrap();
        // The vote puts an escalation that is due on record, should it be the first to see it.
        let both = yes(&one, ("lea", "leads"), false, "", MONDAY + HOUR).unwrap();
        assert_eq!((both.phase, both.escalated.as_slice()), (Phase::Approved, &texts(&["s"])[..]));
        let (told, scopes) = pending.escalate(MONDAY + HOUR).unwrap();
        assert_eq!((scopes, told.escalation()), (texts(&["s"]), None));
        assert_eq!(told.escalate(MONDAY + HOUR), None, "once");
        assert!(pending.escalate(MONDAY + 24 * HOUR).is_none(), "it is over");
        // Decided before: it never was theirs.
        let denied = Ballot { approve: false, reason: "", digest: "v1:aa", break_glass: false };
        let ann = texts(&["ops"]);
        let denied = pending.vote(Person { name: "ann", groups: &ann }, denied, early).unwrap();
        let leads = texts(&["leads"]);
        let lea = Person { name: "lea", groups: &leads };
        assert!(denied.eligible(lea, MONDAY + 2 * HOUR).is_empty());
    }

    #[test]
    fn a_reason_must_match_and_an_approval_keeps_the_hours() {
        let rule = Rule {
            quorum: 1,
            reason_required: true,
            reason_pattern: "CHG-[0-9]+".to_owned(),
            hours: texts(&["Mon-Fri 08:00-18:00 +02:00"]),
            ..rule()
        };
        let pending = asked(vec![rule]);
        let vote = |reason, now| yes(&pending, ("ann", "ops"), false, reason, now);
        let open = MONDAY + 7 * HOUR;
        assert_eq!(vote("", open), Err(VoteError::ReasonMissing));
        assert!(matches!(vote("CHG", open), Err(VoteError::ReasonPattern { .. })));
        assert!(matches!(vote("see CHG-1", MONDAY), Err(VoteError::Hours { .. })));
        let granted = vote("see CHG-1", open).unwrap();
        assert_eq!(granted.grant_until, open + 4 * HOUR);
        // The window closes at 16:00 UTC, and the grant with it.
        let late = vote("see CHG-1", MONDAY + 15 * HOUR).unwrap();
        assert_eq!(late.grant_until, MONDAY + 16 * HOUR);
        // A vote against it is always possible, for any reason.
        let no = Ballot { approve: false, reason: "no", digest: "v1:aa", break_glass: false };
        let groups = texts(&["ops"]);
        let denied = pending.vote(Person { name: "ann", groups: &groups }, no, MONDAY).unwrap();
        assert_eq!(denied.phase, Phase::Denied);
    }

    #[test]
    fn a_reason_that_two_scopes_want_is_asked_of_those_who_decide_there() {
        let with = |scope: &str, group: &str, pattern: &str| Rule {
            scope: scope.to_owned(),
            reviewers: texts(&[group]),
            quorum: 1,
            reason_pattern: pattern.to_owned(),
            ..rule()
        };
        let pending = asked(vec![with("a", "ops", "CHG"), with("b", "sec", "SEC")]);
        let one = yes(&pending, ("ann", "ops"), false, "CHG", MONDAY).unwrap();
        assert!(yes(&one, ("eve", "sec"), false, "CHG", MONDAY).is_err());
        assert_eq!(yes(&one, ("eve", "sec"), false, "SEC", MONDAY).unwrap().phase, Phase::Approved);
    }

    #[test]
    fn who_breaks_the_glass_approves_alone_where_that_is_allowed() {
        let glass = Rule {
            break_glass: texts(&["oncall"]),
            hours: texts(&["Tue 08:00-18:00 UTC"]),
            reason_pattern: "CHG".to_owned(),
            ..rule()
        };
        let pending = asked(vec![glass.clone()]);
        let oncall = ("olaf", "oncall");
        let breaks = |record: &Record, reason| yes(record, oncall, true, reason, MONDAY);
        assert_eq!(yes(&pending, oncall, false, "x", MONDAY), Err(VoteError::OnlyGlass));
        assert_eq!(yes(&pending, ("ann", "ops"), true, "x", MONDAY), Err(VoteError::NoGlass));
        assert_eq!(breaks(&pending, " "), Err(VoteError::ReasonMissing));
        let owner = yes(&pending, ("owner", "oncall"), true, "x", MONDAY);
        assert_eq!(owner, Err(VoteError::Requester));
        let granted = breaks(&pending, "fire").unwrap();
        assert_eq!((granted.phase, granted.uses_left()), (Phase::Approved, 1));
        assert_eq!(granted.grant_until, MONDAY + 4 * HOUR, "no hours in an emergency");
        assert!(granted.unreviewed() && !pending.unreviewed());
        // The same again changes nothing.
        assert_eq!(breaks(&granted, "fire").unwrap(), granted);

        // A scope without a glass keeps its people, its hours and its reasons.
        let firm = Rule { scope: "firm".to_owned(), quorum: 1, ..rule() };
        let half = breaks(&asked(vec![glass.clone(), firm.clone()]), "fire").unwrap();
        assert_eq!(half.phase, Phase::Pending);
        assert_eq!(yes(&half, ("ann", "ops"), false, "", MONDAY).unwrap().phase, Phase::Approved);
        let closed = Rule { hours: texts(&["Tue 08:00-18:00 UTC"]), ..firm };
        let closed = breaks(&asked(vec![glass, closed]), "fire");
        assert!(matches!(closed, Err(VoteError::Hours { .. })));
    }

    #[test]
    fn a_vote_can_become_a_broken_glass_but_never_the_other_way() {
        let glass = Rule { break_glass: texts(&["ops"]), ..rule() };
        let voted = yes(&asked(vec![glass]), ("ann", "ops"), false, "", MONDAY).unwrap();
        assert_eq!(voted.phase, Phase::Pending);
        let broken = yes(&voted, ("ann", "ops"), true, "fire", MONDAY + 1).unwrap();
        assert_eq!((broken.phase, broken.votes.len()), (Phase::Approved, 1));
        assert_eq!(yes(&broken, ("ann", "ops"), false, "", MONDAY + 2).unwrap(), broken);
    }

    #[test]
    fn somebody_else_looks_afterwards() {
        let glass = Rule { break_glass: texts(&["oncall"]), ..rule() };
        let plain = Rule { scope: "t".to_owned(), reviewers: texts(&["sec"]), ..rule() };
        let pending = asked(vec![glass, Rule { quorum: 1, ..plain }]);
        let half = yes(&pending, ("olaf", "oncall"), true, "fire", MONDAY).unwrap();
        let granted = yes(&half, ("eve", "sec"), false, "", MONDAY).unwrap();
        assert_eq!(granted.phase, Phase::Approved);
        let look = |record: &Record, name, group: &str, note| {
            record.look(Person { name, groups: &texts(&[group]) }, note, MONDAY + 5 * HOUR)
        };
        assert_eq!(look(&pending, "ann", "ops", "x"), Err(ReviewError::NotBroken));
        assert_eq!(look(&granted, "olaf", "oncall", "x"), Err(ReviewError::Involved));
        assert_eq!(look(&granted, "olaf", "ops", "x"), Err(ReviewError::Involved));
        assert_eq!(look(&granted, "owner", "ops", "x"), Err(ReviewError::Involved));
        assert_eq!(look(&granted, "eve", "sec", "x"), Err(ReviewError::NotEligible));
        assert_eq!(look(&granted, "eve", "none", "x"), Err(ReviewError::NotEligible));
        assert_eq!(look(&granted, "ann", "ops", " "), Err(ReviewError::NoteMissing));
        let looked = look(&granted, "ann", "ops", " it was right ").unwrap();
        assert_eq!(looked.review.as_ref().unwrap().note, "it was right");
        assert!(!looked.unreviewed() && looked.revision > granted.revision);
        assert_eq!(looked.phase, Phase::Expired, "what time made of it stays");
        assert_eq!(look(&looked, "bob", "ops", "x"), Err(ReviewError::Reviewed));
    }
}
