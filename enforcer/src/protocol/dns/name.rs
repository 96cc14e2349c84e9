//! A host name that everything after the first parse can trust.
//!
//! Names that some resolver or HTTP client would read as an IPv4 address
//! (`127.1`, `0x7f000001`, `2130706433`, `1.2.3.0x4`) are no names here: what
//! policy judged as a name must never be dialled as an address.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest name in text form, without the trailing dot (RFC 1035, 2.3.4: 255 bytes on the wire).
pub const MAX_NAME: usize = 253;
/// The longest label (RFC 1035, 2.3.4).
pub const MAX_LABEL: usize = 63;

/// A host name: lower case, no trailing dot, at most 253 bytes, labels of
/// letters, digits, `-` and `_` (not at a hyphen's end), international labels
/// only as valid A-labels (RFC 5890), never something that reads as an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text is not a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// No text, or only a dot.
    #[error("a host name is empty")]
    Empty,
    /// More than 253 bytes.
    #[error("a host name is longer than 253 bytes")]
    TooLong,
    /// Two dots in a row, or one at the start.
    #[error("a host name has an empty label")]
    EmptyLabel,
    /// A label of more than 63 bytes.
    #[error("a label of a host name is longer than 63 bytes")]
    LongLabel,
    /// Something else than letters, digits, hyphen, underscore and dots.
    #[error(
        "a host name has a character other than letters, digits, `-`, `_` and `.` \
         (write international names in their xn-- form)"
    )]
    Character,
    /// A hyphen at a label's start or end.
    #[error("a label of a host name starts or ends with a hyphen")]
    Hyphen,
    /// An `xn--` label that does not decode to an allowed text.
    #[error("an xn-- label of a host name is not valid")]
    International,
    /// The last label is a number, so that some clients read it as an IPv4 address.
    #[error("a host name ends in a number, which some clients read as an address")]
    Address,
}

impl Name {
    /// Reads a name in any case, with or without one trailing dot.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(BadName::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(BadName::TooLong);
        }
        for label in text.split('.') {
            check_label(label.as_bytes())?;
        }
        let lower = text.to_ascii_lowercase();
        if lower.rsplit('.').next().is_some_and(reads_as_number) {
            return Err(BadName::Address);
        }
        if lower.split('.').any(|label| label.starts_with("xn--")) {
            // The URL standard's own check, so that what passes here is what a client means.
            match url::Host::parse(&lower) {
                Ok(url::Host::Domain(same)) if same == lower => {}
                _ => return Err(BadName::International),
            }
        }
        Ok(Self(lower.into()))
    }

    /// Reads a name from its labels as they are on the wire; a dot inside a label is an error.
    pub fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Result<Self, BadName> {
        let mut text = String::new();
        for label in labels {
            check_label(label)?;
            if !text.is_empty() {
                text.push('.');
            }
            text.extend(label.iter().map(|byte| char::from(*byte)));
            if text.len() > MAX_NAME {
                return Err(BadName::TooLong);
            }
        }
        Self::parse(&text)
    }

    /// The name as text: lower case, without a trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &[u8]) -> Result<(), BadName> {
    if label.is_empty() {
        return Err(BadName::EmptyLabel);
    }
    if !label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return Err(BadName::Character);
    }
    if label.len() > MAX_LABEL {
        return Err(BadName::LongLabel);
    }
    if label.starts_with(b"-") || label.ends_with(b"-") {
        return Err(BadName::Hyphen);
    }
    Ok(())
}

/// The URL standard's "ends in a number" test on the last label (lower case).
fn reads_as_number(label: &str) -> bool {
    let decimal = label.bytes().all(|byte| byte.is_ascii_digit());
    let hexadecimal = label
        .strip_prefix("0x")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    decimal || hexadecimal
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({})", self.0)
    }
}

impl FromStr for Name {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("example.com", "example.com")]
    #[case("EXAMPLE.Com.", "example.com")]
    #[case("localhost", "localhost")]
    #[case("_dmarc.example.com", "_dmarc.example.com")]
    #[case("r3---sn-4g5e6nsz.googlevideo.com", "r3---sn-4g5e6nsz.googlevideo.com")]
    #[case("xn--mnchen-3ya.de", "xn--mnchen-3ya.de")]
    #[case("1password.com", "1password.com")]
    #[case("1.2.3.4.nip.io", "1.2.3.4.nip.io")]
    #[case("0xabc.example", "0xabc.example")]
    fn reads(#[case] text: &str, #[case] name: &str) {
        assert_eq!(Name::parse(text).unwrap().as_str(), name);
    }

    #[rstest]
    #[case("", BadName::Empty)]
    #[case(".", BadName::Empty)]
    #[case("..", BadName::EmptyLabel)]
    #[case("example.com..", BadName::EmptyLabel)]
    #[case(".example.com", BadName::EmptyLabel)]
    #[case("a..b", BadName::EmptyLabel)]
    #[case("-a.example", BadName::Hyphen)]
    #[case("a-.example", BadName::Hyphen)]
    #[case("münchen.de", BadName::Character)]
    #[case("a b.example", BadName::Character)]
    #[case("user@example.com", BadName::Character)]
    #[case("example.com:443", BadName::Character)]
    #[case("example.com%00.evil", BadName::Character)]
    #[case("example.com\0", BadName::Character)]
    #[case("*.example.com", BadName::Character)]
    #[case("[::1]", BadName::Character)]
    #[case("::ffff:7f00:1", BadName::Character)]
    #[case("127.0.0.1", BadName::Address)]
    #[case("127.1", BadName::Address)]
    #[case("2130706433", BadName::Address)]
    #[case("0x7f000001", BadName::Address)]
    #[case("0x7F.1.", BadName::Address)]
    #[case("0177.0.0.01", BadName::Address)]
    #[case("a.0x", BadName::Address)]
    #[case("1.2.3.0x4", BadName::Address)]
    #[case("xn--.example", BadName::Hyphen)]
    #[case("xn--a-ecp.ru", BadName::International)]
    #[case("xn--zzzzzzzz99999999.example", BadName::International)]
    fn refuses(#[case] text: &str, #[case] why: BadName) {
        assert_eq!(Name::parse(text), Err(why), "{text:?}");
    }

    #[test]
    fn lengths_are_bounded() {
        let label = "a".repeat(MAX_LABEL);
        assert!(Name::parse(&label).is_ok());
        assert_eq!(Name::parse(&format!("{label}a")), Err(BadName::LongLabel));
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), MAX_NAME);
        assert!(Name::parse(&longest).is_ok());
        assert_eq!(Name::parse(&format!("{longest}a")), Err(BadName::TooLong));
    }

    #[test]
    fn a_dot_inside_a_label_does_not_split_it() {
        let labels: [&[u8]; 2] = [b"evil.example", b"com"];
        assert_eq!(Name::from_labels(labels.into_iter()), Err(BadName::Character));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_reads_back(text in "\\PC{0,300}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(Name::parse(name.as_str()).unwrap(), name.clone());
                prop_assert_eq!(Name::from_labels(name.as_str().split('.').map(str::as_bytes)).unwrap(), name.clone());
                prop_assert!(name.as_str().parse::<std::net::IpAddr>().is_err());
                prop_assert!(!name.as_str().bytes().any(|b| b.is_ascii_uppercase()));
            }
        }

        #[test]
        fn what_passes_is_a_domain_to_url_parsers(text in "[a-z0-9x_.-]{1,40}") {
            if let Ok(name) = Name::parse(&text) {
                prop_assert_eq!(
                    url::Host::parse(name.as_str()).unwrap(),
                    url::Host::Domain(name.as_str().to_owned())
                );
            }
        }
    }
}
