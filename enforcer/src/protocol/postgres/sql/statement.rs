//! What one SQL statement says about itself, before any catalog is asked.

use super::effect::Effect;
use pg_query::NodeEnum;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A table, view, sequence or the like, as the statement names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Relation {
    /// The schema, where the statement (or, once resolved, the catalog) gives one.
    pub schema: Option<String>,
    /// The name, folded as PostgreSQL folds it.
    pub name: String,
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A function, procedure or aggregate that is called, as the statement names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Function {
    /// The schema, where one is given.
    pub schema: Option<String>,
    /// The name, folded as PostgreSQL folds it.
    pub name: String,
    /// Syntax of its own in the newest grammar (`json_value`, `merge_action`), which an older
    /// server takes for a call of a function of that name.
    pub keyword: bool,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One SQL statement.
///
/// The facts of what is within count as its own: common table expressions, subqueries, the
/// statement that EXPLAIN ANALYZE runs, that PREPARE or DECLARE keeps, that a view is made of.
#[derive(Clone)]
pub struct Statement {
    /// Its exact source, without the semicolon and the white space around it; comments stay.
    pub text: String,
    /// The same was read before, of this text or of one with other constants.
    pub recurs: bool,
    pub(super) reading: Arc<Reading>,
}

/// What was read of a statement: the same for all texts that differ in constants alone.
pub struct Reading {
    /// The strictest of [`actions`](Self::actions).
    pub action: &'static str,
    /// Everything it does, the strictest first: a policy permits it when it permits each.
    pub actions: Vec<&'static str>,
    /// What it reads: sorted, each once. Names of common table expressions are none.
    pub reads: Vec<Relation>,
    /// What it changes, locks, creates or drops: sorted, each once.
    pub writes: Vec<Relation>,
    /// What it calls: sorted, each once. Operators are not in it.
    pub functions: Vec<Function>,
    /// The operators it uses, as a schema (where given) and a name.
    pub operators: Vec<Function>,
    /// Whether a WHERE (other than a constant) limits every UPDATE and DELETE in it, or, when it
    /// has none of these, its outermost SELECT; `None` where a WHERE has no place.
    pub filtered: Option<bool>,
    /// What else is to know: see [`flags`](super::flags).
    pub flags: BTreeSet<&'static str>,
    /// What it does to the session.
    pub effect: Effect,
    /// Whether rows can come back (as DataRow messages; a COPY OUT's are not).
    pub returns_rows: bool,
    /// The highest `$n` in it.
    pub parameters: u16,
    pub(super) tree: NodeEnum,
}

impl Deref for Statement {
    type Target = Reading;

    fn deref(&self) -> &Reading {
        &self.reading
    }
}

impl Statement {
    /// Tells one reading from another while either is there. Everything but the text is the same
    /// for all statements of one reading.
    pub fn reading(&self) -> usize {
        Arc::as_ptr(&self.reading) as usize
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |relations: &[Relation]| {
            relations.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        f.debug_struct("Statement")
            .field("text", &self.text)
            .field("actions", &self.actions)
            .field("reads", &show(&self.reads))
            .field("writes", &show(&self.writes))
            .field("flags", &self.flags)
            .field("effect", &self.effect)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.tree == other.tree
    }
}
