//! Tasks around the build. Plain std and linked without a C toolchain, so that
//! `cargo xtask` starts on a host that has nothing but rustup; whatever else is
//! needed it installs itself and says so.

mod bench;
mod check;
mod demo;
mod exec;
mod fuzz;
mod regression;
mod setup;
mod suites;
mod test;
mod vm;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <task>

  demo [--interactive]   build and show every guarantee on this machine (as root)
  test [FILTER]          run every test (as root)
  lint                   formatting, clippy on both halves, dependency policy
  ci                     lint, vm, then test
  vm [--kernel K] [--suite S] [--filter NAME] [--report]
                         the containment suite on Debian's kernels: 6.1 (default), 6.12, newest
                         or all, in virtual machines (as root); --report
                         writes docs/kernels.md
  soak [--cycles N]      kill and restart the daemon N times (default 1000) while clients work
                         and probes try to get out (as root)
  bench [postgres | approvals [--hosts N]] [--rounds N] [--seconds N]
                         the way through the gate beside the direct way and beside what else
                         stands there, as released (as root); prints ratios
  regress [FILE...]      all of PostgreSQL's own regression SQL through the gate beside a direct run
                         (as root); without FILE it writes docs/postgres-regression.md
  drivers [SUITE...]     drivers' own test suites through the gate beside a direct run (as root);
                         without SUITE it writes docs/postgres-drivers.md
  fuzz [--secs N]        run every fuzz target for N seconds (default 60)
  setup                  only install what the other tasks need
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo", rest @ ..] => demo::run(rest),
        ["test", rest @ ..] => test::run(rest),
        ["lint"] => check::run(),
        // The tests are last: the log ends with their own summary.
        ["ci"] => check::run().and_then(|()| vm::run(&[])).and_then(|()| test::run(&[])),
        ["vm", rest @ ..] => vm::run(rest),
        ["soak"] => test::soak(1_000),
        ["soak", "--cycles", cycles] => match cycles.parse() {
            Ok(cycles) => test::soak(cycles),
            Err(_) => Err(format!("--cycles takes a number, not `{cycles}`")),
        },
        ["bench", rest @ ..] => bench::run(rest),
        ["fuzz"] => fuzz::run(60),
        ["fuzz", "--secs", secs] => match secs.parse() {
            Ok(secs) => fuzz::run(secs),
            Err(_) => Err(format!("--secs takes a number, not `{secs}`")),
        },
        ["regress", rest @ ..] => test::regress(rest),
        ["drivers", rest @ ..] => test::drivers(rest),
        ["setup"] => setup::everything()
            .and_then(|()| suites::fetch())
            .and_then(|()| regression::fetch())
            .and_then(|()| vm::fetch()),
        ["help" | "--help" | "-h"] | [] => {
            print!("{USAGE}");
            Ok(())
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("xtask: {what}");
            ExitCode::FAILURE
        }
    }
}
