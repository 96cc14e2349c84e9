//! PostgreSQL's own regression SQL, from Debian's source package of the server that is installed.
//!
//! Nothing of it is kept in the repository. The SQL, its data and its expected output are
//! unpacked where every user can read them, and its C functions are built beside.

use crate::exec::{Done, quiet, run, step};
use crate::setup::debian;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where it lives: `tests/src/agents.rs` reads it there.
const HOME: &str = "/var/tmp/enforcer-agents/postgres-regress";

/// The file that says that all of it is there, and of which version.
const READY: &str = "VERSION";

/// Debian 12's server.
const MAJOR: &str = "15";

/// The source and the headers that go with the server, from Debian's own archives, in lists of
/// their own: a host's sources stay as they are.
const SOURCES: &str = "\
deb-src http://deb.debian.org/debian bookworm main
deb-src http://deb.debian.org/debian-security bookworm-security main
deb http://deb.debian.org/debian bookworm main
deb http://deb.debian.org/debian-security bookworm-security main
";

/// Fetches and builds it unless it is there for the version that is installed.
pub(crate) fn fetch() -> Done {
    let version = installed()?;
    let ready = Path::new(HOME).join(READY);
    if fs::read_to_string(&ready).is_ok_and(|had| had.trim() == version) {
        return Ok(());
    }
    debian(&["bzip2", "dpkg-dev", "gcc", "libc6-dev"])?;
    step(&format!("fetching PostgreSQL's regression SQL ({version})"));
    let _ = fs::remove_dir_all(HOME);
    let work = Path::new(HOME).join("work");
    let io = |error: std::io::Error| format!("{}: {error}", work.display());
    for dir in ["lists/partial", "cache/archives/partial", "source", "headers"] {
        fs::create_dir_all(work.join(dir)).map_err(io)?;
    }
    fs::write(work.join("sources.list"), SOURCES).map_err(io)?;
    run(apt(&work).args(["-q", "update"]))?;
    let source = unpack(&work, &version)?;
    headers(&work, &version)?;
    build(&work, &source)?;
    for dir in ["sql", "data", "expected", "parallel_schedule"] {
        let from = source.join("src/test/regress").join(dir);
        fs::rename(from, Path::new(HOME).join(dir)).map_err(io)?;
    }
    fs::remove_dir_all(&work).map_err(io)?;
    fs::write(&ready, version).map_err(io)
}

/// The version of the server's package.
fn installed() -> Result<String, String> {
    let package = format!("postgresql-{MAJOR}");
    let out = Command::new("dpkg-query").args(["-W", "-f=${Version}", &package]).output();
    let out = out.map_err(|error| format!("cannot start dpkg-query: {error}"))?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(format!("{package} is not installed: the regression SQL is that version's")),
    }
}

fn apt(work: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.current_dir(work).args(["-o", "Dir::Etc::SourceParts=-"]);
    for (key, path) in [
        ("Dir::Etc::SourceList", "sources.list"),
        ("Dir::State::Lists", "lists"),
        ("Dir::Cache", "cache"),
    ] {
        apt.arg("-o").arg(format!("{key}={}", work.join(path).display()));
    }
    apt
}

/// The tree of the source package, as its authors released it.
fn unpack(work: &Path, version: &str) -> Result<PathBuf, String> {
    let package = format!("postgresql-{MAJOR}={version}");
    run(apt(work).args(["-q", "--download-only", "source", &package]))?;
    let archive = find(work, ".orig.tar.bz2")?;
    let source = work.join("source");
    run(Command::new("tar").arg("-xjf").arg(archive).arg("-C").arg(&source).args([
        "--strip-components=1",
        "--no-same-owner",
        "--no-same-permissions",
        "--wildcards",
        "*/src/test/regress/*",
        "*/src/include/*",
    ]))?;
    Ok(source)
}

/// The server's own headers, as it was configured. The package is unpacked and not installed.
fn headers(work: &Path, version: &str) -> Done {
    let package = format!("postgresql-server-dev-{MAJOR}={version}");
    run(apt(work).args(["-q", "download", &package]))?;
    let archive = find(work, ".deb")?;
    run(Command::new("dpkg-deb").arg("-x").arg(archive).arg(work.join("headers")))
}

/// The functions in C that some files load, and the two modules that one of them takes from the
/// server's own directory.
fn build(work: &Path, source: &Path) -> Done {
    let lib = Path::new(HOME).join("lib");
    fs::create_dir_all(&lib).map_err(|error| format!("{}: {error}", lib.display()))?;
    run(Command::new("gcc")
        .args(["-shared", "-fPIC", "-O1", "-w", "-fwrapv", "-fno-strict-aliasing"])
        .arg("-I")
        .arg(work.join("headers/usr/include/postgresql").join(MAJOR).join("server"))
        .arg("-I")
        .arg(source.join("src/include"))
        .arg("-o")
        .arg(lib.join("regress.so"))
        .arg(source.join("src/test/regress/regress.c")))?;
    for module in ["autoinc.so", "refint.so"] {
        let from = Path::new("/usr/lib/postgresql").join(MAJOR).join("lib").join(module);
        fs::copy(&from, lib.join(module))
            .map_err(|error| format!("{}: {error}", from.display()))?;
    }
    match quiet(Command::new("chmod").args(["-R", "a+rX", HOME])) {
        true => Ok(()),
        false => Err(format!("{HOME} could not be made readable")),
    }
}

/// The one file there whose name ends so.
fn find(dir: &Path, end: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path());
    found
        .find(|path| path.to_string_lossy().ends_with(end))
        .ok_or_else(|| format!("{}: no file {end} was fetched", dir.display()))
}
