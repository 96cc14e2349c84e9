//! Expressions: what a value depends on.

use super::scope::{Found, Item};
use super::taint::{Col, Taint, all};
use super::top::{Cols, Place, Stop, Tracer, stop};
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::walk::{Children, children};
use pg_query::protobuf::{AIndirection, Alias, ColumnRef, SubLink, SubLinkType};
use pg_query::{Node, NodeEnum, NodeRef};

impl Tracer<'_> {
    /// What the value of an expression depends on.
    pub(super) fn value(&mut self, node: &Node, place: Place<'_>) -> Result<Taint, Stop> {
        match &node.node {
            Some(node) => self.expression(node.to_ref(), place),
            None => Ok(Taint::default()),
        }
    }

    pub(super) fn expression(
        &mut self,
        node: NodeRef<'_>,
        place: Place<'_>,
    ) -> Result<Taint, Stop> {
        let taint = self.parts(node, place)?;
        self.blind |= taint.opaque.is_some();
        Ok(taint)
    }

    fn parts(&mut self, node: NodeRef<'_>, place: Place<'_>) -> Result<Taint, Stop> {
        self.deeper(|tracer| match node {
            NodeRef::AConst(_)
            | NodeRef::ParamRef(_)
            | NodeRef::String(_)
            | NodeRef::TypeName(_)
            | NodeRef::Alias(_) => Ok(Taint::default()),
            NodeRef::ColumnRef(column) => tracer.column(column, place),
            NodeRef::AIndirection(indirection) => tracer.indirection(indirection, place),
            NodeRef::SubLink(link) => tracer.sublink(link, place),
            NodeRef::SelectStmt(select) => Ok(all(&tracer.select(select, place)?)),
            NodeRef::FuncCall(call) => tracer.call(call, place),
            NodeRef::CollateClause(collate) => match collate.arg.as_deref() {
                Some(arg) => tracer.value(arg, place),
                None => Ok(Taint::default()),
            },
            NodeRef::TypeCast(cast) => {
                let mut taint = tracer.mixed(node, place)?;
                let name = cast.type_name.as_ref().and_then(|name| name.names.last());
                if name.and_then(names::string).is_none_or(|name| tracer.catalog.cast_reads(name)) {
                    taint.mix(&Taint::opaque("a cast runs a function that is not followed"));
                }
                Ok(taint)
            }
            NodeRef::AExpr(expression) => {
                let mut taint = tracer.mixed(node, place)?;
                let operator = names::function(&expression.name);
                if operator.is_none_or(|name| tracer.catalog.operator_reads(&tracer.path, &name)) {
                    taint.mix(&Taint::opaque("an operator's function is not followed"));
                }
                Ok(taint)
            }
            _ => tracer.mixed(node, place),
        })
    }

    /// Everything that any child depends on.
    pub(super) fn mixed(&mut self, node: NodeRef<'_>, place: Place<'_>) -> Result<Taint, Stop> {
        let mut found = Children::default();
        if let Err(foreign) = children(node, &mut found) {
            return stop(foreign.0);
        }
        let mut taint = Taint::default();
        for child in found.nodes {
            taint.mix(&self.expression(child, place)?);
        }
        Ok(taint)
    }

    /// `column`, `table.column`, `schema.table.column`, a whole row, or a function of a row in
    /// the notation of a column.
    fn column(&mut self, column: &ColumnRef, place: Place<'_>) -> Result<Taint, Stop> {
        let Some(fields) = names::strings(&column.fields) else {
            // `count(t.*)`: the row.
            return self.row(column, place);
        };
        let scope = place.scope;
        match fields[..] {
            [name] => match (scope.bare(name), scope.item(None, name)) {
                (Some(taint), _) => Ok(taint),
                (None, Some(item)) => Ok(item.row()),
                (None, None) => stop(format!("no column {name} is known here")),
            },
            [table, name] => self.dotted(None, table, name, place),
            [schema, table, name] | [_, schema, table, name] => {
                self.dotted(Some(schema), table, name, place)
            }
            _ => stop("a column's name has too many parts"),
        }
    }

    fn dotted(
        &mut self,
        schema: Option<&str>,
        table: &str,
        name: &str,
        place: Place<'_>,
    ) -> Result<Taint, Stop> {
        match place.scope.dotted(schema, table, name) {
            Some(Found::Column(taint)) => Ok(taint),
            Some(Found::Item(item)) => {
                let row = item.row();
                self.of_row(name, row)
            }
            None => stop(format!("no column {table}.{name} is known here")),
        }
    }

    fn row(&self, column: &ColumnRef, place: Place<'_>) -> Result<Taint, Stop> {
        match self.starred(column, place)? {
            Some(item) => Ok(item.row()),
            None => {
                let mut taint = Taint::default();
                for item in place.scope.items.iter().filter(|item| item.bare) {
                    taint.mix(&item.row());
                }
                Ok(taint)
            }
        }
    }

    /// The item before a star; `None` for a star alone.
    fn starred<'s>(&self, column: &ColumnRef, place: Place<'s>) -> Result<Option<&'s Item>, Stop> {
        let (last, before) = match column.fields.split_last() {
            Some(split) => split,
            None => return stop("a column has no name"),
        };
        let star = matches!(last.node, Some(NodeEnum::AStar(_)));
        let (true, Some(before)) = (star, names::strings(before)) else {
            return stop("a column's name is none");
        };
        let found = match before[..] {
            [] => return Ok(None),
            [table] => place.scope.item(None, table),
            [schema, table] | [_, schema, table] => place.scope.item(Some(schema), table),
            _ => None,
        };
        match found {
            Some(item) => Ok(Some(item)),
            None => stop(format!("no table {} is known here", before.join("."))),
        }
    }

    /// The columns that a target with a star stands for; `None` for a target without.
    pub(super) fn star(&mut self, node: &Node, place: Place<'_>) -> Result<Option<Vec<Col>>, Stop> {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => {
                let last = column.fields.last().and_then(|field| field.node.as_ref());
                if !matches!(last, Some(NodeEnum::AStar(_))) {
                    return Ok(None);
                }
                match self.starred(column, place)? {
                    Some(item) => expand(item).map(Some),
                    None => {
                        let mut cols = Vec::new();
                        for item in place.scope.items.iter().filter(|item| item.bare) {
                            cols.extend(expand(item)?);
                        }
                        Ok(Some(cols))
                    }
                }
            }
            Some(NodeEnum::AIndirection(indirection)) => {
                let last = indirection.indirection.last().and_then(|field| field.node.as_ref());
                if !matches!(last, Some(NodeEnum::AStar(_))) {
                    return Ok(None);
                }
                let [_] = indirection.indirection[..] else {
                    return stop("the columns of a row within a row are not known");
                };
                match self.whole(indirection, place) {
                    Some(item) => expand(item).map(Some),
                    None => self.columns_of_call(indirection.arg.as_deref(), place).map(Some),
                }
            }
            _ => Ok(None),
        }
    }

    /// The item whose whole row an indirection starts from: `(t).column`, `(t).*`.
    fn whole<'s>(&self, indirection: &AIndirection, place: Place<'s>) -> Option<&'s Item> {
        let Some(NodeEnum::ColumnRef(column)) = indirection.arg.as_deref()?.node.as_ref() else {
            return None;
        };
        match names::strings(&column.fields)?[..] {
            [name] if place.scope.bare(name).is_none() => place.scope.item(None, name),
            _ => None,
        }
    }

    /// `(function(...)).*`.
    fn columns_of_call(&mut self, call: Option<&Node>, place: Place<'_>) -> Cols {
        let names = call.and_then(|call| match &call.node {
            Some(NodeEnum::FuncCall(_)) => self.shape(call, &[], None, ""),
            _ => None,
        });
        let (Some(call), Some(names)) = (call, names) else {
            return stop("the columns of a row are not known");
        };
        let taint = self.value(call, place)?.changed();
        Ok(names.into_iter().map(|name| Col::new(name, taint.clone())).collect())
    }

    fn indirection(&mut self, indirection: &AIndirection, place: Place<'_>) -> Result<Taint, Stop> {
        let first = indirection.indirection.first();
        if let (Some(item), Some(name)) =
            (self.whole(indirection, place), first.and_then(names::string))
        {
            let mut taint = match item.column(name) {
                Some(taint) => taint,
                None => self.of_row(name, item.row())?,
            };
            for more in indirection.indirection.iter().skip(1) {
                taint.mix(&self.value(more, place)?);
            }
            return Ok(taint);
        }
        let mut taint = match indirection.arg.as_deref() {
            Some(arg) => self.value(arg, place)?.changed(),
            None => Taint::default(),
        };
        for part in &indirection.indirection {
            taint = match names::string(part) {
                // A field of a row that is not known, or a function in the same notation.
                Some(name) => self.field(name, taint),
                None => {
                    taint.mix(&self.value(part, place)?);
                    taint
                }
            };
        }
        Ok(taint)
    }

    /// Subqueries as values. What EXISTS and the like tell is what their conditions look at.
    fn sublink(&mut self, link: &SubLink, place: Place<'_>) -> Result<Taint, Stop> {
        let Some(query) = link.subselect.as_deref().and_then(|node| node.node.as_ref()) else {
            return stop("a subquery is missing");
        };
        let scalar = matches!(
            SubLinkType::try_from(link.sub_link_type),
            Ok(SubLinkType::ExprSublink | SubLinkType::ArraySublink)
        );
        let before = std::mem::take(&mut self.looked_at);
        let cols = self.query(query, place);
        let within = std::mem::replace(&mut self.looked_at, before);
        let cols = cols?;
        let mut taint = match (&cols[..], link.sub_link_type) {
            ([col], kind) if kind == SubLinkType::ExprSublink as i32 => col.taint.clone(),
            _ => all(&cols),
        };
        if !scalar {
            taint.columns.extend(within.iter().cloned());
            taint.unchanged = false;
        }
        self.looked_at.extend(within);
        if let Some(test) = link.testexpr.as_deref() {
            taint.mix(&self.value(test, place)?);
        }
        let operator = names::function(&link.oper_name);
        if operator.is_some_and(|name| self.catalog.operator_reads(&self.path, &name)) {
            taint.mix(&Taint::opaque("an operator's function is not followed"));
        }
        Ok(taint)
    }
}

/// The columns of `item.*`.
fn expand(item: &Item) -> Cols {
    match &item.open {
        Some(_) => stop(format!(
            "the columns of {} are not known",
            item.name.as_deref().unwrap_or("a function")
        )),
        None => Ok(item.cols.clone()),
    }
}

/// Gives columns the names that an alias has for them.
pub(super) fn rename(cols: &mut [Col], alias: Option<&Alias>) -> Result<(), Stop> {
    let Some(alias) = alias else { return Ok(()) };
    let Some(names) = names::strings(&alias.colnames) else {
        return stop("the name of a column is none");
    };
    for (col, name) in cols.iter_mut().zip(names) {
        name.clone_into(&mut col.name);
    }
    Ok(())
}
