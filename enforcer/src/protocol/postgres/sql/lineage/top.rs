//! From a whole statement to its trace.

use super::scope::Scope;
use super::table::Relations;
use super::taint::{Col, Taint};
use super::{ColumnRef, Output, Trace, Untraceable};
use crate::protocol::postgres::sql::catalog::Catalog;
use crate::protocol::postgres::sql::names;
use pg_query::protobuf::{AlterTableType, CopyStmt, ObjectType, RangeVar};
use pg_query::{Node, NodeEnum};
use std::collections::BTreeSet;

/// Nodes that are looked at for one statement, again where a recursive query comes back to them.
const MAX_STEPS: usize = 1_000_000;
/// How deep expressions, queries and views go within each other, taken together.
const MAX_DEPTH: usize = 200;

/// Why a part of a query cannot be told.
#[derive(Clone, Debug)]
pub(super) enum Stop {
    /// It never can.
    Untraceable(String),
    /// It names a common table expression of a recursive WITH that was not looked at yet.
    NotYet,
}

/// The columns of a query, or why they cannot be told.
pub(super) type Cols = Result<Vec<Col>, Stop>;

pub(super) fn stop<T>(why: impl Into<String>) -> Result<T, Stop> {
    Err(Stop::Untraceable(why.into()))
}

/// The common table expressions in sight of one WITH.
#[derive(Default)]
pub(super) struct Ctes<'p> {
    pub(super) known: Vec<(String, Option<Vec<Col>>)>,
    pub(super) outer: Option<&'p Self>,
}

impl Ctes<'_> {
    pub(super) fn find(&self, name: &str) -> Option<Cols> {
        let levels = std::iter::successors(Some(self), |level| level.outer);
        for level in levels {
            if let Some((_, cols)) = level.known.iter().rev().find(|(known, _)| known == name) {
                return Some(cols.clone().ok_or(Stop::NotYet));
            }
        }
        None
    }
}

/// What one trace knows and gathers.
pub(super) struct Tracer<'c> {
    pub(super) catalog: &'c Catalog,
    pub(super) path: Vec<String>,
    pub(super) looked_at: BTreeSet<ColumnRef>,
    pub(super) kept: Vec<Output>,
    pub(super) blind: bool,
    pub(super) relations: Relations,
    pub(super) steps: usize,
    pub(super) depth: usize,
}

/// Where names of one query are looked up.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) scope: &'p Scope<'p>,
    pub(super) ctes: &'p Ctes<'p>,
}

pub(super) fn trace(
    tree: &NodeEnum,
    catalog: &Catalog,
    path: &[String],
) -> Result<Trace, Untraceable> {
    let mut tracer = Tracer {
        catalog,
        path: path.to_vec(),
        looked_at: BTreeSet::new(),
        kept: Vec::new(),
        blind: false,
        relations: Relations::default(),
        steps: 0,
        depth: 0,
    };
    let outputs = tracer.top(tree).map_err(|stop| match stop {
        Stop::Untraceable(why) => Untraceable(why),
        Stop::NotYet => Untraceable("a recursive WITH whose parts name each other".to_owned()),
    })?;
    let outputs = outputs.into_iter().map(Col::output).collect::<Result<_, _>>();
    let outputs = outputs.map_err(|why| Untraceable(why.to_string()))?;
    tracer.kept.dedup();
    Ok(Trace { outputs, looked_at: tracer.looked_at, kept: tracer.kept, blind: tracer.blind })
}

impl Tracer<'_> {
    /// Counts a node, and the depth while `inner` runs.
    pub(super) fn deeper<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.steps += 1;
        if self.steps > MAX_STEPS {
            return stop("the statement is too large to follow");
        }
        if self.depth >= MAX_DEPTH {
            return stop("the statement and its views nest too deep to follow");
        }
        self.depth += 1;
        let done = inner(self);
        self.depth -= 1;
        done
    }

    /// What a condition, an order or a group looks at.
    pub(super) fn look(&mut self, taint: &Taint) {
        self.blind |= taint.opaque.is_some();
        self.looked_at.extend(taint.columns.iter().cloned());
    }

    /// A value that goes somewhere else than to the client.
    pub(super) fn keep(&mut self, name: String, taint: Taint) -> Result<(), Stop> {
        if taint.is_empty() {
            return Ok(());
        }
        match Col::new(name, taint).output() {
            Ok(output) if self.kept.contains(&output) => Ok(()),
            Ok(output) => {
                self.kept.push(output);
                Ok(())
            }
            Err(why) => stop(&*why),
        }
    }

    fn top(&mut self, tree: &NodeEnum) -> Cols {
        let (scope, ctes) = (Scope::new(Vec::new(), None), Ctes::default());
        let place = Place { scope: &scope, ctes: &ctes };
        if let Some(defined) = self.definition(tree) {
            return defined;
        }
        match tree {
            NodeEnum::SelectStmt(_)
            | NodeEnum::InsertStmt(_)
            | NodeEnum::UpdateStmt(_)
            | NodeEnum::DeleteStmt(_)
            | NodeEnum::MergeStmt(_) => self.query(tree, place),
            NodeEnum::ExplainStmt(explain) => {
                // Its lines hold no values, but planning folds functions into them.
                let outputs = self.inner(explain.query.as_deref(), place)?;
                if let Some(why) = outputs.into_iter().find_map(|col| col.taint.opaque) {
                    return stop(&*why);
                }
                Ok(vec![Col::new("QUERY PLAN", Taint::default())])
            }
            NodeEnum::PrepareStmt(prepare) => self.inner(prepare.query.as_deref(), place),
            NodeEnum::DeclareCursorStmt(declare) => self.inner(declare.query.as_deref(), place),
            NodeEnum::CopyStmt(copy) => self.copy(copy, place),
            NodeEnum::CreateTableAsStmt(create) => {
                let into = create.into.as_deref();
                let table = into.and_then(|into| into.rel.as_ref());
                let Some(query) = create.query.as_deref().and_then(|node| node.node.as_ref())
                else {
                    return stop("a query is missing");
                };
                if matches!(query, NodeEnum::ExecuteStmt(_)) {
                    return stop("CREATE TABLE AS EXECUTE runs what was prepared elsewhere");
                }
                let cols = self.query(query, place)?;
                let table =
                    table.map_or_else(String::new, |range| names::relation(range).to_string());
                for col in cols {
                    self.keep(format!("{table}.{}", col.name), col.taint)?;
                }
                Ok(Vec::new())
            }
            NodeEnum::VariableShowStmt(show) => {
                Ok(vec![Col::new(show.name.clone(), Taint::default())])
            }
            NodeEnum::ExecuteStmt(_) => stop("what EXECUTE runs is traced where it was prepared"),
            NodeEnum::FetchStmt(fetch) if fetch.ismove => Ok(Vec::new()),
            NodeEnum::FetchStmt(_) => stop("what FETCH reads is traced where it was declared"),
            NodeEnum::CallStmt(_) => stop("the body of a procedure is not followed"),
            NodeEnum::DoStmt(_) => stop("the body of DO is not followed"),
            NodeEnum::CreateSchemaStmt(create) => {
                for element in create.schema_elts.iter().filter_map(|node| node.node.as_ref()) {
                    self.deeper(|tracer| tracer.top(element))?;
                }
                Ok(Vec::new())
            }
            NodeEnum::AlterTableStmt(alter) => {
                self.expressions(tree.to_ref())?;
                let launders = alter.cmds.iter().any(moves);
                self.renamed(alter.relation.as_ref().filter(|_| launders), None)
            }
            NodeEnum::AlterObjectSchemaStmt(alter) => self.renamed(alter.relation.as_ref(), None),
            NodeEnum::RenameStmt(rename)
                if rename.rename_type == ObjectType::ObjectSchema as i32 =>
            {
                self.schema_renamed(&rename.subname)
            }
            NodeEnum::RenameStmt(rename) => {
                let column = rename.rename_type == ObjectType::ObjectColumn as i32;
                let column = column.then_some(rename.subname.as_str());
                self.renamed(rename.relation.as_ref(), column)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn inner(&mut self, node: Option<&Node>, place: Place<'_>) -> Cols {
        match node.and_then(|node| node.node.as_ref()) {
            Some(NodeEnum::CreateTableAsStmt(create)) => self.inner(create.query.as_deref(), place),
            // EXPLAIN takes these as well.
            Some(NodeEnum::DeclareCursorStmt(declare)) => {
                self.inner(declare.query.as_deref(), place)
            }
            Some(NodeEnum::ExecuteStmt(_)) => {
                stop("what EXECUTE runs is traced where it was prepared")
            }
            Some(query) => self.query(query, place),
            None => stop("a query is missing"),
        }
    }

    fn copy(&mut self, copy: &CopyStmt, place: Place<'_>) -> Cols {
        let elsewhere = copy.is_program || !copy.filename.is_empty();
        if copy.is_from {
            return match &copy.relation {
                _ if elsewhere => stop("what the server reads from its files is not followed"),
                Some(range) => self.no_catalog(range).map(|()| Vec::new()),
                None => stop("COPY has no table"),
            };
        }
        let cols = self.copied(copy, place)?;
        if !elsewhere {
            return Ok(cols);
        }
        for col in cols {
            self.keep(format!("{} (a file of the server)", col.name), col.taint)?;
        }
        Ok(Vec::new())
    }

    fn copied(&mut self, copy: &CopyStmt, place: Place<'_>) -> Cols {
        match &copy.relation {
            None => self.inner(copy.query.as_deref(), place),
            Some(range) => {
                let cols = self.columns_of(range)?;
                let Some(wanted) = names::strings(&copy.attlist) else {
                    return stop("a column's name is none");
                };
                if wanted.is_empty() {
                    return Ok(cols);
                }
                let find = |name: &str| cols.iter().find(|col| col.name == name).cloned();
                match wanted.into_iter().map(find).collect() {
                    Some(cols) => Ok(cols),
                    None => stop("COPY names a column that the catalog does not know"),
                }
            }
        }
    }

    /// The system's catalogs say what names mean: whoever writes them can change that.
    pub(super) fn no_catalog(&self, range: &RangeVar) -> Result<(), Stop> {
        let found = self.catalog.resolve(&self.path, &names::relation(range));
        match found.is_some_and(|table| matches!(&*table.schema, "pg_catalog" | "pg_toast")) {
            true => stop("it writes the system's catalogs"),
            false => Ok(()),
        }
    }

    /// A relation, or one of its columns, that is known by another name afterwards.
    fn renamed(&mut self, range: Option<&RangeVar>, column: Option<&str>) -> Cols {
        let Some(range) = range else { return Ok(Vec::new()) };
        let relation = names::relation(range);
        // An index, or a relation that is not there; a type has no values of its own.
        if self.catalog.resolve(&self.path, &relation).is_none() {
            return Ok(Vec::new());
        }
        let cols = self.columns_of(range)?;
        for col in cols.into_iter().filter(|col| column.is_none_or(|name| col.name == name)) {
            self.keep(format!("{relation}.{} (altered)", col.name), col.taint)?;
        }
        Ok(Vec::new())
    }
}

/// Whether a part of ALTER TABLE can bring values under another column's name.
fn moves(command: &Node) -> bool {
    use AlterTableType as Type;
    let Some(NodeEnum::AlterTableCmd(command)) = &command.node else { return true };
    matches!(
        AlterTableType::try_from(command.subtype),
        Ok(Type::AtAlterColumnType
            | Type::AtAttachPartition
            | Type::AtDetachPartition
            | Type::AtAddInherit
            | Type::AtDropInherit
            | Type::AtDropExpression
            | Type::AtSetExpression
            | Type::AtAddOf)
            | Err(_)
    )
}
