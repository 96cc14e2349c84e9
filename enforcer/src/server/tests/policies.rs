//! Policy versions: who makes them, what is taken, what they void, and what daemons hear.

use super::*;
use crate::policy::signed::{PublicKey, statement_hash};
use crate::policy::{Bundle, Files};
use crate::server::store::{Keep, Kind};
use enforcer_proto::v1::policies_client::PoliciesClient;
use enforcer_proto::v1::policy_news::News;
use prost::Message as _;
use tonic::Streaming;

const TARGETS: &str = "[[target]]\nname = \"api\"\nnames = [\"api.example\"]\nports = [443]\n";
pub(super) const RULES: &str = "@id(\"look-up\")\npermit (principal, action == Action::\"dns.query\", resource);\n\
                     @id(\"post\")\n@approval(\"s\")\n\
                     permit (principal, action == Action::\"http.post\", resource);\n";
pub(super) const SCOPES: &str = "[[scope]]\nname = \"s\"\nreviewers = [\"ops\"]\nrequest_ttl = \"60s\"\n\
                      grant_ttl = \"30s\"\nuses = 2\n";
/// What forbids a path beside the rules.
pub(super) const FORBID: &str = "@id(\"not-that\")\nforbid (principal, action == Action::\"http.post\", resource)\n\
                      when { context.path == \"/2\" };\n";

pub(super) fn files(rules: &str, scopes: &str) -> Vec<v1::PolicyFile> {
    let file = |path: &str, text: &str| v1::PolicyFile { path: path.into(), text: text.into() };
    vec![
        file("targets.toml", TARGETS),
        file("rules.cedar", rules),
        file("scopes.toml", scopes),
        file("masks.toml", ""),
    ]
}

fn pushed(files: Vec<v1::PolicyFile>) -> v1::PushPolicyRequest {
    v1::PushPolicyRequest { files, note: "why".to_owned(), dry_run: false }
}

fn back(number: u64) -> v1::RollBackPolicyRequest {
    v1::RollBackPolicyRequest { number, note: String::new() }
}

pub(super) async fn policies(harness: &Harness, role: Role, name: &str) -> PoliciesClient<Channel> {
    PoliciesClient::new(harness.join(role, name, &[]).await)
        .max_decoding_message_size(crate::policy::signed::MAX_MESSAGE)
}

pub(super) async fn put(
    maker: &mut PoliciesClient<Channel>,
    files: Vec<v1::PolicyFile>,
) -> v1::PushPolicyResponse {
    maker.push(pushed(files)).await.unwrap().into_inner()
}

/// A request under a policy version, as a host would ask it.
pub(super) fn under(policy: &str, path: &str, quorum: u32) -> v1::ApprovalRequest {
    let mut scope = scope("s", &["ops"], quorum, 2);
    scope.request_ttl = Duration::from_secs(60);
    let mut ask = ask("h1", path, vec![scope]);
    ask.policy = policy.to_owned();
    for (name, value) in
        [("http.scheme", "https"), ("http.authority", "api.example"), ("http.query", "")]
    {
        ask.operation.fact(name, value);
    }
    ask.digest = ask.operation.digest(&ask.principal);
    convert::request(ask)
}

pub(super) async fn next(news: &mut Streaming<v1::PolicyNews>) -> News {
    let waited = tokio::time::timeout(Duration::from_secs(60), news.message()).await;
    waited.unwrap().unwrap().unwrap().news.unwrap()
}

#[tokio::test]
async fn only_policy_admins_and_admins_make_versions_and_only_daemons_follow_them() {
    let harness = Harness::start().await;
    let good = || pushed(files(RULES, SCOPES));
    let mut refused = 0;
    for role in [Role::Daemon, Role::Reviewer, Role::Viewer] {
        let mut other = policies(&harness, role, "x").await;
        assert_eq!(other.push(good()).await.unwrap_err().code(), Code::PermissionDenied);
        assert_eq!(other.roll_back(back(1)).await.unwrap_err().code(), Code::PermissionDenied);
        let watched = other.watch(v1::WatchPolicyRequest::default()).await;
        assert_eq!(watched.is_ok(), role == Role::Daemon, "{role:?}");
        let listed = other.list(v1::ListPoliciesRequest::default()).await;
        assert_eq!(listed.is_ok(), role != Role::Daemon, "{role:?}");
        refused += 3;
    }
    assert_eq!(harness.audited("access.refused").await.len(), refused);
    let unknown = tls::pinned_channel(&harness.url(), harness.server().core().ca.fingerprint());
    let mut nobody = PoliciesClient::new(unknown.unwrap());
    assert_eq!(nobody.push(good()).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(harness.audited("policy.pushed").await.is_empty());
    // Those who may.
    for (number, role) in [(1, Role::PolicyAdmin), (2, Role::Admin)] {
        let mut maker = policies(&harness, role, "y").await;
        let accepted = maker.push(good()).await.unwrap().into_inner().accepted.unwrap();
        assert_eq!((accepted.number, accepted.actor), (number, format!("{}/y", role.as_str())));
    }
    assert_eq!(harness.audited("policy.pushed").await.len(), 2);
}

#[tokio::test]
async fn what_has_errors_or_fails_its_tests_is_not_taken_and_says_why() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let answer = put(&mut pat, files("permit (principal, action, resource);", SCOPES)).await;
    assert!(answer.accepted.is_none());
    let errors: Vec<_> = answer.problems.iter().filter(|problem| problem.error).collect();
    assert!(errors[0].text.contains("rules.cedar"), "{errors:?}");

    let case = |expect: &str| v1::PolicyFile {
        path: "tests/a.toml".to_owned(),
        text: format!(
            "[[test]]\nname = \"post\"\nagent = \"a\"\nmethod = \"POST\"\n\
             url = \"https://api.example/\"\nexpect = \"{expect}\"\n"
        ),
    };
    let with = |expect| [files(RULES, SCOPES), vec![case(expect)]].concat();
    let answer = put(&mut pat, with("allow")).await;
    assert!(answer.accepted.is_none());
    let failure = &answer.failures[0];
    assert_eq!(
        (answer.tests, failure.name.as_str(), failure.expected.as_str()),
        (1, "post", "allow")
    );
    assert!(failure.got.contains("needs-approval(s)"), "{failure:?}");

    for bad in ["extra.cedar", "tests/../rules.cedar"] {
        let mut files = files(RULES, SCOPES);
        files.push(v1::PolicyFile { path: bad.to_owned(), text: String::new() });
        assert_eq!(pat.push(pushed(files)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let large = "#".repeat(crate::policy::signed::MAX_BYTES);
    assert!(pat.push(pushed(files(&large, SCOPES))).await.is_err());
    let mut noted = pushed(files(RULES, SCOPES));
    noted.note = "two\nlines".to_owned();
    assert_eq!(pat.push(noted).await.unwrap_err().code(), Code::InvalidArgument);
    assert!(pat.show(v1::ShowPolicyRequest { number: 0 }).await.is_err(), "nothing is in force");
    assert_eq!(harness.audited("policy.refused").await.len(), 2);
    // The same with the right expectation, first without taking it.
    let dry = v1::PushPolicyRequest { dry_run: true, ..pushed(with("needs-approval(s)")) };
    assert!(pat.push(dry).await.unwrap().into_inner().accepted.is_none());
    assert!(harness.audited("policy.pushed").await.is_empty());
    assert!(put(&mut pat, with("needs-approval(s)")).await.accepted.is_some());
}

#[tokio::test]
async fn a_rollback_is_a_new_statement_and_all_of_it_outlives_a_restart() {
    let mut harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap();
    let second = put(&mut pat, files(&[RULES, FORBID].concat(), SCOPES)).await.accepted.unwrap();
    assert_eq!(pat.roll_back(back(2)).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!(pat.roll_back(back(9)).await.unwrap_err().code(), Code::NotFound);
    let third = pat.roll_back(back(1)).await.unwrap().into_inner().accepted.unwrap();
    assert_eq!((third.number, third.again), (3, 1));
    assert_eq!((&third.digest, &third.version), (&first.digest, &first.version));
    assert_ne!(second.digest, first.digest);
    assert_eq!(harness.audited("policy.rolled-back").await[0].subject, "3");
    let key = harness.server().core().policies.key().public();
    harness.stop().await;
    harness.run().await;
    let core = harness.server().core();
    assert_eq!(core.policies.key().public(), key);
    assert_eq!(core.policies.current().unwrap().statement, third);
    let listed = pat.list(v1::ListPoliciesRequest::default()).await.unwrap().into_inner().versions;
    assert_eq!(listed, [third, second.clone(), first]);
    let shown = pat.show(v1::ShowPolicyRequest { number: 2 }).await.unwrap().into_inner();
    assert_eq!(key.bundle(&shown).unwrap().0, second);
    // A joiner is told the key.
    let dir = harness.identity_dir(Role::PolicyAdmin, "pat");
    assert_eq!(crate::approval::identity::policy_key(&dir).unwrap(), Some(key));
}

#[tokio::test]
async fn a_daemon_hears_each_version_at_once_and_its_confirmation() {
    let harness = Harness::start().await;
    let mut daemon = policies(&harness, Role::Daemon, "h1").await;
    let mut news = daemon.watch(v1::WatchPolicyRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut news).await, News::None(v1::NoPolicy {}));
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let accepted = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap();
    let key = harness.server().core().policies.key().public();
    let News::Bundle(bundle) = next(&mut news).await else { panic!("a bundle") };
    assert_eq!(key.bundle(&bundle).unwrap().0, accepted);
    let signed = bundle.signed.unwrap();
    let News::Confirmed(confirmed) = next(&mut news).await else { panic!("a confirmation") };
    let at = key.confirmed(&confirmed, &signed).unwrap();
    assert_eq!(at, harness.time.load(Ordering::Relaxed));
    // Who has it already is not sent it again.
    let has = v1::WatchPolicyRequest { statement_sha256: statement_hash(&signed).to_vec() };
    let mut again = daemon.watch(has).await.unwrap().into_inner();
    assert!(matches!(next(&mut again).await, News::Confirmed(_)));
    // A removed host hears nothing more.
    let core = harness.server().core();
    crate::server::members::remove(core, "test", gone(Role::Daemon, "h1")).await.unwrap();
    let ended = async {
        loop {
            if let Err(status) = again.message().await {
                return status.code();
            }
        }
    };
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await.unwrap();
    assert_eq!(ended, Code::PermissionDenied);
}

/// Approved requests for `/1` and `/2`, and one for `/3` that waits, all under a version.
async fn asked(
    harness: &Harness,
    daemon: &mut ApprovalsClient<Channel>,
    policy: &str,
) -> [v1::Approval; 3] {
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let mut all = Vec::new();
    for path in ["/1", "/2", "/3"] {
        let asked = daemon.request(under(policy, path, 1)).await.unwrap().into_inner();
        if path != "/3" {
            let digest = &asked.request.as_ref().unwrap().digest;
            ann.decide(vote(&asked.id, digest, true)).await.unwrap();
        }
        all.push(asked);
    }
    all.try_into().unwrap()
}

async fn claims(
    daemon: &mut ApprovalsClient<Channel>,
    approval: &v1::Approval,
) -> Result<(), String> {
    let digest = &approval.request.as_ref().unwrap().digest;
    let answer = daemon.claim(claim(&approval.id, digest)).await.unwrap().into_inner();
    if answer.granted { Ok(()) } else { Err(answer.reason) }
}

#[tokio::test]
async fn a_version_that_tightens_voids_what_it_does_not_bear_and_nothing_else() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = harness.daemon("h1").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap().version;
    let [one, two, three] = asked(&harness, &mut daemon, &first).await;
    // A rule that is new, and hits one of them.
    let answer = put(&mut pat, files(&[RULES, FORBID].concat(), SCOPES)).await;
    assert_eq!(answer.voided, 1);
    assert_eq!(claims(&mut daemon, &one).await, Ok(()), "it still is what was approved");
    assert_eq!(claims(&mut daemon, &two).await, Err("revoked".to_owned()));
    let voided = harness.audited("grant.voided").await;
    assert_eq!((voided.len(), voided[0].subject.as_str()), (1, two.id.as_str()));
    assert!(voided[0].detail.contains("version 2: it is denied now"), "{}", voided[0].detail);
    assert_eq!(voided[0].actor, "policy-admin/pat");
    // A scope that asks for more: what was granted goes, with uses left, and what waits too.
    let two_people = SCOPES.replace("uses = 2", "uses = 2\nquorum = 2");
    let answer = put(&mut pat, files(RULES, &two_people)).await;
    assert_eq!(answer.voided, 2);
    assert_eq!(claims(&mut daemon, &one).await, Err("revoked".to_owned()));
    let state = daemon.get(get(&three.id)).await.unwrap().into_inner().state();
    assert_eq!(state, v1::State::Cancelled);
    // A host that does not have it yet asks under what was: it is told, and asks again.
    let late = daemon.request(under(&first, "/4", 1)).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    let now = harness.server().core().policies.current().unwrap().statement.version.clone();
    assert!(daemon.request(under(&now, "/4", 2)).await.is_ok());
}

#[tokio::test]
async fn what_was_judged_under_a_directory_of_the_host_is_not_touched() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = harness.daemon("h1").await;
    put(&mut pat, files(RULES, SCOPES)).await;
    let [one, two, _] = asked(&harness, &mut daemon, "sha256:000000000000").await;
    assert_eq!(put(&mut pat, files(&[RULES, FORBID].concat(), SCOPES)).await.voided, 0);
    assert_eq!(claims(&mut daemon, &one).await, Ok(()));
    assert_eq!(claims(&mut daemon, &two).await, Ok(()));
}

#[tokio::test]
async fn a_key_that_was_made_anew_distributes_nothing_old() {
    let mut harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    put(&mut pat, files(RULES, SCOPES)).await;
    harness.stop().await;
    std::fs::remove_file(harness.config.policy_key()).unwrap();
    harness.run().await;
    assert!(harness.server().core().policies.current().is_none());
    assert!(
        pat.list(v1::ListPoliciesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .versions
            .is_empty()
    );
    // What is pushed now is in force, under a number past that of the other key.
    let mut daemon = policies(&harness, Role::Daemon, "h1").await;
    let mut news = daemon.watch(v1::WatchPolicyRequest::default()).await.unwrap().into_inner();
    assert_eq!(next(&mut news).await, News::None(v1::NoPolicy {}));
    let second = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap();
    assert_eq!(second.number, 2);
    let News::Bundle(bundle) = next(&mut news).await else { panic!("a bundle") };
    let key = harness.server().core().policies.key().public();
    assert_eq!(key.bundle(&bundle).unwrap().0, second);
    assert_eq!(pat.roll_back(back(1)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap().number, 3);
    harness.stop().await;
    harness.run().await;
    assert_eq!(harness.server().core().policies.current().unwrap().statement.number, 3);
}

/// Puts something in the store as another server would.
async fn stored(harness: &Harness, number: u64, was: Option<Vec<u8>>, next: Vec<u8>) {
    let core = harness.server().core();
    let key = format!("{number:020}");
    let change = Keep { kind: Kind::Policy, key, was, next: Some(next) };
    assert!(core.store.keep(change, None, core.clock.now()).await.unwrap());
}

/// Another server's version, with the files of this one.
async fn version_of_another(
    harness: &Harness,
    number: u64,
    files: Vec<v1::PolicyFile>,
) -> v1::PolicyStatement {
    let core = harness.server().core();
    let all: Files = files.iter().map(|file| (file.path.clone(), file.text.clone())).collect();
    let bundle = Bundle::from_files(&all).unwrap();
    let next = Some(v1::PolicyFiles { files }.encode_to_vec());
    let key = hex::encode(bundle.digest());
    let change = Keep { kind: Kind::PolicyFiles, key, was: None, next };
    core.store.keep(change, None, core.clock.now()).await.unwrap();
    let statement = v1::PolicyStatement {
        number,
        digest: bundle.digest().to_vec(),
        version: bundle.version().to_owned(),
        ..v1::PolicyStatement::default()
    };
    let signed = core.policies.key().sign(&statement);
    stored(harness, number, None, signed.encode_to_vec()).await;
    statement
}

#[tokio::test]
async fn a_newest_version_that_cannot_be_verified_puts_nothing_in_force() {
    let mut harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = policies(&harness, Role::Daemon, "h1").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap();
    put(&mut pat, files(&[RULES, FORBID].concat(), SCOPES)).await;
    // The first one's record in the place of the second: a rollback that nobody signed.
    let core = harness.server().core();
    let kept = async |number: u64| {
        let kept = core.store.kept(Kind::Policy, &format!("{number:020}")).await;
        kept.unwrap().unwrap()
    };
    let (one, two) = (kept(1).await, Some(kept(2).await));
    stored(&harness, 2, two, one).await;
    harness.stop().await;
    harness.run().await;
    let core = harness.server().core();
    assert!(core.policies.current().is_none());
    assert!(core.policies.stuck().unwrap().contains("version 2"));
    let mut news = daemon.watch(v1::WatchPolicyRequest::default()).await.unwrap().into_inner();
    let ended = news.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let mut asks = harness.daemon("h1").await;
    let refused = asks.request(under(&first.version, "/1", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    // What was judged under a directory of the host is its own.
    asks.request(under("sha256:000000000000", "/1", 1)).await.unwrap();
    // The next push is past it.
    assert_eq!(put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap().number, 3);
    let core = harness.server().core();
    assert_eq!((core.policies.stuck(), core.policies.unsettled()), (None, false));
    asks.request(under(&first.version, "/1", 1)).await.unwrap();
}

#[tokio::test]
async fn while_a_newer_version_cannot_be_used_the_older_is_not_confirmed_and_bears_nothing() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = harness.daemon("h1").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap();
    let [one, two, _] = asked(&harness, &mut daemon, &first.version).await;
    // As a later version of the program would write one.
    let core = harness.server().core();
    let statement = v1::PolicyStatement {
        number: 2,
        digest: vec![7; 32],
        version: "sha256:later".to_owned(),
        ..v1::PolicyStatement::default()
    };
    let signed = core.policies.key().sign(&statement);
    stored(&harness, 2, None, signed.encode_to_vec()).await;
    crate::server::policies::catch_up(core).await;
    assert!(core.policies.stuck().is_some());
    let mut follows = policies(&harness, Role::Daemon, "h1").await;
    let mut news = follows.watch(v1::WatchPolicyRequest::default()).await.unwrap().into_inner();
    assert_eq!(news.message().await.unwrap_err().code(), Code::Unavailable);
    let digest = |of: &v1::Approval| of.request.as_ref().unwrap().digest.clone();
    let refused = daemon.claim(claim(&one.id, digest(&one))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let refused = daemon.request(under(&first.version, "/4", 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(harness.audited("grant.voided").await.is_empty(), "that is not for this one to say");
    // The way back past it.
    let third = pat.roll_back(back(1)).await.unwrap().into_inner().accepted.unwrap();
    assert_eq!((third.number, third.again), (3, 1));
    assert_eq!(claims(&mut daemon, &one).await, Ok(()));
    assert_eq!(claims(&mut daemon, &two).await, Ok(()));
}

#[tokio::test]
async fn a_push_whose_caller_is_gone_voids_all_the_same() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = harness.daemon("h1").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap().version;
    let [_, two, _] = asked(&harness, &mut daemon, &first).await;
    let core = harness.server().core();
    let tighter = pushed(files(&[RULES, FORBID].concat(), SCOPES));
    let push = crate::server::policies::push(core, "policy-admin/pat", tighter);
    // It is asked once, and dropped.
    assert!(tokio::time::timeout(Duration::ZERO, push).await.is_err());
    voided(&harness).await;
    assert_eq!(claims(&mut daemon, &two).await, Err("revoked".to_owned()));
}

/// Waits until one grant was voided.
async fn voided(harness: &Harness) {
    let settled = async {
        while harness.audited("grant.voided").await.is_empty()
            || harness.server().core().policies.unsettled()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), settled).await.unwrap();
}

#[tokio::test]
async fn a_rollback_that_fails_after_it_took_in_a_version_of_another_server_voids_what_that_one_does()
 {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = harness.daemon("h1").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap().version;
    let [_, two, _] = asked(&harness, &mut daemon, &first).await;
    let second = version_of_another(&harness, 2, files(&[RULES, FORBID].concat(), SCOPES)).await;
    assert_eq!(pat.roll_back(back(9)).await.unwrap_err().code(), Code::NotFound);
    let core = harness.server().core();
    assert_eq!(core.policies.current().unwrap().statement, second);
    // Until it was looked at, too.
    let digest = &two.request.as_ref().unwrap().digest;
    let granted = daemon.claim(claim(&two.id, digest)).await;
    assert!(
        granted.is_err_and(|status| status.code() == Code::FailedPrecondition)
            || claims(&mut daemon, &two).await.is_err()
    );
    voided(&harness).await;
    assert_eq!(claims(&mut daemon, &two).await, Err("revoked".to_owned()));
}

#[tokio::test]
async fn follow_looks_at_once_when_told_to() {
    let harness = Harness::start().await;
    let core = harness.server().core();
    let mut version = core.policies.watch();
    let theirs = version_of_another(&harness, 1, files(RULES, SCOPES)).await;
    core.policies.look();
    // Long before it would look by itself.
    let seen = tokio::time::timeout(Duration::from_secs(4), version.changed()).await;
    seen.unwrap().unwrap();
    assert_eq!(core.policies.current().unwrap().statement, theirs);
}

#[tokio::test]
async fn a_path_is_looked_at_in_each_way_that_a_server_may_read_it() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    let mut daemon = harness.daemon("h1").await;
    let first = put(&mut pat, files(RULES, SCOPES)).await.accepted.unwrap().version;
    let mut ann = harness.reviewer("ann", &["ops"]).await;
    let mut grants = Vec::new();
    for path in ["/%32", "/3"] {
        let asked = daemon.request(under(&first, path, 1)).await.unwrap().into_inner();
        let digest = &asked.request.as_ref().unwrap().digest;
        ann.decide(vote(&asked.id, digest, true)).await.unwrap();
        grants.push(asked);
    }
    // It forbids `/2`, which a host takes `/%32` for too.
    assert_eq!(put(&mut pat, files(&[RULES, FORBID].concat(), SCOPES)).await.voided, 1);
    assert_eq!(claims(&mut daemon, &grants[0]).await, Err("revoked".to_owned()));
    assert_eq!(claims(&mut daemon, &grants[1]).await, Ok(()));
}

#[tokio::test]
async fn a_rollback_to_what_cannot_be_used_any_more_is_on_record() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    // As an earlier version of the program, which asked for less, took it.
    let test = v1::PolicyFile {
        path: "tests/a.toml".to_owned(),
        text: "[[test]]\nname = \"post\"\nagent = \"a\"\nmethod = \"POST\"\n\
               url = \"https://api.example/\"\nexpect = \"allow\"\n"
            .to_owned(),
    };
    version_of_another(&harness, 1, [files(RULES, SCOPES), vec![test]].concat()).await;
    put(&mut pat, files(RULES, SCOPES)).await;
    let answer = pat.roll_back(back(1)).await.unwrap().into_inner();
    assert!(answer.accepted.is_none() && answer.failures.len() == 1, "{answer:?}");
    let refused = harness.audited("policy.refused").await;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].detail, "errors=0 failed-tests=1 again=1");
}

#[tokio::test]
async fn a_bundle_that_a_host_refused_is_sent_again() {
    let harness = Harness::start().await;
    let mut pat = policies(&harness, Role::PolicyAdmin, "pat").await;
    put(&mut pat, files(RULES, SCOPES)).await;
    drop(harness.join(Role::Daemon, "h1", &[]).await);
    let client = Client::start(harness.options("h1")).unwrap();
    let (sender, mut news) = tokio::sync::mpsc::channel(2);
    let refused = tokio::sync::Notify::new();
    let follow = client.follow_policy(Vec::new, &refused, sender);
    let bundles = async {
        for _ in 0..2 {
            while !matches!(news.recv().await.unwrap().news, Some(News::Bundle(_))) {}
            refused.notify_one();
        }
    };
    let both = async {
        tokio::select! {
            () = follow => panic!("it goes on for as long as somebody takes the news"),
            () = bundles => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
}

#[test]
fn the_files_of_this_suite_are_a_bundle() {
    let all: Files = files(RULES, SCOPES).into_iter().map(|file| (file.path, file.text)).collect();
    let bundle = Bundle::from_files(&all).unwrap();
    assert_eq!(bundle.scopes().count(), 1);
    assert!(PublicKey::parse("x").is_none());
}
