//! Who a record names: the process that connected, the agent and task of its cgroup, and nothing
//! that the process says of itself or arranges to look like.

use enforcer::capture::Capture;
use enforcer::principal::Principal;
use enforcer_tests::probe::gate::Arrival;
use enforcer_tests::probe::{Bench, DEADLINE, PROXY, RESOLVER, gate, said};
use enforcer_tests::wait::eventually;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Connects, and stays until its standard input ends.
const CONNECT: &str = "s = create_connection((FAR4, FAR_PORT)); s.recv(9)\n";
const STAY: &str = "sys.stdin.read()\n";

/// A bench where looks are taken.
struct Looks {
    capture: Arc<Capture>,
    arrivals: Receiver<Arrival>,
    runtime: tokio::runtime::Runtime,
    bench: Bench,
}

/// A program that has connected and lives on; it ends with this value.
struct Held {
    child: Child,
    who: Principal,
}

impl Looks {
    fn new() -> Self {
        let bench = Bench::new();
        let capture = Arc::new(bench.install());
        let arrivals = gate::open(&capture, PROXY, RESOLVER);
        capture.beat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { capture, arrivals, runtime: runtime.expect("a runtime"), bench }
    }

    /// What the daemon makes of the next arrival, when it looks now.
    fn look(&self) -> Principal {
        let arrival = self.arrivals.recv_timeout(DEADLINE).expect("it connects");
        let captured = arrival.captured.expect("an entry");
        self.runtime.block_on(self.capture.look_up(captured)).principal
    }

    /// Looks at a program while it lives.
    fn held(&self, mut program: Command) -> Held {
        let child = program.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        Held { child: child.expect("starts"), who: self.look() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ended = self.child.wait();
    }
}

fn python() -> PathBuf {
    fs::canonicalize("/usr/bin/python3").expect("is there")
}

fn sha256(file: &Path) -> Option<String> {
    let out = Command::new("sha256sum").arg(file).output().expect("starts");
    String::from_utf8(out.stdout).expect("text").split(' ').next().map(str::to_owned)
}

#[test]
fn a_process_that_lives_is_known_whole() {
    let looks = Looks::new();
    let held = looks.held(looks.bench.governed("coder/task-fix", &format!("{CONNECT}{STAY}")));
    let process = &held.who.process;
    assert_eq!(process.exe, Some(python()));
    assert_eq!(process.exe_inside, None);
    assert_eq!(process.exe_sha256, sha256(&python()));
    assert_ne!(process.start_ticks, 0);
    assert!(process.argv.iter().any(|arg| arg == "-I"), "{:?}", process.argv);
    let own = fs::read_to_string(format!("/proc/{}/comm", process.pid)).unwrap();
    assert_eq!(process.comm, own.trim());
}

/// Names, arguments, environment: a process can set all of them.
#[test]
fn agent_and_task_are_those_of_the_cgroup_whatever_a_process_calls_itself() {
    let looks = Looks::new();
    let code = format!("libc.prctl(15, b'enforcer', 0, 0, 0)\n{CONNECT}{STAY}");
    let start = "export ENFORCER_AGENT=boss ENFORCER_TASK=pay; exec -a /usr/bin/enforcer \
                 /usr/bin/python3 -I -S -c \"$CODE\" run --agent boss --task pay";
    let liar = looks.bench.governed_by("coder/task-fix", start, &code);
    let held = looks.held(liar);
    assert_eq!(held.who.agent.as_str(), "coder");
    assert_eq!(held.who.task.as_deref(), Some("fix"));
    let process = &held.who.process;
    // Those are what it says, and shown as that; what runs is what runs.
    assert_eq!(process.comm, "enforcer");
    assert_eq!(process.argv.first().map(String::as_str), Some("/usr/bin/enforcer"));
    assert_eq!(process.exe, Some(python()));
}

#[test]
fn a_process_that_has_ended_lends_its_name_to_nobody() {
    let looks = Looks::new();
    let code = format!("{CONNECT}print(os.getpid())");
    for agent in ["one", "other"] {
        let pid: i32 = said(&mut looks.bench.governed("one", &code)).parse().unwrap();
        // Somebody has its number by the time the daemon looks: of the same agent or another's.
        let mut again = again(&looks.bench, agent, pid);
        let who = looks.look();
        assert_eq!((who.agent.as_str(), who.process.pid.cast_signed()), ("one", pid));
        assert!(fs::read_link(format!("/proc/{pid}/exe")).is_ok(), "control: the number is taken");
        let process = who.process;
        assert_eq!((process.exe, process.exe_inside, process.exe_sha256), (None, None, None));
        assert_eq!((process.start_ticks, process.argv.len()), (0, 0));
        assert!(process.comm.starts_with("python"), "what the kernel saw stays: {}", process.comm);
        drop(again.stdin.take());
        again.wait().unwrap();
    }
}

/// A program with that process id (`clone3` with `set_tid`, clone(2)), of which it is sure.
fn again(bench: &Bench, agent: &str, pid: i32) -> Child {
    let code = format!(
        "
tid = (ctypes.c_int * 1)({pid})
args = struct.pack('=11Q', 0, 0, 0, 0, 17, 0, 0, 0, ctypes.addressof(tid), 1, 0)
child = checked(libc.syscall(435, args, len(args)))
if child == 0:
    sys.stdin.read()
    os._exit(0)
assert child == {pid}
print('there', flush=True)
os.waitpid(child, 0)
"
    );
    let mut child = bench
        .governed(agent, &code)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("readable");
    assert_eq!(line, "there\n", "the process id is taken again");
    child
}

#[test]
fn what_the_kernel_saw_at_connect_outlives_an_exec() {
    let looks = Looks::new();
    let code = "s = create_connection((FAR4, FAR_PORT)); s.set_inheritable(True)
os.execv('/usr/bin/sleep', ['sleep', '100'])";
    let mut child = looks.bench.governed("coder", code).spawn().unwrap();
    let arrival = looks.arrivals.recv_timeout(DEADLINE).expect("it connects");
    let captured = arrival.captured.expect("an entry");
    let pid = captured.principal.process.pid;
    eventually("it became another program", DEADLINE, || {
        let exe = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        exe.ends_with("sleep").then_some(())
    });
    let process = looks.runtime.block_on(looks.capture.look_up(captured)).principal.process;
    assert!(process.comm.starts_with("python"), "it connected as that: {}", process.comm);
    assert_eq!(
        (&process.exe, &process.exe_inside),
        (&None, &None),
        "it did not run what it is now"
    );
    assert_eq!((process.argv.len(), process.exe_sha256), (0, None));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    child.wait().unwrap();
}

#[test]
fn a_thread_connects_for_its_process_also_when_the_first_has_ended() {
    let looks = Looks::new();
    for first in
        ["sys.stdin.read()", "libc.syscall(60 if os.uname().machine == 'x86_64' else 93, 0)"]
    {
        let ends = if first.contains("syscall") { "True" } else { "False" };
        // The thread's name is its own; the process is the same.
        let code = format!(
            "
import threading, time
def work():
    libc.prctl(15, b'a-thread', 0, 0, 0)
    while {ends} and 'Z' not in open('/proc/self/stat').read().rsplit(')')[1]: time.sleep(0.01)
    {CONNECT}    sys.stdin.read(); os._exit(0)
threading.Thread(target=work).start()
{first}
"
        );
        let held = looks.held(looks.bench.governed("coder", &code));
        let process = &held.who.process;
        assert_eq!(process.comm, "a-thread");
        assert!(Path::new(&format!("/proc/{}/task", process.pid)).exists(), "{first}");
        assert_eq!(process.exe, Some(python()), "{first}");
        assert!(process.argv.iter().any(|arg| arg == "-I"), "{first}: {:?}", process.argv);
    }
}

/// An executable that the host does not have at the path it goes by: deleted, or in mounts that
/// the process made, as every user can in a user namespace.
#[test]
fn a_path_that_the_host_has_for_another_file_is_not_the_executables() {
    let looks = Looks::new();
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("copy");
    fs::copy(python(), &copy).unwrap();
    let run = |as_path: &Path| format!("exec {} -I -S -c \"$CODE\" 2>/dev/null", as_path.display());
    let disguised = Path::new("/usr/bin/true");
    let cases = [
        // Where the host has it.
        (run(&copy), copy.clone(), true),
        (
            format!(
                "exec unshare --mount sh -c 'mount --bind {} {}; {}'",
                copy.display(),
                disguised.display(),
                run(disguised)
            ),
            disguised.to_owned(),
            false,
        ),
        (
            format!(
                "cp {0} {0}2; {1}",
                copy.display(),
                run(Path::new(&format!("{}2", copy.display())))
            ),
            PathBuf::from(format!("{}2 (deleted)", copy.display())),
            false,
        ),
    ];
    for (script, path, on_host) in cases {
        let code =
            format!("if '2' in sys.executable[-1:]: os.unlink(sys.executable)\n{CONNECT}{STAY}");
        let held = looks.held(looks.bench.governed_by("coder", &script, &code));
        let process = &held.who.process;
        let (exe, inside) = if on_host { (Some(path), None) } else { (None, Some(path)) };
        assert_eq!((&process.exe, &process.exe_inside), (&exe, &inside), "{script}");
        assert_eq!(process.exe_sha256, sha256(&copy), "{script}");
    }
}
