//! Sends news to one endpoint, one at a time, and again when it did not arrive.

use super::config::Endpoint;
use super::message::News;
use crate::server::core::Core;
use hmac::{Hmac, Mac as _};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// The first wait before another try; each one after is twice as long.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// Seconds since the Unix epoch when the message was signed.
const TIMESTAMP: &str = "enforcer-timestamp";

/// `v1=` and the signature, hex.
const SIGNATURE: &str = "enforcer-signature";

/// The same in every try: a receiver that has seen it has seen the message.
const DELIVERY: &str = "enforcer-delivery";

/// What became of a try.
#[derive(Debug)]
enum Tried {
    Taken,
    /// Another try is worth it.
    Later(String),
    /// No try will do.
    Never(String),
}

/// Tells one endpoint.
pub(super) struct Sender {
    endpoint: Arc<Endpoint>,
    core: Arc<Core>,
}

impl Sender {
    pub(super) fn new(endpoint: Arc<Endpoint>, core: Arc<Core>) -> Self {
        Self { endpoint, core }
    }

    /// Until the queue is closed.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<Arc<News>>) {
        let name = self.endpoint.name.as_str();
        while let Some(news) = queue.recv().await {
            let outcome = match self.deliver(&news).await {
                Ok(()) => "delivered",
                Err(why) => {
                    tracing::error!(endpoint = name, delivery = %news.delivery, why, "news was not delivered");
                    "failed"
                }
            };
            self.core.metrics.told(name, outcome);
        }
    }

    async fn deliver(&self, news: &News) -> Result<(), String> {
        let body = Bytes::from(news.body(self.endpoint.format));
        let mut tried = 1;
        loop {
            let once = tokio::time::timeout(self.endpoint.timeout, self.once(news, body.clone()));
            let why = match once.await {
                Ok(Tried::Taken) => return Ok(()),
                Ok(Tried::Never(why)) => return Err(why),
                Ok(Tried::Later(why)) => why,
                Err(_) => "no answer in time".to_owned(),
            };
            if tried >= self.endpoint.tries {
                return Err(format!("{why}, {tried} times"));
            }
            tracing::debug!(endpoint = %self.endpoint.name, tried, why, "news did not arrive; trying again");
            tokio::time::sleep(wait(tried)).await;
            tried += 1;
        }
    }

    async fn once(&self, news: &News, body: Bytes) -> Tried {
        // The wall clock: the receiver compares it with its own.
        let seconds = crate::server::clock::wall() / 1000;
        let request = match self.request(news, body, seconds) {
            Ok(request) => request,
            Err(error) => return Tried::Never(error.to_string()),
        };
        match self.status(request).await {
            Ok(status) if status.is_success() => Tried::Taken,
            Ok(status) if again(status) => Tried::Later(format!("it answered {status}")),
            Ok(status) => Tried::Never(format!("it answered {status}")),
            Err(error) => Tried::Later(error.to_string()),
        }
    }

    fn request(
        &self,
        news: &News,
        body: Bytes,
        seconds: i64,
    ) -> http::Result<Request<Full<Bytes>>> {
        let Endpoint { host, port, path, key, tls, .. } = &*self.endpoint;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let usual = if tls.is_some() { 443 } else { 80 };
        let authority = if *port == usual { host } else { format!("{host}:{port}") };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::HOST, authority)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, concat!("enforcer/", env!("CARGO_PKG_VERSION")))
            .header(DELIVERY, news.delivery.to_string());
        if let Some(key) = key {
            let signature = signature(key, seconds, &body);
            request = request.header(TIMESTAMP, seconds).header(SIGNATURE, signature);
        }
        request.body(Full::new(body))
    }

    async fn status(&self, request: Request<Full<Bytes>>) -> io::Result<StatusCode> {
        let Endpoint { host, port, tls, .. } = &*self.endpoint;
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        match tls {
            None => exchange(tcp, request).await,
            Some((name, config)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                exchange(connector.connect(name.clone(), tcp).await?, request).await
            }
        }
    }
}

/// Sends the request on a connection of its own. Nothing of the answer but its status is read.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> io::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Its end and the answer may come together.
        ended = connection => {
            ended.map_err(io::Error::other)?;
            answer.await
        }
    };
    Ok(answer.map_err(io::Error::other)?.status())
}

/// `v1=` and HMAC-SHA256 over `v1.`, the timestamp, `.` and the body.
fn signature(key: &[u8], seconds: i64, body: &[u8]) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("v1.{seconds}.").as_bytes());
    mac.update(body);
    format!("v1={}", hex::encode(mac.finalize().into_bytes()))
}

/// Whether another try can end better: the endpoint is in trouble, not the message.
fn again(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::REQUEST_TIMEOUT
        || status == StatusCode::TOO_MANY_REQUESTS
}

/// The wait after so many tries.
fn wait(tried: u32) -> Duration {
    FIRST.saturating_mul(1 << tried.saturating_sub(1).min(16)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound() {
        assert_eq!([1, 2, 3, 9, 10, 100].map(|n| wait(n).as_secs()), [1, 2, 4, 256, 300, 300]);
    }

    #[test]
    fn a_signature_is_over_time_and_body() {
        // printf 'v1.1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let known = signature(b"0123456789abcdef", 1_700_000_000, b"{}");
        assert_eq!(known, "v1=45e9394288a2e11106b7f04d54ac3773d6268bf9a5dff75ab75fa70d3f7e8eeb");
        for other in [
            signature(b"0123456789abcdeg", 1_700_000_000, b"{}"),
            signature(b"0123456789abcdef", 1_700_000_001, b"{}"),
            signature(b"0123456789abcdef", 1_700_000_000, b"{ }"),
        ] {
            assert_ne!(other, known);
        }
    }

    #[test]
    fn what_is_worth_another_try() {
        let tried = [500, 503, 408, 429, 400, 403, 404, 410, 301]
            .map(|code| again(StatusCode::from_u16(code).unwrap()));
        assert_eq!(tried, [true, true, true, true, false, false, false, false, false]);
    }
}
