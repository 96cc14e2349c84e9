//! One run of a driver's own test suite by pytest, straight or through the gate.

use crate::gate::{Gate, Start};
use enforcer_tests::agents::postgres_suites;
use enforcer_tests::postgres::{PORT, User};
use enforcer_tests::world::FAR_V4;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Who the suites take themselves for: pg8000's has the name in it.
const ADMIN: User = User { name: "postgres", password: Some("postgres-secret-7") };

/// After how many seconds a test failed, and after how many a run ends.
const TEST_LIMIT: &str = "--timeout=120";
const RUN_LIMIT: &str = "3600";

/// What the suites' own instructions ask of a server. pg8000's want a database for each way to
/// sign in, psycopg2's replication.
const HBA: &str = "\
host pg8000_md5           postgres all md5
host pg8000_password      postgres all password
host pg8000_scram_sha_256 postgres all scram-sha-256
host pg8000_gss           postgres all gss
host replication          postgres all scram-sha-256
host all                  postgres all scram-sha-256
";

/// A driver's own tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suite {
    /// How `cargo xtask drivers` knows it.
    pub(crate) name: &'static str,
    /// What it is of, for the page.
    pub(crate) driver: &'static str,
    /// Its directory, below that of all suites.
    dir: &'static str,
    /// For pytest: which tests.
    tests: &'static [&'static str],
    /// What its own instructions want in the database.
    database: &'static str,
}

/// All of them. What is left out has nothing to do with a server that is there: the style of
/// sources, servers that the tests start themselves, benchmarks, a README.
pub(crate) const SUITES: [Suite; 4] = [
    Suite {
        name: "asyncpg",
        driver: "asyncpg 0.31.0",
        dir: "asyncpg-0.31.0",
        tests: &[
            "tests",
            "--ignore=tests/test__sourcecode.py",
            "--deselect=tests/test_connect.py::TestConnectionAttributes",
        ],
        database: "",
    },
    Suite {
        name: "psycopg2",
        driver: "psycopg2 2.9.11",
        dir: "psycopg2-2.9.11",
        tests: &["tests"],
        database: "CREATE EXTENSION hstore",
    },
    Suite {
        name: "pg8000",
        driver: "pg8000 1.31.6",
        dir: "pg8000-1.31.6",
        tests: &[
            "test",
            "--ignore=test/test_readme.py",
            "--ignore=test/dbapi/test_benchmarks.py",
            "--ignore=test/legacy/test_benchmarks.py",
            "--ignore=test/native/test_benchmarks.py",
        ],
        database: "CREATE EXTENSION hstore",
    },
    Suite {
        name: "sqlalchemy",
        driver: "psycopg 3.3.4, by SQLAlchemy 2.0.44",
        dir: "sqlalchemy-2.0.44",
        tests: &[
            "test/dialect/postgresql",
            "test/dialect/test_suite.py",
            // Nine thousand combinations of a few dozen questions.
            "-k",
            "not ComponentReflectionTest and not RangeRoundTripTest",
        ],
        database: "CREATE EXTENSION hstore; CREATE EXTENSION citext;\
                   CREATE SCHEMA test_schema; CREATE SCHEMA test_schema_2",
    },
];

/// How a run gets to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Straight, as the role that the gate would use.
    Straight,
    /// Through the gate, as the agent that may do all.
    Gated,
}

/// What a test came to.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Came {
    test: String,
    /// `passed`, `skipped` or `failed`.
    pub(crate) outcome: String,
    /// What pytest says of a failure.
    pub(crate) text: String,
}

/// What the tests of a suite came to, by their names.
pub(crate) type Results = BTreeMap<String, Came>;

/// A server of its own, as new, and the way to it.
pub(crate) struct Run {
    pub(crate) gate: Gate,
    way: Way,
    suite: &'static Suite,
    dir: PathBuf,
}

impl Run {
    /// Starts a server that has what the suite needs.
    pub(crate) fn start(way: Way, suite: &'static Suite) -> Self {
        let gate = Gate::start_as(&Start {
            target: "allow = [\"function-call\", \"replication\"]",
            role: Some(ADMIN),
            server: "wal_level = logical\nmax_prepared_transactions = 10\n",
        });
        let password = ADMIN.password.unwrap_or_default();
        gate.postgres.admin("postgres", &format!("ALTER ROLE postgres PASSWORD '{password}'"));
        gate.postgres.admin("postgres", suite.database);
        gate.postgres.let_in(HBA);
        let dir = gate.world.path("suites");
        fs::create_dir_all(&dir).expect("made");
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).expect("set");
        fs::write(dir.join("results.py"), include_str!("results.py")).expect("written");
        Self { gate, way, suite, dir }
    }

    /// Runs the suite's tests, or those that these arguments for pytest say; where there are
    /// names in `only`, these of them.
    pub(crate) fn tests(&self, tests: &[&str], only: &[&String]) -> Results {
        let suite = self.suite;
        let results = self.dir.join("results.json");
        let out = results.with_extension("out");
        let mut command = match self.way {
            Way::Straight => {
                let mut command = self.gate.straight("setpriv");
                command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "sh"]);
                command.env("PGHOST", FAR_V4);
                command
            }
            Way::Gated => self.gate.agent("free", "db.test", "sh"),
        };
        let host = if self.way == Way::Straight { FAR_V4 } else { "db.test" };
        environment(&mut command, host);
        let tests = if tests.is_empty() { suite.tests } else { tests };
        let pytest = "cd \"$0\" && exec >\"$1\" 2>&1 && shift && exec timeout -k 10 \"$@\"";
        let home = postgres_suites();
        command.args(["-c", pytest]).arg(home.join(suite.dir)).arg(&out).arg(RUN_LIMIT);
        command
            .arg(home.join("venv/bin/python"))
            .args(["-m", "pytest", "-p", "results", "-p", "no:cacheprovider", TEST_LIMIT])
            .args(tests);
        if suite.name == "sqlalchemy" {
            let password = ADMIN.password.unwrap_or_default();
            command
                .arg("--maxfail=0")
                .arg("--dburi")
                .arg(format!("postgresql+psycopg://postgres:{password}@{host}:{PORT}/postgres"));
        }
        command
            .env("HOME", &self.dir)
            .env("PYTHONPATH", &self.dir)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("ENFORCER_RESULTS", &results);
        if !only.is_empty() {
            let names: Vec<&str> = only.iter().map(|name| name.as_str()).collect();
            let file = results.with_extension("only");
            fs::write(&file, names.join("\n")).expect("written");
            command.env("ENFORCER_ONLY", &file);
        }
        let began = Instant::now();
        let status = command.status().expect("pytest starts");
        let said = fs::read_to_string(&out).unwrap_or_default();
        // Python may warn behind it.
        let last = said.lines().rfind(|line| line.starts_with('=')).unwrap_or_default();
        let took = Duration::from_secs(began.elapsed().as_secs());
        eprintln!("{} {:?}: {last} ({took:?})", suite.name, self.way);
        // 1: tests failed. Everything else is no result.
        assert!(matches!(status.code(), Some(0 | 1)), "{}: {status}\n{said}", suite.name);
        let lines = fs::read_to_string(&results).expect("read");
        let came = lines.lines().map(|line| serde_json::from_str::<Came>(line).expect("JSON"));
        came.map(|came| (came.test.clone(), came)).collect()
    }
}

/// What tells the suites where the server is.
fn environment(command: &mut Command, host: &str) {
    let password = ADMIN.password.unwrap_or_default();
    command
        // Nobody asks for it at the gate, but some tests look at what they signed in with.
        .env("PGPASSWORD", password)
        .env("PGUSER", ADMIN.name)
        .env_remove("PGDATABASE")
        .env_remove("PGSSLMODE")
        .env_remove("PGCONNECT_TIMEOUT")
        .env("PSYCOPG2_TESTDB", "postgres")
        .env("PSYCOPG2_TESTDB_HOST", host)
        .env("PSYCOPG2_TESTDB_PORT", PORT.to_string())
        .env("PSYCOPG2_TESTDB_USER", ADMIN.name)
        .env("PSYCOPG2_TESTDB_PASSWORD", password)
        .env("PSYCOPG2_TEST_REPL_DSN", "");
}
