//! Any bytes under each content encoding: cut into chunks they give what they give whole, and never
//! more than the bounds allow.
#![no_main]

use enforcer::mask::{MaskPlan, MaskRule};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// A plan that decodes and changes nothing.
static PLAN: LazyLock<MaskPlan> = LazyLock::new(|| {
    let rule: MaskRule = toml::from_str("name = 'r'\nheaders = ['x']").unwrap();
    MaskPlan::compile(&[rule]).unwrap()
});

const ENCODINGS: [&str; 6] = ["gzip", "deflate", "br", "zstd", "gzip, br", "deflate, zstd"];

fn run<'a>(encoding: &str, chunks: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut masker = PLAN.body(None, Some(encoding), 200).ok()?;
    let mut out = Vec::new();
    for chunk in chunks {
        masker.push(chunk, &mut out).ok()?;
    }
    masker.finish(&mut out).ok()?;
    Some(out)
}

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (encoding, size, body) = input;
    let encoding = ENCODINGS[usize::from(encoding) % ENCODINGS.len()];
    let split = run(encoding, body.chunks(usize::from(size).max(1)));
    match run(encoding, std::iter::once(body)) {
        Some(whole) => {
            assert!(whole.len() as u64 <= 64 << 20);
            assert_eq!(split, Some(whole));
        }
        // In pieces it may stay below what one push may give.
        None => assert!(split.is_none_or(|out| out.len() as u64 > 64 << 20)),
    }
});
