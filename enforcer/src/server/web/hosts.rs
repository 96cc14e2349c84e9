//! Hosts with their layers and health, and which policy is in force where.

use super::guard::Person;
use super::{Web, page, text};
use crate::server::model::Millis;
use crate::server::service::hosts;
use axum::extract::State;
use axum::response::Response;
use enforcer_proto::v1;
use maud::{Markup, html};
use page::Page;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A host that has not reported for so long is away: three reports are missing.
const AWAY: Millis = 100_000;

/// How a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Bad,
    Away,
    Unknown,
}

impl Health {
    fn of(host: &v1::Host, now: Millis) -> Self {
        let Some(report) = &host.report else { return Self::Unknown };
        let ok = report.layers.iter().chain(&report.checks).all(|check| check.ok);
        match now - host.seen_unix_ms {
            AWAY.. => Self::Away,
            _ if ok && report.recording && !report.policy.is_empty() => Self::Good,
            _ => Self::Bad,
        }
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Good => ("good", "holds"),
            Self::Bad => ("bad", "look at it"),
            Self::Away => ("away", "not reporting"),
            Self::Unknown => ("away", "no report yet"),
        }
    }
}

/// The hosts.
pub(super) async fn page(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    let hosts = match hosts::list(&web.core, &signed.caller).await {
        Ok(found) => found.hosts,
        Err(status) => return page::failed(Some(&signed), &status),
    };
    let now = web.core.clock.now();
    let body = html! {
        div #live {
            div.headline { h1 { "Hosts" } span.count { (hosts.len()) } }
            @if hosts.is_empty() { p.empty { "No host has joined." } }
            div.cards { @for host in &hosts { (card(host, now)) } }
        }
    };
    let live = "list".to_owned();
    Page { title: "Hosts", here: "/hosts", signed: Some(&signed), live, body }.response()
}

fn card(host: &v1::Host, now: Millis) -> Markup {
    let (class, word) = Health::of(host, now).words();
    let report = host.report.clone().unwrap_or_default();
    let full = match report.transcript_quota_bytes {
        0 => 0,
        quota => report.transcript_bytes.saturating_mul(100) / quota,
    };
    html! {
        section class={ "card " (class) } {
            h2 { (text::line(&host.name)) " " span class={ "health " (class) } { (word) } }
            @if host.report.is_some() {
                p.hint {
                    "reported " (page::age(host.seen_unix_ms, now)) " ago · version "
                    (text::line(&report.version)) " · up "
                    (crate::cli::approvals::text::span(
                        i64::try_from(report.uptime_seconds).unwrap_or(0).saturating_mul(1000)))
                }
                ul.checks {
                    @for check in report.layers.iter().chain(&report.checks) {
                        li class=(if check.ok { "good" } else { "bad" }) {
                            strong { (text::line(&check.name)) } " "
                            span.verdict { (if check.ok { "holds" } else { "does not hold" }) }
                            @if !check.detail.is_empty() { br; small { (text::line(&check.detail)) } }
                        }
                    }
                    li class=(if report.recording { "good" } else { "bad" }) {
                        strong { "transcripts" } " "
                        span.verdict { (if report.recording { "recording" } else { "not recording: nothing leaves" }) }
                        br; small { (full) "% of the quota" }
                    }
                }
                p.hint { (report.flows_open) " flows open · " (report.held) " operations wait" }
                p.hint { "policy " span.digest { (text::line(&report.policy)) } }
            } @else {
                p.hint { "joined " (page::when(host.joined_unix_ms)) }
            }
        }
    }
}

/// Which policy is in force where.
pub(super) async fn policy(State(web): State<Arc<Web>>, Person(signed): Person) -> Response {
    let hosts = match hosts::list(&web.core, &signed.caller).await {
        Ok(found) => found.hosts,
        Err(status) => return page::failed(Some(&signed), &status),
    };
    let now = web.core.clock.now();
    let mut versions: BTreeMap<String, Vec<v1::Host>> = BTreeMap::new();
    for host in hosts {
        let version = host.report.as_ref().map(|r| r.policy.clone()).unwrap_or_default();
        versions.entry(version).or_default().push(host);
    }
    let distributed = web.core.policies.current();
    let known = versions.keys().filter(|version| !version.is_empty()).count();
    let body = html! {
        div #live {
            div.headline { h1 { "Policy in force" } span.count { (known) } }
            @if known > 1 {
                p.note.warn { "The hosts do not all have the same policy." }
            }
            @if let Some(current) = &distributed {
                p.hint {
                    "Distributed from here: version " (current.statement.number) ", "
                    span.digest { (text::line(&current.statement.version)) } ", by "
                    (text::line(&current.statement.actor)) " "
                    (page::when(current.statement.unix_ms))
                }
            }
            @if versions.is_empty() { p.empty { "No host has joined." } }
            @for (version, hosts) in &versions {
                section.card {
                    h2 {
                        @if version.is_empty() { "None reported" }
                        @else { span.digest { (text::line(version)) } }
                    }
                    ul.plain {
                        @for host in hosts {
                            @let (class, word) = Health::of(host, now).words();
                            li { (text::line(&host.name)) " " span class={ "health " (class) } { (word) } }
                        }
                    }
                }
            }
        }
    };
    let live = "list".to_owned();
    Page { title: "Policy", here: "/policy", signed: Some(&signed), live, body }.response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_as_it_last_said_and_only_for_a_while() {
        let check = |ok| v1::HostCheck { name: "cgroup".to_owned(), ok, detail: String::new() };
        let host = |ok, policy: &str| v1::Host {
            seen_unix_ms: 1000,
            report: Some(v1::HostReport {
                layers: vec![check(ok)],
                policy: policy.to_owned(),
                recording: true,
                ..v1::HostReport::default()
            }),
            ..v1::Host::default()
        };
        assert_eq!(Health::of(&host(true, "p"), 1000), Health::Good);
        assert_eq!(Health::of(&host(false, "p"), 1000), Health::Bad);
        assert_eq!(Health::of(&host(true, ""), 1000), Health::Bad);
        assert_eq!(Health::of(&host(true, "p"), 1000 + AWAY), Health::Away);
        assert_eq!(Health::of(&v1::Host::default(), 0), Health::Unknown);
    }
}
