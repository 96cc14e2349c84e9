//! What the scenes play on, and the lines they print.

use crate::database;
use enforcer_tests::daemon::{Deployment, Plan};
use enforcer_tests::origin::Origin;
use enforcer_tests::postgres::{DATABASE, OWNS, Postgres};
use enforcer_tests::servers::{Nginx, Pki};
use enforcer_tests::world::World;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

/// The world, what runs in it, and what was observed so far.
pub(crate) struct Stage {
    pub(crate) deployment: Deployment,
    pub(crate) origin: Origin,
    pub(crate) postgres: Postgres,
    _nginx: Nginx,
    pub(crate) interactive: bool,
    // Last: the namespaces go after everything that lives in them.
    pub(crate) world: World,
    kept: u32,
    broken: Vec<String>,
    start: Instant,
}

impl Stage {
    /// Starts everything.
    pub(crate) fn set(interactive: bool) -> Self {
        let start = Instant::now();
        println!(
            "Setting the stage: two network namespaces, nginx, an origin, PostgreSQL, the approval server, the daemon.\n"
        );
        let world = World::new();
        let pki = Pki::new(world.dir());
        let nginx = Nginx::start(&world, &pki, &["files.demo.test"]);
        std::fs::write(nginx.root.join("hello.json"), "{\"hello\":\"world\"}\n").expect("written");
        nginx.git_repository("tools.git", "README", "cloned through the gate\n");
        let origin = Origin::start(&world, &pki, &["api.demo.test"]);
        let postgres = Postgres::start(&world, &pki, &["orders.demo.test"]);
        postgres.admin(DATABASE, database::TABLES);
        let targets = targets(&world);
        let far: &[&str] = &[enforcer_tests::world::FAR_V4, enforcer_tests::world::FAR_V6];
        let deployment = Deployment::start(
            &world,
            &Plan {
                bundle: &[
                    ("targets.toml", &targets),
                    ("rules.cedar", include_str!("policy/rules.cedar")),
                    ("scopes.toml", include_str!("policy/scopes.toml")),
                    ("masks.toml", include_str!("policy/masks.toml")),
                ],
                hosts: &[
                    ("files.demo.test", far),
                    ("api.demo.test", far),
                    ("orders.demo.test", far),
                ],
                extra_roots: &[&pki.ca],
                config: "",
                server: "",
            },
        );
        Self {
            deployment,
            origin,
            postgres,
            _nginx: nginx,
            interactive,
            world,
            kept: 0,
            broken: Vec::new(),
            start,
        }
    }

    /// An agent's program, run to its end.
    pub(crate) fn agent(&self, program: &str, args: &[&str]) -> Output {
        self.deployment.agent("demo", program).args(args).output().expect("enforcer run starts")
    }

    /// A program put into the governed cgroup by hand, as a service manager does.
    pub(crate) fn governed(&self, program: &str, args: &[&str]) -> Output {
        self.deployment.governed("demo", program).args(args).output().expect("starts")
    }

    /// The same program on the same host, ungoverned: the positive control.
    pub(crate) fn ungoverned(&self, program: &str, args: &[&str]) -> Output {
        Command::new("nsenter")
            .arg(format!("--net={}", self.world.host.file()))
            .arg("--")
            .arg(program)
            .args(args)
            .output()
            .expect("starts")
    }

    /// A person approves: the one at the terminal, where there is one. When that was.
    pub(crate) fn approve(&self, id: &str, reason: &str) -> Instant {
        if self.interactive {
            // The reviewer's own command: it shows all that is hashed, and asks.
            let line = ["approve", id, "--reason", "seen in the demonstration"];
            let status = self.deployment.reviewer("alice", &line).status();
            assert!(status.is_ok_and(|status| status.success()), "say yes to go on");
        } else {
            let out =
                self.deployment.review("alice", &["approve", id, "--reason", reason, "--yes"]);
            assert!(out.status.success(), "{}", said(&out));
        }
        Instant::now()
    }

    /// One guarantee: what it promises, whether it was observed, and what was seen.
    pub(crate) fn guarantee(&mut self, promise: &str, kept: bool, seen: &str) {
        let seen = seen.trim().replace('\n', " / ");
        let seen: String = seen.chars().take(160).collect();
        if kept {
            self.kept += 1;
            println!("  ok    {promise:<46} {seen}");
        } else {
            println!("  LOST  {promise:<46} {seen}");
            self.broken.push(promise.to_owned());
        }
    }

    /// A heading.
    pub(crate) fn scene(&self, title: &str) {
        println!("\n{title}");
    }

    /// The last words.
    pub(crate) fn curtain(self) -> ExitCode {
        let seconds = self.start.elapsed().as_secs_f32();
        println!(
            "\n{} guarantees observed, {} not, in {seconds:.0} s.",
            self.kept,
            self.broken.len()
        );
        for promise in &self.broken {
            println!("  not observed: {promise}");
        }
        if self.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The targets, with the role as which the proxy signs in to the database.
fn targets(world: &World) -> String {
    let file = world.path("orders-password");
    std::fs::write(&file, OWNS.password.unwrap_or_default()).expect("written");
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("set");
    let targets = include_str!("policy/targets.toml");
    let name = OWNS.name;
    format!(
        "{targets}users = {{ app = \"{name}\" }}\n[[target.postgres.role]]\nname = \"{name}\"\n\
         file = {file:?}\n"
    )
}

/// Standard output and error of a program, as text.
pub(crate) fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}
