//! A named network namespace.

use super::ip;
use std::ffi::OsStr;
use std::process::Command;

/// A network namespace that goes with this value.
#[derive(Debug)]
pub struct NetNs {
    name: String,
}

impl NetNs {
    /// Makes the namespace.
    pub fn new(name: &str) -> Self {
        ip(&["netns", "add", name]);
        Self { name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, for `setns`.
    pub fn file(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `ip` inside; panics with its words when it fails.
    pub fn ip(&self, args: &[&str]) {
        let mut all = vec!["-n", &self.name];
        all.extend_from_slice(args);
        ip(&all);
    }

    /// A command that will run inside. `nsenter` and not `ip netns exec`: the
    /// latter mounts a fresh /sys, which hides cgroups and pinned BPF objects.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.file())).arg("--").arg(program);
        command
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}
