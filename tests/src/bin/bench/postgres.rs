//! pgbench's select-only script straight to the server, through PgBouncer, through Pgpool-II and
//! through the gate, where SQL is read, policy asked, a column masked and all of it recorded.

use crate::measure::{Plan, Series, quantile};
use enforcer_tests::daemon::{self, Deployment, must};
use enforcer_tests::postgres::{DATABASE, OWNS, PLAIN, PORT, Postgres, SUPER, bin};
use enforcer_tests::servers::{Pki, Server};
use enforcer_tests::world::{FAR_V4, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the server is reached without TLS.
const PLAIN_V4: &str = "10.79.0.2";
const BOUNCER: u16 = 6432;
const BOUNCER_TLS: u16 = 6433;
const POOL: u16 = 9999;

const RULES: &str = r#"
@id("look-up")
permit (principal, action == Action::"dns.query", resource);
@id("sign-in")
permit (principal, action in Action::"sql.session", resource);
@id("reads")
permit (principal, action in Action::"sql.read", resource);
@id("writes-with-a-where")
permit (principal, action in Action::"sql.write", resource)
when { context has has_where && context.has_where };
@id("no-code")
forbid (principal, action, resource)
when { context has flags && context.flags.containsAny(["copy-program", "copy-file", "do"]) };
"#;

const MASKS: &str = r#"
[[mask]]
name = "balances"
targets = ["db", "plain"]
columns = ["public.pgbench_accounts.abalance"]
"#;

/// What is measured of each way.
struct Case {
    what: &'static str,
    mode: &'static str,
    clients: u32,
    tls: bool,
}

const CASES: &[Case] = &[
    Case { what: "8 clients, simple", mode: "simple", clients: 8, tls: false },
    Case { what: "8 clients, prepared", mode: "prepared", clients: 8, tls: false },
    Case { what: "8 clients, simple, TLS", mode: "simple", clients: 8, tls: true },
    Case { what: "8 clients, prepared, TLS", mode: "prepared", clients: 8, tls: true },
    Case { what: "1 client, simple", mode: "simple", clients: 1, tls: false },
    Case { what: "1 client, simple, TLS", mode: "simple", clients: 1, tls: true },
];

/// The ways.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Bouncer,
    Pool,
    Gate,
}

impl Way {
    const ALL: [Self; 4] = [Self::Direct, Self::Bouncer, Self::Pool, Self::Gate];

    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bouncer => "pgbouncer (session)",
            Self::Pool => "pgpool-II",
            Self::Gate => "enforcer",
        }
    }

    /// Pgpool-II stands beside prepared statements only.
    fn takes(self, case: &Case) -> bool {
        self != Self::Pool || (case.mode == "prepared" && !case.tls)
    }
}

/// One measurement.
struct Figures {
    tps: f64,
    p50: f64,
    p99: f64,
    /// CPU time of the daemon a transaction, microseconds.
    cpu: f64,
}

struct Bench {
    deployment: Deployment,
    logs: PathBuf,
    pki: Pki,
    others: Vec<Server>,
    postgres: Postgres,
    world: World,
}

/// Runs it and prints a table.
pub(crate) fn run(plan: &Plan) {
    let bench = Bench::start();
    println!(
        "pgbench -S, scale 10, {} rounds of {} s in turns; one column masked, SQL read, policy \
         asked, transcripts on",
        plan.rounds, plan.seconds
    );
    for case in CASES {
        let ways: Vec<Way> = Way::ALL.into_iter().filter(|way| way.takes(case)).collect();
        let mut tps = vec![Series::default(); ways.len()];
        let (mut p50, mut p99, mut cpu) = (tps.clone(), tps.clone(), tps.clone());
        for round in 0..plan.rounds as usize {
            for turn in 0..ways.len() {
                // Who is first differs from round to round.
                let at = (turn + round) % ways.len();
                let figures = bench.measure(ways[at], case, plan.seconds);
                tps[at].0.push(figures.tps);
                p50[at].0.push(figures.p50);
                p99[at].0.push(figures.p99);
                cpu[at].0.push(figures.cpu);
            }
        }
        println!("\n{}", case.what);
        for (at, way) in ways.iter().enumerate() {
            println!(
                "  {:<20} {:>8.0} tps   of direct {:<20} p50 {:>5.0} us  p99 {:>6.0} us{}",
                way.name(),
                tps[at].median(),
                tps[at].over(&tps[0]).spread(3),
                p50[at].median(),
                p99[at].median(),
                match way {
                    Way::Gate => format!("  daemon's CPU {:.1} us", cpu[at].median()),
                    _ => String::new(),
                }
            );
        }
        let gate = ways.len() - 1;
        for (at, way) in ways.iter().enumerate().take(gate).skip(1) {
            let ratio = tps[gate].over(&tps[at]);
            println!("  enforcer over {}: {}", way.name(), ratio.spread(3));
        }
        println!("  enforcer's p50 over direct: {:+.0} us", p50[gate].median() - p50[0].median());
    }
}

impl Drop for Bench {
    /// Pgpool-II ends its children, and its shared memory, when it is asked to and not when it is
    /// killed.
    fn drop(&mut self) {
        for server in &self.others {
            let Ok(pid) = i32::try_from(server.pid()).map(Pid::from_raw) else { continue };
            let _ = kill(pid, Signal::SIGINT);
            for _ in 0..50 {
                // Its parent is this process, so that it stays as a zombie until it is waited for.
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                if stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z')) {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}

impl Bench {
    fn start() -> Self {
        let world = World::new();
        world.far_address(&format!("{PLAIN_V4}/32"));
        let pki = Pki::new(world.dir());
        let postgres = Postgres::start(&world, &pki, &["db.test", FAR_V4]);
        // Every way pays for what the server does; it need not write each statement down.
        for setting in ["log_statement = 'none'", "log_connections = off"] {
            postgres.admin("postgres", &format!("ALTER SYSTEM SET {setting}"));
        }
        postgres.admin("postgres", "SELECT pg_reload_conf()");
        let secrets = world.path("secrets");
        fs::create_dir_all(&secrets).expect("made");
        let targets = [
            target(&secrets, "db", FAR_V4, OWNS.name, OWNS.password, ""),
            target(&secrets, "plain", PLAIN_V4, PLAIN.name, PLAIN.password, "tls = \"disable\""),
        ]
        .concat();
        let deployment = Deployment::start(
            &world,
            &daemon::Plan {
                bundle: &[
                    ("targets.toml", &targets),
                    ("rules.cedar", RULES),
                    ("scopes.toml", ""),
                    ("masks.toml", MASKS),
                ],
                hosts: &[("db.test", &[FAR_V4]), ("plain.test", &[PLAIN_V4])],
                extra_roots: &[&pki.ca],
                config: "",
                server: "",
            },
        );
        let logs = world.path("latencies");
        fs::create_dir_all(&logs).expect("made");
        fs::set_permissions(&logs, fs::Permissions::from_mode(0o777)).expect("set");
        let others = others(&world, &pki);
        let bench = Self { deployment, logs, pki, others, postgres, world };
        let mut fill = bench.straight(SUPER.name, SUPER.password, true);
        must(fill.args(["-i", "-q", "-s", "10"]));
        bench.postgres.admin(DATABASE, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO public");
        bench.postgres.admin(DATABASE, "VACUUM ANALYZE");
        bench
    }

    fn straight(&self, user: &str, password: Option<&str>, tls: bool) -> Command {
        let mut command = self.world.host.command(bin().join("pgbench"));
        command
            .env("PGHOST", FAR_V4)
            .env("PGPORT", PORT.to_string())
            .env("PGUSER", user)
            .env("PGPASSWORD", password.unwrap_or_default())
            .env("PGDATABASE", DATABASE)
            .env("PGSSLMODE", if tls { "verify-full" } else { "disable" })
            .env("PGSSLROOTCERT", &self.pki.ca)
            .current_dir(&self.logs);
        command
    }

    fn client(&self, way: Way, tls: bool) -> Command {
        let (user, password) =
            if tls { (OWNS.name, OWNS.password) } else { (PLAIN.name, PLAIN.password) };
        match way {
            Way::Direct => self.straight(user, password, tls),
            Way::Bouncer | Way::Pool => {
                let mut command = self.straight(user, password, tls);
                let port = match (way, tls) {
                    (Way::Pool, _) => POOL,
                    (_, true) => BOUNCER_TLS,
                    (_, false) => BOUNCER,
                };
                command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
                // Its certificate has another name.
                command.env("PGSSLMODE", if tls { "verify-ca" } else { "disable" });
                command
            }
            Way::Gate => {
                let mut command = self.deployment.agent("bench", bin().join("pgbench"));
                command
                    .env("PGHOST", if tls { "db.test" } else { "plain.test" })
                    .env("PGPORT", PORT.to_string())
                    .env("PGUSER", "app")
                    .env("PGDATABASE", DATABASE)
                    .env("PGSSLMODE", if tls { "verify-full" } else { "disable" })
                    .current_dir(&self.logs);
                command
            }
        }
    }

    fn measure(&self, way: Way, case: &Case, seconds: u32) -> Figures {
        let mut pgbench = self.client(way, case.tls);
        let clients = case.clients.to_string();
        let seconds = seconds.to_string();
        let threads = if case.clients > 1 { "2" } else { "1" };
        pgbench.args(["-S", "-n", "-M", case.mode, "-c", &clients, "-j", threads]);
        pgbench.args(["-T", &seconds, "-l", "--log-prefix=run"]);
        let before = cpu_us(self.deployment.daemon_pid());
        let out = must(&mut pgbench);
        let after = cpu_us(self.deployment.daemon_pid());
        let said = String::from_utf8_lossy(&out.stdout);
        let tps = said
            .lines()
            .find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("pgbench said no rate: {said}"));
        let mut latencies = Vec::new();
        for entry in fs::read_dir(&self.logs).expect("there").flatten() {
            let text = fs::read_to_string(entry.path()).expect("read");
            // client, transaction, latency in microseconds, ...
            let third = |line: &str| line.split(' ').nth(2)?.parse::<f64>().ok();
            latencies.extend(text.lines().filter_map(third));
            fs::remove_file(entry.path()).expect("removed");
        }
        latencies.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "microseconds of a few seconds")]
        let cpu = (after - before) as f64 / latencies.len().max(1) as f64;
        Figures { tps, p50: quantile(&latencies, 0.5), p99: quantile(&latencies, 0.99), cpu }
    }
}

fn target(
    secrets: &Path,
    name: &str,
    address: &str,
    role: &str,
    password: Option<&str>,
    more: &str,
) -> String {
    let file = secrets.join(role);
    fs::write(&file, password.unwrap_or_default()).expect("written");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("set");
    format!(
        "[[target]]\nname = \"{name}\"\nnames = [\"{name}.test\"]\naddresses = [\"{address}\"]\n\
         ports = [{PORT}]\nprotocol = \"postgres\"\n[target.postgres]\nusers = {{ app = \"{role}\" }}\n\
         {more}\n[[target.postgres.role]]\nname = \"{role}\"\nfile = {file:?}\n"
    )
}

/// PgBouncer without and with TLS, and Pgpool-II, in the host's namespace as the daemon is.
fn others(world: &World, pki: &Pki) -> Vec<Server> {
    let dir = world.path("others");
    fs::create_dir_all(&dir).expect("made");
    let (chain, key) = pki.leaf(&dir, &["bouncer.test"]);
    let users: String = [OWNS, PLAIN]
        .iter()
        .map(|user| format!("\"{}\" \"{}\"\n", user.name, user.password.unwrap_or_default()))
        .collect();
    fs::write(dir.join("users"), users).expect("written");
    let bouncer = |port: u16, tls: &str| {
        format!(
            "[databases]\n{DATABASE} = host={FAR_V4} port={PORT}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\npool_mode = session\n\
             auth_type = trust\nauth_file = {users}\nmax_client_conn = 100\ndefault_pool_size = 40\n\
             log_connections = 0\nlog_disconnections = 0\n{tls}\n",
            users = dir.join("users").display(),
        )
    };
    let (chain, key, ca) = (chain.display(), key.display(), pki.ca.display());
    let tls = format!(
        "client_tls_sslmode = require\nclient_tls_cert_file = {chain}\nclient_tls_key_file = {key}\n\
         server_tls_sslmode = verify-full\nserver_tls_ca_file = {ca}"
    );
    fs::write(dir.join("clear.ini"), bouncer(BOUNCER, "")).expect("written");
    fs::write(dir.join("tls.ini"), bouncer(BOUNCER_TLS, &tls)).expect("written");
    let pool = format!(
        "listen_addresses = '127.0.0.1'\nport = {POOL}\nsocket_dir = '{dir}'\npcp_port = 9898\n\
         pcp_socket_dir = '{dir}'\nbackend_clustering_mode = 'raw'\nbackend_hostname0 = '{FAR_V4}'\n\
         backend_port0 = {PORT}\nnum_init_children = 32\nmax_pool = 1\npid_file_name = '{dir}/pool.pid'\n\
         logdir = '{dir}'\nenable_pool_hba = on\npool_passwd = 'pool_passwd'\nwork_dir = '{dir}'\n\
         connection_cache = on\nload_balance_mode = off\n",
        dir = dir.display()
    );
    fs::write(dir.join("pgpool.conf"), pool).expect("written");
    fs::write(dir.join("pool_hba.conf"), "host all all 127.0.0.1/32 trust\n").expect("written");
    let passwords = format!("{}:TEXT{}\n", PLAIN.name, PLAIN.password.unwrap_or_default());
    fs::write(dir.join("pool_passwd"), passwords).expect("written");
    fs::write(dir.join("pcp.conf"), "").expect("written");
    must(Command::new("chown").args(["-R", "postgres:postgres"]).arg(&dir));
    let as_postgres = |program: &str| {
        let mut command = world.host.command("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--", program]);
        command.current_dir("/");
        command
    };
    let start = |command: Command, name: &str, port: u16| {
        let log = dir.join(format!("{name}.log"));
        Server::start_in(&world.host, command, log, &format!("127.0.0.1:{port}"))
    };
    let mut clear = as_postgres("/usr/sbin/pgbouncer");
    clear.arg(dir.join("clear.ini"));
    let mut tls = as_postgres("/usr/sbin/pgbouncer");
    tls.arg(dir.join("tls.ini"));
    let mut pool = as_postgres("/usr/sbin/pgpool");
    pool.arg("-n").arg("-f").arg(dir.join("pgpool.conf"));
    pool.arg("-a").arg(dir.join("pool_hba.conf")).arg("-F").arg(dir.join("pcp.conf"));
    vec![start(clear, "clear", BOUNCER), start(tls, "tls", BOUNCER_TLS), start(pool, "pool", POOL)]
}

/// CPU time of a process with all its threads, microseconds (`proc_pid_stat(5)`, fields 14 and 15).
fn cpu_us(pid: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after = stat.rsplit(')').next().unwrap_or_default();
    let field = |at: usize| after.split_whitespace().nth(at - 3)?.parse::<u64>().ok();
    let ticks = field(14).unwrap_or(0) + field(15).unwrap_or(0);
    // USER_HZ is 100 on every Linux of today.
    ticks * 10_000
}
