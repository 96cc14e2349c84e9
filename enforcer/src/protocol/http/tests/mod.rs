//! The data path over real loopback sockets: a client whose flow is captured, the daemon's
//! accept loop, spine and recorder, people in a test's hands, and a real upstream.

mod bodies;
mod decisions;
mod limits;
mod masking;
mod operations;
mod smuggling;
mod upstream;

use crate::accept::{self, Accept};
use crate::approval::{Approvals, fake};
use crate::capture::{Capture, Captured, fake::Fake as FakeCapture};
use crate::config::Config;
use crate::decide::{Decider, Holds};
use crate::flow::Inputs;
use crate::forward::dial::Dialer;
use crate::metrics::Metrics;
use crate::policy::Bundle;
use crate::principal::{AgentName, Principal, Process};
use crate::protocol::dns::names::{Family, Name, Names};
use crate::protocol::http::Pool;
use crate::protocol::postgres::Databases;
use crate::record::read::{Filter, Transcripts};
use crate::record::{RecordError, Recorder};
use crate::tls::{ca::Ca, client::Upstreams, server::Interceptor};
use bytes::Bytes;
use enforcer_proto::v1::{self, event::Kind};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use upstream::Upstream;

/// The name of the upstream.
const NAME: &str = "api.test";
/// Nothing in a test may take longer.
const PATIENCE: Duration = Duration::from_secs(20);

const RULES: &str = r#"
@id("reads") permit (principal, action in Action::"read", resource == Target::"api")
  unless { context.path like "/secret/*" };
@id("uploads") permit (principal, action == Action::"http.put", resource == Target::"api");
@id("calls") permit (principal, action == Action::"grpc.call", resource == Target::"api");
@id("writes") @approval("people") permit (principal, action == Action::"http.post", resource == Target::"api");
@id("bytes") permit (principal, action == Action::"opaque.connect", resource == Target::"bytes");
"#;
const SCOPES: &str = "[[scope]]\nname = \"people\"\nquorum = 1\nrequest_ttl = \"10m\"\n\
                      grant_ttl = \"10m\"\nuses = 1\nreason = \"optional\"\n";

/// A daemon without a kernel half, and an upstream.
struct World {
    inputs: Arc<Inputs>,
    capture: Arc<Capture>,
    people: fake::Fake,
    policy: watch::Sender<Arc<Bundle>>,
    upstream: Upstream,
    proxy: SocketAddr,
    names: Arc<Names>,
    _dir: tempfile::TempDir,
}

/// What differs between worlds.
struct Plan {
    tls: bool,
    hold: &'static str,
    masks: &'static str,
    target: &'static str,
    alpn: &'static [&'static [u8]],
    tune: fn(&mut Config),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            tls: false,
            hold: "30s",
            masks: "",
            target: "",
            alpn: &[b"h2", b"http/1.1"],
            tune: |_| {},
        }
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Plan::default()).await
    }

    async fn with(plan: Plan) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::start(plan.tls, plan.alpn).await;
        let port = upstream.addr.port();
        let config = format!(
            "[host]\nname = \"host-a\"\ndata_dir = {:?}\n[[governed]]\ncgroup = \"/agents.slice\"\n\
             [resolver.hosts]\n\"{NAME}\" = [\"127.0.0.1\"]\n\"bytes.test\" = [\"127.0.0.2\"]\n\
             [policy]\ndir = \"/none\"\n",
            dir.path()
        );
        let mut config = Config::parse(&config, &(32768..=60999)).unwrap();
        (plan.tune)(&mut config);
        let config = Arc::new(config);
        let bundle = bundle(port, &plan, RULES);
        let (policy, policy_now) = watch::channel(Arc::new(bundle));
        let people = fake::Fake::new();
        let recorder = Recorder::open(&config.transcript, dir.path()).unwrap();
        let resolver = &config.resolver;
        let names = Arc::new(Names::new(resolver.synthetic_v4, resolver.synthetic_v6, 100));
        let mut roots = rustls::RootCertStore::empty();
        roots.add(upstream.ca.clone()).unwrap();
        let inputs = Arc::new(Inputs {
            decider: Decider::new(
                policy_now,
                Approvals::Fake(people.clone()),
                Holds::new(&config.limits),
            ),
            recorder,
            names: Arc::clone(&names),
            dialer: Dialer::new(&config).unwrap(),
            interceptor: Interceptor::new(Ca::load_or_create(&dir.path().join("ca")).unwrap())
                .unwrap(),
            upstreams: Upstreams::with_roots(roots).unwrap(),
            pool: Pool::default(),
            databases: Databases::default(),
            metrics: Metrics::default(),
            layers: vec!["cgroup".to_owned()],
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
            config,
        });
        let capture = Arc::new(Capture::Fake(FakeCapture::default()));
        let accept = Arc::new(Accept::new(Arc::clone(&capture), Arc::clone(&inputs)));
        let listener = accept::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let proxy = listener.local_addr().unwrap();
        tokio::spawn(accept.listen(listener));
        tokio::spawn(Arc::clone(&accept).record_turned_away());
        Self { inputs, capture, people, policy, upstream, proxy, names, _dir: dir }
    }

    /// Puts another set of rules in force.
    fn reload(&self, rules: &str) {
        let bundle = bundle(self.upstream.addr.port(), &Plan::default(), rules);
        self.policy.send_replace(Arc::new(bundle));
    }

    /// A captured connection of `agent` to a name's synthetic address.
    async fn connect_as(&self, agent: &str, name: &str, port: u16) -> TcpStream {
        let agent = AgentName::parse(agent).unwrap();
        let ip = self.names.assign(&agent, &Name::parse(name).unwrap(), Family::V4).unwrap();
        self.connect_to(agent, SocketAddr::new(ip, port)).await
    }

    /// A captured connection to an address.
    async fn connect_to(&self, agent: AgentName, orig: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let Capture::Fake(capture) = &*self.capture else { unreachable!() };
        let principal = Principal {
            host: "host-a".into(),
            agent,
            task: None,
            cgroup: "/agents.slice/a".into(),
            process: Process { pid: 7, uid: 1000, comm: "test".into(), ..Process::default() },
        };
        let captured = Captured { principal, orig, cookie: 1, call: None };
        capture.add_tcp(socket.local_addr().unwrap(), captured);
        let stream = socket.connect(self.proxy).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn connect(&self) -> TcpStream {
        self.connect_as("agent-a", NAME, self.upstream.addr.port()).await
    }

    /// An HTTP/1.1 client; over TLS when the upstream has it.
    async fn http1(&self) -> Client {
        let stream = self.connect().await;
        if !self.upstream.tls {
            return self.http1_over(TokioIo::new(stream)).await;
        }
        let stream = self.tls(stream, NAME, &[b"http/1.1"]).await.unwrap();
        self.http1_over(TokioIo::new(stream)).await
    }

    async fn http1_over<T>(&self, io: T) -> Client
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        Client {
            sender: Sender::Http1(sender),
            port: self.upstream.addr.port(),
            tls: self.upstream.tls,
        }
    }

    /// An HTTP/2 client; over TLS when the upstream has it.
    async fn http2(&self) -> Client {
        let stream = self.connect().await;
        let sender = if self.upstream.tls {
            let stream = self.tls(stream, NAME, &[b"h2"]).await.unwrap();
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        } else {
            let (sender, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        };
        Client {
            sender: Sender::Http2(sender),
            port: self.upstream.addr.port(),
            tls: self.upstream.tls,
        }
    }

    /// TLS to the proxy, trusting its CA.
    async fn tls(
        &self,
        stream: TcpStream,
        name: &str,
        alpn: &[&[u8]],
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.inputs.interceptor.ca().certificate().clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }

    /// Sends raw bytes over a captured connection and reads until it is closed.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        // A connection that is kept open has answered by then.
        let _ = tokio::time::timeout(Duration::from_millis(500), read).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Everything that was recorded, once every flow is sealed.
    async fn transcripts(&self) -> Vec<Vec<v1::Event>> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let flows = read_flows(&self.inputs.config.transcript_dir()).unwrap();
            let sealed = flows.iter().all(|flow| {
                matches!(flow.last().and_then(|event| event.kind.as_ref()), Some(Kind::FlowEnd(_)))
            });
            if sealed && !flows.is_empty() {
                return flows;
            }
            assert!(tokio::time::Instant::now() < deadline, "a flow was never sealed: {flows:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The events of all flows in order, by name.
    async fn story(&self) -> Vec<String> {
        self.transcripts()
            .await
            .concat()
            .into_iter()
            .filter_map(|event| event.kind)
            .map(word)
            .collect()
    }
}

fn read_flows(store: &std::path::Path) -> Result<Vec<Vec<v1::Event>>, RecordError> {
    let store = Transcripts::open(store)?;
    let mut ids = Vec::new();
    store.flows(&Filter::default(), |flow| {
        ids.push(flow.id);
        Ok(true)
    })?;
    ids.reverse();
    let mut flows = Vec::new();
    for id in ids {
        let mut events = Vec::new();
        store.events(id, |event| {
            events.push(event);
            Ok(true)
        })?;
        flows.push(events);
    }
    Ok(flows)
}

/// An event in a word or two.
fn word(kind: Kind) -> String {
    match kind {
        Kind::FlowStart(_) => "start".to_owned(),
        Kind::OperationAsked(asked) => format!("asked {}", asked.action),
        Kind::RequestBody(body) => format!("request-body {}", body.data.len()),
        Kind::Decision(decision) => {
            let verdict = if decision.verdict() == v1::Verdict::Allow { "allow" } else { "deny" };
            format!("{verdict} {}", decision.reason)
        }
        Kind::Forwarded(_) => "forwarded".to_owned(),
        Kind::ResponseHead(head) => format!("response {}", head.status),
        Kind::ResponseBody(body) => format!("response-body {}", body.data.len()),
        Kind::OperationEnd(end) => format!("end {}", end.outcome),
        Kind::FlowEnd(end) => format!("flow {}", end.outcome),
    }
}

fn bundle(port: u16, plan: &Plan, rules: &str) -> Bundle {
    bundle_with(port, plan, rules, SCOPES)
}

fn bundle_with(port: u16, plan: &Plan, rules: &str, scopes: &str) -> Bundle {
    let targets = format!(
        "[[target]]\nname = \"api\"\nnames = [\"{NAME}\", \"*.{NAME}\"]\naddresses = [\"127.0.0.1\"]\n\
         ports = [{port}]\nprotocol = \"grpc\"\nhold = \"{}\"\n{}\n\
         [[target]]\nname = \"bytes\"\nnames = [\"bytes.test\"]\naddresses = [\"127.0.0.2\"]\nports = [{port}]\n\
         protocol = \"opaque\"\ntls = \"passthrough\"\n",
        plan.hold, plan.target
    );
    let files = [
        ("targets.toml", targets.as_str()),
        ("rules.cedar", rules),
        ("scopes.toml", scopes),
        ("masks.toml", plan.masks),
    ];
    let files = files.into_iter().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    match Bundle::from_files(&files) {
        Ok(bundle) => bundle,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// An agent's HTTP client.
struct Client {
    sender: Sender,
    port: u16,
    tls: bool,
}

enum Sender {
    Http1(http1::SendRequest<Sent>),
    Http2(http2::SendRequest<Sent>),
}

type Sent = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

fn full(body: impl Into<Bytes>) -> Sent {
    Full::new(body.into()).boxed()
}

impl Client {
    fn authority(&self) -> String {
        format!("{NAME}:{}", self.port)
    }

    /// A request as this version of HTTP writes it.
    fn request(&self, method: &str, target: &str) -> http::request::Builder {
        let scheme = if self.tls { "https" } else { "http" };
        match self.sender {
            Sender::Http1(_) => {
                Request::builder().method(method).uri(target).header("host", self.authority())
            }
            Sender::Http2(_) => Request::builder()
                .method(method)
                .uri(format!("{scheme}://{}{target}", self.authority())),
        }
    }

    async fn send(&mut self, request: Request<Sent>) -> hyper::Result<Response<Incoming>> {
        let sent = async {
            match &mut self.sender {
                Sender::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Sender::Http2(sender) => sender.send_request(request).await,
            }
        };
        tokio::time::timeout(PATIENCE, sent).await.expect("an answer in time")
    }

    async fn get(&mut self, target: &str) -> Response<Incoming> {
        let request = self.request("GET", target).body(full("")).unwrap();
        self.send(request).await.unwrap()
    }

    async fn post(
        &mut self,
        target: &str,
        body: &'static str,
    ) -> hyper::Result<Response<Incoming>> {
        let request = self.request("POST", target).body(full(body)).unwrap();
        self.send(request).await
    }
}

async fn text(response: Response<Incoming>) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// A refusal's `enforcer` member.
async fn refusal(response: Response<Incoming>) -> serde_json::Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    problem["enforcer"].clone()
}
