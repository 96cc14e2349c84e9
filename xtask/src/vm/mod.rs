//! The containment suite (or another) on other kernels: Debian's, in small virtual machines
//! that see this host's files read-only.

mod image;
mod kernels;
mod machine;
mod report;

use crate::exec::{Done, run as execute, step, target_dir};
use crate::setup;
use crate::test::workspace;
use kernels::{Kernel, home, make, names, unpacked};
use report::Row;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Longer than any machine needs, emulated or not.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// The kernel that is tried when none is named: the oldest, where the most is missing.
const USUAL: &str = "6.1";

/// What `cargo xtask vm` was told.
#[derive(Default)]
struct Options {
    kernels: Vec<String>,
    filter: Vec<String>,
    report: bool,
    /// Of `tests/tests`; the containment suite when none is named.
    suite: Option<String>,
}

/// Runs the suite on each kernel that was asked for; 6.1 when none was.
pub(crate) fn run(arguments: &[&str]) -> Done {
    let options = parse(arguments)?;
    setup::build()?;
    setup::world()?;
    setup::machines()?;
    let binary = suite(options.suite.as_deref().unwrap_or("kernel"))?;
    let kernels = options
        .kernels
        .iter()
        .map(|name| unpacked(&home(), name))
        .collect::<Result<Vec<_>, _>>()?;
    let mut failed = Vec::new();
    let mut rows = Vec::new();
    for kernel in &kernels {
        match on(kernel, &binary, &options) {
            Ok(row) => rows.push(row),
            Err(what) => {
                eprintln!("xtask: {what}");
                failed.push(kernel.name);
            }
        }
    }
    if !failed.is_empty() {
        return Err(format!("failed on {}", failed.join(", ")));
    }
    if options.report { report::write(&rows) } else { Ok(()) }
}

/// Fetches the kernel that `run` boots when none is named.
pub(crate) fn fetch() -> Done {
    unpacked(&home(), USUAL).map(drop)
}

fn parse(arguments: &[&str]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value =
            || words.next().map(|v| (*v).to_owned()).ok_or_else(|| format!("{word} takes a value"));
        match *word {
            "--kernel" => match value()?.as_str() {
                "all" => options.kernels.extend(names().map(str::to_owned)),
                name => options.kernels.push(name.to_owned()),
            },
            "--suite" => options.suite = Some(value()?),
            "--report" => options.report = true,
            "--filter" => options.filter.push(value()?),
            other => return Err(format!("vm does not know `{other}`")),
        }
    }
    if options.kernels.is_empty() {
        options.kernels.push(USUAL.into());
    }
    Ok(options)
}

/// A suite's program, built, beside a built `enforcer`.
fn suite(name: &str) -> Result<PathBuf, String> {
    step(&format!("building the suite {name}"));
    execute(workspace("build").arg("--bins"))?;
    let mut cargo = workspace("test");
    cargo.args(["--test", name, "--no-run"]).stderr(Stdio::piped());
    let out = cargo.output().map_err(|error| format!("cannot start cargo: {error}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(format!("{cargo:?}: {}\n{said}", out.status));
    }
    // "  Executable tests/kernel/main.rs (target/debug/deps/kernel-0123456789abcdef)"
    let built = said
        .lines()
        .filter(|line| line.trim_start().starts_with("Executable"))
        .find_map(|line| line.rsplit_once('(')?.1.strip_suffix(')'))
        .map(|path| crate::exec::root().join(path))
        .ok_or_else(|| format!("cargo named no program:\n{said}"))?;
    // Copies: the next build would change the files under a running machine.
    let dir = home().join("suite");
    make(&dir)?;
    let copy = |from: &Path, name: &str| {
        std::fs::copy(from, dir.join(name))
            .map(|_| dir.join(name))
            .map_err(|error| format!("{}: {error}", from.display()))
    };
    copy(&target_dir().join("debug/enforcer"), "enforcer")?;
    copy(&built, name)
}

fn on(kernel: &Kernel, binary: &Path, options: &Options) -> Result<Row, String> {
    step(&format!("{} on Linux {}", binary.display(), kernel.release));
    let filter: String = options.filter.iter().map(|word| format!(" '{word}'")).collect();
    // Two, as many as the machine has processors: each test has namespaces and cgroups of its own.
    // Times of an emulated machine mean nothing.
    let tests = format!(
        "ENFORCER_LAYERS=cgroup,unix,lsm ENFORCER_REPORT=/run/vm/report \
         '{}' --test-threads=2 --skip what_a_connect_costs{filter}",
        binary.display()
    );
    let left = machine::boot(&home(), kernel, &[tests], LIMIT)?;
    println!("Linux {}: held, in {} s", kernel.release, left.took.as_secs());
    Ok(Row::read(kernel, &left.dir))
}
