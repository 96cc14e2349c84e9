//! What the upstream's names mean: its catalog, read by an own connection.

use super::question::Rows;
use super::talk::{NotKnown, Talk};
use crate::decide::Denial;
use std::collections::HashMap;
use std::sync::Arc;

/// The questions that make a catalog.
pub(super) const QUESTIONS: &[&str] = &["SELECT a.attrelid::pg_catalog.text, \
    a.attnum::pg_catalog.text, n.nspname, c.relname, a.attname \
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"];

/// The relations of a database and their columns.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    columns: HashMap<(u32, i16), (String, String, String)>,
}

impl Catalog {
    /// Reads the answers to [`QUESTIONS`], in order.
    pub(super) fn read(answers: &[Rows]) -> Option<Self> {
        let mut columns = HashMap::new();
        for row in answers.first()? {
            let [table, number, schema, relation, column] = row.as_slice() else { return None };
            let key = (table.as_deref()?.parse().ok()?, number.as_deref()?.parse().ok()?);
            columns.insert(key, (schema.clone()?, relation.clone()?, column.clone()?));
        }
        Some(Self { columns })
    }

    /// Schema, table and name of a column by the oid of its table and its number.
    pub(super) fn column(&self, table: u32, number: i16) -> Option<(&str, &str, &str)> {
        let (schema, relation, column) = self.columns.get(&(table, number))?;
        Some((schema, relation, column))
    }
}

/// Reads the catalog anew: by an own connection, or on the session's own backend when the session
/// may have changed it in a transaction that nobody else sees yet.
pub(super) async fn refresh(talk: &mut Talk) -> Result<(), NotKnown> {
    let mut answers = Vec::with_capacity(QUESTIONS.len());
    for question in QUESTIONS {
        answers.push(talk.ask(question).await?);
    }
    let catalog = Catalog::read(&answers).ok_or_else(|| {
        NotKnown::Refuse(Denial::new("catalog-unknown", "the catalog could not be read"))
    })?;
    talk.catalog = Some(Arc::new(catalog));
    talk.state.altered = false;
    Ok(())
}
