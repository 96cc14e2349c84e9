//! Attacks on the daemon by a governed process.

use crate::daemon::Deployment;
use crate::world::FAR_V4;
use std::fs;
use std::process::{Child, Stdio};

/// The attacks that `attacks.py` knows.
pub const ATTACKS: &[&str] = &[
    "idle", "hello", "head", "body", "reader", "resets", "huge", "names", "dns-tcp", "refused",
    "forks",
];

/// Begins an attack as this agent; it ends by itself after so many seconds.
pub fn attack(deployment: &Deployment, agent: &str, name: &str, seconds: u32) -> Child {
    deployment
        .governed(agent, "python3")
        .args(["-I", "-S", "-c", include_str!("attacks.py"), name, FAR_V4, &seconds.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// Memory of a process that is its own and in use: `RssAnon` of proc_pid_status(5), bytes.
pub fn memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib * 1024
}
