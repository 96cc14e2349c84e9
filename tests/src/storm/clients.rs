//! Governed curl, as fast as it goes: each request has a path that no other has.

use crate::daemon::Deployment;
use crate::world::{FAR_V4, World};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How a client works.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    /// Its name, a part of every path.
    pub name: &'static str,
    /// The agent.
    pub agent: &'static str,
    /// Where the paths begin; `{far}` is the far side's address.
    pub url: &'static str,
    /// More arguments for curl.
    pub args: &'static [&'static str],
}

/// Clients that work until they are dropped.
#[derive(Debug)]
pub struct Clients {
    run: PathBuf,
    children: Vec<(Child, PathBuf)>,
}

/// How long curl may go on after the end.
const GRACE: Duration = Duration::from_secs(2);
/// Requests of one curl, one after the other.
const EACH: &str = "40";

impl Clients {
    /// Starts one loop for each way.
    pub fn start(world: &World, deployment: &Deployment, ways: &[Way]) -> Self {
        let run = world.path("clients");
        fs::create_dir_all(&run).expect("made");
        let start = |way: &Way| {
            let said = world.path(&format!("client-{}.log", way.name));
            let url = way.url.replace("{far}", FAR_V4);
            let child = deployment
                .governed(way.agent, "sh")
                .arg("-c")
                .arg(
                    "run=$1 name=$2 url=$3 each=$4; shift 4; n=0; while [ -d \"$run\" ]; do \
                     n=$((n+1)); curl -s -k -o /dev/null --connect-timeout 2 -m 8 \
                     -w '%{http_code}\\n' \"$@\" \"$url/tk-$name-$n-[1-$each]\"; sleep 0.02; done",
                )
                .arg("sh")
                .arg(&run)
                .args([way.name, &url, EACH])
                .args(way.args)
                .stdin(Stdio::null())
                .stdout(File::create(&said).expect("a log file"))
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .expect("starts");
            (child, said)
        };
        let children = ways.iter().map(start).collect();
        Self { run, children }
    }

    /// How many answers each way had so far with this status.
    pub fn answers(&self, status: &str) -> Vec<usize> {
        let count = |said: &PathBuf| {
            let said = fs::read_to_string(said).unwrap_or_default();
            said.lines().filter(|line| *line == status).count()
        };
        self.children.iter().map(|(_, said)| count(said)).collect()
    }

    /// Lets what was begun end; what takes longer is ended.
    pub fn stop(&mut self) {
        let _ = fs::remove_dir(&self.run);
        let begun = Instant::now();
        for (child, _) in &mut self.children {
            while matches!(child.try_wait(), Ok(None)) {
                if begun.elapsed() > GRACE {
                    let group = i32::try_from(child.id()).expect("a pid");
                    let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop();
    }
}
