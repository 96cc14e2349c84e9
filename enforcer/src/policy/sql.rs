//! The facts of an operation in SQL: their names, and what Cedar is given of them.
//!
//! Whoever makes the operation sets these by name; a rule sees them under the name behind
//! the dot. A fact that is missing or of another kind is an error, and the operation is
//! denied.

use super::request::{Unjudgeable, text};
use super::schema::{self, SQL_CONNECT, Types, uid};
use crate::operation::{Fact, Operation};
use cedar_policy::{Entity, RestrictedExpression as Value};

/// List: everything that the statement does, as actions, beside the operation's own; it has to
/// be permitted as each of them.
pub const ACTIONS: &str = "sql.actions";
/// Text: the database as the upstream calls it.
pub const DATABASE: &str = "sql.database";
/// Text: the user that the agent signed in as.
pub const USER: &str = "sql.user";
/// Text: the upstream's role in force.
pub const ROLE: &str = "sql.role";
/// Text: the statement's exact text.
pub const STATEMENT: &str = "sql.statement";
/// List of `schema.table`, sorted.
pub const TABLES_READ: &str = "sql.tables_read";
/// List of `schema.table`, sorted.
pub const TABLES_WRITTEN: &str = "sql.tables_written";
/// List of `schema.function`, sorted.
pub const FUNCTIONS: &str = "sql.functions";
/// List of `schema.table.column`, sorted: what output depends on. Not there when not known.
pub const COLUMNS: &str = "sql.columns";
/// List of `schema.table.column`, sorted: what conditions look at. Not there when not known.
pub const LOOKED_AT: &str = "sql.looked_at";
/// Flag: rows are chosen by a WHERE.
pub const HAS_WHERE: &str = "sql.has_where";
/// Flag: inside a transaction block.
pub const IN_TRANSACTION: &str = "sql.in_transaction";
/// List of schemas, in order.
pub const SEARCH_PATH: &str = "sql.search_path";
/// List of flags, sorted.
pub const FLAGS: &str = "sql.flags";
/// Prefix of a bound parameter; its number from 1 follows. Text, as PostgreSQL prints it; no
/// fact for a NULL.
pub const PARAMETER: &str = "sql.parameter.";
/// List: the type of each bound parameter in order, by name where known, by oid otherwise.
pub const PARAMETER_TYPES: &str = "sql.parameter_types";

/// What the facts about bound parameters begin with.
pub(super) const PARAMETERS: &str = "sql.parameter";

/// The id of the entity that carries the parameters.
const ENTITY: &str = "statement";

/// The entity that carries the bound parameters.
pub(super) fn parameters(op: &Operation, types: &Types) -> Result<Entity, Unjudgeable> {
    let mut tags = Vec::new();
    for (name, value) in op.facts() {
        let Some(number) = name.strip_prefix(PARAMETER) else { continue };
        let Fact::Text(value) = value else {
            return Err(format!("the fact `{name}` is not a text"));
        };
        tags.push((number.to_owned(), Value::new_string(value.clone())));
    }
    Entity::new_with_tags(uid(&types.parameters, ENTITY), [], [], tags)
        .map_err(|e| format!("the parameters cannot be judged: {e}"))
}

/// The actions that an operation is judged as: its own, the others that it says, and a read
/// when it changes something and reads tables that it does not change. What may be read is
/// then what the rules on reading say, whatever the rows are written into.
pub(super) fn actions(op: &Operation) -> Result<Vec<&str>, Unjudgeable> {
    let mut actions = vec![op.action.as_str()];
    match op.get(ACTIONS) {
        None => {}
        Some(Fact::List(others)) => actions.extend(others.iter().map(String::as_str)),
        Some(_) => return Err(format!("the fact `{ACTIONS}` is not a list")),
    }
    let list = |fact| match op.get(fact) {
        Some(Fact::List(items)) => items.as_slice(),
        _ => &[],
    };
    let written = list(TABLES_WRITTEN);
    let reads = list(TABLES_READ).iter().any(|table| !written.contains(table));
    let reading = |action: &&str| schema::groups(action).is_some_and(|all| all.contains(&"read"));
    if reads && !actions.iter().any(reading) {
        actions.push(schema::SQL_SELECT);
    }
    actions.sort_unstable();
    actions.dedup();
    Ok(actions)
}

/// Adds what a rule can ask about a statement.
pub(super) fn context(
    op: &Operation,
    types: &Types,
    pairs: &mut Vec<(String, Value)>,
) -> Result<(), Unjudgeable> {
    for (attr, fact) in [("database", DATABASE), ("user", USER), ("role", ROLE)] {
        pairs.push((attr.to_owned(), text(op, fact)?));
    }
    // Signing in has no statement, so nothing of it can be missing.
    let connects = op.action == SQL_CONNECT;
    let statement = match op.get(STATEMENT) {
        None if connects => Value::new_string(String::new()),
        _ => text(op, STATEMENT)?,
    };
    pairs.push(("statement".to_owned(), statement));
    for (attr, fact, required) in [
        ("tables_read", TABLES_READ, true),
        ("tables_written", TABLES_WRITTEN, true),
        ("functions", FUNCTIONS, true),
        ("flags", FLAGS, true),
        ("columns", COLUMNS, false),
        ("looked_at", LOOKED_AT, false),
    ] {
        let items: &[String] = match op.get(fact) {
            Some(Fact::List(items)) => items,
            Some(_) => return Err(format!("the fact `{fact}` is not a list")),
            None if connects => &[],
            None if !required => continue,
            None => return Err(format!("the fact `{fact}` is missing")),
        };
        let set = items.iter().map(|item| Value::new_string(item.clone()));
        pairs.push((attr.to_owned(), Value::new_set(set)));
    }
    let search_path = match op.get(SEARCH_PATH) {
        Some(Fact::List(schemas)) => schemas.join(", "),
        Some(_) => return Err(format!("the fact `{SEARCH_PATH}` is not a list")),
        None if connects => String::new(),
        None => return Err(format!("the fact `{SEARCH_PATH}` is missing")),
    };
    pairs.push(("search_path".to_owned(), Value::new_string(search_path)));
    for (attr, fact) in [("has_where", HAS_WHERE), ("in_transaction", IN_TRANSACTION)] {
        let flag = match op.get(fact) {
            Some(Fact::Flag(flag)) => *flag,
            Some(_) => return Err(format!("the fact `{fact}` is not yes or no")),
            None if connects => false,
            None => return Err(format!("the fact `{fact}` is missing")),
        };
        pairs.push((attr.to_owned(), Value::new_bool(flag)));
    }
    let parameters = Value::new_entity_uid(uid(&types.parameters, ENTITY));
    pairs.push(("parameters".to_owned(), parameters));
    Ok(())
}
