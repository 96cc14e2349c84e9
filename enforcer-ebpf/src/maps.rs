//! All maps. Those that decide are plain hashes with a cap: a full one refuses,
//! none ever evicts.

use aya_ebpf::bindings::BPF_F_RDONLY_PROG;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, RingBuf};
use enforcer_common::counters::Counters;
use enforcer_common::flow::{FlowEntry, FlowKey};
use enforcer_common::kernel::Offsets;
use enforcer_common::names::{
    FLOW_SLACK, MAX_COUNTERS, MAX_GOVERNED, MAX_SOCKETS, MAX_UNIX_NAMES, REFUSAL_BYTES, UNIX_NAME,
};
use enforcer_common::settings::Settings;
use enforcer_common::socket::SocketEntry;

/// What the daemon says; programs cannot write it.
#[map]
pub static SETTINGS: Array<Settings> = Array::pinned(1, BPF_F_RDONLY_PROG);

/// The daemon's last beat; programs cannot write it.
#[map]
pub static BEAT: Array<u64> = Array::pinned(1, BPF_F_RDONLY_PROG);

/// Captured flows, by the client's end. The daemon removes TCP entries when it accepts.
#[map]
pub static FLOWS: HashMap<FlowKey, FlowEntry> = HashMap::pinned(MAX_SOCKETS + FLOW_SLACK, 0);

/// Redirected sockets, by cookie, until they are released.
#[map]
pub static SOCKETS: HashMap<u64, SocketEntry> = HashMap::pinned(MAX_SOCKETS, 0);

/// How many of those each agent has, by the id of its cgroup.
#[map]
pub static HELD: HashMap<u64, u64> = HashMap::pinned(MAX_COUNTERS, 0);

/// Counts, by cgroup id.
#[map]
pub static COUNTERS: HashMap<u64, Counters> = HashMap::pinned(MAX_COUNTERS, 0);

/// A row of counts as it begins.
#[map]
pub static NO_COUNTS: Array<Counters> = Array::pinned(1, BPF_F_RDONLY_PROG);

/// Refusals on their way to the transcripts.
#[map]
pub static REFUSALS: RingBuf = RingBuf::pinned(REFUSAL_BYTES, 0);

/// Refusals that found the ring buffer full.
#[map]
pub static DROPPED: Array<u64> = Array::pinned(1, 0);

/// Where the running kernel keeps things; programs cannot write it.
#[map]
pub static OFFSETS: Array<Offsets> = Array::pinned(1, BPF_F_RDONLY_PROG);

/// Ids of the governed roots; programs cannot write it.
#[map]
pub static GOVERNED: HashMap<u64, u32> = HashMap::pinned(MAX_GOVERNED, BPF_F_RDONLY_PROG);

/// Unix sockets outside that agents may reach, by the beginning of their names; programs cannot
/// write it.
#[map]
pub static UNIX_NAMES: LpmTrie<[u8; UNIX_NAME], u32> =
    LpmTrie::pinned(MAX_UNIX_NAMES, BPF_F_RDONLY_PROG);
