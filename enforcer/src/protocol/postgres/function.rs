//! The function-call message: code by its number, where the target takes it (`allow`).
//!
//! It is judged as the function that the catalog has under that number, with its arguments as
//! bound parameters, and answered like a query string.

use super::codec::backend::Transaction;
use super::codec::frontend::Bind;
use super::codec::function_call::FunctionCall;
use super::operation::{self, Bound};
use super::prepared::Prepared;
use super::reading::{Catalog, Effect, Judged, Routine};
use super::relay::{Ended, Run, Work};
use super::simple::{after_refusal, cut, ready, refused};
use super::statement::{self, Return};
use super::talk::{NotKnown, Talk, in_failed_transaction};
use super::{case, catalog, extended};
use crate::decide::Denial;
use crate::flow::Outcome;

/// Takes a function-call message to its end.
pub(super) async fn call(mut talk: Box<Talk>, call: FunctionCall) -> Result<Box<Talk>, Outcome> {
    extended::settle(&mut talk).await?;
    if talk.state.transaction == Transaction::Failed {
        in_failed_transaction(&mut talk);
        return ready(talk).await;
    }
    let flaw = match find(&mut talk, &call).await {
        Ok(found) => return run(talk, call, found).await,
        Err(NotKnown::Lost(outcome)) => return Err(outcome),
        Err(NotKnown::Refuse(flaw)) => flaw,
    };
    let asked = operation::unread(&talk, "sql.function", &format!("function {}", call.function));
    refused(talk, asked, flaw).await
}

/// The function that is meant; its signature, and what calling it comes to.
async fn find(talk: &mut Talk, call: &FunctionCall) -> Result<(Routine, String), NotKnown> {
    if !taken(talk) {
        return Err(NotKnown::Refuse(Denial::new(
            "function-call-refused",
            "this target does not take the function-call message; call the function in a SELECT",
        )));
    }
    talk.know().await?;
    if routine(talk, call).is_none() {
        // What is not in the catalog may be new.
        catalog::refresh(talk, catalog::Want::New).await?;
    }
    let unknown = || {
        let why = format!("the catalog has no function with the number {}", call.function);
        NotKnown::Refuse(Denial::new("unknown-function", why))
    };
    let found = routine(talk, call).ok_or_else(unknown)?.clone();
    let signature = talk.catalog.as_deref().map(|catalog| signature(catalog, &found));
    Ok((found, signature.ok_or_else(unknown)?))
}

fn routine<'t>(talk: &'t Talk, call: &FunctionCall) -> Option<&'t Routine> {
    talk.catalog.as_ref()?.routine_by_oid(call.function)
}

/// Whether policy lets the target take such a message at all.
fn taken(talk: &Talk) -> bool {
    let bundle = talk.about.flow.inputs.decider.bundle();
    let target = talk.about.place.target(&bundle);
    let postgres = target.and_then(|target| target.postgres.as_ref());
    postgres.is_some_and(|postgres| postgres.function_calls)
}

/// `schema.name(schema.type, ...)`: functions of one name are told apart by it.
fn signature(catalog: &Catalog, routine: &Routine) -> String {
    let types: Vec<String> = routine
        .inputs
        .iter()
        .map(|oid| match catalog.type_by_oid(*oid) {
            Some(found) => format!("{}.{}", found.schema, found.name),
            None => oid.to_string(),
        })
        .collect();
    format!("{}.{}({})", routine.schema, routine.name, types.join(", "))
}

async fn run(
    talk: Box<Talk>,
    call: FunctionCall,
    (routine, signature): (Routine, String),
) -> Result<Box<Talk>, Outcome> {
    let judged = Judged::of_function(&routine);
    let bind = Bind {
        portal: String::new(),
        statement: String::new(),
        formats: call.formats.clone(),
        values: call.values.clone(),
        results: vec![call.result],
    };
    let types = routine.inputs.clone();
    let prepared = Prepared { statement: None, hash: String::new(), types, fields: None };
    let bound = Bound { bind: &bind, prepared: &prepared };
    let asked = operation::function(&talk, &signature, &judged, &bound);
    let flaw = case::unmaskable(&talk, &judged.lineage);
    let run = Run::Function { call, result: routine.result };
    let work = Work::new(run, judged.lineage, &Effect::None);
    let mut home = statement::begin(talk, asked, flaw, Some(work), false);
    match home.recv().await {
        Some(Return::Refused(back)) => after_refusal(back).await,
        Some(Return::Done(mut back, ended)) => {
            // Whatever it did, the session is asked what state it is in.
            back.state.forget();
            back.state.altered |= judged.alters;
            if judged.defines {
                back.about.flow.inputs.databases.catalogs.changed();
            }
            match ended {
                Ended::Withheld(..) => after_refusal(back).await,
                _ => Ok(back),
            }
        }
        _ => Err(cut()),
    }
}
