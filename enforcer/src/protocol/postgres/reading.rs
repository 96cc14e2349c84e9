//! What is needed of a statement's reading: its facts, its effect on the session, its lineage.
//!
//! The one place that knows both the reader ([`super::sql`]) and the session.

use super::catalog::Catalog;
use crate::mask::copy::CopyOptions;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A string that cannot be read, with why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ColumnName {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) column: String,
}

/// One output column and what its value depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) columns: Vec<ColumnName>,
    /// It is the value of that one column as it is.
    pub(super) unchanged: bool,
}

/// Where a statement's output comes from.
#[derive(Clone, Debug)]
pub(super) struct Lineage {
    /// For each output column; or why it is not known.
    pub(super) outputs: Result<Arc<[Output]>, String>,
    /// Every table and view that is read or written: schema and name.
    pub(super) relations: Vec<(String, String)>,
}

/// What policy is told of a statement. Lists are sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) tables_read: BTreeSet<String>,
    pub(super) tables_written: BTreeSet<String>,
    pub(super) functions: BTreeSet<String>,
    pub(super) flags: BTreeSet<String>,
    pub(super) columns: Option<BTreeSet<String>>,
    pub(super) looked_at: Option<BTreeSet<String>>,
    pub(super) has_where: bool,
}

/// What a statement does to the session.
#[derive(Clone, Debug)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// It begins a transaction.
    Begin,
    /// It ends the transaction, for good or ill.
    End,
    /// Something within the transaction that changes no setting.
    Within,
    /// `ROLLBACK TO`: settings may be back at what they were.
    Back,
    /// `PREPARE`.
    Prepare { name: String, inner: Arc<Statement> },
    /// `EXECUTE`; the arguments are constants, as written.
    Execute { name: String },
    /// `DEALLOCATE` of one, or of all.
    Deallocate(Option<String>),
    /// `DECLARE`.
    Declare { name: String, inner: Arc<Statement> },
    /// `FETCH` or `MOVE`.
    Fetch { name: String },
    /// `CLOSE` of one, or of all.
    Close(Option<String>),
    /// `COPY FROM STDIN`.
    CopyIn,
    /// `COPY TO STDOUT`, and the form of its data where it is known.
    CopyOut(Option<CopyOptions>),
    /// It may change anything: settings, roles, what names mean.
    Any,
}

/// One statement as it was read.
#[derive(Debug)]
pub(super) struct Statement {
    /// Its exact text.
    pub(super) text: String,
    /// The action in policy.
    pub(super) action: &'static str,
    /// What it does to the session.
    pub(super) effect: Effect,
    /// Whether it can do no more than its effect says: no write, no code of the database's own.
    pub(super) plain: bool,
    /// Whether names mean the same after it.
    pub(super) keeps_names: bool,
    /// It changes the catalog.
    pub(super) alters: bool,
}

/// Reads a string: one statement for each, in order.
pub(super) fn read(sql: &str) -> Result<Vec<Statement>, Unreadable> {
    use pg_query::protobuf::TransactionStmtKind as Kind;
    use pg_query::protobuf::node::Node;
    let parsed = pg_query::parse(sql).map_err(|error| Unreadable(error.to_string()))?;
    let mut statements = Vec::new();
    for raw in &parsed.protobuf.stmts {
        let from = usize::try_from(raw.stmt_location).unwrap_or_default();
        let length = usize::try_from(raw.stmt_len).unwrap_or_default();
        let to = if length == 0 { sql.len() } else { from + length };
        let text = sql.get(from..to).ok_or_else(|| Unreadable("odd text".into()))?;
        let node = raw.stmt.as_ref().and_then(|stmt| stmt.node.as_ref());
        let (action, effect, plain) = match node {
            Some(Node::SelectStmt(_)) => ("sql.select", Effect::None, true),
            Some(Node::InsertStmt(_)) => ("sql.insert", Effect::None, false),
            Some(Node::UpdateStmt(_)) => ("sql.update", Effect::None, false),
            Some(Node::DeleteStmt(_)) => ("sql.delete", Effect::None, false),
            Some(Node::VariableShowStmt(_)) => ("sql.show", Effect::None, true),
            Some(Node::VariableSetStmt(_)) => ("sql.set", Effect::Any, false),
            Some(Node::CopyStmt(copy)) if copy.is_from => ("sql.copy.in", Effect::CopyIn, false),
            Some(Node::CopyStmt(_)) => ("sql.copy.out", Effect::CopyOut(None), true),
            Some(Node::TransactionStmt(stmt)) => {
                let effect = match stmt.kind() {
                    Kind::TransStmtBegin | Kind::TransStmtStart => Effect::Begin,
                    Kind::TransStmtCommit | Kind::TransStmtRollback => Effect::End,
                    Kind::TransStmtRollbackTo => Effect::Back,
                    _ => Effect::Within,
                };
                ("sql.transaction", effect, true)
            }
            _ => ("sql.other", Effect::Any, false),
        };
        statements.push(Statement { text: text.to_owned(), action, effect, plain, keeps_names: plain, alters: !plain });
    }
    Ok(statements)
}

impl Statement {
    /// What policy is told of it, names as they are found on this search path.
    pub(super) fn facts(&self, _: Option<&Catalog>, _: &[String]) -> Facts {
        Facts::default()
    }

    /// Whether the client sends it data.
    pub(super) fn is_copy_in(&self) -> bool {
        matches!(self.effect, Effect::CopyIn)
    }

    /// Whether rows can come back.
    pub(super) fn shows(&self) -> bool {
        self.action == "sql.select"
    }

    /// Where its output comes from.
    pub(super) fn lineage(&self, _: Option<&Catalog>, _: &[String]) -> Lineage {
        Lineage { outputs: Err("not read".to_owned()), relations: Vec::new() }
    }
}
