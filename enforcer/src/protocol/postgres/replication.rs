//! The replication protocol: a connection to a walsender, where the target takes it (`allow`).
//!
//! Every command is one operation, `sql.replication`, with its text. Nothing of the stream can be
//! masked, so where a mask applies to the target it is refused. On a connection to a database
//! (`replication=database`) other strings are SQL and are judged as that.

use super::codec::error_response::Report;
use super::connect::BAD_START;
use super::reading::{Effect, Lineage};
use super::relay::{Ended, Run, Work};
use super::simple::{after_refusal, cut};
use super::statement::{self, Return};
use super::talk::Talk;
use super::{extended, operation, simple};
use crate::flow::Outcome;

/// What the walsender takes as a command of its own (`repl_scanner.l`, PostgreSQL 12 to 18). No
/// statement of SQL begins with one of these, so a string that we take for a command is none for
/// a server that reads it as SQL. (SHOW is both, and does the same as either.)
const COMMANDS: [&str; 9] = [
    "BASE_BACKUP",
    "CREATE_REPLICATION_SLOT",
    "ALTER_REPLICATION_SLOT",
    "DROP_REPLICATION_SLOT",
    "READ_REPLICATION_SLOT",
    "IDENTIFY_SYSTEM",
    "START_REPLICATION",
    "TIMELINE_HISTORY",
    "UPLOAD_MANIFEST",
];

/// What a connection replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replication {
    /// The whole cluster; such a connection takes no SQL.
    Physical,
    /// One database.
    Logical,
}

impl Replication {
    /// What the parameter of a start-up asks for (`ProcessStartupPacket`): `Ok(None)` for a
    /// session of the usual kind.
    ///
    /// # Errors
    /// A value that PostgreSQL would read in a way that is not known here.
    pub(super) fn asked(value: Option<&str>) -> Result<Option<Self>, ()> {
        let Some(value) = value else { return Ok(None) };
        if value == "database" {
            return Ok(Some(Self::Logical));
        }
        match value.to_ascii_lowercase().as_str() {
            "off" | "false" | "no" | "0" => Ok(None),
            "on" | "true" | "yes" | "1" => Ok(Some(Self::Physical)),
            _ => Err(()),
        }
    }

    /// What is asked for upstream.
    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::Physical => "true",
            Self::Logical => "database",
        }
    }
}

/// Takes a string to its end: a command, or SQL.
pub(super) async fn query(
    mut talk: Box<Talk>,
    kind: Replication,
    text: String,
) -> Result<Box<Talk>, Outcome> {
    if kind == Replication::Logical && !is_command(&text) {
        return simple::query(talk, text).await;
    }
    extended::settle(&mut talk).await?;
    let asked = operation::replication(&talk, &text);
    let work = Work::new(Run::Replication(text), Lineage::none(), &Effect::None);
    let mut home = statement::begin(talk, asked, None, Some(work), false);
    match home.recv().await {
        Some(Return::Refused(back)) => after_refusal(back).await,
        Some(Return::Done(mut back, ended)) => {
            back.state.forget();
            match ended {
                Ended::Withheld(..) => after_refusal(back).await,
                _ => Ok(back),
            }
        }
        _ => Err(cut()),
    }
}

/// Whether a string's first word is that of a command, in any case of its letters.
fn is_command(text: &str) -> bool {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0c', '\x0b']);
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii();
    let end = text.find(|c| !word(c)).unwrap_or(text.len());
    COMMANDS.iter().any(|command| command.eq_ignore_ascii_case(&text[..end]))
}

/// A walsender takes no other messages; what it says to them.
pub(super) fn not_taken() -> Report {
    let what = "extended query protocol and fastpath function calls are not supported in a \
                replication connection";
    Report::new("ERROR", BAD_START, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_up_asks_for_what_the_server_reads() {
        assert_eq!(Replication::asked(None), Ok(None));
        assert_eq!(Replication::asked(Some("OFF")), Ok(None));
        assert_eq!(Replication::asked(Some("database")), Ok(Some(Replication::Logical)));
        assert_eq!(Replication::asked(Some("True")), Ok(Some(Replication::Physical)));
        for odd in ["", "tr", "Database", "2", " on"] {
            assert_eq!(Replication::asked(Some(odd)), Err(()), "{odd}");
        }
    }

    #[test]
    fn commands_are_told_from_sql() {
        for command in ["IDENTIFY_SYSTEM", " \n START_REPLICATION SLOT a", "base_backup;x"] {
            assert!(is_command(command), "{command}");
        }
        let sql = ["", "SELECT 1", "SHOW a; DROP TABLE t", "/**/IDENTIFY_SYSTEM", "base_backups"];
        for sql in sql.into_iter().chain(["\"BASE_BACKUP\"", "base_backup\u{e9}"]) {
            assert!(!is_command(sql), "{sql}");
        }
    }
}
