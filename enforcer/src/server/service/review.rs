//! What people call. A reviewer sees and decides what one of its groups may
//! decide; everything else is "no such approval". Admins look and revoke, viewers and policy
//! admins look. The console calls the same functions.

use super::watch::{self, visible};
use crate::approval::identity::Role;
use crate::server::audit::{Code, Entry};
use crate::server::core::{Caller, Core, id, unknown};
use crate::server::expiry::escalated;
use crate::server::model::{Ballot, Millis, Person, Phase, Record, ReviewError, VoteError};
use crate::server::report::{self, Seen};
use crate::server::wire;
use enforcer_proto::v1;
use enforcer_proto::v1::review_server::Review;
use prost::Message as _;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Records in one answer.
const LIST: usize = 500;

/// Approvals that a search looks at.
const SEARCHED: usize = 10_000;

/// Approvals that a report looks at.
const REPORTED: usize = 10_000;

/// Bytes of a body that a list has. A larger one is left out whole, never cut.
const LISTED_BODY: usize = 4096;

/// Bytes of a reason.
const REASON: usize = 4096;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

/// Who may look.
const PEOPLE: [Role; 4] = Role::PEOPLE;

/// Who may decide.
const DECIDE: [Role; 1] = [Role::Reviewer];

/// Who may take a grant back.
const REVOKE: [Role; 2] = [Role::Reviewer, Role::Admin];

#[tonic::async_trait]
impl Review for Service {
    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        list(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn show(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        show(&self.0, &caller, &request.get_ref().id).await.map(Response::new)
    }

    async fn decide(
        &self,
        request: Request<v1::DecideRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &DECIDE).await?;
        decide(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn review_glass(
        &self,
        request: Request<v1::ReviewGlassRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &DECIDE).await?;
        review_glass(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn report(
        &self,
        request: Request<v1::ReportRequest>,
    ) -> Result<Response<v1::ReportResponse>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        report(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &REVOKE).await?;
        revoke(&self.0, &caller, request.into_inner()).await.map(Response::new)
    }

    type WatchStream = watch::Stream;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        Ok(Response::new(watch::open(Arc::clone(&self.0), caller)))
    }
}

/// What the caller may see, newest first. With small bodies only: [`show`] has them all.
///
/// # Errors
/// With what the caller is told.
pub async fn list(
    core: &Core,
    caller: &Caller,
    request: v1::ListRequest,
) -> Result<v1::ListResponse, Status> {
    core.permit(caller, &PEOPLE).await?;
    let v1::ListRequest { states, limit, unreviewed, search, before } = request;
    let phases: Option<Vec<Phase>> = states.into_iter().map(wire::phase).collect();
    let phases = phases.ok_or_else(|| Status::invalid_argument("an unknown state"))?;
    let limit = match limit as usize {
        0 => LIST,
        limit => limit.min(LIST),
    };
    let before = match before.as_str() {
        "" => None,
        text => Some(id(text)?),
    };
    let now = core.clock.now();
    let search = search.to_lowercase();
    let looked = if search.is_empty() { limit } else { SEARCHED };
    let wanted = Wanted { phases, unreviewed, before };
    let records = found(core, caller.clone(), wanted, looked, now).await?;
    let mut approvals = Vec::new();
    for record in records {
        if approvals.len() == limit {
            break;
        }
        let asked = core.store.request(record.id, true).await?;
        let mut asked = asked.unwrap_or_default();
        if !search.is_empty() && !says(&record, &asked, &search) {
            continue;
        }
        if asked.body.len() > LISTED_BODY {
            asked.body.clear();
        }
        approvals.push(wire::approval(&record.at(now), asked));
    }
    Ok(v1::ListResponse { approvals })
}

/// One approval with everything that was asked.
///
/// # Errors
/// With what the caller is told.
pub async fn show(core: &Core, caller: &Caller, text: &str) -> Result<v1::Approval, Status> {
    core.permit(caller, &PEOPLE).await?;
    let id = id(text)?;
    let now = core.clock.now();
    let record = core.store.get(id).await?.filter(|record| visible(caller, record, now));
    let record = record.ok_or_else(unknown)?;
    whole(core, &record.at(now)).await
}

/// Counts a vote. Admins have none: who makes the certificates does not decide too.
///
/// # Errors
/// With what the caller is told.
pub async fn decide(
    core: &Core,
    caller: &Caller,
    vote: v1::DecideRequest,
) -> Result<v1::Approval, Status> {
    core.permit(caller, &DECIDE).await?;
    let id = id(&vote.id)?;
    reason_fits(&vote.reason)?;
    let voted = core.transition(id, Some(caller), |record, now| {
        let person = Person { name: caller.subject.name(), groups: &caller.groups };
        let v1::DecideRequest { approve, ref reason, ref digest, break_glass, .. } = vote;
        match record.vote(person, Ballot { approve, reason, digest, break_glass }, now) {
            Ok(next) if next.revision == record.revision => Ok((None, Ok(()))),
            Ok(next) => {
                if vote.approve {
                    core.may_grant()?;
                }
                let audit = entries(caller, record, &next, &vote);
                Ok((Some((next, audit)), Ok(())))
            }
            Err(why) => Ok((None, Err(why))),
        }
    });
    let (record, outcome) = voted.await?;
    if let Err(why) = outcome {
        let actor = caller.subject.to_string();
        core.note(Entry::new(Code::VoteRefused, actor, id, why.to_string())).await?;
        return Err(refusal(&why));
    }
    let broke = record.votes.last().filter(|vote| !vote.broke.is_empty());
    if let Some(broke) = broke.filter(|broke| broke.person == caller.subject.name()) {
        tracing::warn!(
            approval = %id,
            person = %broke.person,
            host = %record.host,
            agent = %record.agent,
            scopes = %broke.broke.join(","),
            reason = %broke.reason,
            "the glass was broken: somebody approved alone, which is to be reviewed"
        );
    }
    whole(core, &record).await
}

/// Whether a vote would count now; changes nothing.
///
/// # Errors
/// With what the caller would be told.
pub async fn would_count(
    core: &Core,
    caller: &Caller,
    vote: &v1::DecideRequest,
) -> Result<(), Status> {
    core.permit(caller, &DECIDE).await?;
    reason_fits(&vote.reason)?;
    let v1::DecideRequest { approve, reason, digest, break_glass, .. } = vote;
    let record = core.store.get(id(&vote.id)?).await?.ok_or_else(unknown)?;
    let person = Person { name: caller.subject.name(), groups: &caller.groups };
    let ballot = Ballot { approve: *approve, reason, digest, break_glass: *break_glass };
    match record.vote(person, ballot, core.clock.now()) {
        Ok(next) if next.revision == record.revision => {
            Err(Status::failed_precondition("your vote on it counts already"))
        }
        Ok(_) if *approve => core.may_grant(),
        Ok(_) => Ok(()),
        Err(why) => Err(refusal(&why)),
    }
}

/// Puts on record that somebody else looked at a broken glass.
///
/// # Errors
/// With what the caller is told.
pub async fn review_glass(
    core: &Core,
    caller: &Caller,
    request: v1::ReviewGlassRequest,
) -> Result<v1::Approval, Status> {
    core.permit(caller, &DECIDE).await?;
    let v1::ReviewGlassRequest { id: text, note } = request;
    reason_fits(&note)?;
    let id = id(&text)?;
    let looked = core.transition(id, Some(caller), |record, now| {
        let person = Person { name: caller.subject.name(), groups: &caller.groups };
        let next = record.look(person, &note, now).map_err(|why| unreviewed(&why))?;
        let actor = caller.subject.to_string();
        Ok((Some((next, vec![Entry::new(Code::GlassReviewed, actor, id, note.trim())])), ()))
    });
    let (record, ()) = looked.await?;
    whole(core, &record).await
}

/// Bad habits in what the caller may see.
///
/// # Errors
/// With what the caller is told.
pub async fn report(
    core: &Core,
    caller: &Caller,
    request: v1::ReportRequest,
) -> Result<v1::ReportResponse, Status> {
    core.permit(caller, &PEOPLE).await?;
    let since = request.since_unix_ms;
    let now = core.clock.now();
    let seen_by = caller.clone();
    let wanted = move |record: &Record| record.created >= since && visible(&seen_by, record, now);
    let records = core.store.list(REPORTED + 1, Box::new(wanted)).await?;
    let more = records.len() > REPORTED;
    let mut seen = Vec::with_capacity(records.len());
    for record in records.into_iter().take(REPORTED) {
        let asked = core.store.request(record.id, false).await?.unwrap_or_default();
        seen.push(Seen { record, bytes: readable(&asked) });
    }
    let findings = report::findings(&seen);
    Ok(v1::ReportResponse { approvals: seen.len() as u64, more, findings })
}

/// Takes a grant back.
///
/// # Errors
/// With what the caller is told.
pub async fn revoke(
    core: &Core,
    caller: &Caller,
    request: v1::RevokeRequest,
) -> Result<v1::Approval, Status> {
    core.permit(caller, &REVOKE).await?;
    let v1::RevokeRequest { id: text, reason } = request;
    reason_fits(&reason)?;
    let id = id(&text)?;
    let actor = caller.subject.to_string();
    let revoked = core.transition(id, Some(caller), |record, now| {
        if !visible(caller, record, now) {
            return Err(unknown());
        }
        let next = record.revoke(&actor, &reason, now);
        let next = next.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let entry = Entry::new(Code::GrantRevoked, actor.clone(), id, reason.clone());
        Ok((Some((next, vec![entry])), ()))
    });
    let (record, ()) = revoked.await?;
    whole(core, &record).await
}

/// Which records are looked for.
struct Wanted {
    /// In one of these; all when empty.
    phases: Vec<Phase>,
    /// Only those with a broken glass that nobody reviewed.
    unreviewed: bool,
    /// Only those older than this one.
    before: Option<uuid::Uuid>,
}

/// Whether a text (in lower case) is in what was asked, in who asked, or in who voted.
fn says(record: &Record, asked: &v1::ApprovalRequest, text: &str) -> bool {
    let operation = asked.operation.clone().unwrap_or_default();
    let mut places = vec![
        record.id.to_string(),
        format!("{}/{}", record.host, record.agent),
        record.digest.clone(),
        operation.target,
        operation.action,
        operation.resource,
        asked.policy.clone(),
    ];
    places.extend(record.rules.iter().map(|rule| rule.scope.clone()));
    for vote in &record.votes {
        places.extend([vote.person.clone(), vote.reason.clone()]);
    }
    places.iter().any(|place| place.to_lowercase().contains(text))
}

/// Newest first, by what time has made of each and not by what is stored.
async fn found(
    core: &Core,
    caller: Caller,
    wanted: Wanted,
    limit: usize,
    now: Millis,
) -> Result<Vec<Record>, Status> {
    let Wanted { phases, unreviewed, before } = wanted;
    let live_only = !unreviewed && !phases.is_empty() && phases.iter().all(|phase| phase.live());
    let wanted = move |record: &Record| {
        let phase = record.at(now).phase;
        (phases.is_empty() || phases.contains(&phase))
            && (!unreviewed || record.unreviewed())
            && before.is_none_or(|before| record.id < before)
            && visible(&caller, record, now)
    };
    if live_only {
        // The queue: it is short, the history is not.
        let mut live = core.store.live(None).await?;
        live.retain(wanted);
        live.reverse();
        live.truncate(limit);
        return Ok(live);
    }
    Ok(core.store.list(limit, Box::new(wanted)).await?)
}

async fn whole(core: &Core, record: &Record) -> Result<v1::Approval, Status> {
    let asked = core.store.request(record.id, true).await?;
    let asked = asked.ok_or_else(|| Status::data_loss("what was asked is not in the store"))?;
    Ok(wire::approval(record, asked))
}

/// How much of a request there is to read: the operation, and the body by its length.
fn readable(asked: &v1::ApprovalRequest) -> u64 {
    let Some(operation) = &asked.operation else { return 0 };
    let length = operation.facts.iter().find(|fact| fact.name == "body.length");
    let body = match length.and_then(|fact| fact.value.as_ref()) {
        Some(v1::fact::Value::Number(length)) => u64::try_from(*length).unwrap_or(0),
        _ => 0,
    };
    body.saturating_add(operation.encoded_len() as u64)
}

fn reason_fits(reason: &str) -> Result<(), Status> {
    if reason.len() > REASON {
        return Err(Status::invalid_argument("the reason is too long"));
    }
    Ok(())
}

fn entries(
    caller: &Caller,
    record: &Record,
    next: &Record,
    vote: &v1::DecideRequest,
) -> Vec<Entry> {
    let entry = |code, detail| Entry::new(code, caller.subject.to_string(), next.id, detail);
    let word = if vote.approve { "approve" } else { "deny" };
    let mut entries =
        escalated(record, next.escalated.get(record.escalated.len()..).unwrap_or(&[]));
    entries.push(entry(Code::ApprovalVoted, format!("vote={word} reason={}", vote.reason.trim())));
    if let Some(broke) = next.votes.last().filter(|last| !last.broke.is_empty()) {
        let detail = format!("scopes={} reason={}", broke.broke.join(","), broke.reason);
        entries.push(entry(Code::GlassBroken, detail));
    }
    match next.phase {
        Phase::Approved => entries.push(entry(Code::ApprovalApproved, String::new())),
        Phase::Denied => entries.push(entry(Code::ApprovalDenied, String::new())),
        _ => {}
    }
    entries
}

fn refusal(why: &VoteError) -> Status {
    match why {
        VoteError::NotEligible => unknown(),
        VoteError::Requester | VoteError::NoGlass | VoteError::OnlyGlass => {
            Status::permission_denied(why.to_string())
        }
        VoteError::ReasonMissing | VoteError::ReasonPattern { .. } => {
            Status::invalid_argument(why.to_string())
        }
        VoteError::Mismatch | VoteError::Voted | VoteError::Hours { .. } | VoteError::NotNow(_) => {
            Status::failed_precondition(why.to_string())
        }
    }
}

fn unreviewed(why: &ReviewError) -> Status {
    match why {
        ReviewError::NotEligible => unknown(),
        ReviewError::Involved => Status::permission_denied(why.to_string()),
        ReviewError::NoteMissing => Status::invalid_argument(why.to_string()),
        ReviewError::NotBroken | ReviewError::Reviewed => {
            Status::failed_precondition(why.to_string())
        }
    }
}
