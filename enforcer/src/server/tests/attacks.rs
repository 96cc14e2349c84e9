//! Clients that do everything but what they should.

use super::*;
use crate::server::listen::{HANDSHAKE, WITHOUT};
use bytes::{Buf as _, BufMut as _};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Where the attacks come from: another address than everybody else's.
const ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

async fn connect(harness: &Harness) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(ATTACKER, 0)).unwrap();
    socket.connect(harness.config.listen).await.unwrap()
}

/// A connection without a certificate.
async fn anonymous(harness: &Harness) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(harness.server().core().ca.certificate().clone()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = "127.0.0.1".try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connect(harness).await).await
}

/// Sends a message of another kind: its first field is a number where a text belongs, and its
/// second is longer than the message.
#[derive(Clone, Copy, Default)]
struct Nonsense;

impl Encoder for Nonsense {
    type Item = ();
    type Error = tonic::Status;

    fn encode(&mut self, (): (), to: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        to.put_slice(b"\x08\x07\x12\x7fshort");
        Ok(())
    }
}

impl Decoder for Nonsense {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}

impl Codec for Nonsense {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

/// Waits until the other side closed it, and says how long that took.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) -> Duration {
    let started = Instant::now();
    let mut buffer = [0; 1024];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {} };
    tokio::time::timeout(Duration::from_secs(30), end).await.expect("closed");
    started.elapsed()
}

async fn works(harness: &Harness, daemon: &mut ApprovalsClient<Channel>, path: &str) {
    let asked = tokio::time::timeout(Duration::from_secs(10), daemon.request(wire("h1", path)));
    asked.await.expect("in time").expect("answered");
    let joins = harness.join(Role::Daemon, "newcomer", &[]);
    drop(tokio::time::timeout(Duration::from_secs(10), joins).await.expect("joins"));
}

#[tokio::test]
async fn handshakes_that_do_not_go_on_hold_nobody_up_and_end() {
    let harness = Harness::start().await;
    let mut daemon = harness.daemon("h1").await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        let mut tcp = connect(&harness).await;
        // Some say nothing, some begin a record and go no further.
        if n % 2 == 0 {
            let _ = tcp.write_all(b"\x16\x03\x01\x02\x00\x01").await;
        }
        idle.push(tcp);
    }
    works(&harness, &mut daemon, "/1").await;
    let started = Instant::now();
    for tcp in idle {
        closed(tcp).await;
    }
    assert!(started.elapsed() < HANDSHAKE + Duration::from_secs(10));
    works(&harness, &mut daemon, "/2").await;
}

#[tokio::test]
async fn connections_without_a_certificate_are_few_and_short() {
    let harness = Harness::start_with("[limits]\nconnections = 80\n").await;
    let mut daemon = harness.daemon("h1").await;
    let mut idle = Vec::new();
    for _ in 0..120 {
        idle.extend(anonymous(&harness).await);
    }
    // Those beyond a quarter of the room were closed: a member has its place.
    let asked = daemon.request(wire("h1", "/1")).await;
    assert!(asked.is_ok(), "{asked:?}");
    for tls in idle {
        closed(tls).await;
    }
    // One that keeps talking ends too.
    let mut busy = anonymous(&harness).await.unwrap();
    busy.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        .await
        .unwrap();
    let (read, mut write) = tokio::io::split(busy);
    let pings = tokio::spawn(async move {
        while write.write_all(b"\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let lived = closed(read).await;
    assert!(lived < WITHOUT + Duration::from_secs(10), "{lived:?}");
    pings.abort();
    works(&harness, &mut daemon, "/2").await;
}

#[tokio::test]
async fn messages_that_are_none_are_refused_and_the_connection_goes_on() {
    let harness = Harness::start().await;
    let channel = harness.join(Role::Daemon, "h1", &[]).await;
    let mut daemon = ApprovalsClient::new(channel.clone());
    for path in ["Request", "Claim", "Cancel", "Get"] {
        let mut raw = tonic::client::Grpc::new(channel.clone());
        raw.ready().await.unwrap();
        let path = format!("/enforcer.v1.Approvals/{path}").parse().unwrap();
        let refused = raw.unary(tonic::Request::new(()), path, Nonsense).await.unwrap_err();
        assert!(matches!(refused.code(), Code::Internal | Code::InvalidArgument), "{refused}");
    }
    // Bytes that are no HTTP/2 at all, and headers without an end.
    let mut garbage = anonymous(&harness).await.unwrap();
    let _ = garbage.write_all(&[0xff; 4096]).await;
    closed(garbage).await;
    let mut endless = anonymous(&harness).await.unwrap();
    let mut frames =
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    frames.extend(b"\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82");
    let _ = endless.write_all(&frames).await;
    let more = [&b"\x00\x40\x00\x09\x00\x00\x00\x00\x01"[..], &[0x82; 0x4000]].concat();
    let flood = async {
        let mut sent = 0_usize;
        while endless.write_all(&more).await.is_ok() {
            sent += more.len();
        }
        sent
    };
    let sent = tokio::time::timeout(Duration::from_secs(20), flood).await.expect("cut");
    assert!(sent < 64 << 20, "{sent} bytes of headers were taken");
    works(&harness, &mut daemon, "/1").await;
}

#[tokio::test]
async fn without_a_certificate_no_large_message_is_even_read() {
    let harness = Harness::start().await;
    let ca = harness.server().core().ca.fingerprint();
    let channel = tls::pinned_channel(&harness.url(), ca).unwrap();
    let mut request = wire("h1", "/pay");
    // Larger than any message may be: who had it read would be told that instead.
    request.body = Bytes::from(vec![0; 8 << 20]);
    let refused = ApprovalsClient::new(channel).request(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
}
