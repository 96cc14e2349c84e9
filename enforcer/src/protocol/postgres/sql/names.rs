//! Names out of the parse tree.

use super::statement::{Function, Relation};
use pg_query::protobuf::{RangeVar, a_const};
use pg_query::{Node, NodeEnum};

/// The strings of a list of names; `None` when something else is in it.
pub(super) fn strings(nodes: &[Node]) -> Option<Vec<&str>> {
    nodes.iter().map(string).collect()
}

/// A node that is a string.
pub(super) fn string(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::String(string) => Some(&string.sval),
        _ => None,
    }
}

/// A constant's text: strings as they are, numbers and booleans as they are written.
pub(super) fn constant(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Ival(value) => Some(value.ival.to_string()),
            a_const::Val::Fval(value) => Some(value.fval.clone()),
            a_const::Val::Boolval(value) => Some(value.boolval.to_string()),
            a_const::Val::Sval(value) => Some(value.sval.clone()),
            a_const::Val::Bsval(value) => Some(value.bsval.clone()),
        },
        NodeEnum::TypeCast(cast) => constant(cast.arg.as_deref()?),
        _ => None,
    }
}

/// The name of a function or operator, with its schema where there is one.
pub(super) fn function(names: &[Node]) -> Option<Function> {
    let names = strings(names)?;
    let (name, schema) = names.split_last()?;
    let schema = schema.last().map(|schema| (*schema).to_owned());
    Some(Function { schema, name: (*name).to_owned(), keyword: false })
}

/// The relation a RangeVar names.
pub(super) fn relation(range: &RangeVar) -> Relation {
    let schema = (!range.schemaname.is_empty()).then(|| range.schemaname.clone());
    Relation { schema, name: range.relname.clone() }
}

/// The relation that a list of strings names: `[[database,] schema,] name`.
pub(super) fn listed(names: &[&str]) -> Option<Relation> {
    let (name, schema) = names.split_last()?;
    let schema = schema.last().map(|schema| (*schema).to_owned());
    Some(Relation { schema, name: (*name).to_owned() })
}

/// The nodes of a list node.
pub(super) fn items(node: &Node) -> Option<&[Node]> {
    match node.node.as_ref()? {
        NodeEnum::List(list) => Some(&list.items),
        _ => None,
    }
}
