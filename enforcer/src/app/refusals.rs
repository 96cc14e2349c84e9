//! What the kernel half refused, as transcripts of flows that never were.
//!
//! An agent that tries the same thing a thousand times leaves one record a
//! second with a count, not a thousand; none goes uncounted.

use crate::capture::{Capture, Refusal};
use crate::record::Recorder;
use enforcer_proto::v1;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Refusals alike within this time are one record.
const TOGETHER: Duration = Duration::from_secs(1);
/// Kinds of refusals that are counted at once; past it all are written out.
const KINDS: usize = 4096;

/// Writes the kernel's refusals down.
pub(super) struct Refusals {
    capture: Arc<Capture>,
    recorder: Recorder,
    host: String,
    layers: Vec<String>,
    seen: HashMap<Kind, Seen>,
    dropped: u64,
}

/// What makes two refusals alike.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    agent: Option<String>,
    pid: u32,
    hook: &'static str,
    reason: &'static str,
    unix_name: Option<String>,
    destination: Option<std::net::SocketAddr>,
}

struct Seen {
    refusal: Refusal,
    more: u64,
    written: Instant,
}

impl Refusals {
    pub(super) fn new(
        capture: Arc<Capture>,
        recorder: Recorder,
        host: &str,
        layers: Vec<String>,
    ) -> Self {
        Self { capture, recorder, host: host.to_owned(), layers, seen: HashMap::new(), dropped: 0 }
    }

    /// Writes until it is dropped.
    pub(super) async fn run(mut self) {
        let mut ticks = interval(TOGETHER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let capture = Arc::clone(&self.capture);
        loop {
            tokio::select! {
                refusal = capture.next_refusal() => self.take(refusal).await,
                _ = ticks.tick() => self.write_out(TOGETHER).await,
            }
        }
    }

    async fn take(&mut self, refusal: Refusal) {
        if refusal.dropped > self.dropped {
            tracing::warn!(
                target: "audit",
                dropped = refusal.dropped - self.dropped,
                "refusals came faster than they could be read; they are counted, not described"
            );
            self.dropped = refusal.dropped;
        }
        let principal = refusal.principal.as_ref();
        let kind = Kind {
            agent: principal.map(|principal| principal.agent.to_string()),
            pid: principal.map_or(0, |principal| principal.process.pid),
            hook: refusal.hook,
            reason: refusal.reason,
            destination: refusal.destination,
            unix_name: refusal.unix_name.clone(),
        };
        if let Some(seen) = self.seen.get_mut(&kind) {
            seen.more += 1;
            return;
        }
        if self.seen.len() >= KINDS {
            self.write_out(Duration::ZERO).await;
        }
        tracing::info!(
            target: "audit",
            agent = kind.agent.as_deref().unwrap_or_default(),
            hook = refusal.hook,
            reason = refusal.reason,
            detail = refusal.detail,
            name = refusal.unix_name.as_deref().unwrap_or_default(),
            "refused in the kernel"
        );
        self.write(&refusal, 1).await;
        self.seen.insert(kind, Seen { refusal, more: 0, written: Instant::now() });
    }

    /// Writes what was counted since, and forgets what was quiet.
    async fn write_out(&mut self, age: Duration) {
        let mut due = Vec::new();
        self.seen.retain(|_, seen| {
            if seen.written.elapsed() < age {
                return true;
            }
            let more = std::mem::take(&mut seen.more);
            if more > 0 {
                due.push((seen.refusal.clone(), more));
                seen.written = Instant::now();
            }
            more > 0 && !age.is_zero()
        });
        for (refusal, count) in due {
            self.write(&refusal, count).await;
        }
    }

    async fn write(&self, refusal: &Refusal, count: u64) {
        let destination = refusal.destination;
        let start = v1::FlowStart {
            principal: Some(match &refusal.principal {
                Some(principal) => v1::Principal::from(principal),
                None => v1::Principal { host: self.host.clone(), ..v1::Principal::default() },
            }),
            orig_addr: destination.map(|to| to.ip().to_string()).unwrap_or_default(),
            orig_port: destination.map(|to| u32::from(to.port())).unwrap_or_default(),
            transport: transport(refusal.protocol),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layers: self.layers.clone(),
            refusal: Some(v1::KernelRefusal {
                hook: refusal.hook.to_owned(),
                reason: refusal.reason.to_owned(),
                count,
            }),
            ..v1::FlowStart::default()
        };
        let end = v1::FlowEnd {
            outcome: "kernel-refused".to_owned(),
            error: refusal.reason.to_owned(),
            operations: 0,
        };
        if let Err(error) = self.recorder.whole_flow(start, Vec::new(), end).await {
            tracing::error!(target: "audit", %error, "a refusal in the kernel could not be recorded");
        }
    }
}

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
fn transport(protocol: u32) -> String {
    match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        0 => String::new(),
        other => format!("ip-{other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::fake::Fake;
    use crate::config::Transcript;

    fn refusal(hook: &'static str) -> Refusal {
        Refusal {
            principal: None,
            boot_ns: 0,
            hook,
            reason: "protocol",
            destination: Some("192.0.2.1:443".parse().unwrap()),
            protocol: 17,
            cookie: 0,
            detail: 0,
            unix_name: None,
            dropped: 0,
        }
    }

    #[tokio::test]
    async fn refusals_alike_are_one_record_with_a_count() {
        let dir = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&Transcript::default(), dir.path()).unwrap();
        let capture = Arc::new(Capture::Fake(Fake::default()));
        let mut refusals =
            Refusals::new(Arc::clone(&capture), recorder.clone(), "host-a", Vec::new());
        let before = recorder.stats().events;
        for _ in 0..1000 {
            refusals.take(refusal("connect4")).await;
        }
        refusals.take(refusal("sendmsg4")).await;
        assert_eq!(recorder.stats().events - before, 4, "two flows of two events");
        refusals.write_out(Duration::ZERO).await;
        assert_eq!(recorder.stats().events - before, 6, "one more with the rest");
        recorder.shutdown().await;
    }
}
