//! PostgreSQL from Debian's packages: a server of this world's own on the far side, with its
//! own data, TLS by the far side's CA, and a user for each way to sign in.
//!
//! Nothing of the cluster that the package makes at its installation is used or touched.

use crate::daemon::must;
use crate::servers::{Pki, Server};
use crate::wait::eventually;
use crate::world::{FAR_V4, World};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The port that it listens on, on every far address.
pub const PORT: u16 = 5432;

/// The database that the suites use.
pub const DATABASE: &str = "shop";

/// Debian's user, as which the server runs: it refuses root.
const OWNER: &str = "postgres";

/// A way to sign in.
#[derive(Clone, Copy, Debug)]
pub struct User {
    /// The role's name.
    pub name: &'static str,
    /// Its password; none: a client certificate.
    pub password: Option<&'static str>,
}

/// SCRAM-SHA-256, with channel binding where the client can, over TLS only.
pub const SCRAM: User = User { name: "shop_scram", password: Some("scram-\u{fc} secret 1") };
/// MD5, over TLS only.
pub const MD5: User = User { name: "shop_md5", password: Some("md5-secret-2") };
/// The password in clear, over TLS only.
pub const CLEAR: User = User { name: "shop_clear", password: Some("clear-secret-3") };
/// A client certificate.
pub const CERTIFICATE: User = User { name: "shop_cert", password: None };
/// SCRAM-SHA-256 without TLS; with TLS it is refused.
pub const PLAIN: User = User { name: "shop_plain", password: Some("plain-secret-4") };
/// A role that owns what is in the database, may sign in by SCRAM over TLS, and is no superuser.
pub const OWNS: User = User { name: "shop_owner", password: Some("owner-secret-5") };
/// A superuser (for COPY PROGRAM and its like), by SCRAM over TLS.
pub const SUPER: User = User { name: "shop_super", password: Some("super-secret-6") };

/// All of them.
pub const USERS: [User; 7] = [SCRAM, MD5, CLEAR, CERTIFICATE, PLAIN, OWNS, SUPER];

/// Where Debian keeps the newest version's programs.
pub fn bin() -> PathBuf {
    let version = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok())
    };
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("bin/postgres").exists())
        .max_by_key(|path| version(path))
        .expect("a version of PostgreSQL is installed");
    newest.join("bin")
}

/// The running server; ends with this value.
#[derive(Debug)]
pub struct Postgres {
    server: Server,
    dir: PathBuf,
    /// The client certificate and key of [`CERTIFICATE`], readable by root.
    pub certificate: (PathBuf, PathBuf),
}

impl Postgres {
    /// Starts it on every far address, with a certificate for these names, and makes the users
    /// and the (empty) database.
    pub fn start(world: &World, pki: &Pki, names: &[&str]) -> Self {
        Self::start_with(world, pki, names, "")
    }

    /// The same, with more lines of configuration.
    pub fn start_with(world: &World, pki: &Pki, names: &[&str], config: &str) -> Self {
        let dir = world.path("postgres");
        fs::create_dir_all(&dir).expect("made");
        let (chain, key) = pki.leaf(&dir, names);
        let certificate = pki.client(&dir, CERTIFICATE.name);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
        let data = dir.join("data");
        fs::create_dir(&data).expect("made");
        must(Command::new("chown").arg("-R").arg(format!("{OWNER}:{OWNER}")).arg(&dir));
        let mut initdb = as_owner(Command::new("setpriv"));
        initdb.arg(bin().join("initdb")).arg("-D").arg(&data);
        must(initdb.args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]));
        fs::write(data.join("pg_hba.conf"), HBA).expect("written");
        let config = format!(
            "listen_addresses = '*'\nport = {PORT}\nunix_socket_directories = '{dir}'\n\
             ssl = on\nssl_cert_file = '{chain}'\nssl_key_file = '{key}'\nssl_ca_file = '{ca}'\n\
             fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_connections = 60\n\
             shared_buffers = 32MB\nlog_connections = on\nlog_statement = all\n\
             log_line_prefix = '%m [%p] %u@%d '\nlc_messages = 'C'\ntimezone = 'UTC'\n\
             max_prepared_transactions = 4\n{config}",
            dir = dir.display(),
            chain = chain.display(),
            key = key.display(),
            ca = pki.ca.display(),
        );
        fs::write(data.join("postgresql.auto.conf"), config).expect("written");
        let mut postgres = as_owner(world.far.command("setpriv"));
        postgres.arg(bin().join("postgres")).arg("-D").arg(&data);
        let log = dir.join("server.log");
        let server = Server::start(world, postgres, log, &format!("{FAR_V4}:{PORT}"));
        let started = Self { server, dir, certificate };
        // It listens before it lets anybody in.
        eventually("the database system is up", Duration::from_secs(20), || {
            let mut ready = Command::new(bin().join("pg_isready"));
            ready.args(["-q", "-p", &PORT.to_string(), "-h"]).arg(&started.dir);
            ready.status().is_ok_and(|status| status.success()).then_some(())
        });
        started.make_users();
        started
    }

    fn make_users(&self) {
        self.admin("postgres", &format!("CREATE DATABASE {DATABASE}"));
        let mut sql = String::new();
        for user in USERS {
            let encryption = if user.name == MD5.name { "md5" } else { "scram-sha-256" };
            sql += &format!("SET password_encryption = '{encryption}';\n");
            let password =
                user.password.map_or_else(|| "NULL".to_owned(), |text| format!("'{text}'"));
            let right = if user.name == SUPER.name { "SUPERUSER" } else { "REPLICATION" };
            sql += &format!("CREATE ROLE {} LOGIN {right} PASSWORD {password};\n", user.name);
            sql += &format!("GRANT ALL ON DATABASE {DATABASE} TO {};\n", user.name);
        }
        sql += &format!("ALTER DATABASE {DATABASE} OWNER TO {};\n", OWNS.name);
        self.admin("postgres", &sql);
        self.admin(DATABASE, "GRANT ALL ON SCHEMA public TO public");
    }

    /// Runs SQL as superuser on the server itself, past everything that is under test; gives
    /// what psql prints, without heads and alignment.
    ///
    /// # Panics
    /// When a statement fails.
    pub fn admin(&self, database: &str, sql: &str) -> String {
        use std::io::Write as _;
        let mut psql = Command::new(bin().join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"])
            .args(["-p", &PORT.to_string(), "-d", database, "-f", "-", "-h"])
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        psql.stdin.take().expect("piped").write_all(sql.as_bytes()).expect("psql reads");
        let out = psql.wait_with_output().expect("psql ends");
        assert!(out.status.success(), "{sql}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
    }

    /// Lets in who these lines of `pg_hba.conf` say, beside those that it lets in.
    pub fn let_in(&self, lines: &str) {
        let file = self.dir.join("data/pg_hba.conf");
        fs::write(file, format!("{HBA}{lines}")).expect("written");
        self.admin("postgres", "SELECT pg_reload_conf()");
    }

    /// The socket on which it trusts `postgres`: the way past everything that is under test.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(format!(".s.PGSQL.{PORT}"))
    }

    /// The server's own record: connections and every statement that reached it.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.server.log).expect("the log")
    }

    /// Whether a statement with this text reached it.
    pub fn saw(&self, text: &str) -> bool {
        self.log().contains(text)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Not SIGKILL: an immediate shutdown takes its shared memory with it.
        let pid = i32::try_from(self.server.pid()).map(nix::unistd::Pid::from_raw);
        if let Ok(pid) = pid {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        }
        let ended = self.dir.join("data/postmaster.pid");
        for _ in 0..50 {
            if !ended.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// `setpriv` to the server's user; the program follows.
fn as_owner(mut command: Command) -> Command {
    command.args([
        &format!("--reuid={OWNER}"),
        &format!("--regid={OWNER}"),
        "--clear-groups",
        "--",
    ]);
    command.current_dir("/");
    command
}

/// Who may come in how. Over the wire nothing is trusted; the suites' own word comes by the
/// unix socket.
const HBA: &str = "\
local   all         postgres                 trust
hostssl all         shop_scram  all          scram-sha-256
hostssl all         shop_md5    all          md5
hostssl all         shop_clear  all          password
hostssl all         shop_cert   all          cert
hostssl all         shop_owner  all          scram-sha-256
hostssl all         shop_super  all          scram-sha-256
hostnossl all       shop_plain  all          scram-sha-256
hostssl replication shop_scram  all          scram-sha-256
";
