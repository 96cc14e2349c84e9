//! Policy versions: who makes them, what is taken, what they void, and what daemons hear.

use super::*;
use crate::policy::signed::{PublicKey, statement_hash};
use crate::policy::{Bundle, Files};
use enforcer_proto::v1::policies_client::PoliciesClient;
use enforcer_proto::v1::policy_news::News;
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
}

#[test]
fn the_files_of_this_suite_are_a_bundle() {
    let all: Files = files(RULES, SCOPES).into_iter().map(|file| (file.path, file.text)).collect();
    let bundle = Bundle::from_files(&all).unwrap();
    assert_eq!(bundle.scopes().count(), 1);
    assert!(PublicKey::parse("x").is_none());
}
