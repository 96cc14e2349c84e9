//! The ways in which a server may read a path.
//!
//! The path is sent as the client wrote it, so that what is hashed is what is
//! sent. But servers disagree: some decode `%2f` before they route, merge `//`,
//! cut `;parameters` or take `\` for `/`. A rule on `/admin/*` must also meet
//! `/%61dmin/x`. So each reading is judged like a request of its own, and the
//! strictest verdict holds. What could climb out of a prefix is refused outright.

use crate::operation::{Fact, Operation, Protocol};

/// The fact that has a request's path.
const PATH: &str = "http.path";

/// How many layers of percent-encoding are taken off; a path with more is nobody's.
const MAX_LAYERS: usize = 3;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// `.` or `..` as a segment, in any encoding (RFC 3986 section 5.2.4).
    #[error("the path has dot segments, so which resource it means is up to the server")]
    DotSegment,
    /// A control character, space, backslash or non-ASCII byte, raw or a control character encoded.
    #[error("the path or query has a character that has no place there")]
    Character,
    /// A `%` that two hexadecimal digits do not follow, or too many layers of encoding.
    #[error("the path's percent-encoding is not well-formed")]
    Encoding,
    /// Not an absolute path.
    #[error("the request target is not an absolute path")]
    Form,
}

impl PathError {
    /// The stable code for records and refusals.
    pub fn code(self) -> &'static str {
        match self {
            Self::DotSegment => "path-dot-segments",
            Self::Character => "path-character",
            Self::Encoding => "path-encoding",
            Self::Form => "path-form",
        }
    }
}

/// Checks a path and gives the other ways to read it, each different from the path itself.
pub fn readings(path: &str) -> Result<Vec<String>, PathError> {
    if path != "*" && !path.starts_with('/') {
        return Err(PathError::Form);
    }
    check_characters(path)?;
    check_segments(path.as_bytes())?;
    let plain = !path.contains(['%', ';']) && !path.contains("//");
    if plain {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let mut layer = path.as_bytes().to_vec();
    for depth in 0.. {
        let decoded = decode(&layer, depth == 0)?;
        let last = decoded == layer;
        check_segments(&decoded)?;
        let merged = merge(&decoded);
        check_segments(&merged)?;
        for reading in [decoded.clone(), cut_parameters(&merged), merged] {
            // Bytes that are no text keep their place as the replacement character.
            let reading = String::from_utf8_lossy(&reading).into_owned();
            if reading != path && !found.contains(&reading) {
                found.push(reading);
            }
        }
        if last {
            return Ok(found);
        }
        if depth == MAX_LAYERS {
            return Err(PathError::Encoding);
        }
        layer = decoded;
    }
    Err(PathError::Encoding)
}

/// An HTTP request with each of the other ways to read its path; nothing for any other operation.
pub fn operations(operation: &Operation) -> Result<Vec<Operation>, PathError> {
    let path = match (operation.protocol, operation.get(PATH)) {
        (Protocol::Http, Some(Fact::Text(path))) => path,
        _ => return Ok(Vec::new()),
    };
    Ok(as_read(operation, readings(path)?))
}

/// The operation once more for each of these paths.
pub fn as_read(operation: &Operation, paths: Vec<String>) -> Vec<Operation> {
    let read = |path| {
        let mut other = operation.clone();
        other.fact(PATH, path);
        other
    };
    paths.into_iter().map(read).collect()
}

/// Checks a query, which is sent and judged as written.
pub fn check_query(query: &str) -> Result<(), PathError> {
    match query.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(()),
        false => Err(PathError::Character),
    }
}

fn check_characters(path: &str) -> Result<(), PathError> {
    match path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\') {
        true => Ok(()),
        false => Err(PathError::Character),
    }
}

fn check_segments(path: &[u8]) -> Result<(), PathError> {
    let dotted = path
        .split(|b| matches!(b, b'/' | b'\\'))
        .map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default())
        .any(|segment| segment == b"." || segment == b"..");
    if dotted { Err(PathError::DotSegment) } else { Ok(()) }
}

/// One layer of percent-encoding off. Behind the first layer a stray `%` stands for itself.
fn decode(path: &[u8], strict: bool) -> Result<Vec<u8>, PathError> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let byte = match tail {
            [high, low, after @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    Some(high << 4 | low)
                }
                _ => None,
            },
            _ => None,
        };
        match byte {
            Some(byte) if byte.is_ascii_control() => return Err(PathError::Character),
            Some(byte) => out.push(byte),
            None if strict => return Err(PathError::Encoding),
            None => out.push(b'%'),
        }
    }
    Ok(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// `\` as `/`, and runs of slashes as one.
fn merge(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        let byte = if *byte == b'\\' { b'/' } else { *byte };
        if byte != b'/' || out.last() != Some(&b'/') {
            out.push(byte);
        }
    }
    out
}

/// Each segment without its `;parameters` (RFC 3986 section 3.3).
fn cut_parameters(path: &[u8]) -> Vec<u8> {
    path.split(|b| *b == b'/')
        .map(|segment| segment.split(|b| *b == b';').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("/", &[])]
    #[case("/a/b.c/..d/.e/f..", &[])]
    #[case("/v1/models:generate", &[])]
    #[case("*", &[])]
    #[case("/%61dmin/x", &["/admin/x"])]
    #[case("/@babel%2fcore", &["/@babel/core"])]
    #[case("/admin%5Cx", &["/admin\\x", "/admin/x"])]
    #[case("//admin", &["/admin"])]
    #[case("/a%2f%2fb", &["/a//b", "/a/b"])]
    #[case("/admin;v=1/x", &["/admin/x"])]
    #[case("/a%252fb", &["/a%2fb", "/a/b"])]
    #[case("/100%25", &["/100%"])]
    #[case("/caf%C3%A9", &["/café"])]
    #[case("/raw%FF", &["/raw\u{fffd}"])]
    fn other_readings_are_found(#[case] path: &str, #[case] want: &[&str]) {
        assert_eq!(readings(path).unwrap(), want);
    }

    #[rstest]
    #[case("/a/../b", PathError::DotSegment)]
    #[case("/..", PathError::DotSegment)]
    #[case("/a/./b", PathError::DotSegment)]
    #[case("/a/%2e%2e/b", PathError::DotSegment)]
    #[case("/a/.%2E/b", PathError::DotSegment)]
    #[case("/a/..%2fb", PathError::DotSegment)]
    #[case("/a%2f..%2fb", PathError::DotSegment)]
    #[case("/a/..%5cb", PathError::DotSegment)]
    #[case("/a/%252e%252e/b", PathError::DotSegment)]
    #[case("/a/..;/b", PathError::DotSegment)]
    #[case("/a/..;x=1/b", PathError::DotSegment)]
    #[case("/a/%2e%2e;/b", PathError::DotSegment)]
    #[case("/a\\b", PathError::Character)]
    #[case("/a%00b", PathError::Character)]
    #[case("/a%0d%0aHost:%20b", PathError::Character)]
    #[case("/a%2500", PathError::Character)]
    #[case("/a b", PathError::Character)]
    #[case("/caf\u{e9}", PathError::Character)]
    #[case("/a%", PathError::Encoding)]
    #[case("/a%4", PathError::Encoding)]
    #[case("/a%zz", PathError::Encoding)]
    #[case("/%25252525252541", PathError::Encoding)]
    #[case("a/b", PathError::Form)]
    #[case("", PathError::Form)]
    fn what_could_climb_is_refused(#[case] path: &str, #[case] why: PathError) {
        assert_eq!(readings(path), Err(why));
    }

    #[test]
    fn queries_are_text() {
        assert_eq!(check_query("a=1&b=%00"), Ok(()));
        assert_eq!(check_query("a=\u{7f}"), Err(PathError::Character));
    }

    proptest::proptest! {
        /// No reading of an accepted path has a dot segment.
        #[test]
        fn no_accepted_reading_climbs(path in "/[a./%2eE5cCfF;]{0,24}") {
            if let Ok(all) = readings(&path) {
                for reading in all {
                    proptest::prop_assert!(check_segments(reading.as_bytes()).is_ok(), "{path} -> {reading}");
                }
            }
        }
    }
}
