//! The README's test command: all three rings, none skipped.

use crate::exec::{Done, cargo, run as execute, step};
use crate::setup;
use std::process::Command;

/// Builds once and runs every test; `filter` narrows it to tests whose name has it.
pub(crate) fn run(filter: &[&str]) -> Done {
    setup::build()?;
    setup::world()?;
    setup::containers()?;
    step("building everything");
    execute(workspace("build").arg("--all-targets"))?;
    step("unit and in-process tests");
    execute(workspace("test").args(["--lib", "--bins", "--no-fail-fast"]).args(filter))?;
    step("tests on a real kernel with real servers and clients");
    execute(
        workspace("test")
            .args(["--test", "*", "--no-fail-fast"])
            .args(filter)
            // They share the machine's cgroup tree and its two cores: one at a time.
            .args(["--", "--test-threads=1"]),
    )
}

/// Builds and runs the suite of kill cycles, so many of them.
pub(crate) fn soak(cycles: u32) -> Done {
    setup::build()?;
    setup::world()?;
    step("building everything");
    execute(workspace("build").arg("--all-targets"))?;
    step(&format!("{cycles} cycles"));
    execute(
        workspace("test")
            .args(["--test", "cycles", "--", "--nocapture"])
            .env("ENFORCER_CYCLES", cycles.to_string()),
    )
}

/// All of PostgreSQL's regression SQL, or these files of it: the test that `run` leaves out for
/// its length.
pub(crate) fn regress(files: &[&str]) -> Done {
    setup::build()?;
    setup::world()?;
    crate::regression::fetch()?;
    step("building everything");
    execute(workspace("build").arg("--all-targets"))?;
    step("PostgreSQL's regression SQL");
    let report = crate::exec::root().join("docs/postgres-regression.md");
    let mut test = workspace("test");
    test.args(["--test", "postgres", "regression_sql", "--", "--ignored", "--nocapture"])
        .env("ENFORCER_REGRESS_FILES", files.join(" "));
    if files.is_empty() {
        test.env("ENFORCER_REGRESS_REPORT", report);
    }
    execute(&mut test)
}

/// A cargo command over the whole user half. Always the same packages: cargo unifies
/// features over what is selected, and another selection would build RocksDB again.
pub(crate) fn workspace(command: &str) -> Command {
    let mut cargo = cargo();
    cargo.args([command, "--workspace", "--exclude", "enforcer-ebpf", "--locked"]);
    cargo
}
