//! A statement in its session: what is asked, what is wrong with it already, what it leaves.

use super::operation::{self, Bound};
use super::prepared::Prepared;
use super::reading::{Catalog, Effect, Judged, Lineage, Statement};
use super::talk::Talk;
use super::veil::{Veil, Withheld};
use crate::decide::Denial;
use crate::flow::Asked;
use std::sync::Arc;

/// A statement, ready to be asked.
pub(super) struct Case {
    pub(super) asked: Asked,
    /// It is refused for this, without being judged.
    pub(super) flaw: Option<Denial>,
    pub(super) lineage: Lineage,
    pub(super) after: After,
    /// It names what the catalog does not have.
    pub(super) unknown: bool,
    /// It is unsettled for no more than that it writes rows.
    rows: bool,
}

/// What is known of the session after it.
#[derive(Clone, Copy, Debug)]
pub(super) struct After {
    /// No setting, role or name can have changed, but for what its effect says.
    pub(super) settled: bool,
    /// The catalog changed.
    pub(super) alters: bool,
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
        let (runs, mut flaw) = runs(talk, statement);
        let shows = runs.as_ref().unwrap_or(statement);
        let judged = judge(talk, shows);
        let asked = operation::of(talk, statement, runs.as_deref(), &judged, bound, within);
        let Judged { lineage, settled, alters, unknown, rows, .. } = judged;
        if flaw.is_none() {
            flaw = unmaskable(talk, &lineage);
        }
        let settled = settled && !matches!(statement.effect, Effect::Any | Effect::Discard(_));
        Self { asked, flaw, lineage, after: After { settled, alters }, unknown, rows }
    }

    /// Whether it does no more than write rows: a string of such is one of the common kind, and
    /// what defaults or triggers could do to names within it is the owner's own doing.
    pub(super) fn writes_only(&self) -> bool {
        self.rows
    }
}

/// What a statement comes to with the names as they are in this session.
fn judge(talk: &Talk, statement: &Statement) -> Judged {
    let none = Catalog::default();
    let catalog = talk.catalog.as_deref().unwrap_or(&none);
    let inputs = &talk.about.flow.inputs;
    let bundle = inputs.decider.bundle();
    let traces = talk.about.place.target(&bundle).is_none_or(|target| {
        bundle.masks_for(target).columns().any() || bundle.reads_columns(target, statement.action())
    });
    statement.judge(catalog, talk.search_path(), traces)
}

/// What a name in a statement stands for that it runs; or that this is not known.
fn runs(talk: &Talk, statement: &Statement) -> (Option<Arc<Statement>>, Option<Denial>) {
    match &statement.effect {
        Effect::Execute { name } => match verified(talk, name) {
            Ok(prepared) => (prepared.statement.clone(), None),
            Err(flaw) => (None, Some(flaw)),
        },
        Effect::Fetch { name } => match talk.names.cursors.get(name) {
            Some(inner) => (Some(Arc::clone(inner)), None),
            None => {
                let why = format!("cursor {name:?} was not declared in this session, so what it reads is not known");
                (None, Some(Denial::new("unknown-cursor", why)))
            }
        },
        _ => (None, None),
    }
}

/// A statement that a mask may concern and that cannot be followed, or that would take values
/// past the mask, is refused before anyone is asked.
fn unmaskable(talk: &Talk, lineage: &Lineage) -> Option<Denial> {
    let bundle = talk.about.flow.inputs.decider.bundle();
    let target = talk.about.place.target(&bundle)?;
    let untraceable = target.postgres.as_ref()?.untraceable;
    let rules = Arc::clone(bundle.masks_for(target).columns());
    let why: Withheld = Veil::new(rules, None, lineage, untraceable).err()?;
    Some(Denial::new(why.code(), why.to_string()))
}

/// A prepared statement whose text the backend has too.
pub(super) fn verified(talk: &Talk, name: &str) -> Result<Arc<Prepared>, Denial> {
    let unknown = || {
        let why = format!(
            "prepared statement {name:?} is not one that was read in this session, so what it \
             runs is not known; prepare it again"
        );
        Denial::new("unknown-prepared", why)
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
