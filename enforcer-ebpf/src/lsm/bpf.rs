//! `bpf(2)`: with it root detaches programs and rewrites maps.

use crate::DENY;
use crate::refuse::refuse_call;
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};

#[lsm_cgroup(hook = "bpf")]
pub fn lsm_bpf(ctx: LsmContext) -> i32 {
    refuse_call(Hook::Bpf, Reason::Bpf, ctx.arg(0));
    DENY
}
