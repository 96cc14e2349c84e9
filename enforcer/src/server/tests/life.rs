//! One approval from the request to its end.

use super::*;
use crate::server::hub::Change;

#[tokio::test]
async fn asked_approved_claimed_once() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let digest = ask.digest;

    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    assert_eq!(ticket.state(), State::Pending);
    let shown = ops.show(get(ticket.id())).await.unwrap().into_inner();
    let request = shown.request.unwrap();
    let (operation, shown_digest) = convert::checked_operation(&request).unwrap();
    assert_eq!(shown_digest, digest);
    assert_eq!(operation.body, ask.operation.body);

    let early = approvals.claim(&ticket.id(), &digest, OperationId::new(), None).await;
    assert_eq!(early, Err(ApprovalError::NotGranted(NotGranted::Pending)));
    ops.decide(vote(ticket.id(), digest, true)).await.unwrap();
    let by = vec!["ann".to_owned()];
    assert_eq!(ticket.changed().await, Ok(State::Approved { by: by.clone() }));

    let operation = OperationId::new();
    let won = approvals.claim(&ticket.id(), &digest, operation, None).await.unwrap();
    assert_eq!((won.decided_by.clone(), won.scope.as_str()), (by, "s"));
    let why: Vec<_> =
        won.votes.iter().map(|v| (v.person.as_str(), v.reason.as_str(), v.unix_ms)).collect();
    assert_eq!(why, [("ann", "because", harness.time.load(Ordering::Relaxed))]);
    let again = approvals.claim(&ticket.id(), &digest, operation, None).await.unwrap();
    assert_eq!(again, won, "the same operation is the same use");
    let other = approvals.claim(&ticket.id(), &digest, OperationId::new(), None).await;
    assert_eq!(other, Err(ApprovalError::NotGranted(NotGranted::Spent)));
    assert_eq!(ticket.changed().await, Ok(State::Spent));
    for code in ["approval.requested", "approval.voted", "approval.approved", "grant.claimed"] {
        assert_eq!(harness.audited(code).await.len(), 1, "{code}");
    }
}

#[tokio::test]
async fn denied_and_the_denial_stands_for_a_while() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    ops.decide(vote(ticket.id(), ask.digest, false)).await.unwrap();
    let denied = ticket.changed().await.unwrap();
    let State::Denied { by, reason, votes } = &denied else { panic!("{denied:?}") };
    assert_eq!((by.as_slice(), reason.as_str()), (["ann".to_owned()].as_slice(), "because"));
    assert_eq!(
        votes.iter().map(|v| (v.approve, v.scope.as_str())).collect::<Vec<_>>(),
        [(false, "s")]
    );
    let again = approvals.request(ask.clone()).await.unwrap();
    assert_eq!((again.id(), again.state()), (ticket.id(), denied));
    harness.pass(Duration::from_secs(31));
    let later = approvals.request(ask).await.unwrap();
    assert_ne!(later.id(), ticket.id());
    assert_eq!(later.state(), State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_racing_claims_one_wins() {
    let harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let asked = daemon.request(wire("h1", "/pay")).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    ops.decide(vote(&asked.id, &digest, true)).await.unwrap();
    let mut racers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut daemon, claim) = (daemon.clone(), claim(&asked.id, &digest));
        racers.spawn(async move { daemon.claim(claim).await.unwrap().into_inner() });
    }
    let answers = racers.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.granted).count(), 1);
    assert!(answers.iter().all(|answer| answer.granted || answer.reason == "spent"));
    assert_eq!(harness.audited("grant.claimed").await.len(), 1);
    assert_eq!(harness.audited("claim.refused").await.len(), 63);
}

#[tokio::test]
async fn another_digest_claims_nothing() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let scopes = vec![scope("s", &["ops"], 1, 1)];
    let asked = ask("h1", "/pay", scopes.clone());
    let other = ask("h1", "/steal", scopes);
    let ticket = approvals.request(asked.clone()).await.unwrap();
    let wrong = ops.decide(vote(ticket.id(), other.digest, true)).await.unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition);
    ops.decide(vote(ticket.id(), asked.digest, true)).await.unwrap();
    let refused = approvals.claim(&ticket.id(), &other.digest, OperationId::new(), None).await;
    assert_eq!(refused, Err(ApprovalError::NotGranted(NotGranted::Mismatch)));
    let audited = harness.audited("claim.refused").await;
    assert_eq!(audited[0].detail, "mismatch");
    assert_eq!(audited[0].subject, ticket.id().to_string());
    approvals.claim(&ticket.id(), &asked.digest, OperationId::new(), None).await.unwrap();
}

#[tokio::test]
async fn a_request_whose_digest_is_not_its_own_is_refused() {
    let harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    let spoils: [fn(&mut v1::ApprovalRequest); 5] = [
        |r| r.operation.as_mut().unwrap().resource = "https://api.example/harmless".to_owned(),
        |r| r.body = Bytes::from_static(b"{\"sum\":0}"),
        |r| r.principal.as_mut().unwrap().host = "h2".to_owned(),
        |r| r.scopes.clear(),
        |r| r.scopes[0].quorum = 0,
    ];
    for spoil in spoils {
        let mut request = wire("h1", "/pay");
        spoil(&mut request);
        let refused = daemon.request(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    assert!(harness.audited("approval.requested").await.is_empty());
}

#[tokio::test]
async fn times_run_out() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let scopes = vec![scope("s", &["ops"], 1, 1)];
    let (one, two) = (ask("h1", "/1", scopes.clone()), ask("h1", "/2", scopes));
    let mut pending = approvals.request(one).await.unwrap();
    harness.pass(Duration::from_secs(60));
    assert_eq!(pending.changed().await, Ok(State::Expired));

    let mut granted = approvals.request(two.clone()).await.unwrap();
    harness.pass(Duration::from_secs(59));
    ops.decide(vote(granted.id(), two.digest, true)).await.unwrap();
    assert!(matches!(granted.changed().await, Ok(State::Approved { .. })));
    harness.pass(Duration::from_secs(29));
    assert_eq!(granted.state().as_str(), "approved", "the grant's clock starts at the decision");
    harness.pass(Duration::from_secs(1));
    assert_eq!(granted.changed().await, Ok(State::Expired));
    let late = approvals.claim(&granted.id(), &two.digest, OperationId::new(), None).await;
    assert_eq!(late, Err(ApprovalError::NotGranted(NotGranted::Expired)));
    assert_eq!(harness.audited("approval.expired").await.len(), 1);
    assert_eq!(harness.audited("grant.expired").await.len(), 1);
}

#[tokio::test]
async fn identical_requests_are_one_and_the_last_to_leave_withdraws() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let first = approvals.request(ask.clone()).await.unwrap();
    let mut second = approvals.request(ask.clone()).await.unwrap();
    assert_eq!(first.id(), second.id());
    let shown = ops.show(get(first.id())).await.unwrap().into_inner();
    assert_eq!(shown.asked, 2);
    let id = first.id();
    first.cancel().await;
    assert_eq!(approvals.status(&id).await.unwrap().state, State::Pending);
    second.cancel_on_drop(true);
    let mut watching = harness.server().core().hub.watch_host("h1");
    drop(second);
    let Change::Record(record) = watching.recv().await.unwrap() else { panic!("missed") };
    assert_eq!(record.phase.as_str(), "cancelled");
    assert_eq!(approvals.status(&id).await.unwrap().state, State::Cancelled);
}

#[tokio::test]
async fn a_request_whose_id_was_handed_out_outlives_its_waiter() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let first = approvals.request(ask.clone()).await.unwrap();
    let id = first.id();
    drop(first);
    let second = approvals.request(ask.clone()).await.unwrap();
    assert_eq!(second.id(), id);
    second.cancel().await;
    // A later call on the same connection: a withdrawal would have come before it.
    let third = approvals.request(ask).await.unwrap();
    assert_eq!((third.id(), third.state()), (id, State::Pending));
    assert!(harness.audited("approval.cancelled").await.is_empty());
}

#[tokio::test]
async fn a_revoked_grant_is_told_even_when_it_is_spent() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let mut revoked = approvals.revoked();
    let ticket = approvals.request(ask.clone()).await.unwrap();
    let id = ticket.id();
    ops.decide(vote(id, ask.digest, true)).await.unwrap();
    approvals.claim(&id, &ask.digest, OperationId::new(), None).await.unwrap();
    drop(ticket);
    let take_back = v1::RevokeRequest { id: id.to_string(), reason: "oops".to_owned() };
    ops.revoke(take_back.clone()).await.unwrap();
    assert_eq!(revoked.recv().await, Ok(id));
    assert_eq!(ops.revoke(take_back).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn two_people_in_every_scope() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ann = harness.reviewer("ann", &["ops", "sec"]).await;
    let mut bob = harness.reviewer("bob", &["ops"]).await;
    let mut eve = harness.reviewer("eve", &["sec"]).await;
    let scopes = vec![scope("a", &["ops"], 2, 5), scope("b", &["sec"], 1, 1)];
    let ask = ask("h1", "/pay", scopes);
    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    let id = ticket.id();
    let state = |answer: v1::Approval| v1::State::try_from(answer.state).unwrap();
    let yes = || vote(id, ask.digest, true);
    assert_eq!(state(ann.decide(yes()).await.unwrap().into_inner()), v1::State::Pending);
    assert_eq!(state(ann.decide(yes()).await.unwrap().into_inner()), v1::State::Pending);
    assert_eq!(state(eve.decide(yes()).await.unwrap().into_inner()), v1::State::Pending);
    let changed = ann.decide(vote(id, ask.digest, false)).await.unwrap_err();
    assert_eq!(changed.code(), Code::FailedPrecondition, "the first vote counts");
    assert_eq!(state(bob.decide(yes()).await.unwrap().into_inner()), v1::State::Approved);
    loop {
        if let State::Approved { by } = ticket.changed().await.unwrap() {
            assert_eq!(by, ["ann", "eve", "bob"]);
            break;
        }
    }
    assert_eq!(ticket.view().uses_left, 1, "the strictest scope's number");
}
