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
    for dir in ["parts", "lists/partial", "cache/archives/partial", "source", "headers"] {
        fs::create_dir_all(work.join(dir)).map_err(io)?;
    }
    sources(&work).map_err(io)?;
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

/// The host's own archives, with the source packages of each, in lists of their own: the host's
/// stay as they are (sources.list(5), both forms).
fn sources(work: &Path) -> std::io::Result<()> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let parts = fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten();
    files.extend(parts.map(|entry| entry.path()));
    let read = |file: &&PathBuf| {
        // What apt itself reads.
        let end = file.extension().and_then(|end| end.to_str());
        matches!(end, Some("list" | "sources")) && file.is_file()
    };
    for file in files.iter().filter(read) {
        let Some(name) = file.file_name() else { continue };
        let mut text = String::new();
        for line in fs::read_to_string(file)?.lines() {
            text += line;
            text.push('\n');
            if let Some(rest) = line.strip_prefix("deb ") {
                text += &format!("deb-src {rest}\n");
            } else if line.starts_with("Types:") && !line.contains("deb-src") {
                text.truncate(text.len() - 1);
                text += " deb-src\n";
            }
        }
        let name = if name == "sources.list" { "main.list".as_ref() } else { name };
        fs::write(work.join("parts").join(name), text)?;
    }
    Ok(())
}

fn apt(work: &Path) -> Command {
    let mut apt = Command::new("apt-get");
    apt.current_dir(work).args(["-o", "Dir::Etc::SourceList=-"]);
    for (key, path) in [
        ("Dir::Etc::SourceParts", "parts"),
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
