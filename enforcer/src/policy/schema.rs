//! The Cedar schema: actions, what they belong to, and the types of everything a rule can ask.

use crate::operation::Protocol;
use cedar_policy::{EntityId, EntityTypeName, EntityUid, Schema, SchemaFragment};
use std::str::FromStr;

/// The schema in Cedar's own notation, with comments for people.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The schema could not be read: a fault of this build, found by its tests.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the built-in policy schema is broken: {0}")]
pub struct SchemaFault(String);

/// The schema in Cedar's JSON notation, for editors and other tools.
///
/// # Errors
/// Only when the build's own schema is broken.
pub fn schema_json() -> Result<String, SchemaFault> {
    let (fragment, _) =
        SchemaFragment::from_cedarschema_str(SCHEMA).map_err(|e| SchemaFault(e.to_string()))?;
    fragment.to_json_string().map_err(|e| SchemaFault(e.to_string()))
}

/// The schema, read.
pub(super) fn schema() -> Result<Schema, SchemaFault> {
    Schema::from_cedarschema_str(SCHEMA)
        .map(|(schema, _)| schema)
        .map_err(|e| SchemaFault(e.to_string()))
}

/// The schema without the actions of a protocol, for rules that concern no target of it: an
/// `action in Action::"read"` on HTTP targets can ask for the path, although `read` has
/// statements below it too.
pub(super) fn schema_without(protocol: Protocol) -> Result<Schema, SchemaFault> {
    let fault = |e: &dyn std::fmt::Display| SchemaFault(e.to_string());
    let mut json: serde_json::Value =
        serde_json::from_str(&schema_json()?).map_err(|e| fault(&e))?;
    for namespace in json.as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
        let Some(actions) = namespace.get_mut("actions").and_then(|all| all.as_object_mut()) else {
            continue;
        };
        for action in ACTIONS.iter().filter(|action| action.protocol == Some(protocol)) {
            actions.remove(action.name);
        }
    }
    Schema::from_json_value(json).map_err(|e| fault(&e))
}

/// An action that an operation can have.
#[derive(Debug)]
pub(super) struct Action {
    /// As in `Operation::action`.
    pub(super) name: &'static str,
    /// The groups that it belongs to, directly or not.
    pub(super) groups: &'static [&'static str],
    /// The protocol of the targets that it is asked of; `None`: of every target with a name.
    pub(super) protocol: Option<Protocol>,
}

const READ: &[&str] = &["http.read", "read"];
const WRITE: &[&str] = &["http.write", "write"];

const fn http(name: &'static str, groups: &'static [&'static str]) -> Action {
    Action { name, groups, protocol: Some(Protocol::Http) }
}

const SQL_READ: &[&str] = &["sql.read", "read"];
const SQL_WRITE: &[&str] = &["sql.write", "write"];
const SQL_DDL: &[&str] = &["sql.ddl", "sql.write", "write"];
const SQL_SESSION: &[&str] = &["sql.session"];

const fn sql(name: &'static str, groups: &'static [&'static str]) -> Action {
    Action { name, groups, protocol: Some(Protocol::Postgres) }
}

/// Reading tables.
pub(super) const SQL_SELECT: &str = "sql.select";

/// Signing in to a database.
pub(super) const SQL_CONNECT: &str = "sql.connect";

/// The function-call message.
pub(super) const SQL_FUNCTION: &str = "sql.function";

/// The replication protocol.
pub(super) const SQL_REPLICATION: &str = "sql.replication";

/// The one action that only a rule that names it can permit.
pub(super) const OPAQUE: &str = "opaque.connect";

/// The resolver's action.
pub(super) const DNS: &str = "dns.query";

/// The gRPC action.
pub(super) const GRPC: &str = "grpc.call";

/// Every action; a test holds this table against the schema.
pub(super) const ACTIONS: &[Action] = &[
    http("http.get", READ),
    http("http.head", READ),
    http("http.options", READ),
    http("http.post", WRITE),
    http("http.put", WRITE),
    http("http.patch", WRITE),
    http("http.delete", WRITE),
    http("http.other", WRITE),
    http(GRPC, WRITE),
    sql(SQL_SELECT, SQL_READ),
    sql("sql.copy.out", SQL_READ),
    sql("sql.explain", SQL_READ),
    sql("sql.show", &["sql.read", "read", "sql.session"]),
    sql("sql.insert", SQL_WRITE),
    sql("sql.update", SQL_WRITE),
    sql("sql.delete", SQL_WRITE),
    sql("sql.merge", SQL_WRITE),
    sql("sql.copy.in", SQL_WRITE),
    sql("sql.ddl.create", SQL_DDL),
    sql("sql.ddl.alter", SQL_DDL),
    sql("sql.ddl.rename", SQL_DDL),
    sql("sql.ddl.comment", SQL_DDL),
    sql("sql.ddl.refresh", SQL_DDL),
    sql("sql.ddl.truncate", SQL_DDL),
    sql("sql.ddl.drop", SQL_DDL),
    sql("sql.call", SQL_WRITE),
    sql("sql.do", SQL_WRITE),
    sql(SQL_FUNCTION, SQL_WRITE),
    sql("sql.grant", SQL_WRITE),
    sql("sql.role", SQL_WRITE),
    sql("sql.system", SQL_WRITE),
    sql("sql.load", SQL_WRITE),
    sql("sql.lock", SQL_WRITE),
    sql("sql.notify", SQL_WRITE),
    sql("sql.maintenance", SQL_WRITE),
    sql(SQL_REPLICATION, SQL_WRITE),
    sql("sql.other", SQL_WRITE),
    sql(SQL_CONNECT, SQL_SESSION),
    sql("sql.transaction", SQL_SESSION),
    sql("sql.set", SQL_SESSION),
    sql("sql.prepare", SQL_SESSION),
    sql("sql.execute", SQL_SESSION),
    sql("sql.deallocate", SQL_SESSION),
    sql("sql.cursor", SQL_SESSION),
    sql("sql.listen", SQL_SESSION),
    Action { name: DNS, groups: &[], protocol: None },
    Action { name: OPAQUE, groups: &[], protocol: Some(Protocol::Opaque) },
];

/// The position in [`ACTIONS`] of an action.
pub(super) fn action(name: &str) -> Option<usize> {
    ACTIONS.iter().position(|action| action.name == name)
}

/// The groups of an action.
pub(super) fn groups(name: &str) -> Option<&'static [&'static str]> {
    ACTIONS.get(action(name)?).map(|action| action.groups)
}

/// The HTTP action of a method.
pub(super) fn http_action(method: &str) -> &'static str {
    match method {
        "GET" => "http.get",
        "HEAD" => "http.head",
        "OPTIONS" => "http.options",
        "POST" => "http.post",
        "PUT" => "http.put",
        "PATCH" => "http.patch",
        "DELETE" => "http.delete",
        _ => "http.other",
    }
}

/// The names of the entity types, parsed once.
pub(super) struct Types {
    pub(super) agent: EntityTypeName,
    pub(super) target: EntityTypeName,
    pub(super) tag: EntityTypeName,
    pub(super) headers: EntityTypeName,
    pub(super) parameters: EntityTypeName,
    pub(super) action: EntityTypeName,
}

impl Types {
    pub(super) fn new() -> Result<Self, SchemaFault> {
        let parse = |name: &str| {
            EntityTypeName::from_str(name).map_err(|e| SchemaFault(format!("{name}: {e}")))
        };
        Ok(Self {
            agent: parse("Agent")?,
            target: parse("Target")?,
            tag: parse("Tag")?,
            headers: parse("Headers")?,
            parameters: parse("Parameters")?,
            action: parse("Action")?,
        })
    }
}

/// The entity of a type with an id.
pub(super) fn uid(of: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_the_schema() {
        let schema = schema().unwrap();
        let types = Types::new().unwrap();
        let entities = schema.action_entities().unwrap();
        let text = |id: &str| id.to_owned();
        let groups: BTreeSet<String> =
            schema.action_groups().map(|group| text(group.id().unescaped())).collect();
        let in_schema: BTreeSet<String> = schema
            .actions()
            .map(|action| text(action.id().unescaped()))
            .filter(|name| !groups.contains(name))
            .collect();
        let in_table: BTreeSet<String> = ACTIONS.iter().map(|a| text(a.name)).collect();
        assert_eq!(in_schema, in_table);
        for action in ACTIONS {
            let ancestors: BTreeSet<String> = entities
                .ancestors(&uid(&types.action, action.name))
                .unwrap()
                .map(|ancestor| text(ancestor.id().unescaped()))
                .collect();
            let expected = action.groups.iter().map(|g| text(g)).collect();
            assert_eq!(ancestors, expected, "{}", action.name);
        }
    }

    #[test]
    fn it_can_be_had_as_json() {
        assert!(schema_json().unwrap().contains("http.get"));
    }
}
