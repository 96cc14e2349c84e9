//! Look-ups over TCP: one flow, any number of questions, one after the other.

use super::super::codec::{self, MAX_QUESTION};
use super::handle::{self, Transport};
use super::{DnsInputs, PAUSE, TCP_PATIENCE, count};
use crate::capture::Captured;
use crate::record::{Durability, FlowLog, RecordError};
use enforcer_proto::v1;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Accepts for ever.
pub(super) async fn listen(
    listener: TcpListener,
    inputs: Arc<DnsInputs>,
    work: TaskTracker,
    shutdown: CancellationToken,
) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "the resolver's TCP socket failed to accept");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Some(captured) = inputs.capture.take_tcp(peer) else {
            count(&inputs.counters.unattributed);
            continue;
        };
        let (inputs, shutdown) = (Arc::clone(&inputs), shutdown.clone());
        work.spawn(async move {
            serve_until(stream, captured, inputs, &shutdown).await;
        });
    }
}

/// Serves one connection of a known agent until it ends, is idle, or is no DNS.
pub async fn serve_tcp_conn(stream: TcpStream, captured: Captured, inputs: Arc<DnsInputs>) {
    serve_until(stream, captured, inputs, &CancellationToken::new()).await;
}

async fn serve_until(
    stream: TcpStream,
    captured: Captured,
    inputs: Arc<DnsInputs>,
    shutdown: &CancellationToken,
) {
    let Some(_place) = inputs.connections.enter(&captured.principal.agent) else {
        count(&inputs.counters.overload);
        return turn_away(&captured, &inputs).await;
    };
    let captured = inputs.capture.look_up(captured).await;
    // At once, also when no question follows: the kernel has counted the connection.
    let start = handle::start(&captured, &inputs, Transport::Tcp);
    let log = match inputs.recorder.open_flow(start).await {
        Ok(log) => log,
        Err(error) => return handle::not_recorded(&inputs, &error),
    };
    let ended = questions(stream, &captured, &inputs, &log, shutdown).await;
    let (outcome, error) = match ended {
        Ok(()) => ("complete", String::new()),
        Err(Stop::Io(error)) => ("failed", error.to_string()),
        Err(Stop::Malformed) => ("failed", "a packet was no question".to_owned()),
        Err(Stop::Record(error)) => return handle::not_recorded(&inputs, &error),
    };
    let end = v1::FlowEnd { outcome: outcome.to_owned(), error, ..v1::FlowEnd::default() };
    if let Err(error) = log.end(end).await {
        handle::not_recorded(&inputs, &error);
    }
}

/// Records a connection past the limits.
async fn turn_away(captured: &Captured, inputs: &DnsInputs) {
    let start = handle::start(captured, inputs, Transport::Tcp);
    let end = v1::FlowEnd {
        outcome: "refused".to_owned(),
        error: "connections".to_owned(),
        operations: 0,
    };
    if let Err(error) = inputs.recorder.whole_flow(start, Vec::new(), end).await {
        handle::not_recorded(inputs, &error);
    }
}

#[derive(Debug)]
enum Stop {
    Io(io::Error),
    Malformed,
    Record(RecordError),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

async fn questions(
    mut stream: TcpStream,
    captured: &Captured,
    inputs: &DnsInputs,
    log: &FlowLog,
    shutdown: &CancellationToken,
) -> Result<(), Stop> {
    stream.set_nodelay(true)?;
    loop {
        // Only between questions: one that was read is recorded and answered.
        let next = shutdown.run_until_cancelled(patiently(read(&mut stream)));
        let Some(packet) = next.await.transpose()?.flatten() else {
            return Ok(());
        };
        let handled = handle::packet(&packet, captured, inputs, Transport::Tcp);
        if let Some(record) = handled.record
            && !record.events.is_empty()
            && let Err(error) = log.append_all(record.events, Durability::Logged).await
        {
            if let Some(reply) = handled.unrecorded.as_deref().and_then(codec::frame) {
                patiently(stream.write_all(&reply)).await?;
            }
            return Err(Stop::Record(error));
        }
        match handled.reply.as_deref().and_then(codec::frame) {
            Some(reply) => patiently(stream.write_all(&reply)).await?,
            None => return Err(Stop::Malformed),
        }
        if handled.malformed {
            return Err(Stop::Malformed);
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(TCP_PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

/// The next frame's message; `None` at an orderly end.
async fn read(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    if stream.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = usize::from(u16::from_be_bytes(length));
    // A frame that is too long is read no further than its refusal needs.
    let mut packet = vec![0; length.min(MAX_QUESTION + 1)];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet))
}
