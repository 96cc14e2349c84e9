//! What is read from texts, and what the catalog makes of it.

mod limits;
mod reading;
mod resolving;

use super::catalog::{BadCatalog, Catalog, Refresh, Row, Stamp};
use super::{Resolved, Statement, read, resolve};
use std::sync::LazyLock;

/// The catalog of `schema.sql`, as PostgreSQL 15 tells it.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
    let rows: Vec<Vec<Row>> = serde_json::from_str(include_str!("catalog.json")).unwrap();
    of_rows(&rows).unwrap()
});

/// The catalog that these answers tell of, one list of rows for each question.
fn of_rows(answers: &[Vec<Row>]) -> Result<Catalog, BadCatalog> {
    let mut refresh = Refresh::new(None, Stamp::default());
    for answer in answers {
        assert!(refresh.question().is_some());
        refresh.answer(answer)?;
    }
    assert!(refresh.question().is_none());
    Ok(refresh.catalog())
}

pub(super) fn catalog() -> &'static Catalog {
    &CATALOG
}

/// The effective search path of a session that changed nothing.
pub(super) fn path() -> Vec<String> {
    super::effective_path(&["$user".to_owned(), "public".to_owned()], "agent", None)
}

/// The one statement of a text.
pub(super) fn one(sql: &str) -> Statement {
    let mut all = read(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    assert_eq!(all.len(), 1, "{sql}");
    all.remove(0)
}

fn resolved(sql: &str) -> Resolved {
    resolve(&one(sql), catalog(), &path())
}

fn shown<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
