//! The programs that play agents: nobody here wrote them, and none is configured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the Python environment lives: readable by every user, kept between runs.
const VENV: &str = "/var/tmp/enforcer-agents/venv";

/// Where the one with PostgreSQL's drivers lives.
const DRIVERS: &str = "/var/tmp/enforcer-agents/postgres-venv";

/// Where node's driver lives.
const NODE_DRIVER: &str = "/var/tmp/enforcer-agents/postgres-node";

/// Where the one with the MCP client lives.
const MCP: &str = "/var/tmp/enforcer-agents/mcp-venv";

/// Debian's JDBC driver.
const JDBC: &str = "/usr/share/java/postgresql.jar";

/// A Python with httpx (HTTP/2) from PyPI, made once.
///
/// # Panics
/// When the environment cannot be made.
pub fn python() -> PathBuf {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let python = Path::new(VENV).join("bin/python");
        let works = |code: &str| {
            Command::new(&python).args(["-c", code]).output().is_ok_and(|out| out.status.success())
        };
        if works("import httpx, h2") {
            return;
        }
        must(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear", VENV]));
        must(Command::new(&python).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "httpx[http2]==0.28.1",
        ]));
        assert!(works("import httpx, h2"), "httpx was installed and cannot be imported");
    });
    Path::new(VENV).join("bin/python")
}

/// A Python with psycopg 3, asyncpg and SQLAlchemy from PyPI, made once.
///
/// # Panics
/// When the environment cannot be made.
pub fn postgres_python() -> PathBuf {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let python = Path::new(DRIVERS).join("bin/python");
        let works = |code: &str| {
            Command::new(&python).args(["-c", code]).output().is_ok_and(|out| out.status.success())
        };
        let drivers = "import psycopg, psycopg_binary, asyncpg, sqlalchemy";
        if works(drivers) {
            return;
        }
        must(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear", DRIVERS]));
        must(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args([
            "psycopg[binary]==3.3.4",
            "asyncpg==0.31.0",
            "SQLAlchemy==2.0.44",
        ]));
        assert!(works(drivers), "the drivers were installed and cannot be imported");
    });
    Path::new(DRIVERS).join("bin/python")
}

/// A Python with the MCP client from PyPI, made once.
///
/// # Panics
/// When the environment cannot be made.
pub fn mcp_python() -> PathBuf {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        let python = Path::new(MCP).join("bin/python");
        let works = || {
            let code = "import mcp.client.stdio, mcp.client.streamable_http";
            Command::new(&python).args(["-c", code]).output().is_ok_and(|out| out.status.success())
        };
        if works() {
            return;
        }
        must(Command::new("/usr/bin/python3").args(["-m", "venv", "--clear", MCP]));
        must(Command::new(&python).args(["-m", "pip", "install", "--quiet", "mcp==2.3.0"]));
        assert!(works(), "mcp was installed and cannot be imported");
    });
    Path::new(MCP).join("bin/python")
}

/// A directory in which node finds `pg` from npm, made once.
///
/// # Panics
/// When it cannot be made.
pub fn postgres_node() -> PathBuf {
    static READY: OnceLock<()> = OnceLock::new();
    let dir = Path::new(NODE_DRIVER);
    READY.get_or_init(|| {
        let works = || {
            let mut node = Command::new("node");
            node.current_dir(dir).args(["-e", "require('pg')"]);
            node.output().is_ok_and(|out| out.status.success())
        };
        if dir.is_dir() && works() {
            return;
        }
        std::fs::create_dir_all(dir).expect("made");
        must(
            Command::new("npm")
                .current_dir(dir)
                .args([
                    "install",
                    "--silent",
                    "--no-audit",
                    "--no-fund",
                    "--prefix",
                    ".",
                    "pg@8.16.3",
                ])
                .env("npm_config_cache", dir.join(".cache")),
        );
        assert!(works(), "pg was installed and cannot be loaded");
    });
    dir.to_owned()
}

/// The class path of Debian's JDBC driver.
pub fn postgres_jdbc() -> &'static str {
    JDBC
}

/// PostgreSQL's own regression SQL with its data and its functions in C, as `cargo xtask setup`
/// fetched and built it for the server that is installed.
///
/// # Panics
/// When it is not there.
pub fn postgres_regress() -> &'static Path {
    let dir = Path::new("/var/tmp/enforcer-agents/postgres-regress");
    assert!(dir.join("VERSION").is_file(), "{}: run `cargo xtask setup`", dir.display());
    dir
}

/// Drivers' own test suites, each in its directory, and `venv` with the drivers, as
/// `cargo xtask setup` fetched them.
///
/// # Panics
/// When they are not there.
pub fn postgres_suites() -> &'static Path {
    let dir = Path::new("/var/tmp/enforcer-agents/postgres-suites");
    assert!(dir.join("VERSIONS").is_file(), "{}: run `cargo xtask setup`", dir.display());
    dir
}

fn must(command: &mut Command) {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
