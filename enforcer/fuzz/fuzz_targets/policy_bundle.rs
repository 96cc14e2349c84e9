//! A bundle of arbitrary files never panics, and one that loads denies an operation that
//! lacks every fact.

#![no_main]

use enforcer::operation::{Operation, Protocol};
use enforcer::policy::{Ask, Bundle, Files, Verdict};
use enforcer::principal::{AgentName, Principal, Process};
use libfuzzer_sys::fuzz_target;

const FILES: [&str; 5] = [
    "targets.toml",
    "rules.cedar",
    "scopes.toml",
    "masks.toml",
    "tests/a.toml",
];

fuzz_target!(|text: &str| {
    // A form feed ends a file: it is rare in all of their grammars.
    let mut parts = text.split('\u{c}');
    let files: Files = FILES
        .iter()
        .map(|file| {
            (
                (*file).to_owned(),
                parts.next().unwrap_or_default().to_owned(),
            )
        })
        .collect();
    let bundle = match Bundle::from_files(&files) {
        Ok(bundle) => bundle,
        Err(problems) => {
            assert!(problems.has_errors());
            let _ = problems.to_string();
            return;
        }
    };
    let Some(agent) = AgentName::parse("a") else {
        return;
    };
    let principal = Principal {
        host: "h".to_owned(),
        agent,
        task: None,
        cgroup: "/a".to_owned(),
        process: Process::default(),
    };
    for target in bundle.targets() {
        let op = Operation::new(
            &target.name,
            "a.test",
            443,
            Protocol::Http,
            "http.get",
            String::new(),
        );
        let verdict = bundle.evaluate(&principal, target, &op).verdict;
        assert_eq!(verdict, Verdict::Deny);
    }
    for case in bundle.cases() {
        let _ = bundle.run(case);
    }
    let _ = bundle.judge(&Ask {
        agent: "a".to_owned(),
        url: Some(text.chars().take(200).collect()),
        ..Ask::default()
    });
});
