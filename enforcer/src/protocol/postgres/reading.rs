//! What a session needs of a statement's reading: its facts, its effect, where its output goes.
//!
//! The one place that knows both the reader ([`super::sql`]) and the session.

use super::codec::copy::CopyResponse;
use super::copy_form;
use super::relay::Takes;
use super::sql::{self, flags};
use crate::mask::copy::CopyOptions;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) use super::sql::catalog::{PREAMBLE, Refresh, Routine, Stamp};
pub(super) use super::sql::{Catalog, ColumnRef, NOT_TAKEN, Output, Unreadable};

/// Flags after which the session has to be asked what state it is in: what ran may have done more
/// than its text says.
const UNSETTLING: &[&str] = &[
    flags::STATE_UNKNOWN,
    flags::TEMPORARY,
    flags::SET_SEARCH_PATH,
    flags::SET_ROLE,
    flags::SET_SESSION_AUTHORIZATION,
    flags::SET_ROW_SECURITY,
    flags::SET_READING,
    flags::SET_CONFIG,
    flags::DO,
    flags::CALL,
    flags::TRIGGER,
    flags::RULE,
    flags::USER_FUNCTION,
    flags::VOLATILE_FUNCTION,
    flags::UNKNOWN_FUNCTION,
    flags::UNKNOWN_RELATION,
    flags::DYNAMIC_SQL,
    flags::FOREIGN_TABLE,
    flags::DBLINK,
    flags::DEFINES_CODE,
    flags::LOADS_LIBRARY,
    flags::PERSISTENT_SETTING,
];

/// Flags of what runs code of the database's own, which may define things.
const CODE: &[&str] = &[
    flags::STATE_UNKNOWN,
    flags::DO,
    flags::CALL,
    flags::TRIGGER,
    flags::RULE,
    flags::USER_FUNCTION,
    flags::UNKNOWN_FUNCTION,
    flags::DYNAMIC_SQL,
    flags::DEFINES_CODE,
    flags::LOADS_LIBRARY,
];

/// Actions that write nothing.
const PLAIN: &[&str] = &[
    "sql.select",
    "sql.show",
    "sql.explain",
    "sql.copy.out",
    "sql.transaction",
    "sql.prepare",
    "sql.execute",
    "sql.deallocate",
    "sql.cursor",
    "sql.set",
    "sql.listen",
    "sql.notify",
    "sql.lock",
];

/// Where a statement's output comes from, and what it keeps elsewhere.
#[derive(Clone, Debug)]
pub(super) struct Lineage {
    /// For each output column; or why it is not known.
    pub(super) outputs: Result<Arc<[Output]>, String>,
    /// What goes into other columns, by their names.
    pub(super) kept: Arc<[Output]>,
    /// Every table and view that is read or written: schema and name.
    pub(super) relations: Arc<[(String, String)]>,
    /// Words of the server about it may be about more than these.
    pub(super) anything: bool,
}

impl Lineage {
    /// Of what reads no table.
    pub(super) fn none() -> Self {
        Self {
            outputs: Ok(Arc::default()),
            kept: Arc::default(),
            relations: Arc::default(),
            anything: false,
        }
    }

    /// Of something that is not read at all.
    pub(super) fn unknown(why: &str) -> Self {
        Self { outputs: Err(why.to_owned()), anything: true, ..Self::none() }
    }
}

/// What policy is told of a statement, and what the session must know of it.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) action: &'static str,
    /// Everything that it does, as actions.
    pub(super) actions: BTreeSet<String>,
    pub(super) tables_read: BTreeSet<String>,
    pub(super) tables_written: BTreeSet<String>,
    pub(super) functions: BTreeSet<String>,
    pub(super) flags: BTreeSet<String>,
    pub(super) columns: Option<BTreeSet<String>>,
    pub(super) looked_at: Option<BTreeSet<String>>,
    pub(super) has_where: bool,
    pub(super) lineage: Lineage,
    /// Names mean the same after it, and no setting or role can have changed.
    pub(super) settled: bool,
    /// It may change the catalog.
    pub(super) alters: bool,
    /// It says that it changes the catalog.
    pub(super) defines: bool,
    /// If it is not settled, then only because it writes rows of tables without triggers.
    pub(super) rows: bool,
    /// Something that it names is not in the catalog that was looked at.
    pub(super) unknown: bool,
}

impl Judged {
    /// What the function-call message comes to.
    pub(super) fn of_function(routine: &Routine) -> Self {
        let own = routine.builtin();
        let mut found: BTreeSet<&'static str> =
            flags::of_function(&routine.name).into_iter().collect();
        for (is, flag) in [
            (!own, flags::USER_FUNCTION),
            (!own || routine.changes(), flags::STATE_UNKNOWN),
            (routine.changes(), flags::VOLATILE_FUNCTION),
            (routine.definer, flags::SECURITY_DEFINER),
        ] {
            if is {
                found.insert(flag);
            }
        }
        let name = format!("{}.{}", routine.schema, routine.name);
        let lineage = match routine.followed() {
            // It depends on what the agent itself gave it.
            true => {
                let result = Output {
                    name: routine.name.to_string(),
                    columns: Vec::new(),
                    unchanged: false,
                };
                Lineage { outputs: Ok([result].into()), ..Lineage::none() }
            }
            false => {
                let why = format!("the function {name} can see more than its arguments");
                Lineage::unknown(&why)
            }
        };
        Self {
            action: "sql.function",
            actions: BTreeSet::from(["sql.function".to_owned()]),
            tables_read: BTreeSet::new(),
            tables_written: BTreeSet::new(),
            functions: BTreeSet::from([name]),
            flags: found.into_iter().map(str::to_owned).collect(),
            columns: None,
            looked_at: None,
            has_where: false,
            lineage,
            settled: false,
            alters: !own,
            defines: !own,
            rows: false,
            unknown: false,
        }
    }

    /// Whether it names a table or a function.
    pub(super) fn names_something(&self) -> bool {
        !self.tables_read.is_empty()
            || !self.tables_written.is_empty()
            || !self.functions.is_empty()
    }
}

/// What a statement does to the session.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Nothing that its text tells.
    None,
    /// It begins a transaction.
    Begin,
    /// It ends the transaction, for good or ill.
    End,
    /// Something within the transaction that changes no setting (`SAVEPOINT`, `SET TRANSACTION`).
    Within,
    /// `ROLLBACK TO`: settings may be back at what they were.
    Back,
    /// `PREPARE`.
    Prepare { name: String, inner: Arc<Statement> },
    /// `EXECUTE`.
    Execute { name: String },
    /// `DEALLOCATE` of one, or of all.
    Deallocate(Option<String>),
    /// `DECLARE`.
    Declare { name: String, inner: Arc<Statement> },
    /// `FETCH` or `MOVE`.
    Fetch { name: String },
    /// `CLOSE` of one, or of all.
    Close(Option<String>),
    /// `COPY FROM STDIN`: where the data go, the columns that are named, and whether they come in
    /// the binary format.
    CopyIn { table: sql::Relation, columns: usize, binary: bool },
    /// `COPY TO STDOUT`, and the form of its data where it is known.
    CopyOut(Option<CopyOptions>),
    /// It needs a database to which nobody else is connected.
    Database,
    /// `DISCARD`; everything, or a part.
    Discard(bool),
    /// It changes settings, the role, or more.
    Any,
}

/// One statement as it was read.
#[derive(Debug)]
pub(super) struct Statement {
    read: sql::Statement,
    /// What it does to the session.
    pub(super) effect: Effect,
    /// Why no statement after it could be read as the server would read it.
    pub(super) blinds: Option<String>,
}

/// Reads a string: one statement for each, in order.
pub(super) fn read(cache: &sql::Cache, sql: &str) -> Result<Vec<Arc<Statement>>, Unreadable> {
    let read = cache.read(sql)?;
    Ok(read.iter().map(|statement| Arc::new(Statement::of(statement.clone()))).collect())
}

impl Statement {
    fn of(read: sql::Statement) -> Self {
        let inner = |inner: &sql::Statement| Arc::new(Self::of(inner.clone()));
        let blinds = match &read.effect {
            sql::Effect::Set(setting) => blinds(setting),
            _ => None,
        };
        let effect = match &read.effect {
            sql::Effect::None
            | sql::Effect::Explain { .. }
            | sql::Effect::Listen(_)
            | sql::Effect::Unlisten(_)
            | sql::Effect::Notify(..) => Effect::None,
            sql::Effect::Begin { .. } => Effect::Begin,
            sql::Effect::Commit { .. } | sql::Effect::Rollback { .. } => Effect::End,
            sql::Effect::Savepoint(_) | sql::Effect::Release(_) => Effect::Within,
            sql::Effect::RollbackTo(_) => Effect::Back,
            sql::Effect::Set(setting)
                if matches!(&*setting.name, "transaction" | "session characteristics") =>
            {
                Effect::Within
            }
            sql::Effect::TwoPhase(_)
            | sql::Effect::Set(_)
            | sql::Effect::Reset(_)
            | sql::Effect::ResetAll => Effect::Any,
            sql::Effect::Discard { all, .. } => Effect::Discard(*all),
            sql::Effect::Prepare { name, inner: of } => {
                Effect::Prepare { name: name.clone(), inner: inner(of) }
            }
            sql::Effect::Execute { name, .. } => Effect::Execute { name: name.clone() },
            sql::Effect::Deallocate(name) => Effect::Deallocate(name.clone()),
            sql::Effect::DeclareCursor { name, inner: of, .. } => {
                Effect::Declare { name: name.clone(), inner: inner(of) }
            }
            sql::Effect::Fetch { name, .. } => Effect::Fetch { name: name.clone() },
            sql::Effect::CloseCursor(name) => Effect::Close(name.clone()),
            sql::Effect::CopyIn { table, columns, format } => Effect::CopyIn {
                table: table.clone(),
                columns: columns.len(),
                binary: format == "binary",
            },
            sql::Effect::Database => Effect::Database,
            sql::Effect::CopyOut { format, options } => {
                Effect::CopyOut(copy_form::form(format, options))
            }
        };
        Self { read, effect, blinds }
    }

    /// Its exact text.
    pub(super) fn text(&self) -> &str {
        &self.read.text
    }

    /// Whether the same was read before.
    pub(super) fn recurs(&self) -> bool {
        self.read.recurs
    }

    /// Tells its reading from others; see [`sql::Statement::reading`].
    pub(super) fn reading(&self) -> usize {
        self.read.reading()
    }

    /// Its action, before the catalog is asked.
    pub(super) fn action(&self) -> &'static str {
        self.read.action
    }

    /// How the client is asked for the data that it sends; `None` in the answer where the catalog
    /// does not tell how many columns they have.
    pub(super) fn takes(&self, catalog: Option<&Catalog>, path: &[String]) -> Takes {
        let Effect::CopyIn { table, columns, binary } = &self.effect else {
            return Takes::Nothing;
        };
        let columns = match columns {
            0 => catalog.and_then(|catalog| catalog.resolve(path, table)).map(|table| {
                table.columns.iter().filter(|column| column.generated.is_none()).count()
            }),
            named => Some(*named),
        };
        Takes::Streamed(columns.map(|columns| CopyResponse {
            binary: *binary,
            formats: vec![i16::from(*binary); columns],
        }))
    }

    /// Whether a failed transaction takes it.
    pub(super) fn ends(&self) -> bool {
        // PREPARE TRANSACTION rolls a failed one back.
        matches!(self.effect, Effect::End | Effect::Back)
            || matches!(self.read.effect, sql::Effect::TwoPhase(_))
    }

    /// Whether it does the same whatever names mean and whoever runs it.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self.effect, Effect::Begin | Effect::End | Effect::Within | Effect::Back)
    }

    /// What it comes to in a database under a search path. With `trace` its output is followed.
    pub(super) fn judge(&self, catalog: &Catalog, path: &[String], trace: bool) -> Judged {
        let found = sql::resolve(&self.read, catalog, path);
        let names = |relations: &[sql::Relation]| {
            relations.iter().map(ToString::to_string).collect::<BTreeSet<_>>()
        };
        let relations = found.reads.iter().chain(&found.writes);
        let relations = relations
            .map(|relation| (relation.schema.clone().unwrap_or_default(), relation.name.clone()));
        let relations: Arc<[_]> = relations.collect();
        let traced = trace.then(|| sql::trace(&self.read, catalog, path));
        let (mut columns, mut looked_at) = (None, None);
        let lineage = match traced {
            None => Lineage { relations, ..Lineage::unknown("it was not followed") },
            Some(Err(why)) => Lineage { relations, ..Lineage::unknown(&why.0) },
            Some(Ok(trace)) => {
                let shown = trace.outputs.iter().chain(&trace.kept).flat_map(|o| &o.columns);
                columns = Some(shown.map(ToString::to_string).collect());
                looked_at = Some(trace.looked_at.iter().map(ToString::to_string).collect());
                Lineage {
                    outputs: Ok(trace.outputs.into()),
                    kept: trace.kept.into(),
                    relations,
                    anything: trace.blind
                        || found.flags.contains(flags::CASCADE)
                        || UNSETTLING.iter().any(|flag| found.flags.contains(flag)),
                }
            }
        };
        let has = |flags: &[&str]| flags.iter().any(|flag| found.flags.contains(flag));
        // Code of the database's own can define things, too.
        let defines = found.actions.iter().any(|action| {
            !PLAIN.contains(action)
                && !matches!(
                    *action,
                    "sql.insert"
                        | "sql.update"
                        | "sql.delete"
                        | "sql.merge"
                        | "sql.copy.in"
                        | "sql.grant"
                        | "sql.maintenance"
                )
        });
        let alters = defines || has(CODE);
        // A write runs defaults, checks and triggers, which are code of the database's own.
        let writes = found.actions.iter().any(|action| !PLAIN.contains(action));
        let says_more = matches!(self.effect, Effect::Any | Effect::Back | Effect::Discard(_));
        Judged {
            action: found.action,
            actions: found.actions.iter().map(|action| (*action).to_owned()).collect(),
            tables_read: names(&found.reads),
            tables_written: names(&found.writes),
            functions: found.functions.iter().map(ToString::to_string).collect(),
            flags: found.flags.iter().map(|flag| (*flag).to_owned()).collect(),
            columns,
            looked_at,
            has_where: self.read.filtered.unwrap_or(false),
            lineage,
            settled: !writes && !says_more && !has(UNSETTLING),
            rows: !alters && !says_more && !has(UNSETTLING),
            alters,
            defines,
            unknown: has(&[flags::UNKNOWN_RELATION, flags::UNKNOWN_FUNCTION]),
        }
    }
}

/// Why a setting of this value would leave a session whose statements cannot be read. Better
/// refused than set: afterwards the session could not be brought back, either.
fn blinds(setting: &sql::Setting) -> Option<String> {
    let [value] = setting.values.as_deref()? else { return None };
    let set = |name: &str| match name {
        _ if name == setting.name => Some(value.to_ascii_lowercase()),
        "client_encoding" => Some("utf8".to_owned()),
        _ => Some("on".to_owned()),
    };
    let on = matches!(&*value.to_ascii_lowercase(), "on" | "true" | "yes" | "1");
    match &*setting.name {
        "standard_conforming_strings" if on => None,
        "standard_conforming_strings" | "client_encoding" => super::encoding::unreadable(&set),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_would_blind_is_known() {
        let blinds = |sql: &str| {
            let read = read(&sql::Cache::default(), sql).unwrap();
            read[0].blinds.is_some()
        };
        for sql in [
            "SET standard_conforming_strings = off",
            "SET LOCAL Standard_Conforming_Strings TO 'no'",
            "SET client_encoding = 'SJIS'",
            "SET NAMES 'gbk'",
            "SET SESSION client_encoding TO big5",
        ] {
            assert!(blinds(sql), "{sql}");
        }
        for sql in [
            "SET standard_conforming_strings = on",
            "SET standard_conforming_strings TO 1",
            "SET standard_conforming_strings TO DEFAULT",
            "SET client_encoding = 'utf-8'",
            "SET NAMES 'UTF8'",
            "SET search_path = off",
        ] {
            assert!(!blinds(sql), "{sql}");
        }
    }
}
