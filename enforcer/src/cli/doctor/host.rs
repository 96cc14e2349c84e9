//! What enforcement rests on: pins, ports, CA, clock, and the daemon's own word.

use super::OPEN;
use crate::cli::status;
use crate::config::Config;
use crate::run::control::{Check, StatusReport};
use crate::run::floor::landlock;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

/// A port on this host answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(2);

pub(super) fn checks(config: &Config, report: Option<&StatusReport>) -> Vec<Check> {
    let mut checks = vec![pins(config), certificate(config)];
    if let Some(report) = report {
        checks.extend(ports(config));
        checks.extend(daemon(config, report));
        checks.extend(report.checks.iter().cloned());
    }
    checks
}

fn pins(config: &Config) -> Check {
    let dir = &config.kernel.pin_dir;
    let mode = match fs::metadata(dir) {
        Ok(meta) => meta.mode() & 0o777,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Check::ok("pins", "only root can see them; run doctor as root to look");
        }
        Err(error) => {
            return Check::failed("pins", format!("{}: {error}: start the daemon", dir.display()));
        }
    };
    if mode & 0o077 != 0 {
        let what = format!("{} is open to others (mode {mode:o}): chmod 0700", dir.display());
        return Check::failed("pins", what);
    }
    if !nix::unistd::geteuid().is_root() {
        return Check::ok("pins", "only root can see them; run doctor as root to look");
    }
    match status::pins(dir) {
        Ok(pins) if pins.is_empty() => {
            Check::failed("pins", format!("{} is empty: start the daemon", dir.display()))
        }
        Ok(pins) => Check::ok("pins", format!("{} in {}", pins.len(), dir.display())),
        Err(error) => Check::failed("pins", error),
    }
}

fn certificate(config: &Config) -> Check {
    let path = config.ca_dir().join("ca.pem");
    let what_to_do = "make it with `enforcer init` or `enforcer ca rotate`";
    let path_text = path.display();
    let pem = match fs::read(&path) {
        Ok(pem) => pem,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            return Check::ok("ca", "only root can see it; run doctor as root to look");
        }
        Err(error) => return Check::failed("ca", format!("{path_text}: {error}: {what_to_do}")),
    };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&pem) else {
        return Check::failed("ca", format!("{path_text} is no certificate: {what_to_do}"));
    };
    let Ok(ca) = pem.parse_x509() else {
        return Check::failed("ca", format!("{path_text} is no certificate: {what_to_do}"));
    };
    let validity = ca.validity();
    if validity.is_valid() {
        return Check::ok("ca", {
            let until = validity.not_after.timestamp().saturating_mul(1000);
            format!("{path_text}, until {}", crate::cli::approvals::text::time(until))
        });
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    if now < validity.not_before.timestamp() {
        return Check::failed(
            "clock",
            format!("the clock is before the CA was made ({}): set it", validity.not_before),
        );
    }
    Check::failed("ca", format!("{path_text} ended {}: {what_to_do}", validity.not_after))
}

fn ports(config: &Config) -> Vec<Check> {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    [("proxy port", config.proxy.port), ("resolver port", config.proxy.dns_port)]
        .into_iter()
        .map(|(name, port)| {
            let closed: Vec<String> = addresses
                .iter()
                .filter_map(|ip| {
                    let to = SocketAddr::new(*ip, port);
                    let error = TcpStream::connect_timeout(&to, PATIENCE).err()?;
                    // A host without IPv6 has nothing that could be captured there.
                    let absent = error.raw_os_error() == Some(libc::EADDRNOTAVAIL);
                    (!absent).then(|| format!("{to}: {error}"))
                })
                .collect();
            if closed.is_empty() {
                Check::ok(name, port.to_string())
            } else {
                Check::failed(name, format!("{}: restart the daemon", closed.join("; ")))
            }
        })
        .collect()
}

fn daemon(config: &Config, report: &StatusReport) -> Vec<Check> {
    let mut checks = Vec::new();
    for layer in &report.layers {
        let name = format!("layer {}", layer.name);
        let required = layer.name == "cgroup" || config.kernel.require.contains(&layer.name);
        checks.push(match (layer.holds, required) {
            (true, _) => Check::ok(&name, &layer.detail),
            (false, true) => Check::failed(&name, &layer.detail),
            (false, false) => Check::ok(&name, format!("{OPEN}{}", layer.detail)),
        });
    }
    checks.push(if landlock::supported() {
        Check::ok("layer floor", "system call filter, namespaces, no privileges, Landlock scopes")
    } else {
        Check::ok(
            "layer floor",
            format!("{OPEN}no Landlock scopes before 6.12: abstract sockets, signals to own user"),
        )
    });
    // A daemon that says more about its policy says it below, with its other checks.
    if !report.checks.iter().any(|check| check.name == "policy") {
        checks.push(if report.policy_version.is_empty() {
            let none = "none is in force, everything is denied: `enforcer policy check`";
            Check::failed("policy", none)
        } else {
            Check::ok("policy", &report.policy_version)
        });
    }
    checks.push(if report.transcripts.writable {
        Check::ok("transcript store", format!("{} bytes", report.transcripts.bytes))
    } else {
        Check::failed(
            "transcript store",
            "the store takes nothing, so nothing is forwarded: look at the disk and the quota",
        )
    });
    let server = &report.server;
    checks.push(match (server.url.is_empty(), server.connected) {
        (true, _) => Check::ok("server", "none is configured; what needs approval is denied"),
        (false, true) => Check::ok("server", &server.url),
        (false, false) => Check::failed("server", format!("{}: {}", server.url, server.detail)),
    });
    let now = crate::server::clock::wall() / 1000;
    checks.extend(server.certificate(now).map(|held| match held {
        Ok(held) => Check::ok("server certificate", held),
        Err(held) => Check::failed("server certificate", held),
    }));
    checks
}
