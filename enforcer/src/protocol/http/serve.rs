//! hyper's side of a captured connection: requests off it, answers onto it.

use super::body::{CutOff, Out};
use super::exchange::HttpExchange;
use crate::config::Limits;
use crate::flow::{Flow, Outcome, Place};
use crate::session;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// Streams of one HTTP/2 connection at once (RFC 9113 section 6.5.2 advises no less than 100).
const MAX_STREAMS: u32 = 128;
/// Resets that a client may cause before its connection is closed ("rapid reset").
const MAX_RESETS: usize = 64;

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves a connection's requests to their end, each through the spine.
pub async fn serve<T>(flow: &Arc<Flow>, place: &Place, tls: bool, speaks: Speaks, io: T) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let answer = move |request: Request<Incoming>| {
        let (reply, answer) = oneshot::channel();
        let exchange = HttpExchange::new(flow, place.clone(), tls, request, reply);
        // In a task of its own: hyper drops this future when the client goes away, and the
        // operation's end must be recorded all the same.
        flow.operations.spawn(session::operate(Arc::clone(flow), exchange));
        async move { answer.await.map_err(|_| CutOff) }
    };
    connection(flow, speaks, io, answer).await
}

/// Runs a connection with `answer` for each request, until it ends or the daemon drains.
pub(super) async fn connection<T, A, F>(flow: &Flow, speaks: Speaks, io: T, answer: A) -> Outcome
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response<Out>, CutOff>> + Send + 'static,
{
    let limits = &flow.inputs.config.limits;
    let service = service_fn(answer);
    let io = TokioIo::new(io);
    flow.activity.heads(speaks == Speaks::Http1);
    let ended = match speaks {
        Speaks::Http1 => {
            let connection = http1_builder(limits).serve_connection(io, service);
            drive(flow, connection, |connection| connection.graceful_shutdown()).await
        }
        Speaks::Http2 => {
            let connection = http2_builder(limits).serve_connection(io, service);
            drive(flow, connection, |connection| connection.graceful_shutdown()).await
        }
    };
    match ended {
        Ok(()) => Outcome::complete(),
        Err(error) if error.is_parse() || error.is_parse_too_large() => {
            Outcome { error: format!("bad-request: {error}"), ..Outcome::refused("bad-request") }
        }
        Err(error) if error.is_user() => Outcome::cut("answer-cut", error),
        Err(error) if error.is_incomplete_message() => Outcome::cancelled(),
        Err(error) => Outcome::failed("client-broke", error),
    }
}

async fn drive<C>(flow: &Flow, connection: C, wind_down: impl Fn(Pin<&mut C>)) -> hyper::Result<()>
where
    C: Future<Output = hyper::Result<()>>,
{
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = flow.inputs.draining.cancelled() => wind_down(connection.as_mut()),
    }
    connection.await
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // The head's time is kept by the flow's activity, which knows idle from slow.
    builder.max_header_size(limits.header_bytes).auto_date_header(false);
    builder
}

fn http2_builder(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_RESETS)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20))
        .auto_date_header(false);
    builder
}
