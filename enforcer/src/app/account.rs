//! Tells the approval server how this host is, for the people there. Nothing depends on it.

use crate::flow::Inputs;
use crate::run::status::StatusReport;
use enforcer_proto::v1;
use std::sync::Arc;
use std::time::Duration;

/// How often.
const EVERY: Duration = Duration::from_secs(30);

/// While the server is not reached, it is looked for this often.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a text.
const TEXT: usize = 400;

/// Until the daemon ends.
pub(super) async fn run(inputs: Arc<Inputs>, account: Arc<dyn Fn() -> StatusReport + Send + Sync>) {
    loop {
        let approvals = inputs.decider.approvals();
        let pause = if approvals.connected() {
            if let Err(error) = approvals.report(report(&account())).await {
                tracing::debug!(%error, "the approval server did not take the host's account");
            }
            EVERY
        } else {
            AGAIN
        };
        tokio::time::sleep(pause).await;
    }
}

fn report(status: &StatusReport) -> v1::HostReport {
    let short = |text: &str| text.chars().take(TEXT / 4).collect::<String>();
    let check = |name: &str, ok: bool, detail: &str| v1::HostCheck {
        name: short(name),
        ok,
        detail: short(detail),
    };
    v1::HostReport {
        version: status.version.clone(),
        policy: status.policy_version.clone(),
        layers: status.layers.iter().map(|l| check(&l.name, l.holds, &l.detail)).collect(),
        checks: status.checks.iter().take(32).map(|c| check(&c.name, c.ok, &c.detail)).collect(),
        recording: status.transcripts.writable,
        transcript_bytes: status.transcripts.bytes,
        transcript_quota_bytes: status.transcripts.quota_bytes,
        flows_open: status.flows_open,
        held: status.held,
        uptime_seconds: status.uptime_s,
        policy_number: status.policy.number,
        policy_age_seconds: status.policy.age_s.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::status::{Check, LayerStatus};

    #[test]
    fn an_account_says_what_the_daemon_says_in_short() {
        let status = StatusReport {
            policy_version: "sha256:1".to_owned(),
            layers: vec![LayerStatus {
                name: "cgroup".to_owned(),
                holds: true,
                detail: "é".repeat(1000),
            }],
            checks: vec![Check::failed("maps", "gone")],
            ..StatusReport::default()
        };
        let report = report(&status);
        assert!(report.layers[0].ok && report.layers[0].detail.len() <= TEXT);
        assert!(!report.checks[0].ok && report.checks[0].detail == "gone");
        assert_eq!(report.policy, "sha256:1");
        assert!(!report.recording);
    }
}
