//! The names that PostgreSQL gives to outputs without one (`FigureColname`, parse_target.c).

use super::top::{Place, Tracer};
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::walk::{Children, children};
use pg_query::protobuf::{
    AExprKind, MinMaxOp, SqlValueFunctionOp, SubLinkType, XmlExprOp, a_const,
};
use pg_query::protobuf::{JsonExprOp, SubLink};
use pg_query::{Node, NodeEnum, NodeRef};

impl Tracer<'_> {
    /// The name of a target that has none of its own.
    pub(super) fn label(&mut self, node: &Node, place: Place<'_>) -> String {
        self.figure(node, place).map_or_else(|| "?column?".to_owned(), |(name, _)| name)
    }

    /// A name, and whether it is a good one (a cast's or CASE's gives way to it).
    fn figure(&mut self, node: &Node, place: Place<'_>) -> Option<(String, bool)> {
        let good = |name: &str| Some((name.to_owned(), true));
        match node.node.as_ref()? {
            NodeEnum::ColumnRef(column) => {
                good(column.fields.iter().rev().find_map(names::string)?)
            }
            NodeEnum::AIndirection(indirection) => {
                match indirection.indirection.iter().rev().find_map(names::string) {
                    Some(name) => good(name),
                    None => self.figure(indirection.arg.as_deref()?, place),
                }
            }
            NodeEnum::FuncCall(call) => good(call.funcname.last().and_then(names::string)?),
            NodeEnum::AExpr(expression) => {
                let nullif = expression.kind == AExprKind::AexprNullif as i32;
                nullif.then(|| ("nullif".to_owned(), true))
            }
            NodeEnum::TypeCast(cast) => {
                let inner = cast.arg.as_deref().and_then(|arg| self.figure(arg, place));
                match inner {
                    Some((_, true)) => inner,
                    _ => {
                        let name = cast.type_name.as_ref()?.names.last();
                        name.and_then(names::string).map(|name| (name.to_owned(), false)).or(inner)
                    }
                }
            }
            NodeEnum::CollateClause(collate) => self.figure(collate.arg.as_deref()?, place),
            NodeEnum::GroupingFunc(_) => good("grouping"),
            NodeEnum::MergeSupportFunc(_) => good("merge_action"),
            NodeEnum::SubLink(link) => self.sublink_name(link, place),
            NodeEnum::CaseExpr(case) => {
                match case.defresult.as_deref().and_then(|node| self.figure(node, place)) {
                    Some((name, true)) => good(&name),
                    _ => Some(("case".to_owned(), false)),
                }
            }
            NodeEnum::AArrayExpr(_) => good("array"),
            NodeEnum::RowExpr(_) => good("row"),
            NodeEnum::CoalesceExpr(_) => good("coalesce"),
            NodeEnum::MinMaxExpr(expression) => {
                good(match expression.op == MinMaxOp::IsLeast as i32 {
                    true => "least",
                    false => "greatest",
                })
            }
            NodeEnum::SqlvalueFunction(value) => good(value_function(value.op)?),
            NodeEnum::XmlExpr(expression) => {
                good(match XmlExprOp::try_from(expression.op).ok()? {
                    XmlExprOp::IsXmlconcat => "xmlconcat",
                    XmlExprOp::IsXmlelement => "xmlelement",
                    XmlExprOp::IsXmlforest => "xmlforest",
                    XmlExprOp::IsXmlparse => "xmlparse",
                    XmlExprOp::IsXmlpi => "xmlpi",
                    XmlExprOp::IsXmlroot => "xmlroot",
                    _ => return None,
                })
            }
            NodeEnum::XmlSerialize(_) => good("xmlserialize"),
            NodeEnum::JsonParseExpr(_) => good("json"),
            NodeEnum::JsonScalarExpr(_) => good("json_scalar"),
            NodeEnum::JsonSerializeExpr(_) => good("json_serialize"),
            NodeEnum::JsonObjectConstructor(_) => good("json_object"),
            NodeEnum::JsonArrayConstructor(_) | NodeEnum::JsonArrayQueryConstructor(_) => {
                good("json_array")
            }
            NodeEnum::JsonObjectAgg(_) => good("json_objectagg"),
            NodeEnum::JsonArrayAgg(_) => good("json_arrayagg"),
            NodeEnum::JsonFuncExpr(expression) => {
                good(match JsonExprOp::try_from(expression.op).ok()? {
                    JsonExprOp::JsonExistsOp => "json_exists",
                    JsonExprOp::JsonQueryOp => "json_query",
                    JsonExprOp::JsonValueOp => "json_value",
                    _ => return None,
                })
            }
            _ => None,
        }
    }

    fn sublink_name(&mut self, link: &SubLink, place: Place<'_>) -> Option<(String, bool)> {
        match SubLinkType::try_from(link.sub_link_type).ok()? {
            SubLinkType::ExistsSublink => Some(("exists".to_owned(), true)),
            SubLinkType::ArraySublink => Some(("array".to_owned(), true)),
            SubLinkType::ExprSublink => {
                let query = link.subselect.as_deref()?.node.as_ref()?;
                let looked_at = self.looked_at.clone();
                let cols = self.query(query, place);
                self.looked_at = looked_at;
                Some((cols.ok()?.into_iter().next()?.name, true))
            }
            _ => None,
        }
    }
}

fn value_function(op: i32) -> Option<&'static str> {
    use SqlValueFunctionOp as Op;
    Some(match Op::try_from(op).ok()? {
        Op::SvfopCurrentDate => "current_date",
        Op::SvfopCurrentTime | Op::SvfopCurrentTimeN => "current_time",
        Op::SvfopCurrentTimestamp | Op::SvfopCurrentTimestampN => "current_timestamp",
        Op::SvfopLocaltime | Op::SvfopLocaltimeN => "localtime",
        Op::SvfopLocaltimestamp | Op::SvfopLocaltimestampN => "localtimestamp",
        Op::SvfopCurrentRole => "current_role",
        Op::SvfopCurrentUser => "current_user",
        Op::SvfopUser => "user",
        Op::SvfopSessionUser => "session_user",
        Op::SvfopCurrentCatalog => "current_catalog",
        Op::SvfopCurrentSchema => "current_schema",
        Op::SqlvalueFunctionOpUndefined => return None,
    })
}

/// A column that is named by one word.
pub(super) fn bare_name(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::ColumnRef(column) => match &column.fields[..] {
            [field] => names::string(field),
            _ => None,
        },
        _ => None,
    }
}

/// A number, which in ORDER BY and GROUP BY counts the outputs from 1.
pub(super) fn ordinal(node: &Node) -> Option<usize> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Ival(value) => usize::try_from(value.ival).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// The parts of `(a, b)` without the word ROW, which GROUP BY takes for a list.
pub(super) fn row_items(node: &Node) -> Option<&[Node]> {
    match node.node.as_ref()? {
        NodeEnum::RowExpr(row) => Some(&row.args),
        NodeEnum::List(list) => Some(&list.items),
        _ => None,
    }
}

/// Whether a call over a window is anywhere in an expression.
pub(super) fn has_window(node: &Node) -> bool {
    let Some(node) = node.node.as_ref() else { return false };
    let mut open = vec![node.to_ref()];
    while let Some(node) = open.pop() {
        if matches!(node, NodeRef::WindowDef(_)) {
            return true;
        }
        let mut found = Children::default();
        if children(node, &mut found).is_err() {
            return true;
        }
        open.extend(found.nodes);
    }
    false
}
