//! Refusals of the kernel half as an async stream.
#![expect(unsafe_code, reason = "registering a descriptor asks for a promise about its owner")]

use super::flows::{Tables, address};
use super::identity::Identities;
use crate::principal::Principal;
use aya::maps::{MapData, RingBuf};
use enforcer_common::event::{Hook, Reason, RefusalRecord};
use enforcer_common::flow::FlowEntry;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

/// Records taken from the ring buffer in one go.
const BATCH: usize = 256;
/// How long a record waits for what `/proc` says of its process; others wait behind it.
const PATIENCE: Duration = Duration::from_millis(200);

/// One call or packet that the kernel half refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who called. For a packet only agent and task are known; `None` when not even those are.
    pub principal: Option<Principal>,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub boot_ns: u64,
    /// The program that refused, for example `connect4`.
    pub hook: &'static str,
    /// Why, for example `protocol`; the names are those of [`super::CounterRow::refused`].
    pub reason: &'static str,
    /// What was asked for (a packet: its far end); `None` where there is no address.
    pub destination: Option<SocketAddr>,
    /// IP protocol number; 0 when unknown.
    pub protocol: u32,
    /// The socket's cookie; 0 when unknown.
    pub cookie: u64,
    /// Socket type (connect, send, bind, create), `level << 16 | option` (setsockopt), local port
    /// (sock_ops), interface index (packets), socket family (socket_create), command (bpf).
    pub detail: u32,
    /// The unix socket that was asked for, `@` before an abstract name; as `kernel.unix_sockets`
    /// takes it.
    pub unix_name: Option<String>,
    /// Refusals that found the ring buffer full, since it was made: they have no record of their
    /// own, only their count.
    pub dropped: u64,
}

/// The reader's side. Opened at the first call, because it needs the runtime.
#[derive(Default)]
pub(super) struct Stream {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ring: Option<AsyncFd<RingBuf<MapData>>>,
    waiting: VecDeque<RefusalRecord>,
}

impl Stream {
    /// The next refusal. Cancel safe: a record that was taken and not returned is kept.
    ///
    /// When the ring buffer cannot be read it never returns: the verdicts stand without it, and
    /// the error has been logged.
    pub(super) async fn next(&self, tables: &Tables, identities: &Identities) -> Refusal {
        let mut inner = self.inner.lock().await;
        loop {
            if let Some(record) = inner.waiting.front().copied() {
                let refusal = refusal(&record, tables.dropped(), identities).await;
                inner.waiting.pop_front();
                return refusal;
            }
            if let Err(error) = inner.fill(tables, identities).await {
                tracing::error!(%error, "reading refusals from the kernel; they are only counted from here on");
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Inner {
    async fn fill(&mut self, tables: &Tables, identities: &Identities) -> io::Result<()> {
        if self.ring.is_none() {
            let ring = tables
                .take_refusals()
                .ok_or_else(|| io::Error::other("the ring buffer has another reader"))?;
            // SAFETY: the ring buffer owns its descriptor, always shows the same one, and closes
            // it only when it is dropped.
            self.ring = Some(unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }?);
        }
        let Some(ring) = self.ring.as_mut() else {
            return Ok(());
        };
        let mut ready = ring.readable_mut().await?;
        let ring = ready.get_inner_mut();
        while self.waiting.len() < BATCH {
            let Some(item) = ring.next() else {
                ready.clear_ready();
                break;
            };
            // A record of another size cannot be ours; its verdict stands all the same.
            let Some(record) = RefusalRecord::from_bytes(&item) else { continue };
            // Now, while the cgroup is there: others wait before this one.
            let _known = identities.path(record.cgroup);
            self.waiting.push_back(record);
        }
        Ok(())
    }
}

/// A path ends at its NUL; an abstract name begins with one.
fn unix_name(name: &[u8]) -> String {
    match name.split_first() {
        Some((0, name)) => format!("@{}", String::from_utf8_lossy(name)),
        _ => {
            let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(path).into_owned()
        }
    }
}

async fn refusal(record: &RefusalRecord, dropped: u64, identities: &Identities) -> Refusal {
    // The same facts as for a captured flow; the process is only looked up when there is one.
    let caller = FlowEntry {
        cookie: record.cookie,
        cgroup: record.cgroup,
        boot_ns: record.boot_ns,
        orig_addr: record.addr,
        orig_port: record.port,
        tgid: record.tgid,
        tid: 0,
        uid: record.uid,
        gid: 0,
        image: 0,
        comm: record.comm,
    };
    let principal = match identities.principal(&caller) {
        Some(principal) => Some(identities.look_up(principal, &caller, PATIENCE).await),
        None => None,
    };
    let name = record.name.get(..record.name_len as usize).filter(|name| !name.is_empty());
    let nowhere = record.addr == [0; 16] && record.port == 0;
    Refusal {
        principal,
        boot_ns: record.boot_ns,
        hook: Hook::from_code(record.hook).map_or("unknown", Hook::name),
        reason: Reason::from_code(record.reason).map_or("unknown", Reason::name),
        destination: (!nowhere).then(|| address(record.addr, record.port)).flatten(),
        protocol: record.protocol,
        cookie: record.cookie,
        detail: record.detail,
        unix_name: name.map(unix_name),
        dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_unix_sockets_are_told_as_the_configuration_takes_them() {
        assert_eq!(unix_name(b"/run/x.sock\0\0"), "/run/x.sock");
        assert_eq!(unix_name(b"\0chat"), "@chat");
    }
}
