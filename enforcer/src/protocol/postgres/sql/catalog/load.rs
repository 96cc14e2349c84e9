//! From the text rows of [`Catalog::QUERIES`] to a [`Catalog`].

use super::{Catalog, Column, Kind, Routine, Table, Type};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// A row in text format; `None` for NULL.
pub type Row = Vec<Option<String>>;

/// The rows are not what the queries ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("catalog query {query}, row {row}: {fault}")]
pub struct BadCatalog {
    /// The place in [`Catalog::QUERIES`], from 0.
    pub query: usize,
    /// The row, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl Catalog {
    /// The catalog that the answers to [`Catalog::QUERIES`] tell of, one list of rows for each.
    ///
    /// # Errors
    /// When there are more or fewer answers than queries, or a row is not of its query's form.
    pub fn from_rows(answers: &[Vec<Row>]) -> Result<Self, BadCatalog> {
        let fault = |fault| BadCatalog { query: answers.len(), row: 0, fault };
        let [tables, columns, inherits, rules, routines, operators, casts, types] = answers else {
            return Err(fault("there must be one list of rows for each query"));
        };
        let mut catalog = Self::default();
        each(0, tables, |row| catalog.table(row))?;
        each(1, columns, |row| catalog.column(row))?;
        each(2, inherits, |row| catalog.inherits(row))?;
        each(3, rules, |row| {
            let oid = number(row, 0)?;
            catalog.change(oid, |table| table.rules = true);
            Ok(())
        })?;
        let mut followed = HashMap::new();
        each(4, routines, |row| {
            let routine = Routine::of(row)?;
            followed.insert(routine.oid, routine.followed());
            let list = catalog.routines.entry(Arc::clone(&routine.name)).or_default();
            list.push(routine);
            Ok(())
        })?;
        each(5, operators, |row| {
            let schema = Arc::from(text(row, 0)?);
            let follows = followed.get(&number(row, 2)?).copied().unwrap_or(false);
            let list = catalog.operators.entry(Arc::from(text(row, 1)?)).or_default();
            list.push((schema, follows));
            Ok(())
        })?;
        each(7, types, |row| {
            let (schema, name) = (Arc::from(text(row, 1)?), Arc::from(text(row, 2)?));
            let kind = text(row, 3)?.chars().next().ok_or("a type has no kind")?;
            let (relation, base, element) = (number(row, 4)?, number(row, 5)?, number(row, 6)?);
            let oid = number(row, 0)?;
            catalog.types_by_name.entry(Arc::clone(&name)).or_default().push(oid);
            catalog.types.insert(oid, Type { schema, name, kind, relation, base, element });
            Ok(())
        })?;
        each(6, casts, |row| {
            let (target, function) = (number(row, 0)?, number(row, 1)?);
            let follows = followed.get(&function).copied().unwrap_or(false);
            if let Some(target) = catalog.types.get(&target).filter(|_| !follows) {
                catalog.casts.insert(Arc::clone(&target.name), ());
            }
            Ok(())
        })?;
        Ok(catalog)
    }

    fn table(&mut self, row: &Row) -> Result<(), &'static str> {
        let kind = match text(row, 3)? {
            "r" | "p" => Kind::Table,
            "v" => Kind::View,
            "m" => Kind::Materialized,
            "f" => Kind::Foreign,
            "S" => Kind::Sequence,
            "t" => Kind::Toast,
            "c" => Kind::Composite,
            _ => return Err("an unknown kind of relation"),
        };
        let table = Table {
            oid: number(row, 0)?,
            schema: Arc::from(text(row, 1)?),
            name: Arc::from(text(row, 2)?),
            kind,
            columns: Vec::new(),
            definition: row.get(4).cloned().flatten(),
            parents: Vec::new(),
            children: Vec::new(),
            rules: false,
            triggers: yes(row, 5)?,
            read: OnceLock::new(),
        };
        let at = self.tables.len();
        self.by_oid.insert(table.oid, at);
        self.by_name.entry(Arc::clone(&table.name)).or_default().push(at);
        self.tables.push(table);
        Ok(())
    }

    fn column(&mut self, row: &Row) -> Result<(), &'static str> {
        let column = Column {
            number: number(row, 1)?,
            name: Arc::from(text(row, 2)?),
            type_oid: number(row, 3)?,
            generated: row.get(4).cloned().flatten(),
        };
        self.change(number(row, 0)?, |table| table.columns.push(column));
        Ok(())
    }

    fn inherits(&mut self, row: &Row) -> Result<(), &'static str> {
        let (child, parent) = (number(row, 0)?, number(row, 1)?);
        self.change(child, |table| table.parents.push(parent));
        self.change(parent, |table| table.children.push(child));
        Ok(())
    }

    /// Changes a relation, if it is one that is kept (an index is none).
    fn change(&mut self, oid: u32, change: impl FnOnce(&mut Table)) {
        if let Some(table) = self.by_oid.get(&oid).and_then(|at| self.tables.get_mut(*at)) {
            change(table);
        }
    }
}

fn each(
    query: usize,
    rows: &[Row],
    mut take: impl FnMut(&Row) -> Result<(), &'static str>,
) -> Result<(), BadCatalog> {
    for (at, row) in rows.iter().enumerate() {
        take(row).map_err(|fault| BadCatalog { query, row: at, fault })?;
    }
    Ok(())
}

pub(super) fn text(row: &Row, at: usize) -> Result<&str, &'static str> {
    row.get(at).and_then(Option::as_deref).ok_or("a value is missing")
}

pub(super) fn number<N: FromStr>(row: &Row, at: usize) -> Result<N, &'static str> {
    text(row, at)?.parse().map_err(|_| "a number is none")
}

pub(super) fn yes(row: &Row, at: usize) -> Result<bool, &'static str> {
    match text(row, at)? {
        "t" => Ok(true),
        "f" => Ok(false),
        _ => Err("a boolean is neither `t` nor `f`"),
    }
}
