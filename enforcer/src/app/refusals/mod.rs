//! What the kernel half refused, as transcripts of flows that never were.
//!
//! The first of a kind is recorded at once; what is like it within the next minute is one
//! record with a count, the first and last time, and the first destinations. So a flood
//! costs an agent little of its share and the others nothing, and every refusal is counted.
//!
//! The C library's getaddrinfo connects a datagram socket to every address of an answer to
//! learn which source each would have, and sends nothing. Those connects stay refused: with
//! a connected socket `send` passes no hook that sees an address, so that letting the connect
//! through would leave only the packet filter between the agent and a datagram out. They are
//! alike, and so become one line a minute.

use crate::capture::{Capture, Refusal};
use crate::completeness::{Completeness, REDIRECTED};
use crate::forward::address::{Special, special_range};
use crate::protocol::dns::names::{Lookup, Names};
use crate::record::Recorder;
use enforcer_proto::v1;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Refusals alike within this time are one record.
const TOGETHER: Duration = Duration::from_secs(60);
/// How often the counters are looked at for what has no record.
const COUNT: Duration = Duration::from_secs(10);
/// How often it is looked for what is due.
const LOOK: Duration = Duration::from_secs(1);
/// Kinds of refusals that are counted at once; past it all are written out.
const KINDS: usize = 4096;
/// Destinations that a record names.
const DESTINATIONS: usize = 16;
/// The hook of a record of refusals that only the counters tell of.
const COUNTED: &str = "counted";

/// Writes the kernel's refusals down.
pub(super) struct Refusals {
    capture: Arc<Capture>,
    recorder: Recorder,
    names: Arc<Names>,
    completeness: Arc<Completeness>,
    host: String,
    layers: Vec<String>,
    seen: HashMap<Kind, Seen>,
    dropped: u64,
    /// What had no record at the last look, by agent and reason.
    gaps: BTreeMap<(String, String), u64>,
}

/// What makes two refusals alike.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    agent: String,
    hook: &'static str,
    reason: &'static str,
    protocol: u32,
    destination: Class,
}

/// Kinds of destinations.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    /// There is no address.
    None,
    /// A stand-in for a name.
    Name,
    /// A global unicast address.
    Global,
    Special(Special),
}

/// Refusals of one kind that no record stands for yet.
struct Seen {
    /// The first of them.
    refusal: Refusal,
    waiting: u64,
    first_ns: i64,
    last_ns: i64,
    destinations: Vec<String>,
    /// When the last record was written.
    written: Instant,
}

impl Refusals {
    pub(super) fn new(
        capture: Arc<Capture>,
        recorder: Recorder,
        names: Arc<Names>,
        completeness: Arc<Completeness>,
        host: &str,
        layers: Vec<String>,
    ) -> Self {
        Self {
            capture,
            recorder,
            names,
            completeness,
            host: host.to_owned(),
            layers,
            seen: HashMap::new(),
            dropped: 0,
            gaps: BTreeMap::new(),
        }
    }

    /// Writes until it is told to stop, and then what waits.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counts = interval(COUNT);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let capture = Arc::clone(&self.capture);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = looks.tick() => self.write_out(TOGETHER).await,
                _ = counts.tick() => self.write_counted().await,
                refusal = capture.next_refusal() => self.take(refusal).await,
            }
        }
        self.write_out(Duration::ZERO).await;
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
        let kind = self.kind(&refusal);
        self.completeness.read(&kind.agent, kind.reason, refusal.boot_ns);
        if !self.seen.contains_key(&kind) {
            if self.seen.len() >= KINDS {
                self.write_out(Duration::ZERO).await;
                self.seen.retain(|_, seen| seen.waiting > 0);
            }
            tracing::info!(
                target: "audit",
                agent = kind.agent,
                hook = refusal.hook,
                reason = refusal.reason,
                detail = refusal.detail,
                name = refusal.unix_name.as_deref().unwrap_or_default(),
                "refused in the kernel"
            );
        }
        let at = unix_ns(refusal.boot_ns);
        let destination = self.destination(&refusal);
        let fresh = !self.seen.contains_key(&kind);
        let seen = self.seen.entry(kind.clone()).or_insert_with(|| Seen {
            refusal: refusal.clone(),
            waiting: 0,
            first_ns: at,
            last_ns: at,
            destinations: Vec::new(),
            written: Instant::now(),
        });
        if seen.waiting == 0 {
            seen.refusal = refusal;
            seen.first_ns = at;
        }
        seen.waiting += 1;
        seen.last_ns = at;
        if let Some(destination) = destination
            && seen.destinations.len() < DESTINATIONS
            && !seen.destinations.contains(&destination)
        {
            seen.destinations.push(destination);
        }
        if fresh {
            self.write(&kind).await;
        }
    }

    fn kind(&self, refusal: &Refusal) -> Kind {
        let principal = refusal.principal.as_ref();
        let destination = match refusal.destination.map(|to| to.ip().to_canonical()) {
            None => Class::None,
            Some(ip) if self.names.is_synthetic(ip) => Class::Name,
            Some(ip) => match special_range(ip) {
                None => Class::Global,
                Some((_, special)) => Class::Special(special),
            },
        };
        Kind {
            agent: principal.map_or_else(String::new, |who| who.agent.to_string()),
            hook: refusal.hook,
            reason: refusal.reason,
            protocol: refusal.protocol,
            destination,
        }
    }

    /// The name that an address stands for, for this agent.
    fn name(&self, refusal: &Refusal) -> Option<String> {
        let ip = refusal.destination?.ip().to_canonical();
        match self.names.lookup(&refusal.principal.as_ref()?.agent, ip) {
            Lookup::Name(name) => Some(name.as_str().to_owned()),
            Lookup::Foreign | Lookup::NotSynthetic => None,
        }
    }

    fn destination(&self, refusal: &Refusal) -> Option<String> {
        if let Some(name) = &refusal.unix_name {
            return Some(format!("unix:{name}"));
        }
        let to = refusal.destination?;
        Some(match self.name(refusal) {
            Some(name) => format!("{name}:{}", to.port()),
            None => to.to_string(),
        })
    }

    /// Writes what was counted for as long, and forgets what was quiet.
    async fn write_out(&mut self, age: Duration) {
        self.seen.retain(|_, seen| seen.waiting > 0 || seen.written.elapsed() < age);
        let due = self.seen.iter().filter(|(_, s)| s.waiting > 0 && s.written.elapsed() >= age);
        let due: Vec<Kind> = due.map(|(kind, _)| kind.clone()).collect();
        for kind in due {
            self.write(&kind).await;
        }
    }

    async fn write(&mut self, kind: &Kind) {
        let Some(seen) = self.seen.get(kind) else { return };
        let count = seen.waiting;
        let mut start = self.start(&seen.refusal);
        start.refusal = Some(v1::KernelRefusal {
            hook: kind.hook.to_owned(),
            reason: kind.reason.to_owned(),
            count,
            first_unix_ns: seen.first_ns,
            last_unix_ns: seen.last_ns,
            destinations: seen.destinations.clone(),
        });
        let written = self.record(start, kind.reason).await;
        let Some(seen) = self.seen.get_mut(kind) else { return };
        // What cannot be recorded now stays counted, and is tried again.
        seen.written = Instant::now();
        if written {
            seen.waiting = 0;
            seen.destinations.clear();
            self.completeness.written(&kind.agent, kind.reason, count);
        }
    }

    fn start(&self, refusal: &Refusal) -> v1::FlowStart {
        let destination = refusal.destination;
        v1::FlowStart {
            principal: Some(match &refusal.principal {
                Some(principal) => v1::Principal::from(principal),
                None => v1::Principal { host: self.host.clone(), ..v1::Principal::default() },
            }),
            orig_addr: destination.map(|to| to.ip().to_string()).unwrap_or_default(),
            orig_port: destination.map(|to| u32::from(to.port())).unwrap_or_default(),
            name: self.name(refusal).or_else(|| refusal.unix_name.clone()).unwrap_or_default(),
            transport: match refusal.unix_name {
                Some(_) => "unix".to_owned(),
                None => transport(refusal.protocol),
            },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            layers: self.layers.clone(),
            ..v1::FlowStart::default()
        }
    }

    async fn record(&self, start: v1::FlowStart, reason: &str) -> bool {
        let end = v1::FlowEnd {
            outcome: "kernel-refused".to_owned(),
            error: reason.to_owned(),
            operations: 0,
        };
        match self.recorder.whole_flow(start, Vec::new(), end).await {
            Ok(_) => true,
            Err(error) => {
                tracing::error!(target: "audit", %error, "a refusal in the kernel could not be recorded");
                false
            }
        }
    }

    /// Refusals that found the ring buffer full are only counted in the kernel. What has had no
    /// record for two looks gets one with its count, so that the sums agree.
    async fn write_counted(&mut self) {
        let mut gaps = BTreeMap::new();
        let mut missing: BTreeMap<String, i128> = BTreeMap::new();
        for line in self.completeness.lines() {
            if line.what == REDIRECTED {
                continue;
            }
            *missing.entry(line.what.clone()).or_default() +=
                i128::from(line.kernel) - i128::from(line.recorded);
            gaps.insert((line.agent.clone(), line.what.clone()), line.unexplained());
        }
        for ((agent, reason), gap) in &gaps {
            let lasting = self.gaps.get(&(agent.clone(), reason.clone())).copied().unwrap_or(0);
            // A refusal can be known under another agent than it was counted for: in sum none may
            // be recorded twice.
            let missing = missing.entry(reason.clone()).or_default();
            let count = (*gap).min(lasting).min(u64::try_from(*missing).unwrap_or(0));
            if count == 0 {
                continue;
            }
            *missing -= i128::from(count);
            let now = unix_now();
            let start = v1::FlowStart {
                principal: Some(v1::Principal {
                    host: self.host.clone(),
                    agent: agent.clone(),
                    ..v1::Principal::default()
                }),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                layers: self.layers.clone(),
                refusal: Some(v1::KernelRefusal {
                    hook: COUNTED.to_owned(),
                    reason: reason.clone(),
                    count,
                    last_unix_ns: now,
                    ..v1::KernelRefusal::default()
                }),
                ..v1::FlowStart::default()
            };
            self.record(start, reason).await;
        }
        self.gaps = gaps;
    }
}

/// Wall clock, nanoseconds since the Unix epoch.
fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The wall clock's time at a moment of `CLOCK_BOOTTIME`.
fn unix_ns(boot_ns: u64) -> i64 {
    let ago = crate::capture::boottime_ns().saturating_sub(boot_ns);
    unix_now().saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
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
mod tests;
