//! PostgreSQL itself, from Debian's packages: own data, own port, TLS by an own CA, and one role,
//! `app`, that signs in by SCRAM over TLS alone.

use super::{NAME, PATIENCE};
use rustls_pki_types::CertificateDer;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// The database, and the user that agents sign in as.
pub(super) const DATABASE: &str = "shop";
const PASSWORD: &str = "the role: its password";

/// Host, database and the like, how to sign in, and who.
const HBA: &str = "local all all trust\nhostssl all all all scram-sha-256\n\
                   hostssl replication all all scram-sha-256\n";

/// A running server; it ends with this value.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) ca: CertificateDer<'static>,
    /// The file with the role's password.
    pub(super) password: PathBuf,
    dir: tempfile::TempDir,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Immediate shutdown, which takes the server's own children along.
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        }
    }
}

/// Where Debian keeps the newest version's programs.
fn bin(program: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed (cargo xtask setup, or apt install postgresql)");
    let newest = versions.flatten().map(|entry| entry.path()).max_by_key(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok())
    });
    newest.expect("a version of PostgreSQL is there").join("bin").join(program)
}

/// The program as a user that PostgreSQL takes: it refuses to run as root.
fn owned(program: &str) -> Command {
    if !nix::unistd::Uid::effective().is_root() {
        return Command::new(bin(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(bin(program));
    command
}

async fn must(mut command: Command) {
    let done = command.output().await.expect("started");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Server {
    /// Starts one on a free port.
    pub(super) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        let (chain_file, key_file) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        fs::write(&chain_file, leaf.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
        let password = dir.path().join("password");
        fs::write(&password, PASSWORD).unwrap();
        own(dir.path()).await;
        let mut initdb = owned("initdb");
        initdb.arg("-D").arg(&data).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]);
        must(initdb).await;
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        let port = free_port();
        let config = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = '{dir}'\n\
             ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nfsync = off\n\
             synchronous_commit = off\nfull_page_writes = off\nshared_buffers = 16MB\n\
             max_connections = 40\nwal_level = logical\nlc_messages = 'C'\ntimezone = 'UTC'\n",
            chain_file.display(),
            key_file.display(),
            dir = dir.path().display(),
        );
        fs::write(data.join("postgresql.auto.conf"), config).unwrap();
        let log = fs::File::create(dir.path().join("server.log")).unwrap();
        let mut postgres = owned("postgres");
        postgres.arg("-D").arg(&data).stdout(Stdio::null()).stderr(log);
        let child = postgres.spawn().unwrap();
        let server = Self { port, ca: ca.der().clone(), password, dir, child };
        server.ready().await;
        server.sql("postgres", &format!("CREATE DATABASE {DATABASE}")).await;
        let role = format!(
            "CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'; GRANT ALL ON SCHEMA public TO app;\
             ALTER DATABASE {DATABASE} OWNER TO app"
        );
        server.sql(DATABASE, &role).await;
        server
    }

    /// Its certificate and key, in PEM files.
    pub(super) fn identity(&self) -> (PathBuf, PathBuf) {
        (self.dir.path().join("chain.pem"), self.dir.path().join("key.pem"))
    }

    /// Where it is reached without TLS or password.
    pub(super) fn socket(&self) -> PathBuf {
        self.dir.path().join(format!(".s.PGSQL.{}", self.port))
    }

    async fn ready(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let mut check = Command::new(bin("pg_isready"));
            check.arg("-h").arg(self.dir.path()).args(["-p", &self.port.to_string()]);
            if check.output().await.unwrap().status.success() {
                return;
            }
            let log = fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
            assert!(tokio::time::Instant::now() < deadline, "never ready: {log}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Runs SQL on the server itself, past the gate, as superuser.
    pub(super) async fn admin(&self, sql: &str) -> String {
        self.sql(DATABASE, sql).await
    }

    async fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(bin("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-c", sql])
            .args(["-p", &self.port.to_string(), "-d", database, "-h"])
            .arg(self.dir.path());
        let done = psql.output().await.unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    /// A client program on a port of this host; what it printed on both outputs, in the order of
    /// stdout and stderr, and whether it succeeded.
    pub(super) async fn client(
        &self,
        program: &str,
        args: &[&str],
        input: &str,
        port: u16,
        sslmode: &str,
    ) -> (String, bool) {
        let mut command = Command::new(bin(program));
        command
            .args(args)
            .env("PGHOST", "127.0.0.1")
            .env("PGPORT", port.to_string())
            .env("PGUSER", "agent")
            .env("PGDATABASE", DATABASE)
            .env("PGSSLMODE", sslmode)
            .env("PGCONNECT_TIMEOUT", "20")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).await.unwrap();
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output());
        let done = done.await.expect("in time").unwrap();
        let mut printed = String::from_utf8_lossy(&done.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&done.stderr));
        (printed, done.status.success())
    }
}

/// Gives a directory to the user that the server runs as.
async fn own(dir: &Path) {
    if nix::unistd::Uid::effective().is_root() {
        let mut chown = Command::new("chown");
        chown.args(["-R", "postgres:postgres"]).arg(dir);
        must(chown).await;
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
