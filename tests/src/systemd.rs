//! systemd as the first process of namespaces of its own, with the units of `packaging/` and
//! nothing of this host's: it sees only its own cgroups, and what it and its services write
//! below `/etc`, `/var/lib` and `/run` is gone with it.

use crate::daemon::{cgroup2, enforcer, must, remove_cgroup};
use crate::wait::eventually;
use crate::world::World;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What every unit depends on by default; those of a whole system would start the whole system.
const TARGETS: [&str; 5] = ["sysinit", "basic", "multi-user", "slices", "shutdown"];

/// Makes the view and becomes systemd. `$1` is the directory of [`Systemd::boot`], `$2` the
/// program under test, `$3` the repository's `packaging` directory.
const BOOT: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc /proc
# Every other view of the cgroups goes first; the list changes while it is worked off.
mounts=$(awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts | sort -r)
for at in $mounts; do umount -l "$at"; done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
# Before /run and /var/lib are covered, /etc is copied: services may write there.
mount -t tmpfs tmpfs /mnt
cp -a /etc /mnt/etc
cp -a "$1" /mnt/given
cp -a "$3" /mnt/packaging
cp "$2" /mnt/enforcer
: > /mnt/console
mount --bind /mnt/etc /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t tmpfs tmpfs /usr/local/bin
mount --bind /mnt/console /dev/console
cp /mnt/enforcer /usr/local/bin/enforcer
systemd-sysusers /mnt/packaging/sysusers.d/enforcer.conf
/usr/local/bin/enforcer init > /dev/null
cp -r /mnt/given/etc/. /etc/enforcer/
mkdir /run/units
cp /mnt/packaging/systemd/* /mnt/given/units/* /run/units/
export SYSTEMD_UNIT_PATH=/run/units container=enforcer-test
exec /lib/systemd/systemd --system --unit=multi-user.target --show-status=0 --log-target=null
"#;

/// A running systemd; everything in it ends with this value.
#[derive(Debug)]
pub struct Systemd {
    /// `unshare`, which ends the first process when it ends itself.
    outer: Child,
    /// systemd's process id out here.
    pid: String,
    cgroup: PathBuf,
}

impl Systemd {
    /// Boots it in the world's host namespace. `etc` are files below `/etc/enforcer`, beside
    /// those that `enforcer init` makes.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn boot(world: &World, etc: &[(&str, &str)]) -> Self {
        let dir = world.path("systemd");
        fs::create_dir_all(dir.join("units")).expect("a directory");
        for target in TARGETS {
            let unit = "[Unit]\nDefaultDependencies=no\n";
            fs::write(dir.join("units").join(format!("{target}.target")), unit).expect("written");
        }
        for (name, content) in etc {
            let file = dir.join("etc").join(name);
            fs::create_dir_all(file.parent().expect("below etc")).expect("a directory");
            fs::write(file, content).expect("written");
        }
        let cgroup = cgroup2().join(format!("enforcer-test-{}", world.id));
        fs::create_dir(&cgroup).expect("a cgroup");
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let log = fs::File::create(world.path("systemd.log")).expect("a log file");
        let mut outer = world
            .host
            .command("sh")
            .args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""])
            .arg(&cgroup)
            .args(["unshare", "--pid", "--fork", "--kill-child", "--mount", "--cgroup"])
            .args(["--ipc", "--uts", "bash", "-c", BOOT, "boot"])
            .args([&dir, &enforcer(), &packaging])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("dup"))
            .stderr(log)
            .spawn()
            .expect("starts");
        let own = outer.id();
        let pid = eventually("systemd has begun", Duration::from_secs(20), || {
            let ended = outer.try_wait().expect("wait");
            assert!(ended.is_none(), "{}", read(&world.path("systemd.log")));
            let pid = read(Path::new(&format!("/proc/{own}/task/{own}/children")));
            let pid = pid.trim();
            let name = read(Path::new(&format!("/proc/{pid}/comm")));
            (name.trim() == "systemd").then(|| pid.to_owned())
        });
        let systemd = Self { outer, pid, cgroup };
        eventually("systemd runs", Duration::from_secs(30), || {
            let out = systemd.ctl(&["is-active", "multi-user.target"]).output().expect("starts");
            out.status.success().then_some(())
        });
        systemd
    }

    /// A command among its services: in its namespaces and beside it, governed by nothing.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec nsenter \"$@\""]);
        command.arg(self.cgroup("init.scope"));
        command.args(["-t", &self.pid, "-p", "-m", "-C", "-n", "-i", "-u", "--"]).arg(program);
        command.stdin(Stdio::null());
        command
    }

    /// A call of `systemctl`.
    pub fn ctl(&self, args: &[&str]) -> Command {
        let mut command = self.inside("systemctl");
        command.args(args);
        command
    }

    /// The same, which has to succeed; its output.
    pub fn must(&self, args: &[&str]) -> String {
        String::from_utf8(must(&mut self.ctl(args)).stdout).expect("text").trim().to_owned()
    }

    /// `systemd-run`: a program in a service of its own, until it ends. [`Systemd::said`] has its
    /// output; `--pipe` would take a message bus.
    pub fn run(&self, unit: &str, options: &[&str], program: &str) -> Command {
        let mut command = self.inside("systemd-run");
        command
            .args(["--quiet", "--collect", "--property=Type=oneshot"])
            .arg(format!("--property=StandardOutput=truncate:/run/{unit}.out"))
            .arg(format!("--unit={unit}"))
            .args(options)
            .arg(program);
        command
    }

    /// What the unit's program has printed.
    pub fn said(&self, unit: &str) -> String {
        read(Path::new(&format!("/proc/{}/root/run/{unit}.out", self.pid)))
    }

    /// The directory of one of its cgroups, as this process sees it.
    pub fn cgroup(&self, path: &str) -> PathBuf {
        self.cgroup.join(path)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With the first process of a pid namespace go all others.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        remove_cgroup(&self.cgroup);
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
