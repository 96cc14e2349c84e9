//! What a session prepared and opened: statements, portals and cursors, by name.

use super::case::After;
use super::codec::backend::Transaction;
use super::codec::frontend::Bind;
use super::codec::row_description::Field;
use super::reading::{Catalog, Statement};
use super::statement::Resume;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Most prepared statements, portals and cursors of one session, each.
pub(super) const MOST: usize = 4096;

/// A prepared statement, of the protocol or of `PREPARE`.
#[derive(Debug)]
pub(super) struct Prepared {
    /// What it runs; `None` is an empty string.
    pub(super) statement: Option<Arc<Statement>>,
    /// SHA-256, hex, of the text that the backend keeps of it.
    pub(super) hash: String,
    /// The types of its parameters, as far as they are known.
    pub(super) types: Vec<u32>,
    /// The columns of its rows, as the backend described them; `None` when it did not, or it has
    /// none.
    pub(super) fields: Option<Vec<Field>>,
}

impl Prepared {
    /// The hash under which a backend's own list is compared.
    pub(super) fn hash(text: &str) -> String {
        hex::encode(Sha256::digest(text))
    }
}

/// A portal.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) prepared: Arc<Prepared>,
    pub(super) bind: Bind,
    pub(super) life: Life,
}

/// How far a portal is.
#[derive(Debug)]
pub(super) enum Life {
    /// It is not upstream yet: binding plans, and planning may call functions, so it waits for
    /// the permit that running it needs. `answered`: the agent was told that it is bound.
    Waiting { answered: bool },
    /// It has rows left; the operation that runs it waits for the next call.
    Suspended(oneshot::Sender<Resume>, After),
    /// It ran to its end.
    Done,
}

/// A cursor of `DECLARE`, or a portal with rows left, which SQL takes for one: what it reads is
/// settled when it is opened, whatever names mean later.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    pub(super) statement: Arc<Statement>,
    pub(super) path: Vec<String>,
    pub(super) catalog: Option<Arc<Catalog>>,
    /// SHA-256, hex, of the string that declared it.
    pub(super) hash: String,
    /// What a portal was bound to.
    pub(super) bound: Option<(Bind, Arc<Prepared>)>,
}

/// All names of a session.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) statements: HashMap<String, Arc<Prepared>>,
    pub(super) portals: HashMap<String, Portal>,
    pub(super) cursors: HashMap<String, Cursor>,
}

impl Names {
    /// A series or transaction came to its end: without a transaction nothing stays open. (What
    /// `WITH HOLD` keeps open past it is found again by its declaration.)
    pub(super) fn ready(&mut self, transaction: Transaction) {
        match transaction {
            Transaction::Idle | Transaction::Failed => {
                self.portals.clear();
                self.cursors.retain(|_, cursor| cursor.bound.is_none());
            }
            Transaction::Open => {}
        }
    }
}
