//! What the server counts, and `GET /metrics`.

use super::audit::Code;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Scrapers at once.
const SCRAPERS: usize = 16;

/// Time for a scrape.
const SCRAPE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRole {
    role: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEndpoint {
    endpoint: String,
    outcome: &'static str,
}

/// The server's counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Family<ByCode, Counter>,
    streams: Family<ByRole, Gauge>,
    notifications: Family<ByEndpoint, Counter>,
    /// Requests folded into one that was pending.
    pub folded: Counter,
    /// Requests refused because too many were pending.
    pub full: Counter,
    /// Calls refused because the caller was too fast.
    pub limited: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("enforcer_server");
        let events = Family::default();
        let streams = Family::default();
        let notifications = Family::default();
        let (folded, full, limited) = (Counter::default(), Counter::default(), Counter::default());
        registry.register("events", "Audit records, by code", events.clone());
        registry.register("streams", "Open streams of news, by role", streams.clone());
        registry.register(
            "requests_folded",
            "Identical requests that joined a pending one",
            folded.clone(),
        );
        registry.register(
            "requests_full",
            "Requests refused at the cap of pending ones",
            full.clone(),
        );
        registry.register("calls_limited", "Calls refused by rate", limited.clone());
        registry.register(
            "notifications",
            "News for webhooks, by endpoint and outcome",
            notifications.clone(),
        );
        Self { registry, events, streams, notifications, folded, full, limited }
    }
}

impl Metrics {
    /// Counts an audit record.
    pub fn event(&self, code: Code) {
        self.events.get_or_create(&ByCode { code: code.as_str() }).inc();
    }

    /// Counts news for an endpoint: `delivered`, `failed` or `dropped`.
    pub fn told(&self, endpoint: &str, outcome: &'static str) {
        let endpoint = endpoint.to_owned();
        self.notifications.get_or_create(&ByEndpoint { endpoint, outcome }).inc();
    }

    /// How often that was counted.
    #[cfg(test)]
    pub(super) fn told_so_far(&self, endpoint: &str, outcome: &'static str) -> u64 {
        let endpoint = endpoint.to_owned();
        self.notifications.get_or_create(&ByEndpoint { endpoint, outcome }).get()
    }

    /// Counts a stream while the guard lives.
    pub fn stream(&self, role: &'static str) -> StreamGuard {
        let gauge = Gauge::clone(&self.streams.get_or_create(&ByRole { role }));
        gauge.inc();
        StreamGuard(gauge)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// An open stream.
#[derive(Debug)]
pub struct StreamGuard(Gauge);

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves `GET /metrics` until `stop`.
pub async fn serve(listener: TcpListener, core: Arc<super::core::Core>, stop: CancellationToken) {
    let scrapers = Arc::new(Semaphore::new(SCRAPERS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((tcp, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = Arc::clone(&scrapers).try_acquire_owned() else {
            continue;
        };
        let core = Arc::clone(&core);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(SCRAPE, scrape(tcp, &core)).await;
            drop(slot);
        });
    }
}

async fn scrape(tcp: TcpStream, core: &super::core::Core) -> hyper::Result<()> {
    let answer = service_fn(async |request: Request<hyper::body::Incoming>| {
        let found = request.method() == Method::GET && request.uri().path() == "/metrics";
        let text = if found { core.metrics.text() } else { String::new() };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        if found {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            let kind = http::HeaderValue::from_static(kind);
            response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
        } else {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        Ok::<_, Infallible>(response)
    });
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(tcp), answer)
        .await
}
