//! Checks that a pattern cannot express: check digits and reserved ranges.
//! Each looks at the match and at most a few bytes before it ([`LOOK_BEHIND`]),
//! and says where the value really ends, or that it is none.

/// How far before a match a check may look.
pub(super) const LOOK_BEHIND: usize = 2;

/// Luhn (ISO/IEC 7812-1 annex B), not all one digit, not the fraction of a number.
pub(super) fn card(text: &[u8], start: usize, end: usize) -> Option<usize> {
    if text[..start].ends_with(b".") && start >= 2 && text[start - 2].is_ascii_digit() {
        return None;
    }
    let digits = || {
        text[start..end].iter().rev().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0'))
    };
    let sum: u32 = digits()
        .enumerate()
        .map(|(at, digit)| match (at % 2, digit * 2) {
            (0, _) => digit,
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    let first = digits().next();
    (sum.is_multiple_of(10) && !digits().all(|digit| Some(digit) == first)).then_some(end)
}

/// ISO 7064 MOD 97-10 over the account number with its first four characters last.
/// A grouped number may have run into a word after it: groups are taken off the
/// end until the check digits fit.
pub(super) fn iban(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let mut end = end;
    loop {
        if iban_fits(&text[start..end]) {
            return Some(end);
        }
        end = start + memchr::memrchr(b' ', &text[start..end])?;
    }
}

fn iban_fits(text: &[u8]) -> bool {
    let value = || text.iter().filter(|b| **b != b' ');
    let count = value().count();
    let rotated = value().cycle().skip(4).take(count);
    let rest = rotated.fold(0_u32, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        byte => (rest * 100 + u32::from(byte.wrapping_sub(b'A')) + 10) % 97,
    });
    (15..=34).contains(&count) && rest == 1
}

/// No area 000, 666 or 9xx, no group 00, no serial 0000.
pub(super) fn ssn(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let ssn = &text[start..end];
    let (area, group, serial) = (&ssn[..3], &ssn[4..6], &ssn[7..]);
    let given =
        area != b"000" && area != b"666" && area[0] != b'9' && group != b"00" && serial != b"0000";
    given.then_some(end)
}

/// Prefixes that are never given out.
pub(super) fn nino(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let never =
        matches!(&text[start..start + 2], b"BG" | b"GB" | b"NK" | b"KN" | b"TN" | b"NT" | b"ZZ");
    (!never).then_some(end)
}

/// The check letter is the number modulo 23; X, Y, Z of a NIE count as 0, 1, 2.
pub(super) fn dni(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let number = text[start..end - 1].iter().fold(0_u32, |number, byte| {
        let digit = match byte {
            b'X'..=b'Z' => byte - b'X',
            byte => byte.wrapping_sub(b'0'),
        };
        number.wrapping_mul(10).wrapping_add(u32::from(digit))
    });
    (b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize] == text[end - 1]).then_some(end)
}

/// Not a time zone or a number in arithmetic: nothing that belongs to a word or a
/// number stands before the `+`.
pub(super) fn phone(text: &[u8], start: usize, end: usize) -> Option<usize> {
    let before = text[..start].last();
    let glued =
        before.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'+' | b'=' | b')'));
    (!glued).then_some(end)
}
