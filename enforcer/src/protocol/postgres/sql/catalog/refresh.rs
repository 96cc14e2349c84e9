//! A snapshot from the one before: what did not change is not asked for again.

use super::load::{self, BadCatalog, Row, Tables};
use super::objects::{Bucket, Object, Objects};
use super::queries;
use super::stamp::{BUCKETS, Buckets, Part, Stamp, bucket};
use super::{Catalog, Column, Kind, Routine, Table, Type};
use std::collections::HashMap;
use std::sync::Arc;

/// What is asked, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Names,
    Tables,
    Columns,
    Inherits,
    Rules,
    Routines,
    Types,
    Operators,
    Casts,
    /// Last: texts must be no older than the names in them that the other answers tell.
    Texts,
}

const STEPS: [Step; 10] = [
    Step::Names,
    Step::Tables,
    Step::Columns,
    Step::Inherits,
    Step::Rules,
    Step::Routines,
    Step::Types,
    Step::Operators,
    Step::Casts,
    Step::Texts,
];

/// A snapshot that is being taken: answer each [`Refresh::question`] until there is none.
///
/// The questions need no transaction around them. What changes between the stamp and an answer is
/// read again with the next stamp, which differs.
#[derive(Debug)]
pub struct Refresh {
    /// The snapshot before, with what is known to have changed since taken from the answers.
    catalog: Catalog,
    stamp: Stamp,
    /// The place in [`STEPS`].
    at: usize,
    relations: Buckets,
    routines: Buckets,
    types: Buckets,
    names: bool,
    operators: bool,
    casts: bool,
    /// Texts may say other names than they did.
    renamed: bool,
    tables: Tables,
    /// Texts of relations that did not change themselves.
    texts: Vec<(u32, i16, String)>,
}

impl Refresh {
    /// Begins with what is known, if anything, and the stamp of now.
    pub fn new(known: Option<&Catalog>, stamp: Stamp) -> Self {
        let then = known.map(|catalog| &catalog.stamp);
        let differs = |part| stamp.differs(then, part);
        let changed = |part| !differs(part).none();
        Self {
            relations: differs(Part::Relations),
            routines: differs(Part::Routines),
            types: differs(Part::Types),
            names: changed(Part::Names),
            operators: changed(Part::Operators),
            casts: changed(Part::Casts),
            renamed: changed(Part::Words) || changed(Part::Operators) || changed(Part::Casts),
            catalog: known.cloned().unwrap_or_default(),
            at: 0,
            tables: Tables::new(),
            texts: Vec::new(),
            stamp,
        }
        .skipped()
    }

    /// What to ask next, under a search path of `pg_catalog, pg_temp`; `None` when all is known.
    pub fn question(&self) -> Option<String> {
        let step = *STEPS.get(self.at)?;
        Some(queries::question(step, self.buckets(step)))
    }

    /// Takes the answer to [`Refresh::question`].
    ///
    /// # Errors
    /// When a row is not of the question's form; nothing can be made of the rest then.
    pub fn answer(&mut self, rows: &[Row]) -> Result<(), BadCatalog> {
        let Some(step) = STEPS.get(self.at) else { return Ok(()) };
        self.at += 1;
        match step {
            Step::Names => self.take_names(rows)?,
            Step::Tables => load::each("tables", rows, |row| {
                let table = Table::of(row)?;
                self.tables.insert(table.oid, table);
                Ok(())
            })?,
            Step::Columns => {
                load::each("columns", rows, |row| load::column(&mut self.tables, row))?;
                self.renamed |= self.relations_renamed();
            }
            Step::Inherits => {
                load::each("inherits", rows, |row| load::inherits(&mut self.tables, row))?;
            }
            Step::Rules => load::each("rules", rows, |row| load::rule(&mut self.tables, row))?,
            Step::Routines => {
                let routines = objects("routines", rows, Routine::of)?;
                self.renamed |= take(&mut self.catalog.routines, routines, &self.routines);
            }
            Step::Types => {
                let types = objects("types", rows, Type::of)?;
                self.renamed |= take(&mut self.catalog.types, types, &self.types);
            }
            Step::Operators => {
                let mut all = Vec::with_capacity(rows.len());
                load::each("operators", rows, |row| {
                    let (schema, name) = (load::text(row, 0)?, load::text(row, 1)?);
                    all.push((Arc::from(schema), Arc::from(name), load::number(row, 2)?));
                    Ok(())
                })?;
                all.sort_unstable();
                self.catalog.own_operators = all.into();
            }
            Step::Casts => {
                let mut all = Vec::with_capacity(rows.len());
                load::each("casts", rows, |row| {
                    all.push((load::number(row, 0)?, load::number(row, 1)?));
                    Ok(())
                })?;
                all.sort_unstable();
                self.catalog.own_casts = all.into();
            }
            Step::Texts => load::each("texts", rows, |row| self.text(row))?,
        }
        self.skip();
        Ok(())
    }

    /// The snapshot, once there is no question left.
    pub fn catalog(mut self) -> Catalog {
        for (oid, number, said) in std::mem::take(&mut self.texts) {
            let known = self.catalog.tables.get(oid).filter(|table| !table.said(number, &said));
            if let Some(known) = known {
                let mut table = self.tables.remove(&oid).unwrap_or_else(|| Table::clone(known));
                table.says(number, &said);
                self.tables.insert(oid, table);
            }
        }
        let mut by_bucket: HashMap<usize, Vec<Table>> = HashMap::new();
        for (oid, table) in self.tables.drain() {
            by_bucket.entry(bucket(oid)).or_default().push(table);
        }
        let tables = &mut self.catalog.tables;
        for at in 0..BUCKETS {
            let new = by_bucket.remove(&at);
            if self.relations.has(at) {
                tables.replace(at, new.unwrap_or_default());
            } else if let Some(new) = new {
                tables.change(at, new);
            }
        }
        self.catalog.follow();
        self.catalog.stamp = self.stamp;
        self.catalog
    }

    fn buckets(&self, step: Step) -> &Buckets {
        match step {
            Step::Routines => &self.routines,
            Step::Types => &self.types,
            Step::Texts if self.renamed => &Buckets::All,
            _ => &self.relations,
        }
    }

    /// Whether a step would be answered with what is known.
    fn needless(&self, step: Step) -> bool {
        match step {
            Step::Names => !self.names,
            Step::Tables | Step::Columns | Step::Inherits | Step::Rules => self.relations.none(),
            Step::Routines => self.routines.none(),
            Step::Types => self.types.none(),
            Step::Operators => !self.operators,
            Step::Casts => !self.casts,
            Step::Texts => {
                let known = self.catalog.tables.iter().any(|table| table.speaks());
                !(self.tables.values().any(Table::speaks) || self.renamed && known)
            }
        }
    }

    fn skip(&mut self) {
        while STEPS.get(self.at).is_some_and(|step| self.needless(*step)) {
            self.at += 1;
        }
    }

    fn skipped(mut self) -> Self {
        self.skip();
        self
    }

    /// Every object has its schema's name, every function its language's: when one is known by
    /// another name all is read anew.
    fn take_names(&mut self, rows: &[Row]) -> Result<(), BadCatalog> {
        let mut names = HashMap::new();
        load::each("names", rows, |row| {
            let kind = load::text(row, 0)?.chars().next().ok_or("a name is of nothing")?;
            names.insert((kind, load::number(row, 1)?), Arc::from(load::text(row, 2)?));
            Ok(())
        })?;
        let other = |(of, name): (&(char, u32), &Arc<str>)| {
            names.get(of).is_some_and(|now: &Arc<str>| now != name)
        };
        if self.catalog.names.iter().any(other) {
            let stamp = std::mem::take(&mut self.stamp);
            // Past the names, which are there.
            *self = Self { at: self.at, ..Self::new(None, stamp) };
        }
        self.catalog.names = Arc::new(names);
        Ok(())
    }

    fn text(&mut self, row: &Row) -> Result<(), &'static str> {
        let (oid, number) = (load::number(row, 0)?, load::number(row, 1)?);
        // What is gone meanwhile has none.
        let Some(said) = row.get(2).and_then(Option::as_deref) else { return Ok(()) };
        match self.tables.get_mut(&oid) {
            Some(table) => table.says(number, said),
            None if self.relations.has(bucket(oid)) => {}
            None => self.texts.push((oid, number, said.to_owned())),
        }
        Ok(())
    }

    /// Whether a relation that was there is known by another name, or has other columns.
    fn relations_renamed(&self) -> bool {
        let other = |table: &Table| match self.catalog.tables.get(table.oid) {
            Some(known) => !known.is_called_as(table),
            None => table.schema() == SYSTEM,
        };
        let gone =
            |table: &Arc<Table>| table.schema() == SYSTEM && !self.tables.contains_key(&table.oid);
        self.tables.values().any(other) || known(&self.catalog.tables, &self.relations).any(gone)
    }
}

/// Names in it are written without it.
const SYSTEM: &str = "pg_catalog";

/// An object in a schema.
trait Schemed: Object {
    fn schema(&self) -> &str;
}

impl Schemed for Table {
    fn schema(&self) -> &str {
        &self.schema
    }
}

impl Schemed for Routine {
    fn schema(&self) -> &str {
        &self.schema
    }
}

impl Schemed for Type {
    fn schema(&self) -> &str {
        &self.schema
    }
}

impl Table {
    /// Whether it has a text.
    fn speaks(&self) -> bool {
        matches!(self.kind, Kind::View | Kind::Materialized)
            || self.columns.iter().any(|column| column.generated.is_some())
    }

    /// Whether both are written the same way in a text, with all columns.
    fn is_called_as(&self, other: &Self) -> bool {
        let same = |(one, other): (&Column, &Column)| {
            one.number == other.number
                && one.name == other.name
                && one.type_oid == other.type_oid
                && one.generated.is_some() == other.generated.is_some()
        };
        self.name == other.name
            && self.schema == other.schema
            && self.kind == other.kind
            && self.columns.len() == other.columns.len()
            && self.columns.iter().zip(&other.columns).all(same)
    }
}

fn objects<T>(
    query: &'static str,
    rows: &[Row],
    of: impl Fn(&Row) -> Result<T, &'static str>,
) -> Result<Vec<T>, BadCatalog> {
    let mut all = Vec::with_capacity(rows.len());
    load::each(query, rows, |row| {
        all.push(of(row)?);
        Ok(())
    })?;
    Ok(all)
}

/// The objects that are known in these buckets.
fn known<'a, T: Object>(
    objects: &'a Objects<T>,
    buckets: &'a Buckets,
) -> impl Iterator<Item = &'a Arc<T>> {
    buckets.iter().filter_map(|at| objects.bucket(at)).flat_map(Bucket::values)
}

/// Takes these for the objects in the buckets; whether one that was there is another now, or one
/// in PostgreSQL's own schema came or went.
fn take<T: Schemed + PartialEq>(objects: &mut Objects<T>, new: Vec<T>, buckets: &Buckets) -> bool {
    let mut by_bucket: HashMap<usize, Vec<T>> = HashMap::new();
    let mut renamed = false;
    let mut system = 0;
    for object in new {
        match objects.get(object.oid()) {
            Some(had) => renamed |= **had != object,
            None => renamed |= object.schema() == SYSTEM,
        }
        system += usize::from(object.schema() == SYSTEM);
        by_bucket.entry(bucket(object.oid())).or_default().push(object);
    }
    renamed |= known(objects, buckets).filter(|had| had.schema() == SYSTEM).count() != system;
    for at in buckets.iter() {
        objects.replace(at, by_bucket.remove(&at).unwrap_or_default());
    }
    renamed
}
