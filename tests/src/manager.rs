//! A service manager as far as the daemon sees it: it keeps descriptors while no daemon runs
//! and hands them to the next one, as systemd does (`sd_notify(3)`, `sd_listen_fds(3)`).

use enforcer::run::wire::recv_with_fds;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The manager of one service.
#[derive(Debug)]
pub struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
    kept: BTreeMap<String, OwnedFd>,
}

impl Manager {
    /// Listens for a service's words in this directory.
    pub fn new(dir: &Path) -> Self {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        Self { path, socket, kept: BTreeMap::new() }
    }

    /// The names of the descriptors that it keeps.
    pub fn kept(&mut self) -> Vec<&str> {
        let mut buffer = [0; 4096];
        while let Ok((length, fds)) = recv_with_fds(&self.socket, &mut buffer) {
            let words = String::from_utf8_lossy(&buffer[..length]);
            let Some(name) = words.lines().find_map(|line| line.strip_prefix("FDNAME=")) else {
                continue;
            };
            if words.lines().any(|line| line == "FDSTOREREMOVE=1") {
                self.kept.remove(name);
            }
            for fd in fds {
                self.kept.insert(name.to_owned(), fd);
            }
        }
        self.kept.keys().map(String::as_str).collect()
    }

    /// Starts a command as its service, with what it keeps; its output goes to this file.
    pub fn spawn(&mut self, command: &Command, log: &File) -> Child {
        let names = self.kept().join(":");
        // The shell puts each where systemd would: 3 and on. By way of numbers that none
        // has, because 3 may be one of them.
        let (mut away, mut back) = (String::new(), String::new());
        for (n, fd) in self.kept.values().enumerate() {
            away.push_str(&format!("exec {}<&{}; ", n + 100, fd.as_raw_fd()));
            back.push_str(&format!("exec {}<&{} {1}<&-; ", n + 3, n + 100));
            inherit(fd, true);
        }
        let child = Command::new("bash")
            .arg("-c")
            .arg(format!("{away}{back}export LISTEN_PID=$$; exec \"$@\""))
            .arg("bash")
            .arg(command.get_program())
            .args(command.get_args())
            .env("NOTIFY_SOCKET", &self.path)
            .env("LISTEN_FDS", self.kept.len().to_string())
            .env("LISTEN_FDNAMES", names)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log.try_clone().expect("dup"))
            .spawn()
            .expect("bash starts");
        for fd in self.kept.values() {
            inherit(fd, false);
        }
        child
    }
}

fn inherit(fd: &OwnedFd, by_children: bool) {
    let flag = if by_children { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(fd, FcntlArg::F_SETFD(flag)).expect("set");
}
