//! The maps, typed. The daemon writes the settings and the beat, takes flows
//! away and sweeps; it never makes an entry that decides.

use super::error::CaptureError;
use super::names;
use super::sys;
use aya::Ebpf;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use enforcer_common::counters::{Counters, OTHERS};
use enforcer_common::flow::{FlowEntry, FlowKey};
use enforcer_common::kernel::Offsets;
use enforcer_common::matching::{TCP, UDP};
use enforcer_common::names::{
    BEAT, COUNTERS, DROPPED, FLOW_SLACK, FLOWS, GOVERNED, HELD, MAPS, NO_COUNTS, OFFSETS, REFUSALS,
    SETTINGS, SOCKETS, UNIX_NAME, UNIX_NAMES,
};
use enforcer_common::settings::Settings;
use enforcer_common::socket::SocketEntry;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// A flow that nobody took within this time, and whose socket is gone, never will be.
const SWEEP_AFTER_NS: u64 = 120_000_000_000;

/// A hash that the kernel half fills: read here, and taken from.
struct Table<K: aya::Pod, V: aya::Pod> {
    map: HashMap<MapData, K, V>,
    fd: OwnedFd,
}

impl<K: aya::Pod, V: aya::Pod> Table<K, V> {
    fn new(data: MapData, name: &'static str) -> Result<Self, CaptureError> {
        let failed = CaptureError::system(format!("duplicating the descriptor of {name}"));
        let fd = data.fd().as_fd().try_clone_to_owned().map_err(failed)?;
        let info = sys::map_info(fd.as_fd())
            .map_err(CaptureError::system(format!("reading the map {name}")))?;
        if info.key_size as usize != size_of::<K>() || info.value_size as usize != size_of::<V>() {
            return Err(CaptureError::Mismatch(format!(
                "the pinned map {name} has other records than this build"
            )));
        }
        let map = HashMap::try_from(Map::HashMap(data))
            .map_err(|source| CaptureError::Map { map: name, source })?;
        Ok(Self { map, fd })
    }

    fn get(&self, key: &K) -> Option<V> {
        self.map.get(key, 0).ok()
    }

    fn take(&self, key: &K) -> io::Result<Option<V>> {
        sys::map_take(self.fd.as_fd(), key)
    }

    /// What can be read now; an entry that goes away meanwhile is left out.
    fn rows(&self) -> impl Iterator<Item = (K, V)> + '_ {
        self.map.iter().filter_map(Result::ok)
    }
}

/// All maps of the kernel half.
pub(super) struct Tables {
    settings: Mutex<Array<MapData, Settings>>,
    beat: Mutex<Array<MapData, u64>>,
    flows: Table<FlowKey, FlowEntry>,
    sockets: Table<u64, SocketEntry>,
    held: Table<u64, u64>,
    counters: Table<u64, Counters>,
    /// Of the programs alone; open until they are loaded.
    _no_counts: MapData,
    dropped: Array<MapData, u64>,
    offsets: Mutex<Array<MapData, Offsets>>,
    governed: Mutex<HashMap<MapData, u64, u32>>,
    unix_names: Mutex<LpmTrie<MapData, [u8; UNIX_NAME], u32>>,
    refusals: Mutex<Option<RingBuf<MapData>>>,
}

impl Tables {
    /// Takes the maps out of the loaded object.
    pub(super) fn take(ebpf: &mut Ebpf, max_flows: u32) -> Result<Self, CaptureError> {
        let mut taken = MAPS.map(|name| (name, ebpf.take_map(name)));
        let mut data = |name: &'static str| -> Result<MapData, CaptureError> {
            let slot = taken.iter_mut().find(|(known, _)| *known == name);
            match slot.and_then(|(_, map)| map.take()) {
                Some(
                    Map::Array(data) | Map::HashMap(data) | Map::RingBuf(data) | Map::LpmTrie(data),
                ) => Ok(data),
                _ => Err(CaptureError::Mismatch(format!("no map {name} in the object"))),
            }
        };
        let mut counters = Table::new(data(COUNTERS)?, COUNTERS)?;
        make_common_row(&mut counters)?;
        let tables = Self {
            settings: Mutex::new(array(data(SETTINGS)?, SETTINGS)?),
            beat: Mutex::new(array(data(BEAT)?, BEAT)?),
            flows: Table::new(data(FLOWS)?, FLOWS)?,
            sockets: Table::new(data(SOCKETS)?, SOCKETS)?,
            held: Table::new(data(HELD)?, HELD)?,
            counters,
            _no_counts: data(NO_COUNTS)?,
            dropped: array(data(DROPPED)?, DROPPED)?,
            offsets: Mutex::new(array(data(OFFSETS)?, OFFSETS)?),
            governed: Mutex::new(
                HashMap::try_from(Map::HashMap(data(GOVERNED)?)).map_err(failed(GOVERNED))?,
            ),
            unix_names: Mutex::new(
                LpmTrie::try_from(Map::LpmTrie(data(UNIX_NAMES)?)).map_err(failed(UNIX_NAMES))?,
            ),
            refusals: Mutex::new(Some(
                RingBuf::try_from(Map::RingBuf(data(REFUSALS)?)).map_err(failed(REFUSALS))?,
            )),
        };
        tables.compare_capacity(max_flows)?;
        Ok(tables)
    }

    /// Maps that were pinned keep their size; that is safe, and worth knowing.
    fn compare_capacity(&self, max_flows: u32) -> Result<(), CaptureError> {
        let info = sys::map_info(self.sockets.fd.as_fd())
            .map_err(CaptureError::system("reading the map SOCKETS"))?;
        if info.max_entries != max_flows {
            tracing::warn!(
                pinned = info.max_entries,
                configured = max_flows,
                slack = FLOW_SLACK,
                "kernel.max_flows applies after the next reboot or detach"
            );
        }
        Ok(())
    }

    /// Tells the kernel half where the proxy is.
    pub(super) fn configure(&self, settings: Settings) -> Result<(), CaptureError> {
        lock(&self.settings).set(0, settings, 0).map_err(failed(SETTINGS))
    }

    /// Tells the kernel half where this kernel keeps things.
    pub(super) fn locate(&self, offsets: Offsets) -> Result<(), CaptureError> {
        lock(&self.offsets).set(0, offsets, 0).map_err(failed(OFFSETS))
    }

    /// Tells the kernel half which cgroups are governed roots, and which unix sockets outside
    /// agents may reach. New rows come before old ones go.
    pub(super) fn govern(
        &self,
        roots: impl Iterator<Item = u64>,
        unix_names: &[String],
    ) -> Result<(), CaptureError> {
        let roots: Vec<u64> = roots.collect();
        let mut governed = lock(&self.governed);
        for root in &roots {
            governed.insert(root, 1, 0).map_err(failed(GOVERNED))?;
        }
        let old: Vec<u64> = governed.keys().filter_map(Result::ok).collect();
        for root in old.iter().filter(|root| !roots.contains(root)) {
            governed.remove(root).map_err(failed(GOVERNED))?;
        }
        let wanted: Vec<names::NameKey> =
            unix_names.iter().filter_map(|entry| names::key(entry)).collect();
        let mut table = lock(&self.unix_names);
        for key in &wanted {
            table.insert(key, 1, 0).map_err(failed(UNIX_NAMES))?;
        }
        let old: Vec<names::NameKey> = table.keys().filter_map(Result::ok).collect();
        let same = |a: &names::NameKey, b: &names::NameKey| {
            a.prefix_len() == b.prefix_len() && a.data() == b.data()
        };
        for key in old.iter().filter(|key| !wanted.iter().any(|wanted| same(wanted, key))) {
            table.remove(key).map_err(failed(UNIX_NAMES))?;
        }
        Ok(())
    }

    /// Writes a beat.
    pub(super) fn beat(&self, now_ns: u64) -> Result<(), CaptureError> {
        lock(&self.beat).set(0, now_ns, 0).map_err(failed(BEAT))
    }

    /// Takes the flow of an accepted TCP connection.
    pub(super) fn take_tcp(&self, netns: u64, peer: SocketAddr) -> Option<FlowEntry> {
        match self.flows.take(&key(netns, peer, TCP)) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::error!(%error, "reading the table of flows");
                None
            }
        }
    }

    /// Reads the flow of a datagram; it goes when its socket does.
    pub(super) fn peek_udp(&self, netns: u64, peer: SocketAddr) -> Option<FlowEntry> {
        self.flows.get(&key(netns, peer, UDP))
    }

    /// Removes TCP flows that nobody will take any more: old, and without their socket.
    /// Gives their keys.
    pub(super) fn sweep(&self, boot_ns: u64) -> Vec<FlowKey> {
        let stale = self.flows.rows().filter(|(key, entry)| {
            key.protocol == TCP
                && boot_ns.saturating_sub(entry.boot_ns) > SWEEP_AFTER_NS
                && self.sockets.get(&entry.cookie).is_none()
        });
        let stale: Vec<FlowKey> = stale.map(|(key, _)| key).collect();
        // Gone already: all the better. Anything else is tried again at the next sweep.
        stale.into_iter().filter(|key| matches!(self.flows.take(key), Ok(Some(_)))).collect()
    }

    /// What can be read now of the table of flows.
    pub(super) fn flows(&self) -> impl Iterator<Item = (FlowKey, FlowEntry)> + '_ {
        self.flows.rows()
    }

    /// Whether this socket's flow is in the table.
    pub(super) fn has_flow(&self, key: &FlowKey, cookie: u64) -> bool {
        self.flows.get(key).is_some_and(|entry| entry.cookie == cookie)
    }

    /// Removes the shares of agents that are gone and hold nothing.
    pub(super) fn forget_shares(&self, alive: impl Fn(u64) -> bool) {
        let gone = self.held.rows().filter(|(agent, held)| *held == 0 && !alive(*agent));
        for (agent, _) in gone.collect::<Vec<_>>() {
            let _gone = self.held.take(&agent);
        }
    }

    /// The counters of every cgroup.
    pub(super) fn counters(&self) -> Vec<(u64, Counters)> {
        self.counters.rows().collect()
    }

    /// Takes away the counters of a cgroup that is gone.
    pub(super) fn take_counters(&self, cgroup: u64) -> Option<Counters> {
        self.counters.take(&cgroup).ok().flatten()
    }

    /// How many refusals did not fit into the ring buffer, since it was made.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.get(&0, 0).unwrap_or(0)
    }

    /// The ring buffer; it has one reader.
    pub(super) fn take_refusals(&self) -> Option<RingBuf<MapData>> {
        lock(&self.refusals).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(map: &'static str) -> impl FnOnce(MapError) -> CaptureError {
    move |source| CaptureError::Map { map, source }
}

fn array<V: aya::Pod>(
    data: MapData,
    name: &'static str,
) -> Result<Array<MapData, V>, CaptureError> {
    Array::try_from(Map::Array(data)).map_err(failed(name))
}

/// The row for cgroups without one of their own has to be there before the first refusal.
fn make_common_row(counters: &mut Table<u64, Counters>) -> Result<(), CaptureError> {
    /// `BPF_NOEXIST`.
    const ONLY_NEW: u64 = 1;
    match counters.map.insert(OTHERS, Counters::default(), ONLY_NEW) {
        Ok(()) => Ok(()),
        Err(_) if counters.get(&OTHERS).is_some() => Ok(()),
        Err(source) => Err(failed(COUNTERS)(source)),
    }
}

fn key(netns: u64, peer: SocketAddr, protocol: u32) -> FlowKey {
    let addr = match peer.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    FlowKey { netns, addr: addr.octets(), port: peer.port().into(), protocol }
}

/// An address from a record, with IPv4 in its own form.
pub(super) fn address(addr: [u8; 16], port: u32) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(addr).to_canonical();
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flow_has_one_key_whatever_family_the_listener_has() {
        let plain = key(7, "127.0.0.1:40000".parse().unwrap(), TCP);
        let mapped = key(7, "[::ffff:127.0.0.1]:40000".parse().unwrap(), TCP);
        assert_eq!(plain, mapped);
        assert_ne!(plain, key(7, "[::1]:40000".parse().unwrap(), TCP));
        assert_ne!(plain, key(8, "127.0.0.1:40000".parse().unwrap(), TCP));
        assert_ne!(plain, key(7, "127.0.0.1:40000".parse().unwrap(), UDP));
    }

    #[test]
    fn addresses_come_out_in_their_own_family() {
        let mapped: Ipv6Addr = "::ffff:10.1.2.3".parse().unwrap();
        assert_eq!(address(mapped.octets(), 443), Some("10.1.2.3:443".parse().unwrap()));
        let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        assert_eq!(address(v6.octets(), 80), Some("[2001:db8::1]:80".parse().unwrap()));
        assert_eq!(address(v6.octets(), 70_000), None);
    }
}
