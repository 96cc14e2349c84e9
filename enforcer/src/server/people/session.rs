//! Sessions: made at sign-in, looked at with each request, ended by time, by their person, by an
//! admin, or with the person's right.
//!
//! The browser has 256 random bits in a cookie; the store has their hash.

use super::Proven;
use crate::approval::identity::{Role, Subject};
use crate::server::audit::{Code, Entry};
use crate::server::core::{Caller, Core};
use crate::server::model::Millis;
use crate::server::store::{Keep, Kind, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// That a session was used is written down this often at most, and so idle time is this exact.
const SEEN: Millis = 60_000;

/// Sessions of one person; the oldest end.
const OF_ONE: usize = 16;

/// How long something that counts once is remembered after its use.
const USED: Millis = 86_400_000;

/// A session as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    role: Role,
    name: String,
    /// What is shown beside the name.
    pub shown: String,
    /// When it began.
    pub created: Millis,
    /// When it was used last, as far as that was written down.
    pub seen: Millis,
}

impl Session {
    /// Whose it is.
    pub fn subject(&self) -> Option<Subject> {
        Subject::new(self.role, &self.name)
    }

    fn over(&self, (longest, idle): (Millis, Millis), now: Millis) -> bool {
        // A time before its begin is none that it was made for.
        now < self.created || now - self.created >= longest || now - self.seen >= idle + SEEN
    }
}

/// A session that is good now, and whose it is.
#[derive(Clone, Debug)]
pub struct Signed {
    /// Who, as the services know callers.
    pub caller: Caller,
    /// The session's key in the store.
    pub key: String,
    /// The session.
    pub session: Session,
    /// What each form of this session carries.
    pub csrf: String,
}

/// Something that only the session's own pages know.
pub fn derived(secret: &str, what: &str) -> String {
    let mut hash = Sha256::new_with_prefix(b"enforcer session derived v1\0");
    for part in [secret, what] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hex::encode(hash.finalize())
}

fn key(secret: &str) -> String {
    hex::encode(Sha256::new_with_prefix(b"enforcer session v1\0").chain_update(secret).finalize())
}

/// Begins a session for somebody who was let in; the answer is the cookie's value.
///
/// # Errors
/// When the store fails, or the system has no random bytes.
pub async fn begin(core: &Core, proven: &Proven) -> Result<String, StoreError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| StoreError::Failed(error.to_string()))?;
    let secret = hex::encode(secret);
    let now = core.clock.now();
    sweep(core, &proven.subject).await?;
    let session = Session {
        role: proven.subject.role(),
        name: proven.subject.name().to_owned(),
        shown: proven.shown.clone(),
        created: now,
        seen: now,
    };
    let next = serde_json::to_vec(&session).ok();
    let change = Keep { kind: Kind::Session, key: key(&secret), was: None, next };
    if !core.store.keep(change, None, now).await? {
        return Err(StoreError::Failed("random bytes came twice".to_owned()));
    }
    Ok(secret)
}

/// The session of a cookie, when it is good now.
///
/// # Errors
/// When the store fails.
pub async fn find(core: &Core, secret: &str) -> Result<Option<Signed>, StoreError> {
    let key = key(secret);
    let Some((stored, session)) = load(core, &key).await? else { return Ok(None) };
    let now = core.clock.now();
    let limits = core.config.console.limits();
    let Some(caller) = caller(core, &session, limits, now).await? else { return Ok(None) };
    if now - session.seen >= SEEN {
        let next = serde_json::to_vec(&Session { seen: now, ..session.clone() }).ok();
        let change = Keep { kind: Kind::Session, key: key.clone(), was: Some(stored), next };
        // Another request may have written it down, or have ended the session.
        if !core.store.keep(change, None, now).await? && load(core, &key).await?.is_none() {
            return Ok(None);
        }
    }
    let csrf = derived(secret, "csrf");
    Ok(Some(Signed { caller, key, session, csrf }))
}

/// Whether a session that was good a while ago still is.
///
/// # Errors
/// When the store fails.
pub async fn still(core: &Core, signed: &Signed) -> Result<bool, StoreError> {
    let Some((_, session)) = load(core, &signed.key).await? else { return Ok(false) };
    let limits = core.config.console.limits();
    let caller = caller(core, &session, limits, core.clock.now()).await?;
    Ok(caller.is_some_and(|now| now.groups == signed.caller.groups))
}

async fn load(core: &Core, key: &str) -> Result<Option<(Vec<u8>, Session)>, StoreError> {
    let Some(stored) = core.store.kept(Kind::Session, key).await? else { return Ok(None) };
    let session = serde_json::from_slice(&stored)
        .map_err(|_| StoreError::Corrupt(format!("session {key}")))?;
    Ok(Some((stored, session)))
}

/// Who a session is, by the member's record as it is now; `None` when it is nobody any more.
async fn caller(
    core: &Core,
    session: &Session,
    limits: (Millis, Millis),
    now: Millis,
) -> Result<Option<Caller>, StoreError> {
    let Some(subject) = session.subject() else { return Ok(None) };
    if session.over(limits, now) {
        return Ok(None);
    }
    let member = core.store.member(&subject).await?;
    let member = member.filter(|member| member.takes(session.created));
    Ok(member.map(|member| Caller {
        subject,
        groups: member.groups,
        until: session.created.saturating_add(limits.0),
        issued: session.created,
    }))
}

/// Every session that is good now, oldest first, with its key.
///
/// # Errors
/// When the store fails.
pub async fn list(core: &Core) -> Result<Vec<(String, Session)>, StoreError> {
    let mut good = Vec::new();
    let limits = core.config.console.limits();
    let now = core.clock.now();
    for (key, stored) in core.store.all_kept(Kind::Session).await? {
        let session: Session = serde_json::from_slice(&stored)
            .map_err(|_| StoreError::Corrupt(format!("session {key}")))?;
        if caller(core, &session, limits, now).await?.is_some() {
            good.push((key, session));
        }
    }
    good.sort_by_key(|(_, session)| session.created);
    Ok(good)
}

/// Ends a session; `false` when there is none.
///
/// # Errors
/// When the store fails.
pub async fn end(core: &Core, actor: &str, key: &str, why: &str) -> Result<bool, StoreError> {
    while let Some((stored, session)) = load(core, key).await? {
        let subject = session.subject().map(|subject| subject.to_string()).unwrap_or_default();
        let entry = Entry::new(Code::SessionEnded, actor, subject, why);
        let key = key.to_owned();
        let change = Keep { kind: Kind::Session, key, was: Some(stored), next: None };
        if core.store.keep(change, Some(entry), core.clock.now()).await? {
            core.metrics.event(Code::SessionEnded);
            if let Some(subject) = session.subject() {
                core.hub.member(&subject);
            }
            return Ok(true);
        }
    }
    Ok(false)
}

/// Forgets what is over, and makes room for one more session of that person. Another role of the
/// same name is what the person was before.
async fn sweep(core: &Core, subject: &Subject) -> Result<(), StoreError> {
    let now = core.clock.now();
    let limits = core.config.console.limits();
    let mut mine = Vec::new();
    for (key, stored) in core.store.all_kept(Kind::Session).await? {
        let session = serde_json::from_slice::<Session>(&stored).ok();
        match session.filter(|session| !session.over(limits, now)) {
            Some(session) if session.name == subject.name() => {
                if session.role == subject.role() {
                    mine.push((session.created, key));
                } else {
                    end(core, "server", &key, "signed in with another role").await?;
                }
            }
            Some(_) => {}
            None => forget(core, Kind::Session, key, stored).await?,
        }
    }
    mine.sort();
    let many = (mine.len() + 1).saturating_sub(OF_ONE);
    for (_, key) in mine.into_iter().take(many) {
        end(core, "server", &key, "too many sessions of one person").await?;
    }
    for (key, stored) in core.store.all_kept(Kind::Used).await? {
        let at = std::str::from_utf8(&stored).ok().and_then(|at| at.parse::<Millis>().ok());
        if at.is_none_or(|at| now - at >= USED) {
            forget(core, Kind::Used, key, stored).await?;
        }
    }
    Ok(())
}

async fn forget(core: &Core, kind: Kind, key: String, was: Vec<u8>) -> Result<(), StoreError> {
    let change = Keep { kind, key, was: Some(was), next: None };
    core.store.keep(change, None, core.clock.now()).await.map(drop)
}

/// Uses something that counts once; `false` when it was used before. `until` is how long it
/// could be tried again.
///
/// # Errors
/// When the store fails.
pub async fn once(core: &Core, what: &str, until: Millis) -> Result<bool, StoreError> {
    let key =
        hex::encode(Sha256::new_with_prefix(b"enforcer once v1\0").chain_update(what).finalize());
    let next = Some(until.to_string().into_bytes());
    core.store.keep(Keep { kind: Kind::Used, key, was: None, next }, None, core.clock.now()).await
}
