//! The heartbeat: it beats while everything that a verdict needs is there.
//!
//! When it stops, the kernel half refuses every connect; so whatever is checked
//! here fails closed by itself.

use crate::accept::Pulses;
use crate::capture::{Capture, CaptureError};
use crate::config::Config;
use crate::record::Recorder;
use crate::run::status::Check;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{error, info};

/// How often the kernel is asked whether the programs are still in force.
const VERIFY: Duration = Duration::from_secs(5);
/// An accept loop that did not come round for that long is stuck.
const STUCK: Duration = Duration::from_secs(3);

/// What is watched, and how it stands.
#[derive(Clone)]
pub(super) struct Health(Arc<Inner>);

struct Inner {
    capture: Arc<Capture>,
    recorder: Recorder,
    pulses: Arc<Pulses>,
    every: Duration,
    state: Mutex<State>,
}

struct State {
    attached: Result<(), String>,
}

impl Health {
    pub(super) fn new(
        capture: Arc<Capture>,
        recorder: Recorder,
        pulses: Arc<Pulses>,
        config: &Config,
    ) -> Self {
        Self(Arc::new(Inner {
            capture,
            recorder,
            pulses,
            every: Duration::from_millis((config.kernel.heartbeat_limit_ms / 4).max(10)),
            state: Mutex::new(State { attached: Err("not looked at yet".to_owned()) }),
        }))
    }

    /// Asks the kernel whether every program is in force.
    pub(super) async fn check(&self) -> Result<(), CaptureError> {
        let capture = Arc::clone(&self.0.capture);
        let result = tokio::task::spawn_blocking(move || capture.verify_attached()).await;
        let result = result.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let attached = match &result {
            Ok(()) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).attached = attached;
        result
    }

    /// Beats, and looks again now and then.
    pub(super) async fn run(self) {
        let mut verified = Instant::now();
        let mut well = true;
        loop {
            if verified.elapsed() >= VERIFY {
                verified = Instant::now();
                // What went wrong is kept and told below.
                let _ = self.check().await;
            }
            let ill: Vec<_> = self.checks().into_iter().filter(|check| !check.ok).collect();
            match ill.first() {
                None => {
                    if !well {
                        info!(target: "audit", "healthy again; governed processes may go on");
                    }
                    self.0.capture.beat();
                }
                Some(check) if well => {
                    error!(
                        target: "audit",
                        check = %check.name,
                        "not healthy, so governed processes are cut off: {}", check.detail
                    );
                }
                Some(_) => {}
            }
            well = ill.is_empty();
            tokio::time::sleep(self.0.every).await;
        }
    }

    /// How everything stands now.
    pub(super) fn checks(&self) -> Vec<Check> {
        let record = self.0.recorder.stats();
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        vec![
            match &state.attached {
                Ok(()) => Check::ok("attached", "every kernel program is in force"),
                Err(error) => Check::failed("attached", error.clone()),
            },
            match self.0.pulses.stuck(STUCK) {
                None => Check::ok("accept", "connections are accepted"),
                Some(name) => {
                    Check::failed("accept", format!("{name} is stuck; restart the daemon"))
                }
            },
            match record.failed {
                None => Check::ok("transcripts", "events are recorded"),
                Some(error) => Check::failed("transcripts", error),
            },
        ]
    }

    /// Asked before a program is started: only when all is well.
    pub(super) fn guard(&self) -> Arc<dyn Fn() -> Result<(), String> + Send + Sync> {
        let health = self.clone();
        Arc::new(move || {
            health.0.capture.verify_attached().map_err(|error| error.to_string())?;
            match health.checks().into_iter().find(|check| !check.ok) {
                None => Ok(()),
                Some(check) => Err(format!("{}: {}", check.name, check.detail)),
            }
        })
    }
}
