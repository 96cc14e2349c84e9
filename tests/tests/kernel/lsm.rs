//! The LSM layer: what a governed process with all of root's powers is refused,
//! each call shown to work when nothing governs it. Where the kernel does not
//! take the layer, `closed` shows that a daemon which demands it does not start.

use enforcer_tests::probe::{Bench, holds, said, wire::Wire};
use std::process::{Child, Command, Stdio};

/// A call by its row in the threat model.
type Row = (&'static str, &'static str);

/// `PID` is a process outside, `MOUNT` the cgroup2 tree.
const CALLS: &[Row] = &[
    ("family_vsock", "socket(40, SOCK_STREAM)"),
    ("af_packet_raw", "socket(17, SOCK_RAW, 0x0300)"),
    ("af_packet_dgram", "socket(17, SOCK_DGRAM, 0x0300)"),
    ("af_xdp_tx", "socket(44, SOCK_RAW)"),
    ("families_misc", "socket(38, SOCK_SEQPACKET)"),
    ("netlink_generic", "socket(16, SOCK_RAW, 16)"),
    ("netlink_netfilter", "socket(16, SOCK_RAW, 12)"),
    ("bpf_get_fd", "checked(libc.syscall(321, 11, ctypes.create_string_buffer(64), 64))"),
    (
        "iouring_setup",
        "checked(libc.syscall(425, 4, ctypes.create_string_buffer(bytes([0] * 8 + [2]), 120)))",
    ),
    ("cg_procs_escape", "open(MOUNT + '/cgroup.procs', 'w').write('0')"),
    ("cg_threads_escape", "open(MOUNT + '/cgroup.threads', 'w')"),
    ("cg_mount_escape", "mounted(); open('/tmp/cg2/cgroup.procs', 'w').write('0')"),
    ("clone3_into_cgroup", "into(MOUNT)"),
    (
        "ptrace_poke",
        "checked(libc.ptrace(16, PID, 0, 0)); os.waitpid(PID, 0x40000000); libc.ptrace(17, PID, 0, 0)",
    ),
    ("proc_pid_mem", "open(f'/proc/{PID}/mem', 'rb')"),
    ("process_vm_readv", "vm_read(PID)"),
    ("pidfd_getfd", "checked(libc.syscall(438, os.pidfd_open(PID), 0, 0))"),
    ("proc_pid_fd", "os.readlink(f'/proc/{PID}/fd/0')"),
    // Last: it gives capabilities up.
    ("proc_pid_environ", "watch_nobody(); found(open(f'/proc/{PID}/environ', 'rb').read())"),
];

/// What the calls use.
const HELPERS: &str = r#"
import os
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
def watch_nobody():
    # CAP_SYS_ADMIN and CAP_PERFMON show environments in newer kernels without asking any module.
    line = next(l for l in open('/proc/self/status') if l.startswith('CapPrm'))
    left = int(line.split()[1], 16) & ~(1 << 21 | 1 << 38)
    low, high = left & 0xffffffff, left >> 32
    header = ctypes.create_string_buffer(struct.pack('=II', 0x20080522, 0))
    checked(libc.syscall(126, header, ctypes.create_string_buffer(struct.pack('=6I', low, low, 0, high, high, 0))))
def found(data):
    if not data: raise OSError(errno.EACCES, 'nothing')
def mounted():
    os.makedirs('/tmp/cg2', exist_ok=True)
    if not os.path.exists('/tmp/cg2/cgroup.procs'):
        checked(libc.mount(b'none', b'/tmp/cg2', b'cgroup2', 0, None))
def into(cgroup):
    where = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    # struct clone_args: CLONE_INTO_CGROUP, SIGCHLD as the end's signal, the cgroup last.
    arguments = struct.pack('=11Q', 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, where)
    child = checked(libc.syscall(435, ctypes.create_string_buffer(arguments, 88), 88))
    if child == 0: os._exit(0)
    os.waitpid(child, 0)
def vm_read(pid):
    line = next(l for l in open(f'/proc/{pid}/maps') if 'r' in l.split()[1])
    start = int(line.split('-')[0], 16)
    buffer = ctypes.create_string_buffer(16)
    iov = lambda at: struct.pack('=QQ', at, 16)
    checked(libc.process_vm_readv(pid, iov(ctypes.addressof(buffer)), 1, iov(start), 1, 0))
"#;

/// A process outside, for as long as it is looked at.
struct Bystander(Child);

impl Bystander {
    fn start() -> Self {
        let child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn();
        Self(child.expect("sleep starts"))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

/// One program that makes every call and prints a line for each.
fn program(bench: &Bench, pid: u32) -> String {
    let mount = bench.root().parent().expect("the mount").display();
    let mut code = format!("{HELPERS}\nPID, MOUNT = {pid}, '{mount}'\n");
    for (name, call) in CALLS {
        let lines = call.replace("; ", "\n  ");
        code.push_str(&format!("def go():\n  {lines}\nprint({name:?}, attempt(go))\n"));
    }
    code
}

#[test]
fn what_root_can_do_outside_it_cannot_do_inside() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "lsm") {
        return;
    }
    let outside = Bystander::start();
    let code = program(&bench, outside.0.id());
    let inside = said(&mut bench.governed("a", &code));
    let free = said(&mut bench.free(&code));
    for ((kept, open), (name, _)) in inside.lines().zip(free.lines()).zip(CALLS) {
        let [kept, open] = [kept, open].map(|line| line.rsplit_once(' ').expect("two words").1);
        assert!(matches!(kept, "EPERM" | "EACCES"), "{name}: {kept}\n{inside}");
        assert_eq!(open, "ok", "{name}: no proof, it does not work free either\n{free}");
    }
    assert_eq!([inside.lines().count(), free.lines().count()], [CALLS.len(); 2]);
    capture.verify_attached().expect("the guards are still there");
    let row = capture.counters().into_iter().find(|row| row.agent.is_some()).expect("its counts");
    for reason in ["socket-family", "bpf", "io-uring", "cgroup", "other-process"] {
        assert!(row.refused.contains_key(reason), "{reason}: {:?}", row.refused);
    }
}

#[test]
fn what_stays_inside_the_agent_goes_on() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "lsm") {
        return;
    }
    let own = bench.cgroup("a").display().to_string();
    let code = format!(
        "{HELPERS}
import subprocess
child = os.fork()
if child == 0:
    import time; time.sleep(30); os._exit(0)
def traced():
    checked(libc.ptrace(16, child, 0, 0)); os.waitpid(child, 0x40000000); libc.ptrace(17, child, 0, 0)
print(attempt(traced))
os.kill(child, 9)
os.makedirs('{own}/below')
print(attempt(lambda: open('{own}/below/cgroup.procs', 'w').write('0') and None))
print(open('/proc/self/cgroup').read().count('/a/below'))
print(attempt(lambda: open('{own}/cgroup.procs', 'w').write('0') and None))
print(attempt(lambda: open('/sys/fs/cgroup/cgroup.controllers').read() and None) if os.path.exists('/sys/fs/cgroup/cgroup.controllers') else 'ok')
print(subprocess.run(['ip', '-4', 'addr', 'show', 'lo'], capture_output=True, text=True).stdout.count('127.0.0.1'))
a, b = socketpair()
send_fds(a, [b'x'], [a.fileno()])
print(len(recv_fds(b, 9, 1)[1]))
"
    );
    assert_eq!(said(&mut bench.governed("a", &code)), "ok\nok\n1\nok\nok\n1\n1");
}

#[test]
fn netlink_changes_nothing() {
    let bench = Bench::new();
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "lsm") {
        return;
    }
    let add = "os.system('ip addr add 203.0.113.7/32 dev lo 2>/dev/null')";
    let shown = "import subprocess; print('203.0.113.7' in subprocess.run(['ip', 'addr'], capture_output=True, text=True).stdout)";
    said(&mut bench.governed("a", add));
    assert_eq!(said(&mut bench.free(shown)), "False", "netlink_route_add");
    said(&mut bench.free(add));
    assert_eq!(said(&mut bench.free(shown)), "True");
    assert_eq!(said(&mut bench.governed("a", shown)), "True", "looking is allowed");
}

#[test]
fn a_socket_from_outside_is_not_received() {
    let bench = Bench::new();
    let wire = Wire::tap(&bench);
    let capture = bench.install();
    capture.beat();
    if !holds(&capture, "lsm") {
        return;
    }
    let procs = bench.cgroup("a").join("cgroup.procs").display().to_string();
    let program = |token: &str, enter: &str| {
        format!(
            "
a, b = socketpair()
if os.fork() == 0:
    {enter}
    fds = recv_fds(b, 9, 1)[1]
    if fds:
        socket(fileno=fds[0]).sendall({token:?}.encode())
    b.send(b'.')
    os._exit(0)
s = create_connection((FAR4, FAR_PORT))
send_fds(a, [b'x'], [s.fileno()])
a.settimeout(15); a.recv(1)
print('done')
"
        )
    };
    let enter = format!("open('{procs}', 'w').write('0')");
    said(&mut bench.free(&program("token-scm-governed", &enter)));
    wire.settle();
    assert!(!wire.saw(b"token-scm-governed"), "scm_rights");
    said(&mut bench.free(&program("token-scm-free", "pass")));
    assert!(wire.waits_for(b"token-scm-free"));
}
