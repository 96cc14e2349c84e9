//! What stands around JSON so that a browser runs it as a call (JSONP), or cannot run it at all
//! (a guard against cross-site script inclusion). Masks nothing.

/// Guards in front of JSON, the longer of two that begin alike first.
const GUARDS: [&[u8]; 6] =
    [b")]}'", b")]}", b"while(1);", b"while (1);", b"for(;;);", b"for (;;);"];
/// Longest wrapper that is looked for.
const MAX: usize = 2048;

/// What a body begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    /// More bytes are needed.
    Undecided,
    /// Nothing of the kind.
    None,
    /// A wrapper.
    Found {
        /// Where the JSON begins.
        ends: usize,
        /// It is a call, and a bracket closes it.
        call: bool,
    },
}

/// Looks for a wrapper. The argument of a call may be any value where the type promises `code`
/// or JSON, and an object or array in other text.
pub(super) fn find(head: &[u8], code: bool, eof: bool) -> Wrapper {
    let seen = &head[..head.len().min(MAX)];
    match look(seen, code) {
        Some(found) => found,
        None if eof || head.len() > MAX => Wrapper::None,
        None => Wrapper::Undecided,
    }
}

/// Whether these bytes can stand behind the last argument of the only call.
pub(super) fn ends_call(rest: &[u8]) -> bool {
    rest.iter().all(|byte| matches!(byte, b')' | b';' | b' ' | b'\t' | b'\r' | b'\n'))
}

/// `None` when the bytes end before it is clear.
fn look(head: &[u8], code: bool) -> Option<Wrapper> {
    let mut at = 0;
    if head.starts_with(super::content::BOM) {
        at = super::content::BOM.len();
    }
    at = blanks(head, at);
    let rest = &head[at..];
    for guard in GUARDS {
        if rest.starts_with(guard) {
            let ends = at + guard.len();
            let comma = usize::from(*head.get(ends)? == b',');
            return Some(Wrapper::Found { ends: ends + comma, call: false });
        }
        if guard.starts_with(rest) {
            return None;
        }
    }
    call(head, at, code)
}

/// `callback(`, also behind comments and the test for the callback that Express writes.
fn call(head: &[u8], mut at: usize, code: bool) -> Option<Wrapper> {
    const TEST: &[u8] = b"typeof ";
    loop {
        at = blanks(head, at);
        at = match (*head.get(at)?, head.get(at + 1)) {
            (b'/', None) => return None,
            (b'/', Some(b'*')) => at + 2 + find_bytes(head.get(at + 2..)?, b"*/")? + 2,
            (b'/', Some(b'/')) => at + 2 + find_bytes(head.get(at + 2..)?, b"\n")? + 1,
            (b';', _) if code => at + 1,
            _ => break,
        };
    }
    let rest = &head[at..];
    if code && rest.starts_with(TEST) {
        at = blanks(head, at + find_bytes(rest, b"&&")? + 2);
    } else if code && TEST.starts_with(rest) {
        return None;
    }
    // These begin JSON of its own.
    if matches!(head.get(at), Some(b'[' | b'"' | b'\'')) {
        return Some(Wrapper::None);
    }
    let name = head[at..].iter().position(|byte| {
        !(byte.is_ascii_alphanumeric() || b"_$.[]'\"".contains(byte) || *byte >= 0x80)
    })?;
    if name == 0 && !code {
        return Some(Wrapper::None);
    }
    let open = blanks(head, at + name);
    if *head.get(open)? != b'(' {
        return Some(Wrapper::None);
    }
    let value = *head.get(blanks(head, open + 1))?;
    let fits = match value {
        b'{' | b'[' => true,
        b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => code,
        _ => false,
    };
    Some(match fits {
        true => Wrapper::Found { ends: open + 1, call: true },
        false => Wrapper::None,
    })
}

fn blanks(head: &[u8], at: usize) -> usize {
    let rest = head.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count()
}

fn find_bytes(text: &[u8], what: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(")]}'\n{", 4, false)]
    #[case(")]}',\n[", 5, false)]
    #[case("\u{feff} )]}\n{", 7, false)]
    #[case("while(1);{", 9, false)]
    #[case("for (;;);[", 9, false)]
    #[case("cb({", 3, true)]
    #[case("a.b['c'] ( [", 10, true)]
    #[case("/**/ cb({", 8, true)]
    #[case("// API callback\ncb({", 19, true)]
    fn wrappers_are_found(#[case] text: &str, #[case] ends: usize, #[case] call: bool) {
        let want = Wrapper::Found { ends, call };
        for code in [true, false] {
            assert_eq!(find(text.as_bytes(), code, false), want, "{text}");
            for cut in 0..text.len() {
                let part = find(&text.as_bytes()[..cut], code, false);
                assert!(part == want || part == Wrapper::Undecided, "{text} at {cut}: {part:?}");
            }
        }
    }

    #[rstest]
    #[case("({", 1)]
    #[case(";cb(\"x", 4)]
    #[case("cb(null", 3)]
    #[case("/**/ typeof cb === 'function' && cb({", 36)]
    fn calls_that_only_code_has(#[case] text: &str, #[case] ends: usize) {
        assert_eq!(find(text.as_bytes(), true, false), Wrapper::Found { ends, call: true });
        assert_eq!(find(text.as_bytes(), false, false), Wrapper::None);
    }

    #[rstest]
    #[case("{\"a\":1}")]
    #[case("[1]")]
    #[case("hello world")]
    #[case("!function(e){")]
    #[case("f(x)")]
    #[case("say (or not)")]
    #[case("<html>")]
    #[case("\0")]
    fn other_text_has_none(#[case] text: &str) {
        for code in [true, false] {
            assert_eq!(find(text.as_bytes(), code, false), Wrapper::None, "{text}");
        }
        assert_eq!(find(&b"x".repeat(MAX + 1), true, false), Wrapper::None);
        assert_eq!(find(b"callback", true, false), Wrapper::Undecided);
        assert_eq!(find(b"callback", true, true), Wrapper::None);
    }
}
