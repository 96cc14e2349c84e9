//! Real servers on the far side, from Debian's packages, with certificates of a CA
//! that only this world trusts.

use crate::wait::eventually;
use crate::world::{NetNs, World};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The far side's certificate authority.
#[derive(Debug)]
pub struct Pki {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    /// The CA's certificate, PEM.
    pub ca: PathBuf,
}

impl Pki {
    /// Makes the CA.
    pub fn new(dir: &Path) -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "far side test CA");
        params.key_usages =
            vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        let ca = dir.join("far-ca.pem");
        fs::write(&ca, cert.pem()).expect("the CA is written");
        Self { issuer: rcgen::Issuer::new(params, key), ca }
    }

    /// Makes a server certificate; gives the paths of chain and key.
    pub fn leaf(&self, dir: &Path, names: &[&str]) -> (PathBuf, PathBuf) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let params = rcgen::CertificateParams::new(names.clone()).expect("valid names");
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let stem = names.first().map_or("leaf", String::as_str).replace('*', "_");
        let (chain, private) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        fs::write(&chain, cert.pem()).expect("written");
        fs::write(&private, key.serialize_pem()).expect("written");
        (chain, private)
    }

    /// Makes a client certificate for this common name; gives the paths of chain and key.
    pub fn client(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let key = rcgen::KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        let (chain, private) =
            (dir.join(format!("client-{name}.pem")), dir.join(format!("client-{name}.key")));
        fs::write(&chain, cert.pem()).expect("written");
        fs::write(&private, key.serialize_pem()).expect("written");
        fs::set_permissions(&private, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("set");
        (chain, private)
    }
}

/// A server that ends with this value.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where its output goes.
    pub log: PathBuf,
}

impl Server {
    /// Starts it and waits until the address takes connections from inside the far side.
    pub fn start(world: &World, command: Command, log: PathBuf, address: &str) -> Self {
        Self::start_in(&world.far, command, log, address)
    }

    /// The same, for a server that listens in this namespace.
    pub fn start_in(ns: &NetNs, mut command: Command, log: PathBuf, address: &str) -> Self {
        let out = fs::File::create(&log).expect("a log file");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a log file"))
            .stderr(out)
            .spawn()
            .expect("the server starts");
        eventually(
            &format!("{address} listens (log: {})", log.display()),
            Duration::from_secs(20),
            || {
                assert!(child.try_wait().expect("wait").is_none(), "ended: {}", read(&log));
                connects(ns, address).then_some(())
            },
        );
        Self { child, log }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether something accepts there, seen from inside the namespace.
fn connects(ns: &NetNs, address: &str) -> bool {
    let file = fs::File::open(ns.file()).expect("the namespace");
    let address = address.to_owned();
    // setns is per thread, so that the harness itself stays where it is.
    std::thread::spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("root enters");
        let address = address.parse().expect("an address");
        TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_ok()
    })
    .join()
    .expect("the thread ends")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// nginx with TLS and HTTP/2: static files and, by fcgiwrap, real git over HTTPS.
#[derive(Debug)]
pub struct Nginx {
    _nginx: Server,
    _fcgi: Server,
    /// The document root.
    pub root: PathBuf,
    /// What it logged of each request, one JSON object a line.
    pub access: PathBuf,
}

impl Nginx {
    /// Starts it on 443 and 80 of every far address, for these names.
    pub fn start(world: &World, pki: &Pki, names: &[&str]) -> Self {
        let dir = world.path("nginx");
        let (root, git, access) = (dir.join("www"), dir.join("git"), dir.join("access.jsonl"));
        fs::create_dir_all(&root).expect("made");
        fs::create_dir_all(&git).expect("made");
        let (chain, key) = pki.leaf(&dir, names);
        let socket = dir.join("fcgi.sock");
        let config = dir.join("nginx.conf");
        fs::write(
            &config,
            format!(
                include_str!("servers/nginx.conf.in"),
                dir = dir.display(),
                root = root.display(),
                git = git.display(),
                access = access.display(),
                chain = chain.display(),
                key = key.display(),
                socket = socket.display()
            ),
        )
        .expect("written");
        let mut fcgiwrap = world.far.command("fcgiwrap");
        fcgiwrap.arg("-s").arg(format!("unix:{}", socket.display()));
        let log = dir.join("fcgi.log");
        let out = fs::File::create(&log).expect("a log file");
        let child = fcgiwrap
            .stdout(out.try_clone().expect("dup"))
            .stderr(out)
            .spawn()
            .expect("fcgiwrap starts");
        let fcgi = Server { child, log };
        eventually("fcgiwrap listens", Duration::from_secs(10), || socket.exists().then_some(()));
        fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .expect("set");
        let mut nginx = world.far.command("nginx");
        nginx
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(dir.join("error.log"))
            .args(["-g", "daemon off;"]);
        let nginx = Server::start(
            world,
            nginx,
            dir.join("nginx.log"),
            &format!("{}:443", crate::world::FAR_V4),
        );
        Self { _nginx: nginx, _fcgi: fcgi, root, access }
    }

    /// Makes a git repository that `git clone https://NAME/git/REPO` gets.
    pub fn git_repository(&self, name: &str, file: &str, content: &str) {
        let dir = self.root.parent().expect("below nginx/").join("git");
        let work = dir.join(format!("{name}.work"));
        fs::create_dir_all(&work).expect("made");
        fs::write(work.join(file), content).expect("written");
        let git = |args: &[&str], at: &Path| {
            let out = Command::new("git")
                .current_dir(at)
                .args(args)
                .env("GIT_CONFIG_GLOBAL", "/dev/null")
                .args(["--quiet"])
                .output()
                .expect("git starts");
            assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        };
        git(&["init", "-b", "main"], &work);
        let out =
            Command::new("git").current_dir(&work).args(["add", "."]).output().expect("git starts");
        assert!(out.status.success());
        git(
            &["-c", "user.name=far", "-c", "user.email=far@far.test", "commit", "-m", "first"],
            &work,
        );
        git(&["clone", "--bare", &work.to_string_lossy(), &dir.join(name).to_string_lossy()], &dir);
    }
}
