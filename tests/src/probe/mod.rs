//! A bench for the kernel half: a [`World`], a governed cgroup of its own, and
//! programs that are run inside or outside that cgroup.
//!
//! Nothing outside is touched: no program is ever attached to a cgroup that the
//! bench did not make.

pub mod gate;
pub mod wire;

use crate::wait::eventually;
use crate::world::World;
use enforcer::capture::{self, Capture};
use enforcer::config::Config;
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

/// The proxy's port on a bench.
pub const PROXY: u16 = 15_001;
/// The resolver's port on a bench.
pub const RESOLVER: u16 = 15_053;
/// The port that the far side listens on.
pub const FAR_PORT: u16 = 8080;
/// How long anything that must happen may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// One bench. The thread that makes it is moved into the host side's network namespace.
#[derive(Debug)]
pub struct Bench {
    root: PathBuf,
    world: World,
    /// The configuration that the kernel half is installed with.
    pub config: Config,
}

impl Bench {
    /// Makes the namespaces, the wire and the configuration.
    ///
    /// # Panics
    /// Without root, and when anything cannot be made: a guard that was not tried is not a
    /// guard that holds.
    pub fn new() -> Self {
        let world = World::new();
        let name = format!("enfk{}", world.id);
        let mount = capture::cgroup2_mount().expect("a cgroup2 mount");
        // Whether ping sockets may exist at all is this namespace's own setting.
        let sysctl = "net.ipv4.ping_group_range=0 2147483647";
        let set = world.host.command("sysctl").args(["-qw", sysctl]).status().expect("sysctl");
        assert!(set.success());
        enter(&world.host.file());
        Self { root: mount.join(format!("{name}.slice")), config: config(&name), world }
    }

    /// Installs the kernel half, without a beat.
    pub fn install(&self) -> Capture {
        capture::install(&self.config).expect("the kernel half installs")
    }

    /// The governed root's directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The directory of a cgroup below the root; made when missing.
    pub fn cgroup(&self, agent: &str) -> PathBuf {
        let dir = self.root.join(agent);
        fs::create_dir_all(&dir).expect("the agent's cgroup");
        dir
    }

    /// A Python program as agent `agent` (`a/task-b` and deeper work too).
    pub fn governed(&self, agent: &str, code: &str) -> Command {
        self.governed_by(agent, PYTHON, code)
    }

    /// The same, started by these words of a shell, which find the program in `$CODE`.
    pub fn governed_by(&self, agent: &str, start: &str, code: &str) -> Command {
        let enter = format!("echo $$ > {}/cgroup.procs && {start}", self.cgroup(agent).display());
        python(Command::new("timeout"), &enter, code)
    }

    /// A Python program in the same namespace, governed by nothing.
    pub fn free(&self, code: &str) -> Command {
        python(Command::new("timeout"), PYTHON, code)
    }

    /// A Python program on the far side.
    pub fn far(&self, code: &str) -> Command {
        python(self.world.far.command("timeout"), PYTHON, code)
    }

    /// A thread in the far side's network namespace.
    pub fn far_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.world.far.file();
        thread::spawn(move || {
            enter(&namespace);
            work()
        })
    }
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if self.root.exists() {
            fs::write(self.root.join("cgroup.kill"), "1").expect("killing what is left");
        }
        if let Err(error) = capture::detach(&self.config) {
            eprintln!("detaching: {error}");
        }
        // Killed processes leave a moment later.
        eventually("the cgroups are removed", DEADLINE, || {
            remove_tree(&self.root);
            (!self.root.exists()).then_some(())
        });
    }
}

/// Removes a cgroup and those below it, deepest first; those with processes stay.
fn remove_tree(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_tree(&entry.path());
        }
    }
    let _stays_while_used = fs::remove_dir(dir);
}

/// Whether a layer holds on this kernel. The layers that `ENFORCER_LAYERS` names (separated by
/// commas) have to: where they are known to be there, nothing is left out.
///
/// # Panics
/// When one of those does not hold.
pub fn holds(capture: &Capture, layer: &str) -> bool {
    let found = capture.layers().into_iter().find(|found| found.name == layer).expect("a layer");
    let demanded = std::env::var("ENFORCER_LAYERS").unwrap_or_default();
    let demanded = demanded.split(',').any(|name| name == layer);
    assert!(found.holds || !demanded, "the layer {layer} does not hold: {}", found.detail);
    if !found.holds {
        eprintln!("the layer {layer} is not tried here: {}", found.detail);
    }
    found.holds
}

fn config(name: &str) -> Config {
    let value = serde_json::json!({
        "host": {"name": "bench"},
        "governed": [{"cgroup": format!("/{name}.slice")}],
        "kernel": {
            "pin_dir": format!("/sys/fs/bpf/{name}"),
            "heartbeat_limit_ms": 600_000,
            "max_flows": 1024,
        },
        "proxy": {"port": PROXY, "dns_port": RESOLVER},
        "policy": {"dir": "/nonexistent"},
    });
    serde_json::from_value(value).expect("the bench's configuration")
}

fn enter(namespace: &str) {
    let file = File::open(namespace).expect("the namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
}

/// How a shell becomes the program.
const PYTHON: &str = "exec /usr/bin/python3 -I -S -c \"$CODE\"";

/// A probe's program with all that its ways use.
pub fn with_prelude(code: &str) -> String {
    format!("{PRELUDE}\n{code}")
}

/// A shell moves itself first, then becomes Python: every socket is born inside.
fn python(mut timeout: Command, script: &str, code: &str) -> Command {
    timeout.args(["100", "bash", "-c", script]).env("CODE", with_prelude(code));
    timeout
}

/// What every program can use. `attempt` prints one word: what came of a call.
const PRELUDE: &str = r#"
import os, sys, errno, struct, ctypes, select
from socket import *
FAR4, FAR6, NEAR4, FAR_PORT = '10.77.0.2', 'fd77::2', '10.77.0.1', 8080
setdefaulttimeout(10)
libc = ctypes.CDLL(None, use_errno=True)
def wire(): return if_nametoindex('wire')
def checked(done):
    if done < 0: raise OSError(ctypes.get_errno(), 'call')
    return done
def sockaddr(family, host, port):
    return struct.pack('=H', family) + struct.pack('!H', port) + inet_pton(AF_INET, host) + bytes(8)
def attempt(f):
    try:
        return 'ok' if f() is None else 'ok'
    except TimeoutError:
        return 'timeout'
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
"#;

/// Standard output of a program that ended well.
pub fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}\n{out}\n{err}");
    out.trim().to_owned()
}
