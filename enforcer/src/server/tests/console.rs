//! The console: who gets in, for how long, and what a page lets whom do.

use super::browser::{Browser, Page};
use super::*;
use crate::approval::identity::Subject;
use crate::server::people::{self, Account, Proven, session, setup};
use http_body_util::BodyExt as _;

pub(super) const CONSOLE: &str = "[console]\nlisten = \"127.0.0.1:0\"\n";

fn proven(role: Role, name: &str, groups: &[&str]) -> Proven {
    Proven {
        subject: Subject::new(role, name).unwrap(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
        account: Some(Account { issuer: "https://id".to_owned(), sub: format!("sub-{name}") }),
        shown: format!("{name}@example.org"),
    }
}

/// A browser of somebody whom the identity provider vouched for.
pub(super) async fn signed_in(
    harness: &Harness,
    role: Role,
    name: &str,
    groups: &[&str],
) -> Browser {
    let core = harness.server().core();
    let proven = proven(role, name, groups);
    people::admit(core, &proven).await.unwrap().unwrap();
    let secret = session::begin(core, &proven).await.unwrap();
    let mut browser = Browser::new(harness);
    browser.cookies.insert("__Host-enforcer".to_owned(), secret);
    browser
}

/// Something that waits for `ops`, and where it is looked at.
async fn waiting(harness: &Harness, path: &str, quorum: u32) -> (v1::Approval, String) {
    let request = convert::request(ask("h1", path, vec![scope("s", &["ops"], quorum, 1)]));
    let mut daemon = harness.daemon("h1").await;
    let asked = daemon.request(request).await.unwrap().into_inner();
    let page = format!("/approvals/{}", asked.id);
    (asked, page)
}

pub(super) async fn phase(harness: &Harness, asked: &v1::Approval) -> &'static str {
    let id = asked.id.parse().unwrap();
    harness.server().core().store.get(id).await.unwrap().unwrap().phase.as_str()
}

/// The form of a page, filled in.
fn filled<'a>(page: &'a Page, vote: &'a str, reason: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![("vote", vote), ("reason", reason), ("read", "yes")];
    for name in ["csrf", "digest", "seen"] {
        fields.extend(page.hidden(name).map(|value| (name, value)));
    }
    fields
}

#[tokio::test]
async fn the_setup_secret_signs_one_admin_in_once() {
    let harness = Harness::start_with(CONSOLE).await;
    let path = &harness.config.console.setup_file;
    let secret = setup::make(path, harness.time.load(Ordering::Relaxed)).unwrap();
    let mut browser = Browser::new(&harness);
    assert_eq!(browser.get("/").await.header("location"), "/signin");
    assert!(browser.get("/signin").await.text.contains("name=\"secret\""));
    let wrong = "0".repeat(64);
    assert_eq!(browser.post("/signin/setup", &[("secret", &wrong)]).await.status, 403);
    let elsewhere =
        browser.post_from("/signin/setup", &[("secret", &secret)], "https://evil").await;
    assert_eq!(elsewhere.status, 403);
    let mut other = Browser::new(&harness);
    let entered = browser.post("/signin/setup", &[("secret", &format!(" {secret} "))]).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    assert!(entered.header("set-cookie").contains("SameSite=Strict"));
    assert_eq!(other.post("/signin/setup", &[("secret", &secret)]).await.status, 403, "only once");
    let members = browser.get("/members").await;
    assert!(members.status == 200 && members.text.contains("local-admin"));
    // Who runs the server has no vote.
    let (asked, at) = waiting(&harness, "/a", 1).await;
    let page = browser.get(&at).await;
    assert!(page.status == 200 && page.hidden("seen").is_none());
    let csrf = page.hidden("csrf").unwrap();
    let deny = [("csrf", csrf), ("vote", "deny"), ("digest", &asked.request.unwrap().digest)];
    assert_eq!(browser.post(&format!("{at}/decide"), &deny).await.status, 403);
    let shown = harness.audited("signin.accepted").await;
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].actor, "admin/local-admin");
    assert_eq!(harness.audited("signin.refused").await.len(), 3);
    assert_eq!(harness.audited("access.refused").await.len(), 1);
}

#[tokio::test]
async fn a_reviewer_approves_what_was_shown_and_denies() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let (asked, at) = waiting(&harness, "/pay", 1).await;
    let queue = ann.get("/").await;
    assert!(queue.text.contains(&at) && queue.text.contains("https://api.example/pay"));
    let page = ann.get(&at).await;
    for part in
        ["{&quot;sum&quot;:1}", "The digest is that of exactly this", "Approve exactly this"]
    {
        assert!(page.text.contains(part), "{part}");
    }
    let decide = format!("{at}/decide");
    let unread: Vec<_> =
        filled(&page, "approve", "ok").into_iter().filter(|(name, _)| *name != "read").collect();
    assert_eq!(ann.post(&decide, &unread).await.status, 400);
    let mut changed = filled(&page, "approve", "ok");
    let other = format!("v1:{}", "0".repeat(64));
    changed.iter_mut().for_each(|(name, value)| {
        if *name == "digest" {
            *value = &other;
        }
    });
    assert_eq!(ann.post(&decide, &changed).await.status, 400, "not what the page showed");
    changed.iter_mut().for_each(|(name, value)| {
        if *name == "vote" {
            *value = "deny";
        }
    });
    assert_eq!(ann.post(&decide, &changed).await.status, 409, "the digest of something else");
    assert_eq!(phase(&harness, &asked).await, "pending");
    let done = ann.post(&decide, &filled(&page, "approve", "invoice 1")).await;
    assert_eq!((done.status, done.header("location")), (303, at.as_str()));
    assert_eq!(phase(&harness, &asked).await, "approved");
    let after = ann.get(&at).await;
    assert!(after.text.contains("invoice 1") && after.hidden("seen").is_none());
    let (asked, at) = waiting(&harness, "/no", 1).await;
    let page = ann.get(&at).await;
    let done = ann.post(&format!("{at}/decide"), &filled(&page, "deny", "not now")).await;
    assert_eq!(done.status, 303);
    assert_eq!(phase(&harness, &asked).await, "denied");
    let found = ann.get("/history?q=INVOICE&state=approved").await;
    assert!(found.text.contains("/pay") && !found.text.contains("/no"));
    let votes = harness.audited("approval.voted").await;
    assert!(votes.iter().all(|vote| vote.actor == "reviewer/ann") && votes.len() == 2);
}

#[tokio::test]
async fn a_viewer_looks_and_a_forged_form_changes_nothing() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut vic = signed_in(&harness, Role::Viewer, "vic", &[]).await;
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let (asked, at) = waiting(&harness, "/pay", 1).await;
    let page = vic.get(&at).await;
    assert!(page.status == 200 && page.text.contains("https://api.example/pay"));
    assert!(!page.text.contains("value=\"approve\"") && !page.text.contains("value=\"deny\""));
    let digest = asked.request.clone().unwrap().digest;
    let csrf = page.hidden("csrf").unwrap();
    let forged = [("csrf", csrf), ("vote", "deny"), ("digest", &digest), ("reason", "x")];
    let refused = vic.post(&format!("{at}/decide"), &forged).await;
    assert!(refused.status == 403, "{}", refused.text);
    assert_eq!(vic.post(&format!("{at}/revoke"), &forged).await.status, 403);
    for path in ["/members", "/sessions", "/audit"] {
        assert_eq!(vic.get(path).await.status, 403, "{path}");
    }
    assert_eq!(vic.post("/members/remove", &[("csrf", csrf)]).await.status, 403);
    // Of what a reviewer may not decide there is nothing to see.
    let mut bob = signed_in(&harness, Role::Reviewer, "bob", &["dba"]).await;
    assert_eq!(bob.get(&at).await.status, 404);
    // Another's token, none, and another's page are as good as nothing.
    let page = ann.get(&at).await;
    let good = filled(&page, "deny", "x");
    let decide = format!("{at}/decide");
    assert_eq!(ann.post(&decide, &forged).await.status, 403, "another session's token");
    assert_eq!(ann.post(&decide, &good[..2]).await.status, 403, "no token");
    assert_eq!(ann.post_from(&decide, &good, "https://evil.example").await.status, 403);
    assert_eq!(ann.post_from(&decide, &good, "null").await.status, 403);
    let mut nobody = Browser::new(&harness);
    assert_eq!(nobody.post(&decide, &good).await.status, 401);
    assert_eq!(phase(&harness, &asked).await, "pending");
    assert_eq!(ann.post(&decide, &good).await.status, 303, "the same form, as it was made");
    assert_eq!(phase(&harness, &asked).await, "denied");
    let refused = harness.audited("access.refused").await;
    let count = |why: &str| refused.iter().filter(|record| record.detail == why).count();
    assert_eq!((count("csrf"), count("origin")), (2, 2));
    assert!(count("role") >= 5);
}

#[tokio::test]
async fn sessions_end() {
    let harness =
        Harness::start_with(&format!("{CONSOLE}idle_minutes = 10\nsession_hours = 1\n")).await;
    let minutes = |n: u64| Duration::from_secs(60 * n);
    // By disuse.
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    harness.pass(minutes(9));
    assert_eq!(ann.get("/").await.status, 200);
    harness.pass(minutes(9));
    assert_eq!(ann.get("/").await.status, 200, "it was used");
    harness.pass(minutes(12));
    assert_eq!(ann.get("/").await.header("location"), "/signin");
    // In any case after an hour.
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    for _ in 0..7 {
        harness.pass(minutes(8));
        assert_eq!(ann.get("/").await.status, 200);
    }
    harness.pass(minutes(5));
    assert_eq!(ann.get("/").await.header("location"), "/signin");
    // By its person.
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let kept = ann.cookies.clone();
    let csrf = ann.get("/").await.hidden("csrf").unwrap().to_owned();
    assert_eq!(ann.post("/signout", &[("csrf", &csrf)]).await.header("location"), "/signin");
    assert!(ann.cookies.is_empty());
    ann.cookies = kept;
    assert_eq!(ann.get("/").await.header("location"), "/signin", "the cookie is worth nothing");
    // By an admin.
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let mut olaf = signed_in(&harness, Role::Admin, "olaf", &[]).await;
    let page = olaf.get("/sessions").await;
    assert!(page.text.contains("reviewer/ann"));
    let core = harness.server().core();
    let all = session::list(core).await.unwrap();
    let (id, _) = all.iter().find(|(_, s)| s.subject().unwrap().name() == "ann").unwrap();
    let form = [("csrf", page.hidden("csrf").unwrap()), ("id", id)];
    assert_eq!(olaf.post("/sessions/end", &form).await.status, 303);
    assert_eq!(ann.get("/").await.header("location"), "/signin");
    assert_eq!(olaf.get("/").await.status, 200);
    // With the right, and not to come back by signing in again.
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    assert_eq!(ann.get("/").await.status, 200);
    harness.pass(Duration::from_millis(1));
    crate::server::members::remove(core, "test", gone(Role::Reviewer, "ann")).await.unwrap();
    assert_eq!(ann.get("/").await.header("location"), "/signin");
    let again = people::admit(core, &proven(Role::Reviewer, "ann", &["ops"])).await.unwrap();
    assert_eq!(again, Err(people::NotIn::Removed));
    let ann = Subject::new(Role::Reviewer, "ann").unwrap();
    people::restore(core, "test", &ann).await.unwrap();
    harness.pass(Duration::from_millis(1));
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    assert_eq!(ann.get("/").await.status, 200);
    assert_eq!(harness.audited("session.ended").await.len(), 2);
}

#[tokio::test]
async fn one_name_is_one_person_and_one_account() {
    let harness = Harness::start_with(CONSOLE).await;
    let (asked, at) = waiting(&harness, "/two", 2).await;
    let digest = asked.request.clone().unwrap().digest;
    let mut by_certificate = harness.reviewer("ann", &["ops"]).await;
    by_certificate.decide(vote(&asked.id, &digest, true)).await.unwrap();
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let page = ann.get(&at).await;
    assert!(page.text.contains("You voted"));
    let mut bob = signed_in(&harness, Role::Reviewer, "bob", &["ops"]).await;
    let form = bob.get(&at).await;
    let mut forged = filled(&form, "approve", "again");
    let csrf = page.hidden("csrf").unwrap();
    forged.retain(|(name, _)| *name != "csrf" && *name != "seen");
    let seen = session::derived(csrf, &format!("seen {} {digest}", asked.id));
    forged.extend([("csrf", csrf), ("seen", &seen)]);
    let again = ann.post(&format!("{at}/decide"), &forged).await;
    assert_eq!(again.status, 303, "{}", again.text);
    assert_eq!(phase(&harness, &asked).await, "pending", "the same person twice is one");
    let done = bob.post(&format!("{at}/decide"), &filled(&form, "approve", "ok")).await;
    assert_eq!(done.status, 303);
    assert_eq!(phase(&harness, &asked).await, "approved", "two people are two");
    let mut other = proven(Role::Reviewer, "ann", &["ops"]);
    other.account = Some(Account { issuer: "https://id".to_owned(), sub: "mallory".to_owned() });
    let core = harness.server().core();
    let refused = people::admit(core, &other).await.unwrap();
    assert_eq!(refused, Err(people::NotIn::OtherAccount));
}

#[tokio::test]
async fn what_is_not_shown_whole_cannot_be_approved() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let mut asked = ask("h1", "/big", vec![scope("s", &["ops"], 1, 1)]);
    asked.operation.with_body(Bytes::from("a line of a long body\n".repeat(2000) + "the end"));
    asked.digest = asked.operation.digest(&asked.principal);
    let mut daemon = harness.daemon("h1").await;
    let asked = daemon.request(convert::request(asked)).await.unwrap().into_inner();
    let at = format!("/approvals/{}", asked.id);
    let part = ann.get(&at).await;
    assert!(part.hidden("seen").is_none() && !part.text.contains("the end"));
    assert!(part.text.contains("value=\"deny\""), "it can be denied");
    let mut form = filled(&part, "approve", "ok");
    assert_eq!(ann.post(&format!("{at}/decide"), &form).await.status, 400);
    let other = "0".repeat(64);
    form.push(("seen", &other));
    assert_eq!(ann.post(&format!("{at}/decide"), &form).await.status, 400);
    let whole = ann.get(&format!("{at}?whole=1")).await;
    assert!(whole.text.contains("the end"));
    let done = ann.post(&format!("{at}/decide"), &filled(&whole, "approve", "ok")).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(phase(&harness, &asked).await, "approved");
}

#[tokio::test]
async fn hostile_text_is_text() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let evil = "</dd><script>alert(1)</script>\u{202e}gnp\u{200b}\x1b[2J\"'><img src=x>\u{430}";
    let mut asked = ask("h1", "/x", vec![scope("s", &["ops"], 1, 1)]);
    asked.operation.resource = evil.to_owned();
    asked.operation.fact(evil, evil);
    asked.operation.with_body(Bytes::from(format!("{evil}\n<form action=//evil>\n")));
    asked.digest = asked.operation.digest(&asked.principal);
    let mut daemon = harness.daemon("h1").await;
    let asked = daemon.request(convert::request(asked)).await.unwrap().into_inner();
    for path in ["/".to_owned(), format!("/approvals/{}", asked.id), "/history".to_owned()] {
        let page = ann.get(&path).await;
        assert_eq!(page.status, 200);
        for bad in ["<script>", "<img", "<form action=//evil", "\u{202e}", "\u{200b}", "\x1b"] {
            assert!(!page.text.contains(bad), "{bad:?} in {path}");
        }
        assert!(page.text.contains("U+202E") && page.text.contains("&lt;script&gt;"), "{path}");
    }
    let form = ann.get(&format!("/approvals/{}", asked.id)).await;
    assert!(form.hidden("seen").is_some(), "it is shown whole, and so it can be approved");
    for path in ["/history?q=%3Cscript%3E", "/signin?to=//evil", "/nothing", "/approvals/x"] {
        let page = ann.get(path).await;
        assert!(!page.text.contains("<script>") && !page.text.contains("//evil"), "{path}");
    }
}

#[tokio::test]
async fn a_browser_is_told_what_a_page_may_do() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let page = ann.get("/").await;
    let csp = page.header("content-security-policy");
    for part in ["default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(csp.contains(part), "{csp}");
    }
    assert!(!csp.contains("unsafe") && !page.text.contains("style=\""));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("cache-control"), "no-store");
    let script = page.text.split("src=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let asset = ann.get(&script).await;
    assert!(asset.status == 200 && asset.header("content-type").starts_with("text/javascript"));
    assert!(asset.header("cache-control").contains("immutable"));
    assert_eq!(ann.get("/assets/0/console.js").await.status, 404);
    // A link from elsewhere comes without the strict cookie: the page leads to itself once.
    let id = uuid::Uuid::now_v7();
    let mut elsewhere = Browser::new(&harness);
    let link =
        http::Request::get(format!("/approvals/{id}")).header("sec-fetch-site", "cross-site");
    let page = elsewhere.ask(link, String::new()).await;
    assert!(page.text.contains(&format!("0; url=/approvals/{id}")), "{}", page.text);
    let asked = elsewhere.get(&format!("/approvals/{id}")).await;
    assert_eq!(asked.header("location"), format!("/signin?to=/approvals/{id}"));
}

#[tokio::test]
async fn news_come_while_the_right_is_there() {
    let harness = Harness::start_with(CONSOLE).await;
    let ann = signed_in(&harness, Role::Reviewer, "ann", &["ops"]).await;
    let mut stream = ann.send(http::Request::get("/live"), String::new()).await.into_body();
    let mut heard = String::new();
    let limit = Duration::from_secs(60);
    let mut until = async |word: &str| {
        while !heard.contains(word) {
            let frame = tokio::time::timeout(limit, stream.frame()).await.expect("in time");
            let Some(Ok(frame)) = frame else { panic!("ended before {word}: {heard}") };
            heard.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
    };
    until("event: hello\ndata: *\n\n").await;
    let (asked, _) = waiting(&harness, "/a", 1).await;
    until(&format!("data: {}", asked.id)).await;
    harness.pass(Duration::from_millis(1));
    let core = harness.server().core();
    crate::server::members::remove(core, "test", gone(Role::Reviewer, "ann")).await.unwrap();
    until("event: bye").await;
    let mut nobody = Browser::new(&harness);
    assert_eq!(nobody.get("/live").await.status, 401);
}

#[tokio::test]
async fn trying_to_sign_in_has_a_pace() {
    let harness = Harness::start_with(CONSOLE).await;
    let mut browser = Browser::new(&harness);
    let mut last = 0;
    for _ in 0..40 {
        last = browser.post("/signin/setup", &[("secret", "x")]).await.status;
        if last == 429 {
            break;
        }
        assert_eq!(last, 403);
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn hosts_tell_of_themselves_and_nobody_else_does() {
    let harness = Harness::start_with(CONSOLE).await;
    let channel = harness.join(Role::Daemon, "h1", &[]).await;
    let mut host = v1::hosts_client::HostsClient::new(channel);
    let layer = v1::HostCheck { name: "cgroup".to_owned(), ok: false, detail: "gone".to_owned() };
    let report = v1::HostReport {
        policy: "sha256:77".to_owned(),
        layers: vec![layer],
        recording: true,
        ..v1::HostReport::default()
    };
    host.report(report.clone()).await.unwrap();
    let long = v1::HostReport { version: "x".repeat(600), ..report.clone() };
    assert_eq!(host.report(long).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(
        host.list(v1::ListHostsRequest {}).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    let person = harness.join(Role::Viewer, "vic", &[]).await;
    let mut viewer = v1::hosts_client::HostsClient::new(person.clone());
    let hosts = viewer.list(v1::ListHostsRequest {}).await.unwrap().into_inner().hosts;
    assert_eq!(hosts[0].report, Some(report.clone()));
    assert_eq!(viewer.report(report).await.unwrap_err().code(), Code::PermissionDenied);
    let mut vic = signed_in(&harness, Role::Viewer, "vic", &[]).await;
    let page = vic.get("/hosts").await;
    assert!(page.text.contains("gone") && page.text.contains("look at it"));
    assert!(vic.get("/policy").await.text.contains("sha256:77"));
    let mut people = v1::people_client::PeopleClient::new(person);
    let refused = people.list_sessions(v1::ListSessionsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let admin = harness.join(Role::Admin, "olaf", &[]).await;
    let mut people = v1::people_client::PeopleClient::new(admin);
    let all = people.list_sessions(v1::ListSessionsRequest {}).await.unwrap().into_inner();
    assert_eq!(all.sessions[0].subject, "viewer/vic");
    let id = all.sessions[0].id.clone();
    people.end_session(v1::EndSessionRequest { id }).await.unwrap();
    assert_eq!(vic.get("/hosts").await.header("location"), "/signin");
}
