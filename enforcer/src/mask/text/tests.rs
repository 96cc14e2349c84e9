use super::*;
use crate::mask::detect::tests::{samples, texts};
use crate::mask::rule::Replace;
use proptest::prelude::*;
use std::sync::LazyLock;

fn rules(names: &[&str], replace: &Replace) -> Arc<TextRules> {
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let detectors =
        Detectors::compile([("r", 0, names.as_slice())].into_iter(), true).unwrap().unwrap();
    let rules = Arc::new(vec![("r".to_owned(), Replacement::new(replace, Some(b"key")))]);
    Arc::new(TextRules { detectors, rules })
}

static ALL: LazyLock<Arc<TextRules>> = LazyLock::new(|| rules(&["all"], &Replace::KeepLast(4)));

fn run<'a>(
    rules: &Arc<TextRules>,
    escaping: Escaping,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (String, Report) {
    let mut masker = TextMasker::new(Arc::clone(rules), escaping);
    let (mut out, mut report) = (Vec::new(), Report::default());
    for chunk in chunks {
        masker.push(chunk, &mut out, &mut report).unwrap();
    }
    masker.finish(&mut out, &mut report).unwrap();
    (String::from_utf8_lossy(&out).into_owned(), report)
}

fn whole(rules: &Arc<TextRules>, escaping: Escaping, text: &str) -> (String, Report) {
    run(rules, escaping, std::iter::once(text.as_bytes()))
}

#[test]
fn replaces_and_keeps_all_other_bytes() {
    let redact = rules(&["email", "card", "pem", "generic_kv"], &Replace::Redact);
    let key = format!("{} PRIVATE KEY-----\\nMIIB\\n-----END PRIVATE KEY-----\\n", "-----BEGIN");
    for (escaping, text, want) in [
        (Escaping::None, "mail ann@example.com now", "mail *** now".to_owned()),
        (Escaping::None, "a ann\\u0040example.com", "a ann\\u0040example.com".to_owned()),
        (Escaping::Json, r#"{"m":"ann\u0040example.com"}"#, r#"{"m":"***"}"#.to_owned()),
        (Escaping::Json, r#"{"m":"\nann@example.com\t"}"#, r#"{"m":"\n***\t"}"#.to_owned()),
        (
            Escaping::Json,
            r#"{"n": -4111111111111111.5, "s": "4111111111111111"}"#,
            r#"{"n": null, "s": "***"}"#.to_owned(),
        ),
        (
            Escaping::Json,
            r#"[4111111111111111,"a\\",4111111111111111]"#,
            r#"[null,"a\\",null]"#.to_owned(),
        ),
        (
            Escaping::Json,
            r#"{"password": "correct-horse", "x": 1}"#,
            r#"{"password": "***", "x": 1}"#.to_owned(),
        ),
        (Escaping::Form, "m=ann%40example.com&c=4111+1111+1111+1111", "m=***&c=***".to_owned()),
        (
            Escaping::Entity,
            "<a href='mailto:ann&#64;example.com'>",
            "<a href='mailto:***'>".to_owned(),
        ),
        (Escaping::Json, &format!(r#"{{"k":"{key}","z":1}}"#), r#"{"k":"***\n","z":1}"#.to_owned()),
    ] {
        assert_eq!(whole(&redact, escaping, text).0, want, "{text}");
    }
}

/// What was let go before a hit still tells that it is not part of a number.
#[test]
fn digits_behind_a_point_are_replaced_alike_whole_and_in_pieces() {
    let text = format!(".4111111111111111.1111W{}", "JI1Ni".repeat(12));
    let (want, report) = whole(&ALL, Escaping::Json, &text);
    assert_eq!(report.total(), 1, "{want}");
    let pieces = run(&ALL, Escaping::Json, text.as_bytes().chunks(1));
    assert_eq!(pieces, (want, report));
}

#[test]
fn kept_ends_and_hashes_are_escaped() {
    let keep = rules(&["email", "card"], &Replace::KeepLast(4));
    assert_eq!(
        whole(&keep, Escaping::Json, r#"[4111111111111111,"4111-1111-1111-1111"]"#).0,
        r#"["***1111","***1111"]"#
    );
    let hash = rules(&["email"], &Replace::Hash);
    let (plain, _) = whole(&hash, Escaping::None, "ann@example.com");
    let (json, _) = whole(&hash, Escaping::Json, r#""ann\u0040example.com""#);
    assert_eq!(json, format!("\"{plain}\""), "the same value joins however it is escaped");
    let (form, _) = whole(&hash, Escaping::Form, "a=ann%40example.com");
    assert_eq!(form, format!("a={}", plain.replace(':', "%3A")));
}

#[test]
fn counts_by_rule_and_detector() {
    let (_, report) = whole(&ALL, Escaping::None, "ann@example.com bob@example.com 10.1.2.3");
    assert_eq!(report.counts["r/email"], 2);
    assert_eq!(report.counts["r/ipv4"], 1);
}

#[test]
fn lets_go_of_what_cannot_match() {
    let mut masker = TextMasker::new(Arc::clone(&ALL), Escaping::None);
    let (mut out, mut report) = (Vec::new(), Report::default());
    masker.push(b"a line of text\n", &mut out, &mut report).unwrap();
    assert_eq!(out, b"a line of text\n");
    masker.push(b"{\"a\": 1, \"b\": \"two\"}\n", &mut out, &mut report).unwrap();
    assert!(out.ends_with(b"}\n"));
    masker.push(b"and then a wor", &mut out, &mut report).unwrap();
    assert!(out.ends_with(b"a "), "only the open word is held");
    masker.push(b"d\n", &mut out, &mut report).unwrap();
    assert!(out.ends_with(b"word\n"));
}

#[test]
fn every_split_of_every_sample() {
    let mut all = String::new();
    for sample in samples() {
        all.push_str(&sample);
        all.push_str(" | ");
        for split in 0..=sample.len() {
            if !sample.is_char_boundary(split) {
                continue;
            }
            let (first, second) = sample.as_bytes().split_at(split);
            let got = run(&ALL, Escaping::None, [first, second].into_iter());
            assert_eq!(got, whole(&ALL, Escaping::None, &sample), "{sample} at {split}");
        }
    }
    let bytes = run(&ALL, Escaping::None, all.as_bytes().chunks(1));
    assert_eq!(bytes, whole(&ALL, Escaping::None, &all));
}

#[test]
fn a_token_longer_than_any_is_masked_to_its_end() {
    let head = format!("ey{}.", "a".repeat(40));
    let text = format!("x {head}{}.sig+ tail", "b".repeat(3 * MAX_MATCH));
    let (out, _) = whole(&ALL, Escaping::None, &text);
    assert_eq!(out, "x *** tail");
    assert_eq!(run(&ALL, Escaping::None, text.as_bytes().chunks(777)).0, out);
    // A blob without a dot is data, and is not held for ever.
    let blob = format!("ey{} tail", "b".repeat(4 * MAX_MATCH));
    assert_eq!(run(&ALL, Escaping::None, blob.as_bytes().chunks(777)).0, blob);
}

#[test]
fn tiny_chunks_of_a_long_token_take_bounded_work() {
    let text = format!("ey{}", "b".repeat(20 * 1024));
    assert_eq!(run(&ALL, Escaping::None, text.as_bytes().chunks(1)).0, text);
}

fn escaped(escaping: Escaping, text: &str, picks: &[bool]) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        let pick = picks.get(at % picks.len().max(1)).copied().unwrap_or_default();
        match escaping {
            Escaping::Json if pick => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            Escaping::Form if pick => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.push_str(&format!("%{byte:02x}"));
                }
            }
            Escaping::Entity if pick => out.push_str(&format!("&#{};", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        text in texts(),
        picks in prop::collection::vec(prop::bool::weighted(0.2), 1..40),
        escaping in prop_oneof![Just(Escaping::None), Just(Escaping::Json), Just(Escaping::Form), Just(Escaping::Entity)],
        sizes in prop::collection::vec(1..40_usize, 1..20),
    ) {
        let text = escaped(escaping, &text, &picks);
        let mut rest = text.as_bytes();
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(rest.len().min(*size));
            chunks.push(chunk);
            rest = after;
        }
        let split = run(&ALL, escaping, chunks.into_iter());
        prop_assert_eq!(split, whole(&ALL, escaping, &text), "{:?} {:?}", escaping, text);
    }

    #[test]
    fn json_stays_json(text in texts(), number in any::<u64>(), picks in prop::collection::vec(any::<bool>(), 1..30)) {
        let quoted = serde_json::to_string(&text).unwrap();
        let long = escaped(Escaping::Json, &text, &picks).replace(['"', '\n'], "?");
        let long = if long.contains("\\\"") || text.contains('\\') { String::new() } else { long };
        let doc = format!("{{\"a\": {quoted}, \"n\": [{number}, 4111111111111111], \"b\": \"{long}\"}}");
        prop_assume!(serde_json::from_str::<serde_json::Value>(&doc).is_ok());
        let (out, _) = whole(&ALL, Escaping::Json, &doc);
        let value: Result<serde_json::Value, _> = serde_json::from_str(&out);
        prop_assert!(value.is_ok(), "{} -> {}", doc, out);
        prop_assert_eq!(&value.unwrap()["n"][1], "***1111");
    }

    #[test]
    fn any_bytes_do(bytes in prop::collection::vec(any::<u8>(), 0..400), size in 1..50_usize) {
        for escaping in [Escaping::None, Escaping::Json, Escaping::Form, Escaping::Entity] {
            let split = run(&ALL, escaping, bytes.chunks(size));
            prop_assert_eq!(split, run(&ALL, escaping, std::iter::once(bytes.as_slice())));
        }
    }
}
