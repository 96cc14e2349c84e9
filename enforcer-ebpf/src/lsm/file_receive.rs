//! Descriptors that come in by `SCM_RIGHTS` or `pidfd_getfd`: no socket that was
//! born outside, since it belongs to its maker's cgroup for ever and no hook of
//! ours runs for it; no cgroup file that could not have been opened either.

use super::file_open::changes_no_foreign_cgroup;
use crate::refuse::refuse_call;
use crate::task::{current_agent, offsets, read, sock_agent};
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};

/// `S_IFMT` and `S_IFSOCK`, include/uapi/linux/stat.h.
const TYPE: u16 = 0o170_000;
const SOCKET: u16 = 0o140_000;

#[lsm_cgroup(hook = "file_receive")]
pub fn lsm_file_receive(ctx: LsmContext) -> i32 {
    let file: u64 = ctx.arg(0);
    let reason = match is_own_or_no_socket(file) {
        Some(true) if changes_no_foreign_cgroup(file) == Some(true) => return ALLOW,
        Some(true) => Reason::Cgroup,
        _ => Reason::Received,
    };
    refuse_call(Hook::FileReceive, reason, 0);
    DENY
}

#[inline(always)]
fn is_own_or_no_socket(file: u64) -> Option<bool> {
    let o = offsets()?;
    let inode: u64 = read(file, o.file_inode)?;
    if read::<u16>(inode, o.inode_mode)? & TYPE != SOCKET {
        return Some(true);
    }
    let socket: u64 = read(file, o.file_private)?;
    let sock: u64 = read(socket, o.socket_sk)?;
    Some(current_agent(o)? == sock_agent(o, sock)?)
}
