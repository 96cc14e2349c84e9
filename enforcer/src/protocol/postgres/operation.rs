//! Makes an operation of a statement: everything that changes its effect, as facts.

use super::codec::backend::Transaction;
use super::codec::frontend::Bind;
use super::prepared::Prepared;
use super::reading::Statement;
use super::talk::Talk;
use crate::flow::{Asked, STREAMED};
use crate::mask::column::printed;
use crate::operation::{Fact, Operation, Protocol};
use crate::policy::sql;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// SHA-256 over the parameters as they are bound: formats, lengths and bytes.
const PARAMETERS_HASH: &str = "sql.parameters_sha256";
/// The text of what a name stands for that the statement runs.
const RUNS: &str = "sql.runs";

/// Bound parameters and the statement that they are for.
pub(super) struct Bound<'a> {
    pub(super) bind: &'a Bind,
    pub(super) prepared: &'a Prepared,
}

/// The operation that a statement is in this session now. `within`: the statement is in a
/// transaction block that statements before it in the same string began.
pub(super) fn of(
    talk: &Talk,
    statement: &Statement,
    runs: Option<&Statement>,
    bound: Option<&Bound<'_>>,
    within: bool,
) -> Asked {
    let judged = runs.unwrap_or(statement);
    let mut operation = plain(talk, judged.action);
    operation.fact(sql::STATEMENT, statement.text.as_str());
    if let Some(runs) = runs {
        operation.fact(RUNS, runs.text.as_str());
    }
    let known = talk.state.known.as_ref();
    let path = known.map(|known| known.search_path.as_slice()).unwrap_or_default();
    let facts = judged.facts(talk.catalog.as_deref(), path);
    operation.fact(sql::TABLES_READ, list(facts.tables_read));
    operation.fact(sql::TABLES_WRITTEN, list(facts.tables_written));
    operation.fact(sql::FUNCTIONS, list(facts.functions));
    operation.fact(sql::FLAGS, list(facts.flags));
    if let Some(columns) = facts.columns {
        operation.fact(sql::COLUMNS, list(columns));
    }
    if let Some(columns) = facts.looked_at {
        operation.fact(sql::LOOKED_AT, list(columns));
    }
    operation.fact(sql::HAS_WHERE, facts.has_where);
    operation.fact(sql::SEARCH_PATH, Fact::List(path.to_vec()));
    let open = within || talk.state.transaction != Transaction::Idle;
    operation.fact(sql::IN_TRANSACTION, open);
    if let Some(known) = known {
        operation.fact(sql::ROLE, known.role.as_str());
        if known.session_role != known.role {
            operation.fact("sql.session_role", known.session_role.as_str());
        }
    }
    if let Some(bound) = bound {
        parameters(&mut operation, bound);
    }
    if judged.is_copy_in() {
        // Its data comes after the decision, so people cannot see it.
        operation.fact(STREAMED, "streamed");
    }
    Asked::new(operation, Vec::new(), Vec::new(), &talk.about.flow.principal)
}

/// An operation of which no more is known than the session and a text.
pub(super) fn unread(talk: &Talk, action: &str, text: &str) -> Asked {
    let mut operation = plain(talk, action);
    operation.fact(sql::STATEMENT, text);
    Asked::new(operation, Vec::new(), Vec::new(), &talk.about.flow.principal)
}

fn plain(talk: &Talk, action: &str) -> Operation {
    let about = &talk.about;
    let bundle = about.flow.inputs.decider.bundle();
    let target = about.place.target(&bundle).map_or("", |target| target.name.as_str());
    let (name, port) = (&about.place.name, about.place.port);
    let database = &about.reach.database;
    let resource = format!("postgres://{name}:{port}/{database}");
    let mut operation =
        Operation::new(target, name, port, Protocol::Postgres, action, resource);
    operation.fact(sql::DATABASE, database.as_str());
    operation.fact(sql::USER, about.user.as_str());
    operation.fact(sql::ROLE, about.reach.role());
    operation
}

fn list(items: BTreeSet<String>) -> Fact {
    Fact::List(items.into_iter().collect())
}

fn parameters(operation: &mut Operation, bound: &Bound<'_>) {
    if bound.bind.values.is_empty() {
        return;
    }
    let mut hash = Sha256::new();
    let mut types = Vec::with_capacity(bound.bind.values.len());
    for (at, value) in bound.bind.values.iter().enumerate() {
        let kind = bound.prepared.types.get(at).copied().unwrap_or_default();
        let format = bound.bind.format(at);
        types.push(kind.to_string());
        hash.update(format.to_be_bytes());
        match value {
            None => hash.update([0]),
            Some(value) => {
                hash.update([1]);
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
                let name = format!("{}{}", sql::PARAMETER, at + 1);
                operation.fact(&name, printed(kind, format, value));
            }
        }
    }
    operation.fact(sql::PARAMETER_TYPES, Fact::List(types));
    operation.fact(PARAMETERS_HASH, hex::encode(hash.finalize()));
}
