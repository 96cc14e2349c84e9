//! The names of a statement, looked up: with schemas, through views and inheritance.

use super::action::strictest_first;
use super::catalog::{Catalog, Kind, Table};
use super::flags;
use super::statement::{Function, Relation, Statement};
use std::collections::BTreeSet;

/// What a statement comes to in one database under one search path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// As [`Statement::action`], with what the catalog adds: a function that may change
    /// something is `sql.call`.
    pub action: &'static str,
    /// As [`Statement::actions`], with what the catalog adds.
    pub actions: Vec<&'static str>,
    /// What it reads, with schemas: also what views read, and what can be read through
    /// inheritance and partitions (parents and children). What the catalog does not know is
    /// there as it was written.
    pub reads: Vec<Relation>,
    /// What it changes, with schemas: also what is behind a view.
    pub writes: Vec<Relation>,
    /// What it calls, with the schema of each function that a call could mean.
    pub functions: Vec<Function>,
    /// The statement's own, and those that only the catalog tells.
    pub flags: BTreeSet<&'static str>,
}

/// The schemas that are searched, in order, when `search_path` is set to `setting` by `user`:
/// `$user` filled in, the temporary schema (`pg_temp_3`) and `pg_catalog` first unless they are
/// named. `SELECT current_schemas(true)` gives the same for schemas that exist.
pub fn effective_path(setting: &[String], user: &str, temporary: Option<&str>) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for schema in setting {
        match (schema.as_str(), temporary) {
            ("$user", _) => path.push(user.to_owned()),
            ("pg_temp", Some(temporary)) => path.push(temporary.to_owned()),
            // Named, but not made yet.
            ("pg_temp", None) => {}
            (schema, _) => path.push(schema.to_owned()),
        }
    }
    if !path.iter().any(|schema| schema == "pg_catalog") {
        path.insert(0, "pg_catalog".to_owned());
    }
    let unnamed = temporary.filter(|own| !path.iter().any(|schema| schema == own));
    if let Some(temporary) = unnamed {
        path.insert(0, temporary.to_owned());
    }
    path
}

/// The path that names in a view's query are under.
pub(super) fn view_path() -> Vec<String> {
    vec!["pg_catalog".to_owned()]
}

/// Looks the names of a statement up; `search_path` is an effective one ([`effective_path`]).
///
/// Nothing is guessed: what is not found is kept as it was written, with a flag
/// ([`flags::UNKNOWN_RELATION`], [`flags::UNKNOWN_FUNCTION`]).
pub fn resolve(statement: &Statement, catalog: &Catalog, search_path: &[String]) -> Resolved {
    let mut found = Finder::new(catalog);
    found.flags.extend(&statement.flags);
    found.statement(statement, search_path, 0);
    let mut actions = statement.actions.clone();
    if found.flags.contains(flags::VOLATILE_FUNCTION)
        || found.flags.contains(flags::UNKNOWN_FUNCTION)
    {
        actions.push("sql.call");
        found.flags.insert(flags::STATE_UNKNOWN);
    }
    if found.flags.contains(flags::USER_FUNCTION) {
        found.flags.insert(flags::STATE_UNKNOWN);
    }
    if !actions.iter().any(|action| CHANGES.contains(action)) {
        found.flags.remove(flags::CASCADE);
    }
    strictest_first(&mut actions);
    Resolved {
        action: actions.first().copied().unwrap_or("sql.other"),
        actions,
        reads: found.reads.into_iter().collect(),
        writes: found.writes.into_iter().collect(),
        functions: found.functions.into_iter().collect(),
        flags: found.flags,
    }
}

/// What foreign keys of other tables look at.
const CHANGES: &[&str] = &["sql.update", "sql.delete", "sql.merge"];

/// Views within views are followed so deep.
const MAX_VIEWS: usize = 32;

struct Finder<'c> {
    catalog: &'c Catalog,
    reads: BTreeSet<Relation>,
    writes: BTreeSet<Relation>,
    functions: BTreeSet<Function>,
    flags: BTreeSet<&'static str>,
    /// Views whose queries were looked at, by oid, and whether as something written.
    seen: BTreeSet<(u32, bool)>,
}

impl<'c> Finder<'c> {
    fn new(catalog: &'c Catalog) -> Self {
        Self {
            catalog,
            reads: BTreeSet::new(),
            writes: BTreeSet::new(),
            functions: BTreeSet::new(),
            flags: BTreeSet::new(),
            seen: BTreeSet::new(),
        }
    }

    fn statement(&mut self, statement: &Statement, path: &[String], depth: usize) {
        for relation in &statement.reads {
            self.relation(relation, path, false, depth);
        }
        for relation in &statement.writes {
            self.relation(relation, path, true, depth);
        }
        for function in &statement.functions {
            self.function(function, path);
        }
        for operator in &statement.operators {
            if self.catalog.operator_reads(path, operator) {
                self.flags.insert(flags::USER_FUNCTION);
            }
        }
    }

    fn relation(&mut self, relation: &Relation, path: &[String], write: bool, depth: usize) {
        let Some(table) = self.catalog.resolve(path, relation) else {
            self.flags.insert(flags::UNKNOWN_RELATION);
            self.name(write, relation.clone());
            return;
        };
        let hides = relation.schema.is_none()
            && table.temporary()
            && self.catalog.candidates(path, &relation.name).nth(1).is_some();
        if hides {
            self.flags.insert(flags::SHADOWED);
        }
        self.table(table, write, depth);
    }

    fn table(&mut self, table: &'c Table, write: bool, depth: usize) {
        for member in self.catalog.family(table) {
            self.name(write, member.relation());
            if member.kind == Kind::Foreign {
                self.flags.insert(flags::FOREIGN_TABLE);
            }
            if write && member.triggers {
                self.flags.insert(flags::TRIGGER);
            }
            if write && member.cascades {
                self.flags.insert(flags::CASCADE);
            }
            if member.rules && (write || member.kind != Kind::View) {
                self.flags.insert(flags::RULE);
            }
            if write && &*member.schema == "pg_catalog" {
                self.flags.insert(flags::SYSTEM_CATALOG);
            }
        }
        if matches!(table.kind, Kind::View | Kind::Materialized) {
            self.flags.insert(flags::VIEW);
            if self.seen.insert((table.oid, write)) {
                self.view(table, write, depth);
            }
        }
    }

    /// What a view reads; all of it counts as written when the view is.
    fn view(&mut self, table: &'c Table, write: bool, depth: usize) {
        let query = match table.query() {
            Some(Ok(query)) if depth < MAX_VIEWS => query,
            _ => {
                self.flags.insert(flags::UNKNOWN_RELATION);
                return;
            }
        };
        let path = view_path();
        self.statement(query, &path, depth + 1);
        if write {
            for relation in &query.reads {
                self.relation(relation, &path, true, depth + 1);
            }
        }
    }

    fn name(&mut self, write: bool, relation: Relation) {
        match write {
            true => self.writes.insert(relation),
            false => self.reads.insert(relation),
        };
    }

    fn function(&mut self, function: &Function, path: &[String]) {
        let call = self.catalog.call(path, function, None);
        for routine in self.catalog.routines(path, function, None) {
            self.functions.insert(Function {
                schema: Some(routine.schema.to_string()),
                name: routine.name.to_string(),
                keyword: false,
            });
        }
        if !call.known {
            // A cast can be written as a call; syntax of the newest grammar needs no function.
            if !function.keyword && !self.catalog.has_type(&function.name) {
                self.flags.insert(flags::UNKNOWN_FUNCTION);
            }
            self.functions.insert(function.clone());
        }
        for (is, flag) in [
            (call.user, flags::USER_FUNCTION),
            (call.changes, flags::VOLATILE_FUNCTION),
            (call.definer, flags::SECURITY_DEFINER),
        ] {
            if is {
                self.flags.insert(flag);
            }
        }
    }
}
