//! Every fuzz target for a while.

use crate::exec::{Done, cargo, root, run as execute, step, target_dir};
use crate::setup;
use std::fs;
use std::path::{Path, PathBuf};

/// Runs each target of `enforcer/fuzz` for `secs` seconds. One that fails does not keep the
/// others from running.
pub(crate) fn run(secs: u32) -> Done {
    setup::build()?;
    setup::cargo_fuzz()?;
    let fuzz = root().join("enforcer/fuzz");
    let rocksdb = std::env::var_os("ROCKSDB_LIB_DIR").map(PathBuf::from).or_else(|| built(&fuzz));
    let cargo_fuzz = |command: &str| {
        let mut cargo = cargo();
        cargo
            .current_dir(&fuzz)
            .args(["fuzz", command])
            // Coverage is unstable; the pinned toolchain accepts it under this name.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("ENFORCER_SKIP_EBPF", "1");
        if let Some(dir) = &rocksdb {
            cargo.env("ROCKSDB_LIB_DIR", dir).env("ROCKSDB_STATIC", "1");
        }
        cargo
    };
    step("building the fuzz targets");
    // What is fuzzed is safe Rust: panics, hangs and memory are looked for, and show without
    // a sanitizer. RocksDB as the other tasks built it has none.
    execute(cargo_fuzz("build").args(["--sanitizer", "none"]))?;
    let listed = cargo_fuzz("list")
        .output()
        .map_err(|error| format!("cannot list the fuzz targets: {error}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut failed = Vec::new();
    for target in listed.split_whitespace() {
        step(&format!("fuzzing {target} for {secs} s"));
        let mut cargo = cargo_fuzz("run");
        cargo.args(["--sanitizer", "none", target, "--", "-timeout=10", "-print_final_stats=1"]);
        cargo.arg(format!("-max_total_time={secs}"));
        let words = fuzz.join("dictionaries").join(target);
        if words.exists() {
            cargo.arg(format!("-dict={}", words.display()));
        }
        if let Err(what) = execute(&mut cargo) {
            eprintln!("{what}");
            failed.push(target);
        }
    }
    match (listed.trim().is_empty(), failed.is_empty()) {
        (true, _) => Err("no fuzz targets are listed".into()),
        (false, true) => Ok(()),
        (false, false) => Err(format!("failed: {}", failed.join(", "))),
    }
}

/// Where another task left the RocksDB that the targets link with: its C++ takes minutes to build.
fn built(fuzz: &Path) -> Option<PathBuf> {
    let lock = fs::read_to_string(fuzz.join("Cargo.lock")).ok()?;
    let (_, package) = lock.split_once("name = \"librocksdb-sys\"\nversion = \"")?;
    let version = format!("librocksdb-sys-{}\n", package.split_once('"')?.0);
    fs::read_dir(target_dir().join("debug/build")).ok()?.flatten().find_map(|entry| {
        // Cargo writes this file when the build is done.
        let output = fs::read_to_string(entry.path().join("output")).ok()?;
        let out = entry.path().join("out");
        (output.contains(&version) && out.join("librocksdb.a").exists()).then_some(out)
    })
}
