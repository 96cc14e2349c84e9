//! The programs that play agents: nobody here wrote them, and none is configured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the Python environment lives: readable by every user, kept between runs.
const VENV: &str = "/var/tmp/enforcer-agents/venv";

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

fn must(command: &mut Command) {
    let out = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
