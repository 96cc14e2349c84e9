//! `cgroup/setsockopt`: refuses options that dodge a redirect or make the
//! kernel send what the caller chose (multicast reports have no socket, so no
//! other hook sees them).

use crate::caller;
use crate::ctx::{field, set_field};
use crate::refuse::{Refused, refuse};
use crate::{ALLOW, DENY};
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::sockopt_denied;

/// The kernel shows a program at most one page of an option's value.
const PAGE: i32 = 4096;

#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(ctx: SockoptContext) -> i32 {
    let level = field!(ctx.sockopt, level);
    let option = field!(ctx.sockopt, optname);
    if sockopt_denied(level, option) {
        refuse(
            &caller::current(),
            &Refused {
                hook: Hook::Setsockopt,
                reason: Reason::SocketOption,
                cookie: 0,
                addr: [0; 4],
                port: 0,
                protocol: 0,
                detail: ((level as u32) << 16) | (option as u32 & 0xffff),
            },
        );
        return DENY;
    }
    // 0 means "use the caller's own bytes"; without it a longer value fails with EFAULT.
    if field!(ctx.sockopt, optlen) > PAGE {
        set_field!(ctx.sockopt, optlen)(0);
    }
    ALLOW
}
