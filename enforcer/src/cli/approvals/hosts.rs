//! The hosts that joined, for people and programs.

use super::{json, text};
use enforcer_proto::v1;
use std::fmt::Write as _;

/// For programs.
pub(super) fn json(answer: &v1::ListHostsResponse) -> String {
    let check = |check: &v1::HostCheck| serde_json::json!({ "name": check.name, "ok": check.ok, "detail": check.detail });
    let host = |host: &v1::Host| {
        let report = host.report.clone().unwrap_or_default();
        serde_json::json!({
            "name": host.name,
            "joined_unix_ms": host.joined_unix_ms,
            "seen_unix_ms": host.seen_unix_ms,
            "reported": host.report.is_some(),
            "version": report.version,
            "policy": report.policy,
            "policy_number": (report.policy_number > 0).then_some(report.policy_number),
            "policy_age_seconds": (report.policy_number > 0).then_some(report.policy_age_seconds),
            "layers": report.layers.iter().map(check).collect::<Vec<_>>(),
            "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
            "recording": report.recording,
            "transcript_bytes": report.transcript_bytes,
            "transcript_quota_bytes": report.transcript_quota_bytes,
            "flows_open": report.flows_open,
            "held": report.held,
            "uptime_seconds": report.uptime_seconds,
        })
    };
    json::pretty(&answer.hosts.iter().map(host).collect::<Vec<_>>()) + "\n"
}

/// For people: a host a line, what does not hold below it. Milliseconds since the Unix epoch.
pub(super) fn text(answer: &v1::ListHostsResponse, now: i64) -> String {
    let mut out = String::new();
    for host in &answer.hosts {
        let name = text::line(&host.name);
        let Some(report) = &host.report else {
            let _ = writeln!(out, "{name}  no report yet");
            continue;
        };
        let bad: Vec<_> = report.layers.iter().chain(&report.checks).filter(|c| !c.ok).collect();
        let word = if bad.is_empty() && report.recording { "holds" } else { "LOOK AT IT" };
        let age = text::span(now - host.seen_unix_ms);
        let policy = if report.policy.is_empty() { "none" } else { &report.policy };
        let number = match report.policy_number {
            0 => String::new(),
            number => format!(" (version {number} of the server)"),
        };
        let policy = text::line(policy);
        let _ = writeln!(out, "{name}  {word}  {age} ago  policy {policy}{number}");
        if !report.recording {
            let _ = writeln!(out, "    transcripts: not recording");
        }
        for check in bad {
            let [name, detail] = [&check.name, &check.detail].map(|t| text::line(t));
            let _ = writeln!(out, "    {name}: {detail}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_stands_below_its_host() {
        let check = |ok| v1::HostCheck { name: "lsm".to_owned(), ok, detail: "off\n".to_owned() };
        let host = |name: &str, report| v1::Host {
            name: name.to_owned(),
            seen_unix_ms: 1000,
            report,
            ..v1::Host::default()
        };
        let report = |ok| {
            Some(v1::HostReport {
                layers: vec![check(ok)],
                recording: true,
                policy_number: if ok { 3 } else { 0 },
                ..v1::HostReport::default()
            })
        };
        let hosts = vec![host("a", report(true)), host("b", report(false)), host("c", None)];
        let shown = text(&v1::ListHostsResponse { hosts }, 6000);
        assert_eq!(
            shown,
            "a  holds  5s ago  policy none (version 3 of the server)\nb  LOOK AT IT  5s ago  policy none\n    lsm: \
             off‹U+000A›\nc  no report yet\n"
        );
    }
}
