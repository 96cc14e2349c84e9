//! Where a store under test is: a directory, or a database of the PostgreSQL that all tests of
//! this process share.

use crate::server::config;
use crate::server::store::Store;
use crate::server::store::postgres::Postgres;
use crate::server::store::rocks::Rocks;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Which {
    Rocks,
    Postgres,
}

/// What is there before and after a store that is open.
#[derive(Debug)]
pub(in crate::server) enum Place {
    Rocks(TempDir),
    /// A URL.
    Postgres(String),
}

impl Place {
    /// An empty one. In memory where there is such a place: a killed process loses nothing that
    /// it has written, on a disk or not.
    pub(in crate::server) fn new(which: Which) -> Self {
        match which {
            Which::Rocks => {
                let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
                Self::Rocks(dir.unwrap())
            }
            Which::Postgres => Self::Postgres(database()),
        }
    }

    /// A word for it that [`open`] understands.
    pub(in crate::server) fn word(&self) -> String {
        match self {
            Self::Rocks(dir) => dir.path().display().to_string(),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// The store there. Of RocksDB one at a time.
    pub(in crate::server) async fn open(&self) -> Arc<dyn Store> {
        open(&self.word()).await
    }
}

impl Place {
    /// As many stores over it as it can have at once: one, or three.
    pub(in crate::server) async fn replicas(&self) -> Vec<Arc<dyn Store>> {
        let mut all = vec![self.open().await];
        if let Self::Postgres(_) = self {
            all.push(self.open().await);
            all.push(self.open().await);
        }
        all
    }
}

/// The store of a [`Place::word`].
pub(in crate::server) async fn open(word: &str) -> Arc<dyn Store> {
    if word.starts_with("postgres://") {
        Arc::new(Postgres::open(word, &config::Store::default()).await.unwrap())
    } else {
        Arc::new(Rocks::open(Path::new(word)).unwrap())
    }
}

/// The server that the tests of this process share.
pub(in crate::server) fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| Server::made(true))
}

/// A new database of it, as a URL.
pub(in crate::server) fn database() -> String {
    shared().database()
}

/// A PostgreSQL from Debian's packages: own data, on a unix socket and, by TLS for `localhost`
/// alone, on a port.
#[derive(Debug)]
pub(in crate::server) struct Server {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// Runs the server until its input ends, which it does with this process however that ends, and
/// removes its data, or keeps it when told so.
const KEEPER: &str = "dir=$1; shift; \"$@\" >\"$dir/log\" 2>&1 & server=$!; read -r how; \
                      kill -QUIT $server; wait $server; [ \"$how\" = keep ] || rm -rf \"$dir\"";

/// Over TCP only TLS and a password.
const HBA: &str = "local all all trust\nhostssl all all all scram-sha-256\n";

/// The password of `postgres`, over TCP.
const PASSWORD: &str = "the store: its password";

impl Server {
    /// Makes one and starts it, on a unix socket alone.
    pub(in crate::server) fn start() -> Self {
        Self::made(false)
    }

    fn made(tcp: bool) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let mut server = Self { dir, port: 5432, child: None };
        server.certificate();
        fs::write(server.password_file(), PASSWORD).unwrap();
        must(Command::new("chmod").args(["-R", "u+rwX,go+rX"]).arg(&server.dir));
        if root() {
            must(Command::new("chown").args(["-R", "postgres:postgres"]).arg(&server.dir));
        }
        fs::set_permissions(server.dir.join("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        let data = server.dir.join("data");
        let password = format!("--pwfile={}", server.password_file().display());
        let mut initdb = Command::new("/bin/sh");
        initdb.args(["-c", "exec \"$@\"", "sh"]).args(owned("initdb")).arg("-D").arg(&data);
        must(initdb.arg(password).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--no-instructions",
        ]));
        fs::write(data.join("pg_hba.conf"), HBA).unwrap();
        // A free port may be taken by somebody else until it is used.
        for _ in 0..20 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            server.port = if tcp { free.local_addr().unwrap().port() } else { 5432 };
            drop(free);
            fs::write(data.join("postgresql.auto.conf"), server.config(tcp)).unwrap();
            if server.try_run() {
                return server;
            }
        }
        panic!("PostgreSQL does not start: {}", server.log());
    }

    fn config(&self, tcp: bool) -> String {
        format!(
            "listen_addresses = '{address}'\nport = {port}\nunix_socket_directories = '{dir}'\n\
             ssl = on\nssl_cert_file = '{dir}/chain.pem'\nssl_key_file = '{dir}/key.pem'\n\
             fsync = off\nfull_page_writes = off\nshared_buffers = 64MB\nmax_connections = 200\n\
             lc_messages = 'C'\ntimezone = 'UTC'\n",
            address = if tcp { "127.0.0.1" } else { "" },
            port = self.port,
            dir = self.dir.display(),
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// A certificate for `localhost`, and the CA that it is of.
    fn certificate(&self) {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = rcgen::Issuer::new(params, ca_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &issuer).unwrap();
        fs::write(self.dir.join("chain.pem"), leaf.pem()).unwrap();
        fs::write(self.dir.join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.ca_file(), ca.pem()).unwrap();
    }

    pub(in crate::server) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(in crate::server) fn password_file(&self) -> PathBuf {
        self.dir.join("password")
    }

    /// Starts it, after [`Self::stop`] too.
    pub(in crate::server) fn run(&mut self) {
        assert!(self.try_run(), "PostgreSQL does not start: {}", self.log());
    }

    fn try_run(&mut self) -> bool {
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&self.dir).args(owned("postgres"));
        keeper.arg("-D").arg(self.dir.join("data")).current_dir("/").stdin(Stdio::piped());
        self.child = Some(keeper.spawn().unwrap());
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let mut ready = Command::new(bin("pg_isready"));
            ready.arg("-q").arg("-h").arg(&self.dir).args(["-p", &self.port.to_string()]);
            if ready.status().unwrap().success() {
                return true;
            }
            if self.log().contains("database system is shut down\n") {
                self.stop();
                return false;
            }
            assert!(Instant::now() < deadline, "PostgreSQL never was ready: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends it in the middle of whatever it does; its data stays.
    pub(in crate::server) fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        child.stdin.take().unwrap().write_all(b"keep\n").unwrap();
        child.wait().unwrap();
    }

    /// A new database, as a URL by the unix socket.
    pub(in crate::server) fn database(&self) -> String {
        let name = format!("t{}", uuid::Uuid::new_v4().simple());
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgres://postgres@/{name}?host={}&port={}", self.dir.display(), self.port)
    }

    /// The same database, by TCP.
    pub(in crate::server) fn by_tcp(&self, url: &str, host: &str, more: &str) -> String {
        let name = url.split(['/', '?']).nth(3).unwrap();
        format!("postgres://postgres@{host}:{}/{name}{more}", self.port)
    }

    /// Runs SQL as superuser; gives what psql prints.
    pub(in crate::server) fn sql(&self, database: &str, sql: &str) -> String {
        let mut psql = Command::new(bin("psql"));
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-c", sql])
            .args(["-p", &self.port.to_string(), "-d", database, "-h"])
            .arg(&self.dir);
        String::from_utf8(must(&mut psql)).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            let _ = child.wait();
        } else {
            let _ = fs::remove_dir_all(&self.dir);
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

fn root() -> bool {
    nix::unistd::Uid::effective().is_root()
}

/// The program as a user that PostgreSQL takes: it refuses to run as root.
fn owned(program: &str) -> Vec<String> {
    let program = bin(program).display().to_string();
    if !root() {
        return vec![program];
    }
    let mut words = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        .map(str::to_owned)
        .to_vec();
    words.push(program);
    words
}

fn must(command: &mut Command) -> Vec<u8> {
    let done = command.output().expect("started");
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}
