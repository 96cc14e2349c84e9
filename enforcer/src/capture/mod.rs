//! What the kernel half captured: who connected, and where to.
//!
//! Owns loading, attaching, pinning and the maps. Never decides what a flow
//! may do, and never guesses: a connection without an entry has no flow, and
//! the caller closes it.

pub(crate) mod argv;
mod btf;
mod cgroup;
mod counters;
mod error;
mod events;
mod exe;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod flows;
mod hooks;
mod identity;
pub mod kernel;
mod layers;
mod loader;
mod lookup;
pub(crate) mod names;
mod pins;
mod process;
mod sys;
mod unix;

use crate::config::Config;
use crate::principal::Principal;
pub use cgroup::{cgroup2_mount, governed_root};
pub use counters::CounterRow;
use enforcer_common::flow::FlowEntry;
pub use error::CaptureError;
pub use events::Refusal;
use std::net::SocketAddr;
use std::path::Path;
pub use sys::boottime_ns;

/// One captured flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Who connected.
    pub principal: Principal,
    /// Where to; IPv4 in its own form, never mapped.
    pub orig: SocketAddr,
    /// The client socket's cookie, unique since boot.
    pub cookie: u64,
    /// The kernel's record, until the process behind it was looked up ([`Capture::look_up`]).
    pub call: Option<FlowEntry>,
}

/// One layer of enforcement, and whether it holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// `cgroup`, `unix` or `lsm`; the names that `kernel.require` takes.
    pub name: &'static str,
    /// Whether it is in force.
    pub holds: bool,
    /// A word for `status` and `doctor`.
    pub detail: String,
}

/// The capture: the kernel's, or a test's.
pub enum Capture {
    /// The installed kernel half.
    Kernel(Box<kernel::Kernel>),
    /// Flows that a test puts in.
    #[cfg(any(test, feature = "testing"))]
    Fake(fake::Fake),
}

/// Calls the same method on whichever capture there is.
macro_rules! each {
    ($self:ident.$($call:tt)+) => {
        match $self {
            Self::Kernel(kernel) => kernel.$($call)+,
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(fake) => fake.$($call)+,
        }
    };
}

impl Capture {
    /// The flow behind an accepted TCP connection; its entry is removed, so a second call for
    /// the same connection finds nothing. `None`: close the connection. Of the process it says
    /// what the kernel recorded; the rest is [`Capture::look_up`]'s.
    pub fn take_tcp(&self, peer: SocketAddr) -> Option<Captured> {
        each!(self.take_tcp(peer))
    }

    /// This run begins: what waits to be accepted now was connected in an earlier one.
    pub fn begin(&self) {
        each!(self.begin());
    }

    /// How many connections of an earlier run have been taken by this one, or have failed, by agent.
    pub fn earlier(&self) -> std::collections::BTreeMap<String, u64> {
        each!(self.earlier())
    }

    /// The flow behind a datagram to the resolver; it stays until the client's socket is closed.
    /// `None`: drop the datagram.
    pub fn peek_udp(&self, peer: SocketAddr) -> Option<Captured> {
        each!(self.peek_udp(peer))
    }

    /// Adds what `/proc` says of the process. It never takes long: a process that cannot be looked
    /// at in time (its executable may lie on a file system that does not answer) stays without
    /// executable and arguments, and what policy asks of those is denied.
    pub async fn look_up(&self, captured: Captured) -> Captured {
        match self {
            Self::Kernel(kernel) => kernel.look_up(captured).await,
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(_) => captured,
        }
    }

    /// A cgroup was made here: what its processes do is known to be theirs, also when they and it
    /// are gone before anybody looks.
    pub fn learn(&self, cgroup: &Path) {
        match self {
            Self::Kernel(kernel) => kernel.learn(cgroup),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(_) => {}
        }
    }

    /// Says that the daemon is alive and ready; to be called every `heartbeat_limit / 4`. Until
    /// the first beat, and when the last is too old, the kernel refuses every connect.
    pub fn beat(&self) {
        each!(self.beat());
    }

    /// The kernel's counts by agent.
    pub fn counters(&self) -> Vec<CounterRow> {
        each!(self.counters())
    }

    /// The next refusal in the kernel. For one caller at a time; cancel safe.
    pub async fn next_refusal(&self) -> Refusal {
        each!(self.next_refusal().await)
    }

    /// Asks the kernel whether every program is still effective on every governed root, and
    /// looks at the pins.
    pub fn verify_attached(&self) -> Result<(), CaptureError> {
        match self {
            Self::Kernel(kernel) => kernel.verify_attached(),
            #[cfg(any(test, feature = "testing"))]
            Self::Fake(_) => Ok(()),
        }
    }

    /// Which layers hold.
    pub fn layers(&self) -> Vec<Layer> {
        each!(self.layers())
    }
}

/// Makes the governed roots, loads the kernel half, attaches and pins it, and tells it where the
/// proxy is; or adopts what an earlier daemon has pinned. The network namespace of the calling
/// thread is the proxy's. Nothing is let through before the first [`Capture::beat`].
pub fn install(cfg: &Config) -> Result<Capture, CaptureError> {
    kernel::Kernel::install(cfg).map(|kernel| Capture::Kernel(Box::new(kernel)))
}

/// Detaches every program and removes every pin: the only way to open the host. The governed
/// cgroups stay.
pub fn detach(cfg: &Config) -> Result<(), CaptureError> {
    pins::Pins::at(&cfg.kernel.pin_dir).remove()
}
