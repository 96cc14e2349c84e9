//! Votes: who may, how they count, when they decide.

use super::{Millis, NotNow, Phase, Record, Rule, Vote};
use crate::policy::reason_pattern;
use std::collections::BTreeSet;

/// Someone who votes.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// The name; one name is one person.
    pub name: &'a str,
    /// The groups that the person is in.
    pub groups: &'a [String],
}

/// What somebody votes.
#[derive(Clone, Copy, Debug)]
pub struct Ballot<'a> {
    /// Yes or no.
    pub approve: bool,
    /// Why.
    pub reason: &'a str,
    /// The digest of the operation that the person saw.
    pub digest: &'a str,
    /// Approve alone, in an emergency.
    pub break_glass: bool,
}

/// Why a vote does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VoteError {
    /// None of its scopes lets this person decide. The caller must be told the same as for an
    /// approval that does not exist.
    #[error("the person may not decide on this approval")]
    NotEligible,
    /// The person asked for it, or owns who did.
    #[error("who asks, or owns the agent that asks, has no vote")]
    Requester,
    /// Not the operation that the person saw.
    #[error("the digest is not the one of this approval: look at it again")]
    Mismatch,
    /// A scope wants to know why.
    #[error("this approval needs a reason")]
    ReasonMissing,
    /// A scope wants to know something particular.
    #[error("scope `{scope}` needs a reason that matches {pattern:?}")]
    ReasonPattern {
        /// The scope.
        scope: String,
        /// What the reason must match somewhere.
        pattern: String,
    },
    /// Not at this time.
    #[error("scope `{scope}` can be approved only {hours}")]
    Hours {
        /// The scope.
        scope: String,
        /// When it can be.
        hours: String,
    },
    /// The person may vote, but not alone.
    #[error("you are in no break-glass group of this approval's scopes")]
    NoGlass,
    /// The person may only break the glass.
    #[error("you may approve this only by breaking the glass (`--break-glass`)")]
    OnlyGlass,
    /// One person, one vote; the first counts.
    #[error("you have voted on this approval already, and the first vote counts")]
    Voted,
    /// It waits for nobody.
    #[error(transparent)]
    NotNow(#[from] NotNow),
}

impl Person<'_> {
    fn in_one_of(&self, groups: &[String]) -> bool {
        groups.iter().any(|group| self.groups.contains(group))
    }

    /// Whether the person is one of the scope's reviewers at that time.
    fn regular(&self, record: &Record, rule: &Rule, now: Millis) -> bool {
        rule.reviewers.is_empty()
            || self.in_one_of(&rule.reviewers)
            || (record.escalated_in(rule, now) && self.in_one_of(&rule.escalate_to))
    }
}

impl Record {
    /// The scopes that the person may decide at that time: as one of its reviewers, of those it
    /// was escalated to, or of those who may break the glass.
    pub fn eligible(&self, person: Person<'_>, now: Millis) -> Vec<String> {
        let may =
            |rule: &&Rule| person.regular(self, rule, now) || person.in_one_of(&rule.break_glass);
        self.rules.iter().filter(may).map(|rule| rule.scope.clone()).collect()
    }

    /// Counts a vote and decides when it is enough: approved once every scope has its quorum
    /// of distinct people or a broken glass, denied once any scope has its threshold of them.
    ///
    /// The first vote of a person counts and cannot be changed, but for a vote for it that
    /// breaks the glass later; the same vote again is answered with the record as it is (its
    /// revision too), until what it helped to decide is over.
    ///
    /// # Errors
    /// When the vote does not count; then nothing changed.
    pub fn vote(
        &self,
        person: Person<'_>,
        ballot: Ballot<'_>,
        now: Millis,
    ) -> Result<Self, VoteError> {
        if self.eligible(person, now).is_empty() {
            return Err(VoteError::NotEligible);
        }
        if self.excluded.iter().any(|name| name == person.name) {
            return Err(VoteError::Requester);
        }
        if ballot.digest != self.digest {
            return Err(VoteError::Mismatch);
        }
        let vote = self.counted(person, ballot, now)?;
        let mut next = self.at(now);
        let mine = next.votes.iter().position(|vote| vote.person == person.name);
        let old = mine.and_then(|at| next.votes.get(at));
        // A vote that is sent again because its answer was lost.
        let made = if ballot.approve { Phase::Approved } else { Phase::Denied };
        let stands = next.phase == Phase::Pending || next.phase == made;
        let same = old.is_some_and(|old| old.approve == vote.approve);
        let upgrade = same && old.is_some_and(|old| old.broke.is_empty()) && !vote.broke.is_empty();
        match old {
            Some(_) if same && stands && !(upgrade && next.phase == Phase::Pending) => {
                return Ok(next);
            }
            Some(_) if !same && next.phase.live() => return Err(VoteError::Voted),
            _ if next.phase != Phase::Pending => return Err(NotNow(next.phase).into()),
            _ => {}
        }
        if ballot.approve {
            self.approvable(&vote, now)?;
        } else if vote.reason.is_empty() && self.rules.iter().any(|rule| rule.reason_required) {
            return Err(VoteError::ReasonMissing);
        }
        if let Some(at) = mine {
            next.votes.remove(at);
        }
        // Due, whether or not it was put on record before this vote.
        next.escalated.extend(self.escalations(now));
        next.votes.push(vote);
        next.revision += 1;
        next.decide(now);
        Ok(next)
    }

    /// The vote as it would count.
    fn counted(
        &self,
        person: Person<'_>,
        ballot: Ballot<'_>,
        now: Millis,
    ) -> Result<Vote, VoteError> {
        let scopes = |may: &dyn Fn(&Rule) -> bool| -> Vec<String> {
            let rules = self.rules.iter().filter(|rule| may(rule));
            rules.map(|rule| rule.scope.clone()).collect()
        };
        let glass = |rule: &Rule| person.in_one_of(&rule.break_glass);
        let regular = |rule: &Rule| person.regular(self, rule, now);
        let breaks = ballot.break_glass && ballot.approve;
        let broke = if breaks { scopes(&glass) } else { Vec::new() };
        if ballot.break_glass && broke.is_empty() {
            return Err(VoteError::NoGlass);
        }
        // Who may only break the glass has no usual vote for it, but may always stop it.
        let scopes = match (breaks, ballot.approve) {
            (false, true) => scopes(&regular),
            _ => scopes(&|rule| regular(rule) || glass(rule)),
        };
        if scopes.is_empty() {
            return Err(VoteError::OnlyGlass);
        }
        Ok(Vote {
            person: person.name.to_owned(),
            approve: ballot.approve,
            reason: ballot.reason.trim().to_owned(),
            at: now,
            scopes,
            broke,
        })
    }

    /// Whether a vote for it has the reason and comes at the time that every scope wants. A
    /// broken glass needs a reason, whatever it is, and at any time.
    fn approvable(&self, vote: &Vote, now: Millis) -> Result<(), VoteError> {
        let rules = || self.rules.iter().filter(|rule| !self.broken_by(vote, rule));
        let wanted = !vote.broke.is_empty() || rules().any(|rule| rule.reason_required);
        if wanted && vote.reason.is_empty() {
            return Err(VoteError::ReasonMissing);
        }
        for rule in rules() {
            let scope = || rule.scope.clone();
            // A pattern that cannot be read is matched by nothing.
            let matches = |text: &str| reason_pattern(text).is_ok_and(|p| p.is_match(&vote.reason));
            let counts = vote.scopes.contains(&rule.scope);
            if counts && !rule.reason_pattern.is_empty() && !matches(&rule.reason_pattern) {
                let pattern = rule.reason_pattern.clone();
                return Err(VoteError::ReasonPattern { scope: scope(), pattern });
            }
            if rule.open_until(now).is_none() {
                let hours = rule.hours.join(", or ");
                return Err(VoteError::Hours { scope: scope(), hours });
            }
        }
        Ok(())
    }

    /// Whether the glass of that scope is broken, by this vote or one before.
    fn broken_by(&self, vote: &Vote, rule: &Rule) -> bool {
        self.votes.iter().chain([vote]).any(|vote| vote.broke.contains(&rule.scope))
    }

    /// Without the votes for it of these people, and whose those were; `None` when it does not
    /// wait any more or has none of them. Votes against it stay.
    pub fn without_votes(
        &self,
        people: &BTreeSet<String>,
        now: Millis,
    ) -> Option<(Self, Vec<String>)> {
        let mut next = self.at(now);
        if next.phase != Phase::Pending {
            return None;
        }
        let (gone, kept): (Vec<Vote>, Vec<Vote>) =
            next.votes.into_iter().partition(|vote| vote.approve && people.contains(&vote.person));
        if gone.is_empty() {
            return None;
        }
        next.votes = kept;
        next.revision += 1;
        Some((next, gone.into_iter().map(|vote| vote.person).collect()))
    }

    fn decide(&mut self, now: Millis) {
        let denied = |rule: &Rule| self.people(&rule.scope, false) >= rule.deny_threshold.max(1);
        let broken = |rule: &Rule| self.votes.iter().any(|vote| vote.broke.contains(&rule.scope));
        let approved =
            |rule: &Rule| self.people(&rule.scope, true) >= rule.quorum.max(1) || broken(rule);
        if self.rules.iter().any(denied) {
            self.phase = Phase::Denied;
            self.decided = now;
            self.ended = now;
        } else if !self.rules.is_empty() && self.rules.iter().all(approved) {
            let ttl = self.rules.iter().map(|rule| rule.grant_ttl).min().unwrap_or(0);
            // A window that closed since is none to wait for: the vote looked at it just now.
            let closes = self.rules.iter().filter(|rule| !broken(rule));
            let closes = closes.map(|rule| rule.open_until(now).unwrap_or(now)).min();
            let until = now.saturating_add(ttl).min(closes.unwrap_or(Millis::MAX));
            self.phase = Phase::Approved;
            self.decided = now;
            self.grant_until = until;
        }
    }

    /// How many distinct people voted that way in the scope.
    fn people(&self, scope: &str, approve: bool) -> u32 {
        let people: BTreeSet<&str> = self
            .votes
            .iter()
            .filter(|vote| vote.approve == approve && vote.scopes.iter().any(|s| s == scope))
            .map(|vote| vote.person.as_str())
            .collect();
        u32::try_from(people.len()).unwrap_or(u32::MAX)
    }
}
