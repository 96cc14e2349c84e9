//! Whole bundles: verdicts, which target a name means, and what is refused with which words.

use super::*;
use crate::operation::Operation;
use crate::principal::{AgentName, Principal, Process};
use std::sync::Arc;
use std::time::Duration;

mod guide;
mod memo;
mod problems;
mod properties;
mod sql;
mod verdicts;

/// A bundle's files with these contents; what is left out is empty.
fn files(targets: &str, rules: &str, scopes: &str, masks: &str) -> Files {
    [
        ("targets.toml", targets),
        ("rules.cedar", rules),
        ("scopes.toml", scopes),
        ("masks.toml", masks),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into()
}

fn bundle(targets: &str, rules: &str, scopes: &str) -> Bundle {
    Bundle::from_files(&files(targets, rules, scopes, ""))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn principal(agent: &str) -> Principal {
    Principal {
        host: "h1".to_owned(),
        agent: AgentName::parse(agent).unwrap(),
        task: None,
        cgroup: format!("/agents/{agent}"),
        process: Process { uid: 1000, ..Process::default() },
    }
}

/// A request the way the proxy describes it, with an empty body.
fn request(bundle: &Bundle, method: &str, url: &str) -> (Arc<Target>, Operation) {
    let url = url::Url::parse(url).unwrap();
    let host = url.host_str().unwrap();
    let port = url.port_or_known_default().unwrap();
    let target = Arc::clone(bundle.target_for_name(host, Some(port)).unwrap());
    let mut op = Operation::new(
        &target.name,
        host,
        port,
        crate::operation::Protocol::Http,
        schema::http_action(method),
        url.to_string(),
    );
    op.fact("http.method", method);
    op.fact("http.scheme", url.scheme());
    op.fact("http.authority", host);
    op.fact("http.path", url.path());
    if let Some(query) = url.query() {
        op.fact("http.query", query);
    }
    op.with_body(bytes::Bytes::new());
    (target, op)
}

#[test]
fn a_target_says_what_it_is() {
    let bundle = bundle(
        r#"
        [[target]]
        name = "api"
        names = ["API.example.com", "*.api.example.com"]
        addresses = ["10.0.0.0/24", "10.0.1.7"]
        ports = [8443, 443, 443]
        tags = ["prod", "a"]
        hold = "1m30s"
        ignore_headers = ["User-Agent"]
        [[target.inject]]
        header = "Authorization"
        prefix = "Bearer "
        credential = "token"
        "#,
        r#"@id("r") permit (principal, action, resource);"#,
        "",
    );
    let target = bundle.target("api").unwrap();
    assert_eq!(target.ports, [443, 8443]);
    assert_eq!(target.hold, Duration::from_secs(90));
    assert_eq!(target.ignore_headers, ["user-agent"]);
    assert_eq!(target.tls, TlsMode::Inspect);
    assert_eq!(target.tags, ["a", "prod"]);
    assert_eq!(
        target.names,
        [
            NamePattern::Exact("api.example.com".to_owned()),
            NamePattern::Below("api.example.com".to_owned())
        ]
    );
    assert_eq!(target.addresses[1].to_string(), "10.0.1.7/32");
    assert_eq!(
        target.inject,
        [InjectHeader {
            name: http::header::AUTHORIZATION,
            prefix: "Bearer ".to_owned(),
            source: SecretSource::Credential("token".to_owned()),
        }]
    );
    assert!(bundle.masks_for(target).is_empty());
}

#[test]
fn the_version_is_of_all_files_and_where_they_end() {
    let version = |files: &Files| Bundle::from_files(files).unwrap().version().to_owned();
    let one = files("", "", "", "");
    assert_eq!(version(&one), version(&one.clone()));
    assert!(version(&one).starts_with("sha256:"));
    assert_eq!(version(&one).len(), "sha256:".len() + 12);
    let moved = files("# a", "", "", "");
    let elsewhere = files("", "", "# a", "");
    assert_ne!(version(&moved), version(&elsewhere));
    let mut with_tests = one.clone();
    with_tests.insert("tests/a.toml".to_owned(), String::new());
    assert_ne!(version(&one), version(&with_tests));
}

#[test]
fn a_directory_is_read_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Bundle::load(&dir.path().join("no")).unwrap_err().to_string();
    assert!(missing.contains("cannot be read"), "{missing}");
    for (path, text) in starter() {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::write(dir.path().join("README.md"), "not policy").unwrap();
    std::fs::write(dir.path().join(".rules.cedar.swp"), "not policy").unwrap();
    assert!(Bundle::load(dir.path()).is_ok());

    std::fs::write(dir.path().join("more.cedar"), "").unwrap();
    std::fs::write(dir.path().join("scopes.toml"), b"# \xff").unwrap();
    std::fs::remove_file(dir.path().join("masks.toml")).unwrap();
    let problems = Bundle::load(dir.path()).unwrap_err().to_string();
    for part in [
        "more.cedar: error: is not part of a bundle",
        "scopes.toml: error: is not UTF-8 from byte 2",
        "masks.toml: error: is missing",
    ] {
        assert!(problems.contains(part), "{part:?} is not in:\n{problems}");
    }
}

#[test]
fn a_bundle_that_is_not_there_allows_nothing_and_says_so() {
    let none = Bundle::absent(Absence::Expired).unwrap();
    assert_eq!((none.absence(), none.version()), (Some(Absence::Expired), ""));
    assert!(none.targets().is_empty() && none.rules().next().is_none());
    assert_eq!(Bundle::from_files(&files("", "", "", "")).unwrap().absence(), None);
}

#[test]
fn a_decision_under_a_scope_does_for_one_that_asks_for_no_more() {
    let one = || {
        let bundle = bundle(
            "[[target]]\nname = \"t\"\nnames = [\"t.test\"]\n",
            "@id(\"r\") @approval(\"s\") permit (principal, action, resource);",
            "[[scope]]\nname = \"s\"\nreviewers = [\"a\", \"b\"]\nquorum = 2\ndeny_threshold = 2\n\
             request_ttl = \"10m\"\ngrant_ttl = \"5m\"\nuses = 3\nreason = \"required\"\n\
             reason_pattern = \"X-[0-9]+\"\nhours = [\"Mon-Fri 08:00-18:00 UTC\"]\n\
             escalate_after = \"5m\"\nescalate_to = [\"c\"]\nbreak_glass = [\"d\"]\n",
        );
        bundle.scope("s").unwrap().clone()
    };
    assert!(one().is_as_strict_as(&one()));
    type Change = fn(&mut Scope);
    // What the other asks for: more, and the decision does not do; less, and it does.
    let changes: [(&str, Change, Change); 13] = [
        ("quorum", |s| s.quorum = 3, |s| s.quorum = 1),
        ("deny", |s| s.deny_threshold = 1, |s| s.deny_threshold = 3),
        ("request_ttl", |s| s.request_ttl /= 2, |s| s.request_ttl *= 2),
        ("grant_ttl", |s| s.grant_ttl /= 2, |s| s.grant_ttl *= 2),
        ("uses", |s| s.uses = 2, |s| s.uses = 4),
        ("reviewers", |s| s.reviewers = vec!["a".into()], |s| s.reviewers.push("e".into())),
        ("all reviewers", |s| s.reviewers = vec!["x".into()], |s| s.reviewers.clear()),
        ("pattern", |s| s.reason_pattern = Some("Y".into()), |s| s.reason_pattern = None),
        ("hours", |s| s.hours = vec!["Mon 08:00-18:00 UTC".parse().unwrap()], |s| s.hours.clear()),
        ("to", |s| s.escalate_to.clear(), |s| s.escalate_to.push("e".into())),
        (
            "after",
            |s| s.escalate_after = Some(Duration::from_secs(400)),
            |s| s.escalate_after = Some(Duration::from_secs(60)),
        ),
        ("glass", |s| s.break_glass.clear(), |s| s.break_glass.push("e".into())),
        ("name", |s| s.name = "z".into(), |_| ()),
    ];
    for (what, more, less) in changes {
        let (mut stricter, mut looser) = (one(), one());
        more(&mut stricter);
        less(&mut looser);
        assert!(!one().is_as_strict_as(&stricter), "{what}");
        assert!(one().is_as_strict_as(&looser), "{what}");
    }
    let (mut open, mut reasons) = (one(), one());
    open.reviewers.clear();
    assert!(!open.is_as_strict_as(&one()), "no groups are all groups");
    reasons.reason_required = false;
    reasons.reason_pattern = None;
    let mut asks = reasons.clone();
    asks.reason_required = true;
    assert!(!reasons.is_as_strict_as(&asks) && asks.is_as_strict_as(&reasons));
    let mut patterns = one();
    patterns.patterns = true;
    assert!(!patterns.is_as_strict_as(&one()) && one().is_as_strict_as(&patterns));
}
