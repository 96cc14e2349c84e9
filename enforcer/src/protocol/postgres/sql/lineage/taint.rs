//! What a value depends on.

use super::{ColumnRef, Output};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a value depends on.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Taint {
    /// Columns.
    pub(super) columns: BTreeSet<ColumnRef>,
    /// Something that cannot be followed, and why.
    pub(super) opaque: Option<Arc<str>>,
    /// It is the value of one of `columns`, as it is stored.
    pub(super) unchanged: bool,
}

/// A column of a query or of something in FROM.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Col {
    pub(super) name: String,
    pub(super) taint: Taint,
}

impl Taint {
    /// A value that cannot be followed.
    pub(super) fn opaque(why: impl Into<Arc<str>>) -> Self {
        Self { opaque: Some(why.into()), ..Self::default() }
    }

    /// Nothing: a constant, a parameter.
    pub(super) fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.opaque.is_none()
    }

    /// A value made of both.
    pub(super) fn mix(&mut self, other: &Self) {
        self.columns.extend(other.columns.iter().cloned());
        if self.opaque.is_none() {
            self.opaque.clone_from(&other.opaque);
        }
        self.unchanged = false;
    }

    /// A value that is the one or the other: unchanged when it is so in both.
    pub(super) fn either(&mut self, other: &Self) {
        let unchanged = self.unchanged && other.unchanged;
        self.mix(other);
        self.unchanged = unchanged;
    }

    /// The same, made into something else.
    pub(super) fn changed(mut self) -> Self {
        self.unchanged = false;
        self
    }
}

impl Col {
    pub(super) fn new(name: impl Into<String>, taint: Taint) -> Self {
        Self { name: name.into(), taint }
    }

    /// As an output; why not, when it cannot be followed.
    pub(super) fn output(self) -> Result<Output, Arc<str>> {
        match self.taint.opaque {
            Some(why) => Err(why),
            None => Ok(Output {
                name: self.name,
                columns: self.taint.columns.into_iter().collect(),
                unchanged: self.taint.unchanged,
            }),
        }
    }
}

/// All that several columns depend on.
pub(super) fn all<'a>(cols: impl IntoIterator<Item = &'a Col>) -> Taint {
    let mut taint = Taint::default();
    for col in cols {
        taint.mix(&col.taint);
    }
    taint
}
