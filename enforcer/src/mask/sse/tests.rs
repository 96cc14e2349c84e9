use super::*;
use crate::mask::detect::tests::texts;
use crate::mask::{DetectorChoice, MaskPlan, MaskRule, OtherContent, Replace};
use proptest::prelude::*;

fn plan(json: &[&str], detectors: &[&str]) -> MaskPlan {
    let rule = MaskRule {
        name: "r".to_owned(),
        targets: Vec::new(),
        tags: Vec::new(),
        json: json.iter().map(|path| (*path).to_owned()).collect(),
        headers: Vec::new(),
        form: Vec::new(),
        columns: Vec::new(),
        paths: Vec::new(),
        detectors: Some(DetectorChoice::Many(
            detectors.iter().map(|name| (*name).to_owned()).collect(),
        )),
        replace: Replace::Redact,
        other: OtherContent::Block,
    };
    MaskPlan::compile(&[rule]).unwrap()
}

fn run<'a>(plan: &MaskPlan, chunks: impl Iterator<Item = &'a [u8]>) -> Result<String, Unmaskable> {
    let mut masker = plan.body(Some("text/event-stream"), None, 200).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        masker.push(chunk, &mut out)?;
    }
    masker.finish(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

#[test]
fn masks_data_and_keeps_the_rest() {
    let plan = plan(&["$.user.email"], &["email", "pem"]);
    let key = "-----BEGIN".to_owned() + " PRIVATE KEY-----";
    for (text, want) in [
        (
            "data: {\"user\":{\"email\":\"x\"}}\n\n",
            "data: {\"user\":{\"email\":\"***\"}}\n\n".to_owned(),
        ),
        (
            "event: m\r\nid: 7\r\ndata:ann@example.com\r\n\r\n",
            "event: m\r\nid: 7\r\ndata:***\r\n\r\n".to_owned(),
        ),
        (
            "data: {\"user\":\rdata: {\"email\":\"x\"}}\r\r",
            "data: {\"user\":\rdata: {\"email\":\"***\"}}\r\r".to_owned(),
        ),
        ("data: {\"u\":\"ann\\u0040example.com\"}\n\n", "data: {\"u\":\"***\"}\n\n".to_owned()),
        ("data: [DONE]\n\n", "data: [DONE]\n\n".to_owned()),
        ("data: 3 apples\n\ndata: [1] b\n\n", "data: 3 apples\n\ndata: [1] b\n\n".to_owned()),
        (": ann@example.com\n\n\ndata\n\n", ": ***\n\n\ndata\n\n".to_owned()),
        ("\u{feff}data: ann@example.com\n\n", "\u{feff}data: ***\n\n".to_owned()),
        ("data: ann@example.com", "data: ***".to_owned()),
        (
            &format!("data: a {key}\ndata: MIIB\ndata: -----END PRIVATE KEY-----\ndata: z\n\n"),
            "data: a ***\ndata: z\n\n".to_owned(),
        ),
    ] {
        assert_eq!(run(&plan, std::iter::once(text.as_bytes())).unwrap(), want, "{text:?}");
        for split in 0..=text.len() {
            let (first, second) = text.as_bytes().split_at(split);
            assert_eq!(
                run(&plan, [first, second].into_iter()).unwrap(),
                want,
                "{text:?} at {split}"
            );
        }
    }
}

#[test]
fn an_event_is_let_go_at_its_blank_line() {
    let plan = plan(&["$.a"], &["all"]);
    for end in ["\n\n", "\r\r", "\r\n\r\n"] {
        let mut masker = plan.body(Some("text/event-stream"), None, 200).unwrap();
        let mut out = Vec::new();
        let event = format!("data: {{\"a\":1,\"b\":\"tok{end}").replace("tok", "tok\"}");
        masker.push(event.as_bytes(), &mut out).unwrap();
        assert!(out.ends_with(format!("tok\"}}{end}").as_bytes()), "{end:?}");
    }
}

#[test]
fn json_that_breaks_off_after_a_masked_value_is_refused() {
    let plan = plan(&["$.a"], &["email"]);
    let text = "data: {\"a\":\"x\",?\n\n";
    assert!(matches!(run(&plan, std::iter::once(text.as_bytes())), Err(Unmaskable::Json { .. })));
}

#[test]
fn an_endless_event_is_refused() {
    let plan = plan(&["$.a"], &["email"]);
    let chunk = vec![b'x'; 1 << 20];
    let why = run(&plan, std::iter::repeat_n(chunk.as_slice(), 6)).unwrap_err();
    assert!(matches!(why, Unmaskable::TooLong { .. }));
}

#[test]
fn a_json_body_under_this_type_is_masked_as_json() {
    let plan = plan(&["$.a"], &["email"]);
    assert_eq!(run(&plan, std::iter::once(&b"{\"a\":\"x\"}"[..])).unwrap(), "{\"a\":\"***\"}");
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        lines in prop::collection::vec(("(data: |data:|: |id: |)", texts(), "(\n|\r\n|\r|\n\n)"), 0..8),
        size in 1..30_usize,
    ) {
        let text: String = lines.into_iter().map(|(field, text, end)| field + &text + &end).collect();
        let plan = plan(&["$.a"], &["all"]);
        let split = run(&plan, text.as_bytes().chunks(size));
        prop_assert_eq!(split, run(&plan, std::iter::once(text.as_bytes())), "{:?}", text);
    }
}
