//! Several servers over one PostgreSQL.

use super::policies::{FORBID, RULES, SCOPES, files, next, policies, put, under};
use super::*;
use crate::server::people::{Proven, session};
use crate::server::run::StartError;
use crate::server::store::conformance::place::{Server, database};
use enforcer_proto::v1::policies_client::PoliciesClient;
use enforcer_proto::v1::policy_news::News;
use std::time::Instant;

const PATIENCE: Duration = Duration::from_secs(100);

fn store(url: &str) -> String {
    format!("[store]\npostgres = \"{url}\"\n")
}

/// Servers over one database, with one CA and one time.
async fn replicas(count: usize, url: &str) -> Vec<Harness> {
    let mut all: Vec<Harness> = vec![Harness::start_with(&store(url)).await];
    while all.len() < count {
        let mut next = Harness::made(&store(url));
        copy_ca(&all[0], &next);
        next.time = Arc::clone(&all[0].time);
        next.run().await;
        all.push(next);
    }
    all
}

fn copy_ca(from: &Harness, to: &Harness) {
    std::fs::create_dir_all(to.config.ca_dir()).unwrap();
    for file in ["ca.pem", "ca.key", "policy.key"] {
        let to = to.config.ca_dir().join(file);
        std::fs::copy(from.config.ca_dir().join(file), to).unwrap();
    }
}

/// The holder of an identity that another server issued, here.
fn at(here: &Harness, issuer: &Harness, role: Role, name: &str) -> Channel {
    let identity = Identity::load(&issuer.identity_dir(role, name)).unwrap().unwrap();
    tls::channel(&here.url(), &identity).unwrap()
}

async fn soon<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: never");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_64_racing_claims_over_three_servers_one_wins() {
    let all = replicas(3, &database()).await;
    let mut daemon = all[0].daemon("h1").await;
    let mut ann = all[1].reviewer("ann", &["ops"]).await;
    for round in 0..3 {
        let asked = daemon.request(wire("h1", &format!("/{round}"))).await.unwrap().into_inner();
        let digest = asked.request.unwrap().digest;
        ann.decide(vote(&asked.id, &digest, true)).await.unwrap();
        let mut racers = tokio::task::JoinSet::new();
        for n in 0..64 {
            let here = at(&all[n % 3], &all[0], Role::Daemon, "h1");
            let claim = claim(&asked.id, &digest);
            racers.spawn(async move {
                let done = ApprovalsClient::new(here).claim(claim).await.unwrap().into_inner();
                (done.granted, done.reason)
            });
        }
        let done = racers.join_all().await;
        assert_eq!(done.iter().filter(|(granted, _)| *granted).count(), 1);
        assert!(done.iter().all(|(granted, reason)| *granted || reason == "spent"), "{done:?}");
    }
    assert_eq!(all[2].audited("grant.claimed").await.len(), 3, "each once, in one whole chain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_on_one_wakes_the_waiter_on_another_and_a_revocation_reaches_it() {
    let all = replicas(2, &database()).await;
    let approvals = all[0].client("h1").await;
    drop(all[0].reviewer("ann", &["ops"]).await);
    let mut ann = ReviewClient::new(at(&all[1], &all[0], Role::Reviewer, "ann"));
    let mut times = Vec::new();
    for round in 0..20 {
        let ask = ask("h1", &format!("/{round}"), vec![scope("s", &["ops"], 1, 2)]);
        let mut ticket = approvals.request(ask.clone()).await.unwrap();
        let waiting = tokio::spawn(async move {
            let state = ticket.changed().await;
            (Instant::now(), state, ticket)
        });
        let id = {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let here = all[1].server().core().store.live(None).await.unwrap();
                let found = here.into_iter().find(|r| r.digest == ask.digest.to_string());
                match found {
                    Some(record) => break record.id,
                    None => assert!(Instant::now() < deadline),
                }
            }
        };
        let asked = Instant::now();
        ann.decide(vote(id, ask.digest, true)).await.unwrap();
        let answered = Instant::now();
        let (woken, state, mut ticket) =
            tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
        assert!(matches!(state, Ok(State::Approved { .. })), "{state:?}");
        times.push((woken - asked, woken.saturating_duration_since(answered)));
        let taken = v1::RevokeRequest { id: id.to_string(), reason: "no".to_owned() };
        ann.revoke(taken).await.unwrap();
        let state = tokio::time::timeout(PATIENCE, ticket.changed()).await.unwrap();
        assert!(matches!(state, Ok(State::Revoked)), "{state:?}");
    }
    times.sort();
    let (whole, after) = times[times.len() / 2];
    println!(
        "decision on one server to waiter on another: {whole:?} in all, {after:?} after its answer (median of {})",
        times.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_from_a_member_on_one_is_taken_on_all() {
    let all = replicas(2, &database()).await;
    drop(all[0].reviewer("ann", &["ops"]).await);
    let mut ann = ReviewClient::new(at(&all[1], &all[0], Role::Reviewer, "ann"));
    let mut news = ann.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    assert!(news.message().await.unwrap().is_some());
    // Somebody who signed in at one is signed in at both.
    let subject = crate::approval::identity::Subject::new(Role::Viewer, "vera").unwrap();
    let (shown, groups) = ("Vera".to_owned(), Vec::new());
    let proven = Proven { subject, groups, account: None, shown };
    let (one, two) = (all[0].server().core(), all[1].server().core());
    assert!(crate::server::people::admit(one, &proven).await.unwrap().is_ok());
    let cookie = session::begin(one, &proven).await.unwrap();
    let signed = session::find(two, &cookie).await.unwrap().expect("signed in here too");
    assert!(session::once(one, "a secret", 9).await.unwrap());
    assert!(!session::once(two, "a secret", 9).await.unwrap(), "used on one, used on all");
    session::end(two, "test", &signed.key, "over").await.unwrap();
    assert!(session::find(one, &cookie).await.unwrap().is_none());

    crate::server::members::remove(one, "test", gone(Role::Reviewer, "ann")).await.unwrap();
    let ended = async {
        loop {
            if let Err(status) = news.message().await {
                return status;
            }
        }
    };
    let ended = tokio::time::timeout(PATIENCE, ended).await.unwrap();
    assert_eq!(ended.code(), Code::PermissionDenied);
    assert_eq!(ann.show(get("x")).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_member_had_begun_ends_though_its_server_died() {
    use crate::server::audit::{Code, Entry};
    let all = replicas(2, &database()).await;
    let mut daemon = all[0].daemon("h1").await;
    daemon.request(wire("h1", "/1")).await.unwrap();
    let (one, two) = (all[0].server().core(), all[1].server().core());
    assert_eq!(two.store.live(None).await.unwrap().len(), 1);
    // As far as it comes before it dies.
    let host = crate::approval::identity::Subject::new(Role::Daemon, "h1").unwrap();
    let entry = Entry::new(Code::MemberRemoved, "test", &host, "");
    assert!(one.store.remove(&host, entry, one.clock.now()).await.unwrap().is_some());
    soon("the other server settles it", || async {
        two.store.live(None).await.unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(all[1].audited("approval.cancelled").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_out_is_put_on_record_once() {
    let all = replicas(3, &database()).await;
    let mut daemon = all[0].daemon("h1").await;
    for path in ["/1", "/2", "/3"] {
        daemon.request(wire("h1", path)).await.unwrap();
    }
    // One server only is enough, and three do no more.
    all[2].pass(Duration::from_secs(61));
    all[0].server().core().expiry.look();
    all[1].server().core().expiry.look();
    soon("all three ran out", || async {
        all[0].server().core().store.live(None).await.unwrap().is_empty().then_some(())
    })
    .await;
    assert_eq!(all[1].audited("approval.expired").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_version_of_one_is_in_force_on_all() {
    let all = replicas(2, &database()).await;
    let mut pat = policies(&all[0], Role::PolicyAdmin, "pat").await;
    drop(all[0].daemon("h1").await);
    drop(all[0].reviewer("ann", &["ops"]).await);
    let there = at(&all[1], &all[0], Role::Daemon, "h1");
    let mut news = PoliciesClient::new(there.clone());
    let mut news = news.watch(v1::WatchPolicyRequest::default()).await.unwrap().into_inner();
    assert!(matches!(next(&mut news).await, News::None(_)));

    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap();
    let heard = loop {
        if let News::Bundle(bundle) = next(&mut news).await {
            break bundle;
        }
    };
    let key = all[1].server().core().policies.key().public();
    assert_eq!(key, all[0].server().core().policies.key().public(), "one key");
    assert_eq!(key.bundle(&heard).unwrap().0, first);

    let mut daemon = ApprovalsClient::new(there);
    let asked = daemon.request(under(&first.version, "/2", 1)).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    let mut ann = ReviewClient::new(at(&all[1], &all[0], Role::Reviewer, "ann"));
    ann.decide(vote(&asked.id, &digest, true)).await.unwrap();
    let second = put(&mut pat, files(&format!("{RULES}{FORBID}"), SCOPES)).await;
    assert_eq!((second.voided, second.accepted.unwrap().number), (1, 2), "whoever granted it");
    let claimed = daemon.claim(claim(&asked.id, &digest)).await.unwrap().into_inner();
    assert!(!claimed.granted);
    soon("the version there", || async {
        let current = all[1].server().core().policies.current()?;
        (current.statement.number == 2).then_some(())
    })
    .await;
    let refused = daemon.request(under(&first.version, "/2", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_or_the_same_directory_are_refused() {
    let url = database();
    let first = Harness::start_with(&store(&url)).await;
    // With none of its own, it makes none.
    let empty = Harness::made(&store(&url));
    let refused = start_at(empty.config.clone(), Some(empty.clock())).await.unwrap_err();
    assert!(matches!(refused, StartError::OtherKey { .. }), "{refused}");
    assert!(!empty.config.ca_dir().join("ca.pem").exists());
    // With another one.
    let other = Harness::start().await;
    copy_ca(&other, &empty);
    let refused = start_at(empty.config.clone(), Some(empty.clock())).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("copy ca.pem and ca.key"), "{text}");
    let shared = hex::encode(first.server().core().ca.fingerprint());
    assert!(text.contains(&shared), "{text}");
    // With another policy key.
    copy_ca(&first, &empty);
    std::fs::copy(other.config.policy_key(), empty.config.policy_key()).unwrap();
    let refused = start_at(empty.config.clone(), Some(empty.clock())).await.unwrap_err();
    assert!(refused.to_string().contains("copy policy.key"), "{refused}");
    std::fs::remove_file(empty.config.policy_key()).unwrap();
    let refused = start_at(empty.config.clone(), Some(empty.clock())).await.unwrap_err();
    assert!(matches!(refused, StartError::OtherKey { .. }), "{refused}");
    assert!(!empty.config.policy_key().exists());
    // With the right ones it starts.
    copy_ca(&first, &empty);
    let second = start_at(empty.config.clone(), Some(empty.clock())).await.unwrap();
    let twice = start_at(empty.config.clone(), Some(empty.clock())).await.unwrap_err();
    assert!(matches!(twice, StartError::Taken(_)), "{twice}");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_denies_and_with_it_goes_on_by_itself() {
    let mut server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let all = replicas(2, &server.database()).await;
    let approvals = all[0].client("h1").await;
    drop(all[0].reviewer("ann", &["ops"]).await);
    let mut daemon = ApprovalsClient::new(at(&all[0], &all[0], Role::Daemon, "h1"));
    let mut ann = ReviewClient::new(at(&all[1], &all[0], Role::Reviewer, "ann"));
    let granted = daemon.request(wire("h1", "/granted")).await.unwrap().into_inner();
    let digest = granted.request.unwrap().digest;
    ann.decide(vote(&granted.id, &digest, true)).await.unwrap();
    let ask = ask("h1", "/waits", vec![scope("s", &["ops"], 1, 1)]);
    let ticket = approvals.request(ask.clone()).await.unwrap();

    server.stop();
    let refused = daemon.claim(claim(&granted.id, &digest)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let refused = ann.decide(vote(ticket.id(), ask.digest, true)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let server = tokio::task::spawn_blocking(move || {
        server.run();
        server
    });
    let server = server.await.unwrap();

    let won = soon("a claim", || {
        let (mut daemon, claim) = (daemon.clone(), claim(&granted.id, &digest));
        async move { daemon.claim(claim).await.ok() }
    });
    assert!(won.await.into_inner().granted);
    soon("a decision", || {
        let (mut ann, vote) = (ann.clone(), vote(ticket.id(), ask.digest, true));
        async move { ann.decide(vote).await.ok() }
    })
    .await;
    soon("the waiter hears of it", || async {
        let seen = approvals.status(&ticket.id()).await.ok()?;
        matches!(seen.state, State::Approved { .. }).then_some(())
    })
    .await;
    assert_eq!(all[1].audited("grant.claimed").await.len(), 1);

    // What runs out meanwhile is put on record afterwards, and once.
    daemon.request(wire("h1", "/late")).await.unwrap();
    let mut server = server;
    server.stop();
    all[0].pass(Duration::from_secs(61));
    all[1].server().core().expiry.look();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let server = tokio::task::spawn_blocking(move || {
        server.run();
        server
    });
    let server = server.await.unwrap();
    soon("what waited ran out", || async {
        let waits = all[0].server().core().store.live(None).await.ok()?;
        // By a clock that only the test moves, so this is what trying again waits for.
        all[0].pass(Duration::from_secs(1));
        waits.is_empty().then_some(())
    })
    .await;
    assert_eq!(all[1].audited("approval.expired").await.len(), 1);
    drop(server);
}
