//! Leaving the cgroup: the files of cgroup2 that are not the agent's own open for
//! reading only, wherever and by whomever they are mounted. Those of the older
//! hierarchies never open for writing (`release_agent` runs outside, as root).

use crate::refuse::refuse_call;
use crate::task::{current_agent, is_own_cgroup_file, offsets, read};
use crate::{ALLOW, DENY};
use aya_ebpf::macros::lsm_cgroup;
use aya_ebpf::programs::LsmContext;
use enforcer_common::event::{Hook, Reason};
use enforcer_common::kernel::{CGROUP1_MAGIC, CGROUP2_MAGIC};

/// `FMODE_WRITE`, include/linux/fs.h.
const WRITE: u32 = 2;

#[lsm_cgroup(hook = "file_open")]
pub fn lsm_file_open(ctx: LsmContext) -> i32 {
    if changes_no_foreign_cgroup(ctx.arg(0)) == Some(true) {
        return ALLOW;
    }
    refuse_call(Hook::FileOpen, Reason::Cgroup, 0);
    DENY
}

/// Whether this open file gives no power over a cgroup outside of the agent.
#[inline(always)]
pub fn changes_no_foreign_cgroup(file: u64) -> Option<bool> {
    let o = offsets()?;
    let inode: u64 = read(file, o.file_inode)?;
    let magic: u64 = read(read(inode, o.inode_sb)?, o.sb_magic)?;
    if magic != CGROUP2_MAGIC && magic != CGROUP1_MAGIC {
        return Some(true);
    }
    if read::<u32>(file, o.file_mode)? & WRITE == 0 {
        return Some(true);
    }
    if magic == CGROUP1_MAGIC {
        return Some(false);
    }
    is_own_cgroup_file(o, inode, current_agent(o)?)
}
