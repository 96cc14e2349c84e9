//! The proof: the same probes ungoverned, which must get out, then in a governed
//! cgroup, which must not.
//!
//! As root the second round is in the bare cgroup, so that the kernel half alone
//! is judged, whether the daemon lives or not; where the daemon lives there is a
//! third under `enforcer run` with all of its floor.

use super::OPEN;
use crate::config::Config;
use crate::principal::AgentName;
use crate::run::cgroup::RunCgroup;
use crate::run::control::{self, Check, StatusReport};
use crate::run::escape::canary::Canary;
use crate::run::escape::probe::{Order, word};
use crate::run::escape::{WAYS, Way};
use crate::run::floor::landlock;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The agent that the probes run as.
const AGENT: &str = "enforcer-doctor";

/// How long a word may be under way on this host.
const UNDER_WAY: Duration = Duration::from_millis(500);

pub(super) fn checks(config: &Config, file: &Path, report: Option<&StatusReport>) -> Vec<Check> {
    let canary = match Canary::start() {
        Ok(canary) => canary,
        Err(error) => {
            return vec![Check::failed("escape", format!("no canary can listen: {error}"))];
        }
    };
    let mut checks = Vec::new();
    let open = match control_round(&canary) {
        Ok(open) => open,
        Err(why) => return vec![Check::failed("escape control", why)],
    };
    let left_out: Vec<&str> =
        WAYS.iter().filter(|way| !open.contains(way)).map(|way| way.name).collect();
    let left_out = match left_out.as_slice() {
        [] => String::new(),
        names => format!("; not possible on this host: {}", names.join(", ")),
    };
    checks.push(Check::ok(
        "escape control",
        format!("{} of {} ways get out when not governed{left_out}", open.len(), WAYS.len()),
    ));
    let holds =
        |layer: &str| report.is_some_and(|r| r.layers.iter().any(|l| l.name == layer && l.holds));
    if nix::unistd::geteuid().is_root() {
        checks.extend(round("cgroup", &canary, &open, &holds, |order| bare(config, order)));
    }
    if report.is_some() {
        // The floor closes abstract sockets by itself where the kernel can, and the way out of the
        // cgroup always.
        let open: Vec<Way> = open
            .iter()
            .map(|way| match way.name {
                "unix_abstract" if landlock::supported() => Way { closed_by: "floor", ..*way },
                "cg_procs_escape" => Way { closed_by: "floor", ..*way },
                _ => *way,
            })
            .collect();
        checks.extend(round("run", &canary, &open, &holds, |order| under_run(file, order)));
    } else if !nix::unistd::geteuid().is_root() {
        checks.push(Check::failed(
            "escape",
            "without a daemon only root can try: run doctor as root",
        ));
    }
    checks
}

/// The ways that get out when nothing holds them.
fn control_round(canary: &Canary) -> Result<Vec<Way>, String> {
    let order = order(canary, None);
    spawn(probe_command(&order)?)?;
    let open: Vec<Way> = WAYS
        .into_iter()
        .filter(|way| canary.hears(&word(&order.round, way.name), UNDER_WAY))
        .collect();
    if open.iter().any(|way| way.name == "tcp4_connect") {
        Ok(open)
    } else {
        Err("not even an ungoverned probe reaches the canary, so the others prove nothing; \
             is doctor itself governed, or a firewall on the loopback?"
            .to_owned())
    }
}

/// One governed round: a line for each way that was open.
fn round(
    kind: &str,
    canary: &Canary,
    open: &[Way],
    holds: &dyn Fn(&str) -> bool,
    run: impl FnOnce(Order) -> Result<(), String>,
) -> Vec<Check> {
    let order = order(canary, None);
    let words = order.round.clone();
    let name = |way: &str| format!("escape {kind} {way}");
    if let Err(why) = run(order) {
        return vec![Check::failed(&name("*"), format!("the probes do not run: {why}"))];
    }
    // Once for all: what is under way comes within that time.
    std::thread::sleep(UNDER_WAY);
    open.iter()
        .map(|way| {
            let out = canary.hears(&word(&words, way.name), Duration::ZERO);
            match (out, way.closed_by) {
                (false, _) => Check::ok(&name(way.name), "closed"),
                (true, layer @ ("unix" | "lsm")) if !holds(layer) => Check::ok(
                    &name(way.name),
                    format!("{OPEN}it takes the {layer} layer, which does not hold on this host"),
                ),
                (true, _) => Check::failed(
                    &name(way.name),
                    "GOT OUT: stop the agents, and restart the daemon",
                ),
            }
        })
        .collect()
}

fn order(canary: &Canary, join: Option<std::path::PathBuf>) -> Order {
    Order {
        targets: canary.targets.clone(),
        round: uuid::Uuid::now_v7().simple().to_string(),
        join,
    }
}

/// In a governed cgroup and with all of root's powers.
fn bare(config: &Config, mut order: Order) -> Result<(), String> {
    let root = control::run_root(config)?;
    let agent = AgentName::parse(AGENT).ok_or("no agent's name")?;
    let cgroup = RunCgroup::make(&root, &agent, "", &format!("run-{}", order.round))
        .map_err(|error| format!("a cgroup below {}: {error}", root.display()))?;
    order.join = Some(cgroup.path().to_owned());
    let ran = probe_command(&order).and_then(spawn);
    cgroup.remove().map_err(|error| format!("removing the cgroup: {error}"))?;
    ran
}

/// As a user's program is.
fn under_run(file: &Path, order: Order) -> Result<(), String> {
    let (program, arguments) = probe_words(&order)?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["run", "--agent", AGENT, "--config"]).arg(file).arg("--").arg(program);
    command.args(arguments).current_dir("/");
    spawn(command)
}

fn probe_words(order: &Order) -> Result<(OsString, [OsString; 3]), String> {
    let order = serde_json::to_string(order).map_err(|error| error.to_string())?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    Ok((program.into(), ["__launch".into(), "--probe".into(), order.into()]))
}

fn probe_command(order: &Order) -> Result<Command, String> {
    let (program, arguments) = probe_words(order)?;
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

fn spawn(mut command: Command) -> Result<(), String> {
    let out = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .map_err(|error| error.to_string())?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", out.status, String::from_utf8_lossy(&out.stderr).trim()))
}
