//! Tasks over the wire: declared whole or not at all, decided step by step, used only by what fits.

use super::*;
use crate::approval::StepRequest;
use crate::approval::step::{Kind, Pattern, STEPS};
use enforcer_proto::v1::task_review_client::TaskReviewClient;
use enforcer_proto::v1::tasks_client::TasksClient;

pub(super) fn patterned(uses: u32) -> Scope {
    Scope { patterns: true, ..scope("s", &["ops"], 1, uses) }
}

fn step(ask: &Ask, (number, of): (u32, u32), what: v1::step::What) -> StepRequest {
    let exact = matches!(what, v1::step::What::Exact(_));
    StepRequest {
        principal: ask.principal.clone(),
        operation: exact.then(|| ask.operation.clone()),
        step: v1::Step {
            objective: "pay the invoices".to_owned(),
            number,
            of,
            justification: format!("invoice {number}"),
            uses: 1,
            what: Some(what),
            tags: Vec::new(),
        },
        scopes: ask.scopes.clone(),
        policy: ask.policy.clone(),
    }
}

fn exact(ask: &Ask) -> v1::step::What {
    v1::step::What::Exact(ask.digest.to_string())
}

/// A task of one exact step for each request.
pub(super) fn task(asks: &[Ask]) -> v1::SubmitTaskRequest {
    let of = u32::try_from(asks.len()).unwrap();
    let steps = (1..).zip(asks).map(|(number, ask)| step(ask, (number, of), exact(ask)));
    let steps = steps.map(|step| convert::step_request(step).unwrap()).collect();
    v1::SubmitTaskRequest { objective: "pay the invoices".to_owned(), steps }
}

pub(super) fn asks(paths: &[&str]) -> Vec<Ask> {
    paths.iter().map(|path| ask("h1", path, vec![patterned(5)])).collect()
}

fn using(ask: &Ask) -> v1::StepUse {
    convert::step_use(&ask.principal, &ask.operation, &ask.digest)
}

fn use_of(approval: &v1::Approval, ask: &Ask) -> v1::ClaimRequest {
    let digest = approval.request.clone().unwrap_or_default().digest;
    v1::ClaimRequest { step: Some(using(ask)), ..claim(&approval.id, digest) }
}

fn owner() -> v1::TaskOwner {
    v1::TaskOwner { agent: "build".to_owned(), task: String::new() }
}

impl Harness {
    /// One certificate's clients, for approvals and for tasks.
    pub(super) async fn both(
        &self,
        host: &str,
    ) -> (ApprovalsClient<Channel>, TasksClient<Channel>) {
        let channel = self.join(Role::Daemon, host, &[]).await;
        (ApprovalsClient::new(channel.clone()), TasksClient::new(channel))
    }

    async fn task_reviewer(
        &self,
        name: &str,
        groups: &[&str],
    ) -> (ReviewClient<Channel>, TaskReviewClient<Channel>) {
        let channel = self.join(Role::Reviewer, name, groups).await;
        (ReviewClient::new(channel.clone()), TaskReviewClient::new(channel))
    }
}

fn approval(task: &v1::Task, step: usize) -> v1::Approval {
    task.steps[step - 1].approval.clone().unwrap()
}

#[tokio::test]
async fn one_step_is_approved_and_only_its_operation_goes_through() {
    let harness = Harness::start().await;
    let (mut daemon, mut tasks) = harness.both("h1").await;
    let (mut ann, mut look) = harness.task_reviewer("ann", &["ops"]).await;
    let asks = asks(&["/1", "/2"]);
    let declared = tasks.submit(task(&asks)).await.unwrap().into_inner();
    // The reviewer's own copy: objective, order, and everything that the digest covers.
    let shown = look.show(get(&declared.id)).await.unwrap().into_inner();
    assert_eq!((shown.objective.as_str(), shown.steps.len()), ("pay the invoices", 2));
    let second = approval(&shown, 2);
    let digest = convert::checked(second.request.as_ref().unwrap()).unwrap();
    assert_eq!(second.request.as_ref().unwrap().body, asks[1].operation.body.clone().unwrap());
    ann.decide(vote(&second.id, digest, true)).await.unwrap();

    let second = daemon.request(convert::request(asks[1].clone())).await.unwrap().into_inner();
    assert_eq!((second.state(), &second.id), (v1::State::Approved, &approval(&shown, 2).id));
    // The first waits for its own step, and makes no second request.
    let first = daemon.request(convert::request(asks[0].clone())).await.unwrap().into_inner();
    assert_eq!((first.state(), &first.id), (v1::State::Pending, &approval(&shown, 1).id));
    // Neither a step's grant for another operation, nor a claim without one.
    for wrong in
        [use_of(&second, &asks[0]), v1::ClaimRequest { step: None, ..use_of(&second, &asks[1]) }]
    {
        let refused = daemon.claim(wrong).await.unwrap().into_inner();
        assert_eq!((refused.granted, refused.reason.as_str()), (false, "mismatch"));
    }
    let mine = use_of(&second, &asks[1]);
    assert!(daemon.claim(mine.clone()).await.unwrap().into_inner().granted);
    assert!(daemon.claim(mine).await.unwrap().into_inner().granted, "the same use once more");
    let spent = daemon.claim(use_of(&second, &asks[1])).await.unwrap().into_inner();
    assert_eq!((spent.granted, spent.reason.as_str()), (false, "spent"));
    let now = tasks
        .get(v1::GetTaskRequest { id: declared.id.clone(), owner: Some(owner()) })
        .await
        .unwrap()
        .into_inner();
    let states: Vec<_> = now.steps.iter().map(|s| s.approval.as_ref().unwrap().state()).collect();
    assert_eq!(states, [v1::State::Pending, v1::State::Spent]);
    assert_eq!(harness.audited("task.declared").await.len(), 1);
    assert_eq!(harness.audited("approval.requested").await.len(), 2, "no request of its own");
    assert_eq!(harness.audited("grant.claimed").await.len(), 1);
}

#[tokio::test]
async fn another_task_agent_host_or_rule_does_not_match() {
    let harness = Harness::start().await;
    let (mut daemon, mut tasks) = harness.both("h1").await;
    let (mut elsewhere, mut others) = harness.both("h2").await;
    let (mut ann, _) = harness.task_reviewer("ann", &["ops"]).await;
    let mine = ask("h1", "/1", vec![patterned(5)]);
    let declared = tasks.submit(task(std::slice::from_ref(&mine))).await.unwrap().into_inner();
    let step = approval(&declared, 1);
    let digest = step.request.clone().unwrap().digest;
    ann.decide(vote(&step.id, &digest, true)).await.unwrap();

    let again = |change: &dyn Fn(&mut Ask)| {
        let mut other = mine.clone();
        change(&mut other);
        other.digest = other.operation.digest(&other.principal);
        other
    };
    let other_task = again(&|ask| ask.principal.task = Some("t".to_owned()));
    let other_agent = again(&|ask| ask.principal.agent = AgentName::parse("test").unwrap());
    let stricter = again(&|ask| ask.scopes[0].quorum = 2);
    let more = again(&|ask| ask.scopes.push(scope("t", &["ops"], 1, 1)));
    for other in [&other_task, &other_agent, &stricter, &more] {
        let asked = daemon.request(convert::request(other.clone())).await.unwrap().into_inner();
        assert_eq!((asked.state(), asked.task_id.as_str()), (v1::State::Pending, ""));
    }
    for other in [&other_task, &other_agent] {
        let refused = daemon.claim(use_of(&step, other)).await.unwrap().into_inner();
        assert_eq!((refused.granted, refused.reason.as_str()), (false, "mismatch"));
    }
    let abroad = ask("h2", "/1", vec![patterned(5)]);
    let asked = elsewhere.request(convert::request(abroad.clone())).await.unwrap().into_inner();
    assert_eq!(asked.task_id, "");
    let refused = elsewhere.claim(use_of(&step, &abroad)).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    // Nor can another owner look, or another daemon's client cancel it.
    for wrong in [v1::TaskOwner { task: "t".to_owned(), ..owner() }, v1::TaskOwner::default()] {
        let ask = v1::GetTaskRequest { id: declared.id.clone(), owner: Some(wrong) };
        assert_eq!(tasks.get(ask).await.unwrap_err().code(), Code::NotFound);
    }
    let ask = v1::GetTaskRequest { id: declared.id.clone(), owner: Some(owner()) };
    assert_eq!(others.get(ask).await.unwrap_err().code(), Code::NotFound);
    let cancel = v1::CancelRequest { id: step.id.clone(), digest };
    assert_eq!(daemon.cancel(cancel).await.unwrap_err().code(), Code::NotFound);
    // The positive control.
    assert!(daemon.claim(use_of(&step, &mine)).await.unwrap().into_inner().granted);
}

#[tokio::test]
async fn a_pattern_lets_through_what_it_shows_as_often_as_it_says() {
    let harness = Harness::start().await;
    let (mut daemon, mut tasks) = harness.both("h1").await;
    let (mut ann, _) = harness.task_reviewer("ann", &["ops"]).await;
    let http = |path: &str, method: &str| {
        let mut ask = ask("h1", path, vec![patterned(5)]);
        ask.operation.fact("http.method", method);
        ask.operation.fact("http.scheme", "https");
        ask.operation.fact("http.authority", "api.example");
        ask.digest = ask.operation.digest(&ask.principal);
        ask
    };
    let kind = Kind::Http {
        method: "POST".to_owned(),
        origin: "https://api.example".to_owned(),
        path: "/keys/*".to_owned(),
        query: String::new(),
    };
    let pattern = v1::Pattern::from(Pattern { target: "api".to_owned(), kind });
    let mut asked = step(&http("/keys/1", "POST"), (1, 1), v1::step::What::Pattern(pattern));
    asked.step.uses = 2;
    let message = |asked: StepRequest| v1::SubmitTaskRequest {
        objective: "pay the invoices".to_owned(),
        steps: vec![convert::step_request(asked).unwrap()],
    };
    let declared = tasks.submit(message(asked.clone())).await.unwrap().into_inner();
    let step = approval(&declared, 1);
    let shown = ann.show(get(&step.id)).await.unwrap().into_inner();
    let digest = convert::checked(shown.request.as_ref().unwrap()).unwrap();
    ann.decide(vote(&step.id, digest, true)).await.unwrap();
    for wrong in [http("/keys/1/x", "POST"), http("/keys/1", "PUT"), http("/keys/%31", "POST")] {
        let refused = daemon.claim(use_of(&step, &wrong)).await.unwrap().into_inner();
        assert_eq!(refused.reason, "mismatch");
        let own = daemon.request(convert::request(wrong)).await.unwrap().into_inner();
        assert_eq!(own.task_id, "");
    }
    for (path, granted) in [("/keys/1", true), ("/keys/2", true), ("/keys/3", false)] {
        let found =
            daemon.request(convert::request(http(path, "POST"))).await.unwrap().into_inner();
        assert_eq!(found.id == step.id, granted, "{path}");
        let claimed = daemon.claim(use_of(&step, &http(path, "POST"))).await.unwrap().into_inner();
        assert_eq!(claimed.granted, granted, "{path}");
    }
    // Where the scope takes none, no pattern is taken.
    asked.scopes = vec![scope("s", &["ops"], 1, 5)];
    assert!(convert::step_request(asked).is_err());
}

#[tokio::test]
async fn a_bad_task_is_refused_on_record_and_changes_nothing() {
    let harness = Harness::start().await;
    let (_, mut tasks) = harness.both("h1").await;
    type Spoil = fn(&mut v1::SubmitTaskRequest);
    let cases: [(Spoil, &str); 9] = [
        (|t| t.steps.clear(), "a task has 1 to"),
        (|t| t.objective = "another".to_owned(), "step 1: it is not this task's"),
        (|t| t.steps.swap(0, 1), "step 1: it is not this task's"),
        (|t| t.steps[1].step = None, "step 2: step is missing"),
        (|t| t.steps[1].step.as_mut().unwrap().justification.clear(), "step 2: justification"),
        (|t| t.steps[1].step.as_mut().unwrap().uses = 6, "step 2: step.uses"),
        (|t| t.steps[0].body = Bytes::from_static(b"x"), "step 1: the body"),
        (|t| t.steps[0].scopes[0].quorum = 2, "step 1: the digest"),
        (
            |t| t.steps[0].principal.as_mut().unwrap().host = "h2".to_owned(),
            "step 1: the request names",
        ),
    ];
    let count = cases.len();
    for (spoil, why) in cases {
        let mut bad = task(&asks(&["/1", "/2"]));
        spoil(&mut bad);
        let refused = tasks.submit(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{why}");
        assert!(refused.message().starts_with(why), "{why}: {}", refused.message());
    }
    let paths: Vec<String> = (0..=STEPS).map(|n| format!("/{n}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    assert!(tasks.submit(task(&asks(&paths[..STEPS]))).await.is_ok(), "as many as fit");
    assert_eq!(harness.audited("task.refused").await.len(), count);
    // The cap of what may wait for one agent: all of it or nothing.
    let full = tasks.submit(task(&asks(&["/x", "/y"]))).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert_eq!(harness.audited("task.declared").await.len(), 1);
    assert_eq!(harness.audited("approval.requested").await.len(), STEPS);
}

#[tokio::test]
async fn the_same_task_is_one_while_it_is_open_and_outlives_a_restart() {
    let mut harness = Harness::start().await;
    let (mut daemon, mut tasks) = harness.both("h1").await;
    let (mut ann, mut look) = harness.task_reviewer("ann", &["ops"]).await;
    let (_, mut eve) = harness.task_reviewer("eve", &["others"]).await;
    let asks = asks(&["/1"]);
    let declared = tasks.submit(task(&asks)).await.unwrap().into_inner();
    harness.stop().await;
    harness.run().await;
    let again = tasks.submit(task(&asks)).await.unwrap().into_inner();
    assert_eq!(again, declared);
    let all = v1::ListTasksRequest::default();
    assert_eq!(look.list(all.clone()).await.unwrap().into_inner().tasks.len(), 1);
    assert_eq!(eve.list(all).await.unwrap().into_inner().tasks, []);
    assert_eq!(eve.show(get(&declared.id)).await.unwrap_err().code(), Code::NotFound);
    let step = approval(&declared, 1);
    let digest = step.request.clone().unwrap().digest;
    ann.decide(vote(&step.id, &digest, false)).await.unwrap();
    // A denial stands for a while; after it the task can be put anew.
    assert_eq!(tasks.submit(task(&asks)).await.unwrap().into_inner().id, declared.id);
    let own = daemon.request(convert::request(asks[0].clone())).await.unwrap().into_inner();
    assert_eq!(own.task_id, "", "a denied step lets nothing through and holds nothing up");
    harness.pass(Duration::from_secs(86_400));
    let anew = daemon.claim(use_of(&step, &asks[0])).await;
    assert!(anew.is_err() || !anew.unwrap().into_inner().granted);
}

#[tokio::test]
async fn the_daemons_client_uses_a_step_and_checks_it() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let (mut ann, _) = harness.task_reviewer("ann", &["ops"]).await;
    let ask = ask("h1", "/1", vec![patterned(5)]);
    let steps = vec![step(&ask, (1, 1), exact(&ask))];
    let declared = approvals.submit("pay the invoices".to_owned(), steps).await.unwrap();
    let id = approval(&declared, 1).id;
    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    assert_eq!((ticket.id().to_string(), ticket.state()), (id.clone(), State::Pending));
    // A client that leaves withdraws what it asked for, never a declared step.
    let mut other = approvals.request(ask.clone()).await.unwrap();
    other.cancel_on_drop(true);
    drop(other);
    let digest = approval(&declared, 1).request.unwrap().digest;
    ann.decide(vote(&id, digest, true)).await.unwrap();
    let state = ticket.changed().await.unwrap();
    assert!(matches!(state, State::Approved { .. }));
    let view = ticket.view();
    assert!(view.of_step);
    let op = ask.operation.id;
    let none = approvals.claim(&view.id, &view.digest, op, None).await;
    assert_eq!(none, Err(ApprovalError::NotGranted(NotGranted::Mismatch)));
    let claim = approvals.claim(&view.id, &view.digest, op, Some(using(&ask))).await.unwrap();
    assert_eq!(claim.decided_by, ["ann"]);
    let seen = approvals.task(&ask.principal, declared.id.clone()).await.unwrap();
    assert_eq!(approval(&seen, 1).state(), v1::State::Spent);
    let mut stranger = ask.principal.clone();
    stranger.task = Some("t".to_owned());
    assert_eq!(approvals.task(&stranger, declared.id).await, Err(ApprovalError::Unknown));
    assert!(approvals.tasks(&stranger).await.unwrap().is_empty());
    assert_eq!(approvals.tasks(&ask.principal).await.unwrap().len(), 1);
}
