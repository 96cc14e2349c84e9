//! What the tasks need on the host, installed when it is missing.

use crate::exec::{Done, quiet, run, step};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// To build: a C and C++ compiler (aws-lc, RocksDB, zstd), libclang (bindgen) and
/// the LLVM that the pinned rustc uses (bpf-linker).
const BUILD: &[&str] = &[
    "ca-certificates",
    "g++",
    "gcc",
    "libc6-dev",
    "libclang-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "llvm-22-dev",
    "make",
    "pkg-config",
    "zlib1g-dev",
];

/// To test and to show: real servers, real clients, a browser for the console, a sniffer, network
/// namespaces.
const WORLD: &[&str] = &[
    "chromium",
    "curl",
    "fcgiwrap",
    "git",
    "iproute2",
    "nginx-light",
    "openssl",
    "procps",
    "python3",
    "python3-venv",
    "systemd",
    "tcpdump",
    "tmux",
    "util-linux",
];

/// A database, a pooler beside it to compare with, and a driver that Debian has.
const DATABASE: &[&str] =
    &["libpostgresql-jdbc-java", "pgbouncer", "postgresql", "postgresql-client"];

/// What the benches compare with, beside the pooler.
const BESIDE: &[&str] = &["pgpool2"];

/// To run other kernels: a machine for them, its first program, what unpacks their modules.
const MACHINES: &[&str] = &["busybox-static", "kmod", "qemu-system-x86", "xz-utils"];

/// The linker for the kernel half; its LLVM is the pinned rustc's.
const BPF_LINKER: &str = "0.13.0";

/// Builds the fuzz targets for coverage and runs them.
const CARGO_FUZZ: &str = "0.13.2";

/// The dependency policy checker.
const CARGO_DENY: &str = "0.20.2";

/// Everything that any task needs.
pub(crate) fn everything() -> Done {
    build()?;
    world()?;
    containers()?;
    machines()?;
    deny()
}

/// What building needs.
pub(crate) fn build() -> Done {
    debian(BUILD)?;
    rust_src()?;
    cargo_tool("bpf-linker", BPF_LINKER, |cargo| {
        cargo
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", "/usr/lib/llvm-22");
    })
}

/// What the benches need beside the tests' own.
pub(crate) fn beside() -> Done {
    debian(BESIDE)
}

/// What the tests and the demo need beside the build.
pub(crate) fn world() -> Done {
    root_user()?;
    debian(WORLD)?;
    if !quiet(Command::new("node").arg("--version")) {
        debian(&["nodejs"])?;
    }
    if !quiet(Command::new("npm").arg("--version")) {
        debian(&["npm"])?;
    }
    if !quiet(Command::new("javac").arg("--version")) {
        debian(&["default-jdk-headless"])?;
    }
    database()
}

/// PostgreSQL. The tests start their own, with data of their own; what the package made at its
/// installation is not to run at the next boot.
fn database() -> Done {
    let fresh: Vec<&str> =
        ["postgresql", "pgbouncer"].into_iter().filter(|name| !installed(name)).collect();
    debian(DATABASE)?;
    // Where systemd never runs there is nothing to disable.
    if !fresh.is_empty() && !quiet(Command::new("systemctl").args(["-q", "disable"]).args(&fresh)) {
        step(&format!("{} installed; their units could not be disabled", fresh.join(" and ")));
    }
    Ok(())
}

/// Docker, unless a host has one from anywhere: two cannot be installed at once. The tests start
/// their own with everything apart; what comes with the package is not to run at the next boot.
pub(crate) fn containers() -> Done {
    if quiet(Command::new("dockerd").arg("--version")) {
        return Ok(());
    }
    debian(&["docker.io"])?;
    let units = ["docker.service", "docker.socket", "containerd.service"];
    // Where systemd never runs there is nothing to disable.
    if !quiet(Command::new("systemctl").args(["-q", "disable"]).args(units)) {
        step("docker.io was installed; its units could not be disabled");
    }
    Ok(())
}

/// What `vm` needs beside the world.
pub(crate) fn machines() -> Done {
    debian(MACHINES)
}

/// What `lint` needs beside the build.
pub(crate) fn deny() -> Done {
    cargo_tool("cargo-deny", CARGO_DENY, |_| {})
}

/// What `fuzz` needs beside the build.
pub(crate) fn cargo_fuzz() -> Done {
    cargo_tool("cargo-fuzz", CARGO_FUZZ, |_| {})
}

fn root_user() -> Done {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = status.lines().any(|line| {
        line.strip_prefix("Uid:")
            .and_then(|ids| ids.split_whitespace().nth(1))
            .is_some_and(|id| id == "0")
    });
    if root {
        Ok(())
    } else {
        Err("this task loads BPF programs and makes network namespaces: run it as root".into())
    }
}

pub(crate) fn debian(packages: &[&str]) -> Done {
    let missing: Vec<&str> = packages.iter().copied().filter(|name| !installed(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    root_user()?;
    step(&format!("installing Debian packages: {}", missing.join(" ")));
    let _kept_quiet = NoServices::begin();
    run(Command::new("apt-get").args(["-q", "update"]))?;
    run(Command::new("apt-get")
        .args(["-q", "-y", "--no-install-recommends", "install"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

fn installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["-W", "-f=${Status}", package])
        .output()
        .is_ok_and(|out| out.stdout == b"install ok installed")
}

/// Debian starts a server when it installs one. The tasks start their own, on
/// free ports in their own network namespaces, so the packages must not.
struct NoServices;

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl NoServices {
    fn begin() -> Option<Self> {
        if Path::new(POLICY).exists() {
            return None;
        }
        fs::write(POLICY, "#!/bin/sh\nexit 101\n").ok()?;
        let made = Self;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).ok()?;
        Some(made)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        // Left behind it only keeps services from starting by themselves.
        let _ = fs::remove_file(POLICY);
    }
}

fn rust_src() -> Done {
    let sysroot = Command::new("rustc")
        .args(["--print", "sysroot"])
        .current_dir(crate::exec::root())
        .output()
        .map_err(|error| format!("cannot start rustc: {error}"))?;
    let sysroot = String::from_utf8_lossy(&sysroot.stdout).trim().to_owned();
    if Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").is_dir() {
        return Ok(());
    }
    step("adding the rust-src component");
    run(Command::new("rustup")
        .args(["component", "add", "rust-src"])
        .current_dir(crate::exec::root()))
}

/// Installs a cargo tool of exactly this version.
fn cargo_tool(name: &str, version: &str, options: impl Fn(&mut Command)) -> Done {
    let have = Command::new(name).arg("--version").output();
    if have.is_ok_and(|out| {
        String::from_utf8_lossy(&out.stdout).split_whitespace().any(|word| word == version)
    }) {
        return Ok(());
    }
    step(&format!("installing {name} {version}"));
    let mut cargo = crate::exec::cargo();
    cargo.args(["install", name, "--version", version, "--locked", "--force"]);
    // Its own target directory: its profile and features are not ours.
    cargo.env("CARGO_TARGET_DIR", crate::exec::target_dir().join("tools"));
    options(&mut cargo);
    run(&mut cargo)
}
