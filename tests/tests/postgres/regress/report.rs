//! Why a file may differ, and the page that says which do.

use super::compare::{Place, Reason, counted};
use std::fmt::Write as _;

/// Files in which places differ without a word of the gate, and why: what a refusal before them
/// left, and nothing else.
const FOLLOWS: &[(&str, &str)] = &[
    ("strings", "`SET standard_conforming_strings = off` was refused, so texts are read as before"),
    ("transactions", "rows that a string would have written that was refused as `order-dependent`"),
];

/// What a reason means; `None` for one that nothing justifies.
pub(super) fn justified(file: &str, reason: &Reason) -> Option<&'static str> {
    let code = match reason {
        Reason::Also(code) | Reason::Refused(code) => code.as_str(),
        Reason::Words => {
            return Some(
                "the server's words are withheld, since a mask names columns (guide: Masks)",
            );
        }
        Reason::Other => {
            let known = FOLLOWS.iter().find(|(name, _)| *name == file);
            return known.map(|(_, why)| *why);
        }
    };
    Some(match (reason, code) {
        (Reason::Also(_), "unreadable") => {
            "an error of the server's, too: what cannot be read is refused, in the gate's words"
        }
        (_, "unreadable") => {
            "the server takes it; the grammar that reads, PostgreSQL 17's and texts as by default, does not"
        }
        (_, "unreadable-setting") => {
            "a setting after which statements would be read in another way than the gate reads them"
        }
        (_, "order-dependent") => {
            "a string of several statements of which one may change what the next one's names mean"
        }
        (_, "unknown-prepared" | "unknown-cursor") => {
            "a prepared statement or cursor that code made, so that what it runs was not read"
        }
        (_, "untraceable") => {
            "a mask names columns, and what the statement shows or defines cannot be followed"
        }
        _ => return None,
    })
}

fn line(file: &str, reason: &Reason, count: usize) -> String {
    let what = match reason {
        Reason::Also(code) | Reason::Refused(code) => format!("`{code}`"),
        Reason::Words => "words".to_owned(),
        Reason::Other => "follows".to_owned(),
    };
    let why = justified(file, reason).unwrap_or("**not justified**");
    format!("| `{file}` | {count} | {what} | {why} |\n")
}

/// The page for one run: what differs, file by file.
pub(super) fn page(files: usize, version: &str, found: &[(String, Vec<Place>)]) -> String {
    let mut page = format!(
        "# PostgreSQL's regression SQL through the gate\n\n\
         Written by `cargo xtask regress`: psql as pg_regress starts it, on the files of Debian's \
         source package {version} in the order of their schedule, straight to a server and \
         through the gate to another one that is as new, as the same superuser and by a policy \
         that permits everything. {} of {files} files say the same, byte for byte; these do not:\n\n\
         | file | places | reason | why |\n|---|---|---|---|\n",
        files - found.len()
    );
    for (file, places) in found {
        for (reason, count) in counted(places) {
            page.push_str(&line(file, &reason, count));
        }
    }
    let _ = write!(
        page,
        "\nA file that differs for a reason that is not named here fails the run. `follows` is a \
         place without a word of the gate that a refusal before it in the same file explains.\n"
    );
    page
}

/// The places that nothing justifies.
pub(super) fn unjustified(found: &[(String, Vec<Place>)]) -> Vec<String> {
    let mut left = Vec::new();
    for (file, places) in found {
        for place in places {
            if place.reasons.iter().any(|reason| justified(file, reason).is_none()) {
                left.push(format!("{file}: {:?}\n{}", place.reasons, place.text));
            }
        }
    }
    left
}

#[test]
fn a_page_names_each_file_and_reason() {
    let place = |reasons: &[Reason]| Place { reasons: reasons.to_vec(), text: "1c1".to_owned() };
    let found = [
        (
            "strings".to_owned(),
            vec![place(&[Reason::Also("unreadable".into())]), place(&[Reason::Other])],
        ),
        ("other".to_owned(), vec![place(&[Reason::Other]), place(&[Reason::Refused("x".into())])]),
    ];
    let page = page(217, "15", &found);
    assert!(page.contains("215 of 217 files") && page.contains("| `strings` | 1 | `unreadable` |"));
    assert_eq!(unjustified(&found).len(), 2);
}
