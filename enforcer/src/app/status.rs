//! The daemon's account of itself, for `enforcer status` and `enforcer doctor`.

use super::distributed::Standing;
use super::health::Health;
use crate::capture::Capture;
use crate::completeness::{Completeness, Line};
use crate::flow::Inputs;
use crate::run::status::{
    Check, Counter, LayerStatus, PolicyStatus, Records, ServerStatus, StatusReport,
    TranscriptStatus,
};
use std::sync::{Arc, PoisonError};
use std::time::Instant;

/// Makes the account.
pub(super) struct Reporter {
    inputs: Arc<Inputs>,
    capture: Arc<Capture>,
    health: Health,
    completeness: Arc<Completeness>,
    policy: Standing,
    since: Instant,
}

impl Reporter {
    /// What the control socket asks.
    #[expect(clippy::new_ret_no_self, reason = "the control socket takes a function")]
    pub(super) fn new(
        inputs: &Arc<Inputs>,
        capture: &Arc<Capture>,
        health: &Health,
        completeness: Arc<Completeness>,
        policy: Standing,
    ) -> Arc<dyn Fn() -> StatusReport + Send + Sync> {
        let reporter = Self {
            inputs: Arc::clone(inputs),
            capture: Arc::clone(capture),
            health: health.clone(),
            completeness,
            policy,
            since: Instant::now(),
        };
        Arc::new(move || reporter.report())
    }

    fn report(&self) -> StatusReport {
        let config = &self.inputs.config;
        let decider = &self.inputs.decider;
        let record = self.inputs.recorder.stats();
        let connected = decider.approvals().connected();
        let certificate = decider.approvals().certificate();
        let url = config.server.as_ref().map(|server| server.url.clone()).unwrap_or_default();
        let layers = self.capture.layers().into_iter().map(|layer| LayerStatus {
            name: layer.name.to_owned(),
            holds: layer.holds,
            detail: layer.detail,
        });
        // Given back at once: what follows does not wait for whoever puts policy in force.
        let policy = self.policy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.since.elapsed().as_secs(),
            host: config.host_name().to_owned(),
            governed: config.governed.iter().map(|governed| governed.cgroup.clone()).collect(),
            layers: layers.collect(),
            server: ServerStatus {
                detail: match (url.is_empty(), connected) {
                    (true, _) => "none is configured: what needs approval is denied".to_owned(),
                    (false, true) => String::new(),
                    (false, false) => "not reached: what needs approval is denied".to_owned(),
                },
                url,
                connected,
                certificate_until: certificate.as_ref().map(|held| held.until),
                not_renewed: certificate
                    .and_then(|held| held.not_renewed.clone())
                    .unwrap_or_default(),
            },
            checks: self.checks(&policy),
            policy,
            policy_version: decider.bundle().version().to_owned(),
            flows_open: self.inputs.metrics.flows_open(),
            flows_total: self.inputs.metrics.flows_total(),
            held: decider.holds().held() as u64,
            transcripts: TranscriptStatus {
                events: record.events,
                bytes: record.disk_bytes,
                quota_bytes: record.quota_bytes,
                writable: record.failed.is_none() && record.disk_bytes < record.quota_bytes,
            },
            counters: self.counters(),
            records: self.records(),
        }
    }

    fn checks(&self, policy: &PolicyStatus) -> Vec<Check> {
        let mut checks = self.health.checks();
        let bundle = self.inputs.decider.bundle();
        checks.push(match (bundle.absence(), policy.refused.as_str()) {
            (None, "") => Check::ok("policy", bundle.version()),
            (None, refused) => Check::failed(
                "policy",
                format!(
                    "the newest of the server was not taken, {} stays: {refused}",
                    bundle.version()
                ),
            ),
            (Some(why), "") => Check::failed("policy", why.detail()),
            (Some(why), refused) => Check::failed("policy", format!("{}: {refused}", why.detail())),
        });
        checks
    }

    fn counters(&self) -> Vec<Counter> {
        let mut counters = Vec::new();
        for row in self.capture.counters() {
            let agent = row.agent.as_ref().map_or_else(String::new, ToString::to_string);
            let mut add = |name: String, value: u64| {
                counters.push(Counter { agent: agent.clone(), name, value });
            };
            add("redirected".to_owned(), row.redirected);
            add("unconnected".to_owned(), row.unconnected);
            add("dns".to_owned(), row.dns);
            for (reason, count) in &row.refused {
                add(format!("refused.{reason}"), *count);
            }
        }
        counters
    }

    fn records(&self) -> Vec<Records> {
        let line = |line: Line| Records {
            unexplained: line.unexplained(),
            agent: line.agent,
            what: line.what,
            kernel: line.kernel,
            recorded: line.recorded,
        };
        self.completeness.lines().into_iter().map(line).collect()
    }
}
