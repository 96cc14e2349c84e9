//! What a permitted statement runs, and how its run ended.

use crate::flow::Outcome;
use crate::mask::copy::CopyOptions;
use crate::protocol::postgres::codec::backend;
use crate::protocol::postgres::codec::copy::CopyResponse;
use crate::protocol::postgres::codec::frontend::Bind;
use crate::protocol::postgres::codec::function_call::FunctionCall;
use crate::protocol::postgres::codec::row_description::Field;
use crate::protocol::postgres::reading::{Effect, Lineage};
use bytes::{Bytes, BytesMut};

/// How a statement's run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Ended {
    /// All of it was done.
    Complete,
    /// The upstream refused it or failed at it: SQLSTATE.
    Failed(String),
    /// Its portal has rows left.
    Suspended,
    /// It ran, and what it brought could not be delivered: the code and why.
    Withheld(&'static str, String),
}

impl Ended {
    /// The operation's outcome.
    pub(in super::super) fn outcome(&self) -> Outcome {
        match self {
            Self::Complete | Self::Suspended => Outcome::complete(),
            Self::Failed(code) => Outcome::failed("sql-error", code),
            Self::Withheld(code, why) => Outcome::failed(code, why),
        }
    }
}

/// A statement's run.
pub(in super::super) struct Work {
    pub(in super::super) run: Run,
    pub(in super::super) lineage: Lineage,
    /// How `COPY TO STDOUT` writes its data.
    pub(super) copy: Option<CopyOptions>,
    /// It needs a database to which nobody else is connected.
    pub(super) alone: bool,
    /// Whether the agent sends it data, and how it is asked for them where that is known.
    pub(in super::super) takes: Takes,
}

/// What is sent for it.
pub(in super::super) enum Run {
    /// A statement of a query string.
    Query {
        /// The whole string, for the first of its statements: the others were sent with it.
        text: Option<String>,
        /// No statement comes after it.
        last: bool,
    },
    /// A portal.
    Portal {
        portal: String,
        /// What makes it, where it is not upstream yet.
        bind: Option<Bind>,
        /// The agent has not been told that it is bound.
        tell_bound: bool,
        /// The agent has asked what its columns are.
        describe: bool,
        /// Its columns as the backend described the statement.
        fields: Option<Vec<Field>>,
        rows: u32,
        /// The series ends with it.
        sync: bool,
    },
    /// A function by its number, and the oid of its result's type.
    Function { call: FunctionCall, result: u32 },
    /// A command of the replication protocol.
    Replication(String),
}

impl Run {
    /// Gives the answers that the agent waits for and that a portal without columns has for sure,
    /// before it is run.
    pub(in super::super) fn settle(&mut self, told: &mut BytesMut) {
        let Self::Portal { tell_bound, describe, fields: None, .. } = self else { return };
        if std::mem::take(tell_bound) {
            backend::put_bare(told, backend::BOUND);
        }
        if std::mem::take(describe) {
            backend::put_bare(told, backend::NO_DATA);
        }
    }
}

/// The data that the agent sends for a statement (`COPY FROM STDIN`).
pub(in super::super) enum Takes {
    /// There are none.
    Nothing,
    /// They follow the statement. How the agent is asked for them, where the catalog tells: then
    /// they can be read before the decision.
    Streamed(Option<CopyResponse>),
    /// They were read before the decision; `told` is what the agent was sent for that.
    Read { data: Bytes, told: BytesMut },
}

impl Work {
    /// A run of a statement by its effect.
    pub(in super::super) fn new(run: Run, lineage: Lineage, effect: &Effect) -> Self {
        let copy = match effect {
            Effect::CopyOut(options) => options.clone(),
            _ => None,
        };
        let alone = matches!(effect, Effect::Database);
        Self { run, lineage, copy, alone, takes: Takes::Nothing }
    }

    /// The same, of a statement that takes data when `takes` says so.
    pub(in super::super) fn taking(self, takes: Takes) -> Self {
        Self { takes, ..self }
    }

    /// The next call of the same portal.
    pub(in super::super) fn again(before: &Self, rows: u32) -> Self {
        let (portal, fields) = match &before.run {
            Run::Portal { portal, fields, .. } => (portal.clone(), fields.clone()),
            _ => (String::new(), None),
        };
        let run = Run::Portal {
            portal,
            bind: None,
            tell_bound: false,
            describe: false,
            fields,
            rows,
            sync: false,
        };
        Self::new(run, before.lineage.clone(), &Effect::None)
    }
}
