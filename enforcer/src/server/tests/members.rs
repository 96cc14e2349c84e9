//! Taking a member's right away.

use super::*;
use enforcer_proto::v1::watch_event::Event;

async fn remove(harness: &Harness, role: Role, name: &str) -> v1::RemoveMemberResponse {
    let core = harness.server().core();
    crate::server::members::remove(core, "test", gone(role, name)).await.unwrap()
}

async fn pending(
    daemon: &mut ApprovalsClient<Channel>,
    host: &str,
    path: &str,
) -> (String, String) {
    let asked = daemon.request(wire(host, path)).await.unwrap().into_inner();
    (asked.id, asked.request.unwrap().digest)
}

#[tokio::test]
async fn a_removed_daemon_claims_nothing_and_others_go_on() {
    let harness = Harness::start().await;
    let mut gone = harness.daemon("h1").await;
    let mut other = harness.daemon("h2").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let (granted, digest) = pending(&mut gone, "h1", "/1").await;
    let (waiting, _) = pending(&mut gone, "h1", "/2").await;
    let (used, used_digest) = pending(&mut gone, "h1", "/3").await;
    let (kept, kept_digest) = pending(&mut other, "h2", "/1").await;
    for (id, digest) in [(&granted, &digest), (&used, &used_digest), (&kept, &kept_digest)] {
        ops.decide(vote(id, digest, true)).await.unwrap();
    }
    assert!(gone.claim(claim(&used, &used_digest)).await.unwrap().into_inner().granted);
    let unused = harness.token(Role::Daemon, "h1", &[]).await;
    let mut news = gone.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    while !matches!(news.message().await.unwrap().unwrap().event, Some(Event::Synced(_))) {}
    let mut others = other.watch(v1::WatchRequest {}).await.unwrap().into_inner();

    let done = remove(&harness, Role::Daemon, "h1").await;
    assert_eq!((done.cancelled, done.revoked, done.tokens), (1, 1, 1));

    // Its stream tells what was taken from it, and ends at once.
    let mut states = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(2), async {
        loop {
            match news.message().await {
                Ok(Some(event)) => {
                    if let Some(Event::Approval(approval)) = event.event {
                        states.push(approval.state());
                    }
                }
                Ok(None) => panic!("it ended without a word"),
                Err(status) => return status,
            }
        }
    });
    assert_eq!(ended.await.unwrap().code(), Code::PermissionDenied);
    states.sort();
    assert_eq!(states, [v1::State::Cancelled, v1::State::Revoked]);
    // Nothing works any more with its certificate.
    let refusals = [
        gone.claim(claim(&granted, &digest)).await.unwrap_err(),
        gone.request(wire("h1", "/4")).await.unwrap_err(),
        gone.get(get(&granted)).await.unwrap_err(),
        gone.watch(v1::WatchRequest {}).await.unwrap_err(),
    ];
    assert!(refusals.iter().all(|status| status.code() == Code::PermissionDenied), "{refusals:?}");
    let dir = harness.dir.path().join("again");
    let spent = join::join(&harness.url(), &unused, &dir).await;
    assert!(matches!(spent, Err(join::JoinError::Refused(_))), "{spent:?}");
    // What was decided and used stays as it was, and is on record; others go on.
    let shown = ops.show(get(&used)).await.unwrap().into_inner();
    assert_eq!((shown.state(), shown.votes.len()), (v1::State::Spent, 1));
    assert_eq!(ops.show(get(&waiting)).await.unwrap().into_inner().state(), v1::State::Cancelled);
    assert!(other.claim(claim(&kept, &kept_digest)).await.unwrap().into_inner().granted);
    assert!(others.message().await.unwrap().is_some());
    let removed = harness.audited("member.removed").await;
    assert_eq!((removed.len(), removed[0].subject.as_str()), (1, "daemon/h1"));
    assert_eq!((removed[0].actor.as_str(), removed[0].detail.as_str()), ("test", "left"));
}

#[tokio::test]
async fn who_joins_again_has_a_right_again_and_the_old_certificate_has_none() {
    let harness = Harness::start().await;
    let mut old = harness.daemon("h1").await;
    remove(&harness, Role::Daemon, "h1").await;
    harness.pass(Duration::from_secs(1));
    let mut new = harness.daemon("h1").await;
    assert!(new.request(wire("h1", "/1")).await.is_ok());
    assert_eq!(old.request(wire("h1", "/1")).await.unwrap_err().code(), Code::PermissionDenied);
    // Over a restart too.
    let mut harness = harness;
    harness.stop().await;
    harness.run().await;
    assert!(new.request(wire("h1", "/1")).await.is_ok());
    assert_eq!(old.request(wire("h1", "/1")).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_removed_persons_vote_on_what_waits_is_withdrawn_and_decisions_stay() {
    let harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    let mut eve = harness.reviewer("eve", &["ops"]).await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let two = |path: &str| convert::request(ask("h1", path, vec![scope("s", &["ops"], 2, 1)]));
    let waits = daemon.request(two("/1")).await.unwrap().into_inner();
    let decided = daemon.request(wire("h1", "/2")).await.unwrap().into_inner();
    let (digest, done) = (waits.request.unwrap().digest, decided.request.unwrap().digest);
    eve.decide(vote(&waits.id, &digest, true)).await.unwrap();
    eve.decide(vote(&decided.id, &done, true)).await.unwrap();
    assert_eq!(remove(&harness, Role::Reviewer, "eve").await.withdrawn, 1);
    assert_eq!(harness.audited("vote.withdrawn").await.len(), 1);
    assert_eq!(eve.show(get(&waits.id)).await.unwrap_err().code(), Code::PermissionDenied);
    // One yes is not two any more; a decision that was made stands.
    let after = ann.decide(vote(&waits.id, &digest, true)).await.unwrap().into_inner();
    assert_eq!((after.state(), after.votes.len()), (v1::State::Pending, 1));
    assert!(daemon.claim(claim(&decided.id, &done)).await.unwrap().into_inner().granted);
}

#[tokio::test]
async fn a_running_daemon_hears_of_it_and_comes_back_with_a_new_token() {
    let harness = Harness::start().await;
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let mut options = harness.options("h1");
    let file = harness.dir.path().join("token");
    options.token_file = Some(file.clone());
    let client = Client::start(options).unwrap();
    client.ready().await;
    let approvals = Approvals::Remote(client.clone());
    remove(&harness, Role::Daemon, "h1").await;
    let lost = async {
        while approvals.connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(2), lost).await.unwrap();
    harness.pass(Duration::from_secs(1));
    std::fs::write(&file, harness.token(Role::Daemon, "h1", &[]).await.reveal()).unwrap();
    tokio::time::timeout(Duration::from_secs(20), client.ready()).await.unwrap();
}

#[tokio::test]
async fn a_stream_does_not_outlive_the_groups_that_it_began_with() {
    let harness = Harness::start().await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let mut news = ann.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    assert!(news.message().await.unwrap().is_some());
    drop(harness.join(Role::Reviewer, "ann", &["other"]).await);
    let ended = async {
        loop {
            if let Err(status) = news.message().await {
                return status;
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(2), ended).await.unwrap();
    assert_eq!(ended.code(), Code::Aborted);
    // The first certificate still is good, for the new groups.
    assert!(ann.watch(v1::WatchRequest {}).await.is_ok());
}

#[tokio::test]
async fn only_who_is_there_can_be_removed_and_the_list_has_who_is_there() {
    let harness = Harness::start().await;
    let mut admin = AdminClient::new(harness.join(Role::Admin, "root", &[]).await);
    drop(harness.join(Role::Reviewer, "ann", &["ops"]).await);
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let nobody = admin.remove_member(gone(Role::Daemon, "ann")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound);
    admin.remove_member(gone(Role::Daemon, "h1")).await.unwrap();
    let twice = admin.remove_member(gone(Role::Daemon, "h1")).await.unwrap_err();
    assert_eq!(twice.code(), Code::NotFound);
    let members = admin.list_members(v1::ListMembersRequest {}).await.unwrap().into_inner().members;
    let names: Vec<_> = members.iter().map(|m| (m.role(), m.name.as_str())).collect();
    assert_eq!(names, [(v1::Role::Admin, "root"), (v1::Role::Reviewer, "ann")]);
    assert_eq!(members[1].groups, ["ops"]);
    // An admin too, by its own hand.
    admin.remove_member(gone(Role::Admin, "root")).await.unwrap();
    let over = admin.list_members(v1::ListMembersRequest {}).await.unwrap_err();
    assert_eq!(over.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn removing_again_settles_what_was_not() {
    use crate::server::audit::{Code as Audit, Entry};
    let harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    pending(&mut daemon, "h1", "/1").await;
    // As far as it comes when the store fails in the middle.
    let core = harness.server().core();
    let host = crate::approval::identity::Subject::new(Role::Daemon, "h1").unwrap();
    let entry = Entry::new(Audit::MemberRemoved, "test", &host, "");
    assert!(core.store.remove(&host, entry, core.clock.now()).await.unwrap().is_some());
    assert_eq!(core.store.live(None).await.unwrap().len(), 1);
    let done = remove(&harness, Role::Daemon, "h1").await;
    assert_eq!((done.cancelled, done.tokens), (1, 0));
    let again = crate::server::members::remove(core, "test", gone(Role::Daemon, "h1")).await;
    assert_eq!(again.unwrap_err().code(), Code::NotFound);
}
