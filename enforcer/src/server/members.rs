//! Who has joined, and taking a member's right away.
//!
//! A member's record is the right: every call looks at it, and so does the store when it
//! changes something for a member. Removing marks the record first; what the member had
//! begun is settled after that, and again at each start, should the server have died between.

use super::audit::{Code, Entry};
use super::core::Core;
use super::model::{Millis, Record};
use crate::approval::identity::{Role, Subject};
use enforcer_proto::v1;
use std::collections::BTreeSet;
use tonic::Status;

/// Bytes of a reason.
const REASON: usize = 4096;

/// Everybody that has joined and was not removed.
///
/// # Errors
/// When the store fails.
pub async fn list(core: &Core) -> Result<v1::ListMembersResponse, Status> {
    let members = core.store.members().await?;
    let members = members.into_iter().filter(|member| !member.removed).map(|member| v1::Member {
        role: member.role.wire().into(),
        name: member.name,
        groups: member.groups,
        joined_unix_ms: member.joined,
    });
    Ok(v1::ListMembersResponse { members: members.collect() })
}

/// Takes a member's right away.
///
/// # Errors
/// When there is no such member, or the store fails.
pub async fn remove(
    core: &Core,
    actor: &str,
    request: v1::RemoveMemberRequest,
) -> Result<v1::RemoveMemberResponse, Status> {
    let bad = Status::invalid_argument;
    let role = Role::from_wire(request.role).ok_or_else(|| bad("a role is needed"))?;
    let subject = Subject::new(role, &request.name).ok_or_else(|| bad("that is no name"))?;
    if request.reason.len() > REASON {
        return Err(bad("the reason is too long"));
    }
    let entry = Entry::new(Code::MemberRemoved, actor, &subject, request.reason.trim());
    let tokens = core.store.remove(&subject, entry, core.clock.now()).await?;
    if tokens.is_some() {
        core.metrics.event(Code::MemberRemoved);
    }
    // Also of one that is gone already: what it had begun may not have been settled then.
    // Before its streams end: a host hears on its own what is taken from it, and cuts it.
    let settled = settle(core, actor).await;
    core.hub.member(&subject);
    let settled = settled?;
    if tokens.is_none() && settled == Settled::default() {
        return Err(Status::not_found(format!("{subject} has not joined, and has no token")));
    }
    let tokens = tokens.unwrap_or(0);
    let Settled { cancelled, revoked, withdrawn } = settled;
    Ok(v1::RemoveMemberResponse { cancelled, revoked, withdrawn, tokens })
}

/// What was settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Requests of hosts that are gone.
    pub cancelled: u32,
    /// Grants of hosts that are gone.
    pub revoked: u32,
    /// Votes of people who are gone, for what still waits.
    pub withdrawn: u32,
}

/// Ends what members that were removed had begun.
///
/// # Errors
/// When the store fails.
pub async fn settle(core: &Core, actor: &str) -> Result<Settled, Status> {
    let mut hosts = BTreeSet::new();
    let mut people = BTreeSet::new();
    for member in core.store.members().await?.into_iter().filter(|member| member.removed) {
        match member.role {
            Role::Daemon => drop(hosts.insert(member.name)),
            Role::Reviewer => drop(people.insert(member.name)),
            Role::Admin | Role::Viewer | Role::PolicyAdmin => {}
        }
    }
    let mut settled = Settled::default();
    for record in core.store.live(None).await? {
        let step = |record: &Record, now: Millis| {
            let entry = |code, detail: String| Entry::new(code, actor, record.id, detail);
            if hosts.contains(&record.host) {
                let why = "its host was removed";
                if let Ok(next) = record.cancel(now) {
                    let audit = vec![entry(Code::ApprovalCancelled, why.to_owned())];
                    return Ok((
                        Some((next, audit)),
                        Settled { cancelled: 1, ..Settled::default() },
                    ));
                }
                if let Ok(next) = record.revoke(actor, why, now) {
                    let audit = vec![entry(Code::GrantRevoked, why.to_owned())];
                    return Ok((Some((next, audit)), Settled { revoked: 1, ..Settled::default() }));
                }
            }
            let Some((next, gone)) = record.without_votes(&people, now) else {
                return Ok((None, Settled::default()));
            };
            let audit = gone
                .iter()
                .map(|person| entry(Code::VoteWithdrawn, format!("by={person}, who was removed")))
                .collect();
            let withdrawn = u32::try_from(gone.len()).unwrap_or(u32::MAX);
            Ok((Some((next, audit)), Settled { withdrawn, ..Settled::default() }))
        };
        let (_, done) = core.transition(record.id, None, step).await?;
        settled.cancelled += done.cancelled;
        settled.revoked += done.revoked;
        settled.withdrawn += done.withdrawn;
    }
    Ok(settled)
}
