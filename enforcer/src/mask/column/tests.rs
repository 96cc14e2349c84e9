use super::types::{Class, class_of};
use super::*;
use crate::mask::{MaskPlan, MaskRule};
use proptest::prelude::*;
use rstest::rstest;
use std::borrow::Cow;

const BOOL: u32 = 16;
const BYTEA: u32 = 17;
const CHAR: u32 = 18;
const INT8: u32 = 20;
const INT2: u32 = 21;
const INT4: u32 = 23;
const TEXT: u32 = 25;
const JSON: u32 = 114;
const XML: u32 = 142;
const FLOAT8: u32 = 701;
const INET: u32 = 869;
const TEXTS: u32 = 1009;
const INTS: u32 = 1007;
const JSONBS: u32 = 3807;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIME: u32 = 1083;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const INTERVAL: u32 = 1186;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;
const JSONB: u32 = 3802;
/// An enum, composite or range of somebody's own.
const OWN: u32 = 16_500;

fn plan(rules: &str) -> MaskPlan {
    let table: toml::Table = toml::from_str(rules).unwrap();
    let rules: Vec<MaskRule> = table["mask"].clone().try_into().unwrap();
    MaskPlan::compile_with_key(&rules, b"key").unwrap()
}

fn rule(replace: &str) -> Rule {
    let plan = plan(&format!(
        "[[mask]]\nname = 'r'\ncolumns = ['public.users.email']\nreplace = {replace}"
    ));
    plan.columns().rule("public", "users", "email").unwrap().clone()
}

fn masked(replace: &str, oid: u32, format: i16, value: &[u8]) -> Option<Vec<u8>> {
    mask_value(&rule(replace), oid, format, Some(value)).unwrap().map(Cow::into_owned)
}

#[test]
fn rules_are_found_by_name() {
    let plan = plan(
        "[[mask]]\nname = 'a'\ncolumns = ['public.users.email', '*.*.ssn']\n\
         [[mask]]\nname = 'b'\ncolumns = ['hr.*.*']\nreplace = 'hash'",
    );
    let columns = plan.columns();
    let name = |s, t, c| columns.rule(s, t, c).map(Rule::name);
    assert_eq!(name("public", "users", "email"), Some("a"));
    assert_eq!(name("hr", "people", "ssn"), Some("a"), "the first that means it");
    assert_eq!(name("hr", "people", "name"), Some("b"));
    assert_eq!(name("public", "users", "id"), None);
    assert!(columns.names_table("hr", "people") && columns.names_table("public", "orders"));
    assert!(columns.any() && !columns.detects() && !columns.is_empty());
    assert!(MaskPlan::none().columns().is_empty());
}

#[test]
fn paths_mask_a_part_of_json_and_nothing_else_of_it() {
    let plan = plan(
        "[[mask]]\nname = 'r'\ncolumns = ['public.users.doc']\npaths = ['$.mail', '$.cards[*].n']\n\
         replace = { keep_last = 2 }",
    );
    let rule = plan.columns().rule("public", "users", "doc").unwrap();
    assert!(rule.is_partial() && !rule.derived().is_partial());
    let text = |rule: &Rule, oid, format, value: &[u8]| {
        let masked = mask_value(rule, oid, format, Some(value)).unwrap();
        String::from_utf8(masked.unwrap().into_owned()).unwrap()
    };
    let doc = r#"{"mail": "ada@x.test", "n": 1, "cards": [{"n": "4111"}, {"n": null}]}"#;
    let want = r#"{"mail": "***st", "n": 1, "cards": [{"n": "***11"}, {"n": null}]}"#;
    for oid in [JSON, JSONB] {
        assert_eq!(text(rule, oid, 0, doc.as_bytes()), want);
    }
    assert_eq!(text(rule, JSON, 1, doc.as_bytes()), want);
    let binary = [b"\x01", doc.as_bytes()].concat();
    assert_eq!(text(rule, JSONB, 1, &binary), format!("\u{1}{want}"));
    // A path that leads nowhere leaves all; what is no JSON, or another type, goes whole.
    assert_eq!(text(rule, JSON, 0, b"[1, 2]"), "[1, 2]");
    assert_eq!(text(rule, JSON, 0, b"{\"mail\": \"ada@"), "{}");
    assert_eq!(text(rule, JSONB, 1, b"\x02{\"n\": 1}"), "\u{1}\"***\"");
    assert_eq!(text(rule, TEXT, 0, doc.as_bytes()), "***]}", "as a text it is masked whole");
    assert_eq!(text(&rule.derived(), JSON, 0, doc.as_bytes()), "{}");
    assert_eq!(mask_value(rule, JSON, 0, None), Ok(None));
    let rules = |text: &str| {
        let table: toml::Table = toml::from_str(text).unwrap();
        let rules: Vec<MaskRule> = table["mask"].clone().try_into().unwrap();
        MaskPlan::compile(&rules).map(|_| ()).unwrap_err().to_string()
    };
    let lonely = rules("[[mask]]\nname = 'r'\npaths = ['$.a']\ndetectors = 'secrets'");
    assert!(lonely.contains("no `columns`"), "{lonely}");
    let bad = rules("[[mask]]\nname = 'r'\ncolumns = ['a.b.c']\npaths = ['a']");
    assert!(bad.contains("starts with `$`"), "{bad}");
}

#[test]
fn what_was_made_of_a_column_is_redacted() {
    let plan = plan(
        "[[mask]]\nname = 'a'\ncolumns = ['public.users.email']\nreplace = 'hash'\n\
         [[mask]]\nname = 'b'\ncolumns = ['public.users.card']\nreplace = { keep_last = 4 }",
    );
    let (email, card, id) =
        (("public", "users", "email"), ("public", "users", "card"), ("public", "users", "id"));
    let shown = |columns: &[(&str, &str, &str)], unchanged| {
        let rule = plan.columns().rule_of(columns.iter().copied(), unchanged)?;
        let value = mask_value(&rule, TEXT, 0, Some(b"4111111111111111")).unwrap();
        Some(String::from_utf8(value.unwrap().into_owned()).unwrap())
    };
    assert!(shown(&[email], true).unwrap().starts_with("hmac:"));
    assert_eq!(shown(&[card], true).as_deref(), Some("***1111"));
    for (columns, unchanged) in
        [(&[email][..], false), (&[card], false), (&[email, card], true), (&[id, email], false)]
    {
        assert_eq!(shown(columns, unchanged).as_deref(), Some("***"), "{columns:?}");
    }
    assert_eq!(shown(&[id, card], true).as_deref(), Some("***1111"), "a child's or a view's");
    assert_eq!(shown(&[id], false), None);
    assert_eq!(shown(&[], true), None);
}

#[rstest]
#[case("'redact'", TEXT, "a@b.example", Some("***"))]
#[case("{ keep_last = 4 }", VARCHAR, "4111111111111111", Some("***1111"))]
#[case("{ keep_last = 4 }", TEXT, "1234567", Some("***"))]
#[case("'redact'", CHAR, "x", Some("*"))]
#[case("'redact'", JSON, r#"{"a": 1}"#, Some("{}"))]
#[case("'hash'", JSON, r#"["a"]"#, Some("[]"))]
#[case("'redact'", JSON, r#" "a" "#, Some(r#""***""#))]
#[case("{ keep_last = 2 }", JSON, r#""ab\"cd""#, Some(r#""***cd""#))]
#[case("'redact'", JSON, "12", Some("null"))]
#[case("{ keep_last = 2 }", JSON, "123456", Some(r#""***56""#))]
#[case("'redact'", JSON, "true", Some("null"))]
#[case("'redact'", JSON, "null", Some("null"))]
#[case("'redact'", JSONB, r#"{"a": 1}"#, Some("{}"))]
#[case("'redact'", XML, "<a>b</a>", Some("<masked/>"))]
#[case("{ keep_last = 4 }", XML, "<a>b</a>", Some("<masked/>"))]
#[case("'redact'", BYTEA, "\\x616263", Some("\\x2a2a2a"))]
#[case("'redact'", TEXTS, "{a,b}", Some("{}"))]
#[case("'hash'", INTS, "{1,2}", Some("{}"))]
#[case("'redact'", INT4, "42", None)]
#[case("'hash'", INT8, "42", None)]
#[case("{ keep_last = 4 }", NUMERIC, "4111111111111111", None)]
#[case("'redact'", FLOAT8, "4.5", None)]
#[case("'redact'", BOOL, "t", None)]
#[case("'hash'", UUID, "3fa85f64-5717-4562-b3fc-2c963f66afa6", None)]
#[case("'redact'", DATE, "1980-01-02", None)]
#[case("'redact'", TIME, "12:00:00", None)]
#[case("'redact'", TIMESTAMP, "1980-01-02 00:00:00", None)]
#[case("'redact'", TIMESTAMPTZ, "1980-01-02 00:00:00+00", None)]
#[case("'redact'", INTERVAL, "1 day", None)]
#[case("'redact'", INET, "10.1.2.3", None)]
#[case("'redact'", OWN, "(a,b)", None)]
fn a_named_text_value(
    #[case] replace: &str,
    #[case] oid: u32,
    #[case] value: &str,
    #[case] want: Option<&str>,
) {
    let got = masked(replace, oid, 0, value.as_bytes());
    assert_eq!(got.as_deref().map(|bytes| std::str::from_utf8(bytes).unwrap()), want);
}

#[rstest]
#[case(TEXT, b"a@b.example", Some(&b"***"[..]))]
#[case(JSONB, b"\x01{\"a\": 1}", Some(&b"\x01{}"[..]))]
#[case(JSONB, b"\x01\"secret\"", Some(&b"\x01\"***\""[..]))]
#[case(JSONB, b"\x02?", Some(&b"\x01null"[..]))]
#[case(JSON, b"[1]", Some(&b"[]"[..]))]
#[case(BYTEA, b"\0\x01\x02", Some(&b"***"[..]))]
#[case(TEXTS, b"whatever", Some(&b"\0\0\0\0\0\0\0\0\0\0\0\x19"[..]))]
#[case(INT4, &[0, 0, 0, 42], None)]
#[case(UUID, &[7; 16], None)]
#[case(OWN, b"binary", None)]
fn a_named_binary_value(#[case] oid: u32, #[case] value: &[u8], #[case] want: Option<&[u8]>) {
    assert_eq!(masked("'redact'", oid, 1, value).as_deref(), want);
}

#[test]
fn hashes_join_in_both_formats_and_no_key_masks_nothing() {
    let text = masked("'hash'", TEXT, 0, b"a@b.example").unwrap();
    assert_eq!(masked("'hash'", VARCHAR, 1, b"a@b.example"), Some(text.clone()));
    assert_ne!(masked("'hash'", TEXT, 0, b"a@c.example"), Some(text.clone()));
    assert!(text.starts_with(b"hmac:"));
    let bytes = masked("'hash'", BYTEA, 1, b"abc").unwrap();
    let same = masked("'hash'", BYTEA, 0, b"\\x616263").unwrap();
    assert_eq!(same, format!("\\x{}", hex::encode(&bytes)).into_bytes());
    let unkeyed: MaskRule =
        toml::from_str("name = 'r'\ncolumns = ['a.b.c']\nreplace = 'hash'").unwrap();
    let unkeyed = MaskPlan::compile(&[unkeyed]).unwrap();
    let rule = unkeyed.columns().rule("a", "b", "c").unwrap();
    assert_eq!(mask_value(rule, TEXT, 0, Some(b"x")), Err(Unmaskable::NoKey));
    assert_eq!(mask_value(rule, TEXT, 7, Some(b"x")), Err(Unmaskable::Format(7)));
}

#[test]
fn null_stays_null() {
    let plan = plan("[[mask]]\nname = 'd'\ncolumns = ['a.b.c']\ndetectors = 'all'");
    let rule = plan.columns().rule("a", "b", "c").unwrap();
    let mut report = Report::default();
    for oid in [TEXT, INT4, JSONB, TEXTS, OWN] {
        assert_eq!(mask_value(rule, oid, 1, None), Ok(None));
        assert_eq!(detect_value(plan.columns(), oid, 1, None, &mut report), Ok(None));
    }
    assert_eq!(report.total(), 0);
}

fn detected(oid: u32, format: i16, value: &[u8]) -> (Option<Vec<u8>>, u64) {
    let plan = plan("[[mask]]\nname = 'd'\ndetectors = ['email', 'card', 'ipv4']");
    let mut report = Report::default();
    let got = detect_value(plan.columns(), oid, format, Some(value), &mut report).unwrap();
    (got.map(Cow::into_owned), report.total())
}

#[rstest]
#[case(TEXT, "write to ann@corp.example now", Some("write to *** now"))]
#[case(
    JSON,
    r#"{"a":"ann\u0040corp.example","b":4111111111111111}"#,
    Some(r#"{"a":"***","b":null}"#)
)]
#[case(JSONB, r#"{"a": "ann@corp.example"}"#, Some(r#"{"a": "***"}"#))]
#[case(XML, "<a>ann&#64;corp.example</a>", Some("<a>***</a>"))]
#[case(
    TEXTS,
    r#"{x,"ann@corp.example",NULL,{"y\"z",bob@corp.example}}"#,
    Some(r#"{x,"***",NULL,{"y\"z","***"}}"#)
)]
#[case(TEXTS, "[0:1]={ann@corp.example,b}", Some("[0:1]={\"***\",b}"))]
#[case(BYTEA, "\\x616e6e40636f72702e6578616d706c65", Some("\\x2a2a2a"))]
#[case(BYTEA, "ann@corp.example\\012", Some("\\x2a2a2a0a"))]
#[case(INT8, "4111111111111111", None)]
#[case(NUMERIC, "4111111111111111", None)]
#[case(OWN, "(1,ann@corp.example)", None)]
fn found_in_text_format(#[case] oid: u32, #[case] value: &str, #[case] want: Option<&str>) {
    let (got, hits) = detected(oid, 0, value.as_bytes());
    assert_eq!(got.as_deref().map(|bytes| std::str::from_utf8(bytes).unwrap()), want);
    assert!(hits > 0);
}

#[rstest]
#[case(TEXT, "nothing here")]
#[case(JSONB, r#"{"a": [1, "b"]}"#)]
#[case(TEXTS, r#"{a,"b c",NULL,"NULL","\\"}"#)]
#[case(TEXTS, "{}")]
#[case(INTS, "{{1,2},{3,4}}")]
#[case(INT8, "4111111111111112")]
#[case(UUID, "3fa85f64-5717-4562-b3fc-2c963f66afa6")]
#[case(TIMESTAMPTZ, "2024-01-02 03:04:05+00")]
#[case(BYTEA, "\\x74657874")]
#[case(OWN, "(1,x)")]
fn nothing_found(#[case] oid: u32, #[case] value: &str) {
    assert_eq!(detected(oid, 0, value.as_bytes()), (Some(value.as_bytes().to_vec()), 0));
}

fn binary_array(element: u32, items: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    let nulls = u32::from(items.iter().any(Option::is_none));
    let count = u32::try_from(items.len()).unwrap();
    for word in [1, nulls, element, count, 1] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    for item in items {
        let length = item.map_or(-1, |item| i32::try_from(item.len()).unwrap());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(item.unwrap_or_default());
    }
    out
}

#[test]
fn found_in_binary_format() {
    let array = binary_array(TEXT, &[Some(b"ann@corp.example"), None, Some(b"x")]);
    let want = binary_array(TEXT, &[Some(b"***"), None, Some(b"x")]);
    assert_eq!(detected(TEXTS, 1, &array), (Some(want), 1));
    let array = binary_array(JSONB, &[Some(b"\x01\"ann@corp.example\""), Some(b"?")]);
    let want = binary_array(JSONB, &[Some(b"\x01\"***\""), None]);
    assert_eq!(
        detected(JSONBS, 1, &array),
        (Some(want), 1),
        "what is not as its type says is NULL"
    );
    assert_eq!(detected(INT8, 1, &4_111_111_111_111_111_i64.to_be_bytes()), (None, 1));
    assert_eq!(detected(INET, 1, &[2, 32, 0, 4, 93, 184, 216, 34]), (None, 1));
    assert_eq!(detected(OWN, 1, b"\0\0\0\x19\0\0\0\x10ann@corp.example"), (None, 1));
    assert_eq!(detected(INT2, 1, &[0, 7]), (Some(vec![0, 7]), 0));
}

#[rstest]
#[case(TEXTS, 0, b"{a")]
#[case(TEXTS, 0, b"{a}}")]
#[case(TEXTS, 0, b"{a,,b}")]
#[case(TEXTS, 0, b"a,b")]
#[case(TEXTS, 0, b"")]
#[case(TEXTS, 0, b"{{{{{{{a}}}}}}}")]
#[case(TEXTS, 0, b"{a}ann@corp.example")]
#[case(TEXTS, 1, b"\0\0\0\x01\0\0\0\0\0\0\0\x19\x7f\xff\xff\xff\0\0\0\x01")]
#[case(TEXTS, 1, b"\0\0\0\x01\0\0\0\0\0\0\0\x17\0\0\0\0\0\0\0\x01")]
#[case(JSONB, 1, b"{\"a\": 1}")]
#[case(BYTEA, 0, b"\\xzz")]
#[case(BYTEA, 1, b"\x1f\x8b\x08\x00\x01\x02\x03")]
fn what_cannot_be_read_is_not_delivered(#[case] oid: u32, #[case] format: i16, #[case] v: &[u8]) {
    assert_eq!(detected(oid, format, v).0, None);
}

#[test]
fn bytes_that_are_no_text_pass_where_a_rule_says_so() {
    let plan = plan("[[mask]]\nname = 'd'\ndetectors = 'all'\nother = 'pass'");
    let mut report = Report::default();
    let value = b"\x1f\x8b\x08\x00\x01";
    let got = detect_value(plan.columns(), BYTEA, 1, Some(value), &mut report).unwrap();
    assert_eq!(got.as_deref(), Some(&value[..]));
}

#[test]
fn texts_for_people_are_looked_through() {
    let plan = plan("[[mask]]\nname = 'd'\ndetectors = ['email']");
    let mut report = Report::default();
    let detail = b"Key (email)=(ann@corp.example) already exists.";
    let got = plan.columns().detect_text(detail, &mut report).unwrap().unwrap();
    assert_eq!(got, b"Key (email)=(***) already exists.");
    assert_eq!(plan.columns().detect_text(b"fine", &mut report), Ok(None));
}

#[rstest]
#[case(BOOL, "01", "t")]
#[case(INT2, "fff6", "-10")]
#[case(INT4, "0000002a", "42")]
#[case(INT8, "000e9b08a568f1c7", "4111111111111111")]
#[case(FLOAT8, "4012000000000000", "4.5")]
#[case(NUMERIC, "0002000000000002000109c4", "1.25")]
#[case(NUMERIC, "0001ffff4000000304d2", "-0.123")]
#[case(NUMERIC, "00040003000000001007045704571007", "4103111111114103")]
#[case(NUMERIC, "0001000100000000000c", "120000")]
#[case(NUMERIC, "00000000c0000000", "NaN")]
#[case(NUMERIC, "0000000000000000", "0")]
#[case(UUID, "3fa85f6457174562b3fc2c963f66afa6", "3fa85f64-5717-4562-b3fc-2c963f66afa6")]
#[case(DATE, "00002279", "2024-02-29")]
#[case(DATE, "7fffffff", "infinity")]
#[case(TIMESTAMP, "0000000000000000", "2000-01-01 00:00:00")]
#[case(TIMESTAMPTZ, "fffffffffff0bdc0", "1999-12-31 23:59:59+00")]
#[case(TIMESTAMPTZ, "7fffffffffffffff", "infinity")]
#[case(TIME, "000000000016e360", "00:00:01.5")]
#[case(INET, "0220000401020304", "1.2.3.4")]
#[case(INET, "021801040a000000", "10.0.0.0/24")]
#[case(JSONB, "017b7d", "{}")]
#[case(TEXT, "c3a9", "\u{e9}")]
#[case(TEXT, "ff", "\\xff")]
#[case(INT4, "01", "\\x01")]
#[case(OWN, "0102", "\\x0102")]
#[case(INTERVAL, "00", "\\x00")]
#[case(INTS, "0000000100000000000000170000000200000001000000040000000100000004ffffffff", "{1,-1}")]
fn binary_values_are_printed(#[case] oid: u32, #[case] value: &str, #[case] want: &str) {
    assert_eq!(printed(oid, 1, &hex::decode(value).unwrap()), want);
}

/// Whether a value is one of its type, as far as a driver looks.
fn is_valid(oid: u32, format: i16, value: &[u8]) -> bool {
    match class_of(oid) {
        Class::Text | Class::Xml => std::str::from_utf8(value).is_ok(),
        Class::Char => value.len() == 1,
        Class::Json => serde_json::from_slice::<serde_json::Value>(value).is_ok(),
        Class::Jsonb if format == 1 => value
            .strip_prefix(&[1])
            .is_some_and(|text| serde_json::from_slice::<serde_json::Value>(text).is_ok()),
        Class::Jsonb => serde_json::from_slice::<serde_json::Value>(value).is_ok(),
        Class::Bytea if format == 0 => {
            value.strip_prefix(b"\\x").is_some_and(|digits| hex::decode(digits).is_ok())
        }
        Class::Bytea => true,
        Class::Array(_) if format == 0 => value == b"{}",
        Class::Array(element) => value == [&[0; 8][..], &element.to_be_bytes()].concat(),
        Class::Number | Class::Net | Class::Fixed | Class::Other => false,
    }
}

fn any_type() -> impl Strategy<Value = u32> {
    prop_oneof![Just(OWN), 16_u32..40, 114_u32..200, 600_u32..1300, 1560_u32..1800, 2950_u32..3900]
}

proptest! {
    /// Whatever the value and the type: what is delivered does not have it in it, and is valid.
    #[test]
    fn a_masked_value_never_has_the_original(
        oid in any_type(),
        format in 0_i16..2,
        value in prop_oneof![
            "[a-z0-9@.]{6,40}".prop_map(String::into_bytes),
            "\"[a-z0-9@. ]{6,40}\"".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 6..60),
        ],
        replace in prop_oneof![Just("'redact'"), Just("'hash'")],
    ) {
        let got = masked(replace, oid, format, &value);
        if let Some(got) = got {
            prop_assert!(is_valid(oid, format, &got), "{oid} {format}: {got:?}");
            // Six bytes of it anywhere would be too many.
            let has = value.windows(6).any(|part| got.windows(6).any(|other| other == part));
            prop_assert!(!has, "{value:?} {got:?}");
        }
    }

    /// Whatever stands in an array, what is found in its elements is not delivered.
    #[test]
    fn an_array_keeps_nothing_that_is_found(
        before in "[ -~]{0,10}",
        after in "[ -~]{0,10}",
        format in 0_i16..2,
    ) {
        let mail = "somebody@corp.example";
        let value = match format {
            1 => binary_array(TEXT, &[Some(before.as_bytes()), Some(mail.as_bytes()), Some(after.as_bytes())]),
            _ => {
                let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
                format!("{{{},{mail},{}}}", quote(&before), quote(&after)).into_bytes()
            }
        };
        let (got, hits) = detected(TEXTS, format, &value);
        let got = got.unwrap();
        prop_assert!(hits > 0);
        prop_assert!(!got.windows(mail.len()).any(|part| part == mail.as_bytes()), "{got:?}");
    }

    /// No bytes make a reader of values panic.
    #[test]
    fn nothing_panics(oid in any_type(), format in 0_i16..2, value in proptest::collection::vec(any::<u8>(), 0..80)) {
        let _ = detected(oid, format, &value);
        let _ = printed(oid, format, &value);
    }
}
