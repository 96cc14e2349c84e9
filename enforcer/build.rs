//! Builds the kernel half with the same toolchain and puts its object in OUT_DIR.
//!
//! A cargo inside cargo, as the target differs and needs its own `core`: the
//! outer one waits for us, so the inner one has a target directory of its own
//! and cannot meet the outer one's lock.

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = "enforcer-ebpf";
/// Set to 1: no kernel half; the loader then refuses to run. For checks on hosts without
/// bpf-linker.
const SKIP: &str = "ENFORCER_SKIP_EBPF";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={SKIP}");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let workspace = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("..");
    let object = out.join(PACKAGE);
    if env::var(SKIP).is_ok_and(|value| value == "1") {
        println!("cargo::warning={SKIP}=1: this binary has no kernel half and will refuse to run");
        fs::write(object, [])?;
        return Ok(());
    }
    for input in ["enforcer-ebpf", "enforcer-common", "Cargo.lock", "rust-toolchain.toml"] {
        let path = workspace.join(input);
        println!("cargo::rerun-if-changed={}", path.display());
    }
    let target = match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "big" => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let target_dir = out.join("target");
    let status = inner_cargo(&workspace, target, &target_dir)?.status()?;
    if !status.success() {
        return Err(format!(
            "building {PACKAGE}: {status}; it needs bpf-linker in PATH and the rust-src component \
             (`cargo xtask demo` installs both)"
        )
        .into());
    }
    fs::copy(target_dir.join(target).join("release").join(PACKAGE), object)?;
    Ok(())
}

fn inner_cargo(
    workspace: &Path,
    target: &str,
    target_dir: &Path,
) -> Result<Command, Box<dyn Error>> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    let rustflags = [
        format!("--cfg=bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".into(),
        "-Clink-arg=--btf".into(),
    ]
    .join("\x1f");
    let mut cargo = Command::new(env::var("CARGO")?);
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--bins"])
        .args(["--package", PACKAGE, "--target", target])
        .args(["-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(target_dir)
        // The pinned stable toolchain may use what only nightly would allow.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags)
        // A BPF program cannot panic: no checks that would.
        .env("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "false");
    // What the outer cargo set for the outer build (a clippy wrapper, a target, flags).
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "CARGO_INCREMENTAL",
    ] {
        cargo.env_remove(name);
    }
    Ok(cargo)
}
