//! What stands in the place of one value.

use super::array::{self, Element, Stopped};
use super::types::{Class, class_of, printed};
use super::{ColumnRules, Rule};
use crate::mask::content::{Kind, Look, sniff};
use crate::mask::escape::Escaping;
use crate::mask::json::{JsonMasker, JsonRules};
use crate::mask::replace::{Replacement, TOKEN, json_escape};
use crate::mask::{Report, Unmaskable};
use std::borrow::Cow;
use std::sync::Arc;

/// The version byte before a binary jsonb (`jsonb_send`).
const JSONB: u8 = 1;

/// What stands for a value that a rule names: valid for its type in that format (0 text,
/// 1 binary), never the original. NULL (`None`) stays NULL.
///
/// Text keeps what the rule keeps. JSON: a string stays a string, a number becomes `null` or
/// a string, an object `{}`, an array `[]`; of a rule with paths only what they lead to, and all
/// of what cannot be read as JSON. XML becomes `<masked/>` (or has the hash in it),
/// bytea the bytes `***` (or of the hash), an array `{}`. Everything else becomes NULL.
///
/// # Errors
/// A format code that is not 0 or 1; a hash without a key.
pub fn mask_value<'v>(
    rule: &Rule,
    type_oid: u32,
    format: i16,
    value: Option<&'v [u8]>,
) -> Result<Option<Cow<'v, [u8]>>, Unmaskable> {
    check(format)?;
    let replacement = &rule.replacement;
    if !replacement.is_ready() {
        return Err(Unmaskable::NoKey);
    }
    let Some(value) = value else {
        return Ok(None);
    };
    Ok(match class_of(type_oid) {
        Class::Text => Some(Cow::Owned(replacement.apply(value))),
        Class::Char => Some(Cow::Borrowed(b"*")),
        Class::Json => Some(Cow::Owned(json(rule, value))),
        Class::Jsonb if format == 0 => Some(Cow::Owned(json(rule, value))),
        Class::Jsonb => {
            let text = value.strip_prefix(&[JSONB]).unwrap_or_default();
            let mut out = vec![JSONB];
            out.extend_from_slice(&json(rule, text));
            Some(Cow::Owned(out))
        }
        Class::Xml => Some(Cow::Owned(xml(replacement, value))),
        Class::Bytea => {
            let bytes = match replacement {
                // Half of some bytes is not a thing that people tell apart by.
                Replacement::KeepLast(_) => TOKEN.as_bytes().to_vec(),
                other => other.apply(&decode_bytea(value, format).unwrap_or(Cow::Borrowed(value))),
            };
            Some(Cow::Owned(encode_bytea(bytes, format)))
        }
        Class::Array(element) => Some(Cow::Owned(array::empty(element, format))),
        Class::Number | Class::Net | Class::Fixed | Class::Other => None,
    })
}

/// What detectors leave of a value that no rule names; NULL (`None`) stays NULL.
///
/// Text, JSON, XML and bytea that is text are spliced, arrays element by element. A number,
/// an address or a value of a type that is not known here becomes NULL when something is
/// found in it. Bytes that are no text become NULL unless every rule that reads content says
/// `other = "pass"`. Counts in `report` as bodies do.
///
/// # Errors
/// A format code that is not 0 or 1; a hash without a key; an unfinished match that is too
/// long.
pub fn detect_value<'v>(
    rules: &ColumnRules,
    type_oid: u32,
    format: i16,
    value: Option<&'v [u8]>,
    report: &mut Report,
) -> Result<Option<Cow<'v, [u8]>>, Unmaskable> {
    check(format)?;
    let Some(value) = value.filter(|_| rules.detects()) else {
        return Ok(value.map(Cow::Borrowed));
    };
    let spliced = |new: Option<Vec<u8>>| Some(new.map_or(Cow::Borrowed(value), Cow::Owned));
    let nulled = |new: Option<Vec<u8>>| new.is_none().then_some(Cow::Borrowed(value));
    Ok(match class_of(type_oid) {
        Class::Text => spliced(rules.scan(value, Escaping::None, report)?),
        Class::Json => spliced(rules.scan(value, Escaping::Json, report)?),
        Class::Jsonb if format == 0 => spliced(rules.scan(value, Escaping::Json, report)?),
        Class::Jsonb => match value.strip_prefix(&[JSONB]) {
            None => None,
            Some(text) => spliced(rules.scan(text, Escaping::Json, report)?.map(|text| {
                let mut out = vec![JSONB];
                out.extend_from_slice(&text);
                out
            })),
        },
        Class::Xml => spliced(rules.scan(value, Escaping::Entity, report)?),
        Class::Bytea => match decode_bytea(value, format) {
            None => None,
            Some(bytes) => match sniff(&bytes, Kind::Other, true) {
                Look::Binary | Look::Wide if rules.pass_other => Some(Cow::Borrowed(value)),
                Look::Binary | Look::Wide => None,
                _ => {
                    let new = rules.scan(&bytes, Escaping::None, report)?;
                    spliced(new.map(|bytes| encode_bytea(bytes, format)))
                }
            },
        },
        Class::Number | Class::Net => {
            let text = printed(type_oid, format, value);
            nulled(rules.scan(text.as_bytes(), Escaping::None, report)?)
        }
        Class::Char | Class::Fixed => Some(Cow::Borrowed(value)),
        Class::Array(element) => {
            let mut each = |inner: &[u8]| {
                let new = detect_value(rules, element, format, Some(inner), report)?;
                Ok(match new {
                    None => Element::Null,
                    Some(Cow::Borrowed(_)) => Element::Same,
                    Some(Cow::Owned(new)) => Element::New(new),
                })
            };
            let read = match format {
                0 => array::text(value, &mut each),
                _ => array::binary(element, value, &mut each),
            };
            match read {
                Ok(new) => spliced(new),
                Err(Stopped::Malformed) => None,
                Err(Stopped::By(why)) => return Err(why),
            }
        }
        // Texts lie as they are inside enums, composites, ranges and most extensions' types.
        Class::Other => nulled(rules.scan(value, Escaping::None, report)?),
    })
}

fn check(format: i16) -> Result<(), Unmaskable> {
    if matches!(format, 0 | 1) { Ok(()) } else { Err(Unmaskable::Format(format)) }
}

/// What stands for a JSON text: where the rule has paths, the text without what they lead to.
fn json(rule: &Rule, value: &[u8]) -> Vec<u8> {
    let inside = rule.inside.as_ref();
    match inside.and_then(|inside| without(inside, value)) {
        Some(masked) => masked,
        None => whole(&rule.replacement, value),
    }
}

/// A JSON text in which what the paths lead to is masked; `None` when it is no such text.
fn without(inside: &Arc<JsonRules>, value: &[u8]) -> Option<Vec<u8>> {
    if value.trim_ascii().is_empty() {
        return None;
    }
    let mut masker = JsonMasker::new(Arc::clone(inside));
    let mut out = Vec::with_capacity(value.len());
    let (mut report, mut taken) = (Report::default(), 0);
    masker.push(value, &mut out, &mut report, &mut taken).ok()?;
    masker.finish(&mut out, &mut report).ok()?;
    (taken == value.len()).then_some(out)
}

/// What stands for a whole JSON text.
fn whole(replacement: &Replacement, value: &[u8]) -> Vec<u8> {
    let value = value.trim_ascii();
    let text = match value.first() {
        Some(b'{') => return b"{}".to_vec(),
        Some(b'[') => return b"[]".to_vec(),
        Some(b'n') => return b"null".to_vec(),
        Some(b'"') => serde_json::from_slice::<String>(value).ok(),
        _ if replacement.needs_value() => std::str::from_utf8(value).ok().map(str::to_owned),
        _ => return b"null".to_vec(),
    };
    let masked = match text {
        Some(text) => replacement.apply(text.as_bytes()),
        None => TOKEN.as_bytes().to_vec(),
    };
    let mut out = vec![b'"'];
    json_escape(&masked, &mut out);
    out.push(b'"');
    out
}

/// What stands for an XML document or content.
fn xml(replacement: &Replacement, value: &[u8]) -> Vec<u8> {
    match replacement {
        // The end of a document is its closing tags.
        Replacement::Redact | Replacement::KeepLast(_) => b"<masked/>".to_vec(),
        Replacement::Hash(_) => {
            let mut out = b"<masked>".to_vec();
            Escaping::Entity.write(&replacement.apply(value), &mut out);
            out.extend_from_slice(b"</masked>");
            out
        }
    }
}

/// The bytes of a bytea; `None` when it is not one.
fn decode_bytea(value: &[u8], format: i16) -> Option<Cow<'_, [u8]>> {
    if format == 1 {
        return Some(Cow::Borrowed(value));
    }
    if let Some(digits) = value.strip_prefix(b"\\x") {
        return hex::decode(digits).ok().map(Cow::Owned);
    }
    // `bytea_output = escape`: `\\` and three octal digits.
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, tail)) = rest.split_first() {
        match (*first, tail) {
            (b'\\', [b'\\', behind @ ..]) => {
                out.push(b'\\');
                rest = behind;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = behind;
            }
            (b'\\', _) => return None,
            (byte, behind) => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    Some(Cow::Owned(out))
}

fn encode_bytea(bytes: Vec<u8>, format: i16) -> Vec<u8> {
    match format {
        0 => format!("\\x{}", hex::encode(bytes)).into_bytes(),
        _ => bytes,
    }
}
