//! The form of `COPY` data, from the options of the statement.

use super::encoding::is_utf8;
use crate::mask::copy::{CopyFormat, CopyOptions};

/// The form of `COPY TO STDOUT` data; `None` where an option is not understood.
pub(super) fn form(format: &str, options: &[(String, Option<String>)]) -> Option<CopyOptions> {
    let format = match format {
        "text" => CopyFormat::Text,
        "csv" => CopyFormat::Csv,
        "binary" => CopyFormat::Binary,
        _ => return None,
    };
    let mut read = CopyOptions::of(format);
    let mut escaped = false;
    for (name, value) in options {
        let byte = || match value.as_deref().map(str::as_bytes) {
            Some([byte]) => Some(*byte),
            _ => None,
        };
        match name.as_str() {
            "format" | "force_quote" | "encoding" => {}
            "delimiter" => read.delimiter = byte()?,
            "null" => read.null = value.clone()?.into_bytes(),
            "quote" => read.quote = byte()?,
            "escape" => {
                read.escape = byte()?;
                escaped = true;
            }
            "header" => {
                read.header = match value.as_deref().map(str::to_ascii_lowercase).as_deref() {
                    None | Some("true" | "on" | "1") => true,
                    Some("false" | "off" | "0") => false,
                    Some(_) => return None,
                };
            }
            _ => return None,
        }
    }
    if !escaped {
        // PostgreSQL's default is the quote.
        read.escape = read.quote;
    }
    let utf8 = options
        .iter()
        .filter(|(name, _)| name == "encoding")
        .all(|(_, value)| value.as_deref().is_some_and(is_utf8));
    utf8.then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_copied_data_is_known_or_not() {
        let option = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let plain = form("csv", &[option("header", None), option("delimiter", Some(";"))]).unwrap();
        assert_eq!((plain.header, plain.delimiter, plain.escape), (true, b';', b'"'));
        let quoted = form("csv", &[option("quote", Some("'"))]).unwrap();
        assert_eq!(quoted.escape, b'\'');
        for unknown in [
            option("delimiter", Some("ab")),
            option("encoding", Some("latin1")),
            option("header", Some("match")),
            option("new_option", None),
        ] {
            assert_eq!(form("text", std::slice::from_ref(&unknown)), None, "{unknown:?}");
        }
        assert_eq!(form("parquet", &[]), None);
    }
}
