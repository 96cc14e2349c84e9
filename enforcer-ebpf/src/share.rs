//! An agent's share of the table of sockets: one that opens all it can leaves room for the others.

use crate::maps::HELD;
use crate::refuse::bump;
use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use enforcer_common::event::Reason;
use enforcer_common::settings::Settings;

/// Takes a place in the share of the calling agent, which is returned.
///
/// More agents than the table of shares holds are bound by the table of sockets alone.
#[inline(always)]
pub fn take(cgroup: u64, settings: &Settings) -> Result<u64, Reason> {
    let agent = agent(cgroup, settings.agent_level);
    let held = match HELD.get_ptr_mut(agent) {
        Some(held) => held,
        None => {
            // Another CPU may have made it first.
            let _made_or_full = HELD.insert(agent, 0, u64::from(BPF_NOEXIST));
            let Some(held) = HELD.get_ptr_mut(agent) else { return Ok(0) };
            held
        }
    };
    // Two CPUs at the limit may both take the last place: the limit is no bound on memory.
    // SAFETY: a live map value, aligned, only ever changed atomically.
    if unsafe { core::ptr::read_volatile(held) } >= u64::from(settings.max_agent_flows) {
        return Err(Reason::Share);
    }
    bump(held);
    Ok(agent)
}

/// The agent's cgroup; the caller's own where governed roots lie at different depths, and where it
/// is in no agent's.
#[inline(always)]
fn agent(cgroup: u64, level: u32) -> u64 {
    if level == 0 {
        return cgroup;
    }
    // SAFETY: a helper without pointers.
    match unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) } {
        0 => cgroup,
        agent => agent,
    }
}

/// Gives a place back.
#[inline(always)]
pub fn give_back(agent: u64) {
    let Some(held) = HELD.get_ptr_mut(agent) else { return };
    // SAFETY: a live map value, aligned, only ever changed atomically. It is there since the place
    // was taken: one that was made anew since is at zero, and stays there.
    unsafe {
        if core::ptr::read_volatile(held) > 0 {
            atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(held, u64::MAX);
        }
    }
}
