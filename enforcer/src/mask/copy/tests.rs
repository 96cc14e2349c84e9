use super::*;
use proptest::prelude::*;
use rstest::rstest;

type Value<'v> = Result<Option<Cow<'v, [u8]>>, Unmaskable>;

/// The first column stays, the second becomes `***`, the third NULL.
fn second_and_third(column: usize, value: Option<&[u8]>) -> Value<'_> {
    Ok(match (column, value) {
        (_, None) | (2, _) => None,
        (1, _) => Some(Cow::Borrowed(b"***")),
        (_, value) => value.map(Cow::Borrowed),
    })
}

fn run(
    options: &CopyOptions,
    data: &[u8],
    step: usize,
    mut field: impl for<'v> FnMut(usize, Option<&'v [u8]>) -> Value<'v>,
) -> Result<Vec<u8>, Unmaskable> {
    let mut rows = CopyRows::new(options.clone());
    let mut out = Vec::new();
    for piece in data.chunks(step) {
        rows.push(piece, &mut out, &mut field)?;
    }
    rows.finish()?;
    Ok(out)
}

fn same(_: usize, value: Option<&[u8]>) -> Value<'_> {
    Ok(value.map(Cow::Borrowed))
}

/// In pieces of every size as whole.
fn everyhow(options: &CopyOptions, data: &[u8]) -> Result<Vec<u8>, Unmaskable> {
    let whole = run(options, data, usize::MAX, second_and_third);
    for step in 1..data.len().min(40) {
        assert_eq!(run(options, data, step, second_and_third), whole, "in pieces of {step}");
    }
    whole
}

fn seen(options: &CopyOptions, data: &[u8]) -> Vec<Option<Vec<u8>>> {
    let mut all = Vec::new();
    let out = run(options, data, 3, |_, value| {
        all.push(value.map(<[u8]>::to_vec));
        Ok(value.map(Cow::Borrowed))
    });
    assert_eq!(out.as_deref(), Ok(data), "what is not replaced stays as it came");
    all
}

#[rstest]
#[case("1\ta@b\tx\n", "1\t***\t\\N\n")]
#[case("1\t\\N\tx\n2\t\tx\n", "1\t\\N\t\\N\n2\t***\t\\N\n")]
#[case("a\\tb\\\\\ta@b\tx\n", "a\\tb\\\\\t***\t\\N\n")]
#[case("1\tbehind\\\n", "1\t***\n")]
#[case("1\tnew\\nline\\\ttab\tx\n", "1\t***\t\\N\n")]
#[case("\\.\n", "\\.\n")]
#[case("", "")]
fn text_rows(#[case] data: &str, #[case] want: &str) {
    let options = CopyOptions::of(CopyFormat::Text);
    let out = everyhow(&options, data.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

#[test]
fn text_fields_are_unescaped() {
    let options = CopyOptions::of(CopyFormat::Text);
    let data = b"\\b\\f\\n\\r\\t\\v\\\\\\101\\x42\\q\\x\t\\N\t\\\\N\n";
    let want: Vec<Option<Vec<u8>>> =
        vec![Some(b"\x08\x0c\n\r\t\x0b\\ABqx".to_vec()), None, Some(b"\\N".to_vec())];
    assert_eq!(seen(&options, data), want);
}

#[test]
fn a_replaced_text_field_reads_as_what_it_was_replaced_by() {
    let options = CopyOptions { delimiter: b'|', ..CopyOptions::of(CopyFormat::Text) };
    let new: &[u8] = b"a|b\\c\n\r\t\x08\x0c\x0bd";
    let out = run(&options, b"1|2\n", 1, |_, _| Ok(Some(Cow::Borrowed(new)))).unwrap();
    assert_eq!(seen(&options, &out), vec![Some(new.to_vec()); 2]);
}

#[rstest]
#[case("1,a@b,x\n", "1,\"***\",\n")]
#[case("1,,x\n", "1,,\n")]
#[case("1,\"\",x\n", "1,\"***\",\n")]
#[case("\"a\"\"b,\nc\",\"x\ny\",z\n", "\"a\"\"b,\nc\",\"***\",\n")]
fn csv_rows(#[case] data: &str, #[case] want: &str) {
    let options = CopyOptions::of(CopyFormat::Csv);
    let out = everyhow(&options, data.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), want);
}

#[test]
fn csv_with_its_own_signs() {
    let options = CopyOptions {
        delimiter: b';',
        null: b"nil".to_vec(),
        quote: b'\'',
        escape: b'\\',
        ..CopyOptions::of(CopyFormat::Csv)
    };
    let data = b"'it\\'s \\\\';nil;'nil'\n";
    let want = vec![Some(b"it's \\".to_vec()), None, Some(b"nil".to_vec())];
    assert_eq!(seen(&options, data), want);
    let new: &[u8] = b"o'n\\e;\n";
    let out = run(&options, data, 1, |_, _| Ok(Some(Cow::Borrowed(new)))).unwrap();
    assert_eq!(seen(&options, &out), vec![Some(new.to_vec()); 3]);
}

#[rstest]
#[case(CopyFormat::Text, "id\temail\tc\n", "1\ta\tb\n", "1\t***\t\\N\n")]
#[case(CopyFormat::Csv, "id,\"e\nmail\",c\n", "1,a,b\n", "1,\"***\",\n")]
fn names_of_columns_are_not_values(
    #[case] format: CopyFormat,
    #[case] head: &str,
    #[case] row: &str,
    #[case] masked: &str,
) {
    let options = CopyOptions { header: true, ..CopyOptions::of(format) };
    let out = everyhow(&options, format!("{head}{row}").as_bytes()).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), format!("{head}{masked}"));
}

/// A file in the binary format.
fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut out = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x03ext".to_vec();
    for row in rows {
        out.extend_from_slice(&i16::try_from(row.len()).unwrap().to_be_bytes());
        for field in *row {
            let length = field.map_or(-1, |field| i32::try_from(field.len()).unwrap());
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(field.unwrap_or_default());
        }
    }
    out.extend_from_slice(b"\xff\xff");
    out
}

#[test]
fn binary_rows() {
    let options = CopyOptions::of(CopyFormat::Binary);
    let data = binary(&[
        &[Some(b"1"), Some(b"a@b.example"), Some(b"x")],
        &[None, None, None],
        &[Some(b""), Some(b""), Some(b"")],
        &[],
    ]);
    let want = binary(&[
        &[Some(b"1"), Some(b"***"), None],
        &[None, None, None],
        &[Some(b""), Some(b"***"), None],
        &[],
    ]);
    assert_eq!(everyhow(&options, &data).unwrap(), want);
}

#[rstest]
#[case::quote_in_the_middle(CopyFormat::Csv, b"1,a\"b\"\n")]
#[case::behind_a_quote(CopyFormat::Csv, b"1,\"a\"b\n")]
#[case::open_quote(CopyFormat::Csv, b"1,\"a\n")]
#[case::no_end(CopyFormat::Text, b"1\ta")]
#[case::signature(CopyFormat::Binary, b"PGCOPX\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff")]
#[case::oids(CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0\xff\xff")]
#[case::no_trailer(CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0")]
#[case::behind_the_trailer(CopyFormat::Binary, b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\xff\xff1")]
#[case::negative_length(
    CopyFormat::Binary,
    b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0\0\x01\xff\xff\xff\xfe"
)]
#[case::empty(CopyFormat::Binary, b"")]
fn what_is_not_as_its_format_is_an_error(#[case] format: CopyFormat, #[case] data: &[u8]) {
    let options = CopyOptions::of(format);
    assert!(everyhow(&options, data).is_err());
}

#[test]
fn nothing_is_accepted_after_an_error() {
    let mut rows = CopyRows::new(CopyOptions::of(CopyFormat::Text));
    let mut out = Vec::new();
    let refused = rows.push(b"1\t2\n", &mut out, &mut |_, _| Err(Unmaskable::NoKey));
    assert_eq!(refused, Err(Unmaskable::NoKey));
    let again = rows.push(b"1\t2\n", &mut out, &mut second_and_third);
    assert!(again.is_err() && rows.finish().is_err());
    assert!(out.is_empty(), "{out:?}");
}

#[test]
fn a_row_that_never_ends_is_refused() {
    let mut rows = CopyRows::new(CopyOptions::of(CopyFormat::Text));
    let mut out = Vec::new();
    let piece = vec![b'a'; 8 << 20];
    let pushed = (0..9).try_for_each(|_| rows.push(&piece, &mut out, &mut second_and_third));
    assert!(matches!(pushed, Err(Unmaskable::TooLong { .. })), "{pushed:?}");
}

proptest! {
    /// Any bytes: in pieces as whole, and unchanged where nothing is masked.
    #[test]
    fn pieces_never_matter(
        data in prop_oneof![
            "[a\"',;|\t\n\\\\N.]{0,60}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..80),
            proptest::collection::vec(any::<u8>(), 0..40)
                .prop_map(|tail| [&b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0"[..], &tail].concat()),
        ],
        format in prop_oneof![Just(CopyFormat::Text), Just(CopyFormat::Csv), Just(CopyFormat::Binary)],
        header in any::<bool>(),
        backslash in any::<bool>(),
        step in 1_usize..20,
    ) {
        let escape = if backslash { b'\\' } else { b'"' };
        let options = CopyOptions { header, escape, ..CopyOptions::of(format) };
        let whole = run(&options, &data, usize::MAX, same);
        prop_assert_eq!(&whole, &run(&options, &data, step, same));
        if let Ok(whole) = whole {
            prop_assert_eq!(whole, data.clone());
        }
        let masked = run(&options, &data, usize::MAX, second_and_third);
        prop_assert_eq!(masked, run(&options, &data, step, second_and_third));
    }
}
