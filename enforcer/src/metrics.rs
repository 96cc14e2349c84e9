//! Counts for Prometheus. Labels are protocols, verdicts, reasons and agents that the host
//! itself names; never what an agent writes.

use crate::approval::Approvals;
use crate::capture::Capture;
use crate::completeness::Completeness;
use crate::decide::Holds;
use crate::flow::{Ledger, Outcome};
use crate::operation::Operation;
use crate::protocol::dns::serve::DnsInputs;
use crate::record::Recorder;
use bytes::Bytes;
use enforcer_proto::v1;
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How long a scrape may take to send its request.
const SCRAPE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    protocol: &'static str,
    verdict: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    outcome: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Moved {
    protocol: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reloaded {
    taken: &'static str,
}

/// The daemon's own counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    open: Gauge,
    flows: Family<Ended, Counter>,
    not_accepted: Family<Refused, Counter>,
    operations: Family<Decided, Counter>,
    ended: Family<Ended, Counter>,
    bytes: Family<Moved, Counter>,
    masked: Counter,
    total: Counter,
    reloads: Family<Reloaded, Counter>,
    held_seconds: HeldSeconds,
}

#[derive(Clone, Debug)]
struct HeldSeconds(Histogram);

impl Default for HeldSeconds {
    fn default() -> Self {
        // 0.25 s to about 17 minutes: people, not machines.
        Self(Histogram::new(exponential_buckets(0.25, 2.0, 13)))
    }
}

impl Metrics {
    /// Registers every family with its help text.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("flows_open", "Captured connections that are open", self.open.clone());
        registry.register("flows", "Captured connections by how they ended", self.flows.clone());
        registry.register(
            "not_accepted",
            "Connections that were closed unserved, by reason",
            self.not_accepted.clone(),
        );
        registry.register("operations", "Operations by decision", self.operations.clone());
        registry.register("operations_ended", "Operations by how they ended", self.ended.clone());
        registry.register("bytes", "Body bytes carried", self.bytes.clone());
        registry.register("masked_values", "Values masked in responses", self.masked.clone());
        registry.register(
            "policy_reloads",
            "Policy bundles that were loaded anew, by whether they were taken",
            self.reloads.clone(),
        );
        registry.register(
            "held_seconds",
            "How long operations waited for people",
            self.held_seconds.0.clone(),
        );
    }

    /// A connection begins; it is open until the guard goes.
    pub fn flow_opened(&self) -> OpenFlow {
        self.open.inc();
        self.total.inc();
        OpenFlow(self.open.clone())
    }

    /// Connections that are open.
    pub fn flows_open(&self) -> u64 {
        u64::try_from(self.open.get()).unwrap_or(0)
    }

    /// Connections since the start.
    pub fn flows_total(&self) -> u64 {
        self.total.get()
    }

    /// A policy bundle was loaded anew, and taken or not.
    pub fn reloaded(&self, taken: bool) {
        let taken = if taken { "yes" } else { "no" };
        self.reloads.get_or_create(&Reloaded { taken }).inc();
    }

    /// A connection ended.
    pub fn flow_ended(&self, outcome: &Outcome) {
        let ended = Ended { outcome: outcome.word, reason: outcome.code };
        self.flows.get_or_create(&ended).inc();
    }

    /// A connection was closed before it was served.
    pub fn not_accepted(&self, reason: &'static str) {
        self.not_accepted.get_or_create(&Refused { reason }).inc();
    }

    /// An operation was decided.
    pub fn decided(&self, operation: &Operation, decision: &v1::Decision) {
        let verdict = match decision.verdict() {
            v1::Verdict::Allow => "allow",
            _ => "deny",
        };
        let protocol = operation.protocol.as_str();
        let decided = Decided { protocol, verdict, reason: decision.reason.clone() };
        self.operations.get_or_create(&decided).inc();
        if !decision.approval.is_empty() {
            self.held_seconds.0.observe(Duration::from_millis(decision.held_ms).as_secs_f64());
        }
    }

    /// An operation ended.
    pub fn operation_ended(&self, operation: &Operation, outcome: &Outcome, ledger: &Ledger) {
        let ended = Ended { outcome: outcome.word, reason: outcome.code };
        self.ended.get_or_create(&ended).inc();
        let (up, down) = ledger.bytes();
        for (direction, bytes) in [("up", up), ("down", down)] {
            let protocol = operation.protocol.as_str();
            self.bytes.get_or_create(&Moved { protocol, direction }).inc_by(bytes);
        }
        self.masked.inc_by(ledger.masked_total());
    }
}

/// A connection that is open.
#[derive(Debug)]
pub struct OpenFlow(Gauge);

impl Drop for OpenFlow {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What other parts count themselves, read when scraped.
pub struct Parts {
    /// The kernel half.
    pub capture: Arc<Capture>,
    /// The transcripts.
    pub recorder: Recorder,
    /// The held operations.
    pub holds: Arc<Holds>,
    /// The approval server.
    pub approvals: Approvals,
    /// The resolver.
    pub dns: Arc<DnsInputs>,
    /// The kernel's counters beside the transcripts.
    pub completeness: Arc<Completeness>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Collector for Parts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let record = self.recorder.stats();
        let until = self.approvals.certificate().map_or(0, |held| held.until);
        let gauges = [
            ("held", "Operations that wait for people", self.holds.held() as u64),
            (
                "approval_server_connected",
                "1 while the approval server can be reached",
                u64::from(self.approvals.connected()),
            ),
            (
                "approval_certificate_end_seconds",
                "When the certificate for the approval server ends, since 1970; 0 without one",
                u64::try_from(until).unwrap_or(0),
            ),
            ("transcript_disk_bytes", "Bytes of the transcript store on disk", record.disk_bytes),
            ("transcript_quota_bytes", "The transcript store's quota", record.quota_bytes),
            (
                "transcript_writable",
                "1 while transcripts can be written; without it nothing is forwarded",
                u64::from(record.failed.is_none()),
            ),
        ];
        for (name, help, value) in gauges {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            put(&mut encoder, name, help, &ConstGauge::new(value))?;
        }
        let counters = [
            ("transcript_events", "Events recorded", record.events),
            ("transcript_syncs", "Syncs of the transcript store to disk", record.syncs),
            ("transcript_bytes", "Bytes recorded", record.bytes),
        ];
        for (name, help, value) in counters {
            put(&mut encoder, name, help, &ConstCounter::new(value))?;
        }
        let mut lookups = encoder.encode_descriptor(
            "dns_lookups",
            "Look-ups of governed processes, by what became of them",
            None,
            MetricType::Counter,
        )?;
        for (result, count) in self.dns.counters.rows() {
            ConstCounter::new(count).encode(lookups.encode_family(&[("result", result)])?)?;
        }
        self.kernel(&mut encoder)
    }
}

impl Parts {
    fn kernel(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        put_layers(encoder, &self.capture.layers())?;
        let rows = self.capture.counters();
        let agent = |row: &crate::capture::CounterRow| {
            row.agent.as_ref().map_or_else(String::new, ToString::to_string)
        };
        for (name, help, pick) in [
            ("kernel_redirected", "TCP connects sent to the proxy", 0_usize),
            ("kernel_unconnected", "TCP connects that ended before there was a connection", 1),
            ("kernel_dns", "Datagrams sent to the resolver", 2),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for row in &rows {
                let count = [row.redirected, row.unconnected, row.dns][pick];
                let labels = [("agent", agent(row))];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "kernel_refused",
            "Refusals in the kernel",
            None,
            MetricType::Counter,
        )?;
        for row in &rows {
            for (reason, count) in &row.refused {
                let labels = [("agent", agent(row)), ("reason", (*reason).to_owned())];
                ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
            }
        }
        let mut family = encoder.encode_descriptor(
            "unexplained",
            "What the kernel redirected or refused since the daemon's start and no record tells of; \
             short-lived where a connection is just accepted, else an alarm",
            None,
            MetricType::Gauge,
        )?;
        for line in self.completeness.lines() {
            let missing = i64::try_from(line.unexplained()).unwrap_or(i64::MAX);
            let labels = [("agent", line.agent), ("what", line.what)];
            ConstGauge::new(missing).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn put_layers(
    encoder: &mut DescriptorEncoder<'_>,
    layers: &[crate::capture::Layer],
) -> Result<(), std::fmt::Error> {
    let help = "1 while the layer of enforcement holds";
    let mut family = encoder.encode_descriptor("layer_holds", help, None, MetricType::Gauge)?;
    for layer in layers {
        ConstGauge::new(i64::from(layer.holds))
            .encode(family.encode_family(&[("layer", layer.name)])?)?;
    }
    Ok(())
}

fn put(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// Answers `GET /metrics` until shutdown.
pub async fn serve(listener: TcpListener, registry: Arc<Registry>, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            if let Err(error) = scraped(stream, &registry).await {
                tracing::debug!(%peer, %error, "a scrape ended");
            }
        });
    }
}

async fn scraped(stream: tokio::net::TcpStream, registry: &Registry) -> hyper::Result<()> {
    let answer = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let response = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => page(registry),
            _ => status(StatusCode::NOT_FOUND),
        };
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SCRAPE)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn page(registry: &Registry) -> Response<Full<Bytes>> {
    let mut text = String::new();
    if prometheus_client::encoding::text::encode(&mut text, registry).is_err() {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let mut response = Response::new(Full::from(text));
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    );
    response
}

fn status(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// Binds the metrics address.
pub async fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(addr).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Layer;

    #[derive(Debug)]
    struct Layers(Vec<Layer>);

    impl Collector for Layers {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
            put_layers(&mut encoder, &self.0)
        }
    }

    #[test]
    fn a_layer_that_does_not_hold_is_zero() {
        let layer = |name, holds| Layer { name, holds, detail: String::new() };
        let mut registry = Registry::default();
        registry
            .register_collector(Box::new(Layers(vec![layer("cgroup", true), layer("lsm", false)])));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("layer_holds{layer=\"cgroup\"} 1\n"), "{text}");
        assert!(text.contains("layer_holds{layer=\"lsm\"} 0\n"), "{text}");
    }
}
