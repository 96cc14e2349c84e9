//! A battery of escapes that runs all the time, with a mark in whatever it tries to send.

use crate::daemon::Deployment;
use crate::world::{FAR_V4, FAR_V6, HOST_V4, World};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// What governed probes send; it must never be on the wire.
pub const MARK: &str = "mK4rkGoverned";
/// What the ungoverned control sends; it must be on the wire.
pub const CONTROL: &str = "mK4rkControl";

/// Probes that run until they are dropped.
#[derive(Debug)]
pub struct Probes {
    run: PathBuf,
    said: PathBuf,
    children: Vec<Child>,
}

impl Probes {
    /// Starts the battery once for each agent.
    pub fn start(world: &World, deployment: &Deployment, agents: &[&str]) -> Self {
        let run = world.path("probes");
        fs::create_dir_all(&run).expect("made");
        let said = world.path("probes.log");
        let log = File::options().create(true).append(true).open(&said).expect("a log file");
        let start = |agent: &&str| {
            let mut python = deployment.governed(agent, "python3");
            arguments(&mut python, MARK, &run.to_string_lossy());
            python
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("dup"))
                .stderr(log.try_clone().expect("dup"))
                .spawn()
                .expect("starts")
        };
        let children = agents.iter().map(start).collect();
        Self { run, said, children }
    }

    /// Ends them; gives how many rounds were run, and what should not have worked and did.
    pub fn stop(&mut self) -> (usize, Vec<String>) {
        let _ = fs::remove_dir(&self.run);
        let mut failed = Vec::new();
        for mut child in self.children.drain(..) {
            let status = child.wait().expect("wait");
            if !status.success() {
                failed.push(format!("the battery ended with {status}"));
            }
        }
        let said = fs::read_to_string(&self.said).unwrap_or_default();
        let rounds = said.lines().filter(|line| *line == "round").count();
        failed.extend(said.lines().filter(|line| *line != "round").map(str::to_owned));
        (rounds, failed)
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.run);
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The same battery once, governed by nothing.
pub fn control(world: &World) {
    let mut python = world.host.command("python3");
    arguments(&mut python, CONTROL, "");
    let out = python.output().expect("python3 starts");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && said.contains("round"), "the control: {out:?}");
}

fn arguments(python: &mut Command, mark: &str, run: &str) {
    python.args(["-I", "-S", "-c", include_str!("probes.py"), mark, run]);
    python.args([FAR_V4, FAR_V6, HOST_V4]);
}
