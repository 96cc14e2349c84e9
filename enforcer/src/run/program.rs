//! The last steps of the program's own process: descriptors, limits, signals,
//! the floor, directory, `exec`. What goes wrong is told through a pipe that
//! `exec` closes.

use super::caller::Caller;
use super::floor;
use super::stdio::ProgramSide;
use super::wire::{Run, Spec};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Pid, Uid, execve, setpgid, tcsetpgrp};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Searched when the caller has no `PATH` (the shell's own default).
const DEFAULT_PATH: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Why the program does not run.
#[derive(Debug)]
pub(super) struct ExecFailure {
    code: u8,
    reason: String,
}

impl fmt::Display for ExecFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl ExecFailure {
    /// As a shell would exit: 127 not found, 126 not to be executed; 1 for our own reasons.
    pub(super) fn code(&self) -> u32 {
        self.code.into()
    }

    /// Reads the pipe to its end; `None` when `exec` closed it.
    pub(super) fn read(pipe: OwnedFd) -> Option<Self> {
        let mut bytes = Vec::new();
        let failed = File::from(pipe).take(4096).read_to_end(&mut bytes).is_err();
        match bytes.split_first() {
            Some((code, reason)) => {
                Some(Self { code: *code, reason: String::from_utf8_lossy(reason).into_owned() })
            }
            None if failed => {
                Some(Self { code: 1, reason: "the start cannot be followed".to_owned() })
            }
            None => None,
        }
    }
}

/// Turns this process into the program, or says why not and ends.
#[expect(clippy::exit, reason = "a forked child must not return into its parent's code")]
pub(super) fn become_it(
    spec: &Spec,
    run: &Run,
    stdio: ProgramSide,
    caller: &Caller,
    tell: OwnedFd,
) -> ! {
    let (failure, mut tell) = match prepare(stdio, caller, run, tell) {
        Err((failure, tell)) => (failure, File::from(tell)),
        Ok(tell) => {
            let Err(failure) = drop_and_exec(spec, run);
            (failure, File::from(tell))
        }
    };
    let mut bytes = vec![failure.code];
    bytes.extend_from_slice(failure.reason.as_bytes());
    let _ = tell.write_all(&bytes);
    std::process::exit(failure.code.into())
}

/// Everything before privileges go. Leaves descriptors 0 to 2, and the pipe as 3.
fn prepare(
    stdio: ProgramSide,
    caller: &Caller,
    run: &Run,
    tell: OwnedFd,
) -> Result<OwnedFd, (ExecFailure, OwnedFd)> {
    let steps = || -> Result<(), ExecFailure> {
        let ours = |what: &'static str| move |errno: Errno| failed(1, what, errno);
        // A group of its own below the session, as a shell makes for a job, so
        // that the terminal can stop and continue it.
        let own = Pid::from_raw(0);
        setpgid(own, own).map_err(ours("setpgid"))?;
        if let Some(n) = stdio.terminal {
            tcsetpgrp(&stdio.fds[n], nix::unistd::getpid()).map_err(ours("tcsetpgrp"))?;
        }
        caller.take_over();
        // Above 3 first, so that none is written over before it is used.
        let mut high = Vec::with_capacity(4);
        for fd in stdio.fds.iter().chain([&tell]) {
            high.push(fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(10)).map_err(ours("fcntl"))?);
        }
        for (target, fd) in high.into_iter().enumerate() {
            let flags = if target == 3 { libc::O_CLOEXEC } else { 0 };
            let target = RawFd::try_from(target).unwrap_or(RawFd::MAX);
            // SAFETY: the numbers 0 to 3 belong to nobody else any more: `tell`, if it was
            // one of them, has its copy in `high`, and this process is about to exec.
            let result = unsafe { libc::dup3(fd, target, flags) };
            Errno::result(result).map_err(ours("dup3"))?;
        }
        let mask = nix::sys::stat::Mode::from_bits_truncate(run.umask & 0o777);
        nix::sys::stat::umask(mask);
        default_signals();
        Ok(())
    };
    match steps() {
        Err(failure) => Err((failure, tell)),
        Ok(()) => {
            // They end with close_range, not with a destructor.
            std::mem::forget((stdio, tell));
            // SAFETY: descriptor 3 was made above and nothing else owns it.
            let tell = unsafe { OwnedFd::from_raw_fd(3) };
            match floor::close_from(4) {
                Ok(()) => Ok(tell),
                Err(error) => Err((ours(&error), tell)),
            }
        }
    }
}

fn drop_and_exec(spec: &Spec, run: &Run) -> Result<Infallible, ExecFailure> {
    let groups: Vec<Gid> = spec.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    floor::drop_to(Uid::from_raw(spec.uid), Gid::from_raw(spec.gid), &groups)
        .map_err(|error| ours(&error))?;
    // With the program's own rights.
    nix::unistd::chdir(run.cwd.as_slice()).map_err(|errno| {
        let dir = String::from_utf8_lossy(&run.cwd);
        let way = "start it from one that this user may enter, or give --user";
        failed(1, &format!("entering the directory {dir} as its user ({way})"), errno)
    })?;
    exec(run)
}

/// As `execvp` with the program's own `PATH`.
fn exec(run: &Run) -> Result<Infallible, ExecFailure> {
    let words = |list: &[Vec<u8>]| -> Result<Vec<CString>, ExecFailure> {
        list.iter()
            .map(|word| CString::new(word.as_slice()).map_err(|_| failed(1, "NUL", Errno::EINVAL)))
            .collect()
    };
    let (argv, env) = (words(&run.argv)?, words(&run.env)?);
    let name = run.argv.first().map(Vec::as_slice).unwrap_or_default();
    let path = run.env.iter().find_map(|e| e.strip_prefix(b"PATH="));
    let mut worst = Errno::ENOENT;
    for candidate in candidates(name, path.unwrap_or(DEFAULT_PATH)) {
        let Ok(file) = CString::new(candidate) else {
            continue;
        };
        match run_file(&file, &argv, &env) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // It is there, or in a directory that is closed to this user; a
            // later one on the path may still do.
            Errno::EACCES => {
                if nix::sys::stat::stat(file.as_c_str()).is_ok() {
                    worst = Errno::EACCES;
                }
            }
            errno => {
                worst = errno;
                break;
            }
        }
    }
    let code = if worst == Errno::ENOENT { 127 } else { 126 };
    Err(failed(code, &String::from_utf8_lossy(name), worst))
}

fn run_file(file: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let Err(errno) = execve(file, argv, env);
    if errno != Errno::ENOEXEC {
        return errno;
    }
    // No interpreter line: a script for the shell, as execvp has it.
    let mut words = vec![c"/bin/sh".to_owned(), file.to_owned()];
    words.extend(argv.iter().skip(1).cloned());
    let Err(errno) = execve(c"/bin/sh", &words, env);
    errno
}

fn candidates(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    path.split(|b| *b == b':')
        .map(|dir| {
            let dir = if dir.is_empty() { b"." } else { dir };
            [dir, b"/", name].concat()
        })
        .collect()
}

/// The runtime ignores SIGPIPE and init blocks everything; a program starts with neither.
fn default_signals() {
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no handler. KILL and STOP refuse, which is as good.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    let _ = SigSet::empty().thread_set_mask();
}

fn failed(code: u8, what: &str, errno: Errno) -> ExecFailure {
    ExecFailure { code, reason: format!("{what}: {}", errno.desc()) }
}

fn ours(error: &floor::FloorError) -> ExecFailure {
    ExecFailure { code: 1, reason: format!("the confinement cannot be set up: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_slash_is_not_searched() {
        assert_eq!(candidates(b"./a", b"/bin"), vec![b"./a".to_vec()]);
        assert_eq!(
            candidates(b"a", b"/bin::/x"),
            vec![b"/bin/a".to_vec(), b"./a".to_vec(), b"/x/a".to_vec()]
        );
    }

    #[test]
    fn a_closed_pipe_means_that_it_runs() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        drop(writer);
        assert!(ExecFailure::read(reader).is_none());
        let (reader, writer) = nix::unistd::pipe().unwrap();
        File::from(writer).write_all(b"\x7fno such").unwrap();
        let failure = ExecFailure::read(reader).unwrap();
        assert_eq!((failure.code(), failure.to_string().as_str()), (127, "no such"));
    }
}
