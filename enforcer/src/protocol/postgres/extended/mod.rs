//! The extended protocol: prepare, bind, describe, run, close, in a series that a `Sync` ends.
//!
//! `Parse` and `Describe` go upstream as they come: they run nothing. `Bind` does not: it plans,
//! and planning may call functions. It waits for the permit that running its portal needs, and
//! goes together with it; who asks about the portal before is told of its statement.

mod prepare;
mod run;

pub(super) use prepare::{describe, parse};
pub(super) use run::{bind, execute};

use super::codec::Message;
use super::codec::backend;
use super::codec::error_response::{self, Report};
use super::codec::frontend::{self, Named};
use super::codec::row_description;
use super::connect::upstream_broke;
use super::operation;
use super::prepared::{Life, Portal};
use super::reading::Lineage;
use super::simple::cut;
use super::statement::{self, Return};
use super::talk::Talk;
use crate::decide::Denial;
use crate::flow::Outcome;

/// `invalid_sql_statement_name`, `invalid_cursor_name`, `duplicate_cursor`,
/// `object_not_in_prerequisite_state`, `configuration_limit_exceeded`.
const NO_STATEMENT: &str = "26000";
const NO_PORTAL: &str = "34000";
const PORTAL_EXISTS: &str = "42P03";
const NOT_RUNNABLE: &str = "55000";
const TOO_MANY: &str = "53400";

/// An answer that was put off: it goes upstream together with what comes next, or is given by us.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// The portal is bound.
    Bound(String),
    /// What the portal's columns are.
    Described(String),
}

/// An error of our own inside a series: the rest of it is skipped, here and upstream.
async fn failed(mut talk: Box<Talk>, report: Report) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    talk.tell(&report);
    talk.fail_upstream().await?;
    talk.skipping = true;
    Ok(talk)
}

/// Refuses a statement that is not run: recorded as an operation.
async fn refused(
    talk: Box<Talk>,
    action: &str,
    text: &str,
    flaw: Denial,
) -> Result<Box<Talk>, Outcome> {
    let asked = operation::unread(&talk, action, text);
    let mut home = statement::begin(talk, asked, Some(flaw), None, false);
    match home.recv().await {
        Some(Return::Refused(back)) => after_refusal(back).await,
        _ => Err(cut()),
    }
}

async fn after_refusal(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
    talk.owed.clear();
    talk.fail_upstream().await?;
    talk.skipping = true;
    Ok(talk)
}

/// Sends what was written and takes answers until one of `ends`; `Err(Ok(report))` is the
/// upstream's error, after which the series there has failed.
async fn answers(talk: &mut Talk, ends: &[u8]) -> Result<Result<Vec<Message>, Report>, Outcome> {
    frontend::put_bare(talk.upstream.out(), frontend::FLUSH);
    talk.unsynced = true;
    talk.upstream.flush().await.map_err(|error| upstream_broke(&error))?;
    let mut taken = Vec::new();
    loop {
        let message = talk.upstream.next().await.map_err(|error| upstream_broke(&error))?;
        match message.tag {
            tag if ends.contains(&tag) => {
                taken.push(message);
                return Ok(Ok(taken));
            }
            error_response::ERROR => {
                talk.upset = true;
                talk.state.forget();
                let report = Report::read(&message.body)
                    .map_err(|error| upstream_broke(&super::io::WireError::Codec(error)))?;
                return Ok(Err(report));
            }
            backend::PARSED | backend::PARAMETERS => taken.push(message),
            _ if backend::is_asynchronous(&message) => talk.pass_on(&[message])?,
            _ => return Err(Outcome::failed("upstream-broke", "an odd message")),
        }
    }
}

/// The upstream's error goes to the agent. Preparing and describing read no table, so its words
/// carry no more than the agent's own text; detectors look at them all the same.
fn upstream_failed(mut talk: Box<Talk>, report: Report) -> Box<Talk> {
    if let Some(mut veil) = talk.veil(&Lineage::none()) {
        let report = veil.words(report);
        talk.tell(&report);
    }
    talk.names.portals.clear();
    talk.skipping = true;
    talk
}

/// Gives the answers that were put off.
pub(super) async fn settle(talk: &mut Talk) -> Result<(), Outcome> {
    for owed in std::mem::take(&mut talk.owed) {
        match owed {
            Owed::Bound(name) => {
                if let Some(portal) = talk.names.portals.get_mut(&name) {
                    portal.life = Life::Waiting { answered: true };
                }
                backend::put_bare(talk.client.out(), backend::BOUND);
            }
            Owed::Described(name) => {
                let Some(portal) = talk.names.portals.get(&name) else { continue };
                put_fields(portal, &mut talk.client);
            }
        }
    }
    Ok(())
}

/// A portal's columns: its statement's, in the formats that it was bound with.
fn put_fields(portal: &Portal, client: &mut super::io::Wire) {
    match &portal.prepared.fields {
        None => backend::put_bare(client.out(), backend::NO_DATA),
        Some(fields) => {
            let mut fields = fields.clone();
            for (at, field) in fields.iter_mut().enumerate() {
                field.format = portal.bind.result_format(at);
            }
            row_description::write(client.out(), &fields);
        }
    }
}

/// Closes a statement or portal.
pub(super) async fn close(mut talk: Box<Talk>, named: Named) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    let upstream = match &named {
        Named::Statement(name) => talk.names.statements.remove(name).is_some(),
        Named::Portal(name) => match talk.names.portals.remove(name) {
            Some(portal) => {
                talk.names.cursors.remove(name);
                !matches!(portal.life, Life::Waiting { .. })
            }
            // A cursor of DECLARE is a portal too.
            None => talk.names.cursors.remove(name).is_some(),
        },
    };
    if upstream {
        if let (Named::Statement(name), Some(known)) = (&named, &mut talk.state.known) {
            known.prepared.remove(name);
        }
        named.put_close(talk.upstream.out());
        if let Err(report) = answers(&mut talk, &[backend::CLOSED]).await? {
            return Ok(upstream_failed(talk, report));
        }
    }
    backend::put_bare(talk.client.out(), backend::CLOSED);
    Ok(talk)
}

/// Ends a series.
pub(super) async fn sync(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
    if !talk.skipping {
        settle(&mut talk).await?;
    }
    talk.owed.clear();
    talk.skipping = false;
    let state = talk.sync_upstream().await?;
    backend::put_ready(talk.client.out(), state);
    Ok(talk)
}
