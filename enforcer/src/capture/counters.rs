//! The kernel half's counts, by agent, for metrics and for the check that
//! every redirected connect has a record.

use super::flows::Tables;
use super::identity::Identities;
use crate::principal::AgentName;
use enforcer_common::counters::{Counters, OTHERS};
use enforcer_common::event::ALL_REASONS;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Counts of one agent since its maps were made; they only grow while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterRow {
    /// The agent; `None` for processes in no agent's cgroup, and for cgroups that are gone and
    /// were never seen.
    pub agent: Option<AgentName>,
    /// TCP connects that were sent to the proxy.
    pub redirected: u64,
    /// Of them those that ended before they were connections, so that there was none to accept.
    pub unconnected: u64,
    /// UDP connects and sends that were sent to the resolver.
    pub dns: u64,
    /// Refusals in the kernel by reason; reasons that never occurred are left out.
    pub refused: BTreeMap<&'static str, u64>,
}

/// Keeps the counts of cgroups that are gone, so that nothing is ever counted down.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    past: Mutex<BTreeMap<Option<AgentName>, Counters>>,
}

impl Ledger {
    /// Reads all counts, and moves those of cgroups that are gone out of the kernel's table.
    pub(super) fn read(&self, tables: &Tables, identities: &Identities) -> Vec<CounterRow> {
        let agent = |cgroup| Some(identities.agent(&identities.path(cgroup)?)?.0);
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = Vec::new();
        for (cgroup, counters) in tables.counters() {
            if cgroup == OTHERS || identities.alive(cgroup) {
                live.push((agent(cgroup), counters));
            } else if let Some(last) = tables.take_counters(cgroup) {
                add(past.entry(agent(cgroup)).or_default(), &last);
            }
        }
        let mut sums = past.clone();
        for (agent, counters) in live {
            add(sums.entry(agent).or_default(), &counters);
        }
        sums.into_iter().map(|(agent, sum)| row(agent, &sum)).collect()
    }
}

fn add(sum: &mut Counters, more: &Counters) {
    sum.tcp += more.tcp;
    sum.unconnected += more.unconnected;
    sum.dns += more.dns;
    for (sum, more) in sum.refused.iter_mut().zip(more.refused) {
        *sum += more;
    }
}

fn row(agent: Option<AgentName>, sum: &Counters) -> CounterRow {
    let refused = ALL_REASONS
        .iter()
        .zip(sum.refused)
        .filter(|(_, count)| *count > 0)
        .map(|(reason, count)| (reason.name(), count))
        .collect();
    CounterRow { agent, redirected: sum.tcp, unconnected: sum.unconnected, dns: sum.dns, refused }
}

#[cfg(test)]
mod tests {
    use super::*;
    use enforcer_common::event::Reason;

    #[test]
    fn sums_and_names() {
        let mut one = Counters { tcp: 2, ..Counters::default() };
        one.refused[Reason::Stale as usize] = 3;
        let mut sum = one;
        add(&mut sum, &one);
        let row = row(AgentName::parse("a"), &sum);
        assert_eq!((row.redirected, row.dns), (4, 0));
        assert_eq!(row.refused, BTreeMap::from([("stale-heartbeat", 6)]));
    }
}
