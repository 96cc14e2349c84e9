//! The extended protocol: prepare, bind, describe, run, close, in a series that a `Sync` ends.
//!
//! `Parse` and `Describe` go upstream as they come: they run nothing. `Bind` does not: it plans,
//! and planning may call functions. It waits for the permit that running its portal needs, and
//! goes together with it; who asks about the portal before is told of its statement.

use super::case::{After, Case, verified};
use super::catalog::{self, Want};
use super::codec::Message;
use super::codec::backend::{self, Transaction};
use super::codec::error_response::{self, Report};
use super::codec::frontend::{self, Bind, Execute, Named, Parse};
use super::codec::row_description::{self, Field};
use super::connect::upstream_broke;
use super::operation::{self, Bound};
use super::prepared::{Life, MOST, Portal, Prepared};
use super::reading::{self, Lineage};
use super::relay::{Ended, Run, Work};
use super::simple::{cut, follow};
use super::statement::{self, Resume, Return};
use super::talk::{NotKnown, Talk, in_failed_transaction};
use crate::decide::Denial;
use crate::flow::Outcome;
use std::sync::Arc;
use tokio::sync::mpsc;

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

const DESCRIBED: &[u8] = &[row_description::TAG, backend::NO_DATA];

/// Prepares a statement: read here, then sent as it is, with a question of our own for its types
/// and columns.
pub(super) async fn parse(mut talk: Box<Talk>, parse: Parse) -> Result<Box<Talk>, Outcome> {
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

/// Makes a portal, here alone.
pub(super) async fn bind(mut talk: Box<Talk>, bind: Bind) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    let Some(prepared) = talk.names.statements.get(&bind.statement).cloned() else {
        let what = match bind.statement.as_str() {
            "" => "unnamed prepared statement does not exist".to_owned(),
            name => format!("prepared statement \"{name}\" does not exist"),
        };
        return failed(talk, Report::new("ERROR", NO_STATEMENT, what)).await;
    };
    if bind.values.len() != prepared.types.len() {
        let what = format!(
            "bind message supplies {} parameters, but prepared statement \"{}\" requires {}",
            bind.values.len(),
            bind.statement,
            prepared.types.len()
        );
        return failed(talk, Report::new("ERROR", super::connect::BAD_START, what)).await;
    }
    let portals = &talk.names.portals;
    if !bind.portal.is_empty() && portals.contains_key(&bind.portal) {
        let what = format!("cursor \"{}\" already exists", bind.portal);
        return failed(talk, Report::new("ERROR", PORTAL_EXISTS, what)).await;
    }
    if portals.len() >= MOST {
        let what = "enforcer: too many open portals in one session";
        return failed(talk, Report::new("ERROR", TOO_MANY, what)).await;
    }
    let name = bind.portal.clone();
    let portal = Portal { prepared, bind, life: Life::Waiting { answered: false } };
    talk.names.portals.insert(name.clone(), portal);
    talk.owed.push(Owed::Bound(name));
    Ok(talk)
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

/// Answers what a statement or portal is.
pub(super) async fn describe(mut talk: Box<Talk>, named: Named) -> Result<Box<Talk>, Outcome> {
    let name = match named {
        Named::Portal(name) => name,
        Named::Statement(name) => return describe_statement(talk, name).await,
    };
    let Some(portal) = talk.names.portals.get(&name) else {
        if talk.names.cursors.contains_key(&name) {
            // A cursor of DECLARE is a portal too, and upstream already.
            return ask_description(talk, Named::Portal(name)).await;
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
    if !talk.names.statements.contains_key(&name) {
        let what = format!("prepared statement \"{name}\" does not exist");
        return failed(talk, Report::new("ERROR", NO_STATEMENT, what)).await;
    }
    ask_description(talk, Named::Statement(name)).await
}

async fn ask_description(mut talk: Box<Talk>, named: Named) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    if talk.state.transaction == Transaction::Failed {
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

/// Runs a portal: the operation of its statement with its parameters.
pub(super) async fn execute(mut talk: Box<Talk>, execute: Execute) -> Result<Box<Talk>, Outcome> {
    let Execute { portal: name, rows } = execute;
    // What is owed for this portal goes with its run; what is owed for another does not wait.
    let mine = |owed: &Owed| match owed {
        Owed::Bound(portal) | Owed::Described(portal) => *portal == name,
    };
    if !talk.owed.iter().all(mine) {
        settle(&mut talk).await?;
    }
    let Some(portal) = talk.names.portals.get_mut(&name) else {
        let what = format!("portal \"{name}\" does not exist");
        return failed(talk, Report::new("ERROR", NO_PORTAL, what)).await;
    };
    match std::mem::replace(&mut portal.life, Life::Done) {
        Life::Waiting { answered } => first(talk, name, rows, answered).await,
        // PostgreSQL answers that a SELECT has no rows left, and refuses to run anything else again.
        Life::Done if portal.prepared.fields.is_some() => {
            settle(&mut talk).await?;
            backend::put_complete(talk.client.out(), "SELECT 0");
            Ok(talk)
        }
        Life::Done => {
            let what = format!("portal \"{name}\" cannot be run");
            failed(talk, Report::new("ERROR", NOT_RUNNABLE, what)).await
        }
        Life::Suspended(again, after) => {
            settle(&mut talk).await?;
            let prepared = Arc::clone(&portal_of(&talk, &name)?.prepared);
            match still_open(&mut talk, &name, &prepared).await {
                Ok(()) => {}
                Err(NotKnown::Lost(outcome)) => return Err(outcome),
                Err(NotKnown::Refuse(flaw)) => return refused_portal(talk, &prepared, flaw).await,
            }
            let (home, returns) = mpsc::channel(1);
            if let Err(back) = again.send(Resume { talk, home, rows }) {
                // Its permit fell: policy changed, or the approval was taken back.
                let what = "refused by enforcer: the rest of the rows is no longer permitted";
                return failed(back.talk, Report::new("ERROR", super::refuse::REFUSED, what)).await;
            }
            returned(returns, name, &prepared, after).await
        }
    }
}

/// Refuses to run a portal.
async fn refused_portal(
    talk: Box<Talk>,
    prepared: &Prepared,
    flaw: Denial,
) -> Result<Box<Talk>, Outcome> {
    match &prepared.statement {
        Some(statement) => refused(talk, statement.action(), statement.text(), flaw).await,
        None => refused(talk, "sql.execute", "", flaw).await,
    }
}

/// Whether the backend has a portal of this name with rows left still of this statement: code
/// that ran since may have closed it, and opened a cursor of its name.
async fn still_open(talk: &mut Talk, name: &str, prepared: &Prepared) -> Result<(), NotKnown> {
    // Code cannot open the unnamed one.
    if talk.state.known.is_some() || name.is_empty() {
        return Ok(());
    }
    talk.know().await?;
    match &talk.state.known {
        Some(known) if known.cursors.get(name) != Some(&prepared.hash) => {
            let why = format!("portal {name:?} is not the one that was bound any more");
            Err(NotKnown::Refuse(Denial::new("unknown-cursor", why)))
        }
        // In a failed transaction nothing runs.
        _ => Ok(()),
    }
}

fn portal_of<'a>(talk: &'a Talk, name: &str) -> Result<&'a Portal, Outcome> {
    talk.names.portals.get(name).ok_or_else(|| Outcome::failed("internal", "a portal is gone"))
}

/// The first call of a portal.
async fn first(
    mut talk: Box<Talk>,
    name: String,
    rows: u32,
    answered: bool,
) -> Result<Box<Talk>, Outcome> {
    let describe = talk.owed.contains(&Owed::Described(name.clone()));
    let portal = portal_of(&talk, &name)?;
    let prepared = Arc::clone(&portal.prepared);
    // The Bind goes upstream only now, and finds what the name stands for now.
    let now = talk.names.statements.get(&portal.bind.statement);
    if !now.is_some_and(|now| Arc::ptr_eq(now, &prepared)) {
        let why = format!(
            "the statement that portal {name:?} was bound to is prepared no more, or is another \
             one now; bind it again"
        );
        let flaw = Denial::new("unknown-prepared", why);
        return refused_portal(talk, &prepared, flaw).await;
    }
    let Some(statement) = prepared.statement.clone() else {
        settle(&mut talk).await?;
        backend::put_bare(talk.client.out(), backend::EMPTY);
        return Ok(talk);
    };
    if talk.state.transaction == Transaction::Failed && !statement.ends() {
        settle(&mut talk).await?;
        in_failed_transaction(&mut talk);
        talk.skipping = true;
        return Ok(talk);
    }
    let known = if statement.is_fixed() { Ok(()) } else { talk.know().await };
    match known {
        Ok(()) => {}
        Err(NotKnown::Lost(outcome)) => return Err(outcome),
        Err(NotKnown::Refuse(flaw)) => {
            return refused(talk, statement.action(), statement.text(), flaw).await;
        }
    }
    let bind = portal_of(&talk, &name)?.bind.clone();
    if !statement.is_fixed()
        && let Err(flaw) = verified(&talk, &bind.statement)
    {
        return refused(talk, statement.action(), statement.text(), *flaw).await;
    }
    let bound = Bound { bind: &bind, prepared: &prepared };
    let mut case = Case::of(&talk, &statement, Some(&bound), false);
    if case.unknown && talk.state.known.is_some() {
        // What is not in the catalog may be new.
        match catalog::refresh(&mut talk, Want::New).await {
            Ok(()) => case = Case::of(&talk, &statement, Some(&bound), false),
            Err(NotKnown::Lost(outcome)) => return Err(outcome),
            Err(NotKnown::Refuse(flaw)) => {
                return refused(talk, statement.action(), statement.text(), flaw).await;
            }
        }
    }
    let Case { asked, flaw, lineage, after, .. } = case;
    // With the series' end right behind it, both go in one piece. COPY takes a Sync for data.
    let copies = matches!(
        statement.effect,
        reading::Effect::CopyIn | reading::Effect::CopyOut(_) | reading::Effect::Execute { .. }
    );
    let sync = !copies && rows == 0 && talk.client.peek() == Some(frontend::SYNC);
    if sync {
        talk.client.buffered().map_err(|error| super::serve::broke(&error))?;
    }
    talk.owed.clear();
    let run = Run::Portal {
        portal: name.clone(),
        bind: Some(bind),
        tell_bound: !answered,
        describe,
        fields: prepared.fields.clone(),
        rows,
        sync,
    };
    let work = Work::new(run, lineage, &statement.effect);
    let home = statement::begin(talk, asked, flaw, Some(work), false);
    match returned(home, name, &prepared, after).await {
        // The agent's Sync was taken off with the statement that was then refused.
        Ok(talk) if sync && talk.skipping => self::sync(talk).await,
        other => other,
    }
}

/// Takes the session back from a portal's run.
async fn returned(
    mut home: mpsc::Receiver<Return>,
    name: String,
    prepared: &Prepared,
    after: After,
) -> Result<Box<Talk>, Outcome> {
    match home.recv().await {
        Some(Return::Refused(back)) => after_refusal(back).await,
        Some(Return::Suspended(mut back, again)) => {
            if !after.settled {
                back.state.forget();
            }
            if let Some(portal) = back.names.portals.get_mut(&name) {
                portal.life = Life::Suspended(again, after);
            }
            Ok(back)
        }
        Some(Return::Done(mut back, ended)) => {
            if let Some(statement) = &prepared.statement {
                follow(&mut back, statement, &ended, after, &prepared.hash);
            }
            match ended {
                Ended::Failed(_) if back.unsynced => {
                    back.upset = true;
                    back.names.portals.clear();
                    back.skipping = true;
                }
                Ended::Withheld(..) => {
                    let whole = !back.unsynced;
                    back.fail_upstream().await?;
                    back.skipping = !whole;
                    if whole {
                        // The series' end was reached with it, and the agent was not told yet.
                        let state = match back.unsynced {
                            true => back.sync_upstream().await?,
                            false => back.state.transaction,
                        };
                        backend::put_ready(back.client.out(), state);
                    }
                }
                _ => {}
            }
            Ok(back)
        }
        Some(Return::Permitted(..)) | None => Err(cut()),
    }
}

/// Closes a statement or portal.
pub(super) async fn close(mut talk: Box<Talk>, named: Named) -> Result<Box<Talk>, Outcome> {
    settle(&mut talk).await?;
    let upstream = match &named {
        Named::Statement(name) => talk.names.statements.remove(name).is_some(),
        Named::Portal(name) => match talk.names.portals.remove(name) {
            Some(portal) => !matches!(portal.life, Life::Waiting { .. }),
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
