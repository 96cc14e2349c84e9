//! Functions, procedures and aggregates, and what a call by name can come to.

use super::load::{Row, number, text, yes};
use super::{Catalog, FIRST_NORMAL_OID, Object};
use crate::protocol::postgres::sql::flags;
use crate::protocol::postgres::sql::statement::Function;
use std::sync::Arc;

/// A function, procedure, aggregate or window function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routine {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `f`unction, `p`rocedure, `a`ggregate, `w`indow function.
    pub kind: char,
    /// The language's name.
    pub language: Box<str>,
    /// `i`mmutable, `s`table, `v`olatile, as it was declared.
    pub volatility: char,
    /// Runs as its owner.
    pub definer: bool,
    /// The fewest and the most arguments of a call; `None` for as many as one likes.
    pub arguments: (usize, Option<usize>),
    /// The type oids of what a call gives it.
    pub inputs: Vec<u32>,
    /// The oid of its result's type.
    pub result: u32,
    /// Names and type oids of its OUT, INOUT and TABLE arguments.
    pub outputs: Vec<(String, u32)>,
}

/// What a call by name can come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Some function of this name and number of arguments is there.
    pub known: bool,
    /// One of them has a body that is not PostgreSQL's own.
    pub user: bool,
    /// One of them may change something.
    pub changes: bool,
    /// One of them runs as its owner.
    pub definer: bool,
    /// Its value can depend on more than its arguments.
    pub reads: bool,
}

impl Routine {
    pub(super) fn of(row: &Row) -> Result<Self, &'static str> {
        let letter = |at| text(row, at)?.chars().next().ok_or("a letter is missing");
        let (arguments, defaults): (usize, usize) = (number(row, 7)?, number(row, 8)?);
        let most = if yes(row, 9)? { None } else { Some(arguments) };
        // A variadic argument may be left out.
        let fewest = arguments.saturating_sub(defaults + usize::from(most.is_none()));
        Ok(Self {
            oid: number(row, 0)?,
            schema: Arc::from(text(row, 1)?),
            name: Arc::from(text(row, 2)?),
            kind: letter(3)?,
            language: text(row, 4)?.into(),
            volatility: letter(5)?,
            definer: yes(row, 6)?,
            arguments: (fewest, most),
            inputs: inputs(row)?,
            result: number(row, 10)?,
            outputs: outputs(row)?,
        })
    }

    /// PostgreSQL's own, as initdb made it.
    pub fn builtin(&self) -> bool {
        self.oid < FIRST_NORMAL_OID && matches!(&*self.language, "internal" | "c" | "sql")
    }

    /// Whether its value depends on its arguments alone: PostgreSQL's own but for those that
    /// read tables, files, other sessions or the log; and C that calls itself immutable.
    pub fn followed(&self) -> bool {
        match self.builtin() {
            true => !reads_elsewhere(&self.name),
            // An aggregate is `internal` whatever its functions are written in.
            false => {
                self.kind != 'a'
                    && self.volatility == 'i'
                    && matches!(&*self.language, "internal" | "c")
            }
        }
    }

    /// Whether a call may change something that lasts.
    pub fn changes(&self) -> bool {
        self.volatility == 'v' && !(self.builtin() && harmless(&self.name))
    }

    fn takes(&self, arguments: usize) -> bool {
        arguments >= self.arguments.0 && self.arguments.1.is_none_or(|most| arguments <= most)
    }
}

impl Object for Routine {
    fn oid(&self) -> u32 {
        self.oid
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

fn inputs(row: &Row) -> Result<Vec<u32>, &'static str> {
    match row.get(14).and_then(Option::as_deref) {
        None => Ok(Vec::new()),
        Some(list) => serde_json::from_str(list).map_err(|_| "a list of types is no JSON"),
    }
}

fn outputs(row: &Row) -> Result<Vec<(String, u32)>, &'static str> {
    let list = |at: usize| row.get(at).and_then(Option::as_deref);
    let Some(modes) = list(11) else { return Ok(Vec::new()) };
    let bad = |_| "a list of arguments is no JSON";
    let modes: Vec<String> = serde_json::from_str(modes).map_err(bad)?;
    let names: Vec<String> = serde_json::from_str(list(12).unwrap_or("[]")).map_err(bad)?;
    let types: Vec<u32> = serde_json::from_str(list(13).unwrap_or("[]")).map_err(bad)?;
    let all = modes.iter().enumerate().filter(|(_, mode)| matches!(mode.as_str(), "o" | "b" | "t"));
    let outputs = all.enumerate().map(|(nth, (at, _))| {
        // PostgreSQL calls a nameless one so (`build_function_result_tupdesc_d`).
        let name = names.get(at).filter(|name| !name.is_empty());
        let name = name.cloned().unwrap_or_else(|| format!("column{}", nth + 1));
        (name, types.get(at).copied().unwrap_or(0))
    });
    Ok(outputs.collect())
}

impl Catalog {
    /// The functions that a call of `function` with so many arguments could run under `path`;
    /// any number of them when `arguments` is `None`. Overloads are not told apart by type:
    /// one that is never chosen counts as well.
    pub fn routines<'a>(
        &'a self,
        path: &'a [String],
        function: &'a Function,
        arguments: Option<usize>,
    ) -> impl Iterator<Item = &'a Routine> {
        let all = self.routines.named(&function.name).iter().map(|routine| &**routine);
        all.filter(move |routine| {
            let schema = match &function.schema {
                Some(schema) => *routine.schema == **schema,
                // Functions are never looked for in the temporary schema.
                None => {
                    !routine.schema.starts_with("pg_temp")
                        && path.iter().any(|schema| **schema == *routine.schema)
                }
            };
            schema && arguments.is_none_or(|arguments| routine.takes(arguments))
        })
    }

    /// A function by its oid (as the function-call message gives it).
    pub fn routine_by_oid(&self, oid: u32) -> Option<&Routine> {
        self.routines.get(oid).map(|routine| &**routine)
    }

    /// What a call can come to.
    pub fn call(&self, path: &[String], function: &Function, arguments: Option<usize>) -> Call {
        let mut call = Call::default();
        for routine in self.routines(path, function, arguments) {
            call.known = true;
            call.user |= !routine.builtin();
            call.changes |= routine.changes();
            call.definer |= routine.definer;
            call.reads |= !routine.followed();
        }
        call
    }

    /// Whether an operator of this name could be one whose function cannot be followed.
    pub(in super::super) fn operator_reads(&self, path: &[String], operator: &Function) -> bool {
        let all = self.operators.get(operator.name.as_str()).map_or(&[][..], Vec::as_slice);
        all.iter().any(|(schema, followed)| {
            !followed
                && match &operator.schema {
                    Some(named) => **named == **schema,
                    None => path.iter().any(|searched| **searched == **schema),
                }
        })
    }

    /// Whether a cast to a type of this name could run a function that cannot be followed.
    pub(in super::super) fn cast_reads(&self, name: &str) -> bool {
        self.casts.contains(name)
    }
}

/// PostgreSQL's own functions whose value depends on more than their arguments, and can hold
/// values of columns.
fn reads_elsewhere(name: &str) -> bool {
    let flagged = matches!(
        flags::of_function(name),
        Some(
            flags::DYNAMIC_SQL
                | flags::LARGE_OBJECT
                | flags::SERVER_FILE
                | flags::REPLICATION
                | flags::DBLINK
        )
    );
    flagged
        || matches!(
            name,
            // What other sessions run at the moment, with the values in it.
            "pg_stat_get_activity"
                | "pg_stat_get_backend_activity"
                | "pg_stat_get_wal_senders"
                | "pg_cursor"
                | "pg_prepared_statement"
                | "pg_hba_file_rules"
                | "pg_ident_file_mappings"
                | "pg_show_all_file_settings"
                | "pg_get_partition_constraintdef"
        )
}

/// PostgreSQL's own volatile functions that change nothing that lasts.
fn harmless(name: &str) -> bool {
    matches!(
        name,
        "random"
            | "random_normal"
            | "setseed"
            | "gen_random_uuid"
            | "uuidv4"
            | "uuidv7"
            | "clock_timestamp"
            | "timeofday"
            | "currval"
            | "lastval"
            | "pg_sleep"
            | "pg_sleep_for"
            | "pg_sleep_until"
            | "pg_backend_pid"
            | "pg_is_in_recovery"
            | "pg_blocking_pids"
            | "pg_safe_snapshot_blocking_pids"
            | "pg_isolation_test_session_is_blocked"
            | "pg_relation_size"
            | "pg_total_relation_size"
            | "pg_table_size"
            | "pg_indexes_size"
            | "pg_database_size"
            | "pg_tablespace_size"
            | "pg_relation_filepath"
            | "pg_current_wal_lsn"
            | "pg_current_wal_insert_lsn"
            | "pg_current_wal_flush_lsn"
            | "pg_last_wal_receive_lsn"
            | "pg_last_wal_replay_lsn"
            | "pg_last_xact_replay_timestamp"
            | "pg_is_wal_replay_paused"
            | "pg_control_system"
            | "pg_control_checkpoint"
            | "pg_control_recovery"
            | "pg_control_init"
            | "pg_notification_queue_usage"
            | "pg_lock_status"
            | "pg_prepared_xact"
            | "pg_get_replication_slots"
            | "pg_get_shmem_allocations"
            | "pg_get_backend_memory_contexts"
            | "pg_stat_get_xact_numscans"
            | "pg_sequence_last_value"
            | "generate_subscripts"
            | "pg_event_trigger_ddl_commands"
    ) || name.starts_with("pg_stat_get_")
}
