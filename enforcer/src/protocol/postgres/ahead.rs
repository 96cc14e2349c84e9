//! An SQL statement before it is sent: the operation that it will be, for a step of a task.
//!
//! What a statement does depends on its session and on the tables there are. The step says which
//! session it assumes; the tables are those that the gate saw last. Where either is otherwise when
//! the statement comes, it is another operation, and the step does not fit.

use super::codec::frontend::Bind;
use super::operation::{self, Bound, Scene};
use super::prepared::Prepared;
use super::reading::{self, Effect};
use super::upstream::Reach;
use crate::approval::step::{Kind, Pattern};
use crate::flow::{Asked, Flow, Place};
use crate::operation::Protocol;
use crate::policy::{Bundle, Target};
use crate::protocol::http::authority;
use crate::task::{SqlParameter, SqlPattern, SqlStep, place};
use bytes::Bytes;
use std::sync::Arc;

/// PostgreSQL's port.
const PORT: u16 = 5432;

/// A database as a URL names it, under policy.
struct Database {
    place: Place,
    target: Arc<Target>,
    user: String,
    /// The role that signs in upstream.
    role: String,
    /// The database as the upstream calls it.
    name: String,
}

/// Reads `postgres://user@host:port/database`.
fn database(bundle: &Bundle, url: &str) -> Result<Database, String> {
    let form = || "a database is postgres://user@host:port/database, without a password".to_owned();
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let (user, rest) = rest.and_then(|rest| rest.split_once('@')).ok_or_else(form)?;
    let (at, asked) = rest.split_once('/').ok_or_else(form)?;
    let plain = |text: &str| !text.is_empty() && !text.contains(['/', '?', '#', '%', ':', '@']);
    if !plain(user) || !plain(asked) {
        return Err(form());
    }
    let read = authority::parse(at).map_err(|error| error.to_string())?;
    let (place, target) = place(bundle, &read.host, read.port.unwrap_or(PORT), Protocol::Postgres)?;
    let postgres = target.postgres.as_ref().ok_or("the target is no database")?;
    let role = postgres.role_of(user).map(|role| role.name.clone());
    let role =
        role.ok_or_else(|| format!("policy maps user {user:?} to no role of this target"))?;
    let name = postgres.database_of(asked).map(str::to_owned);
    let name = name.ok_or_else(|| format!("policy knows no database {asked:?} of this target"))?;
    Ok(Database { user: user.to_owned(), role, name, place, target })
}

/// The operation that a statement will be.
pub(crate) async fn operation(flow: &Flow, step: &SqlStep) -> Result<Asked, String> {
    let inputs = &flow.inputs;
    let bundle = inputs.decider.bundle();
    let to = database(&bundle, &step.url)?;
    let statements = reading::read(&inputs.databases.statements, &step.statement)
        .map_err(|why| why.to_string())?;
    let [statement] = statements.as_slice() else {
        let why = format!("it has {} statements; each is a step of its own", statements.len());
        return Err(why);
    };
    match statement.effect {
        Effect::CopyIn { .. } => {
            return Err(
                "its data is not known before it is sent, so nobody could see it".to_owned()
            );
        }
        _ if statement.is_fixed() => {
            return Err("it only begins or ends a transaction, which is no step".to_owned());
        }
        Effect::Execute { .. } | Effect::Fetch { .. } => {
            return Err("it runs what its session has under a name; say that itself".to_owned());
        }
        _ => {}
    }
    let tls = to.target.postgres.as_ref().map(|postgres| postgres.tls);
    let tls = tls.ok_or("the target is no database")?;
    let route = to.place.route(&to.target);
    let key = Reach::key_of(&route, tls, (&to.place.name, &to.role), &to.name);
    let catalog = inputs.databases.catalogs.last(&key).await.ok_or_else(|| {
        format!(
            "the tables of {} are not known here yet, so it is not known what the statement does: \
             connect as {} and run one statement, then declare the task",
            step.url, to.user
        )
    })?;
    let traces = bundle.masks_for(&to.target).columns().any()
        || bundle.reads_columns(&to.target, statement.action());
    let judged = statement.judge(&catalog, &step.search_path, traces);
    let role = step.role.as_deref().unwrap_or(&to.role);
    let scene = Scene {
        inputs,
        principal: &flow.principal,
        place: &to.place,
        user: &to.user,
        signed_in: &to.role,
        database: &to.name,
        roles: Some((role, &to.role)),
        search_path: &step.search_path,
        open: step.in_transaction,
    };
    let (bind, prepared) = bound(&step.parameters)?;
    let bound = Bound { bind: &bind, prepared: &prepared };
    Ok(operation::made(&scene, statement, None, &judged, Some(&bound)))
}

/// What a client binds, as the messages of the protocol have it.
fn bound(parameters: &[SqlParameter]) -> Result<(Bind, Prepared), String> {
    let mut bind = Bind {
        portal: String::new(),
        statement: String::new(),
        formats: Vec::new(),
        values: Vec::new(),
        results: Vec::new(),
    };
    let mut types = Vec::new();
    for (at, parameter) in parameters.iter().enumerate() {
        let bad = |why: &str| format!("parameter {}: {why}", at + 1);
        let value = match (&parameter.text, &parameter.bytes_base64) {
            (Some(_), Some(_)) => return Err(bad("either `text` or `bytes_base64`")),
            (Some(_), None) if parameter.binary => {
                return Err(bad("the value of a binary one is `bytes_base64`"));
            }
            (Some(text), None) => Some(Bytes::from(text.clone())),
            (None, Some(bytes)) => Some(bytes.bytes().map_err(|why| bad(&why))?.into()),
            (None, None) => None,
        };
        let unknown = || bad("its type is the name of a common one, as `integer`, or a number");
        types.push(operation::type_number(&parameter.kind).ok_or_else(unknown)?);
        bind.formats.push(parameter.binary.into());
        bind.values.push(value);
    }
    Ok((bind, Prepared { statement: None, hash: String::new(), types, fields: None }))
}

/// The pattern of statements that do nothing but this.
pub(crate) fn pattern(bundle: &Bundle, sql: SqlPattern) -> Result<Pattern, String> {
    let SqlPattern { url, actions, tables, functions, flags } = sql;
    let to = database(bundle, &url)?;
    let Place { name, port, .. } = &to.place;
    if let Some(action) = actions.iter().find(|action| !action.starts_with("sql.")) {
        return Err(format!("{action:?} is no action of SQL, as in `sql.select`"));
    }
    let database = format!("postgres://{name}:{port}/{}", to.name);
    let role = to.role;
    let kind = Kind::Sql { database, role, actions, tables, functions, flags };
    Ok(Pattern { target: to.target.name.clone(), kind })
}
