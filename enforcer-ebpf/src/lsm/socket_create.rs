//! Which socket families may exist. `cgroup/sock_create` runs for inet only.

use crate::refuse::refuse_call;
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::family_allowed;

#[lsm_cgroup(hook = "socket_create")]
pub fn lsm_socket_create(ctx: LsmContext) -> i32 {
    let (family, protocol, kernel) = (ctx.arg::<u32>(0), ctx.arg::<u32>(2), ctx.arg::<u32>(3));
    // The kernel's own, made while it serves the task.
    if kernel != 0 || family_allowed(family, protocol) {
        return ALLOW;
    }
    refuse_call(Hook::SocketCreate, Reason::Family, family);
    DENY
}
