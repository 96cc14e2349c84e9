//! Counts, and the event that each refusal sends up. Nothing here decides:
//! a refusal that cannot be counted or sent is still a refusal.

use crate::caller::{self, Caller};
use crate::maps::{COUNTERS, DROPPED, NO_COUNTS, REFUSALS};
use aya_ebpf::bindings::BPF_NOEXIST;
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use enforcer_common::counters::{Counters, OTHERS};
use enforcer_common::event::{Hook, NAME, REASONS, Reason, RefusalRecord};
use enforcer_common::matching::{Words, bytes};

/// What was refused.
pub struct Refused {
    pub hook: Hook,
    pub reason: Reason,
    pub cookie: u64,
    pub addr: Words,
    pub port: u32,
    pub protocol: u32,
    pub detail: u32,
}

/// Counts a refusal and sends it up.
#[inline(always)]
pub fn refuse(caller: &Caller, what: &Refused) {
    count_refused(caller.cgroup, what.reason);
    let Some(mut slot) = REFUSALS.reserve::<RefusalRecord>(0) else {
        if let Some(dropped) = DROPPED.get_ptr_mut(0) {
            bump(dropped);
        }
        return;
    };
    slot.write(RefusalRecord {
        boot_ns: caller.boot_ns,
        cgroup: caller.cgroup,
        cookie: what.cookie,
        addr: bytes(&what.addr),
        port: what.port,
        protocol: what.protocol,
        hook: what.hook as u32,
        reason: what.reason as u32,
        tgid: caller.tgid,
        uid: caller.uid,
        detail: what.detail,
        name_len: 0,
        comm: caller.comm,
        name: [0; NAME],
    });
    slot.submit(0);
}

/// The same for a call that has no address: `detail` is all there is to say.
#[inline(always)]
pub fn refuse_call(hook: Hook, reason: Reason, detail: u32) {
    let what = Refused { hook, reason, cookie: 0, addr: [0; 4], port: 0, protocol: 0, detail };
    refuse(&caller::current(), &what);
}

/// Counts a TCP connect whose SYN goes to the proxy.
#[inline(always)]
pub fn count_tcp(cgroup: u64) {
    if let Some(row) = row(cgroup) {
        // SAFETY: a field of a live map value.
        bump(unsafe { core::ptr::addr_of_mut!((*row).tcp) });
    }
}

/// Counts a TCP connect that was sent to the proxy and never became a connection.
#[inline(always)]
pub fn count_unconnected(cgroup: u64) {
    if let Some(row) = row(cgroup) {
        // SAFETY: a field of a live map value.
        bump(unsafe { core::ptr::addr_of_mut!((*row).unconnected) });
    }
}

/// Counts a datagram flow that was sent to the resolver.
#[inline(always)]
pub fn count_dns(cgroup: u64) {
    if let Some(row) = row(cgroup) {
        // SAFETY: a field of a live map value.
        bump(unsafe { core::ptr::addr_of_mut!((*row).dns) });
    }
}

#[inline(always)]
pub fn count_refused(cgroup: u64, reason: Reason) {
    let slot = reason as usize;
    if let Some(row) = row(cgroup)
        && slot < REASONS
    {
        // SAFETY: in bounds, a field of a live map value.
        bump(unsafe { core::ptr::addr_of_mut!((*row).refused).cast::<u64>().add(slot) });
    }
}

/// The cgroup's row, made when missing; the common row when there is no place left.
#[inline(always)]
fn row(cgroup: u64) -> Option<*mut Counters> {
    if let Some(row) = COUNTERS.get_ptr_mut(cgroup) {
        return Some(row);
    }
    // Not made here: it would take half of the stack that a program has.
    let zero = NO_COUNTS.get(0)?;
    // Another CPU may have made it first: then the look-up below finds that one.
    let _made_or_full = COUNTERS.insert(cgroup, zero, u64::from(BPF_NOEXIST));
    COUNTERS.get_ptr_mut(cgroup).or_else(|| COUNTERS.get_ptr_mut(OTHERS))
}

#[inline(always)]
pub fn bump(value: *mut u64) {
    // SAFETY: an aligned u64 in a map value, only ever changed atomically by programs.
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, 1) };
}
