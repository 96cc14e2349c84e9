//! Definitions: what runs or is read later, under no name that the later statement has.
//!
//! A trigger, a default or a cast runs in statements that do not mention it, and a foreign table
//! shows what another statement would not. What such code could see is refused where it is
//! defined, since it cannot be followed where it runs.

use super::top::{Cols, Stop, Tracer, stop};
use crate::protocol::postgres::sql::catalog::Kind;
use crate::protocol::postgres::sql::facts::{is_remote, runs_unseen};
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::walk::{Children, children};
use pg_query::protobuf::{AlterTableType, ObjectType};
use pg_query::{Node, NodeEnum, NodeRef};

impl Tracer<'_> {
    /// A statement that defines something; `None` for any other.
    pub(super) fn definition(&mut self, tree: &NodeEnum) -> Option<Cols> {
        let why = match tree {
            NodeEnum::CreateFunctionStmt(_) | NodeEnum::AlterFunctionStmt(_) => {
                "the body of a function is not followed where code runs it later"
            }
            _ if runs_unseen(tree) => "it defines what runs in statements that do not name it",
            NodeEnum::DefineStmt(define) if !is_plain(define.kind) => {
                "it defines what runs in statements that do not name it"
            }
            NodeEnum::RenameStmt(rename) if is_routine(rename.rename_type) => {
                "code that names a function finds another one afterwards"
            }
            NodeEnum::AlterObjectSchemaStmt(alter) if is_routine(alter.object_type) => {
                "code that names a function finds another one afterwards"
            }
            _ if is_remote(tree) => "what is read from another server is not followed",
            NodeEnum::AlterTableStmt(alter) if alter.cmds.iter().any(points_elsewhere) => {
                "what is read from another server is not followed"
            }
            NodeEnum::CreateStmt(_)
            | NodeEnum::CreateDomainStmt(_)
            | NodeEnum::AlterDomainStmt(_)
            | NodeEnum::IndexStmt(_)
            | NodeEnum::CreateStatsStmt(_) => {
                return Some(self.expressions(tree.to_ref()).map(|()| Vec::new()));
            }
            _ => return None,
        };
        Some(stop(why))
    }

    /// The expressions of a definition (defaults, checks, keys), which run later: each function,
    /// operator and cast in them must be one whose value depends on its arguments alone.
    pub(super) fn expressions(&mut self, node: NodeRef<'_>) -> Result<(), Stop> {
        let unseen = match node {
            NodeRef::FuncCall(call) => match names::function(&call.funcname) {
                Some(name) => {
                    let called = self.catalog.call(&self.path, &name, Some(call.args.len()));
                    let cast = !called.known && self.catalog.has_type(&name.name);
                    called.reads || !(called.known || cast) || cast && self.reads_cast(&name.name)
                }
                None => true,
            },
            NodeRef::TypeCast(cast) => {
                let name = cast.type_name.as_ref().and_then(|name| name.names.last());
                name.and_then(names::string).is_none_or(|name| self.reads_cast(name))
            }
            NodeRef::AExpr(expression) => names::function(&expression.name)
                .is_none_or(|name| self.catalog.operator_reads(&self.path, &name)),
            _ => false,
        };
        if unseen {
            return stop(
                "an expression that runs later calls what can see more than its arguments",
            );
        }
        self.deeper(|tracer| {
            let mut found = Children::default();
            if let Err(foreign) = children(node, &mut found) {
                return stop(foreign.0);
            }
            found.nodes.into_iter().try_for_each(|child| tracer.expressions(child))
        })
    }

    fn reads_cast(&self, name: &str) -> bool {
        self.catalog.cast_reads(name)
    }

    /// Every table of a schema is known by another name afterwards.
    pub(super) fn schema_renamed(&mut self, schema: &str) -> Cols {
        let catalog = self.catalog;
        // A view is followed to its tables whatever it is called.
        for table in catalog.in_schema(schema).filter(|table| table.kind != Kind::View) {
            for col in self.columns(table)?.iter().cloned() {
                self.keep(format!("{}.{} (altered)", table.relation(), col.name), col.taint)?;
            }
        }
        Ok(Vec::new())
    }
}

/// Collations and text search: they are tables of PostgreSQL's own code.
fn is_plain(kind: i32) -> bool {
    matches!(
        ObjectType::try_from(kind),
        Ok(ObjectType::ObjectCollation
            | ObjectType::ObjectTsconfiguration
            | ObjectType::ObjectTsdictionary
            | ObjectType::ObjectTsparser
            | ObjectType::ObjectTstemplate)
    )
}

fn is_routine(kind: i32) -> bool {
    matches!(
        ObjectType::try_from(kind),
        Ok(ObjectType::ObjectFunction
            | ObjectType::ObjectProcedure
            | ObjectType::ObjectRoutine
            | ObjectType::ObjectAggregate
            | ObjectType::ObjectOperator)
            | Err(_)
    )
}

/// Whether a part of ALTER TABLE changes what a foreign table shows.
fn points_elsewhere(command: &Node) -> bool {
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return true };
    matches!(
        AlterTableType::try_from(command.subtype),
        Ok(AlterTableType::AtGenericOptions | AlterTableType::AtAlterColumnGenericOptions)
    )
}
