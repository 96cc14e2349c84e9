//! Which agent a task, a socket or a cgroup file belongs to, read out of the
//! kernel's structures at the places that the daemon has looked up.
//!
//! An agent is named by the id of its cgroup, the governed root's direct child;
//! what sits in the root itself is the root. `None` is nobody's: no two are
//! ever the same.

use crate::maps::{GOVERNED, OFFSETS};
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel};
use enforcer_common::flow::{OWN_NUMBERS, image};
use enforcer_common::kernel::Offsets;
use enforcer_common::names::MAX_ROOT_DEPTH;

/// Levels of cgroups that are walked from a file upwards.
const MAX_DEPTH: u32 = 24;

/// Where things are; `None` until the daemon has found all of them.
#[inline(always)]
pub fn offsets() -> Option<&'static Offsets> {
    OFFSETS.get(0).filter(|offsets| offsets.complete == 1)
}

/// Reads a field of a structure of the kernel.
#[inline(always)]
pub fn read<T>(base: u64, offset: u32) -> Option<T> {
    let at = base.wrapping_add(u64::from(offset)) as *const T;
    // SAFETY: the helper checks the address, and any bytes are a valid integer.
    unsafe { bpf_probe_read_kernel(at) }.ok()
}

/// The agent of the calling task.
#[inline(always)]
pub fn current_agent(o: &Offsets) -> Option<u64> {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    task_agent(o, task)
}

/// The agent of a task.
#[inline(always)]
pub fn task_agent(o: &Offsets, task: u64) -> Option<u64> {
    let sets: u64 = read(task, o.task_cgroups)?;
    cgroup_agent(o, read(sets, o.css_set_cgroup)?)
}

/// The agent of a socket: that of the task that made it.
#[inline(always)]
pub fn sock_agent(o: &Offsets, sock: u64) -> Option<u64> {
    // The first field of `sock_cgroup_data` is the cgroup.
    cgroup_agent(o, read(sock, o.sock_cgroup)?)
}

/// The agent of a cgroup.
#[inline(always)]
fn cgroup_agent(o: &Offsets, cgroup: u64) -> Option<u64> {
    let level: u32 = read(cgroup, o.cgroup_level)?;
    let mut depth = 1;
    while depth <= MAX_ROOT_DEPTH {
        if depth > level {
            return None;
        }
        let id = ancestor(o, cgroup, depth)?;
        // SAFETY: the value is not read.
        if unsafe { GOVERNED.get(id) }.is_some() {
            return if depth == level { Some(id) } else { ancestor(o, cgroup, depth + 1) };
        }
        depth += 1;
    }
    None
}

/// The id of the cgroup's ancestor at this level.
#[inline(always)]
fn ancestor(o: &Offsets, cgroup: u64, level: u32) -> Option<u64> {
    let ancestor: u64 = read(cgroup, o.cgroup_ancestors.wrapping_add(level.wrapping_mul(8)))?;
    let node: u64 = read(ancestor, o.cgroup_kernfs)?;
    read(node, o.kernfs_id)
}

/// Whether a file of cgroup2 belongs to the agent's own cgroup or one below it.
#[inline(always)]
pub fn is_own_cgroup_file(o: &Offsets, inode: u64, agent: u64) -> Option<bool> {
    let mut node: u64 = read(inode, o.inode_private)?;
    let mut depth = 0;
    while depth < MAX_DEPTH {
        if node == 0 {
            return Some(false);
        }
        if read::<u64>(node, o.kernfs_id)? == agent {
            return Some(true);
        }
        node = read(node, o.kernfs_parent)?;
        depth += 1;
    }
    Some(false)
}

/// What the calling task runs.
#[inline(always)]
pub fn current_image(o: &Offsets) -> Option<u32> {
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task() };
    let memory: u64 = read(task, o.task_mm)?;
    let stack: u64 = read(memory, o.mm_stack)?;
    let exe: u64 = read(memory, o.mm_exe)?;
    let inode: u64 = read(exe, o.file_inode)?;
    let system: u64 = read(inode, o.inode_sb)?;
    let magic: u64 = read(system, o.sb_magic)?;
    let number: u64 = read(inode, o.inode_number)?;
    let own = magic == OWN_NUMBERS[0] || magic == OWN_NUMBERS[1] || magic == OWN_NUMBERS[2];
    Some(image(if own { 0 } else { number }, stack))
}
