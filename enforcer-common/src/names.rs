//! Names of maps and programs, capacities, and the version of what both halves share.

/// Changes whenever a record, a map or the meaning of a code changes. Pinned maps of another
/// version are never reused.
pub const ABI_VERSION: u32 = 4;

/// Map: [`crate::settings::Settings`], one entry, written by the daemon.
pub const SETTINGS: &str = "SETTINGS";
/// Map: the daemon's last beat, `CLOCK_MONOTONIC` nanoseconds, one entry.
pub const BEAT: &str = "BEAT";
/// Map: [`crate::flow::FlowKey`] to [`crate::flow::FlowEntry`].
pub const FLOWS: &str = "FLOWS";
/// Map: socket cookie to [`crate::socket::SocketEntry`].
pub const SOCKETS: &str = "SOCKETS";
/// Map: agent (the id of its cgroup) to the sockets that it has in [`SOCKETS`].
pub const HELD: &str = "HELD";
/// Map: cgroup id to [`crate::counters::Counters`].
pub const COUNTERS: &str = "COUNTERS";
/// Map: one row of zeros, for rows of [`COUNTERS`] to begin with.
pub const NO_COUNTS: &str = "NO_COUNTS";
/// Map: ring buffer of [`crate::event::RefusalRecord`].
pub const REFUSALS: &str = "REFUSALS";
/// Map: how many refusals found the ring buffer full, one entry.
pub const DROPPED: &str = "DROPPED";

/// Map: [`crate::kernel::Offsets`], one entry, written by the daemon.
pub const OFFSETS: &str = "OFFSETS";
/// Map: ids of the governed roots, written by the daemon.
pub const GOVERNED: &str = "GOVERNED";
/// Map: names of unix sockets outside that agents may reach (longest prefix), written by the
/// daemon.
pub const UNIX_NAMES: &str = "UNIX_NAMES";

/// Every map, for pins and checks.
pub const MAPS: [&str; 12] = [
    SETTINGS, BEAT, FLOWS, SOCKETS, HELD, COUNTERS, NO_COUNTS, REFUSALS, DROPPED, OFFSETS,
    GOVERNED, UNIX_NAMES,
];

/// Sockets that can be redirected at once unless the daemon sets another number.
pub const MAX_SOCKETS: u32 = 65_536;
/// What the table of flows holds beyond one entry per socket: connections that clients have
/// closed before the proxy accepted them. The backlogs of the proxy's listeners bound them.
pub const FLOW_SLACK: u32 = 32_768;
/// Cgroups with counters of their own; the rest share [`crate::counters::OTHERS`].
pub const MAX_COUNTERS: u32 = 8_192;
/// Bytes of the ring buffer; a power of two.
pub const REFUSAL_BYTES: u32 = 1 << 20;

/// The loopback interface's index, in every network namespace (net/core/dev.c: the loopback
/// device is registered first).
pub const LOOPBACK_IFINDEX: u32 = 1;

/// Governed roots at once.
pub const MAX_GOVERNED: u32 = 64;
/// Deepest governed root that the programs on tasks and sockets look for, in levels below the
/// cgroup2 mount.
pub const MAX_ROOT_DEPTH: u32 = 8;
/// Names of unix sockets in the configuration.
pub const MAX_UNIX_NAMES: u32 = 256;
/// Bytes of a unix socket's name (`sun_path`, include/uapi/linux/un.h).
pub const UNIX_NAME: usize = 108;
