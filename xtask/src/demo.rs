//! The README's demo command.

use crate::exec::{Done, run as execute, step, target_dir};
use crate::setup;
use crate::test::workspace;
use std::process::Command;

/// Builds the product and runs the demonstration.
pub(crate) fn run(options: &[&str]) -> Done {
    setup::build()?;
    setup::world()?;
    step(
        "building (the first time takes a while: RocksDB and the TLS library are built from source)",
    );
    execute(workspace("build").arg("--all-targets"))?;
    execute(Command::new(target_dir().join("debug/demo")).args(options))
}
