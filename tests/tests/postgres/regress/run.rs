//! One run of PostgreSQL's regression files: psql as pg_regress starts it, on a database as
//! pg_regress makes it, straight or through the gate.

use crate::gate::Gate;
use enforcer_tests::agents::postgres_regress;
use enforcer_tests::postgres::{SUPER, bin};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The database that the files expect.
const DATABASE: &str = "regression";

/// pg_regress.c, `create_database`.
const SETTINGS: [&str; 6] = [
    "lc_messages TO 'C'",
    "lc_monetary TO 'C'",
    "lc_numeric TO 'C'",
    "lc_time TO 'C'",
    "bytea_output TO 'hex'",
    "timezone_abbreviations TO 'Default'",
];

/// How a run gets to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight, as the role that the gate would use.
    Straight,
    /// Through the gate, as the agent that may do all, to the target of this name.
    Gated(&'static str),
}

/// A server of its own, as new, and the way to it.
pub(crate) struct Run {
    pub(crate) gate: Gate,
    out: PathBuf,
}

impl Run {
    /// Starts a server with an empty database.
    pub(crate) fn start() -> Self {
        let gate = Gate::start_with("allow = [\"function-call\"]");
        let create = format!("CREATE DATABASE {DATABASE} TEMPLATE template0 OWNER {}", SUPER.name);
        gate.postgres.admin("postgres", &create);
        for setting in SETTINGS {
            gate.postgres.admin("postgres", &format!("ALTER DATABASE {DATABASE} SET {setting}"));
        }
        let out = gate.world.path("regress");
        // The server writes there too, as its own user.
        for dir in [out.clone(), out.join("results"), out.join("testtablespace")] {
            fs::create_dir_all(&dir).expect("made");
            fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("set");
        }
        Self { gate, out }
    }

    /// What psql says to a file, which goes this way: its echo, rows, errors and notices in their
    /// order; and how long it took.
    pub(crate) fn file(&self, way: Way, name: &str) -> (String, Duration) {
        let source = postgres_regress();
        let result = self.out.join(format!("{name}.out"));
        let mut command = match way {
            Way::Straight => {
                let mut command = self.gate.straight("sh");
                let password = SUPER.password.unwrap_or_default();
                command.env("PGUSER", SUPER.name).env("PGPASSWORD", password);
                command
            }
            Way::Gated(host) => {
                let mut command = self.gate.agent("free", host, "sh");
                command.env("PGUSER", "root");
                command
            }
        };
        // One description for both, so that what psql says stays in its order.
        let psql = "exec timeout -k 10 900 \"$0\" -X -a -q -d \"$1\" -v HIDE_TABLEAM=on \
                    -v HIDE_TOAST_COMPRESSION=on <\"$2\" >\"$3\" 2>&1";
        command
            .args(["-c", psql])
            .arg(bin().join("psql"))
            .arg(DATABASE)
            .arg(source.join(format!("sql/{name}.sql")))
            .arg(&result);
        environment(&mut command, &self.out);
        let began = Instant::now();
        let status = command.status().expect("psql starts");
        let took = began.elapsed();
        let said = fs::read(&result).expect("read");
        let said = String::from_utf8_lossy(&said).into_owned();
        // 2: the connection was lost; 124: it did not end.
        match status.success() {
            true => (said, took),
            false => (format!("{said}psql: {status}\n"), took),
        }
    }
}

/// pg_regress.c, `initialize_environment`.
fn environment(command: &mut Command, out: &Path) {
    let source = postgres_regress();
    command
        .env("PG_ABS_SRCDIR", source)
        .env("PG_ABS_BUILDDIR", out)
        .env("PG_LIBDIR", source.join("lib"))
        .env("PG_DLSUFFIX", ".so")
        .env("PGTZ", "PST8PDT")
        .env("PGDATESTYLE", "Postgres, MDY")
        .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
        .env("PGCLIENTENCODING", "UTF8")
        .env("LC_MESSAGES", "C")
        .env("LC_ALL", "C.UTF-8")
        .env("PGAPPNAME", "pg_regress");
}

/// The files in the order of PostgreSQL's own schedule, one after another.
pub(crate) fn schedule() -> Vec<String> {
    let text = fs::read_to_string(postgres_regress().join("parallel_schedule")).expect("read");
    let lines = text.lines().filter_map(|line| line.strip_prefix("test: "));
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}
