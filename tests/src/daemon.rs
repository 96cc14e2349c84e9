//! A whole deployment in a world: approval server, joined daemon, reviewer.

use crate::manager::Manager;
use crate::servers::Server;
use crate::wait::eventually;
use crate::world::{HOST_V4, World};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// Where the approval server listens: on the host's end, outside every governed cgroup.
const SERVER_PORT: u16 = 7443;

/// Where another one over the same store does.
const REPLICA_PORT: u16 = 7444;

/// The program under test: what was built beside the running test or demo binary, at a path
/// that every user can reach.
pub fn enforcer() -> PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("enforcer")).clone()
}

/// A program of this workspace, built beside the running binary, at a path that every user can
/// reach.
///
/// # Panics
/// When it is not there.
pub fn built(program: &str) -> PathBuf {
    let me = std::env::current_exe().expect("the running binary has a path");
    let mut found = me.ancestors().map(|dir| dir.join(program));
    let built = found.find(|path| path.is_file());
    let built = built.unwrap_or_else(|| panic!("{program} is not built beside this binary"));
    if built.ancestors().skip(1).all(for_everyone) { built } else { reachable(&built) }
}

fn for_everyone(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|meta| meta.permissions().mode() & 0o005 == 0o005)
}

/// Copies of a day ago; a run that goes on now may need a newer one.
fn remove_old(home: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let made = entry.metadata().and_then(|meta| meta.modified());
        if made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age > DAY)) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A copy where every user can go; a new build makes a new one.
fn reachable(built: &Path) -> PathBuf {
    let meta = fs::metadata(built).expect("there");
    let home = Path::new("/var/tmp/enforcer-agents/bin");
    let dir = home.join(format!("{}-{}-{}", meta.ino(), meta.mtime(), meta.len()));
    let name = built.file_name().expect("a program has a name");
    let copy = dir.join(name);
    if !copy.exists() {
        remove_old(home);
        fs::create_dir_all(&dir).expect("made");
        let part = dir.join(format!("part.{}", std::process::id()));
        fs::copy(built, &part).expect("copied");
        fs::rename(&part, &copy).expect("renamed");
    }
    copy
}

/// Approval server, daemon, and the files of both.
#[derive(Debug)]
pub struct Deployment {
    /// The daemon's configuration file.
    pub config: PathBuf,
    /// The governed cgroup, below the cgroup2 mount.
    pub governed: String,
    /// The policy bundle's directory.
    pub policy: PathBuf,
    /// The transcript store.
    pub store: PathBuf,
    host_ns: String,
    server: Option<Server>,
    daemon: Option<Child>,
    dir: PathBuf,
    pins: PathBuf,
    logs: u32,
    manager: Option<Manager>,
    /// Descriptors that the daemon may have; none: what this process may.
    files: Option<u32>,
}

/// What a deployment is made of.
#[derive(Debug, Default)]
pub struct Plan<'a> {
    /// The policy bundle: file name and content.
    pub bundle: &'a [(&'a str, &'a str)],
    /// Names with fixed addresses.
    pub hosts: &'a [(&'a str, &'a [&'a str])],
    /// Roots that upstreams may chain to.
    pub extra_roots: &'a [&'a Path],
    /// More lines at the end of `enforcer.toml`.
    pub config: &'a str,
    /// More lines at the end of `server.toml`.
    pub server: &'a str,
}

impl Deployment {
    /// Starts the server, joins a host and a reviewer (`alice`), starts the daemon and
    /// waits until it enforces.
    pub fn start(world: &World, plan: &Plan<'_>) -> Self {
        let dir = world.path("deployment");
        let policy = dir.join("policy");
        for (name, content) in plan.bundle {
            let file = policy.join(name);
            fs::create_dir_all(file.parent().expect("below policy/")).expect("made");
            fs::write(file, content).expect("written");
        }
        let mut all = Self {
            config: dir.join("enforcer.toml"),
            governed: format!("/enforcer-test-{}", world.id),
            policy,
            store: dir.join("data/transcripts"),
            host_ns: world.host.file(),
            server: None,
            daemon: None,
            pins: PathBuf::from(format!("/sys/fs/bpf/enforcer-test-{}", world.id)),
            dir,
            logs: 0,
            manager: None,
            files: None,
        };
        let server_toml = all.dir.join("server.toml");
        fs::write(
            &server_toml,
            format!(
                "listen = \"{HOST_V4}:{SERVER_PORT}\"\nnames = [\"{HOST_V4}\"]\n\
                 data_dir = {:?}\n{}",
                all.dir.join("server"),
                plan.server
            ),
        )
        .expect("written");
        all.start_server(world);
        let url = format!("https://{HOST_V4}:{SERVER_PORT}");
        let token = all.token("daemon", "host-a");
        let token_file = all.dir.join("token");
        fs::write(&token_file, token).expect("written");
        fs::write(&all.config, all.enforcer_toml(plan, &url, &token_file)).expect("written");
        all.join("alice");
        all.start_daemon();
        all
    }

    fn enforcer_toml(&self, plan: &Plan<'_>, url: &str, token_file: &Path) -> String {
        let hosts: String =
            plan.hosts.iter().map(|(name, ips)| format!("{name:?} = {ips:?}\n")).collect();
        format!(
            "[host]\nname = \"host-a\"\ndata_dir = {data:?}\nruntime_dir = {run:?}\n\
             [[governed]]\ncgroup = {governed:?}\n\
             [kernel]\npin_dir = {pins:?}\nheartbeat_limit_ms = 2000\n\
             [resolver]\nupstream = [\"{far}:53\"]\n[resolver.hosts]\n{hosts}\
             [tls]\nextra_roots = {roots:?}\nsystem_roots = false\n\
             [server]\nurl = {url:?}\ntoken_file = {token_file:?}\n\
             [run]\nuser = \"nobody\"\n\
             [policy]\ndir = {policy:?}\n{more}\n",
            data = self.dir.join("data"),
            run = self.dir.join("run"),
            governed = self.governed,
            pins = self.pins,
            far = crate::world::FAR_V4,
            roots = plan.extra_roots,
            policy = self.policy,
            more = plan.config,
        )
    }

    /// The enforcer program, inside the host's network namespace.
    pub fn enforcer(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.host_ns)).arg("--").arg(enforcer());
        command
    }

    /// Makes a join token on the server's own host.
    pub fn token(&self, role: &str, name: &str) -> String {
        let out = must(
            self.enforcer()
                .args(["server", "token", "--role", role, "--name", name, "--config"])
                .arg(self.dir.join("server.toml")),
        );
        String::from_utf8(out.stdout).expect("text").trim().to_owned()
    }

    /// Joins a reviewer; its identity is kept under that name.
    pub fn join(&self, name: &str) {
        self.join_as("reviewer", name);
    }

    /// Joins a person in a role; its identity is kept under that name.
    pub fn join_as(&self, role: &str, name: &str) {
        let token = self.token(role, name);
        must(
            self.enforcer()
                .args([
                    "join",
                    "--server",
                    &format!("https://{HOST_V4}:{SERVER_PORT}"),
                    "--token",
                    &token,
                    "--dir",
                ])
                .arg(self.dir.join(name)),
        );
    }

    /// Starts (or starts again) the approval server.
    pub fn start_server(&mut self, world: &World) {
        self.logs += 1;
        let log = self.dir.join(format!("server-{}.log", self.logs));
        let mut command = world.host.command(enforcer());
        command.args(["server", "--config"]).arg(self.dir.join("server.toml"));
        self.server =
            Some(Server::start_in(&world.host, command, log, &format!("{HOST_V4}:{SERVER_PORT}")));
    }

    /// Starts another approval server over the same store, with the same CA, and gives it and its
    /// URL.
    pub fn start_replica(&self, world: &World) -> (Server, String) {
        let data = self.dir.join("replica");
        fs::create_dir_all(data.join("ca")).expect("made");
        for file in ["ca/ca.pem", "ca/ca.key", "ca/policy.key"] {
            fs::copy(self.dir.join("server").join(file), data.join(file)).expect("copied");
        }
        let first = fs::read_to_string(self.dir.join("server.toml")).expect("readable");
        let port = format!("{HOST_V4}:{REPLICA_PORT}");
        let toml = first
            .replace(&format!("{HOST_V4}:{SERVER_PORT}"), &port)
            .replace(&format!("{:?}", self.dir.join("server")), &format!("{data:?}"));
        let config = self.dir.join("replica.toml");
        fs::write(&config, toml).expect("written");
        let mut command = world.host.command(enforcer());
        command.args(["server", "--config"]).arg(&config);
        let log = self.dir.join("replica.log");
        (Server::start_in(&world.host, command, log, &port), format!("https://{port}"))
    }

    /// `kill -9` on the approval server.
    pub fn kill_server(&mut self) {
        self.server = None;
    }

    /// Starts (or starts again) the daemon and waits until it says that it enforces.
    pub fn start_daemon(&mut self) {
        self.spawn_daemon();
        self.await_daemon();
    }

    /// Starts the daemon and waits for nothing.
    pub fn spawn_daemon(&mut self) {
        self.logs += 1;
        let out = fs::File::create(self.log()).expect("a log file");
        let mut command = match self.files {
            None => self.enforcer(),
            Some(files) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", self.host_ns)).args(["--", "prlimit"]);
                command.arg(format!("--nofile={files}:{files}")).arg(enforcer());
                command
            }
        };
        command.args(["daemon", "--config"]).arg(&self.config);
        self.daemon = Some(match &mut self.manager {
            Some(manager) => manager.spawn(&command, &out),
            None => command
                .stdin(Stdio::null())
                .stdout(out.try_clone().expect("dup"))
                .stderr(out)
                .spawn()
                .expect("the daemon starts"),
        });
    }

    /// Waits until the daemon says that it enforces.
    pub fn await_daemon(&mut self) {
        let log = self.log();
        let mut child = self.daemon.take().expect("started");
        eventually(
            &format!("the daemon is ready (log: {})", log.display()),
            Duration::from_secs(120),
            || {
                let said = fs::read_to_string(&log).unwrap_or_default();
                if let Some(status) = child.try_wait().expect("wait") {
                    panic!("the daemon ended with {status}:\n{said}");
                }
                // Its own word first: asking costs a process each time.
                (said.contains("ready: governed") && self.status().status.success()).then_some(())
            },
        );
        self.daemon = Some(child);
    }

    /// What the daemon that was started last says.
    pub fn log(&self) -> PathBuf {
        self.dir.join(format!("daemon-{}.log", self.logs))
    }

    /// Starts the daemon again under a service manager that keeps its sockets; gives their
    /// names. The heartbeat's limit is longer than a restart, as it is outside of tests.
    pub fn manage(&mut self) -> Vec<String> {
        self.kill_daemon();
        let toml = fs::read_to_string(&self.config).expect("readable");
        let toml = toml.replace("heartbeat_limit_ms = 2000", "heartbeat_limit_ms = 30000");
        fs::write(&self.config, toml).expect("written");
        self.manager = Some(Manager::new(&self.dir));
        self.start_daemon();
        let kept = self.manager.as_mut().expect("just set").kept();
        kept.into_iter().map(String::from).collect()
    }

    /// Starts the daemon again with so few descriptors.
    pub fn restart_with_files(&mut self, files: u32) {
        self.kill_daemon();
        self.files = Some(files);
        self.start_daemon();
    }

    /// Starts the daemon again, its kernel half made anew, with this text of its configuration
    /// replaced.
    pub fn restart_with(&mut self, from: &str, to: &str) {
        self.kill_daemon();
        let toml = fs::read_to_string(&self.config).expect("readable");
        assert!(toml.contains(from), "{from} is not in the configuration");
        fs::write(&self.config, toml.replace(from, to)).expect("written");
        must(self.enforcer().args(["detach", "--config"]).arg(&self.config));
        self.start_daemon();
    }

    /// Ends the daemon as a service manager does, and waits for its end.
    pub fn stop_daemon(&mut self) {
        self.signal_daemon(nix::sys::signal::Signal::SIGTERM);
        let status = self.daemon.take().expect("running").wait().expect("wait");
        assert!(status.success(), "the daemon ended with {status}");
    }

    /// The daemon's process id.
    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.as_ref().expect("running").id()).expect("a pid")
    }

    /// `kill -9` on the daemon.
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }

    /// Sends the daemon a signal.
    pub fn signal_daemon(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.daemon_pid()), signal)
            .expect("it runs");
    }

    /// `enforcer run` of a program as this agent.
    pub fn agent(&self, agent: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.enforcer();
        command
            .args(["run", "--config"])
            .arg(&self.config)
            .args(["--agent", agent, "--"])
            .arg(program)
            // A terminal that this process has is the person's, not the agent's; and the
            // checkout may lie where only root can go.
            .stdin(Stdio::null())
            .current_dir("/");
        command
    }

    /// A program started inside the governed cgroup without `enforcer run`, as a service
    /// manager or a container runtime does; works whether the daemon is alive or not.
    pub fn governed(&self, agent: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.host_ns))
            .args([
                "--",
                "sh",
                "-c",
                "mkdir -p \"$0\" && echo $$ > \"$0/cgroup.procs\" && exec \"$@\"",
            ])
            .arg(self.agent_cgroup(agent))
            .arg(program);
        command
    }

    /// Where an agent's cgroup is, or will be.
    pub fn agent_cgroup(&self, agent: &str) -> PathBuf {
        cgroup2().join(self.governed.trim_start_matches('/')).join(agent)
    }

    /// An `enforcer` command of a person who joined.
    pub fn as_person(&self, who: &str, args: &[&str]) -> Command {
        let mut command = self.enforcer();
        command.args(args).arg("--identity").arg(self.dir.join(who));
        command
    }

    /// An `enforcer approvals` command of a reviewer.
    pub fn reviewer(&self, who: &str, args: &[&str]) -> Command {
        let mut command = self.enforcer();
        command.arg("approvals").args(args).arg("--identity").arg(self.dir.join(who));
        command
    }

    /// The same, run to its end.
    pub fn review(&self, who: &str, args: &[&str]) -> Output {
        self.reviewer(who, args).output().expect("starts")
    }

    /// Waits for a pending approval whose resource has this text; gives it as JSON.
    pub fn pending(&self, what: &str) -> serde_json::Value {
        eventually(&format!("an approval for {what} is asked"), Duration::from_secs(20), || {
            let out = self.review("alice", &["list", "--json"]);
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            let all: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
            all.as_array()?
                .iter()
                .find(|a| a["state"] == "pending" && a.to_string().contains(what))
                .cloned()
        })
    }

    /// `enforcer status`, from outside.
    pub fn status(&self) -> Output {
        self.enforcer().args(["status", "--config"]).arg(&self.config).output().expect("starts")
    }

    /// `enforcer status`, asked by a governed process.
    pub fn governed_status(&self, agent: &str) -> Output {
        self.governed(agent, enforcer())
            .args(["status", "--config"])
            .arg(&self.config)
            .output()
            .expect("starts")
    }

    /// An `enforcer transcripts` call; gives its whole result.
    pub fn transcripts(&self, args: &[&str]) -> Output {
        self.enforcer()
            .arg("transcripts")
            .args(args)
            .arg("--store")
            .arg(&self.store)
            .output()
            .expect("starts")
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.kill_daemon();
        let _ = self.enforcer().args(["detach", "--config"]).arg(&self.config).output();
        remove_cgroup(&cgroup2().join(self.governed.trim_start_matches('/')));
    }
}

/// Ends what is left in a cgroup of a world, and removes it with all below.
pub(crate) fn remove_cgroup(cgroup: &Path) {
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    for child in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    // A process that was just killed may take a moment to leave.
    for _ in 0..50 {
        if fs::remove_dir(cgroup).is_ok() || !cgroup.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where the unified hierarchy is mounted.
pub fn cgroup2() -> PathBuf {
    hierarchies("cgroup2").into_iter().next().expect("cgroup2 is mounted")
}

/// Where hierarchies of this kind (`cgroup2`, or `cgroup` for version 1) are mounted.
pub(crate) fn hierarchies(kind: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("proc is mounted");
    let of_kind = mounts.lines().filter(|line| line.split(' ').nth(2) == Some(kind));
    of_kind.filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from).collect()
}

/// Runs a command that has to succeed.
pub fn must(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}
