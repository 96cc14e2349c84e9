//! How the server reads text: statements can only be judged where it reads them as they are read
//! here, as UTF-8 and with backslashes that mean nothing.

use crate::decide::Denial;

/// Whether an encoding's name means UTF-8, as PostgreSQL compares names: letters and digits alone.
pub(super) fn is_utf8(encoding: &str) -> bool {
    let plain: String = encoding
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    matches!(plain.as_str(), "utf8" | "unicode")
}

/// Why a session in another encoding is refused.
pub(super) fn encoding_refused(encoding: &str) -> Denial {
    let why = format!(
        "client_encoding {encoding:?} is not taken: statements are read as UTF-8; use UTF8"
    );
    Denial::new("encoding", why)
}

/// Why statements cannot be read as the server will read them, by what it reports of its
/// settings. `None` when they can.
pub(super) fn unreadable(setting: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if !setting("client_encoding").is_some_and(|encoding| is_utf8(&encoding)) {
        return Some("the server does not read statements as UTF-8".to_owned());
    }
    if setting("standard_conforming_strings").as_deref() != Some("on") {
        return Some("standard_conforming_strings is off, which changes what a text is".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf8_under_its_names_and_no_other() {
        for name in ["UTF8", "utf-8", "'UTF_8'", "Unicode"] {
            assert!(is_utf8(name), "{name}");
        }
        for name in ["", "LATIN1", "SJIS", "SQL_ASCII", "UTF16", "utf8x"] {
            assert!(!is_utf8(name), "{name}");
        }
    }

    #[test]
    fn a_server_that_reads_otherwise_is_told_apart() {
        let with = |encoding: &'static str, strings: &'static str| {
            unreadable(&move |name| {
                Some(if name == "client_encoding" { encoding } else { strings }.to_owned())
            })
        };
        assert_eq!(with("UTF8", "on"), None);
        assert!(with("SQL_ASCII", "on").is_some());
        assert!(with("UTF8", "off").is_some());
        assert!(unreadable(&|_| None).is_some());
    }
}
