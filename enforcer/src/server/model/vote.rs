//! Votes: who may, how they count, when they decide.

use super::{Millis, NotNow, Phase, Record, Rule, Vote};
use std::collections::BTreeSet;

/// Someone who votes.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// The name; one name is one person.
    pub name: &'a str,
    /// The groups that the person is in.
    pub groups: &'a [String],
}

/// Why a vote does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
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
    /// One person, one vote; the first counts.
    #[error("you have voted on this approval already, and the first vote counts")]
    Voted,
    /// It waits for nobody.
    #[error(transparent)]
    NotNow(#[from] NotNow),
}

impl Record {
    /// The scopes that the person may decide.
    pub fn eligible(&self, person: Person<'_>) -> Vec<String> {
        let may = |rule: &&Rule| {
            rule.reviewers.is_empty() || rule.reviewers.iter().any(|g| person.groups.contains(g))
        };
        self.rules.iter().filter(may).map(|rule| rule.scope.clone()).collect()
    }

    /// Counts a vote and decides when it is enough: approved once every scope has its quorum
    /// of distinct people, denied once any scope has its threshold of them.
    ///
    /// The first vote of a person counts and cannot be changed; the same vote again is
    /// answered with the record as it is, until what it helped to decide is over.
    ///
    /// # Errors
    /// When the vote does not count; then nothing changed.
    pub fn vote(
        &self,
        person: Person<'_>,
        approve: bool,
        reason: &str,
        digest: &str,
        now: Millis,
    ) -> Result<Self, VoteError> {
        let scopes = self.eligible(person);
        if scopes.is_empty() {
            return Err(VoteError::NotEligible);
        }
        if self.excluded.iter().any(|name| name == person.name) {
            return Err(VoteError::Requester);
        }
        if digest != self.digest {
            return Err(VoteError::Mismatch);
        }
        let mut next = self.at(now);
        let mine = next.votes.iter().find(|vote| vote.person == person.name);
        let mine = mine.map(|vote| vote.approve);
        // A vote that is sent again because its answer was lost.
        let made = if approve { Phase::Approved } else { Phase::Denied };
        let stands = next.phase == Phase::Pending || next.phase == made;
        match mine {
            Some(counted) if counted == approve && stands => return Ok(next),
            Some(counted) if counted != approve && next.phase.live() => {
                return Err(VoteError::Voted);
            }
            _ if next.phase != Phase::Pending => return Err(NotNow(next.phase).into()),
            _ => {}
        }
        if reason.trim().is_empty() && self.rules.iter().any(|rule| rule.reason_required) {
            return Err(VoteError::ReasonMissing);
        }
        next.votes.push(Vote {
            person: person.name.to_owned(),
            approve,
            reason: reason.trim().to_owned(),
            at: now,
            scopes,
        });
        next.revision += 1;
        next.decide(now);
        Ok(next)
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
        let approved = |rule: &Rule| self.people(&rule.scope, true) >= rule.quorum.max(1);
        if self.rules.iter().any(denied) {
            self.phase = Phase::Denied;
            self.decided = now;
            self.ended = now;
        } else if !self.rules.is_empty() && self.rules.iter().all(approved) {
            let ttl = self.rules.iter().map(|rule| rule.grant_ttl).min().unwrap_or(0);
            self.phase = Phase::Approved;
            self.decided = now;
            self.grant_until = now.saturating_add(ttl);
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
