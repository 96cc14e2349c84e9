//! Accepts captured connections and starts a session for each.
//!
//! It asks the kernel half who connected and where to. No answer: the connection
//! is closed, counted, and nobody guesses. It knows no protocol and decides
//! nothing but how many connections there may be; those past it are recorded too.

mod descriptors;
mod places;
mod pulse;
mod turned_away;

pub use descriptors::fit;
pub use pulse::{Pulse, Pulses};

use crate::capture::{Capture, Captured};
use crate::flow::Inputs;
use crate::metrics::OpenFlow;
use crate::session;
use places::{Place, Places};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;
use turned_away::TurnedAway;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;
/// The pause after an accept that failed (no descriptors left).
const PAUSE: Duration = Duration::from_millis(50);
/// How often an idle listener says that it lives.
const ALIVE: Duration = Duration::from_millis(500);
/// Connections that found no place within this time are one record by agent and reason.
const TOGETHER: Duration = Duration::from_secs(1);

/// Both loopback addresses at a port: IPv4, and IPv6 where the host has it.
pub fn loopback(port: u16) -> [SocketAddr; 2] {
    [
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}

/// Binds a listener for captured connections.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = match addr {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // After a restart the port still has connections in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    if addr.is_ipv6() {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// What the accept loops share.
pub struct Accept {
    /// The kernel half.
    pub capture: Arc<Capture>,
    /// What sessions work with.
    pub inputs: Arc<Inputs>,
    /// The sessions that run.
    pub sessions: TaskTracker,
    /// Beat while the loops live.
    pub pulses: Arc<Pulses>,
    places: Arc<Places>,
    turned_away: TurnedAway,
}

impl std::fmt::Debug for Accept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accept").finish_non_exhaustive()
    }
}

impl Accept {
    /// As many connections as the configuration's limits allow.
    pub fn new(capture: Arc<Capture>, inputs: Arc<Inputs>) -> Self {
        let places = Places::new(&inputs.config.limits);
        Self {
            capture,
            inputs,
            sessions: TaskTracker::new(),
            pulses: Arc::default(),
            places,
            turned_away: TurnedAway::default(),
        }
    }

    /// The loop of one listener, which accepts until the daemon drains. From the call on it is
    /// counted among the [`Pulses`].
    pub fn listen(self: &Arc<Self>, listener: TcpListener) -> impl Future<Output = ()> + use<> {
        let name = match listener.local_addr() {
            Ok(addr) => format!("the accept loop of {addr}"),
            Err(_) => "an accept loop".to_owned(),
        };
        let pulse = self.pulses.add(name);
        let accept = Arc::clone(self);
        async move { accept.run(&listener, &pulse).await }
    }

    /// Records the connections that found no place, until the daemon drains.
    pub async fn record_turned_away(self: Arc<Self>) {
        let draining = &self.inputs.draining;
        while !draining.is_cancelled() {
            let pause = tokio::time::sleep(TOGETHER);
            draining.run_until_cancelled(pause).await;
            self.turned_away.write_out(&self.inputs).await;
        }
    }

    async fn run(&self, listener: &TcpListener, pulse: &Pulse) {
        let draining = &self.inputs.draining;
        loop {
            pulse.beat();
            let accepted = tokio::select! {
                biased;
                () = draining.cancelled() => return,
                accepted = listener.accept() => accepted,
                () = tokio::time::sleep(ALIVE) => continue,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    self.inputs.metrics.not_accepted("accept-failed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let metrics = &self.inputs.metrics;
        let Some(captured) = self.capture.take_tcp(peer) else {
            // Nobody that is governed: something on this host that found the port.
            tracing::warn!(target: "audit", %peer, "a connection without a captured flow was closed");
            return metrics.not_accepted("no-flow");
        };
        let place = match self.places.take(&captured.principal.agent) {
            Ok(place) => place,
            Err(limit) => {
                self.turned_away.note(captured, limit);
                return metrics.not_accepted("limit");
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            // It is gone, and its flow is recorded all the same.
            tracing::debug!(%peer, %error, "a connection was gone before it was served");
        }
        let open = metrics.flow_opened();
        self.start(stream, captured, place, open);
    }

    fn start(&self, stream: TcpStream, captured: Captured, place: Place, open: OpenFlow) {
        let inputs = Arc::clone(&self.inputs);
        let capture = Arc::clone(&self.capture);
        self.sessions.spawn(async move {
            // Here and not in the loop: what `/proc` shows may lie where reading takes for ever.
            let captured = capture.look_up(captured).await;
            session::run(inputs, stream, captured).await;
            drop((place, open));
        });
    }
}
