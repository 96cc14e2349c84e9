//! What people call. A reviewer sees and decides what one of its groups may
//! decide; everything else is "no such approval". Admins look and revoke.

use super::watch::{self, visible};
use crate::approval::identity::Role;
use crate::server::audit::{Code, Entry};
use crate::server::core::{Caller, Core, id, unknown};
use crate::server::model::{Millis, Person, Phase, Record, VoteError};
use crate::server::wire;
use enforcer_proto::v1;
use enforcer_proto::v1::review_server::Review;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Records in one answer.
const LIST: usize = 500;

/// Bytes of a body that a list has. A larger one is left out whole, never cut.
const LISTED_BODY: usize = 4096;

/// Bytes of a reason.
const REASON: usize = 4096;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

const PEOPLE: [Role; 2] = [Role::Reviewer, Role::Admin];

#[tonic::async_trait]
impl Review for Service {
    /// With small bodies only: `show` has them all.
    async fn list(
        &self,
        request: Request<v1::ListRequest>,
    ) -> Result<Response<v1::ListResponse>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        let v1::ListRequest { states, limit } = request.into_inner();
        let phases: Option<Vec<Phase>> = states.into_iter().map(wire::phase).collect();
        let phases = phases.ok_or_else(|| Status::invalid_argument("an unknown state"))?;
        let limit = match limit as usize {
            0 => LIST,
            limit => limit.min(LIST),
        };
        let now = self.0.clock.now();
        let records = self.found(caller, phases, limit, now).await?;
        let mut approvals = Vec::with_capacity(records.len());
        for record in records {
            let asked = self.0.store.request(record.id, true).await?;
            let mut asked = asked.unwrap_or_default();
            if asked.body.len() > LISTED_BODY {
                asked.body.clear();
            }
            approvals.push(wire::approval(&record.at(now), asked));
        }
        Ok(Response::new(v1::ListResponse { approvals }))
    }

    async fn show(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        let id = id(&request.get_ref().id)?;
        let record = self.0.store.get(id).await?.filter(|record| visible(&caller, record));
        let record = record.ok_or_else(unknown)?;
        self.whole(&record.at(self.0.clock.now())).await
    }

    async fn decide(
        &self,
        request: Request<v1::DecideRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        // Admins have no vote: who makes the certificates does not decide too.
        let caller = self.0.caller(&request, &[Role::Reviewer]).await?;
        let vote = request.into_inner();
        let id = id(&vote.id)?;
        reason_fits(&vote.reason)?;
        let voted = self.0.transition(id, Some(&caller), |record, now| {
            let person = Person { name: caller.subject.name(), groups: &caller.groups };
            match record.vote(person, vote.approve, &vote.reason, &vote.digest, now) {
                Ok(next) if next.votes.len() == record.votes.len() => Ok((None, Ok(()))),
                Ok(next) => {
                    if vote.approve {
                        self.0.may_grant()?;
                    }
                    let audit = entries(&caller, &next, &vote);
                    Ok((Some((next, audit)), Ok(())))
                }
                Err(why) => Ok((None, Err(why))),
            }
        });
        let (record, outcome) = voted.await?;
        if let Err(why) = outcome {
            let actor = caller.subject.to_string();
            let entry = Entry::new(Code::VoteRefused, actor, id, why.to_string());
            self.0.note(entry).await?;
            return Err(refusal(&why));
        }
        self.whole(&record).await
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &PEOPLE).await?;
        let v1::RevokeRequest { id: text, reason } = request.into_inner();
        reason_fits(&reason)?;
        let id = id(&text)?;
        let actor = caller.subject.to_string();
        let revoked = self.0.transition(id, Some(&caller), |record, now| {
            if !visible(&caller, record) {
                return Err(unknown());
            }
            let next = record.revoke(&actor, &reason, now);
            let next = next.map_err(|error| Status::failed_precondition(error.to_string()))?;
            let entry = Entry::new(Code::GrantRevoked, actor.clone(), id, reason.clone());
            Ok((Some((next, vec![entry])), ()))
        });
        let (record, ()) = revoked.await?;
        self.whole(&record).await
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

impl Service {
    /// Newest first, by what time has made of each and not by what is stored.
    async fn found(
        &self,
        caller: Caller,
        phases: Vec<Phase>,
        limit: usize,
        now: Millis,
    ) -> Result<Vec<Record>, Status> {
        let live_only = !phases.is_empty() && phases.iter().all(|phase| phase.live());
        let wanted = move |record: &Record| {
            let phase = record.at(now).phase;
            (phases.is_empty() || phases.contains(&phase)) && visible(&caller, record)
        };
        if live_only {
            // The queue: it is short, the history is not.
            let mut live = self.0.store.live(None).await?;
            live.retain(wanted);
            live.reverse();
            live.truncate(limit);
            return Ok(live);
        }
        Ok(self.0.store.list(limit, Box::new(wanted)).await?)
    }

    async fn whole(&self, record: &Record) -> Result<Response<v1::Approval>, Status> {
        let asked = self.0.store.request(record.id, true).await?;
        let asked = asked.ok_or_else(|| Status::data_loss("what was asked is not in the store"))?;
        Ok(Response::new(wire::approval(record, asked)))
    }
}

fn reason_fits(reason: &str) -> Result<(), Status> {
    if reason.len() > REASON {
        return Err(Status::invalid_argument("the reason is too long"));
    }
    Ok(())
}

fn entries(caller: &Caller, next: &Record, vote: &v1::DecideRequest) -> Vec<Entry> {
    let entry = |code, detail| Entry::new(code, caller.subject.to_string(), next.id, detail);
    let word = if vote.approve { "approve" } else { "deny" };
    let mut entries =
        vec![entry(Code::ApprovalVoted, format!("vote={word} reason={}", vote.reason.trim()))];
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
        VoteError::Requester => Status::permission_denied(why.to_string()),
        VoteError::ReasonMissing => Status::invalid_argument(why.to_string()),
        VoteError::Mismatch | VoteError::Voted | VoteError::NotNow(_) => {
            Status::failed_precondition(why.to_string())
        }
    }
}
