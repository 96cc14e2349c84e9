//! Docker with everything of its own: data, socket, network namespace and, where the
//! test wants it, a view of the cgroups. It makes no bridge and no firewall rule.

use crate::daemon::{cgroup2, hierarchies, must, remove_cgroup};
use crate::wait::eventually;
use crate::world::World;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The client of the packages, whatever else a machine has in its path.
const CLIENT: &str = "/usr/bin/docker";
/// The server: Debian's, or Docker's own package's.
const SERVERS: [&str; 2] = ["/usr/sbin/dockerd", "/usr/bin/dockerd"];

/// The image of every container: nothing but places to put the host's programs.
const IMAGE: &str = "enforcer-test";

/// How the runtime finds the cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As they are mounted on this machine: version 2, or both versions side by side.
    Host,
    /// Version 2 alone at `/sys/fs/cgroup`, as on every current distribution.
    Unified,
}

/// A running dockerd; its containers end with it.
#[derive(Debug)]
pub struct Docker {
    socket: PathBuf,
    server: Child,
    /// The cgroup of containers that nobody governs.
    free: String,
    /// What the world's own cgroup is called.
    governed: String,
}

impl Docker {
    /// Starts it in the world's host namespace and gives it the image. Its ungoverned
    /// containers are below [`Docker::free`].
    ///
    /// # Panics
    /// When Docker does not come up: a test that was not run has shown nothing.
    pub fn start(world: &World, view: View) -> Self {
        // Names of sockets are short; so is this path.
        let dir = world.path("docker");
        fs::create_dir(&dir).expect("a directory");
        let log = fs::File::create(dir.join("log")).expect("a log file");
        let socket = dir.join("sock");
        // dockerd mounts things; none of them may be seen outside, or outlive it.
        let server = SERVERS.into_iter().find(|path| Path::new(path).exists());
        let server = server.expect("docker.io is installed; `cargo xtask setup` does it");
        let mut script = String::from("mount --make-rprivate / && ");
        if view == View::Unified {
            script.push_str(
                "{ umount -l /sys/fs/cgroup || true; } && \
                 mount -t cgroup2 cgroup2 /sys/fs/cgroup && ",
            );
        }
        script.push_str("exec \"$@\"");
        let server = world
            .host
            .command("unshare")
            .args(["--mount", "sh", "-ec", &script, "sh", server])
            .arg(format!("--data-root={}", dir.join("data").display()))
            .arg(format!("--exec-root={}", dir.join("exec").display()))
            .arg(format!("--pidfile={}", dir.join("pid").display()))
            .arg(format!("--host=unix://{}", socket.display()))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false"])
            .args(["--ip-forward=false", "--userland-proxy=false", "--storage-driver=vfs"])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("dockerd is started");
        let governed = format!("enforcer-test-{}", world.id);
        let mut docker = Self { socket, server, free: format!("/{governed}-free"), governed };
        let log = dir.join("log");
        eventually(
            &format!("docker answers (log: {})", log.display()),
            Duration::from_secs(60),
            || {
                let ended = docker.server.try_wait().expect("wait");
                assert!(ended.is_none(), "{}", fs::read_to_string(&log).unwrap_or_default());
                docker.client(&["info"]).output().is_ok_and(|o| o.status.success()).then_some(())
            },
        );
        docker.import(&dir);
        docker
    }

    /// The cgroup of containers that nobody governs.
    pub fn free(&self) -> &str {
        &self.free
    }

    /// A client's call.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = Command::new(CLIENT);
        command.arg(format!("--host=unix://{}", self.socket.display())).args(args);
        command.env_remove("DOCKER_HOST").env_remove("DOCKER_CONTEXT").stdin(Stdio::null());
        command
    }

    /// A container of the host's own programs below that cgroup, which is gone when it ends.
    /// `network` is `host`, or `none` for a network namespace of its own.
    pub fn run(&self, parent: &str, network: &str, program: &str) -> Command {
        let mut command = self.client(&["run", "--rm", "--volume=/usr:/usr:ro"]);
        command
            .arg(format!("--cgroup-parent={parent}"))
            .arg(format!("--network={network}"))
            .args([IMAGE, program]);
        command
    }

    /// The same, left running under a name; gives its process id.
    pub fn stay(&self, parent: &str, network: &str, name: &str) -> String {
        must(self.client(&["run", "--detach", "--volume=/usr:/usr:ro"]).args([
            &format!("--cgroup-parent={parent}"),
            &format!("--network={network}"),
            &format!("--name={name}"),
            IMAGE,
            "sleep",
            "1000",
        ]));
        let out = must(&mut self.client(&["inspect", "--format={{.State.Pid}}", name]));
        String::from_utf8(out.stdout).expect("text").trim().to_owned()
    }

    /// The image: links to where the host's programs will be, and what Docker mounts on.
    fn import(&self, dir: &Path) {
        let tree = dir.join("image");
        for made in ["etc", "usr", "tmp", "proc", "sys", "dev", "run"] {
            fs::create_dir_all(tree.join(made)).expect("a directory");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(Path::new("usr").join(link), tree.join(link)).expect("a link");
        }
        let tar = dir.join("image.tar");
        must(Command::new("tar").arg("-C").arg(&tree).arg("-cf").arg(&tar).arg("."));
        must(self.client(&["import"]).arg(&tar).arg(IMAGE));
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let all = self.client(&["ps", "--all", "--quiet"]).output();
        let all = all.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
        for container in all.unwrap_or_default().split_whitespace() {
            let _ = self.client(&["rm", "--force", container]).output();
        }
        // On SIGTERM it ends its containerd too.
        if let Ok(pid) = i32::try_from(self.server.id()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let _ = self.server.wait();
        let free = self.free.trim_start_matches('/');
        remove_cgroup(&cgroup2().join(free));
        // On a hybrid host it makes them in every hierarchy of version 1, too.
        for cgroups in hierarchies("cgroup") {
            remove_cgroup(&cgroups.join(free));
            remove_cgroup(&cgroups.join(&self.governed));
        }
    }
}
