//! A statement in its session: what is asked, what is wrong with it already, what it leaves.

use super::operation::{self, Bound};
use super::prepared::{Cursor, Prepared};
use super::reading::{Catalog, Effect, Judged, Lineage, Statement};
use super::relay::Takes;
use super::talk::Talk;
use super::veil::{Veil, Withheld};
use crate::decide::Denial;
use crate::flow::Asked;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

/// A statement, ready to be asked.
pub(super) struct Case {
    pub(super) asked: Asked,
    /// It is refused for this, without being judged.
    pub(super) flaw: Option<Denial>,
    pub(super) lineage: Lineage,
    /// The data that the agent sends for it.
    pub(super) takes: Takes,
    pub(super) after: After,
    /// It names what the catalog does not have.
    pub(super) unknown: bool,
    /// It is unsettled for no more than that it writes rows.
    rows: bool,
    /// What it does depends on what names mean.
    names: bool,
}

/// What is known of the session after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    /// No setting, role or name can have changed, but for what its effect says.
    pub(super) settled: bool,
    /// The catalog may have changed.
    pub(super) alters: bool,
    /// It said that it changes the catalog: other sessions look at it again, too.
    pub(super) defines: bool,
}

impl Case {
    /// Judges a statement in a session. `within`: statements before it in the same string began a
    /// transaction.
    pub(super) fn of(
        talk: &Talk,
        statement: &Arc<Statement>,
        bound: Option<&Bound<'_>>,
        within: bool,
    ) -> Self {
        let (runs, cursor, mut flaw) = runs(talk, statement);
        if let Some(why) = &statement.blinds {
            flaw = Some(Denial::new("unreadable-setting", why.as_str()));
        }
        let portal = cursor.and_then(|cursor| cursor.bound.as_ref());
        let portal = portal.map(|(bind, prepared)| Bound { bind, prepared });
        let bound = portal.as_ref().or(bound);
        let shows = runs.as_ref().unwrap_or(statement);
        let kept = bound.is_some() || runs.is_some() || shows.recurs();
        let judged = judge(talk, shows, cursor, kept);
        let asked = operation::of(talk, statement, runs.as_deref(), &judged, bound, within);
        let names = judged.names_something()
            || !matches!(
                judged.action,
                "sql.set"
                    | "sql.show"
                    | "sql.cursor"
                    | "sql.listen"
                    | "sql.notify"
                    | "sql.transaction"
            );
        let Judged { settled, alters, defines, unknown, rows, .. } = *judged;
        let mut lineage = judged.lineage.clone();
        // What fails at the end of a transaction may be anything that was done in it.
        lineage.anything |= matches!(statement.effect, Effect::End);
        if flaw.is_none() {
            flaw = unmaskable(talk, &lineage);
        }
        let settled = settled && !matches!(statement.effect, Effect::Any | Effect::Discard(_));
        Self {
            asked,
            flaw,
            lineage,
            takes: shows.takes(talk.catalog.as_deref(), talk.search_path()),
            after: After { settled, alters, defines },
            unknown,
            rows,
            names,
        }
    }

    /// Whether it does no more than write rows: a string of such is one of the common kind, and
    /// what defaults or triggers could do to names within it is the owner's own doing.
    pub(super) fn writes_only(&self) -> bool {
        self.rows
    }

    /// Whether what it does depends on what names mean, and on the role.
    pub(super) fn depends(&self) -> bool {
        self.names
    }
}

/// What a statement comes to with the names as they are in this session.
fn judge(
    talk: &Talk,
    statement: &Arc<Statement>,
    cursor: Option<&Cursor>,
    kept: bool,
) -> Arc<Judged> {
    let (catalog, path) = match cursor {
        Some(cursor) => (&cursor.catalog, cursor.path.as_slice()),
        None => (&talk.catalog, talk.search_path()),
    };
    let inputs = &talk.about.flow.inputs;
    let bundle = inputs.decider.bundle();
    let traces = talk.about.place.target(&bundle).is_none_or(|target| {
        bundle.masks_for(target).columns().any() || bundle.reads_columns(target, statement.action())
    });
    let Some(catalog) = catalog else {
        return Arc::new(statement.judge(&Catalog::default(), path, traces));
    };
    // Only what was prepared, or came before, comes again as the same.
    match kept {
        true => talk.judged.borrow_mut().get(statement, catalog, path, traces),
        false => Arc::new(statement.judge(catalog, path, traces)),
    }
}

/// What statements came to, while nothing that this depends on changes.
#[derive(Default)]
pub(super) struct Kept {
    catalog: Weak<Catalog>,
    path: Vec<String>,
    traces: bool,
    /// By their reading, which the statement itself keeps its own.
    judged: HashMap<usize, (Arc<Statement>, Arc<Judged>)>,
}

/// Most that are kept of one session.
const MOST_KEPT: usize = 256;

impl Kept {
    fn get(
        &mut self,
        statement: &Arc<Statement>,
        catalog: &Arc<Catalog>,
        path: &[String],
        traces: bool,
    ) -> Arc<Judged> {
        let same = std::ptr::eq(self.catalog.as_ptr(), Arc::as_ptr(catalog))
            && self.path == path
            && self.traces == traces;
        if !same || self.judged.len() >= MOST_KEPT {
            let path = path.to_vec();
            *self = Self { catalog: Arc::downgrade(catalog), path, traces, judged: HashMap::new() };
        }
        let kept = self.judged.entry(statement.reading()).or_insert_with(|| {
            (Arc::clone(statement), Arc::new(statement.judge(catalog, path, traces)))
        });
        Arc::clone(&kept.1)
    }
}

/// What a name in a statement stands for that it runs; or that this is not known.
fn runs<'t>(
    talk: &'t Talk,
    statement: &Statement,
) -> (Option<Arc<Statement>>, Option<&'t Cursor>, Option<Denial>) {
    match &statement.effect {
        Effect::Execute { name } => match verified(talk, name) {
            Ok(prepared) => (prepared.statement.clone(), None, None),
            Err(flaw) => (None, None, Some(*flaw)),
        },
        Effect::Fetch { name } => match cursor(talk, name) {
            Some(cursor) => (Some(Arc::clone(&cursor.statement)), Some(cursor), None),
            None => {
                let why = format!(
                    "cursor {name:?} was not declared in this session, so what it reads is not known"
                );
                (None, None, Some(Denial::new("unknown-cursor", why)))
            }
        },
        _ => (None, None, None),
    }
}

/// A statement that a mask may concern and that cannot be followed, or that would take values
/// past the mask, is refused before anyone is asked.
pub(super) fn unmaskable(talk: &Talk, lineage: &Lineage) -> Option<Denial> {
    let bundle = talk.about.flow.inputs.decider.bundle();
    let target = talk.about.place.target(&bundle)?;
    let untraceable = target.postgres.as_ref()?.untraceable;
    let rules = Arc::clone(bundle.masks_for(target).columns());
    let why: Withheld = Veil::new(rules, None, lineage, untraceable).err()?;
    Some(Denial::new(why.code(), why.to_string()))
}

/// A cursor that the backend has of the same string. One that was fetched from in its protocol
/// alone is none.
fn cursor<'t>(talk: &'t Talk, name: &str) -> Option<&'t Cursor> {
    let cursor = talk.names.cursors.get(name)?;
    let known = talk.state.known.as_ref()?;
    (known.cursors.get(name) == Some(&cursor.hash)).then_some(cursor)
}

/// A prepared statement whose text the backend has too.
pub(super) fn verified(talk: &Talk, name: &str) -> Result<Arc<Prepared>, Box<Denial>> {
    let unknown = || {
        let why = format!(
            "prepared statement {name:?} is not one that was read in this session, so what it \
             runs is not known; prepare it again"
        );
        Box::new(Denial::new("unknown-prepared", why))
    };
    let prepared = talk.names.statements.get(name).ok_or_else(unknown)?;
    let known = talk.state.known.as_ref().ok_or_else(unknown)?;
    match known.prepared.get(name) {
        Some(hash) if *hash == prepared.hash => Ok(Arc::clone(prepared)),
        // The unnamed one is in no list, and nothing but the protocol can make it.
        None if name.is_empty() => Ok(Arc::clone(prepared)),
        _ => Err(unknown()),
    }
}
