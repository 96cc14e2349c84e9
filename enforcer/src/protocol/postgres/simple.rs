//! Query strings: every statement of one is decided before any runs, and one refusal refuses all.
//!
//! What runs upstream is the very string, in one message, so that it is the one transaction that
//! it would be without us.

use super::codec::backend::{self, Transaction};
use super::operation;
use super::prepared::{MOST, Prepared};
use super::reading::{self, Effect, Lineage, Statement};
use super::relay::{Ended, Run, Work};
use super::statement::{self, Return};
use super::talk::{NotKnown, Talk, in_failed_transaction};
use crate::decide::Denial;
use crate::flow::{Asked, Outcome};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Takes a query string to its end.
pub(super) async fn query(mut talk: Box<Talk>, text: String) -> Result<Box<Talk>, Outcome> {
    super::extended::settle(&mut talk).await?;
    // The unnamed portal and statement go with a query string (protocol-flow, "Extended Query").
    talk.names.portals.remove("");
    let statements = match reading::read(&text) {
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
    if talk.state.transaction == Transaction::Failed && !statements.iter().all(ends) {
        in_failed_transaction(&mut talk);
        return ready(talk).await;
    }
    match talk.know().await {
        Ok(()) => {}
        Err(NotKnown::Lost(outcome)) => return Err(outcome),
        Err(NotKnown::Refuse(flaw)) => {
            let asked = operation::unread(&talk, "sql.other", &text);
            return refused(talk, asked, flaw).await;
        }
    }
    let statements: Vec<_> = statements.into_iter().map(Arc::new).collect();
    run_all(talk, text, &statements).await
}

/// Whether a statement is one that a failed transaction takes.
fn ends(statement: &Statement) -> bool {
    matches!(statement.effect, Effect::End | Effect::Back)
}

/// One statement of a string, ready to be asked.
struct Member {
    asked: Asked,
    flaw: Option<Denial>,
    lineage: Lineage,
}

async fn run_all(
    mut talk: Box<Talk>,
    text: String,
    statements: &[Arc<Statement>],
) -> Result<Box<Talk>, Outcome> {
    let members = members(&talk, statements);
    let count = members.len();
    let mut text = Some(text);
    let whole = Prepared::hash(text.as_deref().unwrap_or_default());
    let mut turns: Vec<(oneshot::Sender<Box<Talk>>, mpsc::Receiver<Return>)> = Vec::new();
    let mut last = None;
    for (at, (member, statement)) in members.into_iter().zip(statements).enumerate() {
        let run = Run::Query { text: text.take(), last: at + 1 == count };
        let work = Work::new(run, member.lineage, &statement.effect);
        let waits = count > 1;
        let mut home = statement::begin(talk, member.asked, member.flaw, Some(work), waits);
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
    for (statement, how) in statements.iter().zip(&ended) {
        follow(&mut talk, statement, how, &whole);
    }
    if ended.iter().any(|how| matches!(how, Ended::Withheld(..))) {
        talk.fail_upstream().await?;
        if talk.unsynced {
            talk.sync_upstream().await?;
        }
    }
    Ok(talk)
}

/// The operations of a string's statements.
fn members(talk: &Talk, statements: &[Arc<Statement>]) -> Vec<Member> {
    let mut within = talk.state.transaction != Transaction::Idle;
    let mut changed = false;
    let mut members = Vec::with_capacity(statements.len());
    for statement in statements {
        let (member, _) = judged(talk, statement, None, within);
        let mut member = member;
        if changed && member.flaw.is_none() && depends(statement) {
            member.flaw = Some(Denial::new(
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
        changed |= !keeps_names(statement);
        members.push(member);
    }
    members
}

/// Whether what a statement does depends on what names mean.
fn depends(statement: &Statement) -> bool {
    !matches!(statement.effect, Effect::Begin | Effect::End | Effect::Within | Effect::Back)
}

/// Whether names mean the same after a statement.
fn keeps_names(statement: &Statement) -> bool {
    match statement.effect {
        Effect::None | Effect::CopyIn | Effect::CopyOut(_) => statement.keeps_names,
        Effect::Begin | Effect::Within | Effect::Fetch { .. } | Effect::Close(_) => true,
        // What the transaction changed is taken back.
        Effect::End | Effect::Back => false,
        _ => statement.keeps_names,
    }
}

/// The operation of a statement and what is wrong with it already; and what it runs in the end.
pub(super) fn judged_parts(
    talk: &Talk,
    statement: &Arc<Statement>,
) -> (Option<Arc<Statement>>, Option<Denial>) {
    match &statement.effect {
        Effect::Execute { name } => match verified(talk, name) {
            Ok(prepared) => match &prepared.statement {
                Some(inner) => (Some(Arc::clone(inner)), None),
                None => (None, None),
            },
            Err(flaw) => (None, Some(flaw)),
        },
        Effect::Fetch { name } => match talk.names.cursors.get(name) {
            Some(inner) => (Some(Arc::clone(inner)), None),
            None => {
                let why = format!("cursor {name:?} was not declared in this session as far as is known");
                (None, Some(Denial::new("unknown-cursor", why)))
            }
        },
        Effect::Prepare { inner, .. } | Effect::Declare { inner, .. } => {
            (Some(Arc::clone(inner)), None)
        }
        _ => (None, None),
    }
}

fn judged(
    talk: &Talk,
    statement: &Arc<Statement>,
    bound: Option<&operation::Bound<'_>>,
    within: bool,
) -> (Member, Option<Arc<Statement>>) {
    let (runs, mut flaw) = judged_parts(talk, statement);
    let asked = operation::of(talk, statement, runs.as_deref(), bound, within);
    let shows = runs.as_ref().unwrap_or(statement);
    let lineage = lineage(talk, shows);
    if flaw.is_none() {
        flaw = untraceable(talk, statement, &lineage);
    }
    (Member { asked, flaw, lineage }, runs)
}

/// The operation of a statement with bound parameters, its flaw, and where its output comes from.
pub(super) fn bound(
    talk: &Talk,
    statement: &Arc<Statement>,
    bound: &operation::Bound<'_>,
) -> (Asked, Option<Denial>, Lineage) {
    let (member, _) = judged(talk, statement, Some(bound), false);
    (member.asked, member.flaw, member.lineage)
}

/// Where a statement's output comes from, on the search path in force.
fn lineage(talk: &Talk, statement: &Statement) -> Lineage {
    let known = talk.state.known.as_ref();
    let path = known.map(|known| known.search_path.as_slice()).unwrap_or_default();
    statement.lineage(talk.catalog.as_deref(), path)
}

/// A statement whose output a mask may concern and cannot be followed is refused before anyone is
/// asked.
fn untraceable(talk: &Talk, statement: &Statement, lineage: &Lineage) -> Option<Denial> {
    use crate::policy::Untraceable;
    if !statement.shows() {
        return None;
    }
    let bundle = talk.about.flow.inputs.decider.bundle();
    let target = talk.about.place.target(&bundle)?;
    let allowed = target.postgres.as_ref()?.untraceable == Untraceable::Allow;
    let rules = bundle.masks_for(target);
    match &lineage.outputs {
        Err(why) if rules.columns().any() && !allowed => {
            let why = super::veil::Withheld::Untraceable(why.clone());
            Some(Denial::new(why.code(), why.to_string()))
        }
        _ => None,
    }
}

/// A prepared statement whose text the backend has too.
pub(super) fn verified(talk: &Talk, name: &str) -> Result<Arc<Prepared>, Denial> {
    let unknown = || {
        let why = format!(
            "prepared statement {name:?} is not one that was read in this session, so what it \
             runs is not known; prepare it again"
        );
        Denial::new("unknown-prepared", why)
    };
    let prepared = talk.names.statements.get(name).ok_or_else(unknown)?;
    let known = talk.state.known.as_ref().ok_or_else(unknown)?;
    match known.prepared.get(name) {
        Some(hash) if *hash == prepared.hash => Ok(Arc::clone(prepared)),
        // The unnamed one is in no list, and nothing but the protocol can make it.
        None if name.is_empty() => Ok(Arc::clone(prepared)),
        _ => Err(unknown()),
    }
}

/// Follows what a statement that ran did to the session.
pub(super) fn follow(talk: &mut Talk, statement: &Statement, how: &Ended, text_hash: &str) {
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
        Effect::Deallocate(None) => talk.names.statements.retain(|name, _| name.is_empty()),
        Effect::Declare { name, inner } if talk.names.cursors.len() < MOST => {
            talk.names.cursors.insert(name.clone(), Arc::clone(inner));
        }
        Effect::Close(Some(name)) => {
            talk.names.cursors.remove(name);
        }
        Effect::Close(None) => talk.names.cursors.clear(),
        _ => {}
    }
    if statement.alters {
        talk.state.altered = true;
    }
    let runs = match &statement.effect {
        Effect::Execute { name } => talk.names.statements.get(name),
        _ => None,
    };
    let runs = runs.and_then(|prepared| prepared.statement.clone());
    let plain = talk.is_plain(statement) && runs.is_none_or(|runs| talk.is_plain(&runs));
    if matches!(statement.effect, Effect::Back | Effect::Any) || !plain {
        talk.state.forget();
    }
}

/// The function-call message: code by number. It is refused; what it would run is not read.
pub(super) async fn function(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
    super::extended::settle(&mut talk).await?;
    let asked = operation::unread(&talk, "sql.function", "");
    let flaw = Denial::new(
        "function-call-refused",
        "the function-call message is not taken; call the function in a SELECT",
    );
    refused(talk, asked, flaw).await
}

/// Refuses in the simple protocol: the error, then ready.
async fn refused(
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
async fn after_refusal(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
    talk.fail_upstream().await?;
    ready(talk).await
}

async fn ready(mut talk: Box<Talk>) -> Result<Box<Talk>, Outcome> {
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
