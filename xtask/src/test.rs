//! The README's test command: all three rings, none skipped.

use crate::exec::{Done, cargo, run as execute, step};
use crate::{regression, setup, suites};
use std::process::Command;

/// Builds once and runs every test; `filter` narrows it to tests whose name has it.
pub(crate) fn run(filter: &[&str]) -> Done {
    setup::build()?;
    setup::world()?;
    setup::containers()?;
    suites::fetch()?;
    regression::fetch()?;
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
    compared("regression_sql", "REGRESS", files, "postgres-regression.md", regression::fetch)
}

/// All of the drivers' own test suites, or these: the test that `run` leaves out for its length.
pub(crate) fn drivers(names: &[&str]) -> Done {
    compared("drivers_own_suites", "DRIVERS", names, "postgres-drivers.md", suites::fetch)
}

/// The ignored tests of PostgreSQL of this name, on these parts or on all; a run of all writes
/// the page.
fn compared(tests: &str, variable: &str, parts: &[&str], page: &str, fetch: fn() -> Done) -> Done {
    setup::build()?;
    setup::world()?;
    fetch()?;
    step("building everything");
    execute(workspace("build").arg("--all-targets"))?;
    step("straight and through the gate");
    let mut test = workspace("test");
    test.args(["--test", "postgres", tests, "--", "--ignored", "--nocapture"])
        .env(format!("ENFORCER_{variable}_PARTS"), parts.join(" "));
    if parts.is_empty() {
        let page = crate::exec::root().join("docs").join(page);
        test.env(format!("ENFORCER_{variable}_REPORT"), page);
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
