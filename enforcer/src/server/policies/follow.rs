//! What the store has, and what of it is in force here.
//!
//! Only the highest version counts. While it cannot be verified or used, nothing below it is the
//! newest any more: hosts get no confirmation, and what was asked under a version from here is
//! refused.

use super::{Core, Current, SOON, files_of, key_of, void};
use crate::policy::signed::{PublicKey, statement_hash};
use crate::server::store::Kind;
use enforcer_proto::v1;
use prost::Message as _;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;

/// How often it is looked whether another server on the same store made a version.
const LOOK: Duration = Duration::from_secs(5);

/// A version as the store has it, when the key signed it under that very number.
pub(super) fn read(
    public: PublicKey,
    key: &str,
    stored: &[u8],
) -> Option<(v1::SignedPolicy, v1::PolicyStatement)> {
    let signed = v1::SignedPolicy::decode(stored).ok()?;
    let statement = public.statement(&signed).ok()?;
    // One that was copied to a higher number would be a rollback that nobody signed.
    (key_of(statement.number) == key).then_some((signed, statement))
}

/// Puts the newest version of the store in force here, or nothing when it cannot be.
///
/// # Errors
/// When the store fails, or its newest version cannot be used.
pub async fn load(core: &Core) -> Result<(), Status> {
    refresh(core).await?;
    core.policies.stuck().map_or(Ok(()), |why| Err(Status::failed_precondition(why)))
}

/// Looks now and then, and when told to, for versions that another server on the same store made.
pub async fn follow(core: Arc<Core>) {
    loop {
        let pause = if core.policies.unsettled() { SOON } else { LOOK };
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = core.policies.look.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
        catch_up(&core).await;
    }
}

/// Puts what another server on the same store made in force here. What was asked here in the
/// meantime, under a version that is not in force any more, is looked at again; so is what could
/// not be before.
pub async fn catch_up(core: &Core) {
    let done = async {
        refresh(core).await?;
        if core.policies.due() && core.policies.stuck().is_none() {
            void::settle(core, "server").await?;
        }
        Ok::<_, Status>(())
    };
    if let Err(status) = done.await {
        tracing::error!(error = status.message(), "policy versions could not be looked for");
    }
}

/// Learns what versions there are, and puts the highest in force when it is not.
pub(super) async fn refresh(core: &Core) -> Result<(), Status> {
    let policies = &core.policies;
    match policies.highest() {
        None => scan(core).await?,
        Some(mut last) => {
            while let Some(next) = last.checked_add(1)
                && let Some(stored) = core.store.kept(Kind::Policy, &key_of(next)).await?
            {
                if let Some((_, statement)) = read(policies.key.public(), &key_of(next), &stored) {
                    policies.know(&statement.version);
                }
                policies.saw(next);
                last = next;
            }
        }
    }
    bring(core).await;
    Ok(())
}

/// The first look: numbers need not be without gaps, nor all by this key.
async fn scan(core: &Core) -> Result<(), Status> {
    let (mut last, mut others) = (0, 0_usize);
    for (key, stored) in core.store.all_kept(Kind::Policy).await? {
        let ours = read(core.policies.key.public(), &key, &stored);
        match &ours {
            Some((_, statement)) => core.policies.know(&statement.version),
            None => others += 1,
        }
        let number = ours.map(|(_, statement)| statement.number).or_else(|| key.parse().ok());
        last = last.max(number.unwrap_or(0));
    }
    if others > 0 {
        tracing::error!(
            versions = others,
            "policy versions in the store are not signed by the policy key, and are left out"
        );
    }
    core.policies.saw(last);
    Ok(())
}

/// Puts the highest version in force, or says why it is not.
pub(super) async fn bring(core: &Core) {
    let policies = &core.policies;
    let last = policies.highest().unwrap_or(0);
    if last <= policies.number() {
        return;
    }
    if let Err(status) = take(core, last).await {
        policies.stick(last, status.message());
    }
}

async fn take(core: &Core, number: u64) -> Result<(), Status> {
    let public = core.policies.key.public();
    let key = key_of(number);
    let stored = core.store.kept(Kind::Policy, &key).await?;
    let Some((signed, statement)) = stored.and_then(|stored| read(public, &key, &stored)) else {
        // Of a key that was made anew nothing is there yet, and nothing is in force.
        return match core.policies.knows_any() {
            true => Err(Status::internal("it is not signed by the policy key")),
            false => Ok(()),
        };
    };
    let files = files_of(core, &statement).await?;
    let hash = statement_hash(&signed);
    let message = v1::PolicyBundle { signed: Some(signed), files };
    let built = tokio::task::spawn_blocking(move || {
        public.bundle(&message).map(|(_, bundle)| (message, bundle))
    });
    let built = built.await.map_err(|_| Status::internal("the bundle could not be loaded"))?;
    let (message, bundle) = built.map_err(|error| Status::internal(error.to_string()))?;
    core.policies.put(Current { statement, message, hash, bundle });
    Ok(())
}
