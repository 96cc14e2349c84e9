//! Who calls: the facts that BPF knows of the current task.

use aya_ebpf::helpers::{
    bpf_get_current_cgroup_id, bpf_get_current_pid_tgid, bpf_get_current_uid_gid,
    bpf_ktime_get_boot_ns, generated,
};

/// The current task.
#[derive(Clone, Copy)]
pub struct Caller {
    pub cgroup: u64,
    pub boot_ns: u64,
    pub tgid: u32,
    pub tid: u32,
    pub uid: u32,
    pub gid: u32,
    pub comm: [u8; 16],
}

/// Reads the current task. Only where there is one: not in packet hooks.
#[inline(always)]
pub fn current() -> Caller {
    let pid_tgid = bpf_get_current_pid_tgid();
    let uid_gid = bpf_get_current_uid_gid();
    // SAFETY: helpers without arguments.
    let (cgroup, boot_ns) = unsafe { (bpf_get_current_cgroup_id(), bpf_ktime_get_boot_ns()) };
    let mut caller = Caller {
        cgroup,
        boot_ns,
        tgid: (pid_tgid >> 32) as u32,
        tid: pid_tgid as u32,
        uid: uid_gid as u32,
        gid: (uid_gid >> 32) as u32,
        comm: [0; 16],
    };
    // Read to where it stays: a copy would take stack, of which there is little.
    // SAFETY: the helper writes at most as many bytes as it is told, and zeros when it fails.
    let _zeros_or_named =
        unsafe { generated::bpf_get_current_comm(caller.comm.as_mut_ptr().cast(), 16) };
    caller
}

/// Nobody: for packets, which have a socket but no caller.
#[inline(always)]
pub fn nobody(cgroup: u64) -> Caller {
    // SAFETY: a helper without arguments.
    let boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    Caller { cgroup, boot_ns, tgid: 0, tid: 0, uid: 0, gid: 0, comm: [0; 16] }
}
