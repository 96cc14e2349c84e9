//! The rows of COPY, in every format, in pieces as whole; unchanged where nothing is masked.
#![no_main]

use enforcer::mask::Unmaskable;
use enforcer::mask::copy::{CopyFormat, CopyOptions, CopyRows};
use libfuzzer_sys::fuzz_target;
use std::borrow::Cow;

type Value<'v> = Result<Option<Cow<'v, [u8]>>, Unmaskable>;

fn same(_column: usize, value: Option<&[u8]>) -> Value<'_> {
    Ok(value.map(Cow::Borrowed))
}

/// Every second column.
fn some(column: usize, value: Option<&[u8]>) -> Value<'_> {
    Ok(match value {
        Some(_) if column % 2 == 1 => Some(Cow::Borrowed(b"***\t\\\n\"")),
        Some(_) if column % 3 == 1 => None,
        value => value.map(Cow::Borrowed),
    })
}

fn run(
    options: &CopyOptions,
    pieces: &mut dyn Iterator<Item = &[u8]>,
    mut field: impl for<'v> FnMut(usize, Option<&'v [u8]>) -> Value<'v>,
) -> Result<Vec<u8>, Unmaskable> {
    let mut rows = CopyRows::new(options.clone());
    let mut out = Vec::new();
    for piece in pieces {
        rows.push(piece, &mut out, &mut field)?;
    }
    rows.finish()?;
    Ok(out)
}

fuzz_target!(|input: (u8, u8, u8, Vec<u8>)| {
    let (form, size, escape, data) = input;
    let format = match form % 3 {
        0 => CopyFormat::Text,
        1 => CopyFormat::Csv,
        _ => CopyFormat::Binary,
    };
    let mut options = CopyOptions::of(format);
    options.header = form & 0x80 != 0;
    if escape % 2 == 1 {
        options.escape = b'\\';
    }
    let step = usize::from(size).max(1);
    let whole = run(&options, &mut std::iter::once(&data[..]), same);
    assert_eq!(whole, run(&options, &mut data.chunks(step), same), "pieces");
    if let Ok(whole) = whole {
        assert_eq!(whole, data, "nothing was masked");
    }
    let masked = run(&options, &mut std::iter::once(&data[..]), some);
    assert_eq!(masked, run(&options, &mut data.chunks(step), some), "masked in pieces");
    if let Ok(masked) = masked {
        // What comes out is of the same format, with as many fields.
        let count = |data: &[u8]| {
            let mut fields = 0_u64;
            let counted = run(&options, &mut std::iter::once(data), |_, value| {
                fields += 1;
                Ok(value.map(Cow::Borrowed))
            });
            counted.map(|_| fields)
        };
        assert_eq!(count(&masked), count(&data), "fields");
    }
});
