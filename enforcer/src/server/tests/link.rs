//! Servers that go away and come back.

use super::*;
use crate::approval::client::{Certificate, ClientError};
use crate::server::model::{Ballot, Person};

/// What a restart must not lose is written with the server's own code on its own store.
async fn decide_offline(harness: &Harness, id: ApprovalId) {
    let core = open_at(harness.config.clone(), Some(harness.clock())).await.unwrap();
    let groups = vec!["ops".to_owned()];
    let person = Person { name: "ann", groups: &groups };
    let voted = core.transition(id.0, None, |record, now| {
        let digest = &record.digest;
        let ballot = Ballot { approve: true, reason: "r", digest, break_glass: false };
        let next = record.vote(person, ballot, now).unwrap();
        Ok((Some((next, Vec::new())), ()))
    });
    voted.await.unwrap();
}

#[tokio::test]
async fn a_restart_keeps_requests_decisions_and_uses() {
    let mut harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let pending = daemon.request(wire("h1", "/1")).await.unwrap().into_inner();
    let spent = daemon.request(wire("h1", "/2")).await.unwrap().into_inner();
    let digest = spent.request.unwrap().digest;
    ops.decide(vote(&spent.id, &digest, true)).await.unwrap();
    let first = claim(&spent.id, &digest);
    let won = daemon.claim(first.clone()).await.unwrap().into_inner();
    let before = harness.audit().await;
    harness.stop().await;
    harness.run().await;

    assert_eq!(harness.audit().await, before);
    let still = daemon.get(get(&pending.id)).await.unwrap().into_inner();
    assert_eq!(still, pending);
    let again = daemon.claim(first).await.unwrap().into_inner();
    assert_eq!((again.granted, again.claim_id), (true, won.claim_id));
    let other = daemon.claim(claim(&spent.id, &digest)).await.unwrap().into_inner();
    assert_eq!((other.granted, other.reason.as_str()), (false, "spent"));
    harness.pass(Duration::from_secs(60));
    let mut news = daemon.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    assert!(news.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_lost_server_is_told_and_nothing_is_asked() {
    let mut harness = Harness::start().await;
    let approvals = harness.client("h1").await;
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    let mut ticket = approvals.request(ask.clone()).await.unwrap();
    harness.stop().await;
    assert_eq!(ticket.changed().await, Err(ApprovalError::ServerLost));
    assert!(!approvals.connected());
    assert!(matches!(approvals.request(ask.clone()).await, Err(ApprovalError::NotConnected)));
    let claim = approvals.claim(&ticket.id(), &ask.digest, OperationId::new(), None).await;
    assert_eq!(claim, Err(ApprovalError::NotConnected));
}

#[tokio::test]
async fn what_happened_in_the_gap_is_heard_after_it() {
    let mut harness = Harness::start().await;
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let mut options = harness.options("h1");
    options.lost_after = Duration::from_secs(60);
    let client = Client::start(options).unwrap();
    client.ready().await;
    let approvals = Approvals::Remote(client.clone());
    let scopes = vec![scope("s", &["ops"], 1, 1)];
    let (live, over) = (ask("h1", "/1", scopes.clone()), ask("h1", "/2", scopes));
    let mut granted = approvals.request(live.clone()).await.unwrap();
    let mut expired = approvals.request(over).await.unwrap();
    harness.stop().await;
    decide_offline(&harness, granted.id()).await;
    harness.time.fetch_add(25_000, Ordering::Relaxed);
    harness.run().await;
    // Part of the present state at reconnection.
    assert!(matches!(granted.changed().await, Ok(State::Approved { .. })));
    harness.stop().await;
    harness.time.fetch_add(40_000, Ordering::Relaxed);
    harness.run().await;
    // Ended in the gap, so it is not part of the present state: the client asks.
    assert_eq!(expired.changed().await, Ok(State::Expired));
    assert_eq!(granted.changed().await, Ok(State::Expired));
    client.ready().await;
    let late = approvals.claim(&granted.id(), &live.digest, OperationId::new(), None).await;
    assert_eq!(late, Err(ApprovalError::NotGranted(NotGranted::Expired)));
}

#[tokio::test]
async fn a_host_with_many_grants_in_use_comes_back_at_the_servers_pace() {
    let mut harness = Harness::start().await;
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let client = Client::start(harness.options("h1")).unwrap();
    client.ready().await;
    let approvals = Approvals::Remote(client.clone());
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    for n in 0..8 {
        let ask = ask("h1", &format!("/{n}"), vec![scope("s", &["ops"], 1, 1)]);
        let id = approvals.request(ask.clone()).await.unwrap().id();
        ops.decide(vote(id, ask.digest, true)).await.unwrap();
        approvals.claim(&id, &ask.digest, OperationId::new(), None).await.unwrap();
    }
    harness.stop().await;
    while approvals.connected() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // One for the stream, and too few for all grants at once.
    (harness.config.limits.calls_per_second, harness.config.limits.calls_burst) = (1, 4);
    harness.run().await;
    let time = Arc::clone(&harness.time);
    let passing = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            time.fetch_add(1_000, Ordering::Relaxed);
        }
    });
    tokio::time::timeout(Duration::from_secs(15), client.ready()).await.unwrap();
    passing.abort();
}

#[tokio::test]
async fn a_daemon_joins_by_itself_when_the_server_comes() {
    let mut harness = Harness::start().await;
    let token = harness.token(Role::Daemon, "h1", &[]).await;
    harness.stop().await;
    let file = harness.dir.path().join("token");
    std::fs::write(&file, format!("{}\n", token.reveal())).unwrap();
    let mut options = harness.options("h1");
    options.token_file = Some(file);
    let client = Client::start(options.clone()).unwrap();
    let approvals = Approvals::Remote(client.clone());
    assert!(!approvals.connected());
    harness.run().await;
    client.ready().await;
    assert!(approvals.connected());
    drop((client, approvals));
    // With its identity, as the next start finds it; the spent token is not looked at.
    let client = Client::start(options.clone()).unwrap();
    client.ready().await;
    options.host = "h2".to_owned();
    assert!(Client::start(options).is_err());
}

/// A certificate in the host's directory that ran out before this host started.
async fn ran_out(harness: &Harness) -> Options {
    let now = harness.time.load(Ordering::Relaxed);
    harness.time.store(now - 48 * 3600 * 1000, Ordering::Relaxed);
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    harness.time.store(now, Ordering::Relaxed);
    harness.options("h1")
}

/// Waits for a word of the client's about its certificate.
async fn certificate(approvals: &Approvals, wanted: impl Fn(&Certificate) -> bool) -> Certificate {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let held = approvals.certificate().expect("joined");
        if wanted(&held) {
            return Certificate::clone(&held);
        }
        assert!(tokio::time::Instant::now() < deadline, "still {held:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_certificate_renews_itself_and_a_try_that_fails_is_told_and_made_again() {
    let harness = Harness::start().await;
    // Of its 24 hours 20 are over, so that it is due.
    let now = harness.time.load(Ordering::Relaxed);
    harness.time.store(now - 20 * 3600 * 1000, Ordering::Relaxed);
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    harness.time.store(now, Ordering::Relaxed);
    let options = harness.options("h1");
    let old = Identity::load(&options.dir).unwrap().unwrap().holder;
    // The new certificate cannot be kept: what it is written to is taken.
    let taken = options.dir.join("identity.pem.new");
    std::fs::create_dir(&taken).unwrap();
    let client = Client::start(options.clone()).unwrap();
    ready(&client).await;
    let approvals = Approvals::Remote(client.clone());
    let failed = certificate(&approvals, |held| held.not_renewed.is_some()).await;
    assert_eq!(failed.until, old.not_after);
    assert!(failed.not_renewed.unwrap().contains("identity.pem"));
    // Nothing is lost meanwhile.
    let scopes = vec![scope("s", &["ops"], 1, 1)];
    let mut ticket = approvals.request(ask("h1", "/1", scopes.clone())).await.unwrap();
    std::fs::remove_dir(&taken).unwrap();
    let renewed = certificate(&approvals, |held| held.until > old.not_after).await;
    assert_eq!(renewed.not_renewed, None);
    let kept = Identity::load(&options.dir).unwrap().unwrap().holder;
    assert_eq!((kept.not_after, &kept.subject), (renewed.until, &old.subject));
    assert!(harness.audited("certificate.renewed").await.len() >= 2);
    // The stream goes on with the new one: a decision still arrives, and new requests go through.
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let first = ask("h1", "/1", scopes.clone());
    ops.decide(vote(ticket.id(), first.digest, true)).await.unwrap();
    assert!(matches!(ticket.changed().await, Ok(State::Approved { .. })));
    ready(&client).await;
    assert!(approvals.request(ask("h1", "/2", scopes)).await.is_ok());
}

async fn ready(client: &Client) {
    tokio::time::timeout(Duration::from_secs(20), client.ready()).await.expect("joined in time");
}

#[tokio::test]
async fn a_certificate_that_ran_out_stops_no_daemon_and_a_token_brings_it_back() {
    let harness = Harness::start().await;
    let mut options = ran_out(&harness).await;
    let file = harness.dir.path().join("token");
    options.token_file = Some(file.clone());
    let client = Client::start(options).unwrap();
    let approvals = Approvals::Remote(client.clone());
    let ask = ask("h1", "/pay", vec![scope("s", &["ops"], 1, 1)]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!approvals.connected());
    assert_eq!(
        approvals.request(ask.clone()).await.map(|ticket| ticket.id()),
        Err(ApprovalError::NotConnected)
    );
    std::fs::write(&file, "half a tok").unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!approvals.connected());
    std::fs::write(&file, harness.token(Role::Daemon, "h1", &[]).await.reveal()).unwrap();
    ready(&client).await;
    assert!(approvals.request(ask).await.is_ok());
}

#[tokio::test]
async fn a_host_that_joined_by_hand_or_was_never_there_comes_up_without_a_restart() {
    let harness = Harness::start().await;
    // Without a token file too, once there was a certificate.
    let options = ran_out(&harness).await;
    let by_hand = Client::start(options).unwrap();
    let mut options = harness.options("h2");
    options.token_file = Some(harness.dir.path().join("not there yet"));
    let first = Client::start(options.clone()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let up = |client: &Client| Approvals::Remote(client.clone()).connected();
    assert!(!up(&by_hand) && !up(&first));
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let token = harness.token(Role::Daemon, "h2", &[]).await.reveal();
    std::fs::write(options.token_file.as_ref().unwrap(), token).unwrap();
    ready(&by_hand).await;
    ready(&first).await;
    // Nothing that could ever work: that is a mistake in the configuration.
    options = harness.options("h3");
    assert!(matches!(Client::start(options), Err(ClientError::NotJoined(_))));
}

#[tokio::test]
async fn a_token_can_be_made_while_the_server_runs_and_while_it_does_not() {
    let mut harness = Harness::start().await;
    let path = harness.dir.path().join("server.toml");
    let text = format!(
        "listen = \"{}\"\nnames = [\"127.0.0.1\"]\ndata_dir = \"data\"\n",
        harness.config.listen
    );
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path).unwrap();
    let make = async |name: &str| {
        let ask = v1::CreateTokenRequest {
            role: v1::Role::Reviewer.into(),
            name: name.to_owned(),
            groups: vec!["ops".to_owned()],
            ttl_seconds: 60,
        };
        crate::cli::server::make_token(config.clone(), ask).await.unwrap().token
    };
    let through_the_socket = make("ann").await;
    harness.stop().await;
    let from_the_store = make("bob").await;
    harness.run().await;
    for (name, token) in [("ann", through_the_socket), ("bob", from_the_store)] {
        let token = Token::parse(&token).unwrap();
        let dir = harness.identity_dir(Role::Reviewer, name);
        let identity = join::join(&harness.url(), &token, &dir).await.unwrap();
        assert_eq!(identity.holder.subject.name(), name);
    }
    let made = harness.audited("token.created").await;
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|record| record.actor.starts_with("local/")));
}
