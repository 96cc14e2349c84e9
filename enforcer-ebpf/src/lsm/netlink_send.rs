//! Messages over netlink: look-ups of routes, addresses and links. Changes need
//! a capability that no agent should have; one that has it is refused here.

use crate::refuse::refuse_call;
use crate::task::{offsets, read};
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::matching::route_look_up;

/// `struct nlmsghdr`, include/uapi/linux/netlink.h: length, type, ...
const HEADER: u32 = 16;
/// Messages in one send; more is refused.
const MESSAGES: u32 = 8;

#[lsm_cgroup(hook = "netlink_send")]
pub fn lsm_netlink_send(ctx: LsmContext) -> i32 {
    if only_looks_up(ctx.arg(1)) == Some(true) {
        return ALLOW;
    }
    refuse_call(Hook::NetlinkSend, Reason::Family, 16);
    DENY
}

/// Walks the messages as the kernel does (`netlink_rcv_skb`): what is left of a short or broken
/// one is not read.
#[inline(always)]
fn only_looks_up(skb: u64) -> Option<bool> {
    let o = offsets()?;
    let data: u64 = read(skb, o.skb_data)?;
    let len: u32 = read(skb, o.skb_len)?;
    let mut at = 0u32;
    let mut messages = 0;
    while messages < MESSAGES {
        if len.wrapping_sub(at) < HEADER || at > len {
            return Some(true);
        }
        let message: u32 = read(data, at)?;
        let kind: u16 = read(data, at.wrapping_add(4))?;
        if message < HEADER || message > len.wrapping_sub(at) {
            return Some(true);
        }
        if !route_look_up(kind) {
            return Some(false);
        }
        at = at.wrapping_add(message.wrapping_add(3) & !3);
        messages += 1;
    }
    Some(false)
}
