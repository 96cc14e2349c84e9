//! io_uring: its requests run where system call filters do not see them.
//! `uring_allowed` (Linux 6.15) is asked for every ring; before it only the rings
//! with a kernel thread of their own are.

use crate::DENY;
use crate::refuse::refuse_call;
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};

#[lsm_cgroup(hook = "uring_allowed")]
pub fn lsm_uring_allowed(_ctx: LsmContext) -> i32 {
    refuse_call(Hook::Uring, Reason::Ring, 0);
    DENY
}

#[lsm_cgroup(hook = "uring_sqpoll")]
pub fn lsm_uring_sqpoll(_ctx: LsmContext) -> i32 {
    refuse_call(Hook::Uring, Reason::Ring, 1);
    DENY
}
