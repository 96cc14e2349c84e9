use super::*;
use proptest::prelude::*;
use std::sync::LazyLock;

fn compile(names: &[&str], checked: bool) -> Detectors {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    Detectors::compile([("test", 0, names.as_slice())].into_iter(), checked).unwrap().unwrap()
}

static PLAIN: LazyLock<Detectors> = LazyLock::new(|| compile(&["all"], false));
static PATTERNS: LazyLock<Vec<regex::bytes::Regex>> = LazyLock::new(|| {
    let compile = |row: &table::Detector| {
        regex::bytes::RegexBuilder::new(row.pattern).unicode(false).build().unwrap()
    };
    TABLE.iter().map(compile).collect()
});

/// What is masked of `text`, in order.
fn masked(detectors: &Detectors, text: &str) -> Vec<String> {
    let mut scan = Scan::default();
    scan.run(detectors, text.as_bytes(), 0, true, &Carry::new());
    scan.hits.iter().map(|hit| text[hit.part.clone()].to_owned()).collect()
}

fn r(text: &str, times: usize) -> String {
    text.repeat(times)
}

/// Detector, text, what is masked of it. Built from parts, so that no scanner takes
/// this file for a leak.
#[rustfmt::skip] // one case, one line
fn cases() -> Vec<(&'static str, String, Vec<String>)> {
    let one = |name, before: &str, secret: String, after: &str| {
        (name, format!("{before}{secret}{after}"), vec![secret])
    };
    let none = |name, text: String| (name, text, vec![]);
    let b64 = "QUJDREVGR0hJSktMTU5PUA";
    vec![
        one("aws_key", "id=", r("AKIA", 1) + &r("Q7", 8), " "),
        one("aws_key", "\"", r("A3TX", 1) + &r("ABCD", 4), "\""),
        none("aws_key", r("AKIA", 1) + &r("Q7", 9)),
        none("aws_key", r("AKIA", 1) + &r("q7", 8)),
        one("aws_secret", "aws_secret_access_key = ", r("aB3/", 10), "\n"),
        none("aws_secret", format!("aws_secret_access_key = {}", r("a", 39))),
        one("github_pat", "token ", r("ghp", 1) + "_" + &r("aB1", 12), "."),
        none("github_pat", r("ghp", 1) + "_" + &r("aB1", 11)),
        one("github_oauth", "", r("gho", 1) + "_" + &r("aB1", 12), ""),
        one("github_app", "", r("ghs", 1) + "_" + &r("aB1", 12), ""),
        none("github_app", r("ghx", 1) + "_" + &r("aB1", 12)),
        one("github_refresh", "", r("ghr", 1) + "_" + &r("aB1", 25), ""),
        one("github_fine", "", r("github", 1) + "_pat_" + &r("a", 82), ""),
        none("github_fine", r("github", 1) + "_pat_" + &r("a", 81)),
        one("gitlab_pat", "", r("glpat", 1) + "-" + &r("a_-1", 5), ""),
        none("gitlab_pat", r("glpat", 1) + "-" + &r("a", 12)),
        one("gitlab_ptt", "", r("glptt", 1) + "-" + &r("0f", 20), ""),
        one("anthropic", "x-api-key: ", r("sk", 1) + "-ant-api03-" + &r("a-_", 31) + "AA", ""),
        none("anthropic", r("sk", 1) + "-ant-api03-" + &r("a-_", 31) + "AB"),
        one("openai_proj", "", r("sk", 1) + "-proj-" + &r("aB_-", 12), "!"),
        none("openai_proj", r("sk", 1) + "-proj-" + &r("a", 30)),
        one("openai_old", "", r("sk", 1) + "-" + &r("a1", 10) + "T3BlbkFJ" + &r("b2", 10), ""),
        none("openai_old", r("sk", 1) + "-" + &r("a1", 10) + "T3BlbkFK" + &r("b2", 10)),
        one("stripe", "", r("sk", 1) + "_live_" + &r("aB1", 8), ""),
        one("stripe", "", r("rk", 1) + "_test_" + &r("aB1", 8), ""),
        none("stripe", r("pk", 1) + "_live_" + &r("aB1", 8)),
        one("stripe_webhook", "", r("whsec", 1) + "_" + &r("aB1+", 8), ""),
        one("slack_bot", "", r("xoxb", 1) + "-1234567890-1234567890-" + &r("aB", 12), ""),
        none("slack_bot", r("xoxb", 1) + "-123-456"),
        one("slack_user", "", r("xoxp", 1) + &r("-1234567890", 3) + "-" + &r("aB", 15), ""),
        one("slack_app", "", r("xapp", 1) + "-1-A0123456789-1234567890123-" + &r("a1", 32), ""),
        one("slack_hook", "https://", r("hooks", 1) + ".slack.com/services/" + &r("T0/", 15), ""),
        none("slack_hook", r("hooks", 1) + ".slack.com/help"),
        one("gcp_api", "key=", r("AIza", 1) + &r("aB1-_", 7), "&"),
        none("gcp_api", r("AIza", 1) + &r("aB1-_", 6)),
        one("gcp_oauth", "", r("GOCSPX", 1) + "-" + &r("aB-_", 7), ""),
        ("gcp_sa", r#"{"type": "service_account"}"#.to_owned(), vec!["service_account".to_owned()]),
        none("gcp_sa", r#"{"type": "authorized_user"}"#.to_owned()),
        one("azure_ad", "secret: ", r("abc8Q", 1) + "~" + &r("aB", 17), ""),
        none("azure_ad", r("abcxQ", 1) + "~" + &r("aB", 17)),
        one("npm", "_authToken=", r("npm", 1) + "_" + &r("aB1", 12), ""),
        none("npm", r("npm", 1) + "_install"),
        one("pypi", "", r("pypi", 1) + "-AgEIcHlwaS5vcmc" + &r("a_", 30), ""),
        one("docker", "", r("dckr", 1) + "_pat_" + &r("aB1", 9), ""),
        one("sendgrid", "", r("SG", 1) + "." + b64 + "." + &r("a", 43), ""),
        none("sendgrid", r("SG", 1) + "." + b64 + "." + &r("a", 42)),
        one("mailgun", "", r("key", 1) + "-" + &r("0a", 16), ""),
        none("mailgun", r("key", 1) + "-value"),
        one("twilio", "", r("SK", 1) + &r("0a", 16), ""),
        none("twilio", r("SK", 1) + &r("0g", 16)),
        none("telegram", "12345678901:AA".to_owned() + &r("aB_", 11)),
        one("telegram", "/", r("123456789", 1) + ":AA" + &r("aB_", 11), ""),
        one("hf", "", r("hf", 1) + "_" + &r("aB", 17), ""),
        none("hf", r("hf", 1) + "_" + &r("a1", 17)),
        one("digitalocean", "", r("dop", 1) + "_v1_" + &r("0f", 32), ""),
        none("digitalocean", r("dox", 1) + "_v1_" + &r("0f", 32)),
        one("doppler", "", r("dp", 1) + ".pt." + &r("a", 43), ""),
        one("dropbox", "", r("sl", 1) + "." + &r("aB-_1", 27), ""),
        none("dropbox", r("sl", 1) + ".example.com"),
        ("heroku", "HEROKU_API_KEY=01234567-89ab-cdef-0123-456789abcdef".to_owned(), vec!["01234567-89ab-cdef-0123-456789abcdef".to_owned()]),
        none("heroku", "heroku app 01234567-89ab-cdef".to_owned()),
        one("linear", "", r("lin", 1) + "_api_" + &r("a1", 20), ""),
        one("notion", "", r("ntn", 1) + "_12345678901" + &r("aB1aB", 7), ""),
        one("postman", "", r("PMAK", 1) + "-" + &r("0a", 12) + "-" + &r("0b", 17), ""),
        one("shopify", "", r("shpat", 1) + "_" + &r("0aF1", 8), ""),
        none("shopify", r("shpzz", 1) + "_" + &r("0aF1", 8)),
        one("square", "", r("EAAA", 1) + &r("aB-_", 8), ""),
        one("databricks", "", r("dapi", 1) + &r("0a", 16), ""),
        none("databricks", r("dapi", 1) + &r("0G", 16)),
        one("vault", "", r("hvs", 1) + "." + &r("aB_", 32), ""),
        one("terraform", "", r("aB1aB1a", 2) + ".atlasv1." + &r("a-_=b", 13), ""),
        one("age", "", r("AGE-SECRET-KEY", 1) + "-1" + &r("QP", 29), ""),
        one("pem", "x ", r("-----BEGIN", 1) + " EC PRIVATE KEY-----", "\n"),
        none("pem", r("-----BEGIN", 1) + " CERTIFICATE-----\n"),
        one("jwt", "Bearer ", format!("ey{b64}.ey{b64}.{b64}"), "\""),
        none("jwt", format!("hey{b64}.ey{b64}")),
        ("dsn", "postgres://app:s3:cr3t@db.internal/x".to_owned(), vec!["s3:cr3t".to_owned()]),
        none("dsn", "postgres://db.internal:5432/x".to_owned()),
        ("basic_auth", "Authorization: Basic dXNlcjpwYXNz".to_owned(), vec!["dXNlcjpwYXNz".to_owned()]),
        none("basic_auth", "authorization: digest dXNlcjpwYXNz".to_owned()),
        ("bearer", format!("authorization: Bearer {b64}"), vec![b64.to_owned()]),
        none("bearer", "the bearer of this letter".to_owned()),
        ("generic_kv", "{\"password\": \"correct-horse\"}".to_owned(), vec!["correct-horse".to_owned()]),
        ("generic_kv", "api_key='0123456789ab'".to_owned(), vec!["0123456789ab".to_owned()]),
        none("generic_kv", "\"token\": \"short\"".to_owned()),
        one("email", "to ", "ann.lee+x@mail.example.com".to_owned(), "."),
        one("email", "<", "a@b.co".to_owned(), ">"),
        none("email", "user@localhost, @handle, a@b.1".to_owned()),
        one("card", "n ", "4111111111111111".to_owned(), "."),
        one("card", "", "4111 1111 1111 1111".to_owned(), ""),
        one("card", "pay 99 ", "5555-5555-5555-4444".to_owned(), " 12"),
        one("card", "", "378282246310005".to_owned(), ""),
        one("card", "", "3782 822463 10005".to_owned(), ""),
        one("card", "", "2223003122003222".to_owned(), ""),
        none("card", "4111111111111112, 0.4111111111111111, 4444444444444448x".to_owned()),
        none("card", "4111 1111-1111 1111".to_owned()),
        one("iban", "", "DE89370400440532013000".to_owned(), ","),
        one("iban", "to ", "GB82 WEST 1234 5698 7654 32".to_owned(), " AND"),
        one("iban", "", "ES91 2100 0418 4502 0005 1332".to_owned(), " NEXT WORD"),
        none("iban", "DE89370400440532013001 DE00 1234".to_owned()),
        one("us_ssn", "ssn ", "123-45-6789".to_owned(), ""),
        none("us_ssn", "000-12-3456 666-12-3456 912-12-3456 123-00-4567 123-45-0000 1123-45-6789".to_owned()),
        one("uk_nino", "", "AB123456C".to_owned(), ""),
        none("uk_nino", "BG123456A QQ123456A AB123456E".to_owned()),
        one("es_dni", "", "12345678Z".to_owned(), ""),
        one("es_dni", "", "X1234567L".to_owned(), ""),
        none("es_dni", "12345678A Y1234567L".to_owned()),
        one("phone_us", "call ", "+1 (415) 555-2671".to_owned(), ""),
        none("phone_us", "+1 (115) 555-2671".to_owned()),
        one("phone", "tel:", "+442071838750".to_owned(), ""),
        none("phone", "1+4420718387 12:00+0100 a+442071838750".to_owned()),
        one("ipv4", "from ", "192.168.10.254".to_owned(), ":80"),
        none("ipv4", "1.2.3 256.1.1.1 v1.2.3.4x".to_owned()),
        one("mac", "", "00:1B:44:11:3a:b7".to_owned(), ""),
        none("mac", "12:34:56 00:1B:44:11:3a".to_owned()),
    ]
}

/// Texts for other tests: what every detector finds, with what is around it.
pub(in crate::mask) fn samples() -> Vec<String> {
    cases().into_iter().map(|case| case.1).collect()
}

#[test]
fn each_detector_finds_its_own_and_nothing_like_it() {
    for (name, text, want) in cases() {
        assert_eq!(masked(&compile(&[name], true), &text), want, "{name}: {text}");
    }
    for known in detectors() {
        assert!(!known.source.is_empty());
        let positive =
            |(name, _, want): &(&str, String, Vec<String>)| *name == known.name && !want.is_empty();
        assert!(cases().iter().any(positive), "{} has no positive case", known.name);
    }
}

#[test]
fn choices_are_checked() {
    let all = detectors().len();
    assert!(all >= 50, "{all}");
    let bad = ["emial".to_owned()];
    let why = Detectors::compile([("r", 0, &bad[..])].into_iter(), true).err().unwrap().to_string();
    assert!(why.contains("`emial`") && why.contains("email") && why.contains("secrets"), "{why}");
    assert!(Detectors::compile(std::iter::empty(), true).unwrap().is_none());
}

#[test]
fn a_key_block_is_eaten_to_its_end_line() {
    for (text, want) in [
        ("\nMIIB\nabc=\n-----END PRIVATE KEY-----\nrest", "\nrest"),
        ("\"rest", "\"rest"),
        ("\nMIIB", ""),
        ("\nMIIB\n-----END X-----", ""),
        ("\nVersion: 1.2 (x), y\n\nabc\n-----END PGP PRIVATE KEY BLOCK-----.", "."),
    ] {
        for split in 0..=text.len() {
            let mut swallow = Swallow::of(Tail::KeyBlock).unwrap();
            let (first, ended) = swallow.eat(&text.as_bytes()[..split]);
            let rest = if ended {
                &text[first..]
            } else {
                &text[split + swallow.eat(&text.as_bytes()[split..]).0..]
            };
            assert_eq!(rest, want, "{text:?} at {split}");
        }
    }
}

/// Texts in which detectors meet, overlap and nearly match.
pub(in crate::mask) fn texts() -> impl Strategy<Value = String> {
    let samples = samples();
    let count = samples.len();
    let piece = prop_oneof![
        6 => (0..count).prop_map(move |at| samples[at].clone()),
        2 => "[A-Za-z0-9_.@:/+~ -]{1,24}",
        1 => "[A-Z0-9]{2,20}",
        1 => "[0-9][0-9 -]{3,24}",
        1 => "[ \",:{}\n\\[\\]=&;]{1,3}",
        1 => prop_oneof![Just("@"), Just("ey"), Just("."), Just("SK"), Just("hf_"), Just("token=\""), Just("Bearer "), Just("é"), Just("\"type\": ")].prop_map(str::to_owned),
    ];
    // Cutting pieces short makes the near misses.
    prop::collection::vec((piece, 0..4_usize, 0..4_usize), 0..9).prop_map(|pieces| {
        pieces
            .into_iter()
            .map(|(piece, front, back)| {
                let count = piece.chars().count();
                piece
                    .chars()
                    .skip(front / 2)
                    .take(count.saturating_sub(back / 2))
                    .collect::<String>()
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn hits_are_those_of_the_plain_patterns(text in texts()) {
        let mut scan = Scan::default();
        scan.run(&PLAIN, text.as_bytes(), 0, true, &Carry::new());
        for (row, pattern) in PATTERNS.iter().enumerate() {
            let mut got: Vec<_> = scan.hits.iter().filter(|hit| hit.row == row).map(|hit| hit.found.clone()).collect();
            got.sort_by_key(|found| found.start);
            let want: Vec<_> = pattern.find_iter(text.as_bytes()).map(|found| found.range()).collect();
            prop_assert_eq!(got, want, "{} in {:?}", TABLE[row].name, text);
        }
    }
}
