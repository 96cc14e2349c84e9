//! Whole bundles: verdicts, which target a name means, and what is refused with which words.

use super::*;
use crate::operation::Operation;
use crate::principal::{AgentName, Principal, Process};
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
fn request(bundle: &Bundle, method: &str, url: &str) -> (Target, Operation) {
    let url = url::Url::parse(url).unwrap();
    let host = url.host_str().unwrap();
    let port = url.port_or_known_default().unwrap();
    let target = bundle.target_for_name(host, Some(port)).unwrap().clone();
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
