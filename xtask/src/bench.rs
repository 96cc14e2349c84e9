//! Speed, as released, beside what else stands there.

use crate::exec::{Done, run as execute, step, target_dir};
use crate::setup;
use crate::test::workspace;
use std::process::Command;

/// Builds the product and the benches as they are released, and runs them.
pub(crate) fn run(options: &[&str]) -> Done {
    setup::build()?;
    setup::world()?;
    setup::beside()?;
    step("building as released (a profile of its own: everything is built once more)");
    execute(workspace("build").args(["--release", "--bins"]))?;
    execute(Command::new(target_dir().join("release/bench")).args(options))
}
