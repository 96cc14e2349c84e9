//! What tests of the console need: a real identity provider and a real browser, both from npm,
//! and the approval server with its console on this machine's loopback.

use crate::daemon::enforcer;
use crate::servers::Pki;
use crate::wait::eventually;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;
use tempfile::TempDir;

const MODULES: &str = "/var/tmp/enforcer-agents/console";
const CHROMIUM: &str = "/usr/bin/chromium";
const PROVIDER: &str = include_str!("console/provider.mjs");
const BROWSER: &str = include_str!("console/browser.js");

/// How long something may take until it is there.
const LIMIT: Duration = Duration::from_secs(120);

/// A directory in which node finds the provider and the browser's driver, made once.
fn modules() -> &'static Path {
    static READY: OnceLock<()> = OnceLock::new();
    let dir = Path::new(MODULES);
    READY.get_or_init(|| {
        let works = || {
            let has = |name: &str, version: &str| {
                let package = dir.join("node_modules").join(name).join("package.json");
                fs::read_to_string(package)
                    .is_ok_and(|text| text.contains(&format!("\"version\": \"{version}\"")))
            };
            has("oidc-provider", "8.8.1") && has("playwright-core", "1.56.1")
        };
        if works() {
            return;
        }
        fs::create_dir_all(dir).expect("made");
        let out = Command::new("npm")
            .current_dir(dir)
            .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix", "."])
            .args(["oidc-provider@8.8.1", "playwright-core@1.56.1"])
            .env("npm_config_cache", dir.join(".cache"))
            .output()
            .expect("npm runs");
        assert!(works(), "npm: {}", String::from_utf8_lossy(&out.stderr));
    });
    dir
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

fn reached(what: &str, port: u16, by: &mut Running) {
    eventually(what, LIMIT, || {
        let ended = by.0.try_wait().expect("wait");
        assert!(ended.is_none(), "it ended before {what}: {ended:?}");
        TcpStream::connect(("127.0.0.1", port)).ok()
    });
}

/// A program that ends with this value.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The approval server with its console, and the identity provider.
#[derive(Debug)]
pub struct Console {
    /// `https://localhost:port`, of the console.
    pub url: String,
    /// `https://127.0.0.1:port`, of the provider: another site than the console.
    pub issuer: String,
    /// `https://127.0.0.1:port`, of the server's API.
    pub api: String,
    /// What `server init` printed last: the setup secret.
    pub secret: String,
    /// The directory of everything.
    pub dir: TempDir,
    _server: Running,
    _provider: Running,
}

impl Console {
    /// Starts both, and waits until they answer.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path();
        let (api, web, provider) = (free_port(), free_port(), free_port());
        let (url, issuer) =
            (format!("https://localhost:{web}"), format!("https://127.0.0.1:{provider}"));
        let pki = Pki::new(path);
        let (cert, key) = pki.leaf(path, &["127.0.0.1"]);
        fs::write(path.join("client.secret"), "the secret of the client\n").expect("written");
        fs::write(path.join("provider.mjs"), PROVIDER).expect("written");
        let out =
            Command::new(enforcer()).args(["server", "init"]).arg(path).output().expect("ran");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let said = String::from_utf8(out.stdout).expect("text");
        let secret = said.lines().last().expect("a secret").to_owned();
        let toml = format!(
            "listen = \"127.0.0.1:{api}\"\nnames = [\"localhost\", \"127.0.0.1\"]\ndata_dir = \"data\"\n\
             [console]\nlisten = \"127.0.0.1:{web}\"\nurl = \"{url}\"\n\
             [console.oidc]\nname = \"Example ID\"\nissuer = \"{issuer}\"\nclient_id = \"enforcer\"\n\
             client_secret_file = \"client.secret\"\nca_file = {ca:?}\nscopes = [\"email\", \"groups\"]\n\
             [[console.oidc.grant]]\ngroup = \"security\"\nrole = \"reviewer\"\ngroups = [\"ops\"]\n\
             [[console.oidc.grant]]\ngroup = \"audit\"\nrole = \"viewer\"\n\
             [[console.oidc.grant]]\ngroup = \"it\"\nrole = \"admin\"\n",
            ca = pki.ca
        );
        fs::write(path.join("server.toml"), toml).expect("written");
        let log = |name: &str| fs::File::create(path.join(name)).expect("a log file");
        let provider_child = Command::new("node")
            .arg(path.join("provider.mjs"))
            .arg(modules())
            .arg(&issuer)
            .args([&cert, &key])
            .args([&format!("{url}/signin/callback"), "the secret of the client"])
            .stdout(log("provider.log"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node starts");
        let mut provider_child = Running(provider_child);
        reached("the provider listens", provider, &mut provider_child);
        let server = Command::new(enforcer())
            .args(["server", "--config"])
            .arg(path.join("server.toml"))
            .stdout(Stdio::null())
            .stderr(log("server.log"))
            .spawn()
            .expect("the server starts");
        let mut server = Running(server);
        reached("the server listens", api, &mut server);
        reached("the console listens", web, &mut server);
        let api = format!("https://127.0.0.1:{api}");
        Self { url, issuer, api, secret, dir, _server: server, _provider: provider_child }
    }

    /// A command of `enforcer server` for this server; what it printed.
    pub fn server(&self, args: &[&str]) -> String {
        let mut command = Command::new(enforcer());
        command.arg("server").args(args).arg("--config").arg(self.dir.path().join("server.toml"));
        let out = command.output().expect("ran");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text").trim().to_owned()
    }

    /// A join token.
    pub fn token(&self, role: &str, name: &str, more: &[&str]) -> String {
        self.server(&[&["token", "--role", role, "--name", name], more].concat())
    }
}

/// Headless Chromium.
#[derive(Debug)]
pub struct Browser {
    answers: BufReader<ChildStdout>,
    orders: ChildStdin,
    _node: Running,
    _script: TempDir,
}

impl Browser {
    /// Starts it.
    pub fn start() -> Self {
        assert!(Path::new(CHROMIUM).exists(), "{CHROMIUM} is missing: `cargo xtask setup`");
        let script = tempfile::tempdir().expect("a directory");
        let path = script.path().join("browser.js");
        fs::write(&path, BROWSER).expect("written");
        let mut node = Command::new("node")
            .arg(&path)
            .arg(modules())
            .arg(CHROMIUM)
            .env("HOME", script.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node starts");
        let orders = node.stdin.take().expect("piped");
        let answers = BufReader::new(node.stdout.take().expect("piped"));
        let mut browser = Self { answers, orders, _node: Running(node), _script: script };
        assert_eq!(browser.answer().expect("it starts"), "ready");
        browser
    }

    fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("readable");
        let answer: Value = serde_json::from_str(&line).expect("the driver answers in JSON");
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or_default().to_owned()),
            None => Ok(answer["ok"].clone()),
        }
    }

    /// Runs code with the `page` and `context` of that name, which are made at first use.
    ///
    /// # Panics
    /// When the code fails.
    pub fn run(&mut self, name: &str, code: &str) -> Value {
        self.run_with(name, &Value::Null, code)
    }

    /// The same, with options for a context that is made.
    ///
    /// # Panics
    /// When the code fails.
    pub fn run_with(&mut self, name: &str, options: &Value, code: &str) -> Value {
        let order = json!({ "in": name, "run": code, "options": options });
        writeln!(self.orders, "{order}").expect("the driver listens");
        self.answer().unwrap_or_else(|error| panic!("{name}: {code}\n{error}"))
    }
}

/// Where screenshots go, when they are wanted: `ENFORCER_SCREENSHOTS`.
pub fn screenshots() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("ENFORCER_SCREENSHOTS")?);
    fs::create_dir_all(&dir).expect("made");
    Some(dir)
}
