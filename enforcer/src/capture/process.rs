//! What `/proc` says of a process that the kernel half named.
//!
//! A pid can belong to somebody else by the time it is looked up, and to somebody
//! else altogether where the daemon sees other pids than the kernel half. A process
//! that started after the recorded call is somebody else, and so is one that
//! started anew while it was read, or that is in another cgroup than the caller
//! was: nothing is taken from those. Nor is anything of the program that a process became after
//! it connected.

use super::exe::{Exe, Hashes};
use crate::principal::Process;
use crate::run::cgroup::of_process;
use enforcer_common::flow::{FlowEntry, OWN_NUMBERS, image};
use nix::sys::statfs::fstatfs;
use nix::unistd::{SysconfVar, sysconf};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;

/// Fields of `/proc/PID/stat`.
const START_TIME: usize = 22;
const START_STACK: usize = 28;

/// Bytes of an argument vector that are kept.
const MAX_ARGV: u64 = 4 << 10;

/// The process behind a flow, as the kernel half recorded it.
pub(super) fn recorded(entry: &FlowEntry) -> Process {
    Process {
        pid: entry.tgid,
        uid: entry.uid,
        gid: entry.gid,
        comm: comm(&entry.comm),
        ..Process::default()
    }
}

/// Reads the process behind a flow, which called from this cgroup (a path below the cgroup2
/// mount). It may take for ever: the executable, and the memory that the
/// arguments are in, may lie on a file system that does not answer.
pub(super) fn read(entry: &FlowEntry, from: &str, hashes: &Hashes) -> Process {
    let known = recorded(entry);
    let Some(start) = start_ticks(entry.tgid) else {
        return known;
    };
    if ticks_to_ns(start) > u128::from(entry.boot_ns) {
        return known;
    }
    if of_process(entry.tgid.cast_signed()).ok().as_deref() != Some(from) {
        return known;
    }
    let dir = dir(entry);
    let exe = hashes.of(entry.cgroup, &dir);
    let argv = super::argv::conceal(argv(&dir));
    if start_ticks(entry.tgid) != Some(start) || became_another(entry, &dir) {
        return known;
    }
    let Exe { host: exe, inside: exe_inside, sha256: exe_sha256 } = exe;
    Process { start_ticks: start, exe, exe_inside, exe_sha256, argv, ..known }
}

/// Whether the process runs another program than when it called, or the same one anew.
fn became_another(entry: &FlowEntry, dir: &str) -> bool {
    // The kernel half could not say, or the call was no connect of a stream.
    entry.image != 0 && running_image(dir) != Some(entry.image)
}

/// What the process runs now; the kernel half computes the same.
fn running_image(dir: &str) -> Option<u32> {
    let stat = fs::read_to_string(format!("{dir}/stat")).ok()?;
    let exe = File::open(format!("{dir}/exe")).ok()?;
    let magic = fstatfs(&exe).ok()?.filesystem_type().0;
    let own = OWN_NUMBERS.contains(&u64::try_from(magic).ok()?);
    let inode = if own { 0 } else { exe.metadata().ok()?.ino() };
    Some(image(inode, field(&stat, START_STACK)?))
}

/// Where the process shows its executable and arguments. Its first thread may have ended before
/// the one that connected, and shows none any more.
fn dir(entry: &FlowEntry) -> String {
    let process = format!("/proc/{}", entry.tgid);
    if fs::read_link(format!("{process}/exe")).is_ok() {
        return process;
    }
    format!("{process}/task/{}", entry.tid)
}

/// The command name of a record.
fn comm(bytes: &[u8; 16]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

fn ticks_to_ns(ticks: u64) -> u128 {
    let hz = sysconf(SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|hz| u128::try_from(hz).ok())
        .filter(|hz| *hz > 0)
        .unwrap_or(100);
    u128::from(ticks) * 1_000_000_000 / hz
}

fn start_ticks(pid: u32) -> Option<u64> {
    parse_start(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_start(stat: &str) -> Option<u64> {
    field(stat, START_TIME)
}

/// A field of `/proc/PID/stat`, counted from 1 (proc_pid_stat(5)). The name in field 2 may hold
/// spaces and parentheses, so counting starts after the last one.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(number.checked_sub(3)?)?.parse().ok()
}

fn argv(dir: &str) -> Vec<String> {
    let mut bytes = Vec::new();
    let Ok(file) = File::open(format!("{dir}/cmdline")) else {
        return Vec::new();
    };
    // What was read before an error is what there is.
    let _read = file.take(MAX_ARGV).read_to_end(&mut bytes);
    split_argv(&bytes)
}

fn split_argv(bytes: &[u8]) -> Vec<String> {
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sys;
    use super::*;

    fn entry(boot_ns: u64) -> FlowEntry {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"test");
        FlowEntry {
            cookie: 1,
            cgroup: 2,
            boot_ns,
            orig_addr: [0; 16],
            orig_port: 443,
            tgid: std::process::id(),
            tid: 0,
            uid: 5,
            gid: 6,
            image: 0,
            comm,
        }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 98765 1 2 3";
        assert_eq!(parse_start(stat), Some(98_765));
        assert_eq!(parse_start("42 (x"), None);
        assert_eq!(parse_start("42 (x) S 1"), None);
    }

    #[test]
    fn own_process_is_read() {
        let process = read(&entry(sys::boottime_ns()), &own_cgroup(), &Hashes::default());
        assert_eq!(process.comm, "test");
        assert_eq!((process.uid, process.gid), (5, 6));
        assert!(process.start_ticks > 0);
        assert!(process.exe.is_some() && process.exe_sha256.is_some());
        assert_eq!(process.exe_inside, None);
        assert!(!process.argv.is_empty());
    }

    fn own_cgroup() -> String {
        of_process(std::process::id().cast_signed()).unwrap()
    }

    #[test]
    fn a_process_in_another_cgroup_than_the_caller_is_somebody_else() {
        for other in ["/elsewhere".to_owned(), own_cgroup() + "x", String::new()] {
            let process = read(&entry(sys::boottime_ns()), &other, &Hashes::default());
            assert_eq!(process.start_ticks, 0, "{other}");
            assert_eq!((process.exe, process.exe_sha256), (None, None));
            assert!(process.argv.is_empty());
        }
    }

    #[test]
    fn a_process_younger_than_the_call_is_somebody_else() {
        let process = read(&entry(1), &own_cgroup(), &Hashes::default());
        assert_eq!(process.pid, std::process::id());
        assert_eq!(process.start_ticks, 0);
        assert_eq!((process.exe, process.exe_sha256), (None, None));
        assert!(process.argv.is_empty());
    }

    #[test]
    fn arguments_are_split_at_their_ends() {
        assert_eq!(split_argv(b"curl\0-s\0\0x\0"), ["curl", "-s", "", "x"]);
        assert!(split_argv(b"").is_empty());
        assert!(split_argv(b"\0").is_empty());
        assert_eq!(split_argv(b"\xff\0"), ["\u{fffd}"]);
    }
}
