//! Text that others wrote, as markup: escaped by the templates, with each character that does not
//! show as itself marked, and what is not ASCII told apart from what looks like it.

use crate::cli::approvals::text;
use maud::{Markup, html};

/// One line.
pub(super) fn line(foreign: &str) -> Markup {
    let mut shown = text::line(foreign);
    if foreign.ends_with(' ') {
        shown.pop();
        shown.push_str("‹U+0020›");
    }
    html! { span.f { (marked(&shown)) } }
}

/// One line of a list, cut when it is long.
pub(super) fn short(foreign: &str, most: usize) -> Markup {
    html! { span.f { (marked(&text::short(foreign, most))) } }
}

/// Several lines, each numbered, so that no line can be taken for one of ours.
pub(super) fn block(foreign: &str) -> Markup {
    html! {
        ol.code {
            @for line in text::lines(foreign) { li { span.f { (marked(&line)) } } }
        }
    }
}

/// Bytes as hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> Markup {
    html! { pre.hex { (text::hex_block(bytes, "")) } }
}

/// What stands between `‹` and `›` is a mark of ours: the sign itself is marked in foreign text.
fn marked(shown: &str) -> Markup {
    let mut pieces = Vec::new();
    let mut rest = shown;
    while let Some((before, after)) = rest.split_once('‹') {
        let (mark, after) = after.split_once('›').unwrap_or((after, ""));
        pieces.push((before, Some(mark)));
        rest = after;
    }
    pieces.push((rest, None));
    html! {
        @for (plain, mark) in pieces {
            @for (ascii, run) in runs(plain) {
                @if ascii { (run) } @else { span.wide title=(points(run)) { (run) } }
            }
            @if let Some(mark) = mark { b.mark title="a character that is not shown as itself" { (mark) } }
        }
    }
}

/// Runs of ASCII and of everything else.
fn runs(text: &str) -> Vec<(bool, &str)> {
    let mut runs = Vec::new();
    let mut start = 0;
    let mut kind = None;
    for (at, c) in text.char_indices() {
        if let Some(ascii) = kind.filter(|ascii| *ascii != c.is_ascii()) {
            runs.push((ascii, text.get(start..at).unwrap_or("")));
            start = at;
        }
        kind = Some(c.is_ascii());
    }
    if let Some(ascii) = kind {
        runs.push((ascii, text.get(start..).unwrap_or("")));
    }
    runs
}

fn points(run: &str) -> String {
    let named = run.chars().take(8).map(|c| format!("U+{:04X}", u32::from(c)));
    named.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_show_is_marked_and_what_looks_alike_is_told_apart() {
        let shown = |text: &str| line(text).into_string();
        assert_eq!(shown("plain"), "<span class=\"f\">plain</span>");
        assert!(
            shown("a\u{202e}b")
                .contains("title=\"a character that is not shown as itself\">U+202E</b>b")
        );
        assert!(shown("p\u{430}y").contains("title=\"U+0430\">\u{430}</span>y"));
        assert!(shown("<script>").contains("&lt;script&gt;"));
        assert!(shown("‹U+000A›").contains(">U+2039</b>U+000A<span"));
        assert!(shown("a ").contains("U+0020"));
        let rows = block("a\tb \nc").into_string();
        assert_eq!(rows.matches("<li>").count(), 2);
        assert!(rows.contains(">tab</b>") && rows.contains(">U+0020</b>"));
    }

    proptest! {
        #[test]
        fn nothing_foreign_is_markup(text in any::<String>()) {
            let shown = line(&text).into_string() + &block(&text).into_string();
            let ours = ["<span class=\"f\">", "<span class=\"wide\" title=\"", "</span>",
                "<b class=\"mark\" title=\"a character that is not shown as itself\">", "</b>",
                "<ol class=\"code\">", "</ol>", "<li>", "</li>"];
            let mut rest = shown.as_str();
            while let Some(at) = rest.find('<') {
                rest = &rest[at..];
                prop_assert!(ours.iter().any(|tag| rest.starts_with(tag)), "{rest}");
                rest = &rest[1..];
            }
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
