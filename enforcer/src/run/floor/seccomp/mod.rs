//! The system call filter of a governed program.
//!
//! A deny list: an agent's tools are whatever its owner chose, so what is not a
//! way around the gate stays. What is denied answers `EPERM`, which programs
//! handle; `clone3` answers `ENOSYS`, because its flags lie in memory that a
//! filter cannot read and libc falls back to `clone`. Another architecture's
//! entry ends the process: its numbers mean other calls.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// Why the filter could not be made or loaded; the program is then not started.
#[derive(Debug, thiserror::Error)]
#[error("the system call filter cannot be installed: {0}")]
pub struct SeccompError(String);

impl<E: Into<seccompiler::Error>> From<E> for SeccompError {
    fn from(error: E) -> Self {
        Self(error.into().to_string())
    }
}

/// Calls that are denied whatever their arguments.
const DENIED: &[libc::c_long] = &[
    // Sends and connects without a system call that a filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // The enforcement itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_userfaultfd,
    // The kernel's helper for keys runs outside, with the caller's words.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    // The machine.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
];

/// `open_tree_attr` (6.15), which libc does not name yet.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;

/// Flags of `clone` that make a namespace.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// `TIOCSTI` and `TIOCLINUX`: words put into somebody's terminal.
const TERMINAL_INJECTION: [u64; 2] = [0x5412, 0x541C];

/// The old name of a packet socket, which `AF_INET` still takes.
const SOCK_PACKET: u64 = 10;

/// The low bits of a socket's type; the rest are `SOCK_CLOEXEC` and `SOCK_NONBLOCK`.
const TYPE_MASK: u64 = 0xf;

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// The programs, in the order in which they are loaded. The kernel runs all and
/// the strictest answer counts.
pub fn programs() -> Result<Vec<BpfProgram>, SeccompError> {
    let denied: BpfProgram = SeccompFilter::new(
        rules()?,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        ARCH,
    )?
    .try_into()?;
    let absent: BpfProgram = SeccompFilter::new(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        ARCH,
    )?
    .try_into()?;
    let mut programs = vec![denied, absent];
    if cfg!(target_arch = "x86_64") {
        programs.push(x32_is_foreign());
    }
    Ok(programs)
}

/// Loads the filter into the calling thread; it cannot be taken out again.
/// `no_new_privs` must be set.
pub fn install() -> Result<(), SeccompError> {
    for program in programs()? {
        seccompiler::apply_filter(&program)?;
    }
    Ok(())
}

fn rules() -> Result<BTreeMap<i64, Vec<SeccompRule>>, SeccompError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().map(|call| (*call, Vec::new())).collect();
    rules.insert(SYS_OPEN_TREE_ATTR, Vec::new());

    let family = |op, value| arg(0, op, value);
    let (unix, inet, inet6, netlink) = (
        libc::AF_UNIX as u64,
        libc::AF_INET as u64,
        libc::AF_INET6 as u64,
        libc::AF_NETLINK as u64,
    );
    let mut socket = vec![
        // Every family but these.
        SeccompRule::new(vec![
            family(SeccompCmpOp::Ne, unix)?,
            family(SeccompCmpOp::Ne, inet)?,
            family(SeccompCmpOp::Ne, inet6)?,
            family(SeccompCmpOp::Ne, netlink)?,
        ])?,
        // Netlink only to read routes and addresses, as getaddrinfo does.
        SeccompRule::new(vec![
            family(SeccompCmpOp::Eq, netlink)?,
            arg(2, SeccompCmpOp::Ne, libc::NETLINK_ROUTE as u64)?,
        ])?,
    ];
    for ip in [inet, inet6] {
        for raw in [libc::SOCK_RAW as u64, SOCK_PACKET] {
            socket.push(SeccompRule::new(vec![
                family(SeccompCmpOp::Eq, ip)?,
                arg(1, SeccompCmpOp::MaskedEq(TYPE_MASK), raw)?,
            ])?);
        }
    }
    rules.insert(libc::SYS_socket, socket);
    rules.insert(
        libc::SYS_socketpair,
        vec![SeccompRule::new(vec![family(SeccompCmpOp::Ne, unix)?])?],
    );
    // The kernel looks at the low 32 bits of a request only, and so does this.
    let injection = TERMINAL_INJECTION
        .into_iter()
        .map(|request| Ok(SeccompRule::new(vec![arg(1, SeccompCmpOp::Eq, request)?])?))
        .collect::<Result<_, SeccompError>>()?;
    rules.insert(libc::SYS_ioctl, injection);
    let namespaces = NAMESPACES
        .into_iter()
        .map(|flag| {
            let flag = u64::from(flag as u32);
            Ok(SeccompRule::new(vec![arg(0, SeccompCmpOp::MaskedEq(flag), flag)?])?)
        })
        .collect::<Result<_, SeccompError>>()?;
    rules.insert(libc::SYS_clone, namespaces);
    Ok(rules)
}

fn arg(index: u8, op: SeccompCmpOp, value: u64) -> Result<SeccompCondition, SeccompError> {
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Dword, op, value)?)
}

/// The x32 entry has x86_64's architecture word but other call numbers (bit 30
/// set), so that the list above would not see them.
fn x32_is_foreign() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_GE: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000;
    const KILL_PROCESS: u32 = 0x8000_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let op = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        op(LOAD_NUMBER, 0, 0, 0),
        op(JUMP_GE, 0, 1, X32),
        op(RETURN, 0, 0, KILL_PROCESS),
        op(RETURN, 0, 0, ALLOW),
    ]
}

#[cfg(test)]
mod tests;
