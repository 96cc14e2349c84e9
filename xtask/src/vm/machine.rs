//! One boot: a suite on a kernel, its words on our standard output, its result
//! in a directory that machine and host share.

use super::image::make_image;
use super::kernels::{Kernel, make, remove};
use crate::exec::{Done, root};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Everything that runs in the machine. `$1`.. are the suite and its arguments; the network is
/// the machine's own loopback, the suite makes whatever else it needs.
const PREPARE: &str = r#"
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export RUST_BACKTRACE=0
hostname vm
mount --bind "$MODULES" "/lib/modules/$(uname -r)" 2>/dev/null ||
    { mkdir -p "/lib/modules/$(uname -r)" && mount --bind "$MODULES" "/lib/modules/$(uname -r)"; }
modprobe -a veth vsock vsock_loopback tun sctp udp_diag 2>/dev/null
ip link set lo up
cat /sys/kernel/security/lsm > /run/vm/lsm 2>/dev/null
"#;

/// What a machine left behind.
pub(super) struct Left {
    /// The directory that it shared.
    pub(super) dir: PathBuf,
    /// How long it ran.
    pub(super) took: Duration,
}

/// Boots, runs the commands one after another, each with its exit code kept, and takes the machine
/// down; an error when one failed or `limit` was over.
pub(super) fn boot(
    vm: &Path,
    kernel: &Kernel,
    commands: &[String],
    limit: Duration,
) -> Result<Left, String> {
    let image = make_image(vm, kernel)?;
    let dir = vm.join(format!("out-{}", kernel.name));
    remove(&dir)?;
    make(&dir)?;
    write_suite(&dir, kernel, commands)?;
    let start = Instant::now();
    let mut child = machine(kernel, &image, &dir)
        .spawn()
        .map_err(|error| format!("cannot start qemu-system-x86_64: {error}"))?;
    wait(&mut child, start + limit)?;
    let left = Left { dir, took: start.elapsed() };
    let result = left.dir.join("result");
    match fs::read_to_string(&result).ok().map(|text| text.trim().to_owned()) {
        Some(text) if text == "0" => Ok(left),
        Some(text) => Err(format!("{}: {text} of its commands failed", kernel.release)),
        None => Err(format!("{}: the machine ended without a result", kernel.release)),
    }
}

fn write_suite(dir: &Path, kernel: &Kernel, commands: &[String]) -> Done {
    let mut script = format!("MODULES='{}'\n{PREPARE}\n", kernel.modules().display());
    script.push_str(&format!("cd '{}'\nfailed=0\n", root().display()));
    for command in commands {
        script.push_str(&format!("{command} || failed=$((failed + 1))\n"));
    }
    script.push_str("echo $failed > /run/vm/result\nsync\nbusybox poweroff -f\n");
    let file = dir.join("suite");
    fs::write(&file, script).map_err(|error| format!("{}: {error}", file.display()))
}

/// Always emulated: acceleration that is offered inside another machine and then hangs is common
/// where tests run, and a boot takes seconds. The kernel spends nothing on flaws of processors.
fn machine(kernel: &Kernel, image: &Path, out: &Path) -> Command {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "Nehalem,+rdrand"])
        .args(["-smp", "2", "-m", "2048", "-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio", "-nic", "none"])
        .arg("-kernel")
        .arg(kernel.image())
        .arg("-initrd")
        .arg(image)
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off lsm=landlock,lockdown,yama,bpf",
        ])
        .args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ])
        .arg("-virtfs")
        .arg(format!("local,path={},mount_tag=out,security_model=none", out.display()))
        .stdin(Stdio::null());
    qemu
}

fn wait(child: &mut Child, until: Instant) -> Done {
    loop {
        match child.try_wait() {
            Err(error) => return Err(format!("waiting for the machine: {error}")),
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(format!("qemu-system-x86_64: {status}")),
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(100)),
            Ok(None) => {
                let _gone = child.kill();
                let _reaped = child.wait();
                return Err("the machine did not end in time".into());
            }
        }
    }
}
