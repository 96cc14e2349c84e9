//! `--sandbox`: nothing is left where others would run it, and nobody's fifo is written to.
//! Each denial beside the same program without it.

use crate::host::{Host, SOON, said};
use enforcer_tests::wait::eventually;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Output;

/// A directory of everybody outside of `/tmp`, as a project is.
fn shared() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/srv").unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

fn sh(host: &Host, options: &[&str], at: &Path, script: &str) -> Output {
    host.run(options, &["sh", "-c", script]).current_dir(at).output().unwrap()
}

#[test]
fn only_the_directory_of_the_work_can_be_written() {
    let host = Host::start();
    let (work, other) = (shared(), shared());
    let elsewhere = other.path().join("startup");
    let script = format!("echo kept > here && echo left > {}", elsewhere.display());
    assert!(sh(&host, &[], work.path(), &script).status.success(), "the control writes both");
    assert!(elsewhere.exists());
    fs::remove_file(&elsewhere).unwrap();
    let out = sh(&host, &["--sandbox"], work.path(), &script);
    assert!(!out.status.success());
    assert!(String::from_utf8_lossy(&out.stderr).contains("Read-only file system"), "{out:?}");
    assert!(!elsewhere.exists());
    assert_eq!(fs::read_to_string(work.path().join("here")).unwrap(), "kept\n");
}

#[test]
fn homes_and_temporary_files_are_new_and_end_with_the_run() {
    let host = Host::start();
    let work = shared();
    let left = tempfile::NamedTempFile::new_in("/tmp").unwrap();
    fs::set_permissions(left.path(), fs::Permissions::from_mode(0o666)).unwrap();
    let script = format!(
        "ls /root /home | grep -v : | tr -d '\\n'; test -e {} || echo gone; \
         echo x > /tmp/mine && cat /tmp/mine; python3 -c 'import os; os.openpty()' && echo pty",
        left.path().display()
    );
    assert!(!said(&sh(&host, &[], work.path(), &script)).contains("gone"), "the control sees it");
    assert_eq!(said(&sh(&host, &["--sandbox"], work.path(), &script)), "gone\nx\npty\n");
    assert!(fs::remove_file("/tmp/mine").is_ok(), "the control's own");
}

#[test]
fn a_fifo_of_others_takes_nothing() {
    let host = Host::start();
    let (work, other) = (shared(), shared());
    let fifo = other.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    fs::set_permissions(&fifo, fs::Permissions::from_mode(0o666)).unwrap();
    let mut accomplice = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
        .open(&fifo)
        .unwrap();
    let mut log = String::new();
    let script = |word: &str| format!("echo {word} > {}", fifo.display());
    let out = sh(&host, &["--sandbox"], work.path(), &script("sandboxed"));
    assert!(out.status.success(), "it goes nowhere: {out:?}");
    assert!(sh(&host, &[], work.path(), &script("control")).status.success());
    eventually("the control arrives", SOON, || {
        let mut buffer = [0; 64];
        let n = accomplice.read(&mut buffer).ok()?;
        log.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        log.contains("control").then_some(())
    });
    assert_eq!(log, "control\n");
}

#[test]
fn a_directory_that_holds_more_than_work_is_refused() {
    let host = Host::start();
    for dir in ["/", "/tmp", "/usr"] {
        let out = host.run(&["--sandbox"], &["true"]).current_dir(dir).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{dir}: {out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("directory of its own"), "{out:?}");
    }
    let closed = shared();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let out = host.run(&["--sandbox"], &["true"]).current_dir(closed.path()).output().unwrap();
    assert!(!out.status.success(), "its user may not go there: {out:?}");
}
