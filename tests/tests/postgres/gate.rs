//! The deployment that the suites of PostgreSQL share: one real server under several names, a
//! daemon, and agents with different rights.

use enforcer_tests::daemon::{Deployment, Plan};
use enforcer_tests::postgres::{
    CERTIFICATE, CLEAR, DATABASE, MD5, OWNS, PLAIN, PORT, Postgres, SCRAM, SUPER, User, bin,
};
use enforcer_tests::servers::Pki;
use enforcer_tests::world::{FAR_V4, World};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where the server is reached without TLS.
pub(crate) const PLAIN_V4: &str = "10.79.0.2";
/// Where it is reached under masks.
pub(crate) const MASKED_V4: &str = "10.78.0.2";

/// What may be done. `free` may do all, `reader` reads, `teller` writes when a person agrees.
const RULES: &str = r#"
@id("look-up")
permit (principal, action == Action::"dns.query", resource);

@id("sign-in")
permit (principal, action in Action::"sql.session", resource);

@id("free")
permit (principal == Agent::"free", action, resource);

@id("masked-reads")
permit (principal == Agent::"reader", action in Action::"sql.read", resource);

@id("teller-reads")
permit (principal == Agent::"teller", action in Action::"sql.read", resource);

@id("teller-writes")
@approval("change")
permit (principal == Agent::"teller", action in Action::"sql.write", resource);

@id("never-salaries")
forbid (principal == Agent::"reader", action, resource == Target::"db")
when { context has tables_read && context.tables_read.contains("hr.salaries") };

@id("no-code-of-others")
forbid (principal == Agent::"reader", action, resource)
when {
  context has flags && context.flags.containsAny([
    "user-function", "unknown-function", "volatile-function", "dynamic-sql", "large-object",
    "server-file", "server-control", "dblink", "set-role", "set-session-authorization",
    "set-config", "unknown-relation", "copy-program", "copy-file", "sequence", "row-lock",
  ])
};
"#;

const SCOPES: &str = r#"
[[scope]]
name = "change"
quorum = 1
request_ttl = "5m"
grant_ttl = "1m"
uses = 1
reason = "optional"
patterns = true
"#;

const MASKS: &str = r#"
[[mask]]
name = "people"
targets = ["masked"]
columns = ["public.people.email", "*.*.ssn", "public.people.doc", "public.people.born", "public.people.number"]

[[mask]]
name = "cards"
targets = ["masked"]
columns = ["public.people.card"]
replace = { keep_last = 4 }

[[mask]]
name = "keys"
targets = ["masked"]
columns = ["public.people.account", "public.payments.account"]
replace = "hash"

[[mask]]
name = "found"
targets = ["masked"]
detectors = ["jwt", "github_pat"]
"#;

/// What a deployment has beside what all have.
#[derive(Debug, Default)]
pub(crate) struct Start<'a> {
    /// More lines in `[target.postgres]` of the target `db`.
    pub(crate) target: &'a str,
    /// One more role, as which the user of its name signs in.
    pub(crate) role: Option<User>,
    /// More lines of the server's configuration.
    pub(crate) server: &'a str,
}

/// A server and a deployment before it.
pub(crate) struct Gate {
    pub(crate) deployment: Deployment,
    pub(crate) postgres: Postgres,
    pub(crate) pki: Pki,
    /// Last, so that it goes after what lives in it.
    pub(crate) world: World,
}

impl Gate {
    /// Starts everything.
    pub(crate) fn start() -> Self {
        Self::start_as(&Start::default())
    }

    /// The same, with more lines in `[target.postgres]` of the target `db`.
    pub(crate) fn start_with(more: &str) -> Self {
        Self::start_as(&Start { target: more, ..Start::default() })
    }

    /// The same, with all that a suite may want.
    pub(crate) fn start_as(start: &Start<'_>) -> Self {
        let world = World::new();
        world.far_address(&format!("{MASKED_V4}/32"));
        world.far_address(&format!("{PLAIN_V4}/32"));
        let pki = Pki::new(world.dir());
        let names = ["db.test", "masked.test", FAR_V4, MASKED_V4];
        let postgres = Postgres::start_with(&world, &pki, &names, start.server);
        let targets = targets(&world, &postgres, start);
        let deployment = Deployment::start(
            &world,
            &Plan {
                bundle: &[
                    ("targets.toml", &targets),
                    ("rules.cedar", RULES),
                    ("scopes.toml", SCOPES),
                    ("masks.toml", MASKS),
                ],
                hosts: &[
                    ("db.test", &[FAR_V4]),
                    ("masked.test", &[MASKED_V4]),
                    ("plain.test", &[PLAIN_V4]),
                ],
                extra_roots: &[&pki.ca],
                config: "",
                server: "",
            },
        );
        Self { deployment, postgres, pki, world }
    }

    /// A client as this agent, told where to go by PostgreSQL's variables alone. Its password is
    /// wrong on purpose: nobody asks for it.
    pub(crate) fn agent(&self, agent: &str, host: &str, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.deployment.agent(agent, program);
        command
            .env("PGHOST", host)
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", "app")
            .env("PGPASSWORD", "not-the-password")
            .env("PGDATABASE", DATABASE)
            .env("PGSSLMODE", "verify-full")
            .env("PGCONNECT_TIMEOUT", "20");
        command
    }

    /// The same client straight to the server, as the role that `app` becomes.
    pub(crate) fn straight(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.world.host.command(program);
        command
            .env("PGHOST", FAR_V4)
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", OWNS.name)
            .env("PGPASSWORD", OWNS.password.unwrap_or_default())
            .env("PGDATABASE", DATABASE)
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &self.pki.ca)
            .env("PGCONNECT_TIMEOUT", "20")
            .current_dir("/");
        command
    }

    /// psql as this agent with these statements, each `-c` one string.
    pub(crate) fn psql(&self, agent: &str, host: &str, strings: &[&str]) -> Output {
        let mut psql = self.agent(agent, host, bin().join("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "VERBOSITY=verbose"]);
        for string in strings {
            psql.args(["-c", string]);
        }
        psql.output().expect("psql starts")
    }

    /// A script of the suite where every user can read it, with the module of bare sessions.
    pub(crate) fn script(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.world.path("session.py"), include_str!("session.py")).expect("written");
        let file = self.world.path(name);
        fs::write(&file, text).expect("written");
        file
    }

    /// `transcripts verify` has to pass.
    pub(crate) fn verify(&self) {
        let out = self.deployment.transcripts(&["verify"]);
        assert!(out.status.success(), "verify: {}", both(&out));
    }
}

/// Standard output and error as text.
pub(crate) fn both(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Standard output as text, without the space at its end.
pub(crate) fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).trim_end().to_owned()
}

fn targets(world: &World, postgres: &Postgres, start: &Start<'_>) -> String {
    let secrets = world.path("secrets");
    fs::create_dir_all(&secrets).expect("made");
    let role = |user: User| {
        let mut role = format!("[[target.postgres.role]]\nname = \"{}\"\n", user.name);
        if let Some(password) = user.password {
            let file = secret(&secrets, user.name, password);
            let _ = writeln!(role, "file = {file:?}");
        } else {
            let (chain, key) = &postgres.certificate;
            let _ = writeln!(role, "certificate = {chain:?}\nkey = {key:?}");
        }
        role
    };
    let mut users = format!(
        "app = \"{}\", scram = \"{}\", md5 = \"{}\", clear = \"{}\", cert = \"{}\", root = \"{}\"",
        OWNS.name, SCRAM.name, MD5.name, CLEAR.name, CERTIFICATE.name, SUPER.name
    );
    let mut roles: String = [OWNS, SCRAM, MD5, CLEAR, CERTIFICATE, SUPER].map(role).concat();
    if let Some(more) = start.role {
        let _ = write!(users, ", {name} = \"{name}\"", name = more.name);
        roles.push_str(&role(more));
    }
    let mut targets = String::new();
    for (name, address, more) in [("db", FAR_V4, start.target), ("masked", MASKED_V4, "")] {
        let _ = write!(
            targets,
            "[[target]]\nname = \"{name}\"\nnames = [\"{name}.test\"]\naddresses = [\"{address}\"]\n\
             ports = [{PORT}]\nprotocol = \"postgres\"\nhold = \"15s\"\n\
             [target.postgres]\nusers = {{ {users} }}\n{more}\n{roles}\n"
        );
    }
    let _ = write!(
        targets,
        "[[target]]\nname = \"plain\"\nnames = [\"plain.test\"]\naddresses = [\"{PLAIN_V4}\"]\n\
         ports = [{PORT}]\nprotocol = \"postgres\"\n[target.postgres]\nusers = {{ app = \"{}\" }}\n\
         tls = \"disable\"\n{}\n",
        PLAIN.name,
        role(PLAIN)
    );
    targets
}

fn secret(dir: &Path, name: &str, password: &str) -> PathBuf {
    let file = dir.join(name);
    fs::write(&file, format!("{password}\n")).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    file
}
