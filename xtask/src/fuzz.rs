//! Every fuzz target for a while.

use crate::exec::{Done, cargo, quiet, root, run as execute, step};
use crate::setup;

/// Runs each target of `enforcer/fuzz` for `secs` seconds.
pub(crate) fn run(secs: u32) -> Done {
    setup::build()?;
    if !quiet(cargo().args(["fuzz", "--version"])) {
        step("installing cargo-fuzz");
        execute(cargo().args(["install", "cargo-fuzz", "--locked"]))?;
    }
    let fuzz = root().join("enforcer/fuzz");
    let listed = cargo()
        .current_dir(&fuzz)
        .args(["fuzz", "list"])
        .output()
        .map_err(|error| format!("cannot list the fuzz targets: {error}"))?;
    for target in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
        step(&format!("fuzzing {target} for {secs} s"));
        execute(
            cargo()
                .current_dir(&fuzz)
                // Sanitizers are unstable; the pinned toolchain accepts them under this name.
                .env("RUSTC_BOOTSTRAP", "1")
                .env("ENFORCER_SKIP_EBPF", "1")
                .args(["fuzz", "run", target, "--", &format!("-max_total_time={secs}")]),
        )?;
    }
    Ok(())
}
