//! Changes of rows: what RETURNING gives back, and which values go into which column.

use super::scope::{Item, Scope};
use super::taint::{Col, Taint, all};
use super::top::{Cols, Ctes, Place, Stop, Tracer, stop};
use crate::protocol::postgres::sql::names;
use pg_query::protobuf::{
    DeleteStmt, InsertStmt, MergeStmt, OnConflictClause, RangeVar, ResTarget, UpdateStmt,
};
use pg_query::{Node, NodeEnum};

impl Tracer<'_> {
    /// The table that a statement changes; a common table expression cannot be one.
    fn target(&mut self, range: Option<&RangeVar>, scope: &Scope<'_>) -> Result<Item, Stop> {
        let Some(range) = range else { return stop("a change has no table") };
        self.no_catalog(range)?;
        let none = Ctes::default();
        self.range(range, Place { scope, ctes: &none })
    }

    pub(super) fn insert(&mut self, insert: &InsertStmt, place: Place<'_>) -> Cols {
        self.with(insert.with_clause.as_ref(), place, |tracer, place| {
            let mut target = tracer.target(insert.relation.as_ref(), place.scope)?;
            let columns = targets(&insert.cols)?;
            let names: Vec<String> = match columns.is_empty() {
                true => target.cols.iter().map(|col| col.name.clone()).collect(),
                false => columns.iter().map(|target| target.name.clone()).collect(),
            };
            let source = match insert.select_stmt.as_deref().and_then(|node| node.node.as_ref()) {
                Some(query) => tracer.query(query, place)?,
                None => Vec::new(),
            };
            if source.len() > names.len() {
                return stop("more values are inserted than there are columns");
            }
            let mut excluded = Item::new(Some("excluded".to_owned()), Vec::new());
            excluded.relation = true;
            excluded.cols =
                target.cols.iter().map(|col| Col::new(&*col.name, Taint::default())).collect();
            for (name, value) in names.iter().zip(&source) {
                tracer.assign(insert.relation.as_ref(), &mut target, name, &value.taint)?;
                if let Some(col) = excluded.cols.iter_mut().find(|col| col.name == *name) {
                    col.taint.mix(&value.taint);
                }
            }
            // RETURNING can give back what a default or a generated column made of the rest.
            if let Some(conflict) = insert.on_conflict_clause.as_deref() {
                tracer.conflict(
                    conflict,
                    insert.relation.as_ref(),
                    &mut target,
                    excluded,
                    place,
                )?;
            }
            tracer.returning(&insert.returning_list, vec![target], place)
        })
    }

    fn conflict(
        &mut self,
        conflict: &OnConflictClause,
        range: Option<&RangeVar>,
        target: &mut Item,
        excluded: Item,
        place: Place<'_>,
    ) -> Result<(), Stop> {
        let scope = Scope::new(vec![target.clone(), excluded], Some(place.scope));
        let inner = Place { scope: &scope, ctes: place.ctes };
        if let Some(infer) = conflict.infer.as_deref() {
            self.conditions([&infer.where_clause], inner)?;
        }
        self.assignments(&conflict.target_list, range, target, inner)?;
        // Bare names mean the table's: the row that is in conflict.
        self.conditions([&conflict.where_clause], inner)
    }

    pub(super) fn update(&mut self, update: &UpdateStmt, place: Place<'_>) -> Cols {
        self.with(update.with_clause.as_ref(), place, |tracer, place| {
            let mut target = tracer.target(update.relation.as_ref(), place.scope)?;
            let others = tracer.from(&update.from_clause, place)?;
            let all = std::iter::once(target.clone()).chain(others.iter().cloned()).collect();
            let scope = Scope::new(all, Some(place.scope));
            let inner = Place { scope: &scope, ctes: place.ctes };
            let range = update.relation.as_ref();
            tracer.assignments(&update.target_list, range, &mut target, inner)?;
            tracer.conditions([&update.where_clause], inner)?;
            let items = std::iter::once(target).chain(others).collect();
            tracer.returning(&update.returning_list, items, place)
        })
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt, place: Place<'_>) -> Cols {
        self.with(delete.with_clause.as_ref(), place, |tracer, place| {
            let mut items = vec![tracer.target(delete.relation.as_ref(), place.scope)?];
            items.extend(tracer.from(&delete.using_clause, place)?);
            let scope = Scope::new(items.clone(), Some(place.scope));
            let inner = Place { scope: &scope, ctes: place.ctes };
            tracer.conditions([&delete.where_clause], inner)?;
            tracer.returning(&delete.returning_list, items, place)
        })
    }

    pub(super) fn merge(&mut self, merge: &MergeStmt, place: Place<'_>) -> Cols {
        self.with(merge.with_clause.as_ref(), place, |tracer, place| {
            let range = merge.relation.as_ref();
            let mut target = tracer.target(range, place.scope)?;
            let source = match merge.source_relation.as_deref() {
                Some(source) => tracer.from(std::slice::from_ref(source), place)?,
                None => return stop("MERGE has no source"),
            };
            let items: Vec<Item> = source.iter().cloned().chain([target.clone()]).collect();
            let scope = Scope::new(items, Some(place.scope));
            let inner = Place { scope: &scope, ctes: place.ctes };
            tracer.conditions([&merge.join_condition], inner)?;
            for when in &merge.merge_when_clauses {
                let Some(NodeEnum::MergeWhenClause(when)) = &when.node else {
                    return stop("a part of MERGE is none");
                };
                tracer.conditions([&when.condition], inner)?;
                if when.values.is_empty() {
                    tracer.assignments(&when.target_list, range, &mut target, inner)?;
                    continue;
                }
                let columns = targets(&when.target_list)?;
                let names: Vec<String> = match columns.is_empty() {
                    true => target.cols.iter().map(|col| col.name.clone()).collect(),
                    false => columns.iter().map(|target| target.name.clone()).collect(),
                };
                if when.values.len() > names.len() {
                    return stop("more values are inserted than there are columns");
                }
                for (name, value) in names.iter().zip(&when.values) {
                    let taint = tracer.value(value, inner)?;
                    tracer.assign(range, &mut target, name, &taint)?;
                }
            }
            let items = source.into_iter().chain([target]).collect();
            tracer.returning(&merge.returning_list, items, place)
        })
    }

    fn returning(&mut self, list: &[Node], items: Vec<Item>, place: Place<'_>) -> Cols {
        let scope = Scope::new(items, Some(place.scope));
        let inner = Place { scope: &scope, ctes: place.ctes };
        self.targets(list, inner, &Taint::default())
    }

    /// `SET column = value, ...`.
    fn assignments(
        &mut self,
        list: &[Node],
        range: Option<&RangeVar>,
        target: &mut Item,
        place: Place<'_>,
    ) -> Result<(), Stop> {
        for set in targets(list)? {
            let Some(value) = set.val.as_deref() else { return stop("SET has no value") };
            let mut taint = match &value.node {
                // `(a, b) = (SELECT ...)`: each depends on all of it.
                Some(NodeEnum::MultiAssignRef(part)) => match part.source.as_deref() {
                    Some(source) => self.multiple(source, place)?,
                    None => return stop("SET has no value"),
                },
                _ => self.value(value, place)?,
            };
            for part in &set.indirection {
                if names::string(part).is_none() {
                    taint.mix(&self.value(part, place)?);
                }
            }
            self.assign(range, target, &set.name, &taint)?;
        }
        Ok(())
    }

    fn multiple(&mut self, source: &Node, place: Place<'_>) -> Result<Taint, Stop> {
        match &source.node {
            Some(NodeEnum::SubLink(link)) => {
                let query = link.subselect.as_deref().and_then(|node| node.node.as_ref());
                match query {
                    Some(query) => Ok(all(&self.query(query, place)?)),
                    None => stop("a subquery is missing"),
                }
            }
            _ => self.value(source, place).map(Taint::changed),
        }
    }

    /// A value goes into a column: RETURNING gives it back under the column's name.
    fn assign(
        &mut self,
        range: Option<&RangeVar>,
        target: &mut Item,
        name: &str,
        value: &Taint,
    ) -> Result<(), Stop> {
        let Some(col) = target.cols.iter_mut().find(|col| col.name == name) else {
            return stop(format!("no column {name} is known in the table that is changed"));
        };
        if value.is_empty() {
            return Ok(());
        }
        let own = value.columns.is_subset(&col.taint.columns) && value.opaque.is_none();
        if !own {
            col.taint.mix(value);
            let table = range.map_or_else(String::new, |range| names::relation(range).to_string());
            self.keep(format!("{table}.{name}"), value.clone())?;
        }
        Ok(())
    }
}

fn targets(list: &[Node]) -> Result<Vec<&ResTarget>, Stop> {
    let target = |node| match node {
        &Node { node: Some(NodeEnum::ResTarget(ref target)) } => Ok(&**target),
        _ => stop("a column that is set is none"),
    };
    list.iter().map(target).collect()
}
