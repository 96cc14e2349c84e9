//! What a new version does to what was asked and granted under the ones before it.
//!
//! A grant stays only when the new version bears it: each scope that it was decided under is
//! there and asks for no more than it did, and the very operation is neither forbidden nor in need
//! of another scope. Whatever cannot be told is not borne. What a host judged under a bundle that
//! did not come from here is not this server's to judge.

use super::{Code, Core, Current, Entry, Settling};
use crate::decide::judge_anew;
use crate::operation::OperationId;
use crate::policy::{Bundle, Verdict};
use crate::principal::Principal;
use crate::record::convert;
use crate::server::model::{Record, Rule};
use enforcer_proto::v1;
use std::sync::atomic::Ordering;
use tonic::Status;
use uuid::Uuid;

/// Why the newest version does not bear what is asked for, if it does not. While that version
/// cannot be used here, nothing under one that came from here is borne.
pub fn against(core: &Core, rules: &[Rule], request: &v1::ApprovalRequest) -> Option<String> {
    match core.policies.stuck() {
        Some(why) if core.policies.distributed(&request.policy) => Some(why),
        _ => outdated(core, rules, request),
    }
}

/// Why a grant must not be used now, if something may have come between it and the newest version
/// that was not looked at yet.
///
/// # Errors
/// When the store fails.
pub async fn against_use(core: &Core, host: &str, id: Uuid) -> Result<Option<String>, Status> {
    if core.policies.stuck().is_none() && !core.policies.unsettled() {
        return Ok(None);
    }
    // Of another host's it is not even said that it is there; what has ended says so itself.
    let record = core.store.get(id).await?;
    let record = record.filter(|record| record.host == host && record.phase.live());
    let request = core.store.request(id, false).await?;
    Ok(record.zip(request).and_then(|(record, request)| against(core, &record.rules, &request)))
}

fn outdated(core: &Core, rules: &[Rule], request: &v1::ApprovalRequest) -> Option<String> {
    if !core.policies.superseded(&request.policy) {
        return None;
    }
    let current = core.policies.current()?;
    unborne(&current, rules, request)
}

fn unborne(current: &Current, rules: &[Rule], request: &v1::ApprovalRequest) -> Option<String> {
    let why = bears(&current.bundle, rules, request).err()?;
    Some(format!("policy version {}: {why}", current.statement.number))
}

/// Whether a bundle bears what these rules granted, or are asked to grant.
fn bears(bundle: &Bundle, rules: &[Rule], request: &v1::ApprovalRequest) -> Result<(), String> {
    for rule in rules {
        let name = &rule.scope;
        let now = bundle.scope(name).ok_or_else(|| format!("scope {name} is gone"))?;
        if !rule.as_scope().is_some_and(|then| then.is_as_strict_as(now)) {
            return Err(format!("scope {name} asks for more now"));
        }
    }
    // A pattern has no operation; each that uses it is judged by its host.
    let Some(asked) = &request.operation else {
        return if request.step.is_some() {
            Ok(())
        } else {
            Err("it says no operation".to_owned())
        };
    };
    let principal = request.principal.as_ref().ok_or("it says no principal")?;
    let principal = Principal::try_from(principal).map_err(|error| error.to_string())?;
    let op = convert::operation(asked, OperationId(Uuid::nil())).map_err(|e| e.to_string())?;
    let place = bundle.target_of(&op).ok_or("its target is gone")?;
    if place.name != op.target {
        return Err("it is another target now".to_owned());
    }
    let judged = judge_anew(bundle, &principal, place, op).map_err(|error| error.to_string())?;
    match judged.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny => Err("it is denied now".to_owned()),
        Verdict::NeedsApproval(scopes) => {
            let missing =
                scopes.iter().find(|scope| !rules.iter().any(|rule| rule.scope == scope.name));
            match missing {
                None => Ok(()),
                Some(scope) => Err(format!("it needs scope {} now", scope.name)),
            }
        }
    }
}

/// Voids every grant and request that the version in force does not bear; says how many.
///
/// # Errors
/// When the store fails, or the version that would judge cannot be used here.
pub async fn settle(core: &Core, actor: &str) -> Result<u32, Status> {
    // A version that is not the newest has no word about what that one bears.
    if let Some(why) = core.policies.stuck() {
        return Err(Status::unavailable(why));
    }
    let Settling { wanted, done, .. } = &core.policies.settling;
    // What comes to be looked at from here on is not what this looks at.
    let up_to = wanted.load(Ordering::SeqCst);
    let mut voided = 0;
    for record in core.store.live(None).await? {
        let Some(request) = core.store.request(record.id, false).await? else { continue };
        let Some(why) = outdated(core, &record.rules, &request) else { continue };
        let step = |record: &Record, now| {
            let entry = |code| Entry::new(code, actor, record.id, why.clone());
            if let Ok(next) = record.cancel(now) {
                return Ok((Some((next, vec![entry(Code::ApprovalCancelled)])), 1));
            }
            match record.revoke(actor, &why, now) {
                Ok(next) => Ok((Some((next, vec![entry(Code::GrantVoided)])), 1)),
                Err(_) => Ok((None, 0)),
            }
        };
        voided += core.transition(record.id, None, step).await?.1;
    }
    done.fetch_max(up_to, Ordering::SeqCst);
    Ok(voided)
}
