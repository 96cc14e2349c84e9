//! The programs of the kernel half and where each hangs, in the order in which
//! they are attached: the backstop first, the redirect last, so that nothing is
//! ever sent somewhere before the rest holds.

/// One program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Its name in the object, and of its pin.
    pub(super) name: &'static str,
    /// `enum bpf_attach_type`, include/uapi/linux/bpf.h.
    pub(super) attach_type: u32,
}

const fn program(name: &'static str, attach_type: u32) -> Program {
    Program { name, attach_type }
}

/// Every program; the daemon does not start without any one of them.
pub(super) const PROGRAMS: [Program; 18] = [
    program("egress", 1),
    program("ingress", 0),
    program("sock_create", 2),
    program("setsockopt", 22),
    program("bind4", 8),
    program("bind6", 9),
    program("post_bind4", 12),
    program("post_bind6", 13),
    program("sock_release", 34),
    program("sock_ops", 3),
    program("recvmsg4", 19),
    program("recvmsg6", 20),
    program("getpeername4", 29),
    program("getpeername6", 30),
    program("sendmsg4", 14),
    program("sendmsg6", 15),
    program("connect4", 10),
    program("connect6", 11),
];

/// `BPF_LSM_CGROUP`.
const LSM_CGROUP: u32 = 43;

/// The programs of the LSM layer, `lsm_` and the kernel's hook. A kernel attaches ten different
/// hooks of this kind at once (`CGROUP_LSM_NUM`); with one of [`LSM_URING`] these are all.
pub(super) const LSM: [Program; 9] = [
    program("lsm_socket_create", LSM_CGROUP),
    program("lsm_netlink_send", LSM_CGROUP),
    program("lsm_file_open", LSM_CGROUP),
    program("lsm_file_receive", LSM_CGROUP),
    program("lsm_task_alloc", LSM_CGROUP),
    program("lsm_bpf", LSM_CGROUP),
    program("lsm_ptrace_access_check", LSM_CGROUP),
    program("lsm_unix_stream_connect", LSM_CGROUP),
    program("lsm_unix_may_send", LSM_CGROUP),
];

/// io_uring, the better hook first (Linux 6.15, 5.16).
pub(super) const LSM_URING: [Program; 2] =
    [program("lsm_uring_allowed", LSM_CGROUP), program("lsm_uring_sqpoll", LSM_CGROUP)];

/// Unix sockets by name, where their owner cannot be seen.
pub(super) const UNIX: [Program; 2] = [program("connect_unix", 49), program("sendmsg_unix", 50)];
