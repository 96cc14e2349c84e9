//! PostgreSQL's frontend/backend protocol, versions 3.0 to 3.2.

pub mod codec;

mod cancel;

/// What database sessions share; made once, in `app`.
#[derive(Clone, Debug, Default)]
pub struct Databases {
    /// The sessions that can be cancelled.
    pub cancels: cancel::Cancels,
}
