//! PostgreSQL's frontend/backend protocol, versions 3.0 to 3.2.
//!
//! A connection is one operation, `sql.connect`, which is decided before the upstream is dialled
//! and lasts as long as the connection; each statement on it is an operation of its own. What
//! runs upstream is the very text that was read.
//!
//! The way: [`serve`](self) begins a connection -> `connect` decides and signs in -> `talk` takes
//! the client's messages in turn -> `statement` takes each statement through the spine -> `relay`
//! delivers what comes back, masked and recorded. `simple`, `extended`, `function` and `replication`
//! are the four ways in which a client can ask for something to run.

pub(crate) mod ahead;
pub mod codec;

mod cancel;
mod case;
mod catalog;
mod connect;
mod copy_data;
mod copy_form;
mod encoding;
mod extended;
mod function;
mod io;
mod operation;
mod prepared;
mod question;
mod reading;
mod refuse;
mod relay;
mod replication;
mod secrets;
mod serve;
mod simple;
pub mod sql;
mod state;
mod statement;
mod talk;
mod upstream;
mod veil;

pub(super) use serve::{serve, serve_direct};

/// What database sessions share; made once, in `app`.
#[derive(Clone, Default)]
pub struct Databases {
    cancels: cancel::Cancels,
    catalogs: catalog::Catalogs,
    statements: std::sync::Arc<sql::Cache>,
}

impl std::fmt::Debug for Databases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Databases").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
