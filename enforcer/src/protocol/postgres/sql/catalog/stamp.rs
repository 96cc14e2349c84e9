//! What tells a snapshot from another, piece by piece.

use super::{BadCatalog, FIRST_NORMAL_OID, Row, load};
use std::collections::{BTreeSet, HashMap};

/// Pieces that the objects of one kind are in: one for PostgreSQL's own, the others for the rest.
pub(super) const BUCKETS: usize = 257;
/// Objects made one after another are in one bucket, this power of two of them.
pub(super) const RUN: u32 = 5;

/// The bucket that an object is in: see [`Stamp::question`], which says the same.
pub(super) fn bucket(oid: u32) -> usize {
    match oid < FIRST_NORMAL_OID {
        true => 0,
        false => 1 + (oid >> RUN) as usize % (BUCKETS - 1),
    }
}

/// A part of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Part {
    /// Names of schemas and languages.
    Names,
    /// Relations, by the relation: columns, triggers, rules and inheritance too.
    Relations,
    /// Functions.
    Routines,
    /// Types.
    Types,
    /// Operators.
    Operators,
    /// Casts.
    Casts,
    /// What is only named in the text of an expression: collations and the like.
    Words,
}

/// What was there when it was asked: a sum for each bucket of each part, of the rows and the
/// transactions that wrote them. It says nothing of an order, and equal ones are of equal rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The run of the server: another one's transactions have the same numbers.
    server: String,
    sums: HashMap<(Part, usize), i128>,
}

/// Which buckets of a part are not as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Buckets {
    /// Every one.
    All,
    /// These.
    These(BTreeSet<usize>),
}

impl Buckets {
    pub(super) fn none(&self) -> bool {
        matches!(self, Self::These(buckets) if buckets.is_empty())
    }

    pub(super) fn has(&self, bucket: usize) -> bool {
        match self {
            Self::All => true,
            Self::These(buckets) => buckets.contains(&bucket),
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        (0..BUCKETS).filter(|bucket| self.has(*bucket))
    }
}

impl Stamp {
    /// The stamp in the answer to [`Stamp::question`], and what [`Stamp::SEEN`] would have
    /// answered in its place.
    ///
    /// # Errors
    /// When the rows are not of that question's form.
    pub fn read(rows: &[Row]) -> Result<(Self, Option<String>), BadCatalog> {
        let (mut stamp, mut seen) = (Self::default(), None);
        load::each("stamp", rows, |row| {
            let part = match load::text(row, 0)? {
                "seen" => {
                    seen = row.get(2).cloned().flatten();
                    return Ok(());
                }
                "server" => {
                    load::text(row, 2)?.clone_into(&mut stamp.server);
                    return Ok(());
                }
                "names" => Part::Names,
                "relations" => Part::Relations,
                "routines" => Part::Routines,
                "types" => Part::Types,
                "operators" => Part::Operators,
                "casts" => Part::Casts,
                "words" => Part::Words,
                _ => return Err("an unknown part"),
            };
            let bucket: usize = load::number(row, 1)?;
            if bucket >= BUCKETS {
                return Err("an unknown bucket");
            }
            stamp.sums.insert((part, bucket), load::number(row, 2)?);
            Ok(())
        })?;
        match stamp.server.is_empty() || stamp.sums.is_empty() {
            true => Err(BadCatalog { query: "stamp", row: rows.len(), fault: "a row is missing" }),
            false => Ok((stamp, seen)),
        }
    }

    /// The buckets of a part that differ; all when nothing is known of how they were.
    pub(super) fn differs(&self, known: Option<&Self>, part: Part) -> Buckets {
        let Some(known) = known.filter(|known| known.server == self.server) else {
            return Buckets::All;
        };
        let of = |bucket| (self.sums.get(&(part, bucket)), known.sums.get(&(part, bucket)));
        let differ = (0..BUCKETS).filter(|bucket| {
            let (now, then) = of(*bucket);
            now != then
        });
        Buckets::These(differ.collect())
    }
}
