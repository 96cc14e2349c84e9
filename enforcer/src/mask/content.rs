//! What kind of content a response claims to be and looks like. Owns content
//! types, character sets and the look at the first bytes; masks nothing.

use super::Unmaskable;

/// How a body is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// JSON by its type: anything else is an error under a path rule.
    Json,
    /// Server-sent events.
    Sse,
    /// `application/x-www-form-urlencoded`.
    Form,
    /// Text with character references.
    Markup,
    /// JavaScript: under a path rule it must turn out to be JSON in a wrapper.
    Script,
    /// Any other text, also when the type is missing.
    Text,
    /// Pictures, sound, video, fonts: not read unless they look like text.
    Media,
    /// Everything else.
    Other,
}

/// Application types that are text although nothing in their name says so.
const TEXT_TYPES: [&str; 7] = [
    "application/graphql",
    "application/sql",
    "application/toml",
    "application/typescript",
    "application/x-sh",
    "application/x-yaml",
    "application/yaml",
];

/// JavaScript (RFC 9239 section 6, and what JSONP is sent as).
const SCRIPT_TYPES: [&str; 9] = [
    "application/ecmascript",
    "application/javascript",
    "application/json-p",
    "application/jsonp",
    "application/x-ecmascript",
    "application/x-javascript",
    "text/ecmascript",
    "text/javascript",
    "text/x-javascript",
];

/// JSON under other names.
const JSON_TYPES: [&str; 9] = [
    "application/json",
    "application/json-lines",
    "application/json-seq",
    "application/jsonl",
    "application/jsonlines",
    "application/ndjson",
    "application/x-json",
    "application/x-ndjson",
    "text/json",
];

/// Reads a content type; an absent one is text, a partial one is refused.
pub(super) fn kind_of(content_type: Option<&str>) -> Result<Kind, Unmaskable> {
    let Some(content_type) = content_type.map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(Kind::Text);
    };
    let (essence, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let essence = essence.trim().to_ascii_lowercase();
    let kind = match essence.as_str() {
        "text/event-stream" => Kind::Sse,
        "application/x-www-form-urlencoded" => Kind::Form,
        "text/html" | "text/xml" | "application/xml" => Kind::Markup,
        essence
            if JSON_TYPES.contains(&essence)
                || essence.ends_with("+json")
                || essence.ends_with("+json-seq") =>
        {
            Kind::Json
        }
        essence if essence.ends_with("+xml") => Kind::Markup,
        essence if SCRIPT_TYPES.contains(&essence) => Kind::Script,
        essence
            if essence.starts_with("text/")
                || essence.ends_with("+yaml")
                || TEXT_TYPES.contains(&essence) =>
        {
            Kind::Text
        }
        essence if essence.starts_with("multipart/") => return Err(Unmaskable::Partial),
        essence
            if ["image/", "audio/", "video/", "font/"]
                .iter()
                .any(|prefix| essence.starts_with(prefix)) =>
        {
            Kind::Media
        }
        _ => Kind::Other,
    };
    if !matches!(kind, Kind::Media | Kind::Other) {
        charset(parameters, kind)?;
    }
    Ok(kind)
}

/// Refuses character sets in which an ASCII byte may be part of another
/// character, or ASCII text is not written in ASCII.
fn charset(parameters: &str, kind: Kind) -> Result<(), Unmaskable> {
    for parameter in parameters.split(';') {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        if !name.trim().eq_ignore_ascii_case("charset") {
            continue;
        }
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        let utf8 = matches!(value.as_str(), "" | "utf-8" | "utf8" | "us-ascii" | "ascii");
        let single = ["iso-8859-", "iso8859-", "latin", "windows-125", "cp125", "koi8-"]
            .iter()
            .any(|prefix| value.starts_with(prefix));
        let readable = utf8 || single && !matches!(kind, Kind::Json | Kind::Sse);
        if !readable {
            return Err(Unmaskable::Charset(value));
        }
    }
    Ok(())
}

/// How many bytes are looked at to tell text from binary content.
const SNIFF: usize = 64;

/// What the first bytes look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// More bytes are needed.
    Undecided,
    /// Begins as an object or array of JSON.
    Json,
    Text,
    /// Begins with a byte order mark other than UTF-8's.
    Wide,
    Binary,
}

/// Looks at the first bytes of a body. Content that is text by its type is told
/// from JSON by its first byte alone, so that a stream is not held back.
pub(super) fn sniff(head: &[u8], kind: Kind, eof: bool) -> Look {
    if head.starts_with(b"\xFF\xFE")
        || head.starts_with(b"\xFE\xFF")
        || head.starts_with(b"\0\0\xFE\xFF")
    {
        return Look::Wide;
    }
    if !eof && head.len() < 4 && matches!(head.first(), Some(0 | 0xEF | 0xFE | 0xFF)) {
        return Look::Undecided;
    }
    let text = head.strip_prefix(BOM).unwrap_or(head);
    let first = text.iter().find(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x1E));
    if matches!(first, Some(b'{' | b'[')) {
        return Look::Json;
    }
    if !matches!(kind, Kind::Media | Kind::Other) {
        return if eof || first.is_some() { Look::Text } else { Look::Undecided };
    }
    // However much is there already, the same bytes decide.
    let window = &text[..text.len().min(SNIFF)];
    if window.iter().any(|b| matches!(b, 0..=8 | 0x0E..=0x1A | 0x1C | 0x1D | 0x1F | 0x7F)) {
        return Look::Binary;
    }
    if !eof && (first.is_none() || text.len() < SNIFF) {
        return Look::Undecided;
    }
    match std::str::from_utf8(window) {
        Err(why) if why.error_len().is_some() => Look::Binary,
        _ => Look::Text,
    }
}

/// UTF-8's byte order mark.
pub(super) const BOM: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (content_type, want) in [
            (None, Kind::Text),
            (Some(""), Kind::Text),
            (Some("Application/JSON; charset=UTF-8"), Kind::Json),
            (Some("application/problem+json"), Kind::Json),
            (Some("application/x-ndjson"), Kind::Json),
            (Some("text/event-stream"), Kind::Sse),
            (Some("application/x-www-form-urlencoded"), Kind::Form),
            (Some("text/html; charset=iso-8859-1"), Kind::Markup),
            (Some("image/svg+xml"), Kind::Markup),
            (Some("text/csv"), Kind::Text),
            (Some("application/javascript"), Kind::Script),
            (Some("text/javascript; charset=utf-8"), Kind::Script),
            (Some("image/png"), Kind::Media),
            (Some("application/octet-stream"), Kind::Other),
            (Some("application/grpc+proto"), Kind::Other),
            (Some("application/pdf"), Kind::Other),
            (Some("nonsense"), Kind::Other),
        ] {
            assert_eq!(kind_of(content_type), Ok(want), "{content_type:?}");
        }
    }

    #[test]
    fn refuses_what_cannot_be_read() {
        for content_type in [
            "application/json; charset=utf-16",
            "application/json; charset=iso-8859-1",
            "text/plain; charset=\"UTF-7\"",
            "text/plain; x=y; Charset = shift_jis",
            "text/html; charset=iso-2022-jp",
            "text/event-stream; charset=latin1",
        ] {
            assert!(
                matches!(kind_of(Some(content_type)), Err(Unmaskable::Charset(_))),
                "{content_type}"
            );
        }
        assert_eq!(kind_of(Some("multipart/byteranges; boundary=x")), Err(Unmaskable::Partial));
    }

    #[test]
    fn looks() {
        use Kind::{Media, Text};
        for (head, kind, eof, want) in [
            (&b""[..], Text, false, Look::Undecided),
            (b"", Text, true, Look::Text),
            (b" \n{", Text, false, Look::Json),
            (b" \n", Text, false, Look::Undecided),
            (b"\xEF\xBB\xBF[", Media, false, Look::Json),
            (b"\xEF\xBB", Text, false, Look::Undecided),
            (b"\xFF\xFE{\0", Text, false, Look::Wide),
            (b"p", Text, false, Look::Text),
            (b"\0", Media, false, Look::Undecided),
            (b"\0\0\xfe\xff", Media, false, Look::Wide),
            (b"\x89PNG\r\n\x1a\n", Media, false, Look::Binary),
            (b"plain", Media, false, Look::Undecided),
            (b"plain", Media, true, Look::Text),
            (b"\xff\xd8\xff\xe0", Media, true, Look::Binary),
            (b"caf\xc3", Media, true, Look::Text),
            (&[b'x'; SNIFF], Media, false, Look::Text),
        ] {
            assert_eq!(sniff(head, kind, eof), want, "{head:?}");
        }
    }
}
