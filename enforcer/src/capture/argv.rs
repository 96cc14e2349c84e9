//! Command lines as they may be recorded: credentials in them are taken out.
//!
//! A command line is for people to recognise a program by; it is no part of the
//! digest. So what might be a credential goes, and a little more with it.

use crate::mask::{MaskPlan, MaskRule};
use regex::{Captures, Regex};
use std::sync::LazyLock;

/// What stands for a credential.
const HIDDEN: &str = "***";

/// Options whose next argument is a credential, and what that argument must have to be taken
/// for one: short options mean other things elsewhere.
const OPTIONS: [(&str, &str); 14] = [
    ("--api-key", ""),
    ("--auth", ""),
    ("--cookie", "="),
    ("--http-password", ""),
    ("--oauth2-bearer", ""),
    ("--pass", ""),
    ("--passwd", ""),
    ("--password", ""),
    ("--proxy-user", ":"),
    ("--secret", ""),
    ("--token", ""),
    ("--user", ":"),
    ("-b", "="),
    ("-u", ":"),
];

/// The same, written as one argument.
static JOINED: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(-[bu]|--(?:auth|cookie|proxy-user|user)=).*[:=].*$").ok());

/// A name that says what it holds, and its value: headers, variables, parameters, JSON.
static NAMED: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"(?i)([a-z0-9_.-]*(?:authorization|token|secret|pass(?:w(?:or)?d|phrase|code)?|credential|signature",
        r"|api[_-]?key|access[_-]?key|auth[_-]?key|private[_-]?key)[a-z0-9_.-]*",
        r#"["']?\s*[:=]\s*["']?)(?:(?:bearer|basic|digest|negotiate|token)\s+)?[^\s"'&;]+"#,
    ))
    .ok()
});

/// Cookies: all pairs of the line.
static COOKIES: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#"(?i)(\bcookie["']?\s*[:=]\s*["']?)[^"']+"#).ok());

/// User and password in a URL (RFC 3986 section 3.2.1).
static USERINFO: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@]+@").ok());

/// A scheme of RFC 9110 section 11 and its credential, wherever it stands.
static SCHEME: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?i)(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}").ok());

/// Keys and tokens that are known by their form.
static FORMS: LazyLock<Option<MaskPlan>> = LazyLock::new(|| {
    let rule: MaskRule = toml::from_str("name = \"argv\"\ndetectors = [\"secrets\"]").ok()?;
    MaskPlan::compile(&[rule]).ok()
});

/// The arguments without the credentials in them.
pub(super) fn conceal(args: Vec<String>) -> Vec<String> {
    let mut secret_next = None;
    args.into_iter()
        .map(|arg| {
            let expected = secret_next.take();
            if expected.is_some_and(|sign: &str| arg.contains(sign)) {
                return HIDDEN.to_owned();
            }
            secret_next = OPTIONS.iter().find(|(option, _)| *option == arg).map(|(_, sign)| *sign);
            one(&arg)
        })
        .collect()
}

/// One argument, or another text that people wrote. Where a pattern is not to be had nothing of it
/// is kept.
pub(crate) fn one(arg: &str) -> String {
    let patterns = [&JOINED, &NAMED, &COOKIES, &USERINFO, &SCHEME];
    let mut text = arg.to_owned();
    for pattern in patterns {
        let Some(pattern) = pattern.as_ref() else {
            return HIDDEN.to_owned();
        };
        let hide = |found: &Captures<'_>| {
            let kept = found.get(1).map_or("", |kept| kept.as_str());
            let at = if kept.ends_with("://") { "@" } else { "" };
            format!("{kept}{HIDDEN}{at}")
        };
        text = pattern.replace_all(&text, hide).into_owned();
    }
    forms(&text).unwrap_or_else(|| HIDDEN.to_owned())
}

fn forms(text: &str) -> Option<String> {
    let mut masker = FORMS.as_ref()?.body(Some("text/plain"), None, 200).ok()?;
    let mut out = Vec::with_capacity(text.len());
    masker.push(text.as_bytes(), &mut out).ok()?;
    masker.finish(&mut out).ok()?;
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concealed(args: &[&str]) -> Vec<String> {
        conceal(args.iter().map(|arg| (*arg).to_owned()).collect())
    }

    #[test]
    fn credentials_go() {
        for args in [
            vec!["curl", "-u", "me:s3kr1t"],
            vec!["curl", "-ume:s3kr1t"],
            vec!["curl", "--user=me:s3kr1t"],
            vec!["curl", "-H", "authorization: Bearer s3kr1t"],
            vec!["curl", "-HAuthorization: Basic s3kr1t"],
            vec!["curl", "-H", "X-Api-Key: s3kr1t"],
            vec!["curl", "-H", "Cookie: a=s3kr1t; b=s3kr1t"],
            vec!["curl", "-b", "session=s3kr1t"],
            vec!["curl", "https://me:s3kr1t@example.com/x"],
            vec!["curl", "https://s3kr1t@example.com/x"],
            vec!["curl", "https://example.com/?a=1&access_token=s3kr1t&b=2"],
            vec!["psql", "postgres://app:s3kr1t@db/prod"],
            vec!["tool", "--password", "s3kr1t"],
            vec!["tool", "--token=s3kr1t"],
            vec!["env", "API_KEY=s3kr1t", "x"],
            vec!["sh", "-c", "curl -H 'authorization: Bearer s3kr1t' https://example.com"],
            vec!["curl", "-d", "{\"password\": \"s3kr1t\"}"],
        ] {
            let shown = concealed(&args).join(" ");
            assert!(!shown.contains("s3kr1t"), "{shown}");
            assert!(shown.starts_with(args[0]), "{shown}");
        }
        let key = format!("ghp_{}", "a1B2".repeat(9));
        assert!(!concealed(&["x", &key]).join(" ").contains(&key));
    }

    #[test]
    fn the_rest_stays() {
        for args in [
            vec!["curl", "-sS", "-X", "POST", "https://example.com/a?page=2", "-d", "a=1"],
            vec!["python3", "-u", "script.py"],
            vec!["git", "clone", "https://example.com/git/tools.git"],
            vec!["", "\u{fffd}", "basic rules", "-ubuntu"],
        ] {
            assert_eq!(concealed(&args), args);
        }
    }
}
