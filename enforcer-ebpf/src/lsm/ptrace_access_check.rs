//! Reaching into another process: ptrace, `/proc/PID/mem`, `process_vm_*`,
//! `pidfd_getfd`, `/proc/PID/fd`. Within one agent only.

use crate::caller;
use crate::refuse::{count_refused, refuse_call};
use crate::task::{current_agent, offsets, task_agent};
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};

/// `PTRACE_MODE_ATTACH`, include/linux/ptrace.h.
const ATTACH: u32 = 2;

#[lsm_cgroup(hook = "ptrace_access_check")]
pub fn lsm_ptrace_access_check(ctx: LsmContext) -> i32 {
    if same_agent(ctx.arg(0)) == Some(true) {
        return ALLOW;
    }
    if ctx.arg::<u32>(1) & ATTACH != 0 {
        refuse_call(Hook::Ptrace, Reason::Process, 0);
    } else {
        // A process list asks this of every process: counted, without an event for each.
        count_refused(caller::current().cgroup, Reason::Process);
    }
    DENY
}

#[inline(always)]
fn same_agent(task: u64) -> Option<bool> {
    let o = offsets()?;
    Some(current_agent(o)? == task_agent(o, task)?)
}
