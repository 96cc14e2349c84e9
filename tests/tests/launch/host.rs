//! A control socket served in this process, over a governed root of its own.

use enforcer::run::control::{self, ControlInputs, StatusReport};
use enforcer_tests::daemon::{cgroup2, enforcer};
use enforcer_tests::wait::eventually;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// The user that root's programs run as here; on every Debian.
pub(crate) const USER: &str = "nobody";

/// How long anything here may take.
pub(crate) const SOON: Duration = Duration::from_secs(20);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A served control socket; all of it goes when dropped.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) root: PathBuf,
    pub(crate) config: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::guarded(|| Ok(()))
    }

    /// A host whose daemon asks `guard` before every start.
    pub(crate) fn guarded(guard: fn() -> Result<(), String>) -> Self {
        let name = format!(
            "enforcer-launch-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let root = cgroup2().join(&name);
        fs::create_dir(&root).expect("these tests run as root");
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = dir.path().join("data");
        fs::create_dir(&data).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::new(vec!["test CA".into()]).unwrap();
        fs::write(data.join("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "[host]\nname = \"h\"\ndata_dir = \"{}\"\nruntime_dir = \"{}\"\n\
             [[governed]]\ncgroup = \"/{name}\"\n[policy]\ndir = \"/nowhere\"\n\
             [run]\nuser = \"{USER}\"\n",
            path("data"),
            path("runtime"),
        );
        let config = dir.path().join("enforcer.toml");
        fs::write(&config, &text).unwrap();
        let mut inputs = ControlInputs::new(
            Arc::new(toml::from_str(&text).unwrap()),
            Arc::new(|| StatusReport { version: "1.2.3".into(), ..StatusReport::default() }),
            Arc::new(guard),
            Arc::new(|_: &Path| {}),
        );
        inputs.launcher = enforcer();
        let (stop, stopped) = oneshot::channel();
        let (ready, bound) = std::sync::mpsc::channel();
        let runtime_dir = dir.path().join("runtime");
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = control::bind(&runtime_dir).unwrap();
                ready.send(()).unwrap();
                let stopped = async {
                    let _ = stopped.await;
                };
                control::serve(listener, Arc::new(inputs), stopped).await;
            });
        });
        bound.recv().unwrap();
        Self { dir, root, config, stop: Some(stop), thread: Some(thread) }
    }

    /// The daemon goes; programs stay.
    pub(crate) fn stop_daemon(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// `enforcer run` with these options.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Command {
        let mut client = Command::new(enforcer());
        self.arguments(&mut client, options, command);
        client
    }

    /// The same, called by user and group 4321 with one more group.
    pub(crate) fn run_as_other(&self, options: &[&str], command: &[&str]) -> Command {
        let mut client = Command::new("setpriv");
        client.args(["--reuid=4321", "--regid=4322", "--groups=4323", "--"]).arg(enforcer());
        self.arguments(&mut client, options, command);
        client
    }

    fn arguments(&self, client: &mut Command, options: &[&str], command: &[&str]) {
        client
            .args(["run", "--config"])
            .arg(&self.config)
            .args(options)
            .arg("--")
            .args(command)
            .current_dir("/")
            .stdin(Stdio::null());
    }

    /// A shell script's output.
    pub(crate) fn sh(&self, script: &str) -> Output {
        self.run(&["--agent", "bot"], &["sh", "-c", script]).output().unwrap()
    }

    /// A shell script's standard output, which has to succeed.
    pub(crate) fn say(&self, script: &str) -> String {
        said(&self.sh(script))
    }

    /// Waits until nothing is left below the root.
    pub(crate) fn wait_empty(&self) {
        eventually("the agent's cgroups are removed", SOON, || {
            children(&self.root).is_empty().then_some(())
        });
    }
}

/// Standard output of what has to succeed.
pub(crate) fn said(out: &Output) -> String {
    assert!(out.status.success(), "{}: {}", out.status, String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).unwrap()
}

/// Cgroups directly below one.
pub(crate) fn children(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path())
                .collect()
        })
        .unwrap_or_default()
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop_daemon();
        let _ = fs::write(self.root.join("cgroup.kill"), "1");
        // Keepers remove what is below; the root is this test's own.
        let empty = || children(&self.root).is_empty();
        for _ in 0..500 {
            if empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_dir(&self.root);
    }
}
