//! Why a file may differ, and the page that says which do.

use super::Compared;
use super::compare::{Place, Reason, counted};
use std::fmt;

/// Files in which places differ without a word of the gate, and why: what a refusal before them
/// left that the statements themselves do not tell, and nothing else.
const FOLLOWS: &[(&str, &str)] = &[
    ("transactions", "rows that a string would have written that was refused as `order-dependent`"),
    (
        "psql",
        "a variable or a row that a string would have set that was refused as `order-dependent`",
    ),
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
        Reason::Bytes => {
            return Some(
                "`bytea` that is no text is NULL where a mask has detectors (guide: Masks)",
            );
        }
        Reason::Again => return Some("psql says again what the gate said in place of the server"),
        Reason::Follows => {
            return Some(
                "a refusal before it failed the transaction, or did not make, change or set what the statement needs",
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
        (Reason::Also(_), "untraceable" | "unknown-prepared" | "unknown-cursor") => {
            "an error of the server's, too: what it names is not there"
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

fn line(f: &mut fmt::Formatter<'_>, file: &str, reason: &Reason, count: usize) -> fmt::Result {
    let what = match reason {
        Reason::Also(code) | Reason::Refused(code) => format!("`{code}`"),
        Reason::Words => "words".to_owned(),
        Reason::Bytes => "bytes".to_owned(),
        Reason::Again => "again".to_owned(),
        Reason::Follows | Reason::Other => "follows".to_owned(),
    };
    let why = justified(file, reason).unwrap_or("**not justified**");
    writeln!(f, "| `{file}` | {count} | {what} | {why} |")
}

fn table(f: &mut fmt::Formatter<'_>, compared: &Compared) -> fmt::Result {
    f.write_str("\n| file | places | reason | why |\n|---|---|---|---|\n")?;
    for (file, places) in &compared.differ {
        for (reason, count) in counted(places) {
            line(f, file, &reason, count)?;
        }
    }
    Ok(())
}

/// The page for one run: what differs, file by file.
pub(super) struct Page<'r> {
    pub(super) version: &'r str,
    pub(super) plain: &'r Compared,
    pub(super) masked: &'r Compared,
}

impl fmt::Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, plain, masked } = self;
        let same = |compared: &Compared| compared.files - compared.differ.len();
        let odd: Vec<String> = plain.odd.iter().map(|file| format!("`{file}`")).collect();
        write!(
            f,
            "# PostgreSQL's regression SQL through the gate\n\n\
             Written by `cargo xtask regress`: psql as pg_regress starts it, on the files of \
             Debian's source package {version} in the order of their schedule, straight to a \
             server and through the gate to another one that is as new, as the same superuser and \
             by a policy that permits everything, with `allow = [\"function-call\"]` for psql's \
             large objects. The direct run is worth comparing with: {} of its {} files are what \
             PostgreSQL's authors expect, byte for byte{}.\n\n\
             {} of {} files say the same, byte for byte; these do not:\n",
            plain.files - odd.len(),
            plain.files,
            if odd.is_empty() { String::new() } else { format!(" ({} are not)", odd.join(", ")) },
            same(plain),
            plain.files,
        )?;
        table(f, plain)?;
        write!(
            f,
            "\n## Under masks\n\n\
             The same for {} of the files where masks name columns that none of them has: by \
             pattern in every table (`*.*.ssn`), and by name. Before them `test_setup` went \
             straight to both servers: it reads its tables from files of the server, which is \
             refused under masks. {} say the same; these do not:\n",
            masked.files,
            same(masked),
        )?;
        table(f, masked)?;
        f.write_str(
            "\n## What the reasons are\n\n\
             A place is one that `diff` finds. One that has a reason which is not named in the \
             command fails the run. `words` are an error or a notice that comes without its text. \
             `follows` is a place without a word of the gate after a refusal: the transaction \
             failed with it, or the statement names what the refused one, in this file or in one \
             before it, would have made or changed, which the command finds out from the \
             statements; for what these do not tell the file is named in the command.\n\n\
             What differences showed to be wrong in the gate was put right: `PREPARE TRANSACTION` \
             did not end a failed transaction, a session that had set \
             `standard_conforming_strings` off could not set it on again, errors of tables \
             without a named column came without their words where a mask named columns by a \
             pattern, and came with them where a foreign key or a condition could bring values of \
             other tables into them.\n",
        )
    }
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
    let place = |reasons: &[Reason]| Place {
        reasons: reasons.to_vec(),
        at: (1, 1),
        text: "1c1".to_owned(),
    };
    let differ = vec![
        (
            "strings".to_owned(),
            vec![place(&[Reason::Also("unreadable".into())]), place(&[Reason::Follows])],
        ),
        ("other".to_owned(), vec![place(&[Reason::Other]), place(&[Reason::Refused("x".into())])]),
    ];
    assert_eq!(unjustified(&differ).len(), 2);
    let plain = Compared { files: 217, odd: vec!["date".to_owned()], differ };
    let page = Page { version: "15", plain: &plain, masked: &Compared::default() }.to_string();
    for part in [
        "215 of 217 files",
        "| `strings` | 1 | `unreadable` |",
        "216 of its 217",
        "(`date` are not)",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}
