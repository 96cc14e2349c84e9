//! What a database has: relations, columns, views, inheritance, functions, types.
//!
//! A snapshot, taken on a connection of the gate's own ([`Refresh`]). It is as true as it is new:
//! the caller looks for another after every DDL it forwards, after a while, and when a name is not
//! in it. Then the [`Stamp`] says what changed, and that is read; the rest is shared.

mod load;
mod objects;
mod queries;
mod refresh;
mod routine;
mod stamp;

pub use load::{BadCatalog, Row};
pub use queries::PREAMBLE;
pub use refresh::Refresh;
pub use routine::{Call, Routine};
pub use stamp::Stamp;

use objects::{Object, Objects};
use refresh::Step;

use super::names;
use super::read::Unreadable;
use super::statement::{Relation, Statement};
use pg_query::protobuf::TypeName;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

/// The first oid of what is not PostgreSQL's own (`FirstNormalObjectId`, access/transam.h).
const FIRST_NORMAL_OID: u32 = 16384;

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A table, partitioned or not.
    Table,
    /// A view.
    View,
    /// A materialized view.
    Materialized,
    /// A table of another server.
    Foreign,
    /// A sequence.
    Sequence,
    /// Where long values of a table are kept.
    Toast,
    /// A row type without rows.
    Composite,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its number in the relation; numbers of dropped columns are not used again.
    pub number: i16,
    /// Its name.
    pub name: Arc<str>,
    /// The oid of its type.
    pub type_oid: u32,
    /// The expression of a generated column, over the other columns.
    pub generated: Option<String>,
}

/// A relation.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Its columns, in order, without dropped ones.
    pub columns: Vec<Column>,
    /// A view's query, with names as under a search path of `pg_catalog` alone.
    pub definition: Option<String>,
    /// Oids of what it inherits from or is a partition of.
    pub parents: Vec<u32>,
    /// Oids of what inherits from it or is a partition of it.
    pub children: Vec<u32>,
    /// Rewrite rules besides a view's own.
    pub rules: bool,
    /// Triggers that somebody made.
    pub triggers: bool,
    /// A change of its rows changes those of other tables, by a foreign key of theirs.
    pub cascades: bool,
    /// `definition`, read once.
    read: OnceLock<Result<Statement, Unreadable>>,
}

/// A type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    /// Its oid.
    pub oid: u32,
    /// Its schema.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `b`ase, `c`omposite, `d`omain, `e`num, `p`seudo, `r`ange, `m`ultirange.
    pub kind: char,
    /// The relation of a composite type; 0 without.
    pub relation: u32,
    /// The type under a domain; 0 without.
    pub base: u32,
    /// The type of an array's elements; 0 for what is no array.
    pub element: u32,
}

impl PartialEq for Table {
    /// Whether all is the same that the database said of them.
    fn eq(&self, other: &Self) -> bool {
        let Self { oid, schema, name, kind, columns, definition, parents, children, .. } = self;
        *oid == other.oid
            && *schema == other.schema
            && *name == other.name
            && *kind == other.kind
            && *columns == other.columns
            && *definition == other.definition
            && *parents == other.parents
            && *children == other.children
            && self.rules == other.rules
            && self.triggers == other.triggers
            && self.cascades == other.cascades
    }
}

impl Object for Table {
    fn oid(&self) -> u32 {
        self.oid
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Object for Type {
    fn oid(&self) -> u32 {
        self.oid
    }

    fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// An operator: schema, name, function.
type Operator = (Arc<str>, Arc<str>, u32);

/// A snapshot of a database's catalogs. A copy shares what it has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Of what it is.
    stamp: Stamp,
    /// Names of schemas (`n`) and languages (`l`) by their oids.
    names: Arc<HashMap<(char, u32), Arc<str>>>,
    tables: Objects<Table>,
    routines: Objects<Routine>,
    types: Objects<Type>,
    /// Operators that are not PostgreSQL's own.
    own_operators: Arc<[Operator]>,
    /// Casts by functions that are not PostgreSQL's own: target type, function.
    own_casts: Arc<[(u32, u32)]>,
    /// The operators by name, and whether their functions can be followed.
    operators: HashMap<Arc<str>, Vec<(Arc<str>, bool)>>,
    /// Names of types that a function which cannot be followed casts to.
    casts: HashSet<Arc<str>>,
}

impl Table {
    /// `schema.name`.
    pub fn relation(&self) -> Relation {
        Relation { schema: Some(self.schema.to_string()), name: self.name.to_string() }
    }

    /// Whether it is in the temporary schema of some session.
    pub fn temporary(&self) -> bool {
        self.schema.starts_with("pg_temp")
    }

    /// A column by its name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| *column.name == *name)
    }

    /// A view's query, read; `None` for what has none.
    pub(super) fn query(&self) -> Option<Result<&Statement, &Unreadable>> {
        let definition = self.definition.as_deref()?;
        let read = self.read.get_or_init(|| {
            let statements = super::read(definition)?;
            match <[Statement; 1]>::try_from(statements) {
                Ok([statement]) => Ok(statement),
                Err(_) => Err(Unreadable::Unknown("a view of other than one query".to_owned())),
            }
        });
        Some(read.as_ref())
    }
}

impl Catalog {
    /// What it is a snapshot of.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Looks up the functions of operators and casts.
    fn follow(&mut self) {
        let follows = |oid| self.routines.get(oid).is_some_and(|routine| routine.followed());
        let mut operators: HashMap<_, Vec<_>> = HashMap::new();
        for (schema, name, function) in &*self.own_operators {
            let list = operators.entry(Arc::clone(name)).or_default();
            list.push((Arc::clone(schema), follows(*function)));
        }
        let unfollowed = self.own_casts.iter().filter(|(_, function)| !follows(*function));
        let targets = unfollowed.filter_map(|(target, _)| self.types.get(*target));
        self.casts = targets.map(|target| Arc::clone(&target.name)).collect();
        self.operators = operators;
    }

    /// A relation by its oid (as RowDescription gives it).
    pub fn relation_by_oid(&self, oid: u32) -> Option<&Table> {
        self.tables.get(oid).map(|table| &**table)
    }

    /// The relation that `relation` names under an effective search path (see
    /// [`effective_path`](super::effective_path)).
    pub fn resolve(&self, path: &[String], relation: &Relation) -> Option<&Table> {
        match relation.schema.as_deref() {
            Some("pg_temp") => path
                .iter()
                .find(|schema| schema.starts_with("pg_temp"))
                .and_then(|schema| self.named(schema, &relation.name)),
            Some(schema) => self.named(schema, &relation.name),
            None => path.iter().find_map(|schema| self.named(schema, &relation.name)),
        }
    }

    /// All that an unqualified name could stand for along the path, in its order.
    pub(super) fn candidates<'a>(
        &'a self,
        path: &'a [String],
        name: &'a str,
    ) -> impl Iterator<Item = &'a Table> {
        path.iter().filter_map(move |schema| self.named(schema, name))
    }

    /// The relations of a schema.
    pub(super) fn in_schema<'a>(&'a self, schema: &'a str) -> impl Iterator<Item = &'a Table> {
        self.tables.iter().map(|table| &**table).filter(move |table| *table.schema == *schema)
    }

    /// A relation by its schema and name.
    pub fn named(&self, schema: &str, name: &str) -> Option<&Table> {
        let mut all = self.tables.named(name).iter().map(|table| &**table);
        all.find(|table| *table.schema == *schema)
    }

    /// `table` with everything it inherits from and everything that inherits from it: rows of
    /// one can be read through another.
    pub(super) fn family<'a>(&'a self, table: &'a Table) -> Vec<&'a Table> {
        let mut family = vec![table];
        for next in [|table: &Table| table.parents.clone(), |table: &Table| table.children.clone()]
        {
            let mut open = next(table);
            while let Some(oid) = open.pop() {
                if family.iter().any(|known| known.oid == oid) {
                    continue;
                }
                if let Some(member) = self.relation_by_oid(oid) {
                    family.push(member);
                    open.extend(next(member));
                }
            }
        }
        family
    }

    /// The columns of a composite type, through domains; `None` for any other.
    pub(super) fn composite(&self, mut type_oid: u32) -> Option<&Table> {
        for _ in 0..16 {
            let found = self.types.get(type_oid)?;
            match found.kind {
                'd' => type_oid = found.base,
                'c' => return self.relation_by_oid(found.relation),
                _ => return None,
            }
        }
        None
    }

    /// The columns of the composite type that a name in a statement means; `None` for any other
    /// type, and for arrays.
    pub(super) fn row(&self, path: &[String], name: &TypeName) -> Option<&Table> {
        if name.setof || name.pct_type || !name.array_bounds.is_empty() {
            return None;
        }
        let (schema, name) = match names::strings(&name.names)?[..] {
            [name] => (None, name),
            [schema, name] => (Some(schema), name),
            _ => return None,
        };
        let all = self.types.named(name);
        let within = |schema: &str| all.iter().find(|found| *found.schema == *schema);
        let found = match schema {
            // Which one this is, only the session knows.
            Some("pg_temp") => None,
            Some(schema) => within(schema),
            None => path.iter().find_map(|schema| within(schema)),
        };
        self.composite(found?.oid)
    }

    /// Whether a value of this type surely is no row, and an array of it is none of rows.
    pub(super) fn scalar(&self, type_oid: u32) -> bool {
        let mut oid = type_oid;
        for _ in 0..16 {
            match self.types.get(oid) {
                Some(found) if found.kind == 'd' => oid = found.base,
                Some(found) if found.element != 0 && found.kind == 'b' => oid = found.element,
                Some(found) => return matches!(found.kind, 'b' | 'e' | 'r' | 'm'),
                None => return false,
            }
        }
        false
    }

    /// Whether every type of this name surely has no rows in it, and there is one.
    pub(super) fn scalar_named(&self, name: &str) -> bool {
        let all = self.types.named(name);
        !all.is_empty() && all.iter().all(|found| self.scalar(found.oid))
    }

    /// Whether there is a type of this name.
    pub(super) fn has_type(&self, name: &str) -> bool {
        !self.types.named(name).is_empty()
    }

    /// A type by its oid.
    pub fn type_by_oid(&self, oid: u32) -> Option<&Type> {
        self.types.get(oid).map(|found| &**found)
    }

    /// How many relations and functions it holds.
    pub fn size(&self) -> (usize, usize) {
        (self.tables.len(), self.routines.len())
    }

    /// What of this is not in `other` as it is here, and what is there alone.
    #[cfg(test)]
    pub(in super::super) fn differing(&self, other: &Self) -> Vec<String> {
        let mut all = [
            self.tables.differing(&other.tables),
            self.routines.differing(&other.routines),
            self.types.differing(&other.types),
        ]
        .concat();
        for (what, [one, other]) in [
            (
                "operators",
                [&self.own_operators, &other.own_operators].map(|all| format!("{all:?}")),
            ),
            ("casts", [&self.casts, &other.casts].map(|all| format!("{all:?}"))),
            ("names", [&self.names, &other.names].map(|all| format!("{all:?}"))),
        ] {
            if one != other {
                all.push(format!("{what}: {one}, not {other}"));
            }
        }
        all
    }
}
