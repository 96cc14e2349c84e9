//! `clone3(CLONE_INTO_CGROUP)`: a child that is born in another cgroup. It needs
//! no file of that cgroup to be opened for writing. Who wants it in an own one
//! writes to its `cgroup.procs`.

use crate::refuse::refuse_call;
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};

/// include/uapi/linux/sched.h
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[lsm_cgroup(hook = "task_alloc")]
pub fn lsm_task_alloc(ctx: LsmContext) -> i32 {
    if ctx.arg::<u64>(1) & CLONE_INTO_CGROUP == 0 {
        return ALLOW;
    }
    refuse_call(Hook::TaskAlloc, Reason::Cgroup, 0);
    DENY
}
