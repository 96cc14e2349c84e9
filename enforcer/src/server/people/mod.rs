//! People at the console: who they are, what they may do, and for how long.
//!
//! A person is a member like the holder of a certificate, by role and name: one name is one
//! person, whichever way it comes in. A session is worth what its member's record is worth at
//! each call.

pub mod config;
pub mod oidc;
pub mod session;
pub mod setup;

use super::audit::{Code, Entry};
use super::core::Core;
use super::store::{Keep, Kind, Member, StoreError};
use crate::approval::identity::Subject;
use serde::{Deserialize, Serialize};

/// The name of who signs in with the setup secret.
pub const LOCAL: &str = "local-admin";

/// Somebody who proved to be someone.
#[derive(Clone, Debug)]
pub struct Proven {
    /// Role and name.
    pub subject: Subject,
    /// The groups that the person is in; for reviewers.
    pub groups: Vec<String>,
    /// Where the proof is from; `None` for the setup secret.
    pub account: Option<Account>,
    /// What is shown beside the name.
    pub shown: String,
}

/// An account at an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Who vouches for it.
    pub issuer: String,
    /// The provider's own, lasting id of the person.
    pub sub: String,
}

/// Why somebody who proved to be someone is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotIn {
    /// Its right was taken away.
    #[error("the right of this person was taken away")]
    Removed,
    /// The name is another account's.
    #[error("this name belongs to another account")]
    OtherAccount,
}

/// Lets somebody in as a member, with what is said about the proof on record.
///
/// # Errors
/// The inner one when the person may not come in, the outer one when the store fails.
pub async fn admit(core: &Core, proven: &Proven) -> Result<Result<(), NotIn>, StoreError> {
    let name = proven.subject.name();
    if let Some(account) = &proven.account {
        let wanted = serde_json::to_vec(account).unwrap_or_default();
        let kept = core.store.kept(Kind::Account, name).await?;
        match kept {
            Some(kept) if kept == wanted => {}
            Some(_) => return Ok(Err(NotIn::OtherAccount)),
            None => {
                // The account that comes first has the name; of two at once one is first.
                let next = Some(wanted.clone());
                let key = name.to_owned();
                let change = Keep { kind: Kind::Account, key, was: None, next };
                let first = core.store.keep(change, None, core.clock.now()).await?;
                if !first && core.store.kept(Kind::Account, name).await? != Some(wanted) {
                    return Ok(Err(NotIn::OtherAccount));
                }
            }
        }
    }
    let member = Member {
        role: proven.subject.role(),
        name: name.to_owned(),
        groups: proven.groups.clone(),
        joined: core.clock.now(),
        removed: false,
        barred_until: 0,
    };
    let detail = match &proven.account {
        Some(Account { issuer, sub }) => {
            format!("issuer={issuer} sub={sub} groups={}", proven.groups.join(","))
        }
        None => "by the setup secret".to_owned(),
    };
    let actor = proven.subject.to_string();
    let entry = Entry::new(Code::SignedIn, actor.clone(), actor, detail);
    // The setup secret is made by root on the server's machine, as a new token is.
    let restores = proven.account.is_none();
    if !core.store.admit(member, restores, entry, core.clock.now()).await? {
        return Ok(Err(NotIn::Removed));
    }
    core.metrics.event(Code::SignedIn);
    // Streams of the same person look at their right again: the groups may be others now.
    core.hub.member(&proven.subject);
    Ok(Ok(()))
}

/// Gives a member's right back, and its name to the account that comes next.
///
/// # Errors
/// When there is no member whose right was taken away, or the store fails.
pub async fn restore(core: &Core, actor: &str, subject: &Subject) -> Result<(), tonic::Status> {
    let member = core.store.member(subject).await?.filter(|member| member.removed);
    let member = member.ok_or_else(|| {
        tonic::Status::not_found(format!("{subject} is no member whose right was taken away"))
    })?;
    let now = core.clock.now();
    if let Some(was) = core.store.kept(Kind::Account, subject.name()).await? {
        let key = subject.name().to_owned();
        let change = Keep { kind: Kind::Account, key, was: Some(was), next: None };
        core.store.keep(change, None, now).await?;
    }
    let entry = Entry::new(Code::MemberRestored, actor, subject, "");
    core.store.admit(Member { removed: false, ..member }, true, entry, now).await?;
    core.metrics.event(Code::MemberRestored);
    Ok(())
}
