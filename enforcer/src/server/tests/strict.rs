//! Rules beyond who and how many: reasons, hours, escalation, and the broken glass.

use super::*;
use crate::server::hub::Change;

#[tokio::test]
async fn a_reason_and_hours_are_asked_of_a_vote() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let mut bob = harness.reviewer("bob", &["ops"]).await;
    let now = harness.time.load(Ordering::Relaxed);
    let minute = |at: i64| {
        let minute = at.div_euclid(60_000).rem_euclid(24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    // Opens in an hour, for an hour, in UTC.
    let hours = format!("{}-{} UTC", minute(now + 3_600_000), minute(now + 7_200_000));
    let rule = Scope {
        reason_pattern: Some("^CHG-[0-9]+".to_owned()),
        request_ttl: Duration::from_secs(3 * 3600),
        hours: vec![hours.parse().unwrap()],
        ..scope("s", &["ops"], 1, 1)
    };
    let ask = ask("h1", "/pay", vec![rule]);
    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    let with = |reason: &str| {
        let reason = reason.to_owned();
        v1::DecideRequest { reason, ..vote(ticket.id(), ask.digest, true) }
    };
    let refused = ann.decide(with("because")).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("CHG-"), "{}", refused.message());
    let refused = ann.decide(with("CHG-1")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains(&hours), "{}", refused.message());
    harness.pass(Duration::from_secs(3600 + 1));
    bob.decide(with("CHG-1 by hand")).await.unwrap();
    assert!(matches!(ticket.changed().await, Ok(State::Approved { .. })));
    assert_eq!(harness.audited("vote.refused").await.len(), 2);
}

#[tokio::test]
async fn a_request_that_waits_comes_before_more_people() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    drop(harness.reviewer("ann", &["ops"]).await);
    let mut lea = harness.reviewer("lea", &["leads"]).await;
    let rule = Scope {
        escalate_after: Some(Duration::from_secs(20)),
        escalate_to: vec!["leads".to_owned()],
        ..scope("s", &["ops"], 1, 1)
    };
    let ask = ask("h1", "/pay", vec![rule]);
    let ticket = approvals.request(ask.clone()).await.unwrap();
    let unseen = lea.show(get(ticket.id())).await.unwrap_err();
    assert_eq!(unseen.code(), Code::NotFound);
    let yes = vote(ticket.id(), ask.digest, true);
    assert_eq!(lea.decide(yes.clone()).await.unwrap_err().code(), Code::NotFound);

    let mut news = harness.server().core().hub.watch();
    harness.pass(Duration::from_secs(20));
    let Change::Record(record) = news.recv().await.unwrap() else { panic!("missed") };
    assert_eq!(record.escalated, ["s"]);
    let audited = harness.audited("approval.escalated").await;
    assert_eq!((audited.len(), audited[0].detail.as_str()), (1, "scope=s to=leads"));
    assert_eq!(lea.show(get(ticket.id())).await.unwrap().into_inner().escalated, ["s"]);
    let decided = lea.decide(yes).await.unwrap().into_inner();
    assert_eq!(decided.state, i32::from(v1::State::Approved));
    assert_eq!(harness.audited("approval.escalated").await.len(), 1);
}

#[tokio::test]
async fn a_broken_glass_is_loud_and_somebody_else_reviews_it() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let mut olaf = harness.reviewer("olaf", &["oncall"]).await;
    let rule = Scope { break_glass: vec!["oncall".to_owned()], ..scope("s", &["ops"], 2, 1) };
    let ask = ask("h1", "/pay", vec![rule]);
    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    let plain = vote(ticket.id(), ask.digest, true);
    let glass = v1::DecideRequest { break_glass: true, ..plain.clone() };
    assert_eq!(ann.decide(glass.clone()).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(olaf.decide(plain).await.unwrap_err().code(), Code::PermissionDenied);
    olaf.decide(glass).await.unwrap();
    assert!(matches!(ticket.changed().await, Ok(State::Approved { .. })));
    let claim = approvals.claim(&ticket.id(), &ask.digest, OperationId::new(), None).await.unwrap();
    assert!(claim.votes.iter().all(|vote| vote.break_glass));
    let audited = harness.audited("glass.broken").await;
    assert_eq!(audited[0].actor, "reviewer/olaf");
    assert_eq!(audited[0].detail, "scopes=s reason=because");

    let open = v1::ListRequest { unreviewed: true, ..v1::ListRequest::default() };
    let listed = ann.list(open.clone()).await.unwrap().into_inner().approvals;
    assert!(listed.len() == 1 && listed[0].unreviewed);
    let look =
        |note: &str| v1::ReviewGlassRequest { id: ticket.id().to_string(), note: note.to_owned() };
    assert_eq!(olaf.review_glass(look("mine")).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(ann.review_glass(look("")).await.unwrap_err().code(), Code::InvalidArgument);
    let looked = ann.review_glass(look("it was right")).await.unwrap().into_inner();
    assert_eq!(looked.review.unwrap().person, "ann");
    assert!(ann.list(open).await.unwrap().into_inner().approvals.is_empty());
    let again = ann.review_glass(look("twice")).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(harness.audited("glass.reviewed").await.len(), 1);
}

#[tokio::test]
async fn a_report_has_what_the_caller_may_see() {
    let harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let mut eve = harness.reviewer("eve", &["sec"]).await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let ticket = approvals.request(ask.clone()).await.unwrap();
    let mute = v1::DecideRequest { reason: String::new(), ..vote(ticket.id(), ask.digest, true) };
    ann.decide(mute).await.unwrap();
    let report = ann.report(v1::ReportRequest::default()).await.unwrap().into_inner();
    let found: Vec<(&str, &str)> =
        report.findings.iter().map(|f| (f.code.as_str(), f.person.as_str())).collect();
    assert_eq!(found, [("too-fast", "ann"), ("no-reason", "ann")]);
    assert_eq!(report.findings[0].approvals, [ticket.id().to_string()]);
    let other = eve.report(v1::ReportRequest::default()).await.unwrap().into_inner();
    assert_eq!((other.approvals, other.findings.len()), (0, 0));
    let since_unix_ms = harness.time.load(Ordering::Relaxed) + 1;
    let later = ann.report(v1::ReportRequest { since_unix_ms }).await.unwrap().into_inner();
    assert_eq!(later.approvals, 0);
    let mut admin = ReviewClient::new(harness.join(Role::Admin, "olaf", &[]).await);
    let all = admin.report(v1::ReportRequest::default()).await.unwrap().into_inner();
    assert_eq!(all, report);
}
