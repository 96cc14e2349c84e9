//! The columns of relations: of tables with their inheritance, of views through their queries.

use super::scope::{Item, Scope};
use super::taint::{Col, Taint};
use super::top::{Cols, Ctes, Place, Stop, Tracer, stop};
use super::{ColumnRef, expression};
use crate::protocol::postgres::sql::catalog::{Kind, Table};
use crate::protocol::postgres::sql::names;
use crate::protocol::postgres::sql::resolve::view_path;
use pg_query::protobuf::RangeVar;
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// The relations whose columns are known, and the views that are being looked into.
#[derive(Default)]
pub(super) struct Relations {
    known: HashMap<u32, Rc<Vec<Col>>>,
    open: BTreeSet<u32>,
}

impl Tracer<'_> {
    /// The columns of the relation that a RangeVar names.
    pub(super) fn columns_of(&mut self, range: &RangeVar) -> Cols {
        let relation = names::relation(range);
        let catalog = self.catalog;
        match catalog.resolve(&self.path, &relation) {
            Some(table) => Ok(self.columns(table)?.to_vec()),
            None => stop(format!("the catalog knows no relation {relation}")),
        }
    }

    /// The columns of a relation.
    pub(super) fn columns(&mut self, table: &Table) -> Result<Rc<Vec<Col>>, Stop> {
        if let Some(known) = self.relations.known.get(&table.oid) {
            return Ok(Rc::clone(known));
        }
        if !self.relations.open.insert(table.oid) {
            return stop(format!("{} is made of itself", table.relation()));
        }
        let cols = match table.kind {
            Kind::View | Kind::Materialized => self.view(table),
            _ => self.stored(table),
        };
        self.relations.open.remove(&table.oid);
        let cols = Rc::new(cols?);
        self.relations.known.insert(table.oid, Rc::clone(&cols));
        Ok(cols)
    }

    fn stored(&mut self, table: &Table) -> Cols {
        let catalog = self.catalog;
        let family = catalog.family(table);
        let mut cols: Vec<Col> = table
            .columns
            .iter()
            .map(|column| {
                let holders = family.iter().filter(|member| member.column(&column.name).is_some());
                let columns = holders.map(|member| reference(member, &column.name)).collect();
                let opaque = holds_others(table, &column.name).map(Arc::from);
                Col::new(&*column.name, Taint { columns, opaque, unchanged: true })
            })
            .collect();
        for column in &table.columns {
            if let Some(text) = &column.generated {
                let mixed = self.generated(text, &cols)?;
                if let Some(col) = cols.iter_mut().find(|col| *col.name == *column.name) {
                    col.taint.mix(&mixed);
                }
            }
        }
        Ok(cols)
    }

    /// What a generated column is made of: an expression over the columns of its table.
    fn generated(&mut self, text: &str, cols: &[Col]) -> Result<Taint, Stop> {
        let Ok(read) = crate::protocol::postgres::sql::read(&format!("SELECT {text}")) else {
            return Ok(Taint::opaque("the expression of a generated column cannot be read"));
        };
        let [statement] = &read[..] else {
            return Ok(Taint::opaque("the expression of a generated column cannot be read"));
        };
        let scope = Scope::new(vec![Item::new(None, cols.to_vec())], None);
        let ctes = Ctes::default();
        let place = Place { scope: &scope, ctes: &ctes };
        let path = std::mem::replace(&mut self.path, view_path());
        let made = self.query(&statement.tree, place);
        self.path = path;
        Ok(super::taint::all(&made?))
    }

    /// A view's columns are its own, and what its query says. Its conditions are its owner's, and
    /// what in it cannot be followed is met where its columns are used.
    fn view(&mut self, table: &Table) -> Cols {
        let (looked_at, blind) = (self.looked_at.clone(), self.blind);
        let made = match table.query() {
            Some(Ok(query)) => {
                let path = std::mem::replace(&mut self.path, view_path());
                let (scope, ctes) = (Scope::new(Vec::new(), None), Ctes::default());
                let made = self.query(&query.tree, Place { scope: &scope, ctes: &ctes });
                self.path = path;
                made
            }
            Some(Err(error)) => stop(error.to_string()),
            None => stop("it has no query"),
        };
        (self.looked_at, self.blind) = (looked_at, blind);
        let made = match made {
            Ok(made) if made.len() == table.columns.len() => Ok(made),
            Ok(_) => Err("its query has another number of columns".to_owned()),
            Err(Stop::Untraceable(why)) => Err(why),
            Err(Stop::NotYet) => Err("it cannot be told".to_owned()),
        };
        let own = table.columns.iter();
        Ok(match made {
            Ok(made) => own
                .zip(made)
                .map(|(column, made)| {
                    let mut taint = made.taint;
                    taint.columns.insert(reference(table, &column.name));
                    Col::new(&*column.name, taint)
                })
                .collect(),
            Err(why) => {
                let why: Arc<str> = format!("the view {}: {why}", table.relation()).into();
                own.map(|column| Col::new(&*column.name, Taint::opaque(Arc::clone(&why)))).collect()
            }
        })
    }

    /// What FROM has of a relation; a common table expression comes before all others.
    pub(super) fn range(&mut self, range: &RangeVar, place: Place<'_>) -> Result<Item, Stop> {
        let alias = range.alias.as_ref();
        let name = alias.map_or(&range.relname, |alias| &alias.aliasname).clone();
        let own = match range.schemaname.is_empty() {
            true => place.ctes.find(&range.relname),
            false => None,
        };
        let relation = own.is_none();
        let cols = match own {
            Some(cols) => cols?,
            None => self.columns_of(range)?,
        };
        let mut item = Item::new(Some(name), cols);
        item.relation = relation;
        if relation && alias.is_none() {
            let found = self.catalog.resolve(&self.path, &names::relation(range));
            item.schema = found.map(|table| table.schema.to_string());
        }
        expression::rename(&mut item.cols, alias)?;
        Ok(item)
    }
}

pub(super) fn reference(table: &Table, column: &str) -> ColumnRef {
    ColumnRef {
        schema: Arc::clone(&table.schema),
        table: Arc::clone(&table.name),
        column: Arc::from(column),
    }
}

/// Columns of PostgreSQL's own tables that hold values of other tables' columns.
fn holds_others(table: &Table, column: &str) -> Option<String> {
    let holds = match (table.kind, &*table.schema, &*table.name) {
        (Kind::Toast, ..) => true,
        (_, "pg_catalog", "pg_statistic") => {
            column.starts_with("stavalues") || column.starts_with("stanumbers")
        }
        (_, "pg_catalog", "pg_statistic_ext_data") => true,
        (_, "pg_catalog", "pg_largeobject") => column == "data",
        _ => false,
    };
    holds.then(|| format!("{}.{column} holds values of other tables", table.relation()))
}
