//! The initramfs: a busybox, the modules that reach the host's files, and the
//! script that makes them the root.

use super::kernels::{Kernel, make, remove};
use crate::exec::{Done, run as execute};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Loaded before the host's files can be seen, with what they depend on.
const EARLY: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];

/// The host's root is seen read-only, with a layer of memory above it: whatever the suite writes
/// goes with the machine.
const INIT: &str = r#"#!/bin/busybox sh
b=/bin/busybox
$b mkdir -p /proc /sys /lower /memory /new
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
for module in $($b cat /modules/order); do
    $b insmod "/modules/$module" || echo "vm: module $module does not load"
done
nine=trans=virtio,version=9p2000.L,msize=524288
$b mount -t 9p -o "ro,cache=loose,$nine" host /lower &&
$b mount -t tmpfs tmpfs /memory &&
$b mkdir /memory/upper /memory/work &&
$b mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work host /new &&
$b mount -t proc proc /new/proc &&
$b mount -t sysfs sysfs /new/sys &&
$b mount -t devtmpfs dev /new/dev &&
$b mkdir -p /new/dev/pts /new/dev/shm &&
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts &&
$b mount -t tmpfs tmpfs /new/dev/shm &&
$b mount -t tmpfs -o mode=755 tmpfs /new/run &&
$b mount -t tmpfs -o mode=1777 tmpfs /new/tmp &&
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup &&
$b mount -t bpf -o mode=700 bpf /new/sys/fs/bpf &&
$b mount -t securityfs securityfs /new/sys/kernel/security &&
$b mkdir -p /new/run/netns /new/run/vm &&
$b mount -t 9p -o "$nine" out /new/run/vm &&
exec $b switch_root /new /bin/sh /run/vm/suite ||
echo "vm: the host's files cannot be reached"
$b poweroff -f
"#;

/// Makes the initramfs of a kernel.
pub(super) fn make_image(vm: &Path, kernel: &Kernel) -> Result<PathBuf, String> {
    let tree = vm.join(format!("initramfs-{}", kernel.name));
    let image = vm.join(format!("initramfs-{}.cpio", kernel.name));
    remove(&tree)?;
    make(&tree.join("bin"))?;
    make(&tree.join("modules"))?;
    copy(Path::new("/bin/busybox"), &tree.join("bin/busybox"))?;
    let init = tree.join("init");
    fs::write(&init, INIT).map_err(|error| format!("{}: {error}", init.display()))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", init.display()))?;
    let mut order = String::new();
    for module in in_order(&kernel.modules())? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        let plain = name.trim_end_matches(".xz").to_owned();
        let to = tree.join("modules").join(&plain);
        copy(&kernel.modules().join(&module), &tree.join("modules").join(&*name))?;
        if *name != plain {
            execute(Command::new("xz").arg("-df").arg(tree.join("modules").join(&*name)))?;
        }
        if !to.exists() {
            return Err(format!("{}: how it is packed is not known", module.display()));
        }
        order.push_str(&plain);
        order.push('\n');
    }
    let file = tree.join("modules/order");
    fs::write(&file, order).map_err(|error| format!("{}: {error}", file.display()))?;
    pack(&tree, &image)?;
    Ok(image)
}

/// The early modules and what they need, in the order in which they load.
fn in_order(modules: &Path) -> Result<Vec<PathBuf>, String> {
    let file = modules.join("modules.dep");
    let table =
        fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut order: Vec<PathBuf> = Vec::new();
    for name in EARLY {
        let line = table.lines().find_map(|line| {
            let (path, needs) = line.split_once(':')?;
            let (stem, _) = path.rsplit('/').next()?.split_once(".ko")?;
            (stem == name).then_some((path, needs))
        });
        // None: built into the kernel.
        let Some((path, needs)) = line else { continue };
        // depmod lists what is needed first at the end.
        let all = needs.split_whitespace().rev().chain([path]);
        for module in all.map(PathBuf::from) {
            if !order.contains(&module) {
                order.push(module);
            }
        }
    }
    Ok(order)
}

fn copy(from: &Path, to: &Path) -> Done {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))
}

fn pack(tree: &Path, image: &Path) -> Done {
    let out = File::create(image).map_err(|error| format!("{}: {error}", image.display()))?;
    execute(
        Command::new("sh")
            .args(["-c", "find . | busybox cpio -o -H newc"])
            .current_dir(tree)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null()),
    )
}
