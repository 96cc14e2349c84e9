//! What holds for every input.

use super::*;
use crate::operation::Protocol;
use proptest::prelude::*;

const TARGET: &str = "[[target]]\nname = \"api\"\nnames = [\"api.test\"]\ntags = [\"t\"]\n";

/// Judges a plain request on a target that exists in every bundle that could be loaded.
fn never_allowed(files: &Files) {
    let Ok(bundle) = Bundle::from_files(files) else {
        return;
    };
    for target in bundle.targets() {
        let mut op = Operation::new(
            &target.name,
            "api.test",
            443,
            Protocol::Http,
            "http.get",
            String::new(),
        );
        for fact in ["http.method", "http.scheme", "http.authority"] {
            op.fact(fact, "x");
        }
        op.fact("http.path", "/");
        let verdict = bundle.evaluate(&principal("a"), target, &op).verdict;
        assert_eq!(verdict, Verdict::Deny);
    }
}

/// Text out of the pieces that bundles are made of, so that more than the first line is reached.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[[target]]",
        "[[scope]]",
        "[[mask]]",
        "[[test]]",
        "\n",
        "name",
        " = ",
        "\"a\"",
        "\"*.b\"",
        "names",
        "addresses",
        "resolves_to",
        "ports",
        "[",
        "]",
        "{",
        "}",
        ",",
        "443",
        "hold",
        "\"1h\"",
        "quorum",
        "0",
        "json",
        "\"$.a\"",
        "expect",
        "\"deny\"",
        "url",
        "@id(\"a\")",
        "@approval(\"s\")",
        "forbid",
        "(principal",
        ", action",
        " == Action::\"http.get\"",
        ", resource)",
        "when {",
        "context",
        ".path",
        " like ",
        "&&",
        "};",
        ";",
        "é",
        "\u{202e}",
        "\0",
        "#",
        "//",
        "'''",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn arbitrary_files_never_panic_and_never_allow(
        targets in ".{0,80}", rules in ".{0,80}", scopes in ".{0,80}", masks in ".{0,80}", tests in ".{0,80}",
    ) {
        let mut files = files(&targets, &rules, &scopes, &masks);
        files.insert("tests/a.toml".to_owned(), tests);
        never_allowed(&files);
    }

    #[test]
    fn pieces_of_bundles_never_panic_and_never_allow(
        targets in pieces(), rules in pieces(), scopes in pieces(), masks in pieces(), tests in pieces(),
    ) {
        let mut files = files(&targets, &rules, &scopes, &masks);
        files.insert("tests/a.toml".to_owned(), tests);
        never_allowed(&files);
    }

    #[test]
    fn arbitrary_rules_never_allow_on_a_good_target(rules in prop_oneof![".{0,120}", pieces()]) {
        never_allowed(&files(TARGET, &rules, "", ""));
    }

    #[test]
    fn a_forbid_is_never_lost(
        permits in prop::collection::vec(0..6_usize, 0..4),
        forbid in 0..6_usize,
        at in 0..4_usize,
    ) {
        let heads = [
            "principal, action, resource",
            "principal, action in Action::\"read\", resource",
            "principal, action in [Action::\"http.get\", Action::\"dns.query\"], resource in Tag::\"t\"",
            "principal == Agent::\"a\", action == Action::\"http.get\", resource == Target::\"api\"",
            "principal is Agent, action, resource is Target in Tag::\"t\"",
            "principal, action in [Action::\"read\", Action::\"write\"], resource in Target::\"api\"",
        ];
        let mut rules: Vec<String> = permits
            .iter()
            .enumerate()
            .map(|(i, head)| format!("@id(\"p{i}\") permit ({});", heads[*head]))
            .collect();
        let permitted = !rules.is_empty();
        let judge = |rules: &[String]| {
            let bundle = bundle(TARGET, &rules.join("\n"), "");
            let (target, op) = request(&bundle, "GET", "https://api.test/");
            bundle.evaluate(&principal("a"), &target, &op).verdict
        };
        prop_assert_eq!(judge(&rules) == Verdict::Allow, permitted);
        let at = at.min(rules.len());
        rules.insert(at, format!("@id(\"f\") forbid ({});", heads[forbid]));
        prop_assert_eq!(judge(&rules), Verdict::Deny);
    }

    #[test]
    fn looking_names_up_never_panics(name in ".{0,40}", port in proptest::option::of(any::<u16>())) {
        let bundle = bundle(TARGET, "@id(\"r\") permit (principal, action, resource);", "");
        let found = bundle.target_for_name(&name, port).is_some();
        prop_assert_eq!(found, name.trim_end_matches('.').eq_ignore_ascii_case("api.test") && !name.ends_with(".."));
    }

    #[test]
    fn asking_never_panics(url in ".{0,40}", connect in ".{0,40}", agent in ".{0,10}") {
        let bundle = bundle(TARGET, "@id(\"r\") permit (principal, action == Action::\"dns.query\", resource);", "");
        for ask in [
            Ask { agent: agent.clone(), url: Some(url.clone()), ..Ask::default() },
            Ask { agent: "a".to_owned(), url: Some(format!("https://{url}")), ..Ask::default() },
            Ask { agent: "a".to_owned(), url: Some(format!("/{url}")), target: Some("api".to_owned()), ..Ask::default() },
            Ask { agent: "a".to_owned(), connect: Some(connect), ..Ask::default() },
        ] {
            if let Ok(judgement) = bundle.judge(&ask) {
                prop_assert_eq!(judgement.verdict, Verdict::Deny);
            }
        }
    }
}
