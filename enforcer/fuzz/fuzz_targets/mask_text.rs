//! Any bytes as text of each kind under every detector: cut into chunks they give what they give
//! whole, and what holds nothing to mask keeps its bytes.
#![no_main]

use enforcer::mask::{MaskPlan, MaskRule, Report};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static PLAN: LazyLock<MaskPlan> = LazyLock::new(|| {
    let rule: MaskRule = toml::from_str("name = 'r'\ndetectors = 'all'\nform = ['a']").unwrap();
    MaskPlan::compile(&[rule]).unwrap()
});

const TYPES: [&str; 5] = [
    "text/plain",
    "text/html",
    "application/json",
    "application/x-www-form-urlencoded",
    "image/png",
];

fn run<'a>(kind: &str, chunks: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, Report)> {
    let mut masker = PLAN.body(Some(kind), None, 200).ok()?;
    let mut out = Vec::new();
    for chunk in chunks {
        masker.push(chunk, &mut out).ok()?;
    }
    masker.finish(&mut out).ok()?;
    Some((out, masker.report().clone()))
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (kind, size, body) = input;
    let kind = TYPES[usize::from(kind) % TYPES.len()];
    let whole = run(kind, std::iter::once(body));
    assert_eq!(run(kind, body.chunks(usize::from(size).max(1))), whole);
    if let Some((out, report)) = whole
        && report.total() == 0
    {
        assert_eq!(out, body);
    }
});
