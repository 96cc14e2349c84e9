//! From the text rows of an answer to objects of a [`Catalog`](super::Catalog).

use super::{Column, Kind, Table, Type};
use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

/// A row in text format; `None` for NULL.
pub type Row = Vec<Option<String>>;

/// The rows are not what the question asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("catalog query `{query}`, row {row}: {fault}")]
pub struct BadCatalog {
    /// What was asked.
    pub query: &'static str,
    /// The row, from 0.
    pub row: usize,
    /// What is wrong with it.
    pub fault: &'static str,
}

/// The expression of a generated column that was not read: one that nobody can follow.
const UNREAD: &str = "(";

/// Relations by their oids, as they are read.
pub(super) type Tables = HashMap<u32, Table>;

impl Table {
    pub(super) fn of(row: &Row) -> Result<Self, &'static str> {
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
        Ok(Self {
            oid: number(row, 0)?,
            schema: Arc::from(text(row, 1)?),
            name: Arc::from(text(row, 2)?),
            kind,
            columns: Vec::new(),
            definition: None,
            parents: Vec::new(),
            children: Vec::new(),
            rules: false,
            triggers: yes(row, 4)?,
            cascades: yes(row, 5)?,
            read: OnceLock::new(),
        })
    }

    /// Takes the text of its query (number 0), or of the expression of a generated column.
    pub(super) fn says(&mut self, number: i16, said: &str) {
        if number == 0 {
            self.definition = Some(said.to_owned());
            self.read = OnceLock::new();
        } else if let Some(column) = self.columns.iter_mut().find(|one| one.number == number)
            && column.generated.is_some()
        {
            column.generated = Some(said.to_owned());
        }
    }

    /// Whether [`Table::says`] would change nothing.
    pub(super) fn said(&self, number: i16, said: &str) -> bool {
        match number {
            0 => self.definition.as_deref() == Some(said),
            number => {
                let column = self.columns.iter().find(|one| one.number == number);
                column.and_then(|one| one.generated.as_deref()).is_none_or(|had| had == said)
            }
        }
    }
}

pub(super) fn column(tables: &mut Tables, row: &Row) -> Result<(), &'static str> {
    let column = Column {
        number: number(row, 1)?,
        name: Arc::from(text(row, 2)?),
        type_oid: number(row, 3)?,
        generated: yes(row, 4)?.then(|| UNREAD.to_owned()),
    };
    if let Some(table) = tables.get_mut(&number(row, 0)?) {
        table.columns.push(column);
    }
    Ok(())
}

pub(super) fn inherits(tables: &mut Tables, row: &Row) -> Result<(), &'static str> {
    let (child, parent) = (number(row, 0)?, number(row, 1)?);
    if let Some(table) = tables.get_mut(&child) {
        table.parents.push(parent);
    }
    if let Some(table) = tables.get_mut(&parent) {
        table.children.push(child);
    }
    Ok(())
}

pub(super) fn rule(tables: &mut Tables, row: &Row) -> Result<(), &'static str> {
    if let Some(table) = tables.get_mut(&number(row, 0)?) {
        table.rules = true;
    }
    Ok(())
}

impl Type {
    pub(super) fn of(row: &Row) -> Result<Self, &'static str> {
        Ok(Self {
            oid: number(row, 0)?,
            schema: Arc::from(text(row, 1)?),
            name: Arc::from(text(row, 2)?),
            kind: text(row, 3)?.chars().next().ok_or("a type has no kind")?,
            relation: number(row, 4)?,
            base: number(row, 5)?,
            element: number(row, 6)?,
        })
    }
}

pub(super) fn each(
    query: &'static str,
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
