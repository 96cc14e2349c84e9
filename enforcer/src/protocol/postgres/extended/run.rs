//! `Bind` and `Execute`: a portal is made here alone, and goes upstream with the permit to run it.

use super::{
    NO_PORTAL, NO_STATEMENT, NOT_RUNNABLE, Owed, PORTAL_EXISTS, TOO_MANY, after_refusal, failed,
    refused, settle,
};
use crate::decide::Denial;
use crate::flow::Outcome;
use crate::protocol::postgres::case::{After, Case, verified};
use crate::protocol::postgres::catalog::{self, Want};
use crate::protocol::postgres::codec::backend::{self, Transaction};
use crate::protocol::postgres::codec::error_response::Report;
use crate::protocol::postgres::codec::frontend::{self, Bind, Execute};
use crate::protocol::postgres::connect::BAD_START;
use crate::protocol::postgres::operation::Bound;
use crate::protocol::postgres::prepared::{Cursor, Life, MOST, Portal, Prepared};
use crate::protocol::postgres::reading;
use crate::protocol::postgres::refuse;
use crate::protocol::postgres::relay::{Ended, Run, Work};
use crate::protocol::postgres::serve::broke;
use crate::protocol::postgres::simple::{cut, follow};
use crate::protocol::postgres::statement::{self, Home, Resume, Return};
use crate::protocol::postgres::talk::{NotKnown, Talk, in_failed_transaction};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Makes a portal, here alone.
pub(in super::super) async fn bind(mut talk: Box<Talk>, bind: Bind) -> Result<Box<Talk>, Outcome> {
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
        return failed(talk, Report::new("ERROR", BAD_START, what)).await;
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
    // Whatever was read under this name is not what it stands for now.
    talk.names.cursors.remove(&name);
    let portal = Portal { prepared, bind, life: Life::Waiting { answered: false } };
    talk.names.portals.insert(name.clone(), portal);
    talk.owed.push(Owed::Bound(name));
    Ok(talk)
}

/// Runs a portal: the operation of its statement with its parameters.
pub(in super::super) async fn execute(
    mut talk: Box<Talk>,
    execute: Execute,
) -> Result<Box<Talk>, Outcome> {
    let Execute { portal: name, rows } = execute;
    // What is owed for this portal goes with its run; what is owed for another does not wait.
    let mine = |owed: &Owed| match owed {
        Owed::Bound(portal) | Owed::Described(portal) => *portal == name,
    };
    if !talk.owed.iter().all(mine) {
        settle(&mut talk).await?;
    }
    let Some(portal) = talk.names.portals.get_mut(&name) else {
        if talk.state.transaction == Transaction::Failed {
            // The server still has those that were open when it failed, and runs none.
            settle(&mut talk).await?;
            in_failed_transaction(&mut talk);
            talk.skipping = true;
            return Ok(talk);
        }
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
                return failed(back.talk, Report::new("ERROR", refuse::REFUSED, what)).await;
            }
            returned(Home::of(returns), name, &prepared, None, after).await
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
        reading::Effect::CopyIn { .. }
            | reading::Effect::CopyOut(_)
            | reading::Effect::Execute { .. }
    );
    let sync = !copies && rows == 0 && talk.client.peek() == Some(frontend::SYNC);
    if sync {
        talk.client.buffered().map_err(|error| broke(&error))?;
    }
    talk.owed.clear();
    let cursor = (!name.is_empty()).then(|| Cursor {
        statement: Arc::clone(&statement),
        path: talk.search_path().to_vec(),
        catalog: talk.catalog.clone(),
        hash: prepared.hash.clone(),
        bound: Some((bind.clone(), Arc::clone(&prepared))),
    });
    let run = Run::Portal {
        portal: name.clone(),
        bind: Some(bind),
        tell_bound: !answered,
        describe,
        fields: prepared.fields.clone(),
        rows,
        sync,
    };
    let work = Work::new(run, lineage, &statement.effect).taking(case.takes);
    let home = statement::begin(talk, asked, flaw, Some(work), false);
    match returned(home, name, &prepared, cursor, after).await {
        // The agent's Sync was taken off with the statement that was then refused.
        Ok(talk) if sync && talk.skipping => super::sync(talk).await,
        other => other,
    }
}

/// Takes the session back from a portal's run. While it has rows left, `cursor` is what FETCH
/// and MOVE of its name read.
async fn returned(
    mut home: Home,
    name: String,
    prepared: &Prepared,
    cursor: Option<Cursor>,
    after: After,
) -> Result<Box<Talk>, Outcome> {
    match home.recv().await {
        Some(Return::Refused(back)) => after_refusal(back).await,
        Some(Return::Suspended(mut back, again)) => {
            if !after.settled {
                back.state.forget();
            }
            if let Some(cursor) = cursor
                && back.names.cursors.len() < MOST
            {
                if let Some(known) = &mut back.state.known {
                    known.cursors.insert(name.clone(), cursor.hash.clone());
                }
                back.names.cursors.insert(name.clone(), cursor);
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
