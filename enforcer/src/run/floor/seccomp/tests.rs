//! The filter in a forked child: each denied call answers as it should there,
//! and otherwise without the filter.

use super::*;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};

/// Calls `probe` in a child, with or without the filter, and gives its errno
/// (0 when the call succeeded) or the signal that ended it, negative.
fn errno_of(filtered: bool, probe: fn() -> libc::c_long) -> i32 {
    let programs = programs().unwrap();
    // SAFETY: the child makes system calls only, and ends with _exit.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let mut code = 0;
            if filtered {
                // SAFETY: integers only.
                unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
                for program in &programs {
                    if seccompiler::apply_filter(program).is_err() {
                        code = 250;
                    }
                }
            }
            nix::errno::Errno::clear();
            if code == 0 && probe() < 0 {
                code = nix::errno::Errno::last_raw();
            }
            // SAFETY: ends the child without running the test harness's exit handlers.
            unsafe { libc::_exit(code) }
        }
        ForkResult::Parent { child } => match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => -(signal as i32),
            other => panic!("{other:?}"),
        },
    }
}

/// A call's name, and the call.
type Probe = (&'static str, fn() -> libc::c_long);

macro_rules! call {
    ($number:expr $(, $arg:expr)*) => {
        // SAFETY: arguments are integers or null pointers that the kernel refuses.
        || unsafe { libc::syscall($number $(, $arg as libc::c_long)*) }
    };
}

fn socket_probe(domain: i32, kind: i32, protocol: i32) -> libc::c_long {
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_socket, domain, kind, protocol) }
}

/// What must be refused, with the answer without the filter for comparison: any
/// but EPERM, so that the filter is seen to be what refuses. (The test runs as
/// root, whom the kernel itself refuses little.)
const REFUSED: &[Probe] = &[
    ("io_uring_setup", call!(libc::SYS_io_uring_setup, 0, 0)),
    ("io_uring_enter", call!(libc::SYS_io_uring_enter, -1, 0, 0, 0, 0, 0)),
    ("io_uring_register", call!(libc::SYS_io_uring_register, -1, 0, 0, 0)),
    ("bpf", call!(libc::SYS_bpf, 999, 0, 0)),
    ("ptrace", call!(libc::SYS_ptrace, 999, 999_999_999, 0, 0)),
    ("process_vm_readv", call!(libc::SYS_process_vm_readv, 999_999_999, 0, 0, 0, 0, 0)),
    ("process_vm_writev", call!(libc::SYS_process_vm_writev, 999_999_999, 0, 0, 0, 0, 0)),
    ("pidfd_getfd", call!(libc::SYS_pidfd_getfd, -1, 0, 0)),
    ("keyctl", call!(libc::SYS_keyctl, 999, 0, 0, 0, 0)),
    ("add_key", call!(libc::SYS_add_key, 0, 0, 0, 0, 0)),
    ("request_key", call!(libc::SYS_request_key, 0, 0, 0, 0)),
    ("unshare", call!(libc::SYS_unshare, 0)),
    ("setns", call!(libc::SYS_setns, -1, 0)),
    ("mount", call!(libc::SYS_mount, 0, 0, 0, 0, 0)),
    ("umount2", call!(libc::SYS_umount2, 0, 0)),
    ("pivot_root", call!(libc::SYS_pivot_root, 0, 0)),
    ("move_mount", call!(libc::SYS_move_mount, -1, 0, -1, 0, 0)),
    ("open_tree", call!(libc::SYS_open_tree, -1, 0, 0)),
    ("fsopen", call!(libc::SYS_fsopen, 0, 0)),
    ("fsmount", call!(libc::SYS_fsmount, -1, 0, 0)),
    ("mount_setattr", call!(libc::SYS_mount_setattr, -1, 0, 0, 0, 0)),
    ("perf_event_open", call!(libc::SYS_perf_event_open, 0, 0, 0, 0, 0)),
    ("userfaultfd", call!(libc::SYS_userfaultfd, 0xffff)),
    ("open_by_handle_at", call!(libc::SYS_open_by_handle_at, -1, 0, 0)),
    ("socket vsock", || socket_probe(libc::AF_VSOCK, libc::SOCK_STREAM, 99)),
    ("socket alg", || socket_probe(libc::AF_ALG, 99, 0)),
    ("socket packet", || socket_probe(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("socket tipc", || socket_probe(30, libc::SOCK_STREAM, 0)),
    ("socket kobject netlink", || {
        socket_probe(
            libc::AF_NETLINK,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            libc::NETLINK_KOBJECT_UEVENT,
        )
    }),
    ("socket raw", || {
        socket_probe(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_ICMP)
    }),
    ("socket raw6", || socket_probe(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)),
    ("socketpair inet", call!(libc::SYS_socketpair, libc::AF_INET, libc::SOCK_STREAM, 0, 0)),
    ("TIOCSTI", call!(libc::SYS_ioctl, -1, 0x5412, 0)),
    ("TIOCSTI with high bits", call!(libc::SYS_ioctl, -1, 0x7_0000_5412_u64, 0)),
    ("TIOCLINUX", call!(libc::SYS_ioctl, -1, 0x541c, 0)),
    // An invalid combination of flags, so that nothing is made without the filter.
    ("clone newuser", call!(libc::SYS_clone, libc::CLONE_NEWUSER | libc::CLONE_FS, 0, 0, 0, 0)),
    ("clone newnet", call!(libc::SYS_clone, libc::CLONE_NEWNET | libc::CLONE_SIGHAND, 0, 0, 0, 0)),
    ("clone newns", call!(libc::SYS_clone, libc::CLONE_NEWNS | libc::CLONE_FS, 0, 0, 0, 0)),
];

#[test]
fn each_denied_call_answers_eperm_and_only_because_of_the_filter() {
    for (name, probe) in REFUSED {
        assert_eq!(errno_of(true, *probe), libc::EPERM, "{name} with the filter");
        assert_ne!(errno_of(false, *probe), libc::EPERM, "{name} without the filter");
    }
}

#[test]
fn clone3_is_absent() {
    let clone3 = call!(libc::SYS_clone3, 0, 0);
    assert_eq!(errno_of(true, clone3), libc::ENOSYS);
    assert_eq!(errno_of(false, clone3), libc::EINVAL);
}

#[test]
fn what_programs_need_stays() {
    let probes: [Probe; 7] = [
        ("unix", || socket_probe(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
        ("tcp", || socket_probe(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)),
        ("udp6", || socket_probe(libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP)),
        ("routes", || socket_probe(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0)),
        ("getpid", call!(libc::SYS_getpid)),
        ("fork", || {
            // SAFETY: no flag but the signal: as fork. The child ends at once.
            let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
            if pid == 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) }
            }
            pid
        }),
        ("pipe ioctl", || {
            let mut size: libc::c_int = 0;
            let mut pipe = [0; 2];
            // SAFETY: both calls write into what is passed.
            unsafe {
                libc::pipe(pipe.as_mut_ptr());
                libc::syscall(libc::SYS_ioctl, pipe[0], libc::FIONREAD, &raw mut size)
            }
        }),
    ];
    for (name, probe) in probes {
        assert_eq!(errno_of(true, probe), 0, "{name}");
    }
}

/// The 32-bit entry is another architecture: the process does not survive it.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_foreign_entry_ends_the_process() {
    fn int80() -> libc::c_long {
        let mut result: libc::c_long = 20; // getpid in the 32-bit table
        // SAFETY: getpid takes nothing and changes nothing.
        unsafe { std::arch::asm!("int 0x80", inlateout("rax") result) };
        result
    }
    fn x32() -> libc::c_long {
        // SAFETY: getpid takes nothing and changes nothing.
        unsafe { libc::syscall(0x4000_0000 | libc::SYS_getpid) }
    }
    let killed = -(nix::sys::signal::Signal::SIGSYS as i32);
    assert_eq!(errno_of(true, int80), killed);
    assert_eq!(errno_of(true, x32), killed);
    assert_ne!(errno_of(false, x32), killed);
}
