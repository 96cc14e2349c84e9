//! `enforcer status`: what the daemon says of itself, and what is left when it is dead.

use crate::run::cgroup::is_governed;
use crate::run::client::{self, Unanswered};
use crate::run::control::StatusReport;
use crate::run::runtime_dir;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Where links and maps are pinned unless the configuration says otherwise.
const PINS: &str = "/sys/fs/bpf/enforcer";
/// How long the daemon's own address may take to answer.
const WHOAMI: Duration = Duration::from_secs(2);

/// Arguments of `enforcer status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration, for its directories
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let dir = runtime_dir(args.config.as_deref())?;
    match client::status(&dir) {
        Ok(report) if args.json => {
            let mut value = serde_json::to_value(&report)?;
            value["running"] = true.into();
            println!("{value:#}");
        }
        Ok(report) => print!("{}", text(&report)),
        Err(error) => return Ok(unanswered(&args, &error)),
    }
    Ok(ExitCode::SUCCESS)
}

/// What can be said without the daemon's account. From inside a governed cgroup its socket may not
/// be seen or used, so that silence there says nothing; its own address does.
fn unanswered(args: &Args, error: &anyhow::Error) -> ExitCode {
    let why = error.downcast_ref::<Unanswered>();
    let running = matches!(why, Some(Unanswered::Refused(_)));
    let pins = pins(&pin_dir(args.config.as_deref()));
    // Who sees the pins is outside, or root inside: that one the unix layer keeps from the socket.
    let blind = pins.as_ref().map_or(true, Vec::is_empty);
    let denied =
        matches!(why, Some(Unanswered::Absent(_, kind)) if *kind == ErrorKind::PermissionDenied);
    if running || ((blind || denied) && inside(args.config.as_deref())) {
        let me = whoami();
        if args.json {
            let value = serde_json::json!({
                "running": if running || me.is_some() { Some(true) } else { None },
                "error": format!("{error:#}"),
                "whoami": me,
            });
            println!("{value:#}");
        } else {
            print!("{}", within(error, running, me.as_ref()));
        }
        return if me.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let silent = matches!(why, Some(Unanswered::Silent(_)));
    dead(error, silent, &pins, args.json);
    ExitCode::FAILURE
}

/// What a governed process is told.
fn within(error: &anyhow::Error, running: bool, me: Option<&serde_json::Value>) -> String {
    let text = |key: &str| me.and_then(|me| me[key].as_str()).unwrap_or_default();
    match me {
        Some(_) => format!(
            "daemon    runs\nhost      {}\nagent     {}: this process is governed, so the daemon \
             says no more to it\npolicy    {}\n",
            text("host"),
            text("agent"),
            text("policy")
        ),
        None if running => format!("daemon    runs, and does not answer this process: {error:#}\n"),
        None => format!(
            "daemon    cannot be told from here: this process is in a governed cgroup or a \
             container ({error:#})\n"
        ),
    }
}

/// Whether this process may be kept from seeing a daemon that runs: it is in a governed cgroup, or
/// in a cgroup namespace, from where it cannot tell.
fn inside(config: Option<&Path>) -> bool {
    /// Inode of the first cgroup namespace (`PROC_CGROUP_INIT_INO`, include/linux/proc_ns.h).
    const FIRST: u64 = 0xefff_fffb;
    use std::os::unix::fs::MetadataExt as _;
    if fs::metadata("/proc/self/ns/cgroup").is_ok_and(|found| found.ino() != FIRST) {
        return true;
    }
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    let roots = configured(config, |table| {
        let governed = table.get("governed")?.as_array()?;
        Some(governed.iter().filter_map(|g| Some(g.get("cgroup")?.as_str()?.to_owned())).collect())
    });
    let roots: Vec<String> = roots.unwrap_or_default();
    is_governed(own, roots.iter().map(String::as_str))
}

/// What the daemon's own address says of this process; `None` when it does not answer.
fn whoami() -> Option<serde_json::Value> {
    use crate::protocol::dns::names::INTERNAL_NAME;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpStream, ToSocketAddrs as _};
    let ask = || {
        let address = (INTERNAL_NAME, 80).to_socket_addrs().ok()?.next()?;
        let mut stream = TcpStream::connect_timeout(&address, WHOAMI).ok()?;
        stream.set_read_timeout(Some(WHOAMI)).ok()?;
        let head = format!(
            "GET /v1/whoami HTTP/1.1\r\nhost: {INTERNAL_NAME}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.take(64 << 10).read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200 ").then(|| serde_json::from_str(body).ok()).flatten()
    };
    // Looking a name up has no limit of its own; the thread ends with the process.
    let (send, answer) = std::sync::mpsc::channel();
    std::thread::spawn(move || send.send(ask()));
    answer.recv_timeout(WHOAMI).ok().flatten()
}

/// What is said without a daemon.
fn dead(error: &anyhow::Error, silent: bool, pins: &Result<Vec<String>, String>, json: bool) {
    if json {
        let pins = pins.as_deref().unwrap_or_default();
        let value = serde_json::json!({
            "running": silent,
            "answers": false,
            "error": format!("{error:#}"),
            "pins": pins,
        });
        println!("{value:#}");
        return;
    }
    println!("daemon    no answer: {error:#}");
    match pins {
        Ok(pins) if pins.is_empty() => {
            println!("pins      none: governed cgroups are NOT enforced")
        }
        Ok(pins) => println!(
            "pins      {} in place ({}): governed processes reach nothing until the daemon is back",
            pins.len(),
            pins.join(", ")
        ),
        Err(error) => println!("pins      {error}"),
    }
}

fn pin_dir(config: Option<&Path>) -> PathBuf {
    let dir =
        configured(config, |table| Some(table.get("kernel")?.get("pin_dir")?.as_str()?.into()));
    dir.unwrap_or_else(|| PINS.into())
}

/// What the configuration says, as far as this process may read it.
fn configured<T>(config: Option<&Path>, pick: impl Fn(&toml::Table) -> Option<T>) -> Option<T> {
    let path = config.unwrap_or_else(|| Path::new(crate::run::DEFAULT_CONFIG));
    pick(&fs::read_to_string(path).ok()?.parse().ok()?)
}

/// Every pin below `dir`, as a path from there.
pub(super) fn pins(dir: &Path) -> Result<Vec<String>, String> {
    fn walk(dir: &Path, base: &Path, names: &mut Vec<String>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                walk(&path, base, names)?;
            } else {
                let name = path.strip_prefix(base).unwrap_or(&path);
                names.push(name.to_string_lossy().into_owned());
            }
        }
        Ok(())
    }
    let mut names = Vec::new();
    match walk(dir, dir, &mut names) {
        Ok(()) => {
            names.sort();
            Ok(names)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{} cannot be read ({error}); try as root", dir.display())),
    }
}

/// The version, and where policy comes from the server its number and age.
fn policy(report: &StatusReport) -> String {
    let policy = &report.policy;
    let mut shown = match report.policy_version.as_str() {
        "" => "NONE: everything is denied".to_owned(),
        version => version.to_owned(),
    };
    if policy.from_server {
        let age = match policy.age_s {
            Some(age) => format!("confirmed {} ago", duration(age)),
            None => "never confirmed".to_owned(),
        };
        let _ = write!(
            shown,
            ", version {} of the server, {age} (at most {})",
            policy.number,
            duration(policy.max_age_s)
        );
    }
    if !policy.refused.is_empty() {
        let _ = write!(shown, "; the newest was NOT taken: {}", policy.refused.replace('\n', " "));
    }
    shown
}

fn text(report: &StatusReport) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    line(
        "daemon",
        &format!("{} pid {}, up {}", report.version, report.pid, duration(report.uptime_s)),
    );
    line("host", &report.host);
    line("governed", &report.governed.join(", "));
    for layer in &report.layers {
        let state = if layer.holds { "holds" } else { "MISSING" };
        line("layer", &format!("{:<8} {state:<8} {}", layer.name, layer.detail));
    }
    let server = &report.server;
    let state = match (server.url.is_empty(), server.connected) {
        (true, _) => "none: what needs approval is denied".to_owned(),
        (false, true) => format!("{} connected", server.url),
        (false, false) => format!("{} NOT connected: {}", server.url, server.detail),
    };
    line("server", &state);
    let now = crate::server::clock::wall() / 1000;
    if let Some(Ok(held) | Err(held)) = server.certificate(now) {
        line("certificate", &held);
    }
    line("policy", &policy(report));
    line(
        "flows",
        &format!(
            "{} open, {} in all, {} held for a decision",
            report.flows_open, report.flows_total, report.held
        ),
    );
    let store = &report.transcripts;
    let writable = if store.writable { "" } else { ", NOT writable: nothing is forwarded" };
    line(
        "transcripts",
        &format!(
            "{} events, {} of {} bytes{writable}",
            store.events, store.bytes, store.quota_bytes
        ),
    );
    fn named(agent: &str) -> &str {
        if agent.is_empty() { "(none)" } else { agent }
    }
    for counter in &report.counters {
        let agent = named(&counter.agent);
        line("counter", &format!("{agent} {} {}", counter.name, counter.value));
    }
    for row in &report.records {
        let missing = match row.unexplained {
            0 => String::new(),
            missing => format!(", {missing} WITHOUT A RECORD"),
        };
        let (agent, what) = (named(&row.agent), &row.what);
        let (kernel, recorded) = (row.kernel, row.recorded);
        line(
            "records",
            &format!("{agent} {what} {kernel} since the start, {recorded} recorded{missing}"),
        );
    }
    for check in report.checks.iter().filter(|c| !c.ok) {
        line("FAILED", &format!("{}: {}", check.name, check.detail));
    }
    out
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, m) => format!("{m}m"),
        (0, h, m) => format!("{h}h{m}m"),
        (d, h, _) => format!("{d}d{h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::control::{Check, LayerStatus, ServerStatus};
    use crate::run::status::Records;

    #[test]
    fn what_is_wrong_stands_out() {
        let report = StatusReport {
            layers: vec![LayerStatus {
                name: "lsm".into(),
                holds: false,
                detail: "the kernel refuses BPF LSM".into(),
            }],
            server: ServerStatus {
                url: "https://s".into(),
                connected: false,
                detail: "connection refused".into(),
                certificate_until: Some(1_700_000_000),
                not_renewed: String::new(),
            },
            checks: vec![Check::failed("clock", "it went back")],
            records: vec![Records {
                agent: "ci".into(),
                what: "protocol".into(),
                kernel: 7,
                recorded: 5,
                unexplained: 2,
            }],
            uptime_s: 3_700,
            ..StatusReport::default()
        };
        let text = text(&report);
        for part in [
            "MISSING",
            "https://s NOT connected: connection refused",
            "certificate ran out at 2023-11-14T22:13:20",
            "NONE: everything is denied",
            "NOT writable",
            "FAILED      clock: it went back",
            "ci protocol 7 since the start, 5 recorded, 2 WITHOUT A RECORD",
            "up 1h1m",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_governed_process_is_told_what_is_true() {
        let refused = anyhow::Error::from(Unanswered::Refused("a governed process may not".into()));
        let me = serde_json::json!({"host": "h", "agent": "ci", "policy": "sha256:0"});
        assert!(
            within(&refused, true, Some(&me)).contains("agent     ci: this process is governed")
        );
        assert!(within(&refused, true, None).contains("runs, and does not answer this process"));
        let absent = anyhow::Error::from(Unanswered::Absent("/x".into(), ErrorKind::NotFound));
        assert!(within(&absent, false, None).contains("cannot be told from here"));
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_goes() {
        let report: StatusReport =
            serde_json::from_str(r#"{"version":"9","new":{"a":1}}"#).unwrap();
        assert_eq!(report.version, "9");
    }
}
