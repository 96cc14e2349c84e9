//! Accepts captured connections and starts a session for each.
//!
//! It asks the kernel half who connected and where to. No answer: the connection
//! is closed, counted, and nobody guesses. It knows no protocol and decides
//! nothing but how many connections there may be.

use crate::capture::{Capture, Captured};
use crate::config::Limits;
use crate::flow::Inputs;
use crate::metrics::OpenFlow;
use crate::principal::AgentName;
use crate::session;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4096;
/// The pause after an accept that failed (no descriptors left).
const PAUSE: Duration = Duration::from_millis(50);
/// How often an idle listener says that it lives.
const ALIVE: Duration = Duration::from_millis(500);

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

/// When the accept loops were last seen alive.
#[derive(Debug, Default)]
pub struct Pulse(AtomicU64);

impl Pulse {
    fn beat(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// A count that grows while the loops live.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What the accept loops share.
pub struct Accept {
    /// The kernel half.
    pub capture: Arc<Capture>,
    /// What sessions work with.
    pub inputs: Arc<Inputs>,
    /// The sessions that run.
    pub sessions: TaskTracker,
    /// Beats while the loops live.
    pub pulse: Arc<Pulse>,
    places: Arc<Places>,
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
        Self { capture, inputs, sessions: TaskTracker::new(), pulse: Arc::default(), places }
    }

    /// Accepts until the daemon drains.
    pub async fn run(&self, listener: TcpListener) {
        let draining = &self.inputs.draining;
        loop {
            self.pulse.beat();
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
        let Some(place) = self.places.take(&captured.principal.agent) else {
            tracing::warn!(
                target: "audit",
                agent = %captured.principal.agent,
                "a connection past the limits was closed"
            );
            return metrics.not_accepted("limit");
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "a connection was gone before it was served");
            return metrics.not_accepted("gone");
        }
        let open = metrics.flow_opened();
        self.start(stream, captured, place, open);
    }

    fn start(&self, stream: TcpStream, captured: Captured, place: Place, open: OpenFlow) {
        let inputs = Arc::clone(&self.inputs);
        self.sessions.spawn(async move {
            session::run(inputs, stream, captured).await;
            drop((place, open));
        });
    }
}

/// The connections that there may be.
#[derive(Debug)]
struct Places {
    max: usize,
    max_per_agent: usize,
    taken: Mutex<(usize, HashMap<AgentName, usize>)>,
}

impl Places {
    fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            max: limits.connections,
            max_per_agent: limits.connections_per_agent,
            taken: Mutex::default(),
        })
    }

    fn take(self: &Arc<Self>, agent: &AgentName) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, agents) = &mut *taken;
        let of_agent = agents.get(agent).copied().unwrap_or_default();
        if *all >= self.max || of_agent >= self.max_per_agent {
            return None;
        }
        *all += 1;
        agents.insert(agent.clone(), of_agent + 1);
        Some(Place { places: Arc::clone(self), agent: agent.clone() })
    }
}

/// One connection's place.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    agent: AgentName,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, agents) = &mut *taken;
        *all = all.saturating_sub(1);
        if let Some(count) = agents.get_mut(&self.agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                agents.remove(&self.agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_per_daemon_and_per_agent() {
        let limits = Limits { connections: 3, connections_per_agent: 2, ..Limits::default() };
        let places = Places::new(&limits);
        let (a, b) = (AgentName::parse("a").unwrap(), AgentName::parse("b").unwrap());
        let first = places.take(&a).unwrap();
        let _second = places.take(&a).unwrap();
        assert!(places.take(&a).is_none(), "two of one agent");
        let _third = places.take(&b).unwrap();
        assert!(places.take(&b).is_none(), "three in all");
        drop(first);
        assert!(places.take(&b).is_some());
    }
}
