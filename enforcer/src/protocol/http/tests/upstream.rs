//! A real HTTP server, plain or with TLS of its own CA, that notes what it was sent.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

type Body = BoxBody<Bytes, Infallible>;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) peer: SocketAddr,
}

/// The server.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    pub(super) ca: CertificateDer<'static>,
    pub(super) tls: bool,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    /// Bodies that tests feed: `/fed/NAME` answers with the receiver of that name.
    fed: Mutex<Vec<mpsc::Receiver<Frame<Bytes>>>>,
    /// Bytes that were read of bodies so far.
    read: Mutex<u64>,
    /// Trailers of requests so far.
    trailers: Mutex<HeaderMap>,
}

impl Upstream {
    pub(super) async fn start(tls: bool, alpn: &[&[u8]]) -> Self {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let addr = SocketAddr::from(([127, 0, 0, 1], listener.local_addr().unwrap().port()));
        let (ca, config) = certificates(alpn);
        let acceptor = tls.then(|| TlsAcceptor::from(Arc::new(config)));
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (shared, acceptor) = (Arc::clone(&serving), acceptor.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let shared = Arc::clone(&shared);
                        async move { Ok::<_, Infallible>(answer(&shared, peer, request).await) }
                    });
                    let builder =
                        hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // Connections end as their clients please.
                    let _ = match acceptor {
                        Some(acceptor) => {
                            let Ok(stream) = acceptor.accept(stream).await else { return };
                            builder.serve_connection(TokioIo::new(stream), service).await
                        }
                        None => builder.serve_connection(TokioIo::new(stream), service).await,
                    };
                });
            }
        });
        Self { addr, ca, tls, shared }
    }

    /// What arrived so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The next request to `/fed` is answered with what is sent here.
    pub(super) fn feed(&self) -> mpsc::Sender<Frame<Bytes>> {
        let (feed, fed) = mpsc::channel(1);
        self.shared.fed.lock().unwrap().push(fed);
        feed
    }

    /// Request trailers that arrived so far.
    pub(super) fn trailers(&self) -> HeaderMap {
        self.shared.trailers.lock().unwrap().clone()
    }

    /// Request body bytes that were read so far.
    pub(super) fn read(&self) -> u64 {
        *self.shared.read.lock().unwrap()
    }
}

async fn answer(shared: &Shared, peer: SocketAddr, request: Request<Incoming>) -> Response<Body> {
    let (parts, mut body) = request.into_parts();
    let keep = parts.uri.path() != "/count";
    let mut whole = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        match frame.into_data() {
            Ok(data) => {
                *shared.read.lock().unwrap() += data.len() as u64;
                if keep {
                    whole.extend_from_slice(&data);
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                shared.trailers.lock().unwrap().extend(trailers);
            }
        }
    }
    let target = parts.uri.path_and_query().map_or("*", |target| target.as_str());
    shared.seen.lock().unwrap().push(Seen {
        line: format!("{} {target}", parts.method),
        headers: parts.headers.clone(),
        body: whole.into(),
        peer,
    });
    let response = Response::builder().header("alt-svc", "h3=\":443\"");
    let full = |text: &str| Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed();
    match parts.uri.path() {
        "/json" => response
            .header("content-type", "application/json")
            .header("etag", "\"1\"")
            .body(full(JSON)),
        "/gzip" => response
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body(Full::new(gzip(JSON)).boxed()),
        "/odd" => response
            .header("content-type", "application/json")
            .header("content-encoding", "odd")
            .body(full("whatever")),
        "/not-json" => response.header("content-type", "application/json").body(full("{\"a\": ?}")),
        "/not-gzip" => response
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body(full(JSON)),
        "/cut-gzip" => response
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body(Full::new(gzip(JSON).slice(..20)).boxed()),
        "/wide" => response.body(Full::new(Bytes::from_static(b"\xFF\xFEa\0d\0a\0")).boxed()),
        "/events" | "/fed" | "/fed-json" => {
            let fed = shared.fed.lock().unwrap().pop().unwrap();
            let kind = match parts.uri.path() {
                "/events" => "text/event-stream",
                "/fed-json" => "application/json",
                _ => "application/octet-stream",
            };
            let stream = futures_util::stream::unfold(fed, async |mut fed| {
                fed.recv().await.map(|frame| (Ok::<_, Infallible>(frame), fed))
            });
            response.header("content-type", kind).body(StreamBody::new(stream).boxed())
        }
        "/trailers" => {
            let trailers =
                HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let frames = [Frame::data(Bytes::from_static(b"data")), Frame::trailers(trailers)];
            let stream = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
            response
                .header("content-type", "application/grpc")
                .header("trailer", "grpc-status")
                .body(StreamBody::new(stream).boxed())
        }
        "/empty" => response.status(204).body(full("")),
        "/not-empty" => response.status(204).body(full("ada@example.org")),
        "/reason" => {
            let reason = hyper::ext::ReasonPhrase::from_static(b"ada@example.org");
            response.extension(reason).body(full("ok"))
        }
        path if path.ends_with("/cookie") => {
            response.header("set-cookie", "session=of-the-upstream").body(full("ok"))
        }
        _ => response.body(full("ok")),
    }
    .unwrap()
}

/// A body with something to mask.
pub(super) const JSON: &str = r#"{"users":[{"name":"Ada","email":"ada@example.org"}]}"#;

fn gzip(text: &str) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

fn certificates(alpn: &[&[u8]]) -> (CertificateDer<'static>, rustls::ServerConfig) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["api.test".to_owned(), "*.api.test".to_owned(), "bytes.test".to_owned()];
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = rustls::ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    (ca.der().clone(), config)
}
