//! A signed-in connection.

use crate::protocol::postgres::io::Wire;
use bytes::Bytes;

/// A signed-in connection that is ready for its first query.
#[derive(Debug)]
pub(in crate::protocol::postgres) struct Ready {
    /// The connection.
    pub(in crate::protocol::postgres) wire: Wire,
    /// The backend's process and cancel key, where it gave one.
    pub(in crate::protocol::postgres) key: Option<(u32, Bytes)>,
    /// What the server reported of its settings, in order.
    pub(in crate::protocol::postgres) parameters: Vec<(String, String)>,
}

impl Ready {
    /// The setting of that name, as last reported.
    pub(in crate::protocol::postgres) fn parameter(&self, name: &str) -> Option<&str> {
        let mut reported = self.parameters.iter().rev();
        reported.find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
