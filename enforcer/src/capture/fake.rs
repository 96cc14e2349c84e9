//! A capture without a kernel, for tests of what comes after it.

use super::counters::CounterRow;
use super::events::Refusal;
use super::{Captured, Layer};
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Flows and refusals that a test has put in.
pub struct Fake {
    tcp: Mutex<HashMap<SocketAddr, Captured>>,
    udp: Mutex<HashMap<SocketAddr, Captured>>,
    send: UnboundedSender<Refusal>,
    receive: tokio::sync::Mutex<UnboundedReceiver<Refusal>>,
    beats: AtomicU64,
    counted: Box<Mutex<Counted>>,
}

#[derive(Default)]
struct Counted {
    rows: Vec<CounterRow>,
    earlier: BTreeMap<String, u64>,
}

impl Default for Fake {
    fn default() -> Self {
        let (send, receive) = unbounded_channel();
        Self {
            tcp: Mutex::default(),
            udp: Mutex::default(),
            send,
            receive: tokio::sync::Mutex::new(receive),
            beats: AtomicU64::new(0),
            counted: Box::default(),
        }
    }
}

impl Fake {
    /// The next accepted connection from `peer` is this flow.
    pub fn add_tcp(&self, peer: SocketAddr, captured: Captured) {
        lock(&self.tcp).insert(peer, captured);
    }

    /// Datagrams from `peer` are this flow.
    pub fn add_udp(&self, peer: SocketAddr, captured: Captured) {
        lock(&self.udp).insert(peer, captured);
    }

    /// What [`super::Capture::next_refusal`] returns next.
    pub fn refuse(&self, refusal: Refusal) {
        // The receiver lives as long as `self`.
        let _sent = self.send.send(refusal);
    }

    /// How often the heart has beaten.
    pub fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }

    /// What [`super::Capture::counters`] returns from now on.
    pub fn count(&self, rows: Vec<CounterRow>) {
        lock(&self.counted).rows = rows;
    }

    /// An accepted connection of this agent was made before this run.
    pub fn waited(&self, agent: &str) {
        *lock(&self.counted).earlier.entry(agent.to_owned()).or_default() += 1;
    }

    pub(super) fn begin(&self) {}

    pub(super) fn earlier(&self) -> BTreeMap<String, u64> {
        lock(&self.counted).earlier.clone()
    }

    pub(super) fn take_tcp(&self, peer: SocketAddr) -> Option<Captured> {
        lock(&self.tcp).remove(&peer)
    }

    pub(super) fn peek_udp(&self, peer: SocketAddr) -> Option<Captured> {
        lock(&self.udp).get(&peer).cloned()
    }

    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> Vec<CounterRow> {
        lock(&self.counted).rows.clone()
    }

    pub(super) async fn next_refusal(&self) -> Refusal {
        match self.receive.lock().await.recv().await {
            Some(refusal) => refusal,
            None => std::future::pending().await,
        }
    }

    pub(super) fn layers(&self) -> Vec<Layer> {
        Vec::new()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
