//! Plans and bodies from the outside: what a caller of the module sees.

use super::*;
use http::HeaderMap;
use http::header::HeaderValue;
use proptest::prelude::*;
use std::io::Write as _;

fn rules(text: &str) -> Vec<MaskRule> {
    #[derive(serde::Deserialize)]
    struct File {
        mask: Vec<MaskRule>,
    }
    toml::from_str::<File>(text).unwrap().mask
}

fn plan(text: &str) -> MaskPlan {
    MaskPlan::compile_with_key(&rules(text), b"key").unwrap()
}

fn fields() -> MaskPlan {
    plan("[[mask]]\nname = 'f'\njson = ['$..email']\nform = ['pw']\n")
}

fn all() -> MaskPlan {
    plan("[[mask]]\nname = 'f'\njson = ['$..email']\n[[mask]]\nname = 'd'\ndetectors = 'all'\n")
}

fn run(
    plan: &MaskPlan,
    content_type: Option<&str>,
    encoding: Option<&str>,
    body: &[u8],
    size: usize,
) -> Result<String, Unmaskable> {
    let mut masker = plan.body(content_type, encoding, 200)?;
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        masker.push(chunk, &mut out)?;
    }
    masker.finish(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn whole(plan: &MaskPlan, content_type: &str, body: &str) -> Result<String, Unmaskable> {
    let all = run(plan, Some(content_type), None, body.as_bytes(), usize::MAX >> 1);
    let bytes = run(plan, Some(content_type), None, body.as_bytes(), 1);
    assert_eq!(all.is_ok(), bytes.is_ok(), "{content_type} {body}");
    if all.is_ok() {
        assert_eq!(all, bytes, "{content_type} {body}");
    }
    all
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(body).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn rules_are_read_and_checked() {
    let read = rules(
        "[[mask]]\nname = 'a'\ntargets = ['crm']\ntags = ['pii']\njson = ['$.x']\nheaders = ['Set-Cookie']\nform = ['pw']\n\
         detectors = ['email', 'secrets']\nreplace = { keep_last = 4 }\nother = 'pass'\n",
    );
    assert_eq!(read[0].replace, Replace::KeepLast(4));
    assert_eq!(read[0].other, OtherContent::Pass);
    for (text, want) in [
        ("name = 'a'\njsn = ['$.x']", "unknown field `jsn`"),
        ("json = ['$.x']", "missing field `name`"),
        ("name = 'a'\nreplace = 'redacted'", "unknown variant `redacted`"),
        ("name = 'a'\nother = 'allow'", "unknown variant `allow`"),
    ] {
        let why = toml::from_str::<MaskRule>(text).unwrap_err().to_string();
        assert!(why.contains(want), "{why}");
    }
    for (text, want) in [
        ("name = 'a'", "selects nothing"),
        ("name = 'a'\ndetectors = []", "selects nothing"),
        ("name = ''\njson = ['$']", "name is empty"),
        ("name = 'a'\njson = ['x']", "starts with `$`"),
        ("name = 'a'\nheaders = ['a b']", "not a header name"),
        ("name = 'a'\ndetectors = 'emails'", "no detector or group is called `emails`"),
        ("name = 'a'\njson = ['$']\nreplace = { keep_last = 0 }", "1 to 16"),
        ("name = 'a'\njson = ['$']\nreplace = { keep_last = 17 }", "1 to 16"),
    ] {
        let why = MaskPlan::compile(&[toml::from_str(text).unwrap()]).unwrap_err().to_string();
        assert!(why.contains(want), "{why}");
    }
    let twice = rules("[[mask]]\nname = 'a'\njson = ['$']\n[[mask]]\nname = 'a'\njson = ['$']\n");
    assert!(MaskPlan::compile(&twice).unwrap_err().to_string().contains("two mask rules"));
}

#[test]
fn a_plan_without_body_rules_changes_no_body() {
    let mut headers = HeaderMap::new();
    headers.insert("content-encoding", HeaderValue::from_static("gzip"));
    let none = MaskPlan::none();
    assert!(none.is_empty() && !none.masks_body());
    assert_eq!(run(&none, Some("x/y"), Some("unknown"), b"any\0thing", 2).unwrap(), "any\0thing");
    none.fix_headers(&mut headers);
    assert_eq!(headers.len(), 1);
    let only_headers = plan("[[mask]]\nname = 'h'\nheaders = ['x-a']\n");
    let body = gzip(b"any\0thing");
    assert_eq!(run(&only_headers, Some("x/y"), Some("gzip"), &body, 2).unwrap(), "any\0thing");
    only_headers.fix_headers(&mut headers);
    assert_eq!(headers.len(), 0);
}

#[test]
fn hashing_without_a_key_blocks() {
    let plan =
        MaskPlan::compile(&rules("[[mask]]\nname = 'h'\njson = ['$.a']\nreplace = 'hash'\n"))
            .unwrap();
    assert_eq!(plan.body(None, None, 200).unwrap_err(), Unmaskable::NoKey);
    let keyed = plan.with_key(b"key").unwrap();
    assert!(whole(&keyed, "application/json", "{\"a\":1}").unwrap().starts_with("{\"a\":\"hmac:"));
}

#[test]
fn the_wrong_content_type_is_no_way_around() {
    let json = r#" {"email":"x","b":1}"#;
    let want = r#" {"email":"***","b":1}"#;
    for content_type in [
        "application/json",
        "application/vnd.api+json",
        "text/plain",
        "text/html",
        "text/event-stream",
        "application/octet-stream",
        "image/png",
        "application/x-www-form-urlencoded",
        "nonsense",
        "",
    ] {
        assert_eq!(whole(&fields(), content_type, json).unwrap(), want, "{content_type}");
    }
    assert_eq!(run(&fields(), None, None, json.as_bytes(), 3).unwrap(), want);
    let marked = format!("\u{feff}{}", json.trim());
    assert_eq!(
        whole(&fields(), "application/json", &marked).unwrap(),
        format!("\u{feff}{}", want.trim())
    );
}

#[test]
fn text_that_only_begins_like_json_is_text() {
    for body in ["[2026-01-01] started", "{name} is here", "[1] a note {}", "[section]\nkey=1\n"] {
        assert_eq!(whole(&fields(), "text/plain", body).unwrap(), body);
        assert!(
            matches!(whole(&fields(), "application/json", body), Err(Unmaskable::Json { .. })),
            "{body}"
        );
        assert!(
            matches!(whole(&fields(), "application/zip", body), Err(Unmaskable::Type(_))),
            "{body}"
        );
    }
    assert_eq!(
        whole(&all(), "text/plain", "[123-45-6789] 4111111111111111 ann@example.com").unwrap(),
        "[***] *** ***"
    );
    assert!(matches!(
        whole(&fields(), "text/plain", "{\"email\":\"x\"} and {\"email\":"),
        Err(Unmaskable::Json { .. })
    ));
}

#[test]
fn events_and_forms_that_begin_like_json_do_not_go_past_their_own_rules() {
    for (content_type, body) in [
        ("text/event-stream", "[\n\ndata: {\"email\":\"a@b.example\"}\n\n"),
        ("text/event-stream", "{\ndata: {\"email\":\"a@b.example\"}\n\n"),
        ("application/x-www-form-urlencoded", "[a]=1&pw=sesame"),
    ] {
        assert!(whole(&fields(), content_type, body).is_err(), "{content_type} {body}");
    }
}

#[test]
fn what_cannot_be_read_is_blocked() {
    let pass = plan("[[mask]]\nname = 'd'\ndetectors = 'all'\nother = 'pass'\n");
    for (content_type, body) in [
        ("application/octet-stream", &b"\x01\x02"[..]),
        (
            "application/pdf",
            b"%PDF-1.7 text text text text text text text text text text text text text text",
        ),
        ("application/zip", b"PK\x03\x04"),
        ("application/grpc", b"\0\0\0\0\x02ab"),
        ("application/x-protobuf", b"\x0a\x01a"),
    ] {
        for size in [1, 1000] {
            assert!(
                matches!(
                    run(&all(), Some(content_type), None, body, size),
                    Err(Unmaskable::Type(_))
                ),
                "{content_type}"
            );
            assert!(run(&pass, Some(content_type), None, body, size).is_ok(), "{content_type}");
        }
    }
    assert_eq!(
        all().body(Some("multipart/mixed; boundary=x"), None, 200).unwrap_err(),
        Unmaskable::Partial
    );
    assert_eq!(all().body(Some("text/plain"), None, 206).unwrap_err(), Unmaskable::Partial);
    assert!(matches!(
        all().body(Some("text/plain; charset=utf-16"), None, 200),
        Err(Unmaskable::Charset(_))
    ));
    assert!(matches!(all().body(None, Some("compress"), 200), Err(Unmaskable::Encoding(_))));
    for body in [&b"\xff\xfea\0@\0"[..], b"a\0@\0b\0", b"\0\0\xfe\xff\0\0\0a"] {
        for size in [1, 100] {
            assert!(
                matches!(
                    run(&all(), Some("text/plain"), None, body, size),
                    Err(Unmaskable::Charset(_))
                ),
                "{body:?}"
            );
        }
    }
    assert!(
        run(&all(), Some("image/png"), None, b"\x89PNG\r\n\x1a\n\0\0", 1).is_ok(),
        "pictures are not read"
    );
    assert_eq!(
        whole(&all(), "image/x-note", "ann@example.com").unwrap(),
        "***",
        "unless they are text"
    );
    assert!(run(&all(), Some("application/pdf"), None, b"", 1).is_ok(), "nothing is nothing");
}

#[test]
fn after_an_error_nothing_comes_out() {
    let mut masker = fields().body(Some("application/json"), None, 200).unwrap();
    let mut out = b"kept".to_vec();
    assert!(masker.push(b"{\"a\": 1, ?", &mut out).is_err());
    assert!(masker.push(b"{}", &mut out).is_err());
    assert!(masker.finish(&mut out).is_err());
    assert_eq!(out, b"kept");
}

#[test]
fn forms_by_field_and_detector() {
    let both = plan(
        "[[mask]]\nname = 'f'\nform = ['pw', 'a b']\nreplace = { keep_last = 2 }\n[[mask]]\nname = 'd'\ndetectors = 'email'\n",
    );
    let form = "application/x-www-form-urlencoded";
    for (body, want) in [
        ("user=x&pw=s%26cret&z=1", "user=x&pw=***et&z=1"),
        ("p%77=abcd=ef&a+b=1234&m=ann%40example.com", "p%77=***ef&a+b=***34&m=***"),
        ("pw=&pw&=x&&", "pw=***&pw&=x&&"),
        ("pw=abc", "pw=***"),
    ] {
        assert_eq!(whole(&both, form, body).unwrap(), want, "{body}");
    }
}

#[test]
fn encoded_bodies_come_out_plain() {
    let body = br#"{"email":"x","note":"bob@example.com"}"#;
    let gzip = gzip(body);
    for size in [1, 5, 1000] {
        let out = run(&all(), Some("application/json"), Some("gzip"), &gzip, size).unwrap();
        assert_eq!(out, r#"{"email":"***","note":"***"}"#);
    }
    let cut = run(&all(), Some("application/json"), Some("gzip"), &gzip[..gzip.len() - 3], 1000);
    assert!(matches!(cut, Err(Unmaskable::Damaged { .. })));
}

#[test]
fn headers_are_masked_and_mended() {
    let plan = plan(
        "[[mask]]\nname = 'cookie'\nheaders = ['Set-Cookie']\nreplace = { keep_last = 3 }\n[[mask]]\nname = 'd'\ndetectors = 'personal'\n",
    );
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("set-cookie", "sid=abcdefgh"),
        ("set-cookie", "x"),
        ("location", "/u?m=ann@example.com"),
        ("etag", "\"ann@example.com\""),
        ("content-length", "10"),
        ("content-encoding", "gzip"),
        ("digest", "x"),
        ("x-other", "kept"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let mut report = Report::default();
    plan.headers(&mut headers, &mut report);
    plan.fix_headers(&mut headers);
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["***fgh", "***"]);
    assert_eq!(headers["location"], "/u?m=***");
    assert_eq!(headers["x-other"], "kept");
    assert_eq!(headers.len(), 4, "{headers:?}");
    assert_eq!((report.counts["cookie"], report.counts["d/email"]), (2, 1));
}

#[test]
fn the_report_names_rules_and_detectors() {
    let plan = all();
    let mut masker = plan.body(Some("application/json"), None, 200).unwrap();
    let mut out = Vec::new();
    masker.push(br#"{"email":"x","b":"10.0.0.1 10.0.0.2"}"#, &mut out).unwrap();
    masker.finish(&mut out).unwrap();
    let counts: Vec<_> =
        masker.report().counts.iter().map(|(key, count)| (key.as_str(), *count)).collect();
    assert_eq!(counts, [("d/ipv4", 2), ("f", 1)]);
    assert_eq!(masker.report().total(), 3);
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        text in detect::tests::texts(),
        start in prop_oneof![Just(""), Just("["), Just("{\"email\":\""), Just("{\"a\":[12, "), Just("[{}]")],
        content_type in prop_oneof![
            Just("application/json"), Just("text/plain"), Just("text/html"), Just("text/event-stream"),
            Just("application/x-www-form-urlencoded"), Just("application/octet-stream"), Just("image/png"),
        ],
        size in 1..40_usize,
    ) {
        let body = format!("{start}{text}");
        let all = all();
        let one = run(&all, Some(content_type), None, body.as_bytes(), body.len().max(1));
        let split = run(&all, Some(content_type), None, body.as_bytes(), size);
        prop_assert_eq!(one.is_ok(), split.is_ok(), "{} {:?} {:?} {:?}", content_type, body, one, split);
        if let (Ok(one), Ok(split)) = (one, split) {
            prop_assert_eq!(one, split, "{} {:?}", content_type, body);
        }
    }
}

#[test]
fn json_in_a_wrapper_is_masked_by_path() {
    for (content_type, before, after) in [
        ("application/javascript", "cb(", ");"),
        ("text/javascript; charset=utf-8", "/**/ typeof cb === 'function' && cb(", ")\n"),
        ("application/javascript", "(", ")"),
        ("text/plain", "jQuery_1.cb[0] ( ", " ) ;\n"),
        ("application/json", ")]}',\n", ""),
        ("application/javascript", ")]}'\n", ""),
        ("text/plain", "while(1);", ""),
        ("application/json", "for(;;);", "\n"),
    ] {
        let body = |mail: &str| format!("{before}{{\"a\":[{{\"email\":{mail}}}]}}{after}");
        let out = whole(&fields(), content_type, &body("\"ada@example.org\"")).unwrap();
        assert_eq!(out, body("\"***\""), "{content_type} {before}");
    }
    // Detectors read what is around it too.
    let out =
        whole(&all(), "text/javascript", "// to ada@example.org\ncb({\"email\":\"x\"})").unwrap();
    assert!(out.starts_with("// to ***") && out.ends_with("cb({\"email\":\"***\"})"), "{out}");
}

#[test]
fn a_script_that_is_no_json_in_a_wrapper_is_withheld_under_a_path_rule() {
    let scripts = [
        "var users = {\"email\":\"ada@example.org\"};",
        "cb({\"a\":1}, {\"email\":\"ada@example.org\"})",
        "cb({\"a\":1});cb({\"email\":\"ada@example.org\"})",
        "cb([1], {\"email\":\"ada@example.org\"})",
        "cb({email:'ada@example.org'})",
        "(function(){ return {\"email\":1} })()",
        "{ f({\"email\":\"ada@example.org\"}) }",
        ")]}'\nada@example.org",
    ];
    let no_paths = plan("[[mask]]\nname = 'd'\nform = ['pw']\n");
    let passing = plan("[[mask]]\nname = 'f'\njson = ['$..email']\nother = 'pass'\n");
    for script in scripts {
        let withheld = whole(&fields(), "application/javascript", script);
        assert!(withheld.is_err(), "{script}: {withheld:?}");
        assert_eq!(whole(&no_paths, "application/javascript", script).unwrap(), script);
    }
    assert_eq!(whole(&passing, "application/javascript", scripts[0]).unwrap(), scripts[0]);
    // Neither prose nor a page is a script.
    for (content_type, body) in [
        ("text/plain", "call me (at ada@example.org)"),
        ("text/plain", "f([1] is no JSON)"),
        ("text/html", "<script>var a = {\"email\":\"ada@example.org\"}</script>"),
    ] {
        assert_eq!(whole(&fields(), content_type, body).unwrap(), body);
    }
    assert!(whole(&fields(), "text/plain", "f({\"a\":1}, {\"email\":1})").is_err());
}
