//! The resolver over real loopback sockets, with a fake capture and a real recorder.

use super::*;
use crate::capture::{Captured, fake::Fake};
use crate::config;
use crate::principal::{Principal, Process};
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as WireName, RecordType};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TARGETS: &str = r#"
[[target]]
name = "api"
names = ["api.example.com", "*.wild.example"]

[[target]]
name = "hidden"
names = ["hidden.example.com"]
"#;

const RULES: &str = r#"
@id("look-up")
permit (principal, action == Action::"dns.query", resource);
@id("no-hidden")
forbid (principal, action == Action::"dns.query", resource == Target::"hidden");
"#;

struct Rig {
    udp: SocketAddr,
    tcp: SocketAddr,
    inputs: Arc<DnsInputs>,
    capture: Arc<Capture>,
    recorder: Recorder,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

fn captured(agent: &str) -> Captured {
    Captured {
        principal: Principal {
            host: "h1".into(),
            agent: AgentName::parse(agent).unwrap(),
            task: None,
            cgroup: format!("/agents.slice/{agent}"),
            process: Process::default(),
        },
        orig: "192.0.2.53:53".parse().unwrap(),
        cookie: 1,
        call: None,
    }
}

async fn rig(limits: config::Limits) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let files = [
        ("targets.toml", TARGETS),
        ("rules.cedar", RULES),
        ("scopes.toml", ""),
        ("masks.toml", ""),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()));
    let bundle = Bundle::from_files(&files.into_iter().collect()).unwrap_or_else(|p| panic!("{p}"));
    let recorder = Recorder::open(&config::Transcript::default(), dir.path()).unwrap();
    let resolver = config::Resolver::default();
    let names = Names::new(resolver.synthetic_v4, resolver.synthetic_v6, limits.names_per_agent);
    let capture = Arc::new(Capture::Fake(Fake::default()));
    let (_, policy) = watch::channel(Arc::new(bundle));
    let inputs = Arc::new(DnsInputs::new(
        Arc::clone(&capture),
        policy,
        Arc::new(names),
        recorder.clone(),
        &limits,
        true,
        vec!["cgroup".to_owned()],
    ));
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (udp_addr, tcp_addr) = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
    let sockets = Sockets { udp: vec![udp], tcp: vec![tcp] };
    let stop = CancellationToken::new();
    let served = tokio::spawn(serve(sockets, Arc::clone(&inputs), stop.clone()));
    Rig { udp: udp_addr, tcp: tcp_addr, inputs, capture, recorder, stop, served, _dir: dir }
}

impl Rig {
    fn fake(&self) -> &Fake {
        let Capture::Fake(fake) = &*self.capture else { unreachable!() };
        fake
    }

    /// A client socket of an agent.
    async fn client(&self, agent: &str) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        self.fake().add_udp(socket.local_addr().unwrap(), captured(agent));
        socket.connect(self.udp).await.unwrap();
        socket
    }

    async fn tcp_client(&self, agent: &str) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        self.fake().add_tcp(socket.local_addr().unwrap(), captured(agent));
        socket.connect(self.tcp).await.unwrap()
    }

    fn counts(&self, name: &str) -> u64 {
        let rows = self.inputs.counters.rows();
        rows.iter().find(|(row, _)| *row == name).unwrap().1
    }

    async fn end(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(5), self.served).await.unwrap().unwrap();
        assert_eq!(self.recorder.stats().open_flows, 0);
        self.recorder.shutdown().await;
    }
}

fn query(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::new();
    message
        .set_id(7)
        .set_recursion_desired(true)
        .add_query(Query::query(WireName::from_ascii(name).unwrap(), record_type))
        .set_edns(Edns::new());
    message.to_vec().unwrap()
}

async fn receive(client: &UdpSocket) -> Message {
    let mut buffer = [0; 2_048];
    let length = timeout(Duration::from_secs(5), client.recv(&mut buffer))
        .await
        .expect("an answer")
        .unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn ask(client: &UdpSocket, name: &str, record_type: RecordType) -> Message {
    client.send(&query(name, record_type)).await.unwrap();
    receive(client).await
}

async fn ask_tcp(stream: &mut TcpStream, packet: &[u8]) -> Option<Message> {
    let framed = super::super::codec::frame(packet).unwrap();
    stream.write_all(&framed).await.unwrap();
    let length = stream.read_u16().await.ok()?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.unwrap();
    Some(Message::from_vec(&reply).unwrap())
}

fn explained(message: &Message) -> (u16, String) {
    let edns = message.extensions().as_ref().unwrap();
    let Some((_, EdnsOption::Unknown(15, data))) = edns.options().as_ref().first() else {
        panic!("no extended error");
    };
    let text = String::from_utf8(data[2..].to_vec()).unwrap();
    (u16::from_be_bytes([data[0], data[1]]), text)
}

#[tokio::test]
async fn known_names_get_synthetic_addresses_that_lead_back() {
    let rig = rig(config::Limits::default()).await;
    let client = rig.client("crawler").await;
    for (name, record_type) in [
        ("Api.Example.com.", RecordType::A),
        ("api.example.com.", RecordType::AAAA),
        ("x.wild.example.", RecordType::A),
        ("enforcer.internal.", RecordType::A),
    ] {
        let reply = ask(&client, name, record_type).await;
        assert_eq!(reply.response_code(), ResponseCode::NoError, "{name}");
        let [record] = reply.answers() else {
            panic!("{name}: not one answer");
        };
        assert!(record.ttl() <= 60);
        let agent = AgentName::parse("crawler").unwrap();
        let found = rig.inputs.names.lookup(&agent, record.data().ip_addr().unwrap());
        let expected = name.trim_end_matches('.').to_ascii_lowercase();
        assert_eq!(found, super::super::names::Lookup::Name(expected.parse().unwrap()));
    }
    let reply = ask(&client, "api.example.com.", RecordType::HTTPS).await;
    assert_eq!(reply.response_code(), ResponseCode::NoError);
    assert!(reply.answers().is_empty());
    assert_eq!(rig.counts("answered"), 5);
    // A start, four events and an end for each.
    assert_eq!(rig.recorder.stats().events, 5 * 6);
    rig.end().await;
}

#[tokio::test]
async fn the_rest_is_refused_with_the_reason() {
    let rig = rig(config::Limits::default()).await;
    let client = rig.client("crawler").await;
    for (name, record_type, code, says) in [
        ("evil.example.", RecordType::A, 15, "no target in policy"),
        ("data.evil.example.", RecordType::TXT, 15, "no target"),
        ("hidden.example.com.", RecordType::A, 18, "no-hidden"),
        ("api.example.com.", RecordType::ANY, 18, "type or class"),
        ("api.example.com.", RecordType::NULL, 18, "type or class"),
        ("127.1.", RecordType::A, 18, "address"),
    ] {
        let reply = ask(&client, name, record_type).await;
        assert_eq!(reply.response_code(), ResponseCode::Refused, "{name}");
        assert!(reply.answers().is_empty());
        let (found, text) = explained(&reply);
        assert_eq!(found, code, "{name}");
        assert!(text.contains(says), "{name}: {text}");
    }
    assert_eq!(rig.counts("refused"), 6);
    assert_eq!(rig.recorder.stats().events, 6 * 6);
    rig.end().await;
}

#[tokio::test]
async fn nobody_gets_nothing() {
    let rig = rig(config::Limits::default()).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.connect(rig.udp).await.unwrap();
    stranger.send(&query("api.example.com.", RecordType::A)).await.unwrap();
    let mut stream = TcpStream::connect(rig.tcp).await.unwrap();
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    // The datagram came first on its own socket: a known client's answer shows that it was seen.
    let client = rig.client("crawler").await;
    ask(&client, "api.example.com.", RecordType::A).await;
    assert!(stranger.try_recv(&mut [0; 512]).is_err());
    assert_eq!(rig.counts("unattributed"), 2);
    assert_eq!(rig.recorder.stats().events, 6);
    rig.end().await;
}

#[tokio::test]
async fn what_is_no_question_gets_a_format_error_or_nothing() {
    let rig = rig(config::Limits::default()).await;
    let client = rig.client("crawler").await;
    let mut answer_like = query("api.example.com.", RecordType::A);
    answer_like[2] |= 0x80;
    client.send(&answer_like).await.unwrap();
    client.send(&[1, 2, 3]).await.unwrap();
    client.send(&vec![0; 5_000]).await.unwrap();
    let reply = receive(&client).await;
    assert_eq!(reply.response_code(), ResponseCode::FormErr);
    let mut looped = query("api.example.com.", RecordType::A);
    looped[12..14].copy_from_slice(&[0xc0, 12]);
    client.send(&looped).await.unwrap();
    assert_eq!(receive(&client).await.response_code(), ResponseCode::FormErr);
    assert_eq!(ask(&client, "api.example.com.", RecordType::A).await.answers().len(), 1);
    assert_eq!(rig.counts("malformed"), 4);
    rig.end().await;
}

#[tokio::test]
async fn too_many_questions_fail_and_others_are_served() {
    let rig = rig(config::Limits { dns_per_second: 1, ..config::Limits::default() }).await;
    let client = rig.client("busy").await;
    let mut failed = 0;
    for _ in 0..20 {
        let reply = ask(&client, "api.example.com.", RecordType::A).await;
        if reply.response_code() == ResponseCode::ServFail {
            failed += 1;
            assert!(explained(&reply).1.contains("limits.dns_per_second"));
        }
    }
    assert!(failed >= 10, "{failed}");
    // Not one record for each.
    assert!(rig.recorder.stats().events < 20 * 6);
    let other = rig.client("calm").await;
    let reply = ask(&other, "api.example.com.", RecordType::A).await;
    assert_eq!(reply.response_code(), ResponseCode::NoError);
    rig.end().await;
}

#[tokio::test]
async fn tcp_answers_many_questions_in_one_flow() {
    let rig = rig(config::Limits::default()).await;
    let mut stream = rig.tcp_client("crawler").await;
    for name in ["api.example.com.", "a.wild.example.", "evil.example."] {
        let reply = ask_tcp(&mut stream, &query(name, RecordType::A)).await.unwrap();
        assert_eq!(reply.answers().is_empty(), name.starts_with("evil"));
    }
    drop(stream);
    rig.end().await;
}

#[tokio::test]
async fn tcp_closes_after_what_is_no_question() {
    let rig = rig(config::Limits::default()).await;
    let mut stream = rig.tcp_client("crawler").await;
    let reply = ask_tcp(&mut stream, &[0; 20]).await.unwrap();
    assert_eq!(reply.response_code(), ResponseCode::FormErr);
    assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    // A frame longer than is read: its refusal, and then no more.
    let mut stream = rig.tcp_client("crawler").await;
    let reply = ask_tcp(&mut stream, &vec![0; 6_000]).await;
    assert!(reply.is_none_or(|reply| reply.response_code() == ResponseCode::FormErr));
    rig.end().await;
}

#[tokio::test]
async fn one_agents_connections_are_bounded() {
    let rig = rig(config::Limits::default()).await;
    let mut open = Vec::new();
    for _ in 0..TCP_PER_AGENT {
        let mut stream = rig.tcp_client("busy").await;
        let packet = query("api.example.com.", RecordType::A);
        assert!(ask_tcp(&mut stream, &packet).await.is_some());
        open.push(stream);
    }
    let mut more = rig.tcp_client("busy").await;
    assert!(matches!(more.read(&mut [0]).await, Ok(0) | Err(_)));
    let mut other = rig.tcp_client("calm").await;
    let packet = query("api.example.com.", RecordType::A);
    assert!(ask_tcp(&mut other, &packet).await.is_some());
    assert_eq!(rig.counts("overload"), 1);
    // Stopping ends the idle connections, and their transcripts are whole.
    rig.end().await;
    drop(open);
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_answered() {
    let rig = rig(config::Limits::default()).await;
    let client = rig.client("crawler").await;
    rig.recorder.shutdown().await;
    let reply = ask(&client, "api.example.com.", RecordType::A).await;
    assert_eq!(reply.response_code(), ResponseCode::ServFail);
    assert!(reply.answers().is_empty());
    assert_eq!(rig.counts("unrecorded"), 1);
    rig.stop.cancel();
    rig.served.await.unwrap();
}
