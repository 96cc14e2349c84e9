//! The demonstration: a host, an approval server, real upstreams and real agents,
//! one line for each guarantee with what was observed. Exit 0 only if each was.
//!
//! Everything runs in two network namespaces and a cgroup tree of its own, so that
//! the machine's network and other processes are left alone.
#![expect(clippy::print_stdout, reason = "the demonstration speaks to a person")]

mod database;
mod scenes;
mod stage;

use stage::Stage;
use std::process::ExitCode;

fn main() -> ExitCode {
    let interactive = std::env::args().any(|arg| arg == "--interactive");
    let mut stage = Stage::set(interactive);
    for scene in scenes::ALL {
        scene(&mut stage);
    }
    stage.curtain()
}
