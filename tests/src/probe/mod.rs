//! A bench for the kernel half: two network namespaces joined by a wire, a
//! governed cgroup of its own, and programs that are run inside or outside it.
//!
//! Everything has a unique name and goes away with the bench. Nothing outside
//! is touched: no program is ever attached to a cgroup that the bench did not make.

pub mod gate;
pub mod wire;

use enforcer::capture::{self, Capture};
use enforcer::config::Config;
use nix::sched::{CloneFlags, setns};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The inside's address on the wire.
pub const INSIDE4: &str = "10.77.0.1";
/// The outside's address on the wire.
pub const OUTSIDE4: &str = "10.77.0.2";
/// The outside's IPv6 address on the wire.
pub const OUTSIDE6: &str = "fd77::2";
/// The port that the outside listens on.
pub const OUTSIDE_PORT: u16 = 8080;

/// How long anything that must happen may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One bench. The thread that makes it is moved into the inside's network namespace.
pub struct Bench {
    name: String,
    root: PathBuf,
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
        assert!(
            nix::unistd::geteuid().is_root(),
            "this suite loads BPF programs and needs root"
        );
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ek{}x{number}", std::process::id());
        let mount = capture::cgroup2_mount().expect("a cgroup2 mount");
        let config = config(&name);
        let bench = Self {
            root: mount.join(format!("{name}.slice")),
            config,
            name,
        };
        let (inside, outside) = (bench.namespace("i"), bench.namespace("o"));
        run("ip", &["netns", "add", &inside]);
        run("ip", &["netns", "add", &outside]);
        let (near, far) = (format!("{}a", bench.name), format!("{}b", bench.name));
        let [veth, peer] = ["veth", "peer"];
        run(
            "ip",
            &[
                "link", "add", &near, "netns", &inside, "type", veth, peer, "name", &far, "netns",
                &outside,
            ],
        );
        for (namespace, device, v4, v6) in [
            (&inside, &near, "10.77.0.1/24", "fd77::1/64"),
            (&outside, &far, "10.77.0.2/24", "fd77::2/64"),
        ] {
            let ip = |args: &[&str]| run("ip", &[&["-n", namespace.as_str()], args].concat());
            ip(&["link", "set", "lo", "up"]);
            ip(&["addr", "add", v4, "dev", device]);
            ip(&["addr", "add", v6, "dev", device, "nodad"]);
            ip(&["link", "set", device, "up"]);
        }
        let ip = |args: &[&str]| run("ip", &[&["-n", inside.as_str()], args].concat());
        ip(&["route", "add", "default", "via", OUTSIDE4]);
        ip(&["-6", "route", "add", "default", "via", OUTSIDE6]);
        enter(&inside);
        bench
    }

    fn namespace(&self, side: &str) -> String {
        format!("{}{side}", self.name)
    }

    /// The name of the inside's end of the wire.
    pub fn device(&self) -> String {
        format!("{}a", self.name)
    }

    /// Installs the kernel half, without a beat.
    pub fn install(&self) -> Capture {
        capture::install(&self.config).expect("the kernel half installs")
    }

    /// The governed root's directory.
    pub fn root(&self) -> &PathBuf {
        &self.root
    }

    /// Runs a Python program as agent `agent` (`a/task-b` and deeper work too).
    pub fn governed(&self, agent: &str, code: &str) -> Output {
        let dir = self.root.join(agent);
        fs::create_dir_all(&dir).expect("the agent's cgroup");
        python(Some(dir), code)
    }

    /// Runs a Python program in the same namespace, governed by nothing.
    pub fn free(&self, code: &str) -> Output {
        python(None, code)
    }

    /// A thread in the outside's network namespace.
    pub fn outside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = self.namespace("o");
        thread::spawn(move || {
            enter(&namespace);
            work()
        })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whatever is left is reported by the next run's own failures, not by a panic here.
        let _killed = fs::write(self.root.join("cgroup.kill"), "1");
        if let Err(e) = capture::detach(&self.config) {
            eprintln!("detaching {}: {e}", self.name);
        }
        let until = Instant::now() + DEADLINE;
        while self.root.exists() && Instant::now() < until {
            remove_tree(&self.root);
        }
        for side in ["i", "o"] {
            let _gone = Command::new("ip")
                .args(["netns", "del", &self.namespace(side)])
                .status();
        }
    }
}

/// Removes a cgroup and those below it, deepest first; those with processes stay.
fn remove_tree(dir: &PathBuf) {
    if let Ok(entries) = fs::read_dir(dir) {
        for entry in entries.flatten().filter(|e| e.path().is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _gone = fs::remove_dir(dir);
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
        "policy": {"dir": "/nonexistent"},
    });
    serde_json::from_value(value).expect("the bench's configuration")
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
    setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
}

fn run(program: &str, args: &[&str]) {
    let out = Command::new(program)
        .args(args)
        .output()
        .expect("the program starts");
    assert!(out.status.success(), "{program} {args:?}: {out:?}");
}

/// A shell moves itself, then becomes Python: every socket is born inside.
fn python(cgroup: Option<PathBuf>, code: &str) -> Output {
    let enter = cgroup.map_or_else(String::new, |dir| {
        format!("echo $$ > {}/cgroup.procs && ", dir.display())
    });
    Command::new("timeout")
        .args(["20", "sh", "-c"])
        .arg(format!("{enter}exec python3 -I -S -c \"$CODE\""))
        .env("CODE", format!("{PRELUDE}\n{code}"))
        .output()
        .expect("python3 starts")
}

/// What every probe can use: errors become one word on standard output.
const PRELUDE: &str = "
import socket, sys, os, errno, struct
from socket import *
def attempt(f):
    try:
        print('ok', f())
    except OSError as e:
        print(errno.errorcode.get(e.errno, e))
";

/// Standard output of a program that ended well.
pub fn said(out: &Output) -> String {
    assert!(
        out.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}
