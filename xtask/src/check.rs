//! Formatting, lints on both halves, and the dependency policy.

use crate::exec::{self, Done, cargo, step};
use crate::setup;

/// Everything that needs no test run.
pub(crate) fn run() -> Done {
    setup::build()?;
    setup::deny()?;
    step("formatting");
    exec::run(cargo().args(["fmt", "--all", "--check"]))?;
    step("clippy, user half");
    exec::run(cargo().args([
        "clippy",
        "--workspace",
        "--exclude",
        "enforcer-ebpf",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    step("clippy, kernel half");
    exec::run(
        cargo()
            // build-std is unstable; the pinned toolchain accepts it under this name.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["clippy", "--package", "enforcer-ebpf", "--bins", "--locked"])
            .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
            // A directory of its own: build scripts look at that variable, and the user half's
            // whole tree would be built again after it.
            .arg("--target-dir")
            .arg(exec::target_dir().join("kernel-half"))
            .args(["--", "-D", "warnings"]),
    )?;
    step("dependencies: bans, licences, sources");
    exec::run(cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]))
}
