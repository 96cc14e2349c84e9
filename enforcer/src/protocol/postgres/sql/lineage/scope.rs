//! What names mean at one place of a query: PostgreSQL's own rules (parse_relation.c,
//! `transformColumnRef`).

use super::taint::{Col, Taint, all};

/// Something in FROM.
#[derive(Clone, Debug)]
pub(super) struct Item {
    /// The name it is referred to by.
    pub(super) name: Option<String>,
    /// The schema of a relation without an alias.
    pub(super) schema: Option<String>,
    pub(super) cols: Vec<Col>,
    /// Columns can be named without it (not those of what an outer join is made of).
    pub(super) bare: bool,
    /// Its name can be used.
    pub(super) named: bool,
    /// A relation: it has system columns.
    pub(super) relation: bool,
    /// Its columns are not known; each would depend on this.
    pub(super) open: Option<Taint>,
}

impl Item {
    pub(super) fn new(name: Option<String>, cols: Vec<Col>) -> Self {
        Self {
            named: name.is_some(),
            name,
            schema: None,
            cols,
            bare: true,
            relation: false,
            open: None,
        }
    }

    /// The whole row.
    pub(super) fn row(&self) -> Taint {
        let mut row = all(&self.cols);
        if let Some(open) = &self.open {
            row.mix(open);
        }
        row
    }

    /// A column of it.
    pub(super) fn column(&self, name: &str) -> Option<Taint> {
        let mut found = None;
        for col in self.cols.iter().filter(|col| col.name == name) {
            merge(&mut found, &col.taint);
        }
        if found.is_none() && self.relation && is_system(name) {
            found = Some(Taint::default());
        }
        if let (None, Some(open)) = (&found, &self.open) {
            found = Some(open.clone().changed());
        }
        found
    }
}

/// Columns that every relation has; they hold nothing of the others.
fn is_system(name: &str) -> bool {
    matches!(name, "ctid" | "xmin" | "xmax" | "cmin" | "cmax" | "tableoid")
}

/// The things in FROM of one query, and of the queries around it.
pub(super) struct Scope<'p> {
    pub(super) items: Vec<Item>,
    pub(super) outer: Option<&'p Self>,
}

/// What a reference with dots found.
pub(super) enum Found<'s> {
    /// A column.
    Column(Taint),
    /// An item that has no such column.
    Item(&'s Item),
}

impl<'p> Scope<'p> {
    pub(super) fn new(items: Vec<Item>, outer: Option<&'p Self>) -> Self {
        Self { items, outer }
    }

    fn levels(&self) -> impl Iterator<Item = &Scope<'p>> {
        std::iter::successors(Some(self), |scope| scope.outer)
    }

    /// A column without a table's name: of the innermost query that has one. Where several have
    /// it PostgreSQL fails; all count here. What may have it (its columns are not known) counts,
    /// and so does what is found further out.
    pub(super) fn bare(&self, name: &str) -> Option<Taint> {
        let mut found = None;
        for level in self.levels() {
            let mut surely = false;
            for item in level.items.iter().filter(|item| item.bare) {
                if let Some(taint) = item.column(name) {
                    surely |= item.open.is_none();
                    merge(&mut found, &taint);
                }
            }
            if surely {
                break;
            }
        }
        found
    }

    /// What `table` or `schema.table` means.
    pub(super) fn item(&self, schema: Option<&str>, name: &str) -> Option<&Item> {
        self.levels().find_map(|level| {
            level.items.iter().find(|item| {
                item.named
                    && item.name.as_deref() == Some(name)
                    && (schema.is_none() || item.schema.as_deref() == schema)
            })
        })
    }

    /// `table.column`.
    pub(super) fn dotted(
        &self,
        schema: Option<&str>,
        table: &str,
        name: &str,
    ) -> Option<Found<'_>> {
        let item = self.item(schema, table)?;
        Some(match item.column(name) {
            Some(taint) => Found::Column(taint),
            None => Found::Item(item),
        })
    }
}

fn merge(found: &mut Option<Taint>, taint: &Taint) {
    match found {
        Some(found) => found.either(taint),
        None => *found = Some(taint.clone()),
    }
}
