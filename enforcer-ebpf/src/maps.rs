//! All maps. Those that decide are plain hashes with a cap: a full one refuses,
//! none ever evicts.

use aya_ebpf::bindings::BPF_F_RDONLY_PROG;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, RingBuf};
use enforcer_common::counters::Counters;
use enforcer_common::flow::{FlowEntry, FlowKey};
use enforcer_common::names::{FLOW_SLACK, MAX_COUNTERS, MAX_SOCKETS, REFUSAL_BYTES};
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

/// Counts, by cgroup id.
#[map]
pub static COUNTERS: HashMap<u64, Counters> = HashMap::pinned(MAX_COUNTERS, 0);

/// Refusals on their way to the transcripts.
#[map]
pub static REFUSALS: RingBuf = RingBuf::pinned(REFUSAL_BYTES, 0);

/// Refusals that found the ring buffer full.
#[map]
pub static DROPPED: Array<u64> = Array::pinned(1, 0);
