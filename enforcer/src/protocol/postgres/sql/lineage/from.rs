//! FROM: tables, subqueries, functions, joins.

use super::expression::rename;
use super::scope::{Item, Scope};
use super::taint::{Col, Taint, all};
use super::top::{Place, Stop, Tracer, stop};
use crate::protocol::postgres::sql::catalog::Table;
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::statement::Function;
use pg_query::protobuf::{
    Alias, JoinExpr, JsonTable, RangeFunction, RangeSubselect, RangeTableFunc,
};
use pg_query::{Node, NodeEnum, NodeRef};

/// Result types whose columns the arguments decide: anyelement, anyarray, record and the like.
const POLYMORPHIC: [u32; 8] = [2249, 2277, 2283, 2776, 3500, 5077, 5078, 5079];

/// Of these those that stand for one type in a call: anyelement, anycompatible.
const SAME: [u32; 2] = [2283, 5077];

impl Tracer<'_> {
    /// What a list in FROM brings in sight. A LATERAL part sees what stands before it.
    pub(super) fn from(&mut self, from: &[Node], place: Place<'_>) -> Result<Vec<Item>, Stop> {
        let mut items = Vec::new();
        for node in from {
            let more = self.source(node, &items, place)?;
            items.extend(more);
        }
        Ok(items)
    }

    fn source(
        &mut self,
        node: &Node,
        before: &[Item],
        place: Place<'_>,
    ) -> Result<Vec<Item>, Stop> {
        self.deeper(|tracer| {
            let lateral = Scope::new(before.to_vec(), Some(place.scope));
            let beside = Place { scope: &lateral, ctes: place.ctes };
            let one = match &node.node {
                Some(NodeEnum::RangeVar(range)) => tracer.range(range, place)?,
                Some(NodeEnum::RangeSubselect(select)) => {
                    tracer.subselect(select, if select.lateral { beside } else { place })?
                }
                Some(NodeEnum::RangeFunction(function)) => tracer.functions(function, beside)?,
                Some(NodeEnum::RangeTableFunc(table)) => tracer.xml_table(table, beside)?,
                Some(NodeEnum::JsonTable(table)) => tracer.json_table(table, beside)?,
                Some(NodeEnum::RangeTableSample(sample)) => {
                    let Some(relation) = sample.relation.as_deref() else {
                        return stop("TABLESAMPLE has no table");
                    };
                    for arg in sample.args.iter().chain(sample.repeatable.as_deref()) {
                        let taint = tracer.value(arg, beside)?;
                        tracer.look(&taint);
                    }
                    return tracer.source(relation, before, place);
                }
                Some(NodeEnum::JoinExpr(join)) => return tracer.join(join, before, place),
                _ => return stop("a part of FROM is of an unknown kind"),
            };
            Ok(vec![one])
        })
    }

    fn subselect(&mut self, select: &RangeSubselect, place: Place<'_>) -> Result<Item, Stop> {
        let Some(query) = select.subquery.as_deref().and_then(|node| node.node.as_ref()) else {
            return stop("a subquery is missing");
        };
        let mut cols = self.query(query, place)?;
        rename(&mut cols, select.alias.as_ref())?;
        Ok(Item::new(select.alias.as_ref().map(|alias| alias.aliasname.clone()), cols))
    }

    fn join(
        &mut self,
        join: &JoinExpr,
        before: &[Item],
        place: Place<'_>,
    ) -> Result<Vec<Item>, Stop> {
        let (Some(left), Some(right)) = (join.larg.as_deref(), join.rarg.as_deref()) else {
            return stop("a join has one side");
        };
        let left = self.source(left, before, place)?;
        let seen: Vec<Item> = before.iter().chain(&left).cloned().collect();
        let right = self.source(right, &seen, place)?;

        let (left_cols, right_cols) = (bare(&left), bare(&right));
        let open = open(&left).into_iter().chain(open(&right)).reduce(|mut all, taint| {
            all.mix(&taint);
            all
        });
        if open.is_some() && (join.is_natural || !join.using_clause.is_empty()) {
            return stop("the columns of a function that is joined by name are not known");
        }
        let Some(using) = names::strings(&join.using_clause) else {
            return stop("USING names no column");
        };
        let shared: Vec<String> = match join.is_natural {
            false => using.into_iter().map(str::to_owned).collect(),
            true => left_cols
                .iter()
                .filter(|col| right_cols.iter().any(|other| other.name == col.name))
                .map(|col| col.name.clone())
                .collect(),
        };
        let mut cols = Vec::new();
        for name in &shared {
            let sides = (find(&left_cols, name), find(&right_cols, name));
            let (Some(left), Some(right)) = sides else {
                return stop(format!("USING ({name}) is not known on both sides"));
            };
            let mut taint = left.taint.clone();
            taint.either(&right.taint);
            self.look(&taint);
            cols.push(Col::new(name.clone(), taint));
        }
        let merged = cols.clone();
        let rest = left_cols.into_iter().chain(right_cols);
        cols.extend(rest.filter(|col| !shared.contains(&col.name)));

        let mut inner: Vec<Item> = left.into_iter().chain(right).collect();
        for item in &mut inner {
            item.bare = false;
        }
        if let Some(quals) = join.quals.as_deref() {
            let mut sides = before.to_vec();
            sides.extend(inner.iter().cloned());
            sides.push(Item::new(None, cols.clone()));
            let scope = Scope::new(sides, Some(place.scope));
            let taint = self.value(quals, Place { scope: &scope, ctes: place.ctes })?;
            self.look(&taint);
        }
        if let Some(alias) = &join.join_using_alias {
            let mut item = Item::new(Some(alias.aliasname.clone()), merged);
            item.bare = false;
            inner.push(item);
        }
        let mut whole = Item::new(None, cols);
        whole.open = open;
        if let Some(alias) = &join.alias {
            // An alias of the join hides what it is made of.
            inner.clear();
            rename(&mut whole.cols, Some(alias))?;
            whole.name = Some(alias.aliasname.clone());
            whole.named = true;
        }
        inner.push(whole);
        Ok(inner)
    }

    /// Functions in FROM, with or without ROWS FROM.
    fn functions(&mut self, range: &RangeFunction, place: Place<'_>) -> Result<Item, Stop> {
        let alias = range.alias.as_ref();
        let (mut cols, mut open) = (Vec::new(), None::<Taint>);
        let alone = range.functions.len() == 1;
        let mut first = None;
        for function in &range.functions {
            let Some([call, defined @ ..]) = names::items(function) else {
                return stop("a function in FROM is none");
            };
            let taint = self.value(call, place)?.changed();
            let name = self.label(call, place);
            let defined = defined.first().and_then(names::items).unwrap_or(&range.coldeflist);
            match self.shape(call, defined, alias.filter(|_| alone), &name) {
                Some(names) => {
                    cols.extend(names.into_iter().map(|name| Col::new(name, taint.clone())));
                }
                None => open.get_or_insert_default().mix(&taint),
            }
            first.get_or_insert(name);
        }
        if range.ordinality {
            cols.push(Col::new("ordinality", Taint::default()));
        }
        if let (Some(open), Some(alias)) = (&open, alias) {
            // The alias may name columns of what is not known.
            let names = names::strings(&alias.colnames).unwrap_or_default();
            let mut taint = all(&cols);
            taint.mix(open);
            cols = names.into_iter().map(|name| Col::new(name, taint.clone())).collect();
            open_with(&mut cols, range.ordinality);
        } else {
            rename(&mut cols, alias)?;
        }
        let name = alias.map(|alias| alias.aliasname.clone()).or(first);
        let mut item = Item::new(name, cols);
        item.open = open;
        Ok(item)
    }

    /// The names of the columns of a function in FROM; `None` when they cannot be told.
    pub(super) fn shape(
        &self,
        call: &Node,
        defined: &[Node],
        alias: Option<&Alias>,
        name: &str,
    ) -> Option<Vec<String>> {
        if !defined.is_empty() {
            let column = |node: &Node| match node.node.as_ref()? {
                NodeEnum::ColumnDef(column) => Some(column.colname.clone()),
                _ => None,
            };
            return defined.iter().map(column).collect();
        }
        let single = alias.map_or(name, |alias| &alias.aliasname).to_owned();
        let Some(NodeEnum::FuncCall(function)) = call.node.as_ref() else {
            // CURRENT_USER and the like, a cast.
            return Some(vec![single]);
        };
        let named = names::function(&function.funcname)?;
        if named.name == "unnest" {
            // Arrays of rows give the columns of a row, and a tsvector three of its own.
            let scalars = function.args.iter().all(|arg| self.array_of_scalars(arg));
            return match function.args.len() {
                1 => scalars.then(|| vec![single]),
                arrays => scalars.then(|| vec!["unnest".to_owned(); arrays]),
            };
        }
        let mut shapes = self.shapes(&named, function.args.len(), &single);
        let first = shapes.next()??;
        if shapes.any(|shape| shape.as_ref() != Some(&first)) {
            return None;
        }
        drop(shapes);
        let polymorphic = first.is_empty();
        match polymorphic {
            false => Some(first),
            true => match self.row_given(&named, &function.args) {
                Some(row) => Some(row.columns.iter().map(|col| col.name.to_string()).collect()),
                None => function.args.iter().all(|arg| self.rowless(arg)).then(|| vec![single]),
            },
        }
    }

    /// The row type that a function which gives back a value of its argument's type is called
    /// with, where the argument says it (`NULL::row`).
    fn row_given(&self, function: &Function, args: &[Node]) -> Option<&Table> {
        let named = |arg: &Node| matches!(arg.node, Some(NodeEnum::NamedArgExpr(_)));
        if args.iter().any(named) {
            return None;
        }
        let mut given = self.catalog.routines(&self.path, function, Some(args.len())).map(|one| {
            let same = one.inputs.iter().position(|input| *input == one.result);
            same.filter(|_| SAME.contains(&one.result))
        });
        let first = given.next()??;
        if given.any(|other| other != Some(first)) {
            return None;
        }
        match args.get(first)?.node.as_ref()? {
            NodeEnum::TypeCast(cast) => self.catalog.row(&self.path, cast.type_name.as_ref()?),
            _ => None,
        }
    }

    /// The columns of each function a call could mean: none for what its arguments decide.
    fn shapes<'s>(
        &'s self,
        function: &'s Function,
        arguments: usize,
        single: &'s str,
    ) -> impl Iterator<Item = Option<Vec<String>>> + 's {
        self.catalog.routines(&self.path, function, Some(arguments)).map(move |routine| {
            match (&routine.outputs[..], self.catalog.composite(routine.result)) {
                ([(name, _)], _) => Some(vec![name.clone()]),
                ([], Some(row)) => {
                    Some(row.columns.iter().map(|column| column.name.to_string()).collect())
                }
                // A record without columns of its own.
                ([], None) if routine.result == 2249 => None,
                ([], None) if POLYMORPHIC.contains(&routine.result) => Some(Vec::new()),
                ([], None) => Some(vec![single.to_owned()]),
                (outputs, _) => Some(outputs.iter().map(|(name, _)| name.clone()).collect()),
            }
        })
    }

    /// Whether an argument surely is an array, and none of rows.
    fn array_of_scalars(&self, node: &Node) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AArrayExpr(_)) => self.rowless(node),
            Some(NodeEnum::TypeCast(cast)) => {
                cast.type_name.as_ref().is_some_and(|name| !name.array_bounds.is_empty())
                    && self.rowless(node)
            }
            Some(NodeEnum::FuncCall(call)) => {
                let Some(function) = names::function(&call.funcname) else { return false };
                let args = Some(call.args.len());
                let array = |oid| self.catalog.type_by_oid(oid).is_some_and(|t| t.element != 0);
                self.rowless(node)
                    && self
                        .catalog
                        .routines(&self.path, &function, args)
                        .all(|routine| array(routine.result))
            }
            _ => false,
        }
    }

    /// Whether an argument surely is no row, and no array of rows.
    fn rowless(&self, node: &Node) -> bool {
        match node.node.as_ref() {
            Some(NodeEnum::AConst(_)) => true,
            Some(NodeEnum::TypeCast(cast)) => {
                let name = cast.type_name.as_ref().and_then(|name| name.names.last());
                name.and_then(names::string).is_some_and(|name| self.catalog.scalar_named(name))
            }
            Some(NodeEnum::AArrayExpr(array)) => {
                array.elements.iter().all(|item| self.rowless(item))
            }
            Some(NodeEnum::FuncCall(call)) => {
                let Some(function) = names::function(&call.funcname) else { return false };
                let args = Some(call.args.len());
                let mut all = self.catalog.routines(&self.path, &function, args).peekable();
                all.peek().is_some() && all.all(|routine| self.catalog.scalar(routine.result))
            }
            _ => false,
        }
    }

    fn xml_table(&mut self, table: &RangeTableFunc, place: Place<'_>) -> Result<Item, Stop> {
        let taint = self.mixed(NodeRef::RangeTableFunc(table), place)?.changed();
        let column = |node: &Node| match node.node.as_ref()? {
            NodeEnum::RangeTableFuncCol(column) => {
                Some(Col::new(column.colname.clone(), taint.clone()))
            }
            _ => None,
        };
        let Some(mut cols) = table.columns.iter().map(column).collect::<Option<Vec<_>>>() else {
            return stop("a column of XMLTABLE is none");
        };
        let alias = table.alias.as_ref();
        rename(&mut cols, alias)?;
        let name = alias.map_or("xmltable", |alias| &alias.aliasname);
        Ok(Item::new(Some(name.to_owned()), cols))
    }

    fn json_table(&mut self, table: &JsonTable, place: Place<'_>) -> Result<Item, Stop> {
        let taint = self.mixed(NodeRef::JsonTable(table), place)?.changed();
        let mut names = Vec::new();
        if !json_columns(&table.columns, &mut names) {
            return stop("a column of JSON_TABLE is none");
        }
        let mut cols: Vec<Col> =
            names.into_iter().map(|name| Col::new(name, taint.clone())).collect();
        let alias = table.alias.as_ref();
        rename(&mut cols, alias)?;
        let name = alias.map_or("json_table", |alias| &alias.aliasname);
        Ok(Item::new(Some(name.to_owned()), cols))
    }
}

/// The last column of what is not known may be the ordinality: it is nobody's value, but which
/// one it is cannot be told.
fn open_with(cols: &mut Vec<Col>, ordinality: bool) {
    if ordinality && cols.iter().all(|col| col.name != "ordinality") {
        let taint = all(cols.iter());
        cols.push(Col::new("ordinality", taint));
    }
}

/// The columns of JSON_TABLE with the nested ones, a level's own first.
fn json_columns(columns: &[Node], names: &mut Vec<String>) -> bool {
    let mut nested = Vec::new();
    for column in columns {
        let Some(NodeEnum::JsonTableColumn(column)) = &column.node else { return false };
        match column.columns.is_empty() {
            true => names.push(column.name.clone()),
            false => nested.push(&column.columns),
        }
    }
    nested.into_iter().all(|columns| json_columns(columns, names))
}

/// The columns of one side of a join.
fn bare(items: &[Item]) -> Vec<Col> {
    items.iter().filter(|item| item.bare).flat_map(|item| item.cols.clone()).collect()
}

/// What columns of one side depend on that are not known.
fn open(items: &[Item]) -> Vec<Taint> {
    items.iter().filter(|item| item.bare).filter_map(|item| item.open.clone()).collect()
}

fn find<'c>(cols: &'c [Col], name: &str) -> Option<&'c Col> {
    cols.iter().find(|col| col.name == name)
}
