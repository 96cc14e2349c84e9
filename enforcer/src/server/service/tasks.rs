//! Tasks: daemons declare them for their agents, people look at them whole. Each step that needs
//! people is an approval like any other, decided, claimed and taken back as one.

use super::approvals::borne;
use super::watch::visible;
use crate::approval::convert;
use crate::approval::identity::Role;
use crate::approval::step::STEPS;
use crate::server::audit::{Code, Entry};
use crate::server::core::{Caller, Core, id, removed};
use crate::server::model::{Record, StepOf, Using, choose};
use crate::server::policies::void;
use crate::server::store::{Declared, DeclaredStep, Owner, Submission, Submitted};
use crate::server::validate::{self, CheckedStep};
use crate::server::wire;
use enforcer_proto::v1;
use enforcer_proto::v1::task_review_server::TaskReview;
use enforcer_proto::v1::tasks_server::Tasks;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// Tasks in one answer.
const LIST: usize = 100;

/// Tasks that a list for people looks at.
const LOOKED_AT: usize = 1000;

/// The service.
#[derive(Debug)]
pub struct Service(pub Arc<Core>);

fn unknown() -> Status {
    Status::not_found("no such task")
}

#[tonic::async_trait]
impl Tasks for Service {
    async fn submit(
        &self,
        request: Request<v1::SubmitTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let core = &self.0;
        let caller = core.caller(&request, &[Role::Daemon]).await?;
        let version = core.policies.watch();
        let submission = match submission(core, &caller, request.into_inner()) {
            Ok(submission) => submission,
            Err(why) => return Err(refused(core, &caller, why).await?),
        };
        let (task, records) = (submission.task.clone(), submission.records.clone());
        let submitted = core.store.submit(submission, core.clock.now()).await?;
        if version.has_changed().unwrap_or(true) {
            // What was kept just now was perhaps not looked at with the rest.
            core.policies.unsettle();
            void::settle(core, "server").await?;
        }
        let found = match submitted {
            Submitted::New => {
                core.metrics.event(Code::TaskDeclared);
                for record in records {
                    core.metrics.event(Code::ApprovalRequested);
                    core.notifier.tell(Code::ApprovalRequested, &record);
                    core.tell(record);
                }
                task
            }
            Submitted::Found(id) => {
                core.metrics.folded.inc();
                core.store.task(id).await?.ok_or_else(unknown)?
            }
            Submitted::Removed => return Err(removed()),
            Submitted::Full => {
                core.metrics.full.inc();
                let full = "too many requests of this agent or host wait for people";
                let why = Status::resource_exhausted(full);
                return Err(refused(core, &caller, why).await?);
            }
        };
        Ok(Response::new(shown(core, &found, With::Steps).await?))
    }

    async fn get(
        &self,
        request: Request<v1::GetTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let core = &self.0;
        let caller = core.caller(&request, &[Role::Daemon]).await?;
        let v1::GetTaskRequest { id: text, owner } = request.into_inner();
        let owner = owned(&caller, owner)?;
        let task = core.store.task(id(&text).map_err(|_| unknown())?).await?;
        let task = task.filter(|task| task.owner == owner).ok_or_else(unknown)?;
        Ok(Response::new(shown(core, &task, With::Steps).await?))
    }

    async fn list(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let core = &self.0;
        let caller = core.caller(&request, &[Role::Daemon]).await?;
        let v1::ListTasksRequest { limit, owner } = request.into_inner();
        let owner = owned(&caller, owner)?;
        let mut tasks = Vec::new();
        for task in core.store.tasks(most(limit), Some(owner)).await? {
            tasks.push(shown(core, &task, With::States).await?);
        }
        Ok(Response::new(v1::ListTasksResponse { tasks }))
    }
}

#[tonic::async_trait]
impl TaskReview for Service {
    async fn list(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let core = &self.0;
        let caller = core.caller(&request, &Role::PEOPLE).await?;
        let limit = most(request.into_inner().limit);
        let mut tasks = Vec::new();
        for task in core.store.tasks(LOOKED_AT, None).await? {
            if tasks.len() < limit && sees(core, &caller, &task).await? {
                tasks.push(shown(core, &task, With::States).await?);
            }
        }
        Ok(Response::new(v1::ListTasksResponse { tasks }))
    }

    async fn show(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::Task>, Status> {
        let caller = self.0.caller(&request, &Role::PEOPLE).await?;
        show(&self.0, &caller, &request.get_ref().id).await.map(Response::new)
    }
}

/// One task with everything that its steps' digests cover, for who may see one of its steps.
///
/// # Errors
/// With what the caller is told.
pub async fn show(core: &Core, caller: &Caller, text: &str) -> Result<v1::Task, Status> {
    core.permit(caller, &Role::PEOPLE).await?;
    let task = core.store.task(id(text).map_err(|_| unknown())?).await?;
    let task = task.ok_or_else(unknown)?;
    if !sees(core, caller, &task).await? {
        return Err(unknown());
    }
    shown(core, &task, With::Bodies).await
}

/// The steps of a task that the caller may decide, as far as its groups say; by their numbers.
///
/// # Errors
/// When the store fails.
pub async fn own_steps(core: &Core, caller: &Caller, task: &v1::Task) -> Result<Vec<u32>, Status> {
    let now = core.clock.now();
    let mut own = Vec::new();
    for (number, step) in (1..).zip(&task.steps) {
        let Some(approval) = &step.approval else { continue };
        let record = core.store.get(id(&approval.id)?).await?;
        if caller.subject.role() == Role::Reviewer
            && record.is_some_and(|record| visible(caller, &record, now))
        {
            own.push(number);
        }
    }
    Ok(own)
}

fn most(limit: u32) -> usize {
    match limit as usize {
        0 => LIST,
        limit => limit.min(LIST),
    }
}

fn owned(caller: &Caller, owner: Option<v1::TaskOwner>) -> Result<Owner, Status> {
    let owner = owner.ok_or_else(|| Status::invalid_argument("owner is missing"))?;
    let host = caller.subject.name().to_owned();
    Ok(Owner { host, agent: owner.agent, task: owner.task })
}

/// Puts a refusal on record, and gives it back.
async fn refused(core: &Core, caller: &Caller, why: Status) -> Result<Status, Status> {
    let actor = caller.subject.to_string();
    let detail: String = why.message().chars().take(512).collect();
    core.note(Entry::new(Code::TaskRefused, actor, caller.subject.name(), detail)).await?;
    Ok(why)
}

/// Whether a person may decide one of its steps, or sees everything.
async fn sees(core: &Core, caller: &Caller, task: &Declared) -> Result<bool, Status> {
    let now = core.clock.now();
    for step in task.steps.iter().filter(|step| step.asked) {
        let record = core.store.get(step.id).await?;
        if record.is_some_and(|record| visible(caller, &record, now)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How much of each step is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    States,
    Steps,
    Bodies,
}

async fn shown(core: &Core, task: &Declared, with: With) -> Result<v1::Task, Status> {
    let now = core.clock.now();
    let mut steps = Vec::with_capacity(task.steps.len());
    for step in &task.steps {
        let request = match with {
            With::States => None,
            With::Steps => core.store.request(step.id, false).await?,
            With::Bodies => core.store.request(step.id, true).await?,
        };
        let record = match step.asked {
            true => core.store.get(step.id).await?,
            false => None,
        };
        steps.push(match record {
            Some(record) => {
                let record = record.at(now);
                let approval = match request {
                    Some(request) => wire::approval(&record, request),
                    None => wire::brief(&record),
                };
                v1::TaskStep { approval: Some(approval), request: None }
            }
            None => v1::TaskStep { approval: None, request: Some(request.unwrap_or_default()) },
        });
    }
    Ok(v1::Task {
        id: task.id.to_string(),
        host: task.owner.host.clone(),
        owner: Some(v1::TaskOwner {
            agent: task.owner.agent.clone(),
            task: task.owner.task.clone(),
        }),
        objective: task.objective.clone(),
        created_unix_ms: task.created,
        steps,
    })
}

fn submission(
    core: &Core,
    caller: &Caller,
    request: v1::SubmitTaskRequest,
) -> Result<Submission, Status> {
    let bad = |why: String| Status::invalid_argument(why);
    let host = caller.subject.name();
    let v1::SubmitTaskRequest { objective, steps } = request;
    let of = steps.len();
    if !(1..=STEPS).contains(&of) {
        return Err(bad(format!("a task has 1 to {STEPS} steps, not {of}")));
    }
    let mut checked = Vec::with_capacity(of);
    for (at, step) in steps.into_iter().enumerate() {
        let step =
            validate::step(step, host).map_err(|error| bad(format!("step {}: {error}", at + 1)))?;
        borne(core, &step.rules, &step.request)?;
        let said = step.request.step.clone().unwrap_or_default();
        let in_place = said.number as usize == at + 1 && said.of as usize == of;
        if said.objective != objective || !in_place {
            return Err(bad(format!("step {}: it is not this task's", at + 1)));
        }
        checked.push(step);
    }
    if checked.iter().all(|step| step.rules.is_empty()) {
        return Err(bad("policy allows every step as it is: nobody needs to be asked".to_owned()));
    }
    let owner = owner_of(&checked, host).ok_or_else(|| bad("its steps have two owners".into()))?;
    let now = core.clock.now();
    let task = Declared {
        id: Uuid::now_v7(),
        owner,
        objective,
        created: now,
        steps: checked.iter().map(declared).collect(),
    };
    let mut fold = Sha256::new_with_prefix(b"enforcer task fold v1\0");
    fold.update(task.owner.key());
    for step in &checked {
        fold.update(step.step.digest.0);
    }
    let limits = core.config.limits;
    let mut submission = Submission {
        by: caller.subject.clone(),
        fold: fold.finalize().into(),
        records: Vec::new(),
        requests: Vec::new(),
        denied_for: i64::from(limits.denied_for_seconds) * 1000,
        host_cap: limits.pending_per_host,
        agent_cap: limits.pending_per_agent,
        audit: vec![Entry::new(
            Code::TaskDeclared,
            caller.subject.to_string(),
            task.id,
            format!("agent={} task={} steps={of}", task.owner.agent, task.owner.task),
        )],
        task,
    };
    for (at, step) in checked.into_iter().enumerate() {
        keep(core, &mut submission, at, step);
    }
    Ok(submission)
}

fn declared(step: &CheckedStep) -> DeclaredStep {
    DeclaredStep { id: Uuid::now_v7(), asked: !step.rules.is_empty() }
}

/// The one owner of all steps.
fn owner_of(steps: &[CheckedStep], host: &str) -> Option<Owner> {
    let mut owners = steps.iter().map(|step| {
        let principal = step.request.principal.clone().unwrap_or_default();
        Owner { host: host.to_owned(), agent: principal.agent, task: principal.task }
    });
    let first = owners.next()?;
    owners.all(|other| other == first).then_some(first)
}

fn keep(core: &Core, submission: &mut Submission, at: usize, step: CheckedStep) {
    let CheckedStep { request, body, step, rules } = step;
    let Some(place) = submission.task.steps.get(at).copied() else {
        return;
    };
    if place.asked {
        let owner = &submission.task.owner;
        let mut excluded = core.config.owners(&owner.host, &owner.agent);
        excluded.extend([owner.host.clone(), owner.agent.clone()]);
        let who = (owner.host.as_str(), owner.agent.as_str());
        let digest = step.digest.to_string();
        let scopes: Vec<&str> = rules.iter().map(|rule| rule.scope.as_str()).collect();
        let detail = format!(
            "agent={} digest={digest} scopes={} policy={} task={} step={}",
            owner.agent,
            scopes.join(","),
            request.policy,
            submission.task.id,
            step.number,
        );
        let actor = submission.by.to_string();
        submission.audit.push(Entry::new(Code::ApprovalRequested, actor, place.id, detail));
        let now = submission.task.created;
        let mut record = Record::new(place.id, who, &digest, rules, excluded, now);
        record.step = Some(StepOf {
            declared: submission.task.id,
            number: step.number,
            task: owner.task.clone(),
            uses: step.uses,
            what: step.what,
        });
        submission.records.push(record);
    }
    submission.requests.push((place.id, request.encode_to_vec(), body));
}

/// The step that an operation uses or waits for, if its owner declared one that fits.
pub(super) async fn step_for(
    core: &Core,
    caller: &Caller,
    asked: &validate::Checked,
) -> Result<Option<v1::Approval>, Status> {
    let principal = asked.request.principal.clone().unwrap_or_default();
    let host = caller.subject.name().to_owned();
    let owner = Owner { host, agent: asked.agent.clone(), task: principal.task };
    let steps = core.store.steps(&owner).await?;
    if steps.is_empty() {
        return Ok(None);
    }
    let used = v1::StepUse {
        agent: owner.agent.clone(),
        task: owner.task.clone(),
        operation: asked.request.operation.clone(),
    };
    let bad = |error: convert::ConvertError| Status::invalid_argument(error.to_string());
    let (operation, digest) = convert::used_operation(&used).map_err(bad)?;
    let using = Using {
        host: &owner.host,
        agent: &owner.agent,
        task: &owner.task,
        operation: &operation,
        digest: &digest,
    };
    let now = core.clock.now();
    let Some(record) = choose(&steps, &using, &asked.rules, now) else {
        return Ok(None);
    };
    let record = record.at(now);
    let brief = wire::brief(&record);
    Ok(Some(with_step(core, &record, brief).await?))
}

/// What is sent of an approval to its daemon, with the step that it is.
pub(super) async fn with_step(
    core: &Core,
    record: &Record,
    mut approval: v1::Approval,
) -> Result<v1::Approval, Status> {
    let asked = core.store.request(record.id, false).await?;
    if let (Some(request), Some(asked)) = (&mut approval.request, asked) {
        request.step = asked.step;
    }
    Ok(approval)
}
