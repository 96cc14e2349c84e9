//! Query strings: every statement of one is decided before any runs, and one refusal refuses all.
//!
//! What runs upstream is the very string, in one message, so that it is the one transaction that
//! it would be without us.

use super::case::{After, Case};
use super::catalog::{self, Want};
use super::codec::backend::{self, Transaction};
use super::operation;
use super::prepared::{Cursor, MOST, Prepared};
use super::reading::{self, Effect, Statement};
use super::relay::{Ended, Run, Work};
use super::statement::{self, Home, Return};
use super::talk::{NotKnown, Talk, in_failed_transaction};
use crate::decide::Denial;
use crate::flow::{Asked, Outcome};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Takes a query string to its end.
pub(super) async fn query(mut talk: Box<Talk>, text: String) -> Result<Box<Talk>, Outcome> {
    super::extended::settle(&mut talk).await?;
    // The unnamed portal and statement go with a query string (protocol-flow, "Extended Query").
    talk.names.portals.remove("");
    talk.names.statements.remove("");
    let cache = &talk.about.flow.inputs.databases.statements;
    let statements = match reading::read(cache, &text) {
        Ok(statements) => statements,
        Err(why) => {
            let asked = operation::unread(&talk, "sql.other", &text);
            let flaw = Denial::new("unreadable", why.to_string());
            return refused(talk, asked, flaw).await;
        }
    };
    if statements.is_empty() {
        backend::put_bare(talk.client.out(), backend::EMPTY);
        return ready(talk).await;
    }
    if talk.state.transaction == Transaction::Failed && !statements.iter().all(|one| one.ends()) {
        in_failed_transaction(&mut talk);
        return ready(talk).await;
    }
    let fixed = statements.iter().all(|one| one.is_fixed());
    let known = if fixed { Ok(()) } else { talk.know().await };
    match known {
        Ok(()) => {}
        Err(NotKnown::Lost(outcome)) => return Err(outcome),
        Err(NotKnown::Refuse(flaw)) => {
            let asked = operation::unread(&talk, "sql.other", &text);
            return refused(talk, asked, flaw).await;
        }
    }
    run_all(talk, text, &statements).await
}

async fn run_all(
    mut talk: Box<Talk>,
    text: String,
    statements: &[Arc<Statement>],
) -> Result<Box<Talk>, Outcome> {
    let cases = match cases(&mut talk, statements).await {
        Ok(cases) => cases,
        Err(NotKnown::Lost(outcome)) => return Err(outcome),
        Err(NotKnown::Refuse(flaw)) => {
            let asked = operation::unread(&talk, "sql.other", &text);
            return refused(talk, asked, flaw).await;
        }
    };
    let count = cases.len();
    let afters: Vec<After> = cases.iter().map(|case| case.after).collect();
    let mut text = Some(text);
    let whole = Prepared::hash(text.as_deref().unwrap_or_default());
    let mut turns: Vec<(oneshot::Sender<Box<Talk>>, Home)> = Vec::new();
    let mut last = None;
    for (at, (case, statement)) in cases.into_iter().zip(statements).enumerate() {
        let run = Run::Query { text: text.take(), last: at + 1 == count };
        let work = Work::new(run, case.lineage, &statement.effect).taking(case.takes);
        let waits = count > 1;
        let mut home = statement::begin(talk, case.asked, case.flaw, Some(work), waits);
        match home.recv().await {
            Some(Return::Refused(back)) => {
                // Those that were permitted do not run: their turn never comes.
                drop(turns);
                return after_refusal(back).await;
            }
            Some(Return::Permitted(back, turn)) => {
                talk = back;
                turns.push((turn, home));
            }
            Some(Return::Done(back, ended)) => {
                talk = back;
                last = Some(ended);
            }
            Some(Return::Suspended(..)) | None => return Err(cut()),
        }
    }
    let mut ended = Vec::with_capacity(count);
    ended.extend(last);
    for (turn, mut home) in turns {
        turn.send(talk).map_err(|_| cut())?;
        match home.recv().await {
            Some(Return::Done(back, how)) => {
                talk = back;
                let failed = matches!(how, Ended::Failed(_));
                if matches!(how, Ended::Withheld(..)) && ended.len() + 1 < count {
                    // The agent was told of an error, and more would come behind it.
                    return Err(cut());
                }
                ended.push(how);
                if failed {
                    // The server runs none of the rest.
                    break;
                }
            }
            // Policy changed between the decision and its turn; the string may be half done.
            _ => return Err(cut()),
        }
    }
    for ((statement, how), after) in statements.iter().zip(&ended).zip(afters) {
        follow(&mut talk, statement, how, after, &whole);
    }
    match ended.last() {
        // The agent waits to be told that the server is ready: in the state that this leaves.
        Some(Ended::Withheld(..)) => after_refusal(talk).await,
        _ => Ok(talk),
    }
}

/// The statements of a string, each as it will be met.
async fn cases(talk: &mut Talk, statements: &[Arc<Statement>]) -> Result<Vec<Case>, NotKnown> {
    let first = judge_all(talk, statements);
    if !first.iter().any(|case| case.unknown) || talk.state.known.is_none() {
        return Ok(first);
    }
    // What is not in the catalog may be new.
    catalog::refresh(talk, Want::New).await?;
    Ok(judge_all(talk, statements))
}

fn judge_all(talk: &Talk, statements: &[Arc<Statement>]) -> Vec<Case> {
    let mut within = talk.state.transaction != Transaction::Idle;
    let mut changed = false;
    let mut cases = Vec::with_capacity(statements.len());
    for statement in statements {
        let mut case = Case::of(talk, statement, None, within);
        if changed && case.flaw.is_none() && !statement.is_fixed() && case.depends() {
            case.flaw = Some(Denial::new(
                "order-dependent",
                "a statement before it in the same string may change what its names mean; send \
                 the statements one by one",
            ));
        }
        within = match statement.effect {
            Effect::Begin => true,
            Effect::End => false,
            _ => within,
        };
        changed |= renames(statement, &case);
        cases.push(case);
    }
    cases
}

/// Whether names, the role or a setting may be others after a statement.
fn renames(statement: &Statement, case: &Case) -> bool {
    match statement.effect {
        // What the transaction changed may be taken back.
        Effect::End | Effect::Back => true,
        _ if statement.is_fixed() => false,
        Effect::Prepare { .. } | Effect::Declare { .. } | Effect::Deallocate(_) => true,
        _ => !case.after.settled && !case.writes_only(),
    }
}

/// Follows what a statement that ran did to the session.
pub(super) fn follow(
    talk: &mut Talk,
    statement: &Statement,
    how: &Ended,
    after: After,
    text_hash: &str,
) {
    if matches!(how, Ended::Failed(_)) {
        talk.state.forget();
        return;
    }
    match &statement.effect {
        Effect::Prepare { name, inner } if talk.names.statements.len() < MOST => {
            let prepared = Prepared {
                statement: Some(Arc::clone(inner)),
                hash: text_hash.to_owned(),
                types: Vec::new(),
                fields: None,
            };
            talk.names.statements.insert(name.clone(), Arc::new(prepared));
            if let Some(known) = &mut talk.state.known {
                known.prepared.insert(name.clone(), text_hash.to_owned());
            }
        }
        Effect::Deallocate(Some(name)) => {
            talk.names.statements.remove(name);
        }
        Effect::Deallocate(None) | Effect::Discard(true) => {
            talk.names.statements.retain(|name, _| name.is_empty());
        }
        Effect::Declare { name, inner } if talk.names.cursors.len() < MOST => {
            let cursor = Cursor {
                statement: Arc::clone(inner),
                path: talk.search_path().to_vec(),
                catalog: talk.catalog.clone(),
                hash: text_hash.to_owned(),
                bound: None,
            };
            // A portal of this name is none any more, or the server would not have taken it.
            talk.names.portals.remove(name);
            talk.names.cursors.insert(name.clone(), cursor);
            if let Some(known) = &mut talk.state.known {
                known.cursors.insert(name.clone(), text_hash.to_owned());
            }
        }
        Effect::Close(Some(name)) => {
            talk.names.cursors.remove(name);
            talk.names.portals.remove(name);
        }
        Effect::Close(None) => {
            talk.names.cursors.clear();
            // The unnamed one may be what runs it.
            talk.names.portals.retain(|name, _| name.is_empty());
        }
        _ => {}
    }
    if matches!(statement.effect, Effect::Discard(true)) {
        talk.names.cursors.clear();
    }
    match statement.effect {
        Effect::Begin if talk.unsynced => talk.state.transaction = Transaction::Open,
        Effect::End => {
            talk.state.ended();
            if talk.unsynced {
                talk.state.transaction = Transaction::Idle;
            }
        }
        _ => {}
    }
    talk.state.altered |= after.alters;
    if after.defines {
        talk.about.flow.inputs.databases.catalogs.changed();
    }
    if !after.settled {
        talk.state.forget();
    }
}

/// Refuses in the simple protocol: the error, then ready.
pub(super) async fn refused(
    talk: Box<Talk>,
    asked: Asked,
    flaw: Denial,
) -> Result<Box<Talk>, Outcome> {
    let mut home = statement::begin(talk, asked, Some(flaw), None, false);
    match home.recv().await {
        Some(Return::Refused(back)) => after_refusal(back).await,
        _ => Err(cut()),
    }
}

/// The agent was told; what is open upstream fails, and the agent is ready for the next.
pub(super) async fn after_refusal(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
    talk.fail_upstream().await?;
    ready(talk).await
}

/// Says that the next may come.
pub(super) async fn ready(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
    let state = match talk.unsynced {
        true => talk.sync_upstream().await?,
        false => talk.state.transaction,
    };
    talk.names.ready(state);
    backend::put_ready(talk.client.out(), state);
    Ok(talk)
}

pub(super) fn cut() -> Outcome {
    Outcome::cut("cut", "the statement was cut, and the session with it")
}
