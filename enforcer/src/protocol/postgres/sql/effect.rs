//! What a statement does to the session it runs in.

use super::names::{constant, relation};
use super::read::Unreadable;
use super::statement::{Relation, Statement};
use pg_query::protobuf::{
    CopyStmt, DefElem, DiscardMode, ObjectType, TransactionStmt, TransactionStmtKind,
    VariableSetKind, VariableSetStmt,
};
use pg_query::{Node, NodeEnum};

/// A parameter and what it is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Folded to lower case (as PostgreSQL compares names of parameters).
    pub name: String,
    /// Until the end of the transaction.
    pub local: bool,
    /// The values as texts; `None` for DEFAULT and FROM CURRENT.
    pub values: Option<Vec<String>>,
}

/// What a statement does to the session it runs in.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Effect {
    /// Nothing that the text tells.
    #[default]
    None,
    /// BEGIN and START TRANSACTION.
    Begin {
        /// READ ONLY is among its modes.
        read_only: bool,
    },
    /// COMMIT and END.
    Commit {
        /// AND CHAIN: another transaction begins at once.
        chain: bool,
    },
    /// ROLLBACK and ABORT.
    Rollback {
        /// AND CHAIN: another transaction begins at once.
        chain: bool,
    },
    /// SAVEPOINT.
    Savepoint(String),
    /// RELEASE.
    Release(String),
    /// ROLLBACK TO: settings made since are undone.
    RollbackTo(String),
    /// PREPARE TRANSACTION, COMMIT PREPARED, ROLLBACK PREPARED: by its global name.
    TwoPhase(String),
    /// SET. `SET TRANSACTION` and the like come as `transaction` and `session characteristics`,
    /// without values.
    Set(Setting),
    /// RESET of one parameter.
    Reset(String),
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL (true: settings, cursors, prepared statements) or of a part.
    Discard {
        /// Everything, and not only plans, sequences or temporary tables.
        all: bool,
        /// Temporary tables go.
        temporary: bool,
    },
    /// PREPARE.
    Prepare {
        /// The statement's name.
        name: String,
        /// What EXECUTE will run.
        inner: Box<Statement>,
    },
    /// EXECUTE.
    Execute {
        /// The statement's name.
        name: String,
        /// The arguments as texts; `None` where one is more than a constant.
        args: Vec<Option<String>>,
    },
    /// DEALLOCATE; `None` for ALL.
    Deallocate(Option<String>),
    /// DECLARE.
    DeclareCursor {
        /// The cursor's name.
        name: String,
        /// WITH HOLD: it outlives its transaction.
        hold: bool,
        /// What FETCH reads from.
        inner: Box<Statement>,
    },
    /// FETCH; MOVE reads nothing.
    Fetch {
        /// The cursor's name.
        name: String,
        /// MOVE.
        moves: bool,
    },
    /// CLOSE; `None` for ALL.
    CloseCursor(Option<String>),
    /// COPY FROM STDIN: the client sends rows.
    CopyIn {
        /// Where they go.
        table: Relation,
        /// Its columns in the order of the data; empty for all.
        columns: Vec<String>,
        /// The format's name: `text`, `csv` or `binary`.
        format: String,
    },
    /// COPY TO STDOUT: the server sends rows; their columns are the statement's
    /// [`lineage`](super::lineage).
    CopyOut {
        /// The format's name: `text`, `csv` or `binary`.
        format: String,
        /// All options as they are written, lower-cased names: `delimiter`, `null`, `header`, ...
        options: Vec<(String, Option<String>)>,
    },
    /// EXPLAIN; with ANALYZE the statement within is run.
    Explain {
        /// ANALYZE.
        runs: bool,
        /// What is explained.
        inner: Box<Statement>,
    },
    /// CREATE, ALTER, RENAME or DROP of a database: while others are connected to it (or to its
    /// template) the server refuses.
    Database,
    /// LISTEN.
    Listen(String),
    /// UNLISTEN; `None` for all.
    Unlisten(Option<String>),
    /// NOTIFY: channel and payload.
    Notify(String, String),
}

/// The effect of a whole statement.
///
/// # Errors
/// When the statement within (of PREPARE, DECLARE, EXPLAIN) cannot be read.
pub(super) fn of(tree: &NodeEnum, text: &str) -> Result<Effect, Unreadable> {
    let inner = |node: &Option<Box<Node>>| within(node.as_deref(), text);
    let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Ok(match tree {
        NodeEnum::TransactionStmt(statement) => transaction(statement),
        NodeEnum::VariableSetStmt(statement) => variable(statement),
        NodeEnum::DiscardStmt(statement) => {
            let target = DiscardMode::try_from(statement.target);
            let all = !matches!(
                target,
                Ok(DiscardMode::DiscardPlans
                    | DiscardMode::DiscardSequences
                    | DiscardMode::DiscardTemp)
            );
            Effect::Discard { all, temporary: all || target == Ok(DiscardMode::DiscardTemp) }
        }
        NodeEnum::PrepareStmt(statement) => {
            Effect::Prepare { name: statement.name.clone(), inner: inner(&statement.query)? }
        }
        NodeEnum::ExecuteStmt(statement) => Effect::Execute {
            name: statement.name.clone(),
            args: statement.params.iter().map(constant).collect(),
        },
        NodeEnum::DeallocateStmt(statement) => Effect::Deallocate(named(&statement.name)),
        NodeEnum::DeclareCursorStmt(statement) => Effect::DeclareCursor {
            name: statement.portalname.clone(),
            // CURSOR_OPT_HOLD of nodes/parsenodes.h.
            hold: statement.options & 0x0020 != 0,
            inner: inner(&statement.query)?,
        },
        NodeEnum::FetchStmt(statement) => {
            Effect::Fetch { name: statement.portalname.clone(), moves: statement.ismove }
        }
        NodeEnum::ClosePortalStmt(statement) => Effect::CloseCursor(named(&statement.portalname)),
        NodeEnum::CopyStmt(statement) => copy(statement),
        NodeEnum::ExplainStmt(statement) => {
            Effect::Explain { runs: analyzes(&statement.options), inner: inner(&statement.query)? }
        }
        NodeEnum::CreatedbStmt(_) | NodeEnum::AlterDatabaseStmt(_) | NodeEnum::DropdbStmt(_) => {
            Effect::Database
        }
        NodeEnum::RenameStmt(statement)
            if statement.rename_type == ObjectType::ObjectDatabase as i32 =>
        {
            Effect::Database
        }
        NodeEnum::ListenStmt(statement) => Effect::Listen(statement.conditionname.clone()),
        NodeEnum::UnlistenStmt(statement) => Effect::Unlisten(named(&statement.conditionname)),
        NodeEnum::NotifyStmt(statement) => {
            Effect::Notify(statement.conditionname.clone(), statement.payload.clone())
        }
        _ => Effect::None,
    })
}

/// Whether EXPLAIN's options have it run the statement. An option's last mention counts for the
/// server; any mention other than one that says off counts here.
pub(super) fn analyzes(options: &[Node]) -> bool {
    elements(options).any(|option| {
        option.defname.eq_ignore_ascii_case("analyze")
            && !matches!(
                value(option).map(|value| value.to_ascii_lowercase()).as_deref(),
                Some("off" | "false" | "0")
            )
    })
}

fn within(node: Option<&Node>, text: &str) -> Result<Box<Statement>, Unreadable> {
    let tree = node
        .and_then(|node| node.node.as_ref())
        .ok_or_else(|| Unreadable::Unknown("a statement within that has no tree".to_owned()))?;
    // The whole text stands for the inner one: the grammar does not say where that begins.
    let statement = super::facts::Facts::of(tree)?;
    statement.statement(text.to_owned(), tree.clone()).map(Box::new)
}

fn transaction(statement: &TransactionStmt) -> Effect {
    use TransactionStmtKind as Kind;
    let (name, chain) = (statement.savepoint_name.clone(), statement.chain);
    match TransactionStmtKind::try_from(statement.kind) {
        Ok(Kind::TransStmtBegin | Kind::TransStmtStart) => Effect::Begin {
            read_only: elements(&statement.options).any(|option| {
                option.defname == "transaction_read_only"
                    && value(option).is_some_and(|value| value != "0" && value != "false")
            }),
        },
        Ok(Kind::TransStmtCommit) => Effect::Commit { chain },
        Ok(Kind::TransStmtSavepoint) => Effect::Savepoint(name),
        Ok(Kind::TransStmtRelease) => Effect::Release(name),
        Ok(Kind::TransStmtRollbackTo) => Effect::RollbackTo(name),
        Ok(
            Kind::TransStmtPrepare
            | Kind::TransStmtCommitPrepared
            | Kind::TransStmtRollbackPrepared,
        ) => Effect::TwoPhase(statement.gid.clone()),
        Ok(Kind::TransStmtRollback | Kind::Undefined) | Err(_) => Effect::Rollback { chain },
    }
}

fn variable(statement: &VariableSetStmt) -> Effect {
    use VariableSetKind as Kind;
    let name = statement.name.to_ascii_lowercase();
    let local = statement.is_local;
    match VariableSetKind::try_from(statement.kind) {
        Ok(Kind::VarReset) => Effect::Reset(name),
        Ok(Kind::VarResetAll) => Effect::ResetAll,
        Ok(Kind::VarSetValue) => {
            let values = statement.args.iter().map(constant).collect::<Option<Vec<_>>>();
            Effect::Set(Setting { name, local, values })
        }
        Ok(Kind::VarSetDefault | Kind::VarSetCurrent | Kind::VarSetMulti | Kind::Undefined)
        | Err(_) => Effect::Set(Setting { name, local, values: None }),
    }
}

fn copy(statement: &CopyStmt) -> Effect {
    if statement.is_program || !statement.filename.is_empty() {
        return Effect::None;
    }
    let options: Vec<_> = elements(&statement.options)
        .map(|option| (option.defname.to_ascii_lowercase(), value(option)))
        .collect();
    let format = options.iter().find(|(name, _)| name == "format");
    let format = format.and_then(|(_, value)| value.clone()).map(|value| value.to_lowercase());
    let format = format.unwrap_or_else(|| "text".to_owned());
    match (statement.is_from, &statement.relation) {
        (true, Some(range)) => {
            let columns = super::names::strings(&statement.attlist).unwrap_or_default();
            let columns = columns.into_iter().map(str::to_owned).collect();
            Effect::CopyIn { table: relation(range), columns, format }
        }
        _ => Effect::CopyOut { format, options },
    }
}

/// The options of a list of options.
pub(super) fn elements(options: &[Node]) -> impl Iterator<Item = &DefElem> {
    options.iter().filter_map(|option| match option.node.as_ref()? {
        NodeEnum::DefElem(element) => Some(&**element),
        _ => None,
    })
}

/// An option's value as a text; `None` without one.
fn value(option: &DefElem) -> Option<String> {
    let node = option.arg.as_deref()?;
    match node.node.as_ref()? {
        NodeEnum::String(value) => Some(value.sval.clone()),
        NodeEnum::Integer(value) => Some(value.ival.to_string()),
        NodeEnum::Float(value) => Some(value.fval.clone()),
        NodeEnum::Boolean(value) => Some(value.boolval.to_string()),
        _ => constant(node),
    }
}
