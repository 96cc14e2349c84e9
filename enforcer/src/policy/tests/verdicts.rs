//! Which rules make which verdict, and which target a name or address means.

use super::*;
use crate::operation::{Fact, Protocol};
use rstest::rstest;

const TARGETS: &str = r#"
[[target]]
name = "api"
names = ["api.test"]
ports = [443]
tags = ["prod"]

[[target]]
name = "raw"
names = ["raw.test"]
protocol = "opaque"
tls = "passthrough"

[[target]]
name = "other"
names = ["other.test"]
tags = ["dev"]
"#;

const SCOPES: &str = r#"
[[scope]]
name = "one"
[[scope]]
name = "two"
quorum = 2
reviewers = ["sre"]
"#;

/// Rules by a letter, so that a table can combine them.
fn rule(letter: char) -> &'static str {
    match letter {
        'p' => r#"@id("p") permit (principal, action in Action::"write", resource);"#,
        'q' => r#"@id("q") permit (principal, action, resource in Tag::"prod");"#,
        'f' => r#"@id("f") forbid (principal == Agent::"bad", action, resource);"#,
        'g' => {
            r#"@id("g") forbid (principal, action, resource == Target::"api") when { context.port == 443 };"#
        }
        '1' => {
            r#"@id("1") @approval("one") permit (principal, action == Action::"http.post", resource);"#
        }
        '2' => {
            r#"@id("2") @approval("two") permit (principal, action in Action::"write", resource);"#
        }
        // Matches nothing here.
        'x' => {
            r#"@id("x") permit (principal == Agent::"nobody", action, resource) when { principal.uid == 0 };"#
        }
        other => panic!("no rule {other}"),
    }
}

#[rstest]
#[case("", "deny", "")]
#[case("x", "deny", "")]
#[case("p", "allow", "p")]
#[case("q", "allow", "q")]
#[case("pqx", "allow", "pq")]
#[case("1", "needs-approval(one)", "1")]
#[case("2", "needs-approval(two)", "2")]
// An approval that is asked for is not undone by another rule's plain permit.
#[case("p1", "needs-approval(one)", "p1")]
#[case("1p", "needs-approval(one)", "1p")]
// Every scope that is asked for must approve.
#[case("12", "needs-approval(one, two)", "12")]
#[case("21q", "needs-approval(two, one)", "21q")]
// A forbid beats all.
#[case("g", "deny", "g")]
#[case("pg", "deny", "g")]
#[case("1g", "deny", "g")]
#[case("pq12g", "deny", "g")]
// A forbid for someone else is none.
#[case("pf", "allow", "p")]
#[case("f", "deny", "")]
fn the_strictest_wins(#[case] rules: &str, #[case] verdict: &str, #[case] deciding: &str) {
    let text: Vec<&str> = rules.chars().map(rule).collect();
    let bundle = bundle(TARGETS, &text.join("\n"), SCOPES);
    let (target, op) = request(&bundle, "POST", "https://api.test/x");
    let judgement = bundle.evaluate(&principal("good"), &target, &op);
    assert_eq!(judgement.verdict.to_string(), verdict, "{judgement:#?}");
    assert_eq!(judgement.rules.concat(), deciding, "{judgement:#?}");
    assert!(!judgement.trace.is_empty());
}

#[test]
fn a_scope_arrives_whole() {
    let bundle = bundle(TARGETS, rule('2'), SCOPES);
    let (target, op) = request(&bundle, "POST", "https://api.test/x");
    let judgement = bundle.evaluate(&principal("a"), &target, &op);
    let Verdict::NeedsApproval(scopes) = judgement.verdict else {
        panic!("{judgement:#?}");
    };
    assert_eq!(scopes, [bundle.scope("two").unwrap().clone()]);
    assert_eq!((scopes[0].quorum, scopes[0].deny_threshold), (2, 1));
    assert_eq!(scopes[0].uses, 1);
}

#[test]
fn the_trace_is_for_people() {
    let rules = [rule('p'), rule('f'), rule('x'), rule('2')].join("\n");
    let bundle = bundle(TARGETS, &rules, SCOPES);
    let (target, op) = request(&bundle, "POST", "https://api.test/x?y");
    let mut who = principal("good");
    who.task = Some("t1".to_owned());
    let mut traces = vec![
        bundle.evaluate(&who, &target, &op).trace.join("\n"),
        bundle.evaluate(&principal("bad"), &target, &op).trace.join("\n"),
    ];
    let (target, op) = request(&bundle, "GET", "https://api.test/");
    traces.push(bundle.evaluate(&who, &target, &op).trace.join("\n"));
    insta::assert_snapshot!(traces.join("\n\n"));
}

/// What a rule can ask of the agent, the request and its headers.
#[rstest]
#[case(r#"principal.agent like "ci-*""#, true)]
#[case(r#"principal.host == "h1" && principal.uid == 1000"#, true)]
#[case(r#"principal has task"#, false)]
#[case(r#"principal has exe && principal.exe == "/usr/bin/git""#, false)]
#[case(r#"context.path like "/v1/*" && context.query == "a=b""#, true)]
#[case(r#"context.method == "PUT" && context.scheme == "https""#, true)]
#[case(r#"context.host == "api.test" && context.port == 443"#, true)]
#[case(r#"context has body_length && context.body_length < 10"#, true)]
#[case(r#"context has body_length && context.body_length > 10"#, false)]
#[case(r#"context.headers.hasTag("x-a") && context.headers.getTag("x-a") == "1, 2""#, true)]
#[case(r#"context.headers.hasTag("x-b")"#, false)]
#[case(r#"resource.tags.contains("prod") && resource.protocol == "http""#, true)]
#[case(r#"resource in Tag::"dev""#, false)]
#[case(r#"action in Action::"http.write""#, true)]
fn conditions(#[case] condition: &str, #[case] holds: bool) {
    let rules = format!(
        r#"@id("r") permit (principal, action in Action::"write", resource) when {{ {condition} }};"#
    );
    let bundle = bundle(TARGETS, &rules, "");
    let (target, mut op) = request(&bundle, "PUT", "https://api.test/v1/x?a=b");
    op.fact("http.header.x-a", Fact::List(vec!["1".to_owned(), "2".to_owned()]));
    let verdict = bundle.evaluate(&principal("ci-7"), &target, &op).verdict;
    assert_eq!(verdict == Verdict::Allow, holds, "{condition}");
}

/// Whoever hides what it runs gets past no rule that asks for it.
#[test]
fn an_executable_that_is_asked_for_and_unknown_is_a_denial() {
    let hash = "a".repeat(64);
    for (fact, forbidden, other) in
        [("exe", "/usr/bin/nc", "/usr/bin/curl"), ("exe_sha256", &hash, &"b".repeat(64))]
    {
        let rules = format!(
            r#"@id("all") permit (principal, action in Action::"http.read", resource);
               @id("posts") permit (principal, action == Action::"http.post", resource);
               @id("not-nc") forbid (principal, action == Action::"http.get", resource)
               when {{ principal has {fact} && principal.{fact} == "{forbidden}" }};"#
        );
        let bundle = bundle(TARGETS, &rules, "");
        let verdict = |method: &str, value: Option<&str>| {
            let mut who = principal("a");
            match fact {
                "exe" => who.process.exe = value.map(Into::into),
                _ => who.process.exe_sha256 = value.map(str::to_owned),
            }
            let (target, op) = request(&bundle, method, "https://api.test/");
            bundle.evaluate(&who, &target, &op)
        };
        assert_eq!(verdict("GET", Some(other)).verdict, Verdict::Allow);
        assert_eq!(verdict("GET", Some(forbidden)).verdict, Verdict::Deny);
        let unknown = verdict("GET", None);
        assert_eq!(unknown.verdict, Verdict::Deny);
        let trace = unknown.trace.join("\n");
        assert!(trace.contains(&format!("asks for the principal's `{fact}`")), "{trace}");
        // No rule asks for it here.
        assert_eq!(verdict("POST", None).verdict, Verdict::Allow);
    }
}

#[test]
fn grpc_calls_are_asked_of_targets_that_declare_grpc() {
    let rules = r#"@id("calls") permit (principal, action == Action::"grpc.call", resource);"#;
    let targets = |protocol: &str| {
        format!("[[target]]\nname = \"api\"\nnames = [\"api.test\"]\nprotocol = \"{protocol}\"\n")
    };
    let grpc = bundle(&targets("grpc"), rules, "");
    let (target, mut op) = request(&grpc, "POST", "https://api.test/pkg.S/Call");
    op.action = "grpc.call".to_owned();
    let without = grpc.evaluate(&principal("a"), &target, &op);
    assert_eq!(without.verdict, Verdict::Deny);
    assert!(without.trace.join("\n").contains("`grpc.service` is missing"));
    op.fact("grpc.service", "pkg.S");
    op.fact("grpc.method", "Call");
    assert_eq!(grpc.evaluate(&principal("a"), &target, &op).verdict, Verdict::Allow);
    // A rule for calls of a target that has none is a mistake.
    assert!(Bundle::from_files(&files(&targets("http"), rules, "", "")).is_err());
}

const ALL: &str = r#"@id("all") permit (principal, action, resource);"#;

/// Changes an operation so that it must not be judged as if nothing were wrong.
#[rstest]
#[case::unknown_action(&|op: &mut Operation| op.action = "http.brew".to_owned(), "no action of a target")]
#[case::a_group(&|op: &mut Operation| op.action = "write".to_owned(), "no action of a target")]
#[case::of_another_protocol(&|op: &mut Operation| op.action = "opaque.connect".to_owned(), "no action of a target")]
#[case::over_another_protocol(&|op: &mut Operation| op.protocol = Protocol::Opaque, "not what it says")]
#[case::dns_over_http(&|op: &mut Operation| op.action = "dns.query".to_owned(), "not what it says")]
#[case::another_target(&|op: &mut Operation| op.target = "other".to_owned(), "for target `other`")]
#[case::another_port(&|op: &mut Operation| op.port = 80, "port 80 is not")]
#[case::a_list_for_a_path(&|op: &mut Operation| op.fact("http.path", Fact::List(vec![])), "not a text")]
#[case::a_number_for_a_query(&|op: &mut Operation| op.fact("http.query", 1), "not a text")]
#[case::a_text_for_a_length(&|op: &mut Operation| op.fact("body.length", "1"), "not a number")]
#[case::dot_segments(&|op: &mut Operation| op.fact("http.path", "/a/%2e%2e/b"), "dot segments")]
#[case::grpc_undeclared(&|op: &mut Operation| op.action = "grpc.call".to_owned(), "no action of a target")]
fn what_cannot_be_judged_is_denied(#[case] change: &dyn Fn(&mut Operation), #[case] why: &str) {
    let bundle = bundle(TARGETS, ALL, "");
    let (target, mut op) = request(&bundle, "GET", "https://api.test/");
    let before = bundle.evaluate(&principal("a"), &target, &op);
    assert_eq!(before.verdict, Verdict::Allow, "{before:#?}");
    change(&mut op);
    let after = bundle.evaluate(&principal("a"), &target, &op);
    assert_eq!(after.verdict, Verdict::Deny);
    let trace = after.trace.join("\n");
    assert!(trace.contains(why), "{trace}");
}

#[rstest]
#[case("http.method")]
#[case("http.scheme")]
#[case("http.authority")]
#[case("http.path")]
fn a_missing_fact_denies(#[case] missing: &str) {
    let bundle = bundle(TARGETS, ALL, "");
    let (target, full) = request(&bundle, "GET", "https://api.test/");
    let mut op = Operation::new("api", "api.test", 443, Protocol::Http, "http.get", String::new());
    for (name, value) in full.facts().iter().filter(|(name, _)| name != missing) {
        op.fact(name.clone(), value.clone());
    }
    let judgement = bundle.evaluate(&principal("a"), &target, &op);
    assert_eq!(judgement.verdict, Verdict::Deny);
    assert!(judgement.trace.concat().contains(missing));
}

#[test]
fn a_target_of_another_bundle_is_denied() {
    let (target, op) = request(&bundle(TARGETS, ALL, ""), "GET", "https://api.test/");
    let other = bundle("", "", "");
    let judgement = other.evaluate(&principal("a"), &target, &op);
    assert_eq!(judgement.verdict, Verdict::Deny);
}

#[test]
fn a_rule_on_the_body_needs_the_body() {
    let rules = format!(
        "{ALL}\n{}",
        r#"@id("big") forbid (principal, action in Action::"write", resource == Target::"api")
           when { context has body_length && context.body_length > 10 };"#
    );
    let bundle = bundle(TARGETS, &rules, "");
    let (target, op) = request(&bundle, "POST", "https://api.test/");
    assert!(bundle.reads_body(&target, "http.post"));
    assert!(!bundle.reads_body(&target, "http.get"));
    assert!(!bundle.reads_body(bundle.target("other").unwrap(), "http.post"));
    assert_eq!(bundle.evaluate(&principal("a"), &target, &op).verdict, Verdict::Allow);
    let mut streamed =
        Operation::new("api", "api.test", 443, Protocol::Http, "http.post", String::new());
    for (name, value) in op.facts().iter().filter(|(name, _)| !name.starts_with("body.")) {
        streamed.fact(name.clone(), value.clone());
    }
    streamed.fact("http.body", "streamed");
    let judgement = bundle.evaluate(&principal("a"), &target, &streamed);
    assert_eq!(judgement.verdict, Verdict::Deny, "{judgement:#?}");
    // A length that was announced is enough for a rule on the length, and not for one on the hash.
    streamed.fact("body.length", 5);
    let judgement = bundle.evaluate(&principal("a"), &target, &streamed);
    assert_eq!(judgement.verdict, Verdict::Allow, "{judgement:#?}");
    let rules = rules.replace(
        "context has body_length && context.body_length > 10",
        &format!("context has body_sha256 && context.body_sha256 == \"{}\"", "0".repeat(64)),
    );
    let bundle = super::bundle(TARGETS, &rules, "");
    assert_eq!(bundle.evaluate(&principal("a"), &target, &op).verdict, Verdict::Allow);
    let judgement = bundle.evaluate(&principal("a"), &target, &streamed);
    assert_eq!(judgement.verdict, Verdict::Deny, "{judgement:#?}");
}

#[test]
fn only_a_rule_that_names_it_permits_an_uninspected_connection() {
    let connect = |rules: &str| {
        let bundle = bundle(TARGETS, rules, SCOPES);
        let target = Arc::clone(bundle.target("raw").unwrap());
        let op = Operation::new(
            "raw",
            "raw.test",
            5432,
            Protocol::Opaque,
            "opaque.connect",
            String::new(),
        );
        bundle.evaluate(&principal("a"), &target, &op).verdict.to_string()
    };
    assert_eq!(connect(ALL), "deny");
    let named = r#"@id("raw") permit (principal, action == Action::"opaque.connect", resource);"#;
    assert_eq!(connect(named), "allow");
    let listed = r#"@id("raw") @approval("one") permit (principal, action in [Action::"http.get", Action::"opaque.connect"], resource);"#;
    assert_eq!(connect(listed), "needs-approval(one)");
    let forbidden =
        r#"@id("no") forbid (principal, action, resource) when { context.port == 5432 };"#;
    assert_eq!(connect(&format!("{named}{forbidden}")), "deny");
}

#[test]
fn names_are_looked_up_by_rule() {
    let rules = r#"@id("dns") permit (principal, action == Action::"dns.query", resource in Tag::"prod")
                   when { context has record_type && context.record_type == "A" };"#;
    let bundle = bundle(TARGETS, rules, "");
    let ask = |name: &str, record_type: &str| {
        bundle
            .judge(&Ask {
                agent: "a".to_owned(),
                dns: Some(name.to_owned()),
                record_type: Some(record_type.to_owned()),
                ..Ask::default()
            })
            .unwrap()
            .verdict
    };
    assert_eq!(ask("API.test.", "A"), Verdict::Allow);
    assert_eq!(ask("api.test", "TXT"), Verdict::Deny);
    assert_eq!(ask("other.test", "A"), Verdict::Deny);
    assert_eq!(ask("unknown.test", "A"), Verdict::Deny);
}

const PATTERNS: &str = r#"
[[target]]
name = "exact"
names = ["a.example.com"]
ports = [443]
[[target]]
name = "exact-alt"
names = ["a.example.com"]
ports = [8443]
[[target]]
name = "wide"
names = ["*.example.com"]
[[target]]
name = "deep"
names = ["*.b.example.com"]
[[target]]
name = "net"
addresses = ["10.0.0.0/8", "2001:db8::/32"]
[[target]]
name = "one"
names = ["one.test"]
resolves_to = ["192.168.0.0/16"]
ports = [443]
[[target]]
name = "other"
names = ["other.test"]
resolves_to = ["192.168.0.0/16", "10.1.2.3"]
ports = [443]
[[target]]
name = "host"
addresses = ["10.1.2.3"]
ports = [5432]
"#;

#[rstest]
#[case("a.example.com", Some(443), Some("exact"))]
#[case("A.Example.COM", Some(443), Some("exact"))]
#[case("a.example.com.", Some(443), Some("exact"))]
#[case("a.example.com", Some(8443), Some("exact-alt"))]
#[case("a.example.com", None, Some("exact"))]
// An exact name on a port of nobody's does not fall back to the wildcard.
#[case("a.example.com", Some(80), None)]
#[case("c.example.com", Some(80), Some("wide"))]
#[case("x.c.example.com", Some(80), Some("wide"))]
#[case("x.b.example.com", Some(80), Some("deep"))]
#[case("b.example.com", Some(80), Some("wide"))]
#[case("example.com", Some(443), None)]
#[case("badexample.com", Some(443), None)]
#[case(".example.com", Some(443), Some("wide"))]
#[case("com", Some(443), None)]
#[case("", Some(443), None)]
#[case("10.1.2.3", Some(5432), None)]
// Two targets share a block on the same port.
#[case("one.test", Some(443), Some("one"))]
#[case("other.test", Some(443), Some("other"))]
fn names_and_wildcards(
    #[case] name: &str,
    #[case] port: Option<u16>,
    #[case] target: Option<&str>,
) {
    let bundle = bundle(PATTERNS, ALL, "");
    let found = bundle.target_for_name(name, port);
    assert_eq!(found.map(|t| t.name.as_str()), target);
}

#[rstest]
#[case("10.9.9.9", 80, Some("net"))]
#[case("10.1.2.3", 5432, Some("host"))]
#[case("10.1.2.3", 80, None)]
// What names may resolve to means no target.
#[case("192.168.0.1", 443, None)]
#[case("10.1.2.3", 443, None)]
#[case("::ffff:10.9.9.9", 80, Some("net"))]
#[case("2001:db8::1", 443, Some("net"))]
#[case("11.0.0.1", 80, None)]
#[case("::1", 80, None)]
fn addresses(#[case] ip: &str, #[case] port: u16, #[case] target: Option<&str>) {
    let bundle = bundle(PATTERNS, ALL, "");
    let found = bundle.target_for_addr(ip.parse().unwrap(), port);
    assert_eq!(found.map(|t| t.name.as_str()), target);
}

#[rstest]
#[case("*.example.com", "a.example.com", true)]
#[case("*.example.com", "example.com", false)]
#[case("*.example.com", "badexample.com", false)]
#[case("*.example.com", ".example.com", false)]
#[case("example.com", "example.com", true)]
#[case("example.com", "a.example.com", false)]
fn a_pattern_matches(#[case] pattern: &str, #[case] name: &str, #[case] yes: bool) {
    let pattern = match pattern.strip_prefix("*.") {
        Some(suffix) => NamePattern::Below(suffix.to_owned()),
        None => NamePattern::Exact(pattern.to_owned()),
    };
    assert_eq!(pattern.matches(name), yes);
}

/// Judging is on the way of every request; this build is not optimised, so the bound is wide.
#[test]
fn judging_is_quick() {
    let bundle = bundle(TARGETS, &[rule('p'), rule('q'), rule('f'), rule('g')].join("\n"), "");
    let (target, op) = request(&bundle, "POST", "https://api.test/x");
    let who = principal("a");
    let rounds = 500;
    let start = std::time::Instant::now();
    for _ in 0..rounds {
        assert_eq!(bundle.evaluate(&who, &target, &op).verdict, Verdict::Deny);
    }
    let each = start.elapsed() / rounds;
    println!("{each:?} for each judgement");
    assert!(each < Duration::from_millis(2), "{each:?}");
}
