//! The processes of this host: whether those that somebody meant to be governed are, and what
//! those that are could do past the kernel half.

use super::OPEN;
use crate::config::Config;
use crate::run::cgroup::is_governed;
use crate::run::control::{Check, StatusReport};
use std::fs;

/// Processes that a line names; the rest is counted.
const NAMED: usize = 3;

/// Capabilities (capabilities(7)) with which a process gets past cgroup programs or takes them
/// off, where the lsm layer does not hold. Their numbers are `linux/capability.h`'s.
const POWERS: [(u32, &str); 6] = [
    (12, "NET_ADMIN"),
    (13, "NET_RAW"),
    (16, "SYS_MODULE"),
    (17, "SYS_RAWIO"),
    (21, "SYS_ADMIN"),
    (39, "BPF"),
];

pub(super) fn checks(config: &Config, report: Option<&StatusReport>) -> Vec<Check> {
    let roots: Vec<&str> = config.governed.iter().map(|root| root.cgroup.as_str()).collect();
    let (mut astray, mut mighty) = (Vec::new(), Vec::new());
    for pid in pids() {
        let read = |what: &str| fs::read_to_string(format!("/proc/{pid}/{what}"));
        // Processes end while they are looked at.
        let (Ok(cgroups), Ok(status)) = (read("cgroup"), read("status")) else { continue };
        match place(&cgroups, &roots) {
            Place::Governed => {
                let powers = powers(&status);
                if !powers.is_empty() && same_users(&pid) {
                    mighty.push(format!("{pid} ({}) has {}", name(&status), powers.join(", ")));
                }
            }
            Place::OnlyVersion1(path) => {
                astray.push(format!("{pid} ({}) is in {path}", name(&status)));
            }
            Place::Elsewhere => {}
        }
    }
    let mut checks = vec![if astray.is_empty() {
        Check::ok("processes", "none is below a governed cgroup in version 1 alone")
    } else {
        let what = format!(
            "NOT GOVERNED: {}, in a hierarchy of cgroups version 1 alone. Its container runtime \
             does not use version 2: boot with systemd.unified_cgroup_hierarchy=1, or use runc 1.1",
            some(&astray)
        );
        Check::failed("processes", what)
    }];
    let lsm = report.is_some_and(|r| r.layers.iter().any(|l| l.name == "lsm" && l.holds));
    if !lsm {
        checks.push(if mighty.is_empty() {
            Check::ok("powers", "no governed process has one that the lsm layer would have to hold")
        } else {
            let what = format!(
                "{OPEN}{}; without the lsm layer that gets out: take them away \
                 (CapabilityBoundingSet= in a unit, --cap-drop=ALL for a container)",
                some(&mighty)
            );
            Check::ok("powers", what)
        });
    }
    checks
}

/// Where a process is.
#[derive(Debug, PartialEq, Eq)]
enum Place<'a> {
    Governed,
    /// Its path below a governed root, in a hierarchy that the kernel half does not see.
    OnlyVersion1(&'a str),
    Elsewhere,
}

/// `/proc/PID/cgroup` (cgroups(7)): `number:controllers:path`, `0::path` for version 2.
fn place<'a>(cgroups: &'a str, roots: &[&str]) -> Place<'a> {
    let governed = |path: &str| is_governed(path, roots.iter().copied());
    let mut only = None;
    for line in cgroups.lines() {
        let Some((hierarchy, path)) =
            line.split_once(':').and_then(|(number, rest)| Some((number, rest.split_once(':')?.1)))
        else {
            continue;
        };
        match (hierarchy, governed(path)) {
            ("0", true) => return Place::Governed,
            (_, true) => only = Some(path),
            _ => {}
        }
    }
    only.map_or(Place::Elsewhere, Place::OnlyVersion1)
}

/// The powers among the effective capabilities of `/proc/PID/status`.
fn powers(status: &str) -> Vec<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    let has = |bit: u32| effective.unwrap_or(0) >> bit & 1 == 1;
    POWERS.iter().filter(|(bit, _)| has(*bit)).map(|(_, name)| *name).collect()
}

fn name(status: &str) -> &str {
    status.lines().find_map(|line| line.strip_prefix("Name:\t")).unwrap_or("?")
}

/// Whether its capabilities are this user namespace's; one's own are worth nothing outside. What
/// cannot be told counts as the same.
fn same_users(pid: &str) -> bool {
    let users = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
    users(pid).is_none_or(|users_of| users("self").is_none_or(|own| own == users_of))
}

fn pids() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
}

fn some(all: &[String]) -> String {
    let named = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_decides_and_version_1_alone_is_told() {
        let roots = ["/agents.slice"];
        let hybrid = "4:memory:/agents.slice/x\n1:name=systemd:/agents.slice/x\n0::";
        for (own, expected) in [
            ("/agents.slice/x", Place::Governed),
            ("/", Place::OnlyVersion1("/agents.slice/x")),
            ("/agents.slice2/x", Place::OnlyVersion1("/agents.slice/x")),
        ] {
            assert_eq!(place(&format!("{hybrid}{own}\n"), &roots), expected, "{own}");
        }
        assert_eq!(place("0::/agents.slice\n", &roots), Place::Governed);
        assert_eq!(place("4:memory:/\n0::/user.slice\n", &roots), Place::Elsewhere);
        assert_eq!(place("nonsense\n\n0:\n", &roots), Place::Elsewhere);
    }

    #[test]
    fn powers_are_the_effective_capabilities_that_matter() {
        // What Docker gives unless told otherwise, and what remains without NET_RAW.
        assert_eq!(powers("Name:\tx\nCapEff:\t00000000a80425fb\n"), ["NET_RAW"]);
        assert_eq!(powers("CapEff:\t00000000a80405fb\n"), Vec::<&str>::new());
        assert_eq!(powers("CapEff:\t000001ffffffffff\n").len(), POWERS.len());
        assert!(powers("CapEff:\tnone\n").is_empty() && powers("").is_empty());
        assert_eq!(name("Name:\tpython3\nUmask:\t0022\n"), "python3");
    }

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let all: Vec<String> = (0..5).map(|n| n.to_string()).collect();
        assert_eq!(some(&all), "0; 1; 2; and 2 more");
        assert_eq!(some(&all[..1]), "0");
    }
}
