//! The audit: append-only records with stable codes, chained by hash.
//!
//! Written in the same store transaction as the change that they are about.

use super::model::Millis;
use enforcer_proto::v1;
use prost::Message as _;
use sha2::{Digest as _, Sha256};

/// What happened. The words are an interface: they never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A join token was made.
    TokenCreated,
    /// A token was traded for a certificate.
    JoinAccepted,
    /// A token was not taken.
    JoinRefused,
    /// A certificate was renewed.
    CertificateRenewed,
    /// An operation was put before people.
    ApprovalRequested,
    /// A vote counted.
    ApprovalVoted,
    /// A vote did not count.
    VoteRefused,
    /// Enough people said yes.
    ApprovalApproved,
    /// Enough people said no.
    ApprovalDenied,
    /// Nobody decided in time.
    ApprovalExpired,
    /// Nobody decided for so long that more people may.
    ApprovalEscalated,
    /// One person approved alone, in an emergency.
    GlassBroken,
    /// Somebody else looked at that afterwards.
    GlassReviewed,
    /// The daemon withdrew it.
    ApprovalCancelled,
    /// A use was spent.
    GrantClaimed,
    /// A claim was refused.
    ClaimRefused,
    /// A grant was taken back.
    GrantRevoked,
    /// A grant ran out.
    GrantExpired,
    /// A grant ended because a new policy version does not bear it.
    GrantVoided,
    /// A policy version was put in force.
    PolicyPushed,
    /// The files of an earlier policy version were put in force again.
    PolicyRolledBack,
    /// A bundle was not taken: it has errors, or its tests fail.
    PolicyRefused,
    /// A caller asked for something that it may not.
    AccessRefused,
    /// A member's right was taken away.
    MemberRemoved,
    /// A member's right was given back.
    MemberRestored,
    /// A vote on what still waits was withdrawn with its person's right.
    VoteWithdrawn,
    /// An agent declared a task, and its steps were put before people.
    TaskDeclared,
    /// A declared task was not taken.
    TaskRefused,
    /// Somebody signed in at the console.
    SignedIn,
    /// Somebody was not let in at the console.
    SignInRefused,
    /// Somebody signed out, or somebody's session was ended.
    SessionEnded,
    /// The wall clock was stepped: nothing is granted until it is known which time is right.
    ClockDoubted,
    /// The wall clock came back to the time that goes on.
    ClockRestored,
    /// The wall clock kept its new time for long enough: it is the time from now on.
    ClockBelieved,
}

impl Code {
    /// Every code.
    #[cfg(test)]
    pub const ALL: &[Self] = &[
        Self::TokenCreated,
        Self::JoinAccepted,
        Self::JoinRefused,
        Self::CertificateRenewed,
        Self::ApprovalRequested,
        Self::ApprovalVoted,
        Self::VoteRefused,
        Self::ApprovalApproved,
        Self::ApprovalDenied,
        Self::ApprovalExpired,
        Self::ApprovalEscalated,
        Self::GlassBroken,
        Self::GlassReviewed,
        Self::ApprovalCancelled,
        Self::GrantClaimed,
        Self::ClaimRefused,
        Self::GrantRevoked,
        Self::GrantExpired,
        Self::AccessRefused,
        Self::MemberRemoved,
        Self::MemberRestored,
        Self::VoteWithdrawn,
        Self::TaskDeclared,
        Self::TaskRefused,
        Self::SignedIn,
        Self::SignInRefused,
        Self::SessionEnded,
        Self::ClockDoubted,
        Self::ClockRestored,
        Self::ClockBelieved,
    ];

    /// The word on record.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenCreated => "token.created",
            Self::JoinAccepted => "join.accepted",
            Self::JoinRefused => "join.refused",
            Self::CertificateRenewed => "certificate.renewed",
            Self::ApprovalRequested => "approval.requested",
            Self::ApprovalVoted => "approval.voted",
            Self::VoteRefused => "vote.refused",
            Self::ApprovalApproved => "approval.approved",
            Self::ApprovalDenied => "approval.denied",
            Self::ApprovalExpired => "approval.expired",
            Self::ApprovalEscalated => "approval.escalated",
            Self::GlassBroken => "glass.broken",
            Self::GlassReviewed => "glass.reviewed",
            Self::ApprovalCancelled => "approval.cancelled",
            Self::GrantClaimed => "grant.claimed",
            Self::ClaimRefused => "claim.refused",
            Self::GrantRevoked => "grant.revoked",
            Self::GrantExpired => "grant.expired",
            Self::GrantVoided => "grant.voided",
            Self::PolicyPushed => "policy.pushed",
            Self::PolicyRolledBack => "policy.rolled-back",
            Self::PolicyRefused => "policy.refused",
            Self::AccessRefused => "access.refused",
            Self::MemberRemoved => "member.removed",
            Self::MemberRestored => "member.restored",
            Self::VoteWithdrawn => "vote.withdrawn",
            Self::TaskDeclared => "task.declared",
            Self::TaskRefused => "task.refused",
            Self::SignedIn => "signin.accepted",
            Self::SignInRefused => "signin.refused",
            Self::SessionEnded => "session.ended",
            Self::ClockDoubted => "clock.doubted",
            Self::ClockRestored => "clock.restored",
            Self::ClockBelieved => "clock.believed",
        }
    }
}

/// One thing to put on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub code: Code,
    /// Who did it: `role/name`, or `server`.
    pub actor: String,
    /// What it was done to: an approval's id, a token's id, a name.
    pub subject: String,
    /// The rest, for people.
    pub detail: String,
}

impl Entry {
    /// An entry.
    pub fn new(
        code: Code,
        actor: impl Into<String>,
        subject: impl ToString,
        detail: impl Into<String>,
    ) -> Self {
        Self { code, actor: actor.into(), subject: subject.to_string(), detail: detail.into() }
    }
}

/// The end of the chain: where the next record goes and what it must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the next record, from 1.
    pub next: u64,
    /// SHA-256 of the last record as stored.
    pub hash: [u8; 32],
    /// The last record's time.
    pub time: Millis,
}

impl Head {
    /// The head of an empty chain.
    pub fn start() -> Self {
        Self { next: 1, hash: Sha256::digest(b"enforcer audit v1\0").into(), time: 0 }
    }

    /// The head after a record that was stored.
    pub fn after(stored: &[u8]) -> Result<Self, prost::DecodeError> {
        let record = v1::AuditRecord::decode(stored)?;
        Ok(Self {
            next: record.seq.saturating_add(1),
            hash: Sha256::digest(stored).into(),
            time: record.unix_ms,
        })
    }

    /// Appends: the sequence number and the bytes to store.
    pub fn append(&mut self, entry: Entry, now: Millis) -> (u64, Vec<u8>) {
        let seq = self.next;
        let stored = v1::AuditRecord {
            seq,
            unix_ms: now,
            code: entry.code.as_str().to_owned(),
            actor: entry.actor,
            subject: entry.subject,
            detail: entry.detail,
            prev: self.hash.to_vec(),
        }
        .encode_to_vec();
        self.next = seq.saturating_add(1);
        self.hash = Sha256::digest(&stored).into();
        self.time = now;
        (seq, stored)
    }
}

/// The first record that does not follow from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit chain is broken at record {0}")]
pub struct Broken(pub u64);

/// Follows a chain from its start, record by record.
#[derive(Clone, Debug)]
pub struct Verifier(Head);

impl Default for Verifier {
    fn default() -> Self {
        Self(Head::start())
    }
}

impl Verifier {
    /// The number of the last record taken, 0 before the first, and the chain's hash there.
    pub fn head(&self) -> (u64, [u8; 32]) {
        (self.0.next - 1, self.0.hash)
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// When it is not the one that follows.
    pub fn next(&mut self, record: &v1::AuditRecord) -> Result<(), Broken> {
        let at = self.0.next;
        if record.seq != at || record.prev != self.0.hash {
            return Err(Broken(at));
        }
        self.0 = Head::after(&record.encode_to_vec()).map_err(|_| Broken(at))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<v1::AuditRecord> {
        let mut head = Head::start();
        (0..4)
            .map(|n| {
                let entry = Entry::new(Code::ApprovalVoted, "reviewer/a", n, "yes");
                let (_, stored) = head.append(entry, 10 + n);
                assert_eq!(Head::after(&stored).unwrap(), head);
                v1::AuditRecord::decode(&stored[..]).unwrap()
            })
            .collect()
    }

    fn verify(chain: &[v1::AuditRecord]) -> Result<(), Broken> {
        let mut verifier = Verifier::default();
        chain.iter().try_for_each(|record| verifier.next(record))
    }

    #[test]
    fn names_the_first_bad_place() {
        assert_eq!(verify(&chain()), Ok(()));
        let mut changed = chain();
        changed[1].detail = "no".to_owned();
        assert_eq!(verify(&changed), Err(Broken(3)));
        let mut dropped = chain();
        dropped.remove(1);
        assert_eq!(verify(&dropped), Err(Broken(2)));
        let mut swapped = chain();
        swapped.swap(1, 2);
        assert_eq!(verify(&swapped), Err(Broken(2)));
        assert_eq!(verify(&chain()[1..]), Err(Broken(1)));
    }
}
