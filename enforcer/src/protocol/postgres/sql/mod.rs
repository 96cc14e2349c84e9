//! SQL, read with PostgreSQL's own grammar: what a statement does ([`read`]), to what
//! ([`resolve`]), and which columns its answer depends on ([`lineage`]).
//!
//! Pure code: the only outside world is [`Catalog`], built from rows that somebody else asked
//! for. Everything fails closed: a text that cannot be read whole is [`Unreadable`], an output
//! that cannot be followed is [`Untraceable`], a name that the catalog does not know is a flag.

mod action;
mod cache;
pub mod catalog;
mod depth;
mod effect;
mod facts;
pub mod flags;
pub mod lineage;
mod names;
mod parser;
mod read;
mod resolve;
mod shape;
mod statement;
mod walk;

pub use cache::Cache;
pub use catalog::Catalog;
pub use effect::{Effect, Setting};
pub use lineage::{ColumnRef, Output, Trace, Untraceable, lineage, trace};
pub use read::{MAX_STATEMENTS, MAX_TEXT, NOT_TAKEN, Unreadable, read};
pub use resolve::{Resolved, effective_path, resolve};
pub use statement::{Function, Reading, Relation, Statement};

#[cfg(test)]
mod tests;
