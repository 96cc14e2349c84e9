//! The cgroup of one run: made before anything of the caller's starts, emptied
//! and removed when it ends. The governed root itself is never touched.

use crate::principal::AgentName;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the members of an ended run may take to be gone.
const DRAIN: Duration = Duration::from_secs(10);

/// A cgroup below a governed root, `<root>/<agent>[/task-<task>]/<run>`.
#[derive(Debug)]
pub struct RunCgroup {
    root: PathBuf,
    path: PathBuf,
}

impl RunCgroup {
    /// Makes the run's cgroup and its parents below `root`, which must be there.
    pub fn make(root: &Path, agent: &AgentName, task: &str, run: &str) -> io::Result<Self> {
        fs::metadata(root.join("cgroup.procs"))?;
        let mut parents = vec![root.join(agent.as_str())];
        if !task.is_empty() {
            parents.push(parents[0].join(format!("task-{task}")));
        }
        let path = parents[parents.len() - 1].join(run);
        // Another run of the same agent may end and take an empty parent with it
        // between two steps; then they are made again.
        let mut tries = 0;
        loop {
            for parent in &parents {
                make_dir(parent)?;
            }
            match fs::create_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 100 => tries += 1,
                other => {
                    other?;
                    return Ok(Self { root: root.to_owned(), path });
                }
            }
        }
    }

    /// The run's cgroup that another process has made.
    pub fn made(root: &Path, agent: &AgentName, task: &str, run: &str) -> io::Result<Self> {
        let mut path = root.join(agent.as_str());
        if !task.is_empty() {
            path.push(format!("task-{task}"));
        }
        path.push(run);
        fs::metadata(path.join("cgroup.procs"))?;
        Ok(Self { root: root.to_owned(), path })
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the calling process a member.
    pub fn join(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.procs"), "0")
    }

    /// Ends every member, waits until the cgroup is empty and removes it, then
    /// each parent below the root that has become empty.
    pub fn remove(self) -> io::Result<()> {
        let deadline = Instant::now() + DRAIN;
        loop {
            self.kill()?;
            match remove_tree(&self.path) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => self.wait_empty(deadline)?,
            }
        }
        let mut parent = self.path.parent();
        while let Some(dir) = parent.filter(|dir| *dir != self.root) {
            // Not empty: another run of the agent lives there.
            if fs::remove_dir(dir).is_err() {
                break;
            }
            parent = dir.parent();
        }
        Ok(())
    }

    fn kill(&self) -> io::Result<()> {
        // cgroup.kill is there since 5.14; before, each member is signalled.
        match fs::write(self.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let procs = match fs::read_to_string(self.path.join("cgroup.procs")) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                    other => other?,
                };
                for pid in procs.lines().filter_map(|line| line.parse().ok()) {
                    let pid = nix::unistd::Pid::from_raw(pid);
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                }
                Ok(())
            }
            other => other,
        }
    }

    /// Waits for the kernel to say that the members changed.
    fn wait_empty(&self, deadline: Instant) -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use std::io::Read;
        use std::os::fd::AsFd;
        let mut events = match fs::File::open(self.path.join("cgroup.events")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let mut text = String::new();
        events.read_to_string(&mut text)?;
        if text.lines().any(|line| line == "populated 1") {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], timeout) {
                // The caller looks again, whatever woke it.
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Removes a cgroup and those that the run made below it, deepest first.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // A vanished parent shows when the run's own directory is made.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The cgroup2 path of a process, as this process sees the hierarchy.
pub fn of_process(pid: i32) -> io::Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
        .ok_or_else(|| io::Error::other("the process is in no cgroup2 cgroup"))
}

/// Whether a cgroup path is a governed root or below one. A path that leads out
/// of what this process can see counts as governed: it cannot be told.
pub fn is_governed<'a>(path: &str, roots: impl IntoIterator<Item = &'a str>) -> bool {
    if path.split('/').any(|part| part == "..") {
        return true;
    }
    roots.into_iter().any(|root| {
        let root = format!("/{}", root.trim_matches('/'));
        path.strip_prefix(&root)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || root == "/")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn governed_is_the_root_and_what_is_below_it() {
        let cases = [
            ("/agents.slice", true),
            ("/agents.slice/bot/1", true),
            ("/agents.slice2/bot", false),
            ("/user.slice/agents.slice", false),
            ("/", false),
            ("/../agents.slice/bot", true),
            ("/bots/a", true),
        ];
        for (path, governed) in cases {
            assert_eq!(is_governed(path, ["/agents.slice", "bots/"]), governed, "{path}");
        }
    }

    #[test]
    fn this_process_has_a_cgroup() {
        assert!(of_process(std::process::id() as i32).unwrap().starts_with('/'));
    }
}
