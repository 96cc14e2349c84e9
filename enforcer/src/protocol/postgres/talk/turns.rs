//! The messages of a session in turn.

use super::Talk;
use crate::flow::Outcome;
use crate::protocol::postgres::codec::Message;
use crate::protocol::postgres::codec::backend::{self, Transaction};
use crate::protocol::postgres::codec::error_response::{self, Report};
use crate::protocol::postgres::codec::frontend::{self, Frontend};
use crate::protocol::postgres::connect::{BAD_START, upstream_broke};
use crate::protocol::postgres::io::WireError;
use crate::protocol::postgres::serve::{broke, tell_fatal};
use crate::protocol::postgres::{extended, function, replication, simple};
use std::sync::Arc;

/// `admin_shutdown`.
const SHUTDOWN: &str = "57P01";

/// Talks until one side ends it.
pub(in super::super) async fn run(mut talk: Box<Talk>) -> Outcome {
    let about = Arc::clone(&talk.about);
    let draining = &about.flow.inputs.draining;
    loop {
        let message = match talk.client.buffered() {
            Ok(Some(message)) => Ok(message),
            Err(error) => Err(error),
            Ok(None) => {
                if let Err(error) = talk.client.flush().await {
                    return broke(&error);
                }
                let idle = talk.state.transaction == Transaction::Idle && !talk.unsynced;
                let Talk { client, upstream, .. } = &mut *talk;
                tokio::select! {
                    biased;
                    message = client.next() => message,
                    message = upstream.next() => {
                        match unasked(&mut talk, message) {
                            Ok(()) => continue,
                            Err(outcome) => {
                                let _ = talk.client.flush().await;
                                return outcome;
                            }
                        }
                    }
                    () = draining.cancelled(), if idle => {
                        let what = "terminating connection due to administrator command";
                        tell_fatal(&mut talk.client, SHUTDOWN, what).await;
                        return Outcome::cut("draining", "the daemon is stopping");
                    }
                }
            }
        };
        let message = match message {
            Ok(message) => message,
            Err(WireError::Closed) => return Outcome::complete(),
            Err(error) => {
                let what = "enforcer: what was sent is not of the protocol, or too long";
                tell_fatal(&mut talk.client, BAD_START, what).await;
                return broke(&error);
            }
        };
        match Box::pin(step(talk, message)).await {
            Ok(next) => talk = next,
            Err(outcome) => return outcome,
        }
    }
}

/// What the upstream says between statements.
fn unasked(talk: &mut Talk, message: Result<Message, WireError>) -> Result<(), Outcome> {
    let message = message.map_err(|error| upstream_broke(&error))?;
    if backend::is_asynchronous(&message) {
        return talk.pass_on(&[message]);
    }
    if message.tag == error_response::ERROR
        && let (Some(mut veil), Ok(report)) = (talk.strict_veil(), Report::read(&message.body))
    {
        let code = report.code().to_owned();
        veil.words(report).put(talk.client.out(), error_response::ERROR);
        return Err(Outcome::failed("upstream-closed", code));
    }
    Err(Outcome::failed("upstream-broke", "an odd message"))
}

/// Answers one message.
async fn step(mut talk: Box<Talk>, message: Message) -> Result<Box<Talk>, Outcome> {
    let read = match frontend::read(&message) {
        Ok(read) => read,
        Err(error) => {
            let what = "enforcer: what was sent is not a message of the protocol";
            tell_fatal(&mut talk.client, BAD_START, what).await;
            return Err(broke(&WireError::Codec(error)));
        }
    };
    match read {
        Frontend::Terminate => {
            frontend::put_bare(talk.upstream.out(), frontend::TERMINATE);
            let _ = talk.upstream.flush().await;
            Err(Outcome::complete())
        }
        Frontend::Sync => extended::sync(talk).await,
        _ if talk.skipping => Ok(talk),
        Frontend::Query(text) => match talk.about.replicates {
            None => simple::query(talk, text).await,
            Some(kind) => replication::query(talk, kind, text).await,
        },
        Frontend::FunctionCall(_)
        | Frontend::Parse(_)
        | Frontend::Bind(_)
        | Frontend::Describe(_)
        | Frontend::Execute(_)
        | Frontend::Close(_)
            if talk.about.replicates.is_some() =>
        {
            talk.tell(&replication::not_taken());
            talk.fail_upstream().await?;
            match message.tag {
                frontend::FUNCTION_CALL => simple::ready(talk).await,
                _ => {
                    talk.skipping = true;
                    Ok(talk)
                }
            }
        }
        Frontend::FunctionCall(call) => function::call(talk, call).await,
        Frontend::Parse(parse) => extended::parse(talk, parse).await,
        Frontend::Bind(bind) => extended::bind(talk, bind).await,
        Frontend::Describe(named) => extended::describe(talk, named).await,
        Frontend::Execute(execute) => extended::execute(talk, execute).await,
        Frontend::Close(named) => extended::close(talk, named).await,
        Frontend::Flush => {
            extended::settle(&mut talk).await?;
            Ok(talk)
        }
        // Sent after the server had given up its COPY; it ignores them too.
        Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail(_) => Ok(talk),
    }
}
