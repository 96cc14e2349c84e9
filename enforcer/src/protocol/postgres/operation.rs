//! Makes an operation of a statement: everything that changes its effect, as facts.

use super::codec::backend::Transaction;
use super::codec::frontend::Bind;
use super::prepared::Prepared;
use super::reading::{Judged, Statement};
use super::sql::flags;
use super::talk::Talk;
use crate::flow::{Asked, Inputs, Place};
use crate::mask::column::printed;
use crate::operation::{Fact, Operation, Protocol};
use crate::policy::sql;
use crate::principal::Principal;
use crate::protocol::Hash;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

/// SHA-256 over the parameters as they are bound: formats, lengths and bytes.
const PARAMETERS_HASH: &str = "sql.parameters_sha256";
/// The text of what a name stands for that the statement runs.
const RUNS: &str = "sql.runs";
/// The role that signed in, where it is not the one in force.
const SESSION_ROLE: &str = "sql.session_role";

/// Bound parameters and the statement that they are for.
pub(super) struct Bound<'a> {
    pub(super) bind: &'a Bind,
    pub(super) prepared: &'a Prepared,
}

/// What a statement's operation has from its session: one that runs, or one that is assumed.
pub(super) struct Scene<'s> {
    pub(super) inputs: &'s Inputs,
    pub(super) principal: &'s Principal,
    pub(super) place: &'s Place,
    pub(super) user: &'s str,
    /// The role that signs in upstream.
    pub(super) signed_in: &'s str,
    /// The database as the upstream calls it.
    pub(super) database: &'s str,
    /// The role in force and the session's, where they are known.
    pub(super) roles: Option<(&'s str, &'s str)>,
    pub(super) search_path: &'s [String],
    /// Whether a transaction is open.
    pub(super) open: bool,
}

impl<'s> Scene<'s> {
    fn of(talk: &'s Talk) -> Self {
        let about = &talk.about;
        let known = talk.state.known.as_ref();
        Self {
            inputs: &about.flow.inputs,
            principal: &about.flow.principal,
            place: &about.place,
            user: &about.user,
            signed_in: about.reach.role(),
            database: &about.reach.database,
            roles: known.map(|known| (known.role.as_str(), known.session_role.as_str())),
            search_path: talk.search_path(),
            open: talk.state.transaction != Transaction::Idle,
        }
    }
}

/// The operation that a statement is in this session now. `runs` is what a name in it stands for,
/// `within` that statements before it in the same string began a transaction.
pub(super) fn of(
    talk: &Talk,
    statement: &Statement,
    runs: Option<&Statement>,
    judged: &Judged,
    bound: Option<&Bound<'_>>,
    within: bool,
) -> Asked {
    let mut scene = Scene::of(talk);
    scene.open |= within;
    made(&scene, statement, runs, judged, bound)
}

/// The operation that a statement is in a session.
pub(super) fn made(
    scene: &Scene<'_>,
    statement: &Statement,
    runs: Option<&Statement>,
    judged: &Judged,
    bound: Option<&Bound<'_>>,
) -> Asked {
    let mut operation = plain(scene, judged.action);
    operation.fact(sql::STATEMENT, shown(scene, statement.text()));
    let mut actions = judged.actions.clone();
    if let Some(runs) = runs {
        operation.fact(RUNS, shown(scene, runs.text()));
        actions.insert(statement.action().to_owned());
    }
    operation.fact(sql::ACTIONS, list(&actions));
    comes_to(&mut operation, scene, judged);
    if let Some(bound) = bound {
        parameters(&mut operation, bound);
    }
    Asked::new(operation, Vec::new(), Vec::new(), scene.principal)
}

/// The operation that calling a function by its number is: its name with the types of its
/// arguments, which are bound parameters.
pub(super) fn function(talk: &Talk, signature: &str, judged: &Judged, bound: &Bound<'_>) -> Asked {
    let scene = Scene::of(talk);
    let mut operation = plain(&scene, judged.action);
    operation.fact(sql::STATEMENT, signature);
    comes_to(&mut operation, &scene, judged);
    parameters(&mut operation, bound);
    Asked::new(operation, Vec::new(), Vec::new(), scene.principal)
}

/// The operation that a command of the replication protocol is: its text.
pub(super) fn replication(talk: &Talk, text: &str) -> Asked {
    let scene = Scene::of(talk);
    let mut operation = plain(&scene, "sql.replication");
    operation.fact(sql::STATEMENT, shown(&scene, text));
    for fact in [sql::TABLES_READ, sql::TABLES_WRITTEN, sql::FUNCTIONS, sql::SEARCH_PATH] {
        operation.fact(fact, Fact::List(Vec::new()));
    }
    operation.fact(sql::FLAGS, Fact::List(vec![flags::REPLICATION.to_owned()]));
    operation.fact(sql::HAS_WHERE, false);
    operation.fact(sql::IN_TRANSACTION, scene.open);
    Asked::new(operation, Vec::new(), Vec::new(), scene.principal)
}

/// What the text of an operation comes to in this session now.
fn comes_to(operation: &mut Operation, scene: &Scene<'_>, judged: &Judged) {
    operation.fact(sql::TABLES_READ, list(&judged.tables_read));
    operation.fact(sql::TABLES_WRITTEN, list(&judged.tables_written));
    operation.fact(sql::FUNCTIONS, list(&judged.functions));
    operation.fact(sql::FLAGS, list(&judged.flags));
    if let Some(columns) = &judged.columns {
        operation.fact(sql::COLUMNS, list(columns));
    }
    if let Some(columns) = &judged.looked_at {
        operation.fact(sql::LOOKED_AT, list(columns));
    }
    operation.fact(sql::HAS_WHERE, judged.has_where);
    operation.fact(sql::IN_TRANSACTION, scene.open);
    operation.fact(sql::SEARCH_PATH, Fact::List(scene.search_path.to_vec()));
    if let Some((role, session_role)) = scene.roles {
        operation.fact(sql::ROLE, role);
        if session_role != role {
            operation.fact(SESSION_ROLE, session_role);
        }
    }
}

/// An operation of which no more is known than the session and a text.
pub(super) fn unread(talk: &Talk, action: &str, text: &str) -> Asked {
    let scene = Scene::of(talk);
    let mut operation = plain(&scene, action);
    operation.fact(sql::STATEMENT, shown(&scene, text));
    Asked::new(operation, Vec::new(), Vec::new(), scene.principal)
}

fn plain(scene: &Scene<'_>, action: &str) -> Operation {
    let bundle = scene.inputs.decider.bundle();
    let target = scene.place.target(&bundle).map_or("", |target| target.name.as_str());
    let (name, port) = (&scene.place.name, scene.place.port);
    let database = scene.database;
    let resource = format!("postgres://{name}:{port}/{database}");
    let mut operation = Operation::new(target, name, port, Protocol::Postgres, action, resource);
    operation.fact(sql::DATABASE, database);
    operation.fact(sql::USER, scene.user);
    operation.fact(sql::ROLE, scene.signed_in);
    operation
}

/// A statement's text as it may be kept.
fn shown(scene: &Scene<'_>, text: &str) -> String {
    let hash = Hash::new(&scene.inputs.recorder);
    super::secrets::hidden(text, &|secret| hash.of(secret)).into_owned()
}

fn list(items: &BTreeSet<String>) -> Fact {
    Fact::List(items.iter().cloned().collect())
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
        types.push(type_name(kind).map_or_else(|| kind.to_string(), str::to_owned));
        hash.update(format.to_be_bytes());
        match value {
            None => hash.update([0]),
            Some(value) => {
                hash.update([1]);
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
                let name = format!("{}{}", sql::PARAMETER, at + 1);
                operation.fact(name, printed(kind, format, value));
            }
        }
    }
    operation.fact(sql::PARAMETER_TYPES, Fact::List(types));
    operation.fact(PARAMETERS_HASH, hex::encode(hash.finalize()));
}

/// Types of PostgreSQL's own (`pg_type.dat`), the common ones: number and name.
const TYPES: [(u32, &str); 22] = [
    (16, "boolean"),
    (17, "bytea"),
    (18, "\"char\""),
    (19, "name"),
    (20, "bigint"),
    (21, "smallint"),
    (23, "integer"),
    (25, "text"),
    (26, "oid"),
    (114, "json"),
    (700, "real"),
    (701, "double precision"),
    (1042, "character"),
    (1043, "character varying"),
    (1082, "date"),
    (1083, "time without time zone"),
    (1114, "timestamp without time zone"),
    (1184, "timestamp with time zone"),
    (1186, "interval"),
    (1700, "numeric"),
    (2950, "uuid"),
    (3802, "jsonb"),
];

fn type_name(oid: u32) -> Option<&'static str> {
    TYPES.iter().find(|(number, _)| *number == oid).map(|(_, name)| *name)
}

/// The number of a type, by its name as an operation says it or by the number itself.
pub(super) fn type_number(name: &str) -> Option<u32> {
    let named = TYPES.iter().find(|(_, known)| *known == name).map(|(number, _)| *number);
    named.or_else(|| name.parse().ok())
}
