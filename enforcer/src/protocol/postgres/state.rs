//! What a session's backend is in: known, never guessed.
//!
//! It is followed where a statement says what it does, and asked of the same backend where one
//! could have done more (a function, `DO`, `CALL`, a write that may fire triggers, the end of a
//! transaction that changed something).

use super::codec::backend::Transaction;
use super::question::Rows;
use std::collections::BTreeMap;

/// The question that [`Known::read`] reads the answer of. Every name is qualified, so that no
/// search path of the agent's can lead it astray.
pub(super) const QUESTION: &str = "SELECT \
    pg_catalog.to_json(pg_catalog.current_schemas(true)), \
    current_user::pg_catalog.text, \
    session_user::pg_catalog.text, \
    pg_catalog.current_setting('client_encoding'), \
    pg_catalog.current_setting('standard_conforming_strings'), \
    (SELECT pg_catalog.json_object_agg(p.name, pg_catalog.encode(pg_catalog.sha256(\
    pg_catalog.convert_to(p.statement, 'UTF8')), 'hex')) FROM pg_catalog.pg_prepared_statements p), \
    (SELECT pg_catalog.json_object_agg(c.name, pg_catalog.encode(pg_catalog.sha256(\
    pg_catalog.convert_to(c.statement, 'UTF8')), 'hex')) FROM pg_catalog.pg_cursors c)";

/// What is known of a backend.
#[derive(Debug)]
pub(super) struct State {
    /// Whether a transaction is open.
    pub(super) transaction: Transaction,
    /// `None` when it has to be asked.
    pub(super) known: Option<Known>,
    /// Something was changed that the end of the transaction takes back or brings to an end.
    pub(super) touched: bool,
    /// The schema may have changed since the catalog was read.
    pub(super) altered: bool,
}

/// What a backend said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The schemas that names are looked for in, in order, `pg_temp_...` and `pg_catalog` too.
    pub(super) search_path: Vec<String>,
    /// The role in force.
    pub(super) role: String,
    /// The role that signed in, or was made the session's.
    pub(super) session_role: String,
    /// Name and SHA-256 (hex) of each prepared statement's text.
    pub(super) prepared: BTreeMap<String, String>,
    /// Name and SHA-256 (hex) of the string that made each cursor and portal.
    pub(super) cursors: BTreeMap<String, String>,
}

impl State {
    pub(super) fn new() -> Self {
        Self { transaction: Transaction::Idle, known: None, touched: false, altered: false }
    }

    /// It has to be asked anew; whatever was done may be undone by the transaction's end.
    pub(super) fn forget(&mut self) {
        self.known = None;
        self.touched = true;
    }

    /// A transaction has come to its end.
    pub(super) fn ended(&mut self) {
        if std::mem::take(&mut self.touched) {
            self.known = None;
        }
    }
}

/// Why an answer cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    /// It is not what was asked.
    #[error("the backend's state could not be read")]
    Odd,
    /// Statements cannot be read as this backend reads them.
    #[error("{0}")]
    Unreadable(String),
}

impl Known {
    /// Reads the answer to [`QUESTION`].
    pub(super) fn read(rows: &Rows) -> Result<Self, Unknown> {
        let [row] = rows.as_slice() else { return Err(Unknown::Odd) };
        let [schemas, role, session_role, encoding, strings, prepared, cursors] = row.as_slice()
        else {
            return Err(Unknown::Odd);
        };
        let setting = |name: &str| match name {
            "client_encoding" => encoding.clone(),
            _ => strings.clone(),
        };
        if let Some(why) = super::encoding::unreadable(&setting) {
            return Err(Unknown::Unreadable(why));
        }
        let schemas = schemas.as_deref().ok_or(Unknown::Odd)?;
        let names = |list: &Option<String>| {
            serde_json::from_str(list.as_deref().unwrap_or("{}")).map_err(|_| Unknown::Odd)
        };
        Ok(Self {
            search_path: serde_json::from_str(schemas).map_err(|_| Unknown::Odd)?,
            role: role.clone().ok_or(Unknown::Odd)?,
            session_role: session_role.clone().ok_or(Unknown::Odd)?,
            prepared: names(prepared)?,
            cursors: names(cursors)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: [Option<&str>; 7]) -> Rows {
        vec![fields.map(|field| field.map(str::to_owned)).to_vec()]
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let path = Some(r#"["pg_catalog","Odd \"one\"","public"]"#);
        let fields = [path, Some("app"), Some("app"), Some("UTF8"), Some("on"), None, None];
        let known = Known::read(&row(fields)).unwrap();
        assert_eq!(known.search_path, ["pg_catalog", "Odd \"one\"", "public"]);
        assert!(known.prepared.is_empty());
        let mut prepared = fields;
        prepared[5] = Some(r#"{"a":"00"}"#);
        assert_eq!(Known::read(&row(prepared)).unwrap().prepared["a"], "00");
        for (at, value) in [(0, None), (0, Some("x")), (1, None), (5, Some("[]"))] {
            let mut broken = fields;
            broken[at] = value;
            assert_eq!(Known::read(&row(broken)), Err(Unknown::Odd), "{at}");
        }
        let mut other = fields;
        other[4] = Some("off");
        assert!(matches!(Known::read(&row(other)), Err(Unknown::Unreadable(_))));
        assert_eq!(Known::read(&Vec::new()), Err(Unknown::Odd));
    }

    #[test]
    fn what_a_transaction_changed_is_unknown_after_its_end() {
        let mut state = State::new();
        let path = Some(r#"["public"]"#);
        let fields = [path, Some("a"), Some("a"), Some("UTF8"), Some("on"), None, None];
        state.known = Known::read(&row(fields)).ok();
        state.ended();
        assert!(state.known.is_some());
        let known = state.known.clone();
        state.forget();
        state.known = known;
        state.ended();
        assert!(state.known.is_none());
    }
}
