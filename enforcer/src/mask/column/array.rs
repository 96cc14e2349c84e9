//! Arrays: their elements one by one, and the array again.
//!
//! Text form: `{a,"b \" c",NULL,{...}}`, with bounds before it (`[0:2]={...}`) when they do
//! not begin with 1. Binary form: dimensions, a flag for NULLs, the element type, then each
//! element with its length (`array_send`).

use super::types;

/// Deepest nesting (`MAXDIM` in PostgreSQL is 6).
const MAX_DEPTH: usize = 6;

/// What becomes of one element; `None` is NULL. An error is for the whole array.
pub(super) type Each<'f, E> = &'f mut dyn FnMut(&[u8]) -> Result<Element, E>;

/// What became of one element.
pub(super) enum Element {
    /// It stays as it is.
    Same,
    /// It is this now.
    New(Vec<u8>),
    /// It is NULL now.
    Null,
}

/// Why an array was not read to its end.
pub(super) enum Stopped<E> {
    /// It is not an array.
    Malformed,
    /// `each` said so.
    By(E),
}

/// An array of no elements.
pub(super) fn empty(element: u32, format: i16) -> Vec<u8> {
    if format == 0 {
        return b"{}".to_vec();
    }
    let mut out = vec![0; 8];
    out.extend_from_slice(&element.to_be_bytes());
    out
}

/// Passes every element of an array in the text form on; the array again, or `None` when no
/// element changed.
pub(super) fn text<E>(array: &[u8], each: Each<'_, E>) -> Result<Option<Vec<u8>>, Stopped<E>> {
    let mut out = Vec::with_capacity(array.len());
    let mut changed = false;
    let mut depth = 0_usize;
    let mut at = 0;
    if array.first() == Some(&b'[') {
        at = memchr::memchr(b'=', array).ok_or(Stopped::Malformed)? + 1;
        out.extend_from_slice(&array[..at]);
    }
    // Whether an element or an inner array may begin here.
    let mut open = true;
    while let Some(&byte) = array.get(at) {
        match byte {
            b'{' if open && depth < MAX_DEPTH => {
                depth += 1;
                out.push(byte);
                at += 1;
            }
            b'}' if depth > 0 => {
                depth -= 1;
                open = false;
                out.push(byte);
                at += 1;
                if depth == 0 {
                    break;
                }
            }
            b',' if depth > 0 && !open => {
                open = true;
                out.push(byte);
                at += 1;
            }
            _ if depth > 0 && open => {
                let start = at;
                let (element, quoted) = text_element(array, &mut at)?;
                let null = !quoted && element.eq_ignore_ascii_case(b"NULL");
                match if null { Element::Same } else { each(&element).map_err(Stopped::By)? } {
                    Element::Same => out.extend_from_slice(&array[start..at]),
                    Element::New(value) => {
                        changed = true;
                        quote(&value, &mut out);
                    }
                    Element::Null => {
                        changed = true;
                        out.extend_from_slice(b"NULL");
                    }
                }
                open = false;
            }
            _ => return Err(Stopped::Malformed),
        }
    }
    if depth != 0 || at != array.len() || at == 0 {
        return Err(Stopped::Malformed);
    }
    Ok(changed.then_some(out))
}

/// The element that begins at `at`, unescaped, and whether it was in quotes.
fn text_element<E>(array: &[u8], at: &mut usize) -> Result<(Vec<u8>, bool), Stopped<E>> {
    let quoted = array.get(*at) == Some(&b'"');
    *at += usize::from(quoted);
    let mut element = Vec::new();
    loop {
        let byte = *array.get(*at).ok_or(Stopped::Malformed)?;
        match byte {
            b'\\' => {
                element.push(*array.get(*at + 1).ok_or(Stopped::Malformed)?);
                *at += 2;
                continue;
            }
            b'"' if quoted => {
                *at += 1;
                return Ok((element, true));
            }
            b'"' | b'{' if !quoted => return Err(Stopped::Malformed),
            b',' | b'}' if !quoted && element.is_empty() => return Err(Stopped::Malformed),
            b',' | b'}' if !quoted => return Ok((element, false)),
            byte => element.push(byte),
        }
        *at += 1;
    }
}

fn quote(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// The same for an array in the binary form.
pub(super) fn binary<E>(
    element: u32,
    array: &[u8],
    each: Each<'_, E>,
) -> Result<Option<Vec<u8>>, Stopped<E>> {
    let shape = Shape::read(element, array).ok_or(Stopped::Malformed)?;
    let mut out = array[..shape.header].to_vec();
    let mut changed = false;
    let mut rest = &array[shape.header..];
    for _ in 0..shape.count {
        let value = next(&mut rest).ok_or(Stopped::Malformed)?;
        let new = match value {
            None => Element::Same,
            Some(value) => each(value).map_err(Stopped::By)?,
        };
        match (new, value) {
            (Element::Same, Some(value)) => put(Some(value), &mut out),
            (Element::Same, None) => put(None, &mut out),
            (Element::New(value), _) => {
                changed = true;
                put(Some(&value), &mut out);
            }
            (Element::Null, _) => {
                changed = true;
                // The flag: the array has NULLs.
                out[7] = 1;
                put(None, &mut out);
            }
        }
    }
    if !rest.is_empty() {
        return Err(Stopped::Malformed);
    }
    Ok(changed.then_some(out))
}

/// A binary array as PostgreSQL prints it; `None` when it is not one. Only the elements of
/// more than one dimension are not told apart by inner brackets.
pub(super) fn print(element: u32, array: &[u8]) -> Option<String> {
    let shape = Shape::read(element, array)?;
    let mut rest = &array[shape.header..];
    let mut items = Vec::new();
    for _ in 0..shape.count {
        items.push(match next(&mut rest)? {
            None => "NULL".to_owned(),
            Some(value) => {
                let text = types::binary(element, value)?;
                let plain = !text.is_empty()
                    && !text.eq_ignore_ascii_case("null")
                    && !text.contains(|c: char| c.is_whitespace() || "{}\",\\".contains(c));
                if plain {
                    text
                } else {
                    let mut out = Vec::new();
                    quote(text.as_bytes(), &mut out);
                    String::from_utf8(out).ok()?
                }
            }
        });
    }
    rest.is_empty().then(|| format!("{{{}}}", items.join(",")))
}

/// The head of a binary array.
struct Shape {
    /// Bytes of it.
    header: usize,
    /// Elements behind it.
    count: usize,
}

impl Shape {
    fn read(element: u32, array: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let bytes = array.get(at..at + 4)?;
            Some(u32::from_be_bytes(bytes.try_into().ok()?))
        };
        let dimensions = usize::try_from(word(0)?).ok().filter(|n| *n <= MAX_DEPTH)?;
        if word(4)? > 1 || word(8)? != element {
            return None;
        }
        let mut count = usize::from(dimensions > 0);
        for dimension in 0..dimensions {
            let size = usize::try_from(word(12 + dimension * 8)?).ok()?;
            word(16 + dimension * 8)?;
            count = count.checked_mul(size)?;
        }
        let header = 12 + dimensions * 8;
        // Each element has four bytes of length at least.
        (count <= (array.len() - header) / 4).then_some(Self { header, count })
    }
}

/// The next element; `None` inside is NULL.
fn next<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, behind) = rest.split_at_checked(4)?;
    let length = i32::from_be_bytes(length.try_into().ok()?);
    *rest = behind;
    if length == -1 {
        return Some(None);
    }
    let (value, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = behind;
    Some(Some(value))
}

fn put(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value.map(|value| (value, i32::try_from(value.len()))) {
        Some((value, Ok(length))) => {
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(value);
        }
        _ => out.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}
