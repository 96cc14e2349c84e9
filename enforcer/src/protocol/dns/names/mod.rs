//! Synthetic addresses: each stands for one name of one agent.
//!
//! The table is what gives a captured flow its verified name, so it must never
//! give a wrong one: an address belongs to one agent and one name, an entry is
//! dropped only when it was not used for [`UNUSED`], and its address then stands
//! for nobody for [`QUARANTINE`] at least (the longest free one is reused first).
//! A table that is full says no. Nothing is dropped to make room for a busy agent.
//!
//! With [`Names::open`] the table outlives the daemon, so that an address which a
//! client still holds after a restart is known, and never a different name.

mod journal;
mod table;
#[cfg(test)]
mod tests;

pub use super::name::{BadName, Name};
use crate::principal::AgentName;
use ipnet::{Ipv4Net, Ipv6Net};
use journal::Journal;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use table::Table;

/// The daemon's own name inside the governed world; always known, one address for all agents.
pub const INTERNAL_NAME: &str = "enforcer.internal";
/// An entry that was neither asked for nor connected to for this long may be dropped.
pub const UNUSED: Duration = Duration::from_secs(3600);
/// A dropped entry's address stands for nobody for at least this long.
pub const QUARANTINE: Duration = Duration::from_secs(3600);
/// How long clients may keep an answer. Seconds.
pub const TTL: u32 = 60;

/// Which kind of address is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// An A record.
    V4,
    /// An AAAA record.
    V6,
}

/// What an original destination stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// This agent was given the address for this name.
    Name(Name),
    /// A synthetic address that is not this agent's, or that stands for nothing: deny.
    Foreign,
    /// An address outside the synthetic blocks.
    NotSynthetic,
}

/// The table of synthetic addresses, of all agents.
#[derive(Debug)]
pub struct Names {
    v4: Ipv4Net,
    v6: Ipv6Net,
    internal: Name,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    table: Table,
    journal: Option<Journal>,
}

impl Names {
    /// An empty table over two blocks, with at most `per_agent` names of one agent.
    ///
    /// An IPv6 block narrower than the IPv4 one bounds the number of names instead.
    pub fn new(v4: Ipv4Net, v6: Ipv6Net, per_agent: usize) -> Self {
        Self {
            v4,
            v6,
            internal: Name::parse(INTERNAL_NAME).expect("the daemon's own name is a name"),
            state: Mutex::new(State {
                table: Table::new(slots(v4, v6), per_agent, random_u32()),
                journal: None,
            }),
        }
    }

    /// A table that is kept in `file` as well, and starts with what it holds.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or written. Lines that do not read (a torn last write) are
    /// left out: their addresses then stand for nobody.
    pub fn open(v4: Ipv4Net, v6: Ipv6Net, per_agent: usize, file: &Path) -> io::Result<Self> {
        let names = Self::new(v4, v6, per_agent);
        {
            let mut state = names.state();
            let now = Instant::now();
            let (journal, entries) = Journal::open(file, v4, v6)?;
            for entry in entries {
                state.table.restore(entry.slot, &entry.agent, entry.name, now);
            }
            state.journal = Some(journal);
        }
        Ok(names)
    }

    /// The agent's address for a name: the one it has, or a new one.
    ///
    /// `None` when the agent holds its number of names, or no address is free: the caller answers
    /// with a failure and records it.
    pub fn assign(&self, agent: &AgentName, name: &Name, family: Family) -> Option<IpAddr> {
        self.assign_at(agent, name, family, Instant::now())
    }

    fn assign_at(
        &self,
        agent: &AgentName,
        name: &Name,
        family: Family,
        now: Instant,
    ) -> Option<IpAddr> {
        if *name == self.internal {
            return Some(self.address(table::INTERNAL_SLOT, family));
        }
        let mut state = self.state();
        let State { table, journal } = &mut *state;
        let slot = match table.find(agent, name, now) {
            Some(slot) => slot,
            None => {
                let slot = table.insert(agent, name, now)?;
                let kept = match journal {
                    None => true,
                    Some(journal) => match journal.append(slot, agent, name, table) {
                        Ok(()) => true,
                        Err(error) => {
                            tracing::error!(%error, "the table of synthetic addresses cannot be written; no new names");
                            false
                        }
                    },
                };
                if !kept {
                    // An address that a restart would forget is not given out.
                    table.remove(slot, now);
                    return None;
                }
                slot
            }
        };
        Some(self.address(slot, family))
    }

    /// What an original destination stands for, for this agent. Counts as a use of the name.
    pub fn lookup(&self, agent: &AgentName, ip: IpAddr) -> Lookup {
        self.lookup_at(agent, ip, Instant::now())
    }

    fn lookup_at(&self, agent: &AgentName, ip: IpAddr, now: Instant) -> Lookup {
        let Some(slot) = self.slot(ip) else {
            return Lookup::NotSynthetic;
        };
        let Some(slot) = slot else {
            return Lookup::Foreign;
        };
        if slot == table::INTERNAL_SLOT {
            return Lookup::Name(self.internal.clone());
        }
        match self.state().table.name_at(slot, agent, now) {
            Some(name) => Lookup::Name(name),
            None => Lookup::Foreign,
        }
    }

    /// Whether an address lies in one of the synthetic blocks (mapped IPv4 too).
    pub fn is_synthetic(&self, ip: IpAddr) -> bool {
        self.slot(ip).is_some()
    }

    /// How many entries there are, over all agents.
    pub fn len(&self) -> usize {
        self.state().table.len()
    }

    /// Whether no agent has a name yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is complete before the lock is let go, so a poisoned table is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, slot: u32, family: Family) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::from_bits(self.v4.network().to_bits() | slot).into(),
            Family::V6 => {
                Ipv6Addr::from_bits(self.v6.network().to_bits() | u128::from(slot)).into()
            }
        }
    }

    /// `None`: outside the blocks; `Some(None)`: inside, but no slot has that number.
    fn slot(&self, ip: IpAddr) -> Option<Option<u32>> {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                self.v4.contains(&ip).then(|| Some(ip.to_bits() & self.v4.hostmask().to_bits()))
            }
            IpAddr::V6(ip) => self
                .v6
                .contains(&ip)
                .then(|| u32::try_from(ip.to_bits() & self.v6.hostmask().to_bits()).ok()),
        }
    }
}

/// How many slots both blocks can number.
fn slots(v4: Ipv4Net, v6: Ipv6Net) -> u32 {
    let bits = (32 - v4.prefix_len()).min((128 - v6.prefix_len()).min(32));
    u32::try_from((1_u64 << bits) - 1).unwrap_or(u32::MAX)
}

/// A start anywhere, so that a table that was lost does not soon repeat itself.
fn random_u32() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}
