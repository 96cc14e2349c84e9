//! What stands in the place of a masked value. Owns the tokens and the keyed
//! hash; knows nothing of where the value stood, so callers escape the result.

use super::rule::Replace;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// What a redacted string becomes. Safe unescaped in JSON, forms, HTML, headers.
pub(super) const TOKEN: &str = "***";

/// Separates these hashes from every other use of the host's key.
const DOMAIN: &[u8] = b"enforcer mask v1\0";

/// A replacement ready to apply.
#[derive(Clone)]
pub(super) enum Replacement {
    Redact,
    KeepLast(usize),
    /// The keyed state, cloned per value; `None` when no key was given, which
    /// [`super::MaskPlan::body`] refuses before anything is masked.
    Hash(Option<Hmac<Sha256>>),
}

impl Replacement {
    pub(super) fn new(replace: &Replace, key: Option<&[u8]>) -> Self {
        match replace {
            Replace::Redact => Self::Redact,
            Replace::KeepLast(n) => Self::KeepLast(*n),
            Replace::Hash => Self::Hash(key.and_then(|key| {
                let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
                mac.update(DOMAIN);
                Some(mac)
            })),
        }
    }

    /// Whether the value itself is needed to replace it.
    pub(super) fn needs_value(&self) -> bool {
        !matches!(self, Self::Redact)
    }

    /// Whether this one can be applied.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(self, Self::Hash(None))
    }

    /// The text that stands for `value` (its decoded bytes).
    pub(super) fn apply(&self, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(40);
        match self {
            Self::Redact | Self::Hash(None) => out.extend_from_slice(TOKEN.as_bytes()),
            Self::KeepLast(n) => {
                out.extend_from_slice(TOKEN.as_bytes());
                out.extend_from_slice(last_chars(value, *n));
            }
            Self::Hash(Some(mac)) => {
                let mut mac = mac.clone();
                mac.update(value);
                let tag = mac.finalize().into_bytes();
                out.extend_from_slice(b"hmac:");
                out.extend_from_slice(hex::encode(&tag[..16]).as_bytes());
            }
        }
        out
    }
}

/// The last `n` characters, or none when that would show more than half.
fn last_chars(value: &[u8], n: usize) -> &[u8] {
    let is_start = |b: &u8| b & 0xC0 != 0x80;
    let chars = value.iter().filter(|b| is_start(b)).count();
    if n == 0 || chars < n.saturating_mul(2) {
        return &[];
    }
    let mut left = n;
    for (at, byte) in value.iter().enumerate().rev() {
        if is_start(byte) {
            left -= 1;
            if left == 0 {
                return &value[at..];
            }
        }
    }
    &[]
}

/// Writes `value` as the inside of a JSON string (RFC 8259 section 7). Bytes that
/// are not UTF-8 become U+FFFD, so that the result is always valid.
pub(super) fn json_escape(value: &[u8], out: &mut Vec<u8>) {
    for c in String::from_utf8_lossy(value).chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            c if u32::from(c) < 0x20 => {
                out.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_end_only_of_long_values() {
        let keep = Replacement::KeepLast(4);
        assert_eq!(keep.apply(b"4111111111111111"), b"***1111");
        assert_eq!(
            keep.apply("p\u{e4}ssw\u{f6}rt\u{df}".as_bytes()),
            "***\u{f6}rt\u{df}".as_bytes()
        );
        assert_eq!(keep.apply(b"1234567"), b"***", "more than half would show");
        assert_eq!(keep.apply(b""), b"***");
        assert_eq!(Replacement::KeepLast(0).apply(b"abc"), b"***");
    }

    #[test]
    fn hashes_join_under_one_key_only() {
        let one = Replacement::new(&Replace::Hash, Some(b"k1"));
        let two = Replacement::new(&Replace::Hash, Some(b"k2"));
        assert_eq!(one.apply(b"a@b.example"), one.apply(b"a@b.example"));
        assert_ne!(one.apply(b"a@b.example"), one.apply(b"a@c.example"));
        assert_ne!(one.apply(b"a@b.example"), two.apply(b"a@b.example"));
        assert_eq!(one.apply(b"x").len(), 37);
        assert!(!Replacement::new(&Replace::Hash, None).is_ready());
    }

    #[test]
    fn escapes_are_valid_json() {
        let mut out = vec![b'"'];
        json_escape(b"a\"b\\c\n\x01\xff\xc3\xa9", &mut out);
        out.push(b'"');
        let text: String = serde_json::from_slice(&out).unwrap();
        assert_eq!(text, "a\"b\\c\n\u{1}\u{fffd}\u{e9}");
    }
}
