//! Drivers' own test suites, from their source distributions on PyPI, and a Python with the
//! drivers of the same versions.
//!
//! Nothing of them is kept in the repository. All of it lies where every user can read it.

use crate::exec::{Done, quiet, run, step};
use crate::setup::debian;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where it lives: `tests/src/agents.rs` reads it there.
const HOME: &str = "/var/tmp/enforcer-agents/postgres-suites";

/// The file that says that all of it is there, and of which versions.
const READY: &str = "VERSIONS";

/// Whose source distributions are unpacked, and the versions.
const SOURCES: [&str; 4] =
    ["asyncpg==0.31.0", "psycopg2==2.9.11", "pg8000==1.31.6", "SQLAlchemy==2.0.44"];

/// What is installed: the drivers as they are built, what their tests import, and pytest.
const INSTALLED: [&str; 12] = [
    "asyncpg==0.31.0",
    "psycopg2-binary==2.9.11",
    "pg8000==1.31.6",
    "psycopg[binary]==3.3.4",
    "SQLAlchemy==2.0.44",
    "greenlet==3.2.4",
    "distro==1.9.0",
    "pytest==9.2.0",
    "pytest-mock==3.15.1",
    "pytest-timeout==2.4.0",
    "python-dateutil==2.9.0.post0",
    "pytz==2025.2",
];

/// Fetches and unpacks it unless these versions are there.
pub(crate) fn fetch() -> Done {
    let home = Path::new(HOME);
    let versions = format!("{}\n{}\n", SOURCES.join("\n"), INSTALLED.join("\n"));
    let ready = home.join(READY);
    if fs::read_to_string(&ready).is_ok_and(|had| had == versions) {
        return Ok(());
    }
    // pg_config, by which psycopg2's source distribution says what it is.
    debian(&["libpq-dev", "python3-venv"])?;
    step("fetching the drivers' own test suites");
    let io = |error: std::io::Error| format!("{HOME}: {error}");
    let _ = fs::remove_dir_all(home);
    fs::create_dir_all(home.join("work")).map_err(io)?;
    run(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(home.join("venv")))?;
    let pip = || {
        let mut pip = Command::new(home.join("venv/bin/python"));
        pip.args(["-m", "pip", "--quiet", "--disable-pip-version-check"]);
        pip
    };
    run(pip().arg("install").args(INSTALLED))?;
    for source in SOURCES {
        let (name, version) = source.split_once("==").unwrap_or((source, ""));
        run(pip()
            .args(["download", "--no-deps", "--no-binary", name, source, "--dest"])
            .arg(home.join("work")))?;
        let dir = format!("{}-{version}", name.to_lowercase());
        run(Command::new("tar")
            .args(["--no-same-owner", "--no-same-permissions", "-C", HOME, "-xzf"])
            .arg(home.join("work").join(format!("{dir}.tar.gz"))))?;
    }
    // The installed one is under test, and not its sources without what is compiled.
    fs::remove_dir_all(home.join("asyncpg-0.31.0/asyncpg")).map_err(io)?;
    fs::remove_dir_all(home.join("work")).map_err(io)?;
    if !quiet(Command::new("chmod").args(["-R", "a+rX", HOME])) {
        return Err(format!("{HOME} could not be made readable"));
    }
    fs::write(&ready, versions).map_err(io)
}
