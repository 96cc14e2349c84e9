//! The only way out: the daemon's own look-ups, and its own connections.
//!
//! Only a permit leads here. `decide` alone makes one, and the code that consumes
//! it takes the [`Route`](dial::Route) out of it; nothing else may call
//! [`Dialer::dial`](dial::Dialer::dial). The daemon lives outside every governed
//! cgroup, so its own sockets are not captured.
//!
//! [`resolve`] turns a verified name into addresses, [`address`] says which of
//! them may be dialled, [`dial`] connects to exactly those.

pub mod address;
pub mod dial;
pub mod resolve;
