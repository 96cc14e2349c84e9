//! Look-ups by datagram: each is a flow of its own.

use super::super::codec::MAX_QUESTION;
use super::handle::{self, Transport};
use super::{DnsInputs, PAUSE, UDP_AT_ONCE, count};
use enforcer_proto::v1;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::UdpSocket;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

/// Takes datagrams for ever.
pub(super) async fn listen(socket: Arc<UdpSocket>, inputs: Arc<DnsInputs>, work: TaskTracker) {
    let room = Arc::new(Semaphore::new(UDP_AT_ONCE));
    // One byte more than is read, so that a longer packet is seen to be too long.
    let mut buffer = vec![0; MAX_QUESTION + 1];
    loop {
        let (length, peer) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "the resolver's UDP socket failed to receive");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            count(&inputs.counters.overload);
            continue;
        };
        let packet = buffer[..length].to_vec();
        let (socket, inputs) = (Arc::clone(&socket), Arc::clone(&inputs));
        work.spawn(async move {
            if let Some(reply) = answer(&packet, peer, &inputs).await
                && let Err(error) = socket.send_to(&reply, peer).await
            {
                tracing::debug!(%error, "a DNS answer could not be sent");
            }
            drop(permit);
        });
    }
}

/// The answer to one datagram, after its record is in the log.
async fn answer(packet: &[u8], peer: SocketAddr, inputs: &DnsInputs) -> Option<Vec<u8>> {
    let Some(captured) = inputs.capture.peek_udp(peer) else {
        count(&inputs.counters.unattributed);
        return None;
    };
    let captured = inputs.capture.look_up(captured).await;
    let handled = handle::packet(packet, &captured, inputs, Transport::Udp);
    let Some(record) = handled.record else {
        return handled.reply;
    };
    let start = v1::FlowStart {
        name: record.name,
        target: record.target,
        ..handle::start(&captured, inputs, Transport::Udp)
    };
    let end = v1::FlowEnd {
        outcome: record.outcome.to_owned(),
        error: record.error,
        operations: u64::from(!record.events.is_empty()),
    };
    match inputs.recorder.whole_flow(start, record.events, end).await {
        Ok(_) => handled.reply,
        Err(error) => {
            handle::not_recorded(inputs, &error);
            handled.unrecorded
        }
    }
}
