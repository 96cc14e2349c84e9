//! The resolver's sockets: who asks, what is answered, and that it is recorded first.
//!
//! A datagram or connection that the kernel half does not know is dropped and
//! counted, never guessed at. An answer leaves only after its record is in the
//! log. Nothing here asks another server.

mod handle;
mod tcp;
#[cfg(test)]
mod tests;
mod udp;

pub use tcp::serve_tcp_conn;

use super::names::Names;
use super::rate::Rate;
use crate::capture::Capture;
use crate::config;
use crate::policy::Bundle;
use crate::principal::AgentName;
use crate::record::Recorder;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Datagrams that are worked on at once; more are dropped, and clients ask again.
const UDP_AT_ONCE: usize = 1_024;
/// TCP connections at once, and of one agent.
const TCP_AT_ONCE: usize = 512;
const TCP_PER_AGENT: usize = 32;
/// How long a TCP client may take for a question, and for taking its answer.
const TCP_PATIENCE: Duration = Duration::from_secs(10);
/// A pause after an error of a listening socket (no file descriptors), which would spin otherwise.
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets that are bound already, on the loopback addresses.
#[derive(Debug, Default)]
pub struct Sockets {
    /// One for each family.
    pub udp: Vec<UdpSocket>,
    /// One for each family.
    pub tcp: Vec<TcpListener>,
}

/// What the resolver works with.
pub struct DnsInputs {
    capture: Arc<Capture>,
    policy: watch::Receiver<Arc<Bundle>>,
    names: Arc<Names>,
    recorder: Recorder,
    rate: Rate,
    ipv6: bool,
    layers: Vec<String>,
    connections: Arc<Connections>,
    /// What happened so far, for metrics.
    pub counters: Counters,
}

impl DnsInputs {
    /// Puts the inputs together: who asks, which names are known, their addresses, where look-ups
    /// are recorded, and the limits.
    ///
    /// `ipv6` says whether the proxy listens on IPv6; without it no name has an IPv6 address.
    /// `layers` are the kernel layers that hold, for the transcripts.
    pub fn new(
        capture: Arc<Capture>,
        policy: watch::Receiver<Arc<Bundle>>,
        names: Arc<Names>,
        recorder: Recorder,
        limits: &config::Limits,
        ipv6: bool,
        layers: Vec<String>,
    ) -> Self {
        Self {
            capture,
            policy,
            names,
            recorder,
            rate: Rate::new(limits.dns_per_second),
            ipv6,
            layers,
            connections: Arc::default(),
            counters: Counters::default(),
        }
    }
}

impl std::fmt::Debug for DnsInputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsInputs").finish_non_exhaustive()
    }
}

/// Counts since the start, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Look-ups that were answered.
    pub answered: AtomicU64,
    /// Look-ups that policy or the resolver refused.
    pub refused: AtomicU64,
    /// Look-ups that failed (full table, too fast).
    pub failed: AtomicU64,
    /// Packets that are no question.
    pub malformed: AtomicU64,
    /// Packets and connections of nobody the kernel half knows; dropped.
    pub unattributed: AtomicU64,
    /// Packets and connections over the resolver's own bounds; dropped.
    pub overload: AtomicU64,
    /// Look-ups that could not be recorded, so that they were not answered.
    pub unrecorded: AtomicU64,
}

impl Counters {
    /// Each count with its name, as a metric's label.
    pub fn rows(&self) -> [(&'static str, u64); 7] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("answered", load(&self.answered)),
            ("refused", load(&self.refused)),
            ("failed", load(&self.failed)),
            ("malformed", load(&self.malformed)),
            ("unattributed", load(&self.unattributed)),
            ("overload", load(&self.overload)),
            ("unrecorded", load(&self.unrecorded)),
        ]
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// How many TCP connections to the resolver each agent has.
#[derive(Debug, Default)]
struct Connections(Mutex<HashMap<AgentName, usize>>);

impl Connections {
    /// A place for one more of the agent; it is given back when dropped.
    fn enter(self: &Arc<Self>, agent: &AgentName) -> Option<Place> {
        let mut open = self.lock();
        let total: usize = open.values().sum();
        let own = open.get(agent).copied().unwrap_or(0);
        if total >= TCP_AT_ONCE || own >= TCP_PER_AGENT {
            return None;
        }
        open.insert(agent.clone(), own + 1);
        drop(open);
        Some(Place { connections: Arc::clone(self), agent: agent.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentName, usize>> {
        // Counts change in one step each, so a poisoned lock hides nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One TCP connection of an agent, counted.
struct Place {
    connections: Arc<Connections>,
    agent: AgentName,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.lock();
        if let Some(count) = open.get_mut(&self.agent) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.agent);
            }
        }
    }
}

/// Serves until `shutdown`, then lets what was begun end.
pub async fn serve(sockets: Sockets, inputs: Arc<DnsInputs>, shutdown: CancellationToken) {
    let work = TaskTracker::new();
    let listeners = TaskTracker::new();
    for socket in sockets.udp {
        let socket = Arc::new(socket);
        let (inputs, work, shutdown) = (Arc::clone(&inputs), work.clone(), shutdown.clone());
        listeners.spawn(async move {
            shutdown.run_until_cancelled(udp::listen(socket, inputs, work)).await
        });
    }
    for listener in sockets.tcp {
        let (inputs, work, shutdown) = (Arc::clone(&inputs), work.clone(), shutdown.clone());
        listeners.spawn(async move {
            let accepting = tcp::listen(listener, inputs, work, shutdown.clone());
            shutdown.run_until_cancelled(accepting).await
        });
    }
    listeners.close();
    listeners.wait().await;
    work.close();
    work.wait().await;
}
