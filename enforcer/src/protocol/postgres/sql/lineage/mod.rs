//! Which columns of which tables each output of a statement depends on.
//!
//! The names are looked up as PostgreSQL does it, over the raw parse tree and a [`Catalog`].
//! Types are not worked out, so what a type would decide is taken both ways. An output depends
//! on everything that its expression mentions, conditions of CASE as well; what a WHERE, ORDER
//! BY, GROUP BY or ON looks at is told apart ([`Trace::looked_at`]), and so is what goes
//! somewhere else than to the client ([`Trace::kept`]).

mod change;
mod define;
mod expression;
mod from;
mod function;
mod label;
mod query;
mod scope;
mod table;
mod taint;
mod top;

#[cfg(test)]
mod tests;

use super::catalog::Catalog;
use super::statement::Statement;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnRef {
    /// The relation's schema.
    pub schema: Arc<str>,
    /// The relation's name.
    pub table: Arc<str>,
    /// The column's name.
    pub column: Arc<str>,
}

impl fmt::Display for ColumnRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.schema, self.table, self.column)
    }
}

/// One column of an answer, in the order of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its name, as RowDescription gives it.
    pub name: String,
    /// The columns that its values can depend on, sorted: of tables, of the views they were
    /// read through, and of what a table inherits from or is inherited by.
    pub columns: Vec<ColumnRef>,
    /// Each of its values is, as it is stored, the value of one of `columns`.
    pub unchanged: bool,
}

/// Where the values of a statement go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The columns of the answer (of COPY TO: of its rows). An answer with another number of
    /// columns is not the one that was traced: the caller refuses it.
    pub outputs: Vec<Output>,
    /// The columns that conditions, orders and groups look at.
    pub looked_at: BTreeSet<ColumnRef>,
    /// What goes elsewhere: into another column (`schema.table.column` is the name), a new
    /// table, an argument of a function that may keep it, or another name by ALTER.
    pub kept: Vec<Output>,
    /// Something on the way cannot be followed, if not to the answer: what the server says of an
    /// error in it may be about any value.
    pub blind: bool,
}

/// Why a statement cannot be followed. Under a mask rule it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be traced which columns the answer depends on: {0}")]
pub struct Untraceable(pub String);

/// The columns of the statement's answer, and what each depends on; empty when it has none.
/// `search_path` is an effective one ([`effective_path`](super::effective_path)).
///
/// EXECUTE and FETCH are not followed: what they run is traced where it was prepared.
///
/// # Errors
/// See [`Untraceable`]. Nothing that cannot be followed comes as an output without columns.
pub fn lineage(
    statement: &Statement,
    catalog: &Catalog,
    search_path: &[String],
) -> Result<Vec<Output>, Untraceable> {
    trace(statement, catalog, search_path).map(|trace| trace.outputs)
}

/// As [`lineage`], with what the statement looks at and what it keeps.
///
/// # Errors
/// As [`lineage`].
pub fn trace(
    statement: &Statement,
    catalog: &Catalog,
    search_path: &[String],
) -> Result<Trace, Untraceable> {
    top::trace(&statement.tree, catalog, search_path)
}
