//! What daemons call. Each sees its own host's approvals; any other is "no such approval".

use super::{tasks, watch};
use crate::approval::NotGranted;
use crate::approval::convert::{self, ConvertError};
use crate::approval::identity::Role;
use crate::server::audit::{Code, Entry};
use crate::server::core::{Caller, Core, id, removed, unknown};
use crate::server::model::{Claimed, Record, Rule, Using, fold_key};
use crate::server::policies::void;
use crate::server::store::{Ask, Asked};
use crate::server::{validate, wire};
use enforcer_proto::v1;
use enforcer_proto::v1::approvals_server::Approvals;
use std::sync::Arc;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

#[tonic::async_trait]
impl Approvals for Service {
    async fn request(
        &self,
        request: Request<v1::ApprovalRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        let checked = validate::check(request.into_inner(), caller.subject.name())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if let Some(step) = tasks::step_for(&self.0, &caller, &checked).await? {
            return Ok(Response::new(step));
        }
        let core = &self.0;
        let version = core.policies.watch();
        borne(core, &checked.rules, &checked.request)?;
        let ask = self.ask(&caller, checked);
        let asked = core.store.ask(ask, core.clock.now()).await?;
        if version.has_changed().unwrap_or(true) {
            // What was kept just now was perhaps not looked at with the rest.
            core.policies.unsettle();
            void::settle(core, "server").await?;
        }
        match asked {
            Asked::New(record) => {
                core.metrics.event(Code::ApprovalRequested);
                core.notifier.tell(Code::ApprovalRequested, &record);
                core.tell(record.clone());
                Ok(Response::new(wire::brief(&record)))
            }
            Asked::Folded(record) => {
                core.metrics.folded.inc();
                core.tell(record.clone());
                Ok(Response::new(wire::brief(&record)))
            }
            Asked::Found(record) => Ok(Response::new(wire::brief(&record))),
            Asked::Removed => Err(removed()),
            Asked::Full => {
                core.metrics.full.inc();
                let full = "too many requests of this agent or host wait for people";
                Err(Status::resource_exhausted(full))
            }
        }
    }

    type WatchStream = watch::Stream;

    async fn watch(
        &self,
        request: Request<v1::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        Ok(Response::new(watch::open(Arc::clone(&self.0), caller)))
    }

    async fn claim(
        &self,
        request: Request<v1::ClaimRequest>,
    ) -> Result<Response<v1::ClaimResponse>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        let asked = request.into_inner();
        let done = match (id(&asked.id), Uuid::try_parse(&asked.operation)) {
            (Ok(id), Ok(operation)) => {
                self.claimed(&caller, (id, operation), &asked.digest, asked.step.as_ref()).await
            }
            _ => Err(unknown()),
        };
        if done.as_ref().is_err_and(|status| status.code() == tonic::Code::NotFound) {
            self.refused(&caller, &asked.id, "unknown").await?;
        }
        done.map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        let v1::CancelRequest { id: text, digest } = request.into_inner();
        let actor = caller.subject.to_string();
        let cancelled = self.0.transition(id(&text)?, Some(&caller), |record, now| {
            own(&caller, record)?;
            // A step was declared by itself, and waits whoever waits for it.
            if digest != record.digest || record.step.is_some() {
                return Err(unknown());
            }
            let next = record.cancel(now);
            let next = next.map_err(|error| Status::failed_precondition(error.to_string()))?;
            let entry = Entry::new(Code::ApprovalCancelled, actor.clone(), record.id, "");
            Ok((Some((next, vec![entry])), ()))
        });
        let (record, ()) = cancelled.await?;
        Ok(Response::new(wire::brief(&record)))
    }

    async fn get(
        &self,
        request: Request<v1::GetRequest>,
    ) -> Result<Response<v1::Approval>, Status> {
        let caller = self.0.caller(&request, &[Role::Daemon]).await?;
        let record = self.0.store.get(id(&request.get_ref().id)?).await?;
        let record = record.ok_or_else(unknown)?;
        own(&caller, &record)?;
        Ok(Response::new(wire::brief(&record.at(self.0.clock.now()))))
    }
}

/// Whether the policy version in force bears what a host asks under one that was in force before.
pub(super) fn borne(
    core: &Core,
    rules: &[Rule],
    request: &v1::ApprovalRequest,
) -> Result<(), Status> {
    match void::against(core, rules, request) {
        None => Ok(()),
        Some(why) => Err(Status::failed_precondition(format!("policy changed: {why}"))),
    }
}

fn own(caller: &Caller, record: &Record) -> Result<(), Status> {
    if record.host == caller.subject.name() { Ok(()) } else { Err(unknown()) }
}

impl Service {
    fn ask(&self, caller: &Caller, checked: validate::Checked) -> Ask {
        use prost::Message as _;
        let core = &self.0;
        let host = caller.subject.name();
        // Who asks is excluded under its own names too, should a person have one of them.
        let mut excluded = core.config.owners(host, &checked.agent);
        excluded.extend([host.to_owned(), checked.agent.clone()]);
        let scopes: Vec<&str> = checked.rules.iter().map(|rule| rule.scope.as_str()).collect();
        let detail = format!(
            "agent={} digest={} scopes={} policy={}",
            checked.agent,
            checked.digest,
            scopes.join(","),
            checked.request.policy
        );
        let fold = fold_key(host, &checked.digest, &checked.rules);
        let who = (host, checked.agent.as_str());
        let now = core.clock.now();
        let id = Uuid::now_v7();
        let record = Record::new(id, who, &checked.digest, checked.rules, excluded, now);
        let limits = core.config.limits;
        Ask {
            by: Some(caller.subject.clone()),
            audit: Entry::new(Code::ApprovalRequested, caller.subject.to_string(), id, detail),
            record,
            fold,
            request: checked.request.encode_to_vec(),
            body: checked.body,
            denied_for: i64::from(limits.denied_for_seconds) * 1000,
            host_cap: limits.pending_per_host,
            agent_cap: limits.pending_per_agent,
        }
    }

    async fn claimed(
        &self,
        caller: &Caller,
        (id, operation): (Uuid, Uuid),
        digest: &str,
        step: Option<&v1::StepUse>,
    ) -> Result<v1::ClaimResponse, Status> {
        let actor = caller.subject.to_string();
        let used = step.map(|used| Ok((used, convert::used_operation(used)?))).transpose();
        let used =
            used.map_err(|error: ConvertError| Status::invalid_argument(error.to_string()))?;
        let using = used.as_ref().map(|(used, (operation, digest))| Using {
            host: caller.subject.name(),
            agent: &used.agent,
            task: &used.task,
            operation,
            digest,
        });
        if let Some(why) = void::against_use(&self.0, caller.subject.name(), id).await? {
            return Err(Status::failed_precondition(format!("policy changed: {why}")));
        }
        let claim = Uuid::now_v7();
        let claimed = self.0.transition(id, Some(caller), |record, now| {
            own(caller, record)?;
            let done = match &using {
                None => record.claim(operation, digest, claim, now),
                Some(using) => record.claim_step((operation, claim), digest, using, now),
            };
            Ok(match done {
                Claimed::New(next, claim) => {
                    self.0.may_grant()?;
                    let of = using.map(|using| format!(" digest={}", using.digest));
                    let of = of.unwrap_or_default();
                    let detail = format!("claim={claim} operation={operation}{of}");
                    let entry = Entry::new(Code::GrantClaimed, actor.clone(), id, detail);
                    (Some((*next, vec![entry])), Ok(claim))
                }
                Claimed::Again(claim) => (None, Ok(claim)),
                Claimed::Refused(why) => (None, Err(why)),
            })
        });
        let (record, outcome) = claimed.await?;
        let mut approval = wire::brief(&record);
        if record.step.is_some() {
            approval = tasks::with_step(&self.0, &record, approval).await?;
        }
        let approval = Some(approval);
        match outcome {
            Ok(claim) => Ok(v1::ClaimResponse {
                granted: true,
                reason: String::new(),
                claim_id: claim.to_string(),
                approval,
            }),
            Err(why) => {
                self.refused(caller, &id.to_string(), why.as_str()).await?;
                Ok(v1::ClaimResponse {
                    granted: false,
                    reason: why.as_str().to_owned(),
                    claim_id: String::new(),
                    // With another digest the caller has shown no right to see it.
                    approval: approval.filter(|_| why != NotGranted::Mismatch),
                })
            }
        }
    }

    async fn refused(&self, caller: &Caller, id: &str, why: &str) -> Result<(), Status> {
        // What the caller sent as an id goes on record cut: it may be anything.
        let id: String = id.chars().take(64).collect();
        let actor = caller.subject.to_string();
        let entry = Entry::new(Code::ClaimRefused, actor, id, why);
        Ok(self.0.note(entry).await?)
    }
}
