//! What is refused, in which words.

use super::*;

/// Every problem, as `enforcer policy check` prints it.
fn problems(files: &Files) -> String {
    match Bundle::from_files(files) {
        Ok(bundle) => format!("ok\n{}", bundle.warnings()),
        Err(problems) => problems.to_string(),
    }
}

const API: &str = "[[target]]\nname = \"api\"\nnames = [\"api.test\"]\ntags = [\"prod\"]\n";
const RAW: &str = "[[target]]\nname = \"raw\"\nnames = [\"raw.test\"]\ntags = [\"prod\"]\nprotocol = \"opaque\"\ntls = \"passthrough\"\n";
const ALL: &str = "@id(\"all\") permit (principal, action, resource);\n";

#[test]
fn everything_is_reported_at_once() {
    let found = problems(&files(
        "[[target]]\nname = \"a\"\nhodl = \"5s\"\n[[target]]\nnames = [\"x.test\"]\nports = [0]\n",
        "permit (principal, action == Action::\"http.gett\", resource);",
        "[[scope]]\nname = \"s\"\nquorum = 0\n",
        "[[mask]]\nname = \"m\"\ntargets = \"a\"\njson = [\"$.a\"]\n",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn only_a_near_word_is_suggested() {
    let rule = |condition: &str| {
        let rule = "@id(\"r\") permit (principal, action == Action::\"dns.query\", resource)";
        problems(&files(API, &format!("{rule} when {{ {condition} }};\n"), "", ""))
    };
    let near = rule("context.recordtype == \"A\"");
    assert!(near.contains("did you mean `record_type`?"), "{near}");
    let far = rule("context.path == \"x\"");
    assert!(far.contains("`path`") && !far.contains("did you mean"), "{far}");
}

#[test]
fn broken_syntax() {
    let found = problems(&files(
        "[[target]\nname = \"a\"\n",
        "permit (principal, action, resource)\nforbid (principal action, resource);",
        "[[scope]]\nname = s\n",
        "x",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn targets() {
    let found = problems(&files(
        r#"
[[target]]
name = "a b"
names = ["x.test"]
[[target]]
name = "empty"
[[target]]
name = "names"
names = ["10.0.0.1", "https://a.test/x", "a.*.test", "*", "bücher.test", "a.test.", "-a.test", "b.test", "b.test", "*.com"]
[[target]]
name = "names"
names = ["b.test"]
[[target]]
name = "addresses"
addresses = ["10.0.0.1/8", "::ffff:10.0.0.0/104", "ten", "0.0.0.0/0"]
resolves_to = ["10.0.0.0/8", "eleven"]
[[target]]
name = "shares"
names = ["shares.test"]
addresses = ["0.0.0.0/0"]
resolves_to = ["10.0.0.0/8", "0.0.0.0/0"]
[[target]]
name = "opaque"
names = ["c.test"]
protocol = "opaque"
ignore_headers = ["x-a"]
[[target]]
name = "tls"
names = ["d.test"]
tls = "passthrough"
hold = "2d"
ports = ["443", 70000]
ignore_headers = ["Authorization", "x y"]
inject = [{ header = "host", file = "/a" }, { header = "x-a", env = "A", file = "b" }, { header = "x-b" }, { header = "x-c", credential = "../x", secret = "s" }]
[[target]]
name = "kinds"
names = "e.test"
protocol = "https"
tags = [1, "x y"]
hold = 5
[[targets]]
"#,
        ALL,
        "",
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn rules() {
    let found = problems(&files(
        &format!("{API}{RAW}"),
        r#"
permit (principal, action, resource);
@id("twice") permit (principal, action, resource);
@id("twice") permit (principal, action, resource);
@id("typo") @aproval("s") permit (principal, action, resource);
@id("no") @approval("s") forbid (principal, action, resource);
@id("scope") @approval("t") permit (principal, action, resource);
@id("a b") permit (principal, action, resource);
@id("target") permit (principal, action, resource == Target::"apy");
@id("tag") permit (principal, action, resource in Tag::"staging");
@id("slot") permit (principal == ?principal, action, resource);
"#,
        "[[scope]]\nname = \"s\"\n",
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn rules_that_cannot_fire() {
    let found = problems(&files(
        &format!("{API}{RAW}"),
        r#"
@id("http-on-opaque") permit (principal, action in Action::"read", resource == Target::"raw");
@id("opaque-on-http") permit (principal, action == Action::"opaque.connect", resource == Target::"api");
@id("fine") forbid (principal, action, resource == Target::"raw") when { context.port == 1 };
"#,
        "",
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn conditions_that_cannot_be_true() {
    let found = problems(&files(
        &format!("{API}{RAW}"),
        &r#"
@id("false") permit (principal, action, resource) when { false };
@id("type") permit (principal == Target::"api", action, resource);
@id("attr") permit (principal, action in Action::"read", resource) when { context.pth == "/x" };
@id("optional") permit (principal, action, resource) when { principal.task == "t" };
@id("method") permit (principal, action in Action::"read", resource) when { context.method == "get" };
@id("header") permit (principal, action in Action::"read", resource) when { context.headers.hasTag("X-A") };
@id("path") permit (principal, action in Action::"read", resource) when { "v1/x" == context.path };
@id("hash") permit (principal, action in Action::"read", resource) when { principal has exe_sha256 && principal.exe_sha256 == "ABC" };
@id("bidi") permit (principal, action in Action::"read", resource) when { context.path like "/BIDIx" };
"#
        .replace("BIDI", "\u{202e}"),
        "",
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn scopes() {
    let found = problems(&files(
        API,
        ALL,
        r#"
[[scope]]
name = "s"
quorum = 0
deny_threshold = -1
uses = 0
request_ttl = "0s"
grant_ttl = "forever"
reason = "yes"
reviewers = ["a b"]
[[scope]]
name = "s"
[[scope]]
quorum = "two"
[[scope]]
name = "pattern"
reason_pattern = "CHG-[0-9"
[[scope]]
name = "anything"
reason_pattern = ".*"
hours = ["Mon-Fri 08:00-18:00", "Mon 08:00-18:00 UTC", "8-18 UTC"]
break_glass = ["on call"]
[[scope]]
name = "nobody"
escalate_after = "5m"
[[scope]]
name = "never"
reviewers = ["a"]
escalate_to = ["b"]
[[scope]]
name = "everybody"
escalate_after = "5m"
escalate_to = ["b"]
[[scope]]
name = "the-same"
reviewers = ["a", "b"]
escalate_after = "5m"
escalate_to = ["b"]
[[scope]]
name = "late"
reviewers = ["a"]
request_ttl = "5m"
escalate_after = "5m"
escalate_to = ["b"]
"#,
        "",
    ));
    insta::assert_snapshot!(found);
}

#[test]
fn masks() {
    let found = problems(&files(
        &format!("{API}{RAW}"),
        ALL,
        "",
        r#"
[[mask]]
name = "target"
targets = ["apy", "raw"]
json = ["$.a"]
[[mask]]
name = "tag"
tags = ["prod", "dev"]
json = ["$.a"]
[[mask]]
name = "key"
jsn = ["$.a"]
[[mask]]
name = "path"
json = ["a b"]
[[mask]]
name = "path"
json = ["$.a"]
[[mask]]
json = ["$.a"]
"#,
    ));
    // What the mask engine says about its own keys is its own business.
    for part in [
        "mask `target`: there is no target `apy`",
        "mask `target`: target `raw` is opaque",
        "mask `tag`: no target has the tag `dev`",
        "mask `tag`: target `raw` has the tag `prod` and is opaque",
        "masks.toml:12:1: error: mask `key`: ",
        "masks.toml:13:1: error: mask",
        "mask `path` is there twice",
        "masks.toml:19:1: error: `name` is missing",
    ] {
        assert!(found.contains(part), "{part:?} is not in:\n{found}");
    }
}

#[test]
fn cases() {
    let mut files = files(API, ALL, "[[scope]]\nname = \"s\"\n", "");
    files.insert(
        "tests/a.toml".to_owned(),
        r#"
[[test]]
name = "a"
agent = "x"
url = "https://api.test/"
expect = "maybe"
[[test]]
name = "b"
agent = "x"
url = "https://api.test/"
dns = "api.test"
expect = "needs-approval(t)"
rules = ["al"]
[[test]]
name = "b"
agent = "x"
dns = "api.test"
expect = "needs-approval(s, )"
headers = { a = 1 }
[[test]]
agent = "x"
"#
        .to_owned(),
    );
    insta::assert_snapshot!(problems(&files));
}

#[test]
fn warnings_do_not_keep_a_bundle_from_use() {
    let found = problems(&files(
        &format!("{API}[[target]]\nname = \"idle\"\nnames = [\"idle.test\"]\n"),
        "@id(\"r\") permit (principal, action, resource == Target::\"api\");\n\
         @id(\"d\") permit (principal, action == Action::\"dns.query\", resource);\n\
         @id(\"m\") permit (principal, action, resource == Target::\"api\") when { principal.agent == \"аdmin\" };",
        "[[scope]]\nname = \"unused\"\n",
        "",
    ));
    insta::assert_snapshot!(found);
}

/// Each of these would end the process, were it parsed.
#[test]
fn what_is_too_deep_is_refused_before_it_is_parsed() {
    for condition in [
        "(".repeat(20_000) + "true",
        "!(".repeat(20_000) + "true",
        "true && ".repeat(20_000) + "true",
        "context".to_owned() + &".a".repeat(20_000),
        "if true then true else ".repeat(20_000) + "true",
    ] {
        let rules =
            format!("@id(\"r\") permit (principal, action, resource) when {{ {condition} }};");
        let found = problems(&files(API, &rules, "", ""));
        assert!(found.contains("error: "), "{found}");
    }
    for targets in ["a.".repeat(20_000) + "a = 1", "a = ".to_owned() + &"[".repeat(20_000)] {
        let found = problems(&files(&targets, "", "", &targets));
        assert!(found.contains("not valid TOML"), "{found}");
    }
}

#[test]
fn an_empty_bundle_denies_all() {
    assert_eq!(problems(&files("", "", "", "")), "ok\n");
    let missing = problems(&Files::new());
    assert_eq!(missing.matches("is missing").count(), 4, "{missing}");
}
