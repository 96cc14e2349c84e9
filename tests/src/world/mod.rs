//! Two network namespaces and a wire: `host`, where the daemon and its agents
//! run, and `far`, where every real server runs and the sniffer listens.

mod netns;
mod sniffer;
mod stale;

pub use netns::NetNs;
pub use sniffer::{Packet, Sniffer};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// The host's address on the wire.
pub const HOST_V4: &str = "10.77.0.1";
/// The far side's address on the wire.
pub const FAR_V4: &str = "10.77.0.2";
/// The host's IPv6 address on the wire.
pub const HOST_V6: &str = "fd77::1";
/// The far side's IPv6 address on the wire.
pub const FAR_V6: &str = "fd77::2";

/// Numbers the worlds of this process, so that parallel ones never share a name.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// One host, one far side, one wire.
#[derive(Debug)]
pub struct World {
    /// A name that no other world on this machine has; short enough for interface names.
    pub id: String,
    /// Where the daemon and the agents run.
    pub host: NetNs,
    /// Where the servers run.
    pub far: NetNs,
    /// Files of this world; removed with it unless a test failed.
    dir: Option<tempfile::TempDir>,
}

impl World {
    /// Makes both namespaces and the wire.
    ///
    /// # Panics
    /// When not root, or when a namespace or link cannot be made.
    pub fn new() -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this suite needs root: it makes network namespaces"
        );
        static TIDY: Once = Once::new();
        TIDY.call_once(stale::remove);
        let id = format!("{:x}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let host = NetNs::new(&format!("enfh{id}"));
        let far = NetNs::new(&format!("enff{id}"));
        let (near_end, far_end) = (format!("h{id}"), format!("f{id}"));
        ip(&[
            "link",
            "add",
            &near_end,
            "netns",
            host.name(),
            "type",
            "veth",
            "peer",
            "name",
            &far_end,
            "netns",
            far.name(),
        ]);
        host.ip(&["link", "set", &near_end, "name", "wire"]);
        far.ip(&["link", "set", &far_end, "name", "wire"]);
        for (ns, v4, v6) in [(&host, HOST_V4, HOST_V6), (&far, FAR_V4, FAR_V6)] {
            ns.ip(&["link", "set", "lo", "up"]);
            ns.ip(&["addr", "add", &format!("{v4}/24"), "dev", "wire"]);
            ns.ip(&["addr", "add", &format!("{v6}/64"), "dev", "wire", "nodad"]);
            ns.ip(&["link", "set", "wire", "up"]);
        }
        // Whatever escapes goes out on the wire, wherever it was meant to go.
        host.ip(&["route", "add", "default", "via", FAR_V4]);
        host.ip(&["-6", "route", "add", "default", "via", FAR_V6]);
        let dir = tempfile::Builder::new()
            .prefix(&format!("enforcer-{id}-"))
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory");
        Self { id, host, far, dir: Some(dir) }
    }

    /// A directory for this world's files; readable by every user.
    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("present until drop").path()
    }

    /// A path in [`World::dir`].
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Gives the far side one more address, as a host of the internet has.
    pub fn far_address(&self, address: &str) {
        self.far.ip(&["addr", "add", address, "dev", "lo"]);
    }

    /// Starts listening on the far end of the wire.
    pub fn sniff(&self) -> Sniffer {
        Sniffer::start(
            &self.far,
            &self.path(&format!("wire-{}.pcap", NEXT.fetch_add(1, Ordering::Relaxed))),
        )
    }

    /// The same, for what the host sends only, with room for a flood of it.
    pub fn sniff_host(&self) -> Sniffer {
        let file = self.path(&format!("wire-{}.pcap", NEXT.fetch_add(1, Ordering::Relaxed)));
        Sniffer::start_with(&self.far, &file, &["-Q", "in", "-B", "65536"])
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A failed test leaves its files for whoever looks into it.
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!("files kept in {}", dir.keep().display());
        }
    }
}

/// Runs `ip` outside every namespace; panics with its words when it fails.
fn ip(args: &[&str]) {
    let out = Command::new("ip").args(args).output().expect("ip(8) starts");
    assert!(out.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}
