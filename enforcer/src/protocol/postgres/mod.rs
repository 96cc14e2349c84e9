//! PostgreSQL.

pub mod sql;
