//! Who may do what, and that a refusal teaches nothing.

use super::*;

#[tokio::test]
async fn without_a_certificate_only_joining_is_possible() {
    let harness = Harness::start().await;
    let ca = harness.server().core().ca.fingerprint();
    let channel = tls::pinned_channel(&harness.url(), ca).unwrap();
    let mut codes = Vec::new();
    let mut daemon = ApprovalsClient::new(channel.clone());
    codes.push(daemon.request(wire("h1", "/")).await.unwrap_err().code());
    codes.push(daemon.watch(v1::WatchRequest {}).await.unwrap_err().code());
    codes.push(daemon.claim(claim("x", "y")).await.unwrap_err().code());
    codes.push(daemon.cancel(v1::CancelRequest::default()).await.unwrap_err().code());
    codes.push(daemon.get(get("x")).await.unwrap_err().code());
    let mut review = ReviewClient::new(channel.clone());
    codes.push(review.list(v1::ListRequest::default()).await.unwrap_err().code());
    codes.push(review.show(get("x")).await.unwrap_err().code());
    codes.push(review.decide(vote("x", "y", true)).await.unwrap_err().code());
    codes.push(review.revoke(v1::RevokeRequest::default()).await.unwrap_err().code());
    codes.push(review.watch(v1::WatchRequest {}).await.unwrap_err().code());
    let mut admin = AdminClient::new(channel.clone());
    codes.push(admin.create_token(v1::CreateTokenRequest::default()).await.unwrap_err().code());
    codes.push(admin.audit(v1::AuditRequest { after: 0 }).await.unwrap_err().code());
    codes.push(admin.remove_member(gone(Role::Daemon, "h1")).await.unwrap_err().code());
    codes.push(admin.list_members(v1::ListMembersRequest {}).await.unwrap_err().code());
    let mut enrollment = v1::enrollment_client::EnrollmentClient::new(channel);
    codes.push(enrollment.renew(v1::RenewRequest::default()).await.unwrap_err().code());
    assert_eq!(codes, vec![Code::Unauthenticated; 15]);
}

#[tokio::test]
async fn each_role_has_its_own_methods() {
    let harness = Harness::start().await;
    let daemon = harness.join(Role::Daemon, "h1", &[]).await;
    let reviewer = harness.join(Role::Reviewer, "ann", &["ops"]).await;
    let admin = harness.join(Role::Admin, "root", &[]).await;
    let mut codes = Vec::new();
    // A daemon decides nothing.
    let mut as_daemon = ReviewClient::new(daemon.clone());
    codes.push(as_daemon.list(v1::ListRequest::default()).await.unwrap_err().code());
    codes.push(as_daemon.show(get("x")).await.unwrap_err().code());
    codes.push(as_daemon.decide(vote("x", "y", true)).await.unwrap_err().code());
    codes.push(as_daemon.revoke(v1::RevokeRequest::default()).await.unwrap_err().code());
    codes.push(as_daemon.watch(v1::WatchRequest {}).await.unwrap_err().code());
    // People ask and claim nothing.
    for channel in [&reviewer, &admin] {
        let mut as_person = ApprovalsClient::new(channel.clone());
        codes.push(as_person.request(wire("h1", "/")).await.unwrap_err().code());
        codes.push(as_person.claim(claim("x", "y")).await.unwrap_err().code());
        codes.push(as_person.watch(v1::WatchRequest {}).await.unwrap_err().code());
        codes.push(as_person.get(get("x")).await.unwrap_err().code());
    }
    // Only admins make tokens and read the audit; they do not vote.
    for channel in [&daemon, &reviewer] {
        let mut as_other = AdminClient::new(channel.clone());
        let ask = v1::CreateTokenRequest::default();
        codes.push(as_other.create_token(ask).await.unwrap_err().code());
        codes.push(as_other.audit(v1::AuditRequest { after: 0 }).await.unwrap_err().code());
        codes.push(as_other.remove_member(gone(Role::Daemon, "h1")).await.unwrap_err().code());
        codes.push(as_other.list_members(v1::ListMembersRequest {}).await.unwrap_err().code());
    }
    codes.push(
        ReviewClient::new(admin.clone()).decide(vote("x", "y", true)).await.unwrap_err().code(),
    );
    assert_eq!(codes, vec![Code::PermissionDenied; 22]);
    assert_eq!(harness.audited("access.refused").await.len(), 22);

    let mut as_admin = AdminClient::new(admin);
    let mut audit = as_admin.audit(v1::AuditRequest { after: 0 }).await.unwrap().into_inner();
    let mut verifier = crate::server::audit::Verifier::default();
    let mut count = 0;
    while let Some(record) = audit.message().await.unwrap() {
        verifier.next(&record).unwrap();
        count += 1;
    }
    assert!(count > 22);
}

#[tokio::test]
async fn another_hosts_approval_is_like_none() {
    let harness = Harness::start().await;
    let mut own = harness.daemon("h1").await;
    let mut foreign = harness.daemon("h2").await;
    let mut ops = harness.reviewer("ann", &["ops"]).await;
    let asked = own.request(wire("h1", "/pay")).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    ops.decide(vote(&asked.id, &digest, true)).await.unwrap();
    let nothing = uuid::Uuid::now_v7().to_string();
    let mut refusals = Vec::new();
    for id in [asked.id.as_str(), nothing.as_str(), "no id at all"] {
        let cancel = v1::CancelRequest { id: id.to_owned(), digest: digest.clone() };
        refusals.push(foreign.get(get(id)).await.unwrap_err());
        refusals.push(foreign.claim(claim(id, &digest)).await.unwrap_err());
        refusals.push(foreign.cancel(cancel).await.unwrap_err());
    }
    for refusal in refusals {
        assert_eq!((refusal.code(), refusal.message()), (Code::NotFound, "no such approval"));
    }
    assert_eq!(harness.audited("claim.refused").await.len(), 3);
    let in_others_name = foreign.request(wire("h1", "/pay")).await.unwrap_err();
    assert_eq!(in_others_name.code(), Code::InvalidArgument);
    // A host's news are its own: the foreign stream says nothing about it.
    let mut news = foreign.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    let first = news.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first, v1::watch_event::Event::Synced(_)));
    assert!(own.claim(claim(&asked.id, &digest)).await.unwrap().into_inner().granted);
}

#[tokio::test]
async fn a_reviewer_outside_the_group_sees_nothing() {
    let harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    let mut out = harness.reviewer("eve", &["other"]).await;
    let mut admin = ReviewClient::new(harness.join(Role::Admin, "root", &[]).await);
    let asked = daemon.request(wire("h1", "/pay")).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    let all = out.list(v1::ListRequest::default()).await.unwrap().into_inner();
    assert!(all.approvals.is_empty());
    let take_back = v1::RevokeRequest { id: asked.id.clone(), reason: String::new() };
    let refusals = [
        out.show(get(&asked.id)).await.unwrap_err(),
        out.decide(vote(&asked.id, &digest, true)).await.unwrap_err(),
        out.decide(vote(uuid::Uuid::now_v7(), &digest, true)).await.unwrap_err(),
        out.revoke(take_back).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!((refusal.code(), refusal.message()), (Code::NotFound, "no such approval"));
    }
    let seen = admin.list(v1::ListRequest::default()).await.unwrap().into_inner();
    assert_eq!(seen.approvals.len(), 1);
    let request = seen.approvals[0].request.as_ref().unwrap();
    assert!(request.operation.is_some());
}

#[tokio::test]
async fn an_owner_has_no_vote() {
    let owner = "[[owner]]\nhost = \"*\"\nagent = \"build\"\npeople = [\"ann\"]\n";
    let harness = Harness::start_with(owner).await;
    let mut daemon = harness.daemon("h1").await;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let asked = daemon.request(wire("h1", "/pay")).await.unwrap().into_inner();
    let digest = asked.request.unwrap().digest;
    let refused = ann.decide(vote(&asked.id, &digest, true)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(harness.audited("vote.refused").await.len(), 1);
    let still = daemon.get(get(&asked.id)).await.unwrap().into_inner();
    assert_eq!(still.state, i32::from(v1::State::Pending));
}

#[tokio::test]
async fn a_bad_token_is_a_bad_token() {
    let harness = Harness::start().await;
    let dir = harness.dir.path().join("x");
    let refused = async |token: &Token| {
        let error = join::join(&harness.url(), token, &dir).await.unwrap_err();
        error.to_string()
    };
    let used = harness.token(Role::Daemon, "h1", &[]).await;
    join::join(&harness.url(), &used, &dir).await.unwrap();
    let before = std::fs::read(dir.join("identity.pem")).unwrap();
    let old = harness.token(Role::Daemon, "h1", &[]).await;
    harness.time.fetch_add(60_000, Ordering::Relaxed);
    let good = harness.token(Role::Daemon, "h1", &[]).await.reveal();
    let other = Token::generate(harness.server().core().ca.fingerprint()).unwrap();
    let parts: Vec<&str> = good.split('.').collect();
    let secret = format!("{}.{}.{}", parts[0], "0".repeat(64), parts[2]);
    let forged = Token::parse(&secret).unwrap();
    let answers =
        [refused(&used).await, refused(&old).await, refused(&other).await, refused(&forged).await];
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert!(answers[0].contains("token is not good"));
    assert_eq!(harness.audited("join.refused").await.len(), 4);
    assert_eq!(std::fs::read(dir.join("identity.pem")).unwrap(), before);
    join::join(&harness.url(), &Token::parse(&good).unwrap(), &dir).await.unwrap();
}

#[tokio::test]
async fn a_server_with_another_ca_gets_no_token() {
    let harness = Harness::start().await;
    let good = harness.token(Role::Daemon, "h1", &[]).await.reveal();
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[2] = "0".repeat(64);
    let elsewhere = Token::parse(&parts.join(".")).unwrap();
    let dir = harness.dir.path().join("x");
    let error = join::join(&harness.url(), &elsewhere, &dir).await.unwrap_err();
    assert!(matches!(error, join::JoinError::Unreachable(_)), "{error}");
    assert!(!dir.exists());
    // The token never left: it is still good.
    join::join(&harness.url(), &Token::parse(&good).unwrap(), &dir).await.unwrap();
}

#[tokio::test]
async fn a_foreign_or_old_certificate_is_refused() {
    let harness = Harness::start().await;
    let other = Harness::start().await;
    drop(other.join(Role::Daemon, "h1", &[]).await);
    let mut foreign = Identity::load(&other.identity_dir(Role::Daemon, "h1")).unwrap().unwrap();
    foreign.ca = harness.server().core().ca.certificate().clone();
    let mut client = ApprovalsClient::new(tls::channel(&harness.url(), &foreign).unwrap());
    let refused = client.get(get("x")).await.unwrap_err();
    assert!(matches!(refused.code(), Code::Unavailable | Code::Unknown), "{refused}");

    let mut daemon = harness.daemon("h2").await;
    assert_eq!(daemon.get(get("x")).await.unwrap_err().code(), Code::NotFound);
    harness.pass(Duration::from_secs(24 * 3600));
    assert_eq!(daemon.get(get("x")).await.unwrap_err().code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_renewed_certificate_is_for_the_same_holder() {
    let harness = Harness::start().await;
    let channel = harness.join(Role::Reviewer, "ann", &["ops"]).await;
    let dir = harness.identity_dir(Role::Reviewer, "ann");
    let first = Identity::load(&dir).unwrap().unwrap();
    harness.pass(Duration::from_secs(3600));
    let renewed = join::renew(&first, &harness.url(), channel, &dir).await.unwrap();
    assert_eq!(renewed.holder.subject, first.holder.subject);
    assert_eq!(renewed.holder.not_after, first.holder.not_after + 3600);
    assert_ne!(renewed.key.secret_der(), first.key.secret_der());
    assert_eq!(harness.audited("certificate.renewed").await.len(), 1);
}

#[tokio::test]
async fn floods_are_bounded() {
    let limits = "[limits]\npending_per_agent = 2\ncalls_per_second = 1\ncalls_burst = 5\n";
    let harness = Harness::start_with(limits).await;
    let mut daemon = harness.daemon("h1").await;
    let mut codes = Vec::new();
    for at in 0..6 {
        let answer = daemon.request(wire("h1", &format!("/{at}"))).await;
        codes.push(answer.err().map(|status| status.message().to_owned()));
    }
    assert_eq!(codes[..2], [None, None]);
    assert!(codes[2..5].iter().flatten().all(|message| message.contains("wait for people")));
    assert!(codes[5].as_ref().is_some_and(|message| message.contains("too many calls")));
    assert_eq!(harness.audited("approval.requested").await.len(), 2);
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let harness = Harness::start_with("[limits]\nmessage_bytes = 65536\n").await;
    let mut daemon = harness.daemon("h1").await;
    let mut request = wire("h1", "/pay");
    request.body = Bytes::from(vec![0; 70_000]);
    assert_eq!(daemon.request(request).await.unwrap_err().code(), Code::OutOfRange);
    assert_eq!(daemon.get(get("x")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn keys_and_socket_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let harness = Harness::start().await;
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let config = &harness.config;
    assert_eq!(mode(&config.admin_socket()), 0o600);
    assert_eq!(mode(&config.ca_dir().join("ca.key")), 0o600);
    assert_eq!(mode(&config.data_dir), 0o700);
    let dir = harness.identity_dir(Role::Daemon, "h1");
    assert_eq!((mode(&dir), mode(&dir.join("identity.pem"))), (0o700, 0o600));
}
