//! The bundle that `enforcer init` writes: small, commented, and checked by a test.

/// The starter bundle's files: path relative to the bundle, and content.
pub fn starter() -> &'static [(&'static str, &'static str)] {
    &[
        ("targets.toml", include_str!("starter/targets.toml")),
        ("rules.cedar", include_str!("starter/rules.cedar")),
        ("scopes.toml", include_str!("starter/scopes.toml")),
        ("masks.toml", include_str!("starter/masks.toml")),
        ("tests/starter.toml", include_str!("starter/tests/starter.toml")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Bundle;

    #[test]
    fn it_checks_and_its_cases_pass() {
        let files =
            starter().iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let bundle = Bundle::from_files(&files).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(bundle.warnings().is_empty(), "{}", bundle.warnings());
        assert!(bundle.cases().len() >= 10);
        for case in bundle.cases() {
            let outcome = bundle.run(case).unwrap();
            assert!(outcome.passed, "{}: {:#?}", case.name, outcome.judgement);
        }
    }
}
