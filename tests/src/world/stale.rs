//! What a run that was interrupted left behind.

use crate::daemon::{hierarchies, remove_cgroup};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Ends and removes the worlds whose maker no longer runs: their programs, namespaces,
/// cgroups and pins. A world of a running process is left alone.
pub(super) fn remove() {
    for name in ["enfh", "enff", "enfk"].into_iter().flat_map(|kind| names("/run/netns", kind)) {
        let pids = Command::new("ip").args(["netns", "pids", &name]).output();
        let pids = pids.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        for pid in pids.unwrap_or_default().split_whitespace().filter_map(|p| p.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = Command::new("ip").args(["netns", "del", &name]).output();
    }
    for name in names("/sys/fs/bpf", "enforcer-test-") {
        let _ = fs::remove_dir_all(Path::new("/sys/fs/bpf").join(name));
    }
    // In version 1 too: container runtimes make theirs in all that are mounted.
    for cgroups in hierarchies("cgroup2").into_iter().chain(hierarchies("cgroup")) {
        for name in names(&cgroups.to_string_lossy(), "enforcer-test-") {
            remove_cgroup(&cgroups.join(name));
        }
    }
}

/// The names in a directory that begin so and belong to a world whose maker is gone.
fn names(dir: &str, prefix: &'static str) -> impl Iterator<Item = String> {
    fs::read_dir(dir).into_iter().flatten().flatten().filter_map(move |entry| {
        let name = entry.file_name().into_string().ok()?;
        // The same number that `World::new` puts there.
        let (pid, _) = name.strip_prefix(prefix)?.split_once('-')?;
        let pid = i32::from_str_radix(pid, 16).ok()?;
        let gone = kill(Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH);
        gone.then_some(name)
    })
}
