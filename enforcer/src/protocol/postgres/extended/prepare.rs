//! `Parse` and `Describe`: what goes upstream as it comes, since it runs nothing.

use super::{
    NO_PORTAL, NO_STATEMENT, Owed, TOO_MANY, answers, failed, put_fields, refused, settle,
    upstream_failed,
};
use crate::decide::Denial;
use crate::flow::Outcome;
use crate::protocol::postgres::codec::Message;
use crate::protocol::postgres::codec::backend::{self, Transaction};
use crate::protocol::postgres::codec::error_response::Report;
use crate::protocol::postgres::codec::frontend::{Named, Parse};
use crate::protocol::postgres::codec::row_description::{self, Field};
use crate::protocol::postgres::prepared::{Life, MOST, Prepared};
use crate::protocol::postgres::reading;
use crate::protocol::postgres::talk::{NotKnown, Talk, in_failed_transaction};
use std::sync::Arc;

const DESCRIBED: &[u8] = &[row_description::TAG, backend::NO_DATA];

/// Prepares a statement: read here, then sent as it is, with a question of our own for its types
/// and columns.
pub(in super::super) async fn parse(
    mut talk: Box<Talk>,
    parse: Parse,
) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    let mut statements =
        match reading::read(&talk.about.flow.inputs.databases.statements, &parse.sql) {
            Ok(statements) => statements,
            Err(why) => {
                let flaw = Denial::new("unreadable", why.to_string());
                return refused(talk, "sql.prepare", &parse.sql, flaw).await;
            }
        };
    if statements.len() > 1 {
        let what = "cannot insert multiple commands into a prepared statement";
        return failed(talk, Report::new("ERROR", "42601", what)).await;
    }
    if talk.names.statements.len() >= MOST {
        let what = "enforcer: too many prepared statements in one session";
        return failed(talk, Report::new("ERROR", TOO_MANY, what)).await;
    }
    let statement = statements.pop();
    if talk.state.transaction == Transaction::Failed
        && !statement.as_ref().is_none_or(|one| one.ends())
    {
        in_failed_transaction(&mut talk);
        talk.skipping = true;
        return Ok(talk);
    }
    // A setting that changes how text is read may have been changed by code since.
    match talk.know().await {
        Ok(()) => {}
        Err(NotKnown::Lost(outcome)) => return Err(outcome),
        Err(NotKnown::Refuse(flaw)) => return refused(talk, "sql.prepare", &parse.sql, flaw).await,
    }
    if parse.name.is_empty() {
        // Whatever comes of it, the old one is gone.
        talk.names.statements.remove("");
    }
    parse.put(talk.upstream.out());
    Named::Statement(parse.name.clone()).put_describe(talk.upstream.out());
    let taken = match answers(&mut talk, DESCRIBED).await? {
        Ok(taken) => taken,
        Err(report) => return Ok(upstream_failed(talk, report)),
    };
    let Some((types, fields)) = description(&taken) else {
        return Err(Outcome::failed("upstream-broke", "an odd description"));
    };
    let hash = Prepared::hash(&parse.sql);
    if let Some(known) = &mut talk.state.known
        && !parse.name.is_empty()
    {
        known.prepared.insert(parse.name.clone(), hash.clone());
    }
    let prepared = Prepared { statement, hash, types, fields };
    talk.names.statements.insert(parse.name, Arc::new(prepared));
    backend::put_bare(talk.client.out(), backend::PARSED);
    Ok(talk)
}

/// Parameter types and columns from the answers to a `Describe` of a statement.
fn description(taken: &[Message]) -> Option<(Vec<u32>, Option<Vec<Field>>)> {
    let types = taken.iter().find(|message| message.tag == backend::PARAMETERS)?;
    let types = backend::parameters(&types.body).ok()?;
    let fields = match taken.iter().find(|message| message.tag == row_description::TAG) {
        Some(message) => Some(row_description::read(&message.body).ok()?),
        None => None,
    };
    Some((types, fields))
}

/// Answers what a statement or portal is.
pub(in super::super) async fn describe(
    mut talk: Box<Talk>,
    named: Named,
) -> Result<Box<Talk>, Outcome> {
    let name = match named {
        Named::Portal(name) => name,
        Named::Statement(name) => return describe_statement(talk, name).await,
    };
    let Some(portal) = talk.names.portals.get(&name) else {
        if talk.names.cursors.contains_key(&name) {
            // A cursor of DECLARE is a portal too, and upstream already.
            return ask_description(talk, Named::Portal(name), true).await;
        }
        let what = format!("portal \"{name}\" does not exist");
        return failed(talk, Report::new("ERROR", NO_PORTAL, what)).await;
    };
    match portal.life {
        Life::Waiting { .. } => talk.owed.push(Owed::Described(name)),
        Life::Suspended(..) | Life::Done => put_fields(portal, &mut talk.client),
    }
    Ok(talk)
}

/// The backend itself is asked: the tables may have changed.
async fn describe_statement(talk: Box<Talk>, name: String) -> Result<Box<Talk>, Outcome> {
    let Some(prepared) = talk.names.statements.get(&name) else {
        let what = format!("prepared statement \"{name}\" does not exist");
        return failed(talk, Report::new("ERROR", NO_STATEMENT, what)).await;
    };
    let rows = prepared.fields.is_some();
    ask_description(talk, Named::Statement(name), rows).await
}

/// `rows`: what is described has some.
async fn ask_description(
    mut talk: Box<Talk>,
    named: Named,
    rows: bool,
) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    // What has no rows is described in a failed transaction, too: drivers ask that of ROLLBACK
    // (tcop/postgres.c, exec_describe_statement_message).
    if talk.state.transaction == Transaction::Failed && rows {
        in_failed_transaction(&mut talk);
        talk.skipping = true;
        return Ok(talk);
    }
    named.put_describe(talk.upstream.out());
    match answers(&mut talk, DESCRIBED).await? {
        Ok(taken) => {
            for message in taken {
                message.put(talk.client.out());
            }
            Ok(talk)
        }
        Err(report) => Ok(upstream_failed(talk, report)),
    }
}
