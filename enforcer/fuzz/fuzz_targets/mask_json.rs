//! Any bytes as JSON under a path rule: cut into chunks they give what they give whole; what comes
//! out is JSON again, and values that no path names are unchanged.
#![no_main]

use enforcer::mask::{MaskPlan, MaskRule};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use std::sync::LazyLock;

static PLAN: LazyLock<MaskPlan> = LazyLock::new(|| {
    let rule: MaskRule = toml::from_str("name = 'r'\njson = ['$..a', '$.b[*]']").unwrap();
    MaskPlan::compile(&[rule]).unwrap()
});

fn run<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut masker = PLAN.body(Some("application/json"), None, 200).ok()?;
    let mut out = Vec::new();
    for chunk in chunks {
        masker.push(chunk, &mut out).ok()?;
    }
    masker.finish(&mut out).ok()?;
    Some(out)
}

/// Every value that a path names, made the same.
fn blank(value: &mut Value, top: bool) {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                match (key.as_str(), value) {
                    ("a", value) => *value = Value::Null,
                    ("b", Value::Array(items)) if top => items.fill(Value::Null),
                    (_, value) => blank(value, false),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| blank(item, false)),
        _ => {}
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (size, body) = input;
    let whole = run(std::iter::once(body));
    assert_eq!(run(body.chunks(usize::from(size).max(1))), whole);
    let Some(out) = whole else { return };
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    // More than one text, or numbers that only one of the readers can hold.
    let Some(mut before) = read(body) else { return };
    let Some(mut after) = read(&out) else { panic!("the output is not JSON") };
    blank(&mut before, true);
    blank(&mut after, true);
    assert_eq!(before, after);
});
