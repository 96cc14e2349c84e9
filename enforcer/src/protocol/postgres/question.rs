//! Questions of our own on a backend: what no agent sees or answers.
//!
//! They go by the extended protocol under names that nobody else can know, so that nothing the
//! agent prepared or opened is touched, and inside a series of the agent's they end nothing. A
//! walsender takes query strings alone.

use super::codec::backend::{self, Transaction};
use super::codec::error_response::{self, Report};
use super::codec::frontend::{self, Bind, Execute, Named, Parse};
use super::codec::{Message, data_row, row_description};
use super::io::{Wire, WireError};

/// Most rows of an answer.
const MOST_ROWS: usize = 2_000_000;
/// Most bytes of an answer.
const MOST_BYTES: usize = 256 << 20;

/// Rows as text.
pub(super) type Rows = Vec<Vec<Option<String>>>;

/// What a question brought.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The rows.
    pub(super) rows: Rows,
    /// Messages that came meanwhile and are the agent's: settings, notices, notifications.
    pub(super) aside: Vec<Message>,
    /// The transaction's state, when the question ended a series.
    pub(super) transaction: Option<Transaction>,
}

/// Why a question brought nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    /// The connection.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The backend refused it.
    #[error("the backend refused a question: {}", .0.code())]
    Refused(Box<Report>),
    /// Its answer is not one.
    #[error("the backend's answer to a question makes no sense")]
    Odd,
}

impl From<super::codec::CodecError> for QuestionError {
    fn from(error: super::codec::CodecError) -> Self {
        Self::Wire(error.into())
    }
}

/// How a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// As a series of its own.
    Series,
    /// As part of the series that is open; an error leaves that one failed.
    Within,
    /// As a query string, the one thing that a walsender takes.
    Query,
}

/// Asks.
pub(super) async fn ask(wire: &mut Wire, sql: &str, how: How) -> Result<Answer, QuestionError> {
    match how {
        How::Query => frontend::put_query(wire.out(), sql),
        How::Series | How::Within => put(wire, sql, how)?,
    }
    wire.flush().await?;
    let sync = how != How::Within;
    let mut answer = Answer::default();
    let mut refused = None;
    let mut bytes = 0;
    let mut closed = 0;
    loop {
        let message = wire.next().await?;
        match message.tag {
            backend::PARSED | backend::BOUND | backend::COMPLETE => {}
            row_description::TAG if how == How::Query => {}
            data_row::TAG => {
                bytes += message.len();
                if bytes > MOST_BYTES || answer.rows.len() >= MOST_ROWS {
                    return Err(QuestionError::Odd);
                }
                let values = data_row::read(&message.body)?;
                let texts = values.into_iter().map(|value| match value {
                    None => Ok(None),
                    Some(value) => String::from_utf8(value.to_vec()).map(Some),
                });
                let row = texts.collect::<Result<_, _>>().map_err(|_| QuestionError::Odd)?;
                answer.rows.push(row);
            }
            backend::CLOSED => {
                closed += 1;
                if closed == 2 && !sync {
                    return Ok(answer);
                }
            }
            error_response::ERROR => {
                let report = Box::new(Report::read(&message.body)?);
                if !sync {
                    return Err(QuestionError::Refused(report));
                }
                refused = Some(report);
            }
            backend::READY if sync => {
                answer.transaction = Some(backend::ready(&message.body)?);
                return match refused {
                    None => Ok(answer),
                    Some(report) => Err(QuestionError::Refused(report)),
                };
            }
            _ if backend::is_asynchronous(&message) => answer.aside.push(message),
            _ => return Err(QuestionError::Odd),
        }
    }
}

fn put(wire: &mut Wire, sql: &str, how: How) -> Result<(), QuestionError> {
    let name = name().ok_or(QuestionError::Odd)?;
    let statement = Named::Statement(name.clone());
    let portal = Named::Portal(name.clone());
    let out = wire.out();
    Parse { name: name.clone(), sql: sql.to_owned(), types: Vec::new() }.put(out);
    Bind {
        portal: name.clone(),
        statement: name.clone(),
        formats: Vec::new(),
        values: Vec::new(),
        results: Vec::new(),
    }
    .put(out);
    Execute { portal: name, rows: 0 }.put(out);
    portal.put_close(out);
    statement.put_close(out);
    frontend::put_bare(out, if how == How::Series { frontend::SYNC } else { frontend::FLUSH });
    Ok(())
}

/// A name that nobody can have taken or know.
fn name() -> Option<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).ok()?;
    Some(format!("enforcer_{}", hex::encode(random)))
}
